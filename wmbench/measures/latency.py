"""What does a call cost? Quantiles under a sample-size rule, deadlines, first calls apart, throughput, memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wmbench.measures.result import Arrays, Direction, Measure, Result
from wmbench.statistics import Interval, bootstrap, needed_for_quantile, quantile_interval, wilson

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
TOLERATED = 10
"""How many calls may lie above a quantile for it to be printed; at p99.9 one."""

EAGER = "step-eager"
"""The call that other modes of a world model's step are compared with."""

BOTH = 1 - 0.05 / 2
"""Level of two intervals that hold together at 95 % (Bonferroni)."""


def samples_needed(name: str) -> int:
    """How many calls a quantile needs before it is printed, for example 2,010 for ``"p99"``."""
    return needed_for_quantile(QUANTILES[name], 1 if name == "p99.9" else TOLERATED)


@dataclass
class Timed:
    """The calls of one kind.

    Attributes:
        subject: What is timed.
        call: ``reset``, ``step``, ``act``, ``observation-to-action``, or ``step-`` and a mode.
        batch: Rows per call.
        seconds: (n,) float64, warm-up left out.
        round: (n,) int, in which round.
        warm: (w,) float64, the warm-up, first call first.
        results: What was added.
    """

    subject: str
    call: str
    batch: int
    seconds: np.ndarray
    round: np.ndarray
    warm: np.ndarray
    results: list[Result] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        """What the names of results begin with."""
        return f"{self.call}-" if self.batch == 1 else f"{self.call}-x{self.batch}-"

    def add(
        self,
        name: str,
        value: float | None,
        interval: Interval | None,
        unit: str,
        direction: Direction,
        variant: str,
        reason: str | None = None,
        n: int | None = None,
        **more: Any,
    ) -> None:
        """Append a result; ``n`` is the number of calls unless given."""
        low, high = interval or (None, None)
        count = len(self.seconds) if n is None else n
        details = {"batch": self.batch, "n_warmup": len(self.warm), **more}
        name = self.prefix + name
        self.results.append(
            Result("latency", name, self.subject, value, low, high, count, 0, unit, direction, variant, reason, details)
        )


def latency(arrays: Arrays) -> list[Result]:
    """Summarise timed calls.

    A quantile is given only with enough calls behind it: MLPerf's early-stopping rule at 99 % confidence with ten
    tolerated overruns (one at p99.9), which asks for 197 calls at p90, 398 at p95, 2,010 at p99 and 6,636 at p99.9.
    Its interval comes from order statistics. Calls marked as warm-up are summarised apart and enter nothing else.

    Args:
        arrays: ``subject`` (L,) str, what is timed; ``call`` (L,) str: ``reset``, ``step``, ``act``,
            ``observation-to-action``, or ``step-eager``, ``step-compiled`` and ``step-captured``; ``batch`` (L,)
            int, rows per call; ``row`` (N,) int, which of the L a time belongs to, in the order of the calls;
            ``seconds`` (N,) float64; ``warmup`` (N,) bool. If there: ``control_hz`` (), for deadlines; ``round`` (N,)
            int; ``fault`` (L,) str, why a mode could not be timed; ``error`` (L,) float64, how far its outputs are from
            those of the eager step (NaN: not compared), and ``tolerance`` (), how far they may be; ``fact_subject`` and
            ``fact`` (F,) str with ``fact_value`` (F,) float64, sizes in bytes.

    Returns:
        For each of the L: the quantiles, ``max``, ``jitter`` (median absolute deviation), ``tail-jitter`` (p99 - p50),
        ``throughput`` (rows per second), ``first-call``, ``deadline-misses`` and ``longest-miss-streak`` (but for
        reset), ``round-drift``, and for modes ``output-error`` and ``speedup``. Names read ``step-p50`` or, for a batch
        above one, ``step-x256-p50``. Then the facts.
    """
    every = [_timed(arrays, i) for i in range(len(arrays["subject"]))]
    eager = {(t.subject, t.batch): t.seconds for t in every if t.call == EAGER}
    for i, timed in enumerate(every):
        fault = str(arrays["fault"][i]) if "fault" in arrays else ""
        fault = fault or _compare(timed, arrays, i)
        if fault:
            timed.add("p50", None, None, "s", "lower", "not timed", fault)
            timed.add("throughput", None, None, "rows/s", "higher", "not timed", fault)
            timed.add("first-call", None, None, "s", "lower", "not timed", fault)
        else:
            _summary(timed)
            if "control_hz" in arrays and timed.call != "reset":
                _deadlines(timed, float(arrays["control_hz"]))
            if "round" in arrays:
                _drift(timed)
        if timed.call.startswith("step-") and timed.call != EAGER:
            _speedup(timed, eager.get((timed.subject, timed.batch)), fault)
    return [r for t in every for r in t.results] + _facts(arrays)


