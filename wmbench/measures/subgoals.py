"""Can what a model proposes as a subgoal be reached, and is it worth reaching? Own actions, and any of the others."""

from __future__ import annotations

import numpy as np

from wmbench.errors import DatasetError
from wmbench.measures.geometry import CAP, Geometry, normalised
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result
from wmbench.measures.sums import Sums
from wmbench.statistics.clustered import proportion_interval

CURVE = (0.1, 0.25, 0.5, 1.0)
"""Distances at which the rates are given in the details, beside the declared one."""

FARTHEST = 2.0
"""Distances are cut here in their mean; two unrelated observations are some 1.4 apart."""

LEFT = 0.5
"""Largest share of the way from the start to a subgoal that may be left for it to count as reached."""

NEAR = (
    "NRMSE in standard deviations of the train split at most the tolerance, and at most "
    f"{LEFT:g} of that between start and subgoal, at a step from k (or the episode's last, if earlier) up to the limit"
)

DEFINITIONS = {
    "progress": Definition(
        "1",
        "higher",
        "true return of own actions over k steps less the candidates' mean, at most 0 where the subgoal is not reached "
        "and that of the worst candidate where it is not finite, over what the best candidates earn above that mean",
    ),
    "reach-rate": Definition("1", "higher", f"the true simulator gets there under the proposer's own actions: {NEAR}"),
    "oracle-reach-rate": Definition("1", "higher", f"it gets there under any of the candidate sequences: {NEAR}"),
    "missed-rate": Definition("1", "lower", "another candidate sequence gets there, and the proposer's own does not"),
    "idle-rate": Definition(
        "1", "none", "share of subgoals within the tolerance of the start; half the way must be gone"
    ),
    "distance": Definition(
        "1",
        "lower",
        f"least NRMSE under own actions from step k on, at most {FARTHEST:g}, mean over starts, in train deviations",
    ),
}


def subgoals(arrays: Arrays) -> list[Result]:
    """Score proposed subgoals by exact branches of the true simulator.

    A proposer picks one of B candidate action sequences and says what will be observed after its first k steps. That
    is the subgoal g. The true simulator is branched under all B sequences for H steps. With d the NRMSE over the
    dimensions that vary, in standard deviations of the train split, g is reached where d(s_h, g) <= tolerance and
    d(s_h, g) <= d(s_0, g) / 2 at a step h of k to H, or at a branch's last step if its episode ends before k. So a
    subgoal that only repeats the start, or lies on the way, is none: standing still reaches it only where standing
    still is all that happens.

    Progress asks for both, a good choice and a subgoal that is reached: a choice counts for no more than a random one
    where the subgoal is not reached, and for the worst of all candidates where the subgoal is not finite.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``subgoal`` (M, N, O), ``chosen`` (M, N) int, which sequence; ``start``
            (N, O), ``truth`` (N, B, H, O), ``reward`` (N, B, H), ``valid`` (N, B, H) bool; ``steps`` () int, k;
            ``tolerance`` (); ``episode`` (N,); ``dimension``, ``kind``, ``unit`` (O,), ``observation_std``,
            ``observation_low``, ``observation_high`` (O,) of the train split.

    Returns:
        For each subject the numbers of :data:`DEFINITIONS`.

    Raises:
        DatasetError: There are no starts.
    """
    if not len(arrays["episode"]):
        raise DatasetError("subgoals: there are no starts")
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    keep = geometry.varies(arrays["observation_std"], arrays["observation_low"], arrays["observation_high"])
    tolerance, sums = float(arrays["tolerance"]), Sums(arrays["episode"])
    n, _, limit = arrays["valid"].shape
    scale, steps, rows = geometry.scale(arrays["observation_std"])[keep], int(arrays["steps"]), np.arange(n)
    last = np.minimum(arrays["valid"].sum(2), steps)  # (N, B), the step from which on a branch may be there
    counts = arrays["valid"] & (np.arange(1, limit + 1) >= last[..., None])
    common = {"tolerance": tolerance, "within": limit, "steps": steps, "n_episodes": sums.clusters}

    def nrmse(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt((normalised(geometry.difference(a, b)[..., keep], scale) ** 2).mean(-1))

    results: list[Result] = []
    for m, subject in enumerate(str(s) for s in arrays["subject"]):
        numbers = Numbers("subgoals", subject, DEFINITIONS, {"role": str(arrays["role"][m]), **common})
        if not keep.any():
            numbers.none(DEFINITIONS, "every dimension is constant in the train split", n)
            results += numbers.results
            continue
        goal = arrays["subgoal"][m]
        lost = ~np.isfinite(goal).all(1)
        away = np.where(counts & ~lost[:, None, None], nrmse(arrays["truth"], goal[:, None, None]), CAP)  # (N, B, H)
        way = nrmse(arrays["start"], goal)
        near = np.where(away <= LEFT * way[:, None, None], away, CAP)
        own, anyone = near[rows, arrays["chosen"][m]], near.min((1, 2))
        reached, possible = own.min(1) <= tolerance, anyone <= tolerance
        curve = {"tolerance": list(CURVE)}
        curve |= {k: [float((v <= e).mean()) for e in CURVE] for k, v in (("own", own.min(1)), ("any", anyone))}
        first = (own <= tolerance).argmax(1)[reached] + 1
        soon = float(first.mean()) if len(first) else None
        _progress(numbers, arrays, m, reached, lost, sums)
        for name, hits, more in (
            ("reach-rate", reached, {"curve": curve, "mean_steps": soon}),
            ("oracle-reach-rate", possible, {"curve": curve}),
            ("missed-rate", possible & ~reached, {}),
            ("idle-rate", way <= tolerance, {}),
        ):
            interval = proportion_interval(sums(hits), sums(np.ones(n)))
            numbers.add(name, float(hits.mean()), interval, n, int(lost.sum()), **more)
        least = np.minimum(away[rows, arrays["chosen"][m]].min(1), FARTHEST)
        value, interval = sums.ratio(least, np.ones(n), (0.0, FARTHEST))
        numbers.add("distance", value, interval, n, int(lost.sum()))
        results += numbers.results
    return results


def _progress(numbers: Numbers, arrays: Arrays, m: int, reached: np.ndarray, lost: np.ndarray, sums: Sums) -> None:
    """What subgoals are worth, as a share of what the best candidates are."""
    steps = int(arrays["steps"])
    gain = np.where(arrays["valid"], arrays["reward"], 0.0)[:, :, :steps].sum(2)  # (N, B)
    lead = gain - gain.mean(1, keepdims=True)
    n, best = len(gain), lead.max(1)
    own = lead[np.arange(n), arrays["chosen"][m]]
    own = np.where(lost, lead.min(1), np.where(reached, own, np.minimum(own, 0.0)))
    if not best.sum() > 0:
        numbers.none(("progress",), "all candidates earn the same", n)
        return
    value, interval = sums.ratio(own, best, (-np.inf, 1.0))
    invalid = int(lost.sum())
    numbers.add("progress", value, interval, n, invalid, reward=float(own.mean()), best=float(best.mean()))


MEASURE = Measure(
    name="subgoals",
    question="Are the subgoals that the model proposes reachable in the true simulator, and worth reaching?",
    unit="1",
    direction="higher",
    range=(None, 1.0),
    needs=(
        "subject",
        "role",
        "subgoal",
        "chosen",
        "start",
        "truth",
        "reward",
        "valid",
        "steps",
        "tolerance",
        "episode",
        "dimension",
        "kind",
        "unit",
        "observation_std",
        "observation_low",
        "observation_high",
    ),
    source="our definition; docs/measures/subgoals.md",
    function=subgoals,
)
