"""Latency: quantiles only with enough calls, warm-up apart, known answers."""

import numpy as np
import pytest

from wmbench.measures.latency import MEASURE, samples_needed


def arrays(seconds, warm=(), *, batch=1, call="step"):
    seconds = np.concatenate([warm, seconds])
    return {
        "subject": np.array(["true"]),
        "call": np.array([call]),
        "batch": np.array([batch]),
        "row": np.zeros(len(seconds), int),
        "seconds": seconds,
        "warmup": np.arange(len(seconds)) < len(warm),
    }


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


def test_sample_sizes():
    assert [samples_needed(q) for q in ("p90", "p95", "p99", "p99.9")] == [197, 398, 2010, 6636]


@pytest.mark.parametrize(("n", "given"), [(10, 0), (35, 1), (197, 2), (398, 3), (2009, 3), (2010, 4), (6636, 5)])
def test_a_quantile_needs_enough_calls(n, given):
    found = by_name(arrays(np.linspace(1e-3, 2e-3, n)))
    values = [found["true", f"step-{q}"] for q in ("p50", "p90", "p95", "p99", "p99.9")]
    assert sum(r.value is not None for r in values) == given
    for result in values:
        if result.value is None:
            assert result.reason.startswith(f"n too small: {n} of ")


def test_known_answers():
    found = by_name(arrays(np.linspace(0, 1, 1001) + 1e-9, batch=16))
    assert found["true", "step-x16-p50"].value == pytest.approx(0.5)
    assert found["true", "step-x16-p95"].value == pytest.approx(0.95)
    low, high = found["true", "step-x16-p50"].ci_low, found["true", "step-x16-p50"].ci_high
    assert low == pytest.approx(0.5 - 0.031, abs=2e-3)
    assert high == pytest.approx(0.5 + 0.031, abs=2e-3)
    assert found["true", "step-x16-jitter"].value == pytest.approx(0.25, abs=1e-3)
    assert found["true", "step-x16-throughput"].value == pytest.approx(16 / 0.5)
    assert found["true", "step-x16-throughput"].ci_low < 32 < found["true", "step-x16-throughput"].ci_high


def test_warm_up_is_kept_apart():
    found = by_name(arrays(np.full(300, 1e-3), warm=[5.0, 2e-3]))
    assert found["true", "step-first-call"].value == 5.0
    assert found["true", "step-p50"].value == 1e-3
    assert found["true", "step-p50"].n == 300
    assert found["true", "step-throughput"].value == pytest.approx(1000)
    assert by_name(arrays(np.full(300, 1e-3)))["true", "step-first-call"].value is None


def test_no_calls_give_reasons():
    for result in MEASURE(arrays([])):
        assert result.value is None
        assert result.reason
