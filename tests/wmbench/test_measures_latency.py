"""Latency: quantiles only with enough calls, warm-up apart, known answers."""

import numpy as np
import pytest

from wmbench.measures.latency import MEASURE, samples_needed
from wmbench.statistics import wilson


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


def test_the_largest_is_given_at_any_number_of_calls_and_says_so():
    seconds = np.array([1e-3, 7e-3, 2e-3])
    found = by_name(arrays(seconds, warm=[5.0]))["true", "step-max"]
    assert (found.value, found.n, found.ci_low, found.ci_high) == (7e-3, 3, None, None)
    assert "grows with n" in found.variant
    longer = by_name(arrays(np.append(seconds, [1e-3, 9e-3])))["true", "step-max"]
    assert longer.value == 9e-3
    assert by_name(arrays([]))["true", "step-max"].reason == "no timed calls"


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


def test_the_tail_is_p99_above_the_median_where_p99_may_be_given():
    seconds = np.linspace(0, 1, 2011)
    found = by_name(arrays(seconds))["true", "step-tail-jitter"]
    assert found.value == pytest.approx(0.49, rel=1e-12)
    assert found.ci_low < 0.49 < found.ci_high
    shifted = by_name(arrays(seconds + 7))["true", "step-tail-jitter"]
    assert shifted.value == pytest.approx(0.49, rel=1e-9)
    assert by_name(arrays(np.ones(2010)))["true", "step-tail-jitter"].value == 0.0
    few = by_name(arrays(seconds[:2009]))["true", "step-tail-jitter"]
    assert (few.value, few.reason) == (None, "n too small: 2009 of 2010 calls")


def with_deadline(late, *, hz=20.0, rounds=None, **options):
    data = arrays(np.where(late, 0.06, 0.04), **options) | {"control_hz": np.array(hz)}
    return data if rounds is None else data | {"round": np.asarray(rounds)}


def test_deadlines_known_answers():
    late = np.array([0, 1, 1, 0, 1, 1, 1, 0, 0, 1], bool)
    found = by_name(with_deadline(late))
    share, streak = found["true", "step-deadline-misses"], found["true", "step-longest-miss-streak"]
    assert (share.value, share.ci_low, share.ci_high) == (0.6, *wilson(6, 10))
    assert share.details["misses"] == 6
    assert (streak.value, streak.unit) == (3.0, "calls")
    # a streak does not go on where something else ran in between
    halves = np.arange(10) >= 6
    assert by_name(with_deadline(late, rounds=halves))["true", "step-longest-miss-streak"].value == 2.0
    assert by_name(with_deadline(np.ones(5, bool)))["true", "step-longest-miss-streak"].value == 5.0
    none = by_name(with_deadline(late, hz=10.0))
    assert none["true", "step-deadline-misses"].value == none["true", "step-longest-miss-streak"].value == 0.0
    exact = by_name(arrays(np.full(3, 0.05)) | {"control_hz": np.array(20.0)})
    assert exact["true", "step-deadline-misses"].value == 0.0  # in time is not late


def test_deadlines_are_for_calls_in_the_loop():
    assert ("true", "reset-deadline-misses") not in by_name(with_deadline([True], call="reset"))
    assert ("true", "step-deadline-misses") not in by_name(arrays([1.0]))
    name = "observation-to-action-deadline-misses"
    assert by_name(with_deadline([True], call="observation-to-action"))["true", name].value == 1.0
    for end in ("deadline-misses", "longest-miss-streak"):
        assert by_name(with_deadline([]))["true", f"step-{end}"].reason == "no timed calls"
    # the warm-up may be late
    warmed = by_name(arrays(np.full(4, 0.01), warm=[9.0]) | {"control_hz": np.array(20.0)})
    assert warmed["true", "step-deadline-misses"].value == 0.0


def test_drift_between_rounds():
    data = arrays(np.repeat([1e-3, 3e-3], 50)) | {"round": np.repeat([0, 1], 50)}
    found = by_name(data)["true", "step-round-drift"]
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((3.0, 3.0, 3.0))
    tiny = by_name(arrays([1.0, 2.0]) | {"round": np.array([0, 1])})["true", "step-round-drift"]
    assert (tiny.value, tiny.ci_low) == (2.0, None)
    for seconds in ([], [1.0, 1.0]):
        alone = by_name(arrays(seconds) | {"round": np.zeros(len(seconds), int)})["true", "step-round-drift"]
        assert alone.reason == "fewer than two rounds of timed calls"