def _timed(arrays: Arrays, i: int) -> Timed:
    own = np.flatnonzero(arrays["row"] == i)
    warm, seconds = arrays["warmup"][own], np.asarray(arrays["seconds"], dtype=np.float64)[own]
    rounds = np.asarray(arrays["round"])[own] if "round" in arrays else np.zeros(len(own), dtype=np.int64)
    subject, call, batch = str(arrays["subject"][i]), str(arrays["call"][i]), int(arrays["batch"][i])
    return Timed(subject, call, batch, seconds[~warm], rounds[~warm], seconds[warm])


def _summary(timed: Timed) -> None:
    """Quantiles, spread, throughput and the first call."""
    seconds, n, batch = timed.seconds, len(timed.seconds), timed.batch
    for name, q in QUANTILES.items():
        needed = samples_needed(name)
        variant = f"empirical quantile of calls of {batch} rows, order-statistic interval"
        if n < needed:
            timed.add(name, None, None, "s", "lower", variant, f"n too small: {n} of {needed} calls")
        else:
            timed.add(name, float(np.quantile(seconds, q)), quantile_interval(seconds, q), "s", "lower", variant)
    words = "largest of the n calls; it grows with n: compare it at equal n alone"
    timed.add("max", float(seconds.max()) if n else None, None, "s", "lower", words, None if n else "no timed calls")
    if n:
        spread = float(np.median(np.abs(seconds - np.median(seconds))))
        timed.add("jitter", spread, None, "s", "lower", "median absolute deviation from the median")
    else:
        timed.add("jitter", None, None, "s", "lower", "median absolute deviation", "no timed calls")
    needed = samples_needed("p99")
    if n < needed:
        why = f"n too small: {n} of {needed} calls"
        timed.add("tail-jitter", None, None, "s", "lower", "p99 - p50", why)
    else:
        high, low = (quantile_interval(seconds, q, BOTH) for q in (0.99, 0.5))
        interval = Interval(max(0.0, high.low - low.high), high.high - low.low) if high and low else None
        tail = float(np.quantile(seconds, 0.99) - np.median(seconds))
        timed.add("tail-jitter", tail, interval, "s", "lower", "p99 - p50, order-statistic intervals of both")
    if n:
        rate = bootstrap(lambda w: batch * w.sum(1) / (w @ seconds), n, resamples=400, bounds=(0.0, np.inf))
        value = batch * n / float(seconds.sum())
        timed.add("throughput", value, rate, "rows/s", "higher", f"{batch} rows per call")
    else:
        timed.add("throughput", None, None, "rows/s", "higher", f"{batch} rows per call", "no timed calls")
    warm = timed.warm
    first = float(warm[0]) if len(warm) else None
    why_not = None if len(warm) else "no warm-up"
    timed.add("first-call", first, None, "s", "lower", "first warm-up call", why_not, len(warm))


def _deadlines(timed: Timed, control_hz: float) -> None:
    """How often, and how often in a row, a call takes longer than a control step."""
    late, n = timed.seconds > 1 / control_hz, len(timed.seconds)
    words = f"calls slower than the control step of {1 / control_hz:g} s"
    if not n:
        timed.add("deadline-misses", None, None, "1", "lower", words, "no timed calls")
        timed.add("longest-miss-streak", None, None, "calls", "lower", words, "no timed calls")
        return
    count = int(late.sum())
    share = f"share of {words}, Wilson interval"
    timed.add("deadline-misses", count / n, wilson(count, n), "1", "lower", share, misses=count)
    longest = f"longest run of {words}, within a round"
    timed.add("longest-miss-streak", _longest(late, timed.round), None, "calls", "lower", longest)


