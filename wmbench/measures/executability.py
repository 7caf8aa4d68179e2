"""Can an imagined path be executed, by the actions that it shows, in the true simulator?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.measures.geometry import CAP, Geometry, normalised
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result, json_list
from wmbench.statistics import bootstrap
from wmbench.statistics.clustered import proportion_interval

TOLERANCE = 0.5
"""NRMSE that a path may not exceed at any step to count as executed."""

SATURATION = 2.0
"""Where the error of a step stops counting; two independent draws lie about sqrt(2) apart."""

REPLAY = "replay of the actions read off the path by a frozen inverse model, NRMSE in sigma of the train split"
CEILING = "of the true path under the actions that were said, the ceiling"
GAP = "root mean square over steps and dimensions, in half widths of the action box"
MET = "that meet the task's success rule within the path"
DEFINITIONS = {
    "skill": Definition(
        "1",
        "higher",
        "1 - sum over paths of max(path-error - that of the true path, 0) over the same sum for a path that stands "
        f"still at its start; {REPLAY}",
    ),
    "executable": Definition("1", "higher", f"share of paths whose {REPLAY}, stays within {TOLERANCE:g} at every step"),
    "executable-true": Definition("1", "none", f"executable {CEILING}"),
    "path-error": Definition("1", "lower", f"mean over steps of min(NRMSE, {SATURATION:g}); {REPLAY}"),
    "path-error-true": Definition("1", "none", f"path-error {CEILING}"),
    "path-error-ratio": Definition("1", "lower", "path-error over path-error-true; 1 is as executable as the truth"),
    "cascade-gap": Definition("1", "lower", f"actions that were said against those that the path shows; {GAP}"),
    "cascade-gap-true": Definition("1", "none", f"cascade-gap {CEILING}"),
    "replay-success": Definition("1", "higher", f"share of replays {MET}"),
    "true-success": Definition("1", "none", f"share of true paths under the actions that were said {MET}"),
}


@dataclass(frozen=True)
class Paths:
    """Replays of one kind, against what they were to follow.

    Attributes:
        error: (N, K) NRMSE; :data:`CAP` where the replay had ended, or there was nothing to read an action off.
        gap: (N, K) mean square over dimensions of the difference between said and shown actions, in half widths.
        lost: (N,) bool, paths with numbers that are not finite.
    """

    error: np.ndarray
    gap: np.ndarray
    lost: np.ndarray


def executability(arrays: Arrays) -> list[Result]:
    """Score replays of imagined paths in the true simulator.

    From a true state a path of K observations is imagined under actions that are said: those that were recorded, or
    those that a policy or planner chose. A frozen inverse model reads actions off consecutive observations of the path,
    and the true simulator replays them from the same state. The error of a step is NRMSE between the replay and the
    path. The same is done with the true path under the said actions, which gives the ceiling: a perfect model has a
    skill and a ratio of exactly 1. The floor is a path on which nothing moves, read and replayed alike: its skill is 0.
    A path that is easier to follow than the true one gains nothing by that. The gap between said and shown actions
    tells whether the stages of a cascade agree. That a path can be executed does not make it the one that the said
    actions lead to: drift measures that. Steps after the true path's end are not scored. A replay that ends before, and
    a path that is not finite, count as worst from there on. Intervals resample episodes.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``dimension``, ``kind``, ``unit`` (O,), ``imagined``, ``replay``,
            ``truth``, ``truth_replay`` (M, N, K, O), ``said``, ``recovered``, ``truth_recovered`` (M, N, K, A),
            ``valid``, ``replay_valid``, ``truth_replay_valid``, ``replay_success``, ``truth_success`` (M, N, K) bool,
            ``observation`` (N, O), the starts, ``still_replay`` (N, K, O) and ``still_replay_valid`` (N, K) bool, the
            replay of standing still there, ``action_low``, ``action_high`` (A,), ``success_kind``, ``success_when``
            (), ``episode`` (N,), ``observation_std``, ``observation_low``, ``observation_high`` (O,).

    Returns:
        For each subject the numbers of :data:`DEFINITIONS`.
    """
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    keep = geometry.varies(arrays["observation_std"], arrays["observation_low"], arrays["observation_high"])
    masked = [name for name, kept in zip(geometry.names, keep, strict=True) if not kept]
    results: list[Result] = []
    for m, subject in enumerate(arrays["subject"]):
        common = {"role": str(arrays["role"][m]), "masked": masked}
        numbers = Numbers("executability", str(subject), DEFINITIONS, common)
        valid = arrays["valid"][m]
        n = int(valid.any(1).sum())
        if not n or not keep.any():
            why = "there are no valid steps" if keep.any() else "every dimension is constant in the train split"
            numbers.none(DEFINITIONS, why, n)
            results += numbers.results
            continue

        imagined = _paths(arrays, m, geometry, keep, ("imagined", "replay", "replay_valid", "recovered"))
        true = _paths(arrays, m, geometry, keep, ("truth", "truth_replay", "truth_replay_valid", "truth_recovered"))
        still = _error(
            arrays["observation"][:, None], arrays["still_replay"], geometry, keep, arrays["observation_std"]
        )
        still = np.where(arrays["still_replay_valid"], still, CAP)
        _score(numbers, imagined, true, still, valid, arrays["episode"])
        _success(numbers, arrays, m, valid, int(imagined.lost.sum()))
        results += numbers.results
    return results


def _paths(arrays: Arrays, m: int, geometry: Geometry, keep: np.ndarray, names: tuple[str, str, str, str]) -> Paths:
    """Errors of one subject's replays; the names are those of path, replay, replay's validity, and actions shown."""
    path, replay, going, shown = (arrays[name][m] for name in names)
    finite = np.isfinite(path).all(-1)
    return Paths(
        np.where(finite & going, _error(path, replay, geometry, keep, arrays["observation_std"]), CAP),
        _gap(arrays["said"][m], shown, arrays["action_low"], arrays["action_high"]),
        (~finite & arrays["valid"][m]).any(1),
    )


def _error(path: np.ndarray, replay: np.ndarray, geometry: Geometry, keep: np.ndarray, std: np.ndarray) -> np.ndarray:
    """NRMSE between replays and paths, (N, K)."""
    each = normalised(geometry.difference(replay, path)[..., keep], geometry.scale(std)[keep])  # (N, K, D)
    return np.sqrt((each**2).mean(-1))


def _gap(said: np.ndarray, shown: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Mean square over dimensions, in half widths: (N, K); an action that cannot be read lies at the far end."""
    said = said.astype(np.float64)
    apart = np.where(np.isfinite(shown), said - shown, np.maximum(said - low, high - said))
    return ((apart / ((high.astype(np.float64) - low) / 2)) ** 2).mean(-1)


