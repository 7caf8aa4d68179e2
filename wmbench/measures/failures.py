"""Does imagination tell why an episode will fail? Causes predicted in it against causes read off the true simulator."""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.errors import DatasetError
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result
from wmbench.measures.sums import Sums
from wmbench.statistics.clustered import proportion_interval

ALL = "over all causes together; a cause counts in episodes that failed, and invalid imagined ones predict none"
ONE = "of one cause; it counts in episodes that failed, and invalid imagined ones predict none"

DEFINITIONS = {
    "precision": Definition("1", "higher", f"share of predicted causes that are true ones, {ALL}"),
    "recall": Definition("1", "higher", f"share of true causes that were predicted, {ALL}"),
    "f1": Definition("1", "higher", "2 true and predicted / (true + predicted), over all causes together"),
    "exact": Definition("1", "higher", "share of episodes whose predicted causes are the true ones, all and no others"),
    "cause-precision": Definition("1", "higher", f"share of predictions that are true, {ONE}"),
    "cause-recall": Definition("1", "higher", f"share of occurrences that were predicted, {ONE}"),
}


def failures(arrays: Arrays) -> list[Result]:
    """Score causes of failure as seen in imagination.

    The same episodes are run in the true and in the learned simulator. A cause is a named predicate of an episode's
    recorded numbers, the same in both; it is one only if the episode failed. With T the true (episode, cause) pairs
    and P the predicted ones, precision is |P and T| / |P| and recall |P and T| / |T|. Our definition.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``cause`` (C,) str; per policy and start ``true`` (P, E, C) bool,
            ``true_failed`` (P, E) bool, ``predicted`` (M, P, E, C) bool, ``predicted_failed`` (M, P, E) bool,
            ``predicted_valid`` (M, P, E) bool; ``seed`` (E,) int, which starts are the same.

    Returns:
        For each subject ``precision``, ``recall``, ``f1``, ``exact``, and ``cause-precision:NAME`` and
        ``cause-recall:NAME`` for every cause; then the same of two trivial predictors: ``always`` (every cause in every
        episode) and ``elsewhere`` (the true causes of the next start).

    Raises:
        DatasetError: There are no episodes or no causes.
    """
    true = arrays["true"] & arrays["true_failed"][..., None]  # (P, E, C)
    if not true.size:
        raise DatasetError("failures: there are no episodes, or no causes to look for")
    causes = [str(c) for c in arrays["cause"]]
    sums = Sums(np.tile(arrays["seed"], len(true)))  # items are (policy, start), clusters are starts
    results: list[Result] = []
    for m, subject in enumerate(str(s) for s in arrays["subject"]):
        valid = arrays["predicted_valid"][m]
        predicted = arrays["predicted"][m] & (arrays["predicted_failed"][m] & valid)[..., None]
        numbers = Numbers("failures", subject, DEFINITIONS, {"role": str(arrays["role"][m])})
        results += _score(numbers, true, predicted, causes, sums, int((~valid).sum()))
    for name, predicted in (("always", np.ones_like(true)), ("elsewhere", np.roll(true, 1, axis=1))):
        numbers = Numbers("failures", name, DEFINITIONS, {"role": "baseline"})
        results += _score(numbers, true, predicted, causes, sums, 0)
    return results


def _score(
    numbers: Numbers, true: np.ndarray, predicted: np.ndarray, causes: list[str], sums: Sums, lost: int
) -> list[Result]:
    """Everything about one predictor, from (P, E, C) bool."""
    truth, guess = (a.reshape(-1, a.shape[-1]) for a in (true, predicted))  # (P * E, C)
    both, n = truth & guess, len(truth)
    counts = {
        c: {"true": int(truth[:, i].sum()), "predicted": int(guess[:, i].sum()), "both": int(both[:, i].sum())}
        for i, c in enumerate(causes)
    }
    never = {"precision": "no cause is ever predicted", "recall": "no episode failed of any of these causes"}
    for name, whole in (("precision", guess), ("recall", truth)):
        _share(numbers, name, both.sum(1), whole.sum(1), sums, n, lost, never[name], causes=counts)
    named = truth.sum(1) + guess.sum(1)
    _share(numbers, "f1", 2 * both.sum(1), named, sums, n, lost, "no cause occurs, and none is predicted")
    _share(numbers, "exact", (truth == guess).all(1), np.ones(n), sums, n, lost, "")
    for i, cause in enumerate(causes):
        _share(
            numbers, f"cause-precision:{cause}", both[:, i], guess[:, i], sums, n, lost, "the cause is never predicted"
        )
        _share(numbers, f"cause-recall:{cause}", both[:, i], truth[:, i], sums, n, lost, "the cause never occurs")
    return numbers.results


def _share(
    numbers: Numbers,
    name: str,
    hits: np.ndarray,
    counts: np.ndarray,
    sums: Sums,
    n: int,
    lost: int,
    why_not: str,
    **details: Any,
) -> None:
    """A share of what there is, if there is anything."""
    total = int(counts.sum())
    if not total:
        numbers.add(name, None, None, n, lost, reason=why_not, **details)
        return
    interval = proportion_interval(sums(hits), sums(counts))
    numbers.add(name, float(hits.sum() / total), interval, n, lost, counted=total, **details)


MEASURE = Measure(
    name="failures",
    question="Does the model tell why an episode will fail: which causes it sees, and which are missed?",
    unit="1",
    direction="higher",
    range=(0.0, 1.0),
    needs=(
        "subject",
        "role",
        "cause",
        "true",
        "true_failed",
        "predicted",
        "predicted_failed",
        "predicted_valid",
        "seed",
    ),
    source="our definition; docs/measures/failures.md",
    function=failures,
)
