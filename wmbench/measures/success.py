"""How often is the task solved, and at what return? Every listed episode counts, invalid ones as failures."""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.measures.result import Arrays, Direction, Measure, Result
from wmbench.statistics import bootstrap_interval, clopper_pearson, wilson


def success(arrays: Arrays) -> list[Result]:
    """Success rates with Wilson intervals, return and length with bootstrap intervals.

    Every episode of the list has exactly one outcome. An invalid one (a policy or simulator that failed, a
    prediction that was not finite) is a failure, and its missing steps earn the lowest reward that the task can
    give; where the card states none, its return is at most the lowest valid one.

    Args:
        arrays: Per episode ``subject`` (E,) str, ``seed`` (E,) int, ``once`` (E,) bool, ``at_end`` (E,) bool,
            ``valid`` (E,) bool, ``fault`` (E,) str, ``returns`` (E,) float64, ``length`` (E,) int; and of the task
            ``when`` () str, ``reward_low`` () float64 (NaN if unbounded), ``horizon`` () int.

    Returns:
        For each subject ``success`` (as the card says), ``success-once``, ``success-at-end``, ``return``, ``length``.
    """
    when = str(arrays["when"])
    results: list[Result] = []
    for subject in dict.fromkeys(str(s) for s in arrays["subject"]):
        rows = arrays["subject"] == subject
        own = {name: arrays[name][rows] for name in ("seed", "once", "at_end", "valid", "fault", "returns", "length")}
        valid, n = own["valid"], int(rows.sum())
        n_invalid = int((~valid).sum())
        invalid = [
            {"seed": int(s), "why": str(w)} for s, w in zip(own["seed"][~valid], own["fault"][~valid], strict=True)
        ]
        names = {
            "success": ("once" if when == "once" else "at_end", f"as the card says: {when}"),
            "success-once": ("once", "at any step"),
            "success-at-end": ("at_end", "at the last step"),
        }
        for name, (key, words) in names.items():
            count = int((own[key] & valid).sum())
            low, high = wilson(count, n)
            exact = clopper_pearson(count, n)
            details: dict[str, Any] = {"successes": count, "clopper_pearson": list(exact), "invalid": invalid}
            variant = f"{words}, Wilson interval, invalid episodes fail"
            results.append(
                Result(
                    "success", name, subject, count / n, low, high, n, n_invalid, "1", "higher", variant, None, details
                )
            )
        returns, variant = worst_returns(arrays, rows), _variant(arrays, own["valid"])
        results.append(_mean(subject, "return", returns, n_invalid, "reward", "higher", variant, invalid))
        lengths, words = own["length"].astype(np.float64), "mean, bootstrap over episodes"
        results.append(_mean(subject, "length", lengths, n_invalid, "steps", "none", words, invalid))
    return results


def _mean(
    subject: str,
    name: str,
    values: np.ndarray,
    n_invalid: int,
    unit: str,
    direction: Direction,
    variant: str,
    invalid: list[dict[str, Any]],
) -> Result:
    """The mean of one number per episode."""
    fine = bool(np.isfinite(values).all())
    interval = bootstrap_interval(values) if fine else None
    low, high = interval or (None, None)
    return Result(
        "success",
        name,
        subject,
        float(values.mean()) if fine else None,
        low,
        high,
        len(values),
        n_invalid,
        unit,
        direction,
        variant,
        None if fine else "no valid episode shows what the worst return would be",
        {"median": float(np.median(values)) if fine else None, "invalid": invalid},
    )


def worst_returns(arrays: Arrays, rows: np.ndarray) -> np.ndarray:
    """Returns with those of invalid episodes replaced by the worst admissible.

    Args:
        arrays: As :func:`success` takes them.
        rows: (n,) indices or (E,) bool, the episodes of one subject.

    Returns:
        (n,) float64; NaN for invalid episodes if there is neither a bound nor a valid episode.
    """
    returns, valid = arrays["returns"][rows].astype(np.float64), arrays["valid"][rows]
    low = float(arrays["reward_low"])
    if np.isfinite(low):
        missing = int(arrays["horizon"]) - arrays["length"][rows]
        return returns + np.where(valid, 0, missing) * low
    worst = np.fmin(returns, returns[valid].min()) if valid.any() else np.full(len(valid), np.nan)
    return np.where(valid, returns, worst)


def _variant(arrays: Arrays, valid: np.ndarray) -> str:
    """How invalid episodes were treated, in words."""
    low, words = float(arrays["reward_low"]), "mean undiscounted return, bootstrap over episodes"
    if valid.all():
        return words
    if np.isfinite(low):
        return f"{words}, missing steps of invalid ones earn {low:g}"
    return f"{words}, invalid ones at most the lowest valid return"


MEASURE = Measure(
    name="success",
    question="How often does the policy solve the task in this simulator, and at what return?",
    unit="1",
    direction="higher",
    range=(0.0, 1.0),
    needs=(
        "subject",
        "seed",
        "once",
        "at_end",
        "valid",
        "fault",
        "returns",
        "length",
        "when",
        "reward_low",
        "horizon",
    ),
    source="Wilson 1927 score interval, https://doi.org/10.1080/01621459.1927.10502953; docs/measures.md",
    function=success,
)