def _score(
    numbers: Numbers, imagined: Paths, true: Paths, still: np.ndarray, valid: np.ndarray, episode: np.ndarray
) -> None:
    """Shares, errors and gaps of the imagined paths, and of the true ones."""
    used = valid.any(1)
    _, cluster = np.unique(episode[used], return_inverse=True)
    clusters = int(cluster.max()) + 1
    valid = valid[used]
    n = len(valid)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(cluster, values, minlength=clusters)

    ones, steps = np.ones((1, clusters)), summed(valid.sum(1))
    each, ceiling, floor = (  # (N,) each
        np.where(valid, np.minimum(error[used], SATURATION), 0.0).sum(1)
        for error in (imagined.error, true.error, still)
    )
    excess, most = (summed(np.maximum(error - ceiling, 0.0)) for error in (each, floor))
    lost = int(imagined.lost[used].sum())
    if most.sum() > 0:

        def skill(w: np.ndarray) -> np.ndarray:
            least = most.sum() / 1000 * w.sum(1) / clusters  # a resample without error must not divide by zero
            return 1.0 - (w @ excess) / np.maximum(w @ most, least)

        ends = bootstrap(skill, clusters, bounds=(-np.inf, 1.0))
        numbers.add("skill", float(skill(ones)[0]), ends, n, lost, n_episodes=clusters)
    else:
        numbers.none(["skill"], "standing still is followed as well as the true paths: there is no floor", n)
    errors: list[np.ndarray] = []
    for suffix, paths in (("", imagined), ("-true", true)):
        lost = int(paths.lost[used].sum())
        error = paths.error[used]
        details: dict[str, Any] = {"n_episodes": clusters}
        inside = _inside(error, valid, TOLERANCE)
        others = {f"{t:g}": float(_inside(error, valid, t).mean()) for t in (0.1, 0.25, 1.0)}
        interval = proportion_interval(summed(inside), summed(np.ones(n)))
        numbers.add(f"executable{suffix}", float(inside.mean()), interval, n, lost, **details, other_tolerances=others)
        errors.append(summed(ceiling if suffix else each))
        median = [np.median(error[valid[:, k], k]) if valid[:, k].any() else np.nan for k in range(valid.shape[1])]

        def mean(w: np.ndarray, e: np.ndarray = errors[-1]) -> np.ndarray:
            return (w @ e) / (w @ steps)

        ends = bootstrap(mean, clusters, bounds=(0.0, SATURATION))
        curve = json_list(np.array(median, dtype=np.float64))
        numbers.add(f"path-error{suffix}", float(mean(ones)[0]), ends, n, lost, **details, median_by_step=curve)
        squares = summed(np.where(valid, paths.gap[used], 0.0).sum(1))

        def gap(w: np.ndarray, s: np.ndarray = squares) -> np.ndarray:
            return np.sqrt((w @ s) / (w @ steps))

        ends = bootstrap(gap, clusters, bounds=(0.0, np.inf))
        numbers.add(f"cascade-gap{suffix}", float(gap(ones)[0]), ends, n, lost, **details)
    above, below = errors
    if not below.sum() > 0:
        numbers.none(["path-error-ratio"], "the replay of the true paths is exact: there is nothing to compare with", n)
        return

    def ratio(w: np.ndarray) -> np.ndarray:
        least = below.sum() / 1000 * w.sum(1) / clusters  # a resample without error must not divide by zero
        return (w @ above) / np.maximum(w @ below, least)

    ends = bootstrap(ratio, clusters, bounds=(0.0, np.inf))
    numbers.add("path-error-ratio", float(ratio(ones)[0]), ends, n, int(imagined.lost[used].sum()), n_episodes=clusters)


