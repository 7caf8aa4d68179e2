"""What does a call cost? Quantiles under a sample-size rule, first calls apart, throughput by batch size."""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.measures.result import Arrays, Measure, Result
from wmbench.statistics import bootstrap, needed_for_quantile, quantile_interval

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
TOLERATED = 10
"""How many calls may lie above a quantile for it to be printed; at p99.9 one."""


def samples_needed(name: str) -> int:
    """How many calls a quantile needs before it is printed, for example 2,010 for ``"p99"``."""
    return needed_for_quantile(QUANTILES[name], 1 if name == "p99.9" else TOLERATED)


def latency(arrays: Arrays) -> list[Result]:
    """Summarise timed calls.

    A quantile is given only with enough calls behind it: MLPerf's early-stopping rule at 99 % confidence with ten
    tolerated overruns (one at p99.9), which asks for 197 calls at p90, 398 at p95, 2,010 at p99 and 6,636 at p99.9.
    Its interval comes from order statistics. Calls marked as warm-up are summarised apart and enter nothing else.

    Args:
        arrays: ``subject`` (L,) str, what is timed; ``call`` (L,) str: ``reset``, ``step`` or ``act``; ``batch`` (L,)
            int, rows per call; ``row`` (N,) int, which of the L a time belongs to, in the order of the calls;
            ``seconds`` (N,) float64; ``warmup`` (N,) bool.

    Returns:
        For each of the L: the quantiles, ``jitter`` (median absolute deviation), ``throughput`` (rows per second)
        and ``first-call``. Names read ``step-p50`` or, for a batch above one, ``step-x256-p50``.
    """
    results: list[Result] = []
    for i, (subject, call, batch) in enumerate(zip(arrays["subject"], arrays["call"], arrays["batch"], strict=True)):
        own = arrays["row"] == i
        warm = np.asarray(arrays["seconds"][own & arrays["warmup"]], dtype=np.float64)
        seconds = np.asarray(arrays["seconds"][own & ~arrays["warmup"]], dtype=np.float64)
        prefix = f"{call}-" if batch == 1 else f"{call}-x{batch}-"
        results += _summary(str(subject), prefix, int(batch), seconds, warm)
    return results


def _summary(subject: str, prefix: str, batch: int, seconds: np.ndarray, warm: np.ndarray) -> list[Result]:
    n = len(seconds)
    details: dict[str, Any] = {"batch": batch, "n_warmup": len(warm)}
    out: list[Result] = []

    def add(
        name: str,
        value: float | None,
        interval: Any,
        unit: str,
        direction: Any,
        variant: str,
        reason: str | None = None,
        n: int = n,
    ) -> None:
        low, high = interval or (None, None)
        out.append(
            Result("latency", prefix + name, subject, value, low, high, n, 0, unit, direction, variant, reason, details)
        )

    for name, q in QUANTILES.items():
        needed = samples_needed(name)
        variant = f"empirical quantile of calls of {batch} rows, order-statistic interval"
        if n < needed:
            add(name, None, None, "s", "lower", variant, f"n too small: {n} of {needed} calls")
        else:
            add(name, float(np.quantile(seconds, q)), quantile_interval(seconds, q), "s", "lower", variant)
    if n:
        spread = float(np.median(np.abs(seconds - np.median(seconds))))
        add("jitter", spread, None, "s", "lower", "median absolute deviation from the median")
        interval = bootstrap(lambda w: batch * w.sum(1) / (w @ seconds), n, resamples=400, bounds=(0.0, np.inf))
        add("throughput", batch * n / float(seconds.sum()), interval, "rows/s", "higher", f"{batch} rows per call")
    else:
        add("jitter", None, None, "s", "lower", "median absolute deviation", "no timed calls")
        add("throughput", None, None, "rows/s", "higher", f"{batch} rows per call", "no timed calls")
    first = float(warm[0]) if len(warm) else None
    add("first-call", first, None, "s", "lower", "first warm-up call", None if len(warm) else "no warm-up", len(warm))
    return out


MEASURE = Measure(
    name="latency",
    question="How long do reset, step and act take, and how many rows a second go through?",
    unit="s",
    direction="lower",
    range=(0.0, None),
    needs=("subject", "call", "batch", "row", "seconds", "warmup"),
    source="MLPerf Inference early stopping (mlcommons/inference_policies), 99 % confidence; docs/measures.md",
    function=latency,
)