def _longest(late: np.ndarray, rounds: np.ndarray) -> float:
    """Length of the longest run of True that stays in one round."""
    best = run = 0
    for i, miss in enumerate(late):
        run = (run if i and rounds[i] == rounds[i - 1] else 0) + 1 if miss else 0
        best = max(best, run)
    return float(best)


def _drift(timed: Timed) -> None:
    """Whether the machine was the same in the last round as in the first."""
    rounds = timed.round
    words = "median of the last round over that of the first, with everything else timed in between"
    if not len(rounds) or rounds[0] == rounds[-1]:
        timed.add("round-drift", None, None, "1", "none", words, "fewer than two rounds of timed calls")
        return
    last, first = timed.seconds[rounds == rounds[-1]], timed.seconds[rounds == rounds[0]]
    timed.add("round-drift", *_ratio(last, first), "1", "none", words)


def _ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, Interval | None]:
    """Ratio of two medians, and its interval from those of both."""
    top, bottom = quantile_interval(above, 0.5, BOTH), quantile_interval(below, 0.5, BOTH)
    interval = Interval(top.low / bottom.high, top.high / bottom.low) if top and bottom else None
    return float(np.median(above) / np.median(below)), interval


def _compare(timed: Timed, arrays: Arrays, i: int) -> str:
    """Add how far a mode's outputs are from those of the eager step; gives back why they are wrong, if they are."""
    error = float(arrays["error"][i]) if "error" in arrays else np.nan
    if np.isnan(error):
        return ""
    tolerance = float(arrays["tolerance"])
    words = f"largest |a - b| / (1 + |b|) over all outputs of a step, tolerance {tolerance:g}"
    against = "the same rows one at a time" if timed.call == EAGER else "the eager step"
    why = ""
    if not error <= tolerance:
        much = f"by {error:.2g}" if np.isfinite(error) else "beyond measure"
        why = f"invalid: its outputs differ from {against} {much}, more than {tolerance:g}"
    value = error if np.isfinite(error) else None
    timed.add("output-error", value, None, "1", "lower", f"{words}, against {against}", why or None, 1)
    return why


def _speedup(timed: Timed, eager: np.ndarray | None, fault: str) -> None:
    """How many times faster than eager, by medians."""
    words = "median of the eager step over that of this mode, timed in turns"
    if fault or eager is None or not len(eager) or not len(timed.seconds):
        timed.add("speedup", None, None, "1", "higher", words, fault or "nothing to compare")
    else:
        timed.add("speedup", *_ratio(eager, timed.seconds), "1", "higher", words)


def _facts(arrays: Arrays) -> list[Result]:
    """Sizes in bytes."""
    if "fact" not in arrays:
        return []
    results = []
    for subject, name, value in zip(arrays["fact_subject"], arrays["fact"], arrays["fact_value"], strict=True):
        words = FACTS[next(end for end in FACTS if str(name).endswith(end))]
        number = float(value)
        results.append(Result("latency", str(name), str(subject), number, None, None, 1, 0, "bytes", "lower", words))
    return results


FACTS = {
    "parameter-bytes": "parameters and buffers of the model or policy",
    "state-bytes": "state of one row: what a model or policy carries from step to step",
    "peak-memory": "growth of the process's resident memory, at its peak, over making and first using it",
    "cuda-allocated": "torch.cuda.max_memory_allocated above what was allocated before",
    "cuda-reserved": "torch.cuda.max_memory_reserved above what was reserved before",
}

MEASURE = Measure(
    name="latency",
    question="How long do reset, step and act take, is the control rate kept, and how many rows a second go through?",
    unit="s",
    direction="lower",
    range=(0.0, None),
    needs=("subject", "call", "batch", "row", "seconds", "warmup"),
    source="MLPerf Inference early stopping (mlcommons/inference_policies), 99 % confidence; docs/measures.md",
    function=latency,
)
