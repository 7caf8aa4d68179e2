"""Does imagination tell why an episode will fail? Causes predicted in it against causes read off the true simulator."""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.errors import DatasetError
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result
from wmbench.measures.sums import Sums
from wmbench.statistics.clustered import proportion_interval

RULE = "it counts in episodes that failed; an invalid imagined one predicts every cause, all falsely"
ALL = f"over all causes together; {RULE}"
ONE = f"of one cause; {RULE}"

DEFINITIONS = {
    "precision": Definition("1", "higher", f"share of predicted causes that are true ones, {ALL}"),
    "recall": Definition("1", "higher", f"share of true causes that were predicted, {ALL}"),
    "f1": Definition("1", "higher", f"2 true and predicted / (true + predicted), {ALL}"),
    "exact": Definition(
        "1", "higher", "share of episodes whose predicted causes are the true ones, all and no others; invalid is wrong"
    ),
    "cause-precision": Definition("1", "higher", f"share of predictions that are true, {ONE}"),
    "cause-recall": Definition("1", "higher", f"share of occurrences that were predicted, {ONE}"),
}


def failures(arrays: Arrays) -> list[Result]:
    """Score causes of failure as seen in imagination.

    The same episodes are run in the true and in the learned simulator. A cause is a named predicate of an episode's
    recorded numbers, the same in both; it is one only if the episode failed. With T the true (episode, cause) pairs
    and P the predicted ones, precision is |P and T| / |P| and recall |P and T| / |T|. Our definition.

    An invalid imagined episode is wrong as can be: it misses every true cause, and counts as a false prediction of each
    of the C causes. So no number improves when an episode becomes invalid. What an invalid true episode failed of
    nobody knows: it is left out, for every predictor alike. Both are in ``n_invalid`` and, apart, in the details.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``cause`` (C,) str; per policy and start ``true`` (P, E, C) bool,
            ``true_failed`` and ``true_valid`` (P, E) bool, ``predicted`` (M, P, E, C) bool, ``predicted_failed`` and
            ``predicted_valid`` (M, P, E) bool; ``seed`` (E,) int, which starts are the same.

    Returns:
        For each subject ``precision``, ``recall``, ``f1``, ``exact``, and ``cause-precision:NAME`` and
        ``cause-recall:NAME`` for every cause; then the same of two trivial predictors: ``always`` (every cause in every
        episode) and ``elsewhere`` (the true causes of the next start).

    Raises:
        DatasetError: There are no episodes, no causes, or no valid true episode.
    """
    known = arrays["true_valid"]  # (P, E)
    true = arrays["true"] & arrays["true_failed"][..., None]  # (P, E, C)
    if not true.size:
        raise DatasetError("failures: there are no episodes, or no causes to look for")
    if not known.any():
        raise DatasetError("failures: no episode in the true simulator is valid")
    causes = [str(c) for c in arrays["cause"]]
    sums = Sums(np.tile(arrays["seed"], len(true))[known.ravel()])  # items are (policy, start), clusters are starts
    elsewhere = np.zeros_like(true)
    for row, theirs, valid in zip(elsewhere, true, known, strict=True):
        row[valid] = np.roll(theirs[valid], 1, axis=0)
    everywhere = np.ones_like(known)
    predictors = [
        (str(s), str(r), p & failed[..., None], valid)
        for s, r, p, failed, valid in zip(
            *(arrays[k] for k in ("subject", "role", "predicted", "predicted_failed", "predicted_valid")), strict=True
        )
    ]
    predictors += [("always", "baseline", np.ones_like(true), everywhere)]
    predictors += [("elsewhere", "baseline", elsewhere, everywhere)]
    results: list[Result] = []
    for subject, role, predicted, valid in predictors:
        invalid = {"invalid_imagined": int((known & ~valid).sum()), "invalid_true": int((~known).sum())}
        numbers = Numbers("failures", subject, DEFINITIONS, {"role": role, **invalid})
        results += _score(numbers, true[known], predicted[known], valid[known], causes, sums, known.size)
    return results


def _score(
    numbers: Numbers,
    truth: np.ndarray,
    predicted: np.ndarray,
    valid: np.ndarray,
    causes: list[str],
    sums: Sums,
    n: int,
) -> list[Result]:
    """Everything about one predictor, from (N, C) bool of the N of n episodes whose truth is known, (N,) imagined."""
    lost = n - int(valid.sum())
    guess = predicted | ~valid[:, None]
    both = truth & predicted & valid[:, None]
    counts = {
        c: {"true": int(truth[:, i].sum()), "predicted": int(guess[:, i].sum()), "both": int(both[:, i].sum())}
        for i, c in enumerate(causes)
    }
    never = {"precision": "no cause is ever predicted", "recall": "no episode failed of any of these causes"}
    for name, whole in (("precision", guess), ("recall", truth)):
        _share(numbers, name, both.sum(1), whole.sum(1), sums, n, lost, never[name], causes=counts)
    named = truth.sum(1) + guess.sum(1)
    _share(numbers, "f1", 2 * both.sum(1), named, sums, n, lost, "no cause occurs, and none is predicted")
    right = (truth == predicted).all(1) & valid
    _share(numbers, "exact", right, np.ones(len(right)), sums, n, lost, "")
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
        "true_valid",
        "predicted",
        "predicted_failed",
        "predicted_valid",
        "seed",
    ),
    source="our definition; docs/measures/failures.md",
    function=failures,
)