def _inside(error: np.ndarray, valid: np.ndarray, tolerance: float) -> np.ndarray:
    """(N,) bool, paths that stay within a tolerance for as long as they last."""
    return ((error <= tolerance) | ~valid).all(1)


def _success(numbers: Numbers, arrays: Arrays, m: int, valid: np.ndarray, lost: int) -> None:
    """How many replays and true paths succeed, where the task says so step by step."""
    used = valid.any(1)
    names = {"replay-success": arrays["replay_success"][m], "true-success": arrays["truth_success"][m]}
    if str(arrays["success_kind"]) == "return":
        numbers.none(names, "the task judges the return of a whole episode, not a path", int(used.sum()))
        return
    _, cluster = np.unique(arrays["episode"][used], return_inverse=True)
    last = valid.shape[1] - 1 - valid[:, ::-1].argmax(1)
    for name, success in names.items():
        at_end = success[np.arange(len(valid)), last]
        met = (at_end if str(arrays["success_when"]) == "end" else (success & valid).any(1))[used]
        hits, count = np.bincount(cluster, met), np.bincount(cluster)
        bad = lost if name == "replay-success" else 0
        numbers.add(name, float(met.mean()), proportion_interval(hits, count), len(met), bad, n_episodes=len(count))


MEASURE = Measure(
    name="executability",
    question="Do the actions that an imagined path shows lead along it in the true simulator?",
    unit="1",
    direction="higher",
    range=(None, 1.0),
    needs=(
        "subject",
        "role",
        "dimension",
        "kind",
        "unit",
        "observation",
        "still_replay",
        "still_replay_valid",
        "imagined",
        "replay",
        "truth",
        "truth_replay",
        "said",
        "recovered",
        "truth_recovered",
        "valid",
        "replay_valid",
        "truth_replay_valid",
        "replay_success",
        "truth_success",
        "action_low",
        "action_high",
        "success_kind",
        "success_when",
        "episode",
        "observation_std",
        "observation_low",
        "observation_high",
    ),
    source="Replay of recovered actions in the true simulator, relative to that of true paths; docs/measures.md",
    function=executability,
)