def in_modes(seconds, faults=("", "", ""), errors=(0.0, 1e-6, 0.0), tolerance=1e-4):
    """One subject in three modes."""
    n = [len(s) for s in seconds]
    return {
        "subject": np.repeat("m", 3),
        "call": np.array(["step-eager", "step-compiled", "step-captured"]),
        "batch": np.full(3, 256),
        "row": np.repeat(np.arange(3), n),
        "seconds": np.concatenate(seconds),
        "warmup": np.concatenate([np.arange(k) < min(1, k) for k in n]),
        "fault": np.array(faults),
        "error": np.array(errors),
        "tolerance": np.array(tolerance),
    }


def test_modes_are_compared_with_eager():
    seconds = [np.full(51, 4e-3), np.r_[20.0, np.full(50, 2e-3)], np.r_[1.0, np.full(50, 1e-3)]]
    found = by_name(in_modes(seconds))
    for mode, speed, first in (("compiled", 2.0, 20.0), ("captured", 4.0, 1.0)):
        speedup = found["m", f"step-{mode}-x256-speedup"]
        assert (speedup.value, speedup.ci_low, speedup.ci_high) == pytest.approx((speed, speed, speed))
        assert found["m", f"step-{mode}-x256-first-call"].value == first
    assert found["m", "step-compiled-x256-output-error"].value == 1e-6
    assert ("m", "step-eager-x256-speedup") not in found


@pytest.mark.parametrize(("error", "words"), [(2e-4, "by 0.0002, more than 0.0001"), (np.inf, "beyond measure")])
def test_a_mode_with_other_outputs_is_invalid(error, words):
    seconds = [np.full(51, 4e-3)] * 3
    found = by_name(in_modes(seconds, errors=(0.0, error, np.nan)))
    for name in ("p50", "throughput", "first-call", "speedup"):
        assert found["m", f"step-compiled-x256-{name}"].value is None
        assert words in found["m", f"step-compiled-x256-{name}"].reason
    wrong = found["m", "step-compiled-x256-output-error"]
    assert wrong.value == (error if np.isfinite(error) else None)
    assert "invalid" in wrong.reason
    assert found["m", "step-captured-x256-speedup"].value == 1.0  # not compared
    eager = by_name(in_modes(seconds, errors=(1.0, 0.0, 0.0)))["m", "step-eager-x256-p50"]
    assert "the same rows one at a time" in eager.reason


def test_a_mode_that_cannot_be_had_says_why():
    found = by_name(in_modes([np.full(51, 4e-3), [], []], faults=("", "no compiler", "no GPU"), errors=[np.nan] * 3))
    assert found["m", "step-eager-x256-p50"].value == 4e-3
    assert found["m", "step-compiled-x256-p50"].reason == "no compiler"
    assert found["m", "step-captured-x256-speedup"].reason == "no GPU"
    without = by_name(in_modes([[], np.full(51, 4e-3), np.full(51, 4e-3)], faults=("gone", "", "")))
    assert without["m", "step-compiled-x256-speedup"].reason == "nothing to compare"


def test_facts_are_bytes():
    facts = {"fact_subject": np.array(["m", "p"]), "fact": np.array(["parameter-bytes", "act-x16-peak-memory"])}
    found = by_name(arrays([1.0]) | facts | {"fact_value": np.array([1024.0, 5.0])})
    assert (found["m", "parameter-bytes"].value, found["m", "parameter-bytes"].unit) == (1024.0, "bytes")
    assert found["p", "act-x16-peak-memory"].value == 5.0


def test_units_of_time_do_not_matter():
    rng = np.random.default_rng(0)
    seconds = rng.gamma(2.0, 1e-3, 2500)
    plain, slow = (by_name(arrays(k * seconds) | {"control_hz": np.array(300 / k)}) for k in (1, 1000))
    for name in ("p50", "p99", "jitter", "tail-jitter"):
        assert slow["true", f"step-{name}"].value == pytest.approx(
            1000 * plain["true", f"step-{name}"].value, rel=1e-12
        )
    for name in ("deadline-misses", "longest-miss-streak"):
        assert slow["true", f"step-{name}"].value == plain["true", f"step-{name}"].value
