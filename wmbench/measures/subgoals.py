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

NEAR = "NRMSE in standard deviations of the train split at most the tolerance, at some step up to the limit"

DEFINITIONS = {
    "reach-rate": Definition("1", "higher", f"the true simulator gets there under the proposer's own actions: {NEAR}"),
    "oracle-reach-rate": Definition("1", "higher", f"it gets there under any of the candidate sequences: {NEAR}"),
    "missed-rate": Definition("1", "lower", "another candidate sequence gets there, and the proposer's own does not"),
    "progress": Definition(
        "1",
        "higher",
        "true return of own actions up to the subgoal over the candidates' mean, 0 where it is not reached, over what "
        "the best candidates earn above that mean",
    ),
    "distance": Definition(
        "1", "lower", f"least NRMSE under own actions, at most {FARTHEST:g}, mean over starts, in train deviations"
    ),
}


def subgoals(arrays: Arrays) -> list[Result]:
    """Score proposed subgoals by exact branches of the true simulator.

    A proposer picks one of B candidate action sequences and says what will be observed after its first k steps. That
    is the subgoal g. The true simulator is branched under all B sequences for H steps. With d the NRMSE over the
    dimensions that vary, in standard deviations of the train split, g is reached where d(s_h, g) <= tolerance at a
    step h of 1 to H.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``subgoal`` (M, N, O), ``chosen`` (M, N) int, which sequence; ``truth``
            (N, B, H, O), ``reward`` (N, B, H), ``valid`` (N, B, H) bool; ``steps`` () int, k; ``tolerance`` ();
            ``episode`` (N,); ``dimension``, ``kind``, ``unit`` (O,), ``observation_std``, ``observation_low``,
            ``observation_high`` (O,) of the train split.

    Returns:
        For each subject ``reach-rate``, ``oracle-reach-rate``, ``missed-rate``, ``progress`` and ``distance``.

    Raises:
        DatasetError: There are no starts.
    """
    if not len(arrays["episode"]):
        raise DatasetError("subgoals: there are no starts")
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    keep = geometry.varies(arrays["observation_std"], arrays["observation_low"], arrays["observation_high"])
    tolerance, sums = float(arrays["tolerance"]), Sums(arrays["episode"])
    n, _, limit = arrays["valid"].shape
    common = {"tolerance": tolerance, "within": limit, "steps": int(arrays["steps"]), "n_episodes": sums.clusters}
    results: list[Result] = []
    for m, subject in enumerate(str(s) for s in arrays["subject"]):
        numbers = Numbers("subgoals", subject, DEFINITIONS, {"role": str(arrays["role"][m]), **common})
        if not keep.any():
            numbers.none(DEFINITIONS, "every dimension is constant in the train split", n)
            results += numbers.results
            continue
        goal, rows = arrays["subgoal"][m], np.arange(n)
        lost = ~np.isfinite(goal).all(1)
        apart = geometry.difference(arrays["truth"], goal[:, None, None])[..., keep]
        away = np.sqrt((normalised(apart, geometry.scale(arrays["observation_std"])[keep]) ** 2).mean(-1))  # (N, B, H)
        away = np.where(arrays["valid"] & ~lost[:, None, None], away, CAP)
        own, best = away[rows, arrays["chosen"][m]], away.min((1, 2))
        reached, possible = own.min(1) <= tolerance, best <= tolerance
        curve = {"tolerance": list(CURVE)}
        curve |= {k: [float((v <= e).mean()) for e in CURVE] for k, v in (("own", own.min(1)), ("any", best))}
        first = (own <= tolerance).argmax(1)[reached] + 1
        soon = float(first.mean()) if len(first) else None
        for name, hits, more in (
            ("reach-rate", reached, {"curve": curve, "mean_steps": soon}),
            ("oracle-reach-rate", possible, {"curve": curve}),
            ("missed-rate", possible & ~reached, {}),
        ):
            interval = proportion_interval(sums(hits), sums(np.ones(n)))
            numbers.add(name, float(hits.mean()), interval, n, int(lost.sum()), **more)
        _progress(numbers, arrays, m, reached, sums, int(lost.sum()))
        value, interval = sums.ratio(np.minimum(own.min(1), FARTHEST), np.ones(n), (0.0, FARTHEST))
        numbers.add("distance", value, interval, n, int(lost.sum()))
        results += numbers.results
    return results


def _progress(numbers: Numbers, arrays: Arrays, m: int, reached: np.ndarray, sums: Sums, lost: int) -> None:
    """What reached subgoals are worth, as a share of what the best candidates are."""
    steps = int(arrays["steps"])
    gain = np.where(arrays["valid"], arrays["reward"], 0.0)[:, :, :steps].sum(2)  # (N, B)
    lead = gain - gain.mean(1, keepdims=True)
    n, best = len(gain), lead.max(1)
    own = np.where(reached, lead[np.arange(n), arrays["chosen"][m]], 0.0)
    if not best.sum() > 0:
        numbers.none(("progress",), "all candidates earn the same", n)
        return
    value, interval = sums.ratio(own, best, (-np.inf, 1.0))
    numbers.add("progress", value, interval, n, lost, reward=float(own.mean()), best=float(best.mean()))


MEASURE = Measure(
    name="subgoals",
    question="Are the subgoals that the model proposes reachable in the true simulator, and worth reaching?",
    unit="1",
    direction="higher",
    range=(0.0, 1.0),
    needs=(
        "subject",
        "role",
        "subgoal",
        "chosen",
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
