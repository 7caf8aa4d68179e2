"""Which of two policies (or simulators) does better on the same starts, and could one have known earlier?"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from wmbench.measures.result import Arrays, Direction, Measure, Result
from wmbench.measures.success import MEASURE as SUCCESS
from wmbench.measures.success import worst_returns
from wmbench.statistics import bootstrap_interval, compare_sequentially, holm, mcnemar, paired_difference
from wmbench.statistics.permutation import sign_flip_p
from wmbench.statistics.sequential import mean_sequence


def comparison(arrays: Arrays) -> list[Result]:
    """Compare every two subjects of an evaluation on the starts that both faced.

    Starts are paired by their seed. An invalid episode is a failure with the worst admissible return, as in the
    success measure.

    Args:
        arrays: As :func:`wmbench.measures.success.success` takes them, of two subjects or more.

    Returns:
        For each pair, with subject ``"first - second"``: ``success-difference`` (Bonett and Price; McNemar's exact p,
        Holm's adjustment over all pairs, the sequential verdict and an interval that holds at any stopping time in
        the details) and ``return-difference`` (bootstrap over pairs; share of pairs won and the p of flipping signs
        in the details).
    """
    subjects = list(dict.fromkeys(str(s) for s in arrays["subject"]))
    found = [_pair(arrays, first, second) for first, second in combinations(subjects, 2)]
    p = [details["mcnemar_p"] for _, details in found]
    for (_, details), adjusted in zip(found, holm([1.0 if q is None else q for q in p]), strict=True):
        details["holm_p"] = None if details["mcnemar_p"] is None else adjusted
    return [result for results, _ in found for result in results]


def _pair(arrays: Arrays, first: str, second: str) -> tuple[list[Result], dict[str, Any]]:
    """Results of one pair, and the details that are still to be adjusted for the number of pairs."""
    rows = [np.flatnonzero(arrays["subject"] == s) for s in (first, second)]
    seeds = [arrays["seed"][r] for r in rows]
    for name, own in zip((first, second), seeds, strict=True):
        if len(np.unique(own)) != len(own):
            raise ValueError(f"{name!r} faced a start twice, so its episodes cannot be paired by their seeds")
    shared, left, right = np.intersect1d(seeds[0], seeds[1], return_indices=True)
    # in the order in which the first faced them: what a sequential test looks at
    order = np.argsort(left)
    rows = [rows[0][left[order]], rows[1][right[order]]]
    key = "once" if str(arrays["when"]) == "once" else "at_end"
    solved = [arrays[key][r] & arrays["valid"][r] for r in rows]
    returns = [worst_returns(arrays, np.flatnonzero(arrays["subject"] == s)) for s in (first, second)]
    n = len(shared)
    details: dict[str, Any] = {"first": first, "second": second, "mcnemar_p": None}
    n_invalid = int((~arrays["valid"][rows[0]] | ~arrays["valid"][rows[1]]).sum())
    common = (n, n_invalid)
    if not n:
        why = "they share no start"
        results = [
            _result(first, second, "success-difference", None, None, *common, "1", "", why, details),
            _result(first, second, "return-difference", None, None, *common, "reward", "", why, {}),
        ]
        return results, details
    verdict = compare_sequentially(solved[0], solved[1])
    names = {"first": first, "second": second, None: None}
    details |= {
        "mcnemar_p": mcnemar(solved[0], solved[1]),
        "only_first": int((solved[0] & ~solved[1]).sum()),
        "only_second": int((solved[1] & ~solved[0]).sum()),
        "sequential": {
            "better": names[verdict.better],
            "decided_at": verdict.decided_at,
            "interval": list(mean_sequence(solved[0].astype(float) - solved[1], -1.0, 1.0)),
        },
    }
    rate = float(solved[0].mean() - solved[1].mean())
    gap = returns[0][left[order]] - returns[1][right[order]]
    fine = bool(np.isfinite(gap).all())
    p, floor = sign_flip_p(gap) if fine else (None, None)
    won = float((gap > 0).mean() + 0.5 * (gap == 0).mean()) if fine else None
    words = "difference of success rates on shared starts, Bonett and Price 2012"
    results = [
        _result(
            first,
            second,
            "success-difference",
            rate,
            paired_difference(solved[0], solved[1]),
            *common,
            "1",
            words,
            None,
            details,
        ),
        _result(
            first,
            second,
            "return-difference",
            float(gap.mean()) if fine else None,
            bootstrap_interval(gap) if fine else None,
            *common,
            "reward",
            "mean difference of returns on shared starts, bootstrap over pairs",
            None if fine else "no valid episode shows what the worst return would be",
            {"first": first, "second": second, "share_of_pairs_won": won, "sign_flip_p": p, "sign_flip_floor": floor},
        ),
    ]
    return results, details


def _result(
    first: str,
    second: str,
    name: str,
    value: float | None,
    interval: tuple[float, float] | None,
    n: int,
    n_invalid: int,
    unit: str,
    variant: str,
    reason: str | None,
    details: dict[str, Any],
) -> Result:
    low, high = interval or (None, None)
    direction: Direction = "higher"
    subject = f"{first} - {second}"
    return Result(
        "comparison", name, subject, value, low, high, n, n_invalid, unit, direction, variant, reason, details
    )


MEASURE = Measure(
    name="comparison",
    question="Which of two does better on the same starts, and by how much?",
    unit="1",
    direction="higher",
    range=(-1.0, 1.0),
    needs=SUCCESS.needs,
    source="McNemar 1947; Bonett and Price 2012; e-values after Robbins 1970 and Ville 1939; docs/measures.md",
    function=comparison,
    recording="success",
)
