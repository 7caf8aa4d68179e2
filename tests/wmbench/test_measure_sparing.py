"""Spared real data: known answers, censoring, invariances, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wmbench.errors import DatasetError
from wmbench.measures.sparing import MEASURE, PENALTY
from wmbench.recording.sparing import CurvePoint, record_sparing

STEPS = np.arange(1, 21) * 100.0


def curve(subject, task="T", seed=0, steps=STEPS, score=None, k=1.0):
    """By default a straight line from 5 to 100, in steps of 5; ``k`` stretches the steps."""
    score = steps / 20 if score is None else score
    return [CurvePoint(subject, task, seed, k * s, y) for s, y in zip(steps, score, strict=True)]


def measured(points, **options):
    options = {"reference": "sim"} | options
    return {(r.subject, r.name): r for r in record_sparing(points, **options).results()}


def seeds(subject, factors, task="T", **options):
    return [p for s, k in enumerate(factors) for p in curve(subject, task, s, k=k, **options)]


def test_the_same_curve_spares_nothing():
    found = measured(seeds("sim", [1, 1]) + seeds("wm", [1, 1]))
    for name in ("ratio", "ratio-smoothed"):
        assert found["wm", name].value == 1.0
        assert found["wm", name].details["curve"]["ratio"] == [1.0] * 9
    assert found["wm", "gain"].value == 0.0
    assert found["wm", "reached"].value == found["sim", "reached"].value == 1.0
    assert ("sim", "ratio") not in found


@pytest.mark.parametrize("k", [0.1, 0.25, 3.0])
def test_a_curve_stretched_k_times_has_the_ratio_one_over_k(k):
    found = measured(seeds("sim", [1, 1]) + seeds("wm", [k, k]))
    for name in ("ratio", "ratio-smoothed"):
        assert found["wm", name].value == pytest.approx(1 / k, rel=1e-12)
        assert found["wm", name].details["curve"]["ratio"] == pytest.approx([1 / k] * 9, rel=1e-12)


def test_crossings_lie_between_evaluations():
    """Final 100, base 0, share .83: 83 lies at 1660 on the line, and where 80 jumps to 100 at 3/20 of the way."""
    jump = curve("wm", steps=np.array([100.0, 500.0, 900.0]), score=np.array([0.0, 80.0, 100.0]))
    found = measured(curve("sim") + jump, share=0.83)
    costs = found["wm", "ratio"].details["costs"]["T"]
    assert costs["target"] == pytest.approx(83.0, rel=1e-12)
    assert costs["reference"] == pytest.approx([1660.0], rel=1e-12)
    assert costs["steps"] == pytest.approx([560.0], rel=1e-12)
    assert found["wm", "ratio"].value == pytest.approx(1660 / 560, rel=1e-12)
    assert found["wm", "ratio"].details["curve"]["ratio"][0] == pytest.approx(400 / 200, rel=1e-12)  # 20: a quarter
    assert found["wm", "ratio"].ci_low is None
    assert "two training seeds" in found["wm", "ratio"].reason


def test_a_lucky_evaluation_is_smoothed_away():
    score = STEPS / 20
    score[3] = 95.0
    found = measured(curve("sim") + curve("wm", score=score))
    assert found["wm", "ratio"].value > 4
    assert found["wm", "ratio-smoothed"].value == pytest.approx(1.0, rel=1e-12)


def test_the_smoothed_crossing_in_closed_form():
    """The mean of three on the line lags by one evaluation: 100 (t + 1) steps, and the final is 95, not 100."""
    costs = measured(curve("sim") + curve("wm"))["wm", "ratio-smoothed"].details["costs"]["T"]
    assert costs["target"] == pytest.approx(0.8 * 95, rel=1e-12)
    assert costs["reference"] == pytest.approx([0.8 * 95 * 20 + 100], rel=1e-12)


def test_seeds_and_tasks_are_averaged_geometrically_and_the_interval_is_welchs():
    own, other = [1.0, 1.2, 0.9, 1.1], [0.5, 0.8, 0.4]
    found = measured(seeds("sim", own) + seeds("wm", other))["wm", "ratio"]
    gap = np.log(own).mean() - np.log(other).mean()
    assert found.value == pytest.approx(math.exp(gap), rel=1e-12)
    theirs = stats.ttest_ind(np.log(own), np.log(other), equal_var=False).confidence_interval()
    assert np.log([found.ci_low, found.ci_high]) == pytest.approx(list(theirs), rel=1e-9)
    two = measured(
        seeds("sim", [1, 1]) + seeds("wm", [0.5, 0.5]) + seeds("sim", [1, 1], "U") + seeds("wm", [2, 2], "U")
    )
    assert two["wm", "ratio"].value == pytest.approx(1.0, rel=1e-12)
    assert two["wm", "ratio"].n == 8


def test_the_base_is_where_the_target_is_counted_from():
    """Returns from -100 to 0 instead of 0 to 100: the same curve, once one says where it begins."""
    below = [CurvePoint(p.subject, p.task, p.train_seed, p.real_steps, p.score - 100) for p in seeds("sim", [1, 1])]
    below += [CurvePoint("wm", "T", s, p.real_steps / 2, p.score) for s in (0, 1) for p in below[:20]]
    assert measured(below, base={"T": -100.0})["wm", "ratio"].value == pytest.approx(2.0, rel=1e-12)
    for name in ("ratio", "ratio-smoothed", "gain"):  # counted from 0 the reference learns nothing at all
        result = measured(below)["wm", name]
        assert result.value is None
        assert "learns nothing on T" in result.reason


def test_a_run_that_never_reaches_the_target_is_penalised():
    flat = curve("wm", seed=1, score=np.full(20, 40.0))
    found = measured(seeds("sim", [1, 1]) + curve("wm") + flat)
    result = found["wm", "ratio"]
    assert result.value == pytest.approx(math.sqrt(1600 / (PENALTY * 2000)), rel=1e-12)
    assert result.details["never"] == 1
    assert result.details["costs"]["T"]["steps"] == [1600.0, None]
    assert "1 runs never reach" in result.reason
    assert result.ci_low < result.value < result.ci_high
    assert found["wm", "reached"].value == 0.5
    assert result.details["curve"]["never"] == [0, 0, 0, 1, 1, 1, 1, 1, 1]  # 40 is reached, 50 is not


def test_one_hopeless_task_hides_no_other():
    points = seeds("sim", [1, 1]) + seeds("wm", [1, 1], score=np.full(20, 10.0))
    points += seeds("sim", [1, 1.2], "U") + seeds("wm", [0.1, 0.2], "U")
    found = measured(points)["wm", "ratio"]
    there, here = 1600 / (PENALTY * 2000), math.sqrt(1.2 / (0.1 * 0.2))
    assert found.value == pytest.approx(math.sqrt(there * here), rel=1e-12)
    assert found.ci_low < found.value < found.ci_high
    assert (found.n, found.n_invalid) == (8, 2)
    assert "not one run reaches the target on T" in found.reason
    tasks = found.details["tasks"]
    assert [tasks[t]["ratio"] for t in "TU"] == pytest.approx([there, here], rel=1e-12)
    assert [(tasks[t]["runs"], tasks[t]["never"]) for t in "TU"] == [(2, 2), (2, 0)]


def test_the_ratio_falls_evenly_with_every_run_that_does_not_arrive():
    values = []
    for failed in range(4):
        flat = [p for s in range(failed) for p in curve("wm", seed=s, score=np.full(20, 10.0))]
        rest = [p for s in range(failed, 3) for p in curve("wm", seed=s)]
        result = measured(seeds("sim", [1, 1, 1]) + flat + rest)["wm", "ratio"]
        assert result.n_invalid == result.details["never"] == failed
        values.append(math.log(result.value))
    assert np.diff(values) == pytest.approx([math.log(1600 / (PENALTY * 2000)) / 3] * 3, rel=1e-9)


def test_scores_that_are_not_finite_count_as_the_lowest():
    score = np.where(np.arange(20) % 2, np.nan, STEPS / 20)
    broken = curve("wm", score=score) + curve("nan", score=np.full(20, np.nan))
    found = measured(curve("sim") + broken)
    assert (found["wm", "ratio"].n, found["wm", "ratio"].n_invalid) == (2, 1)  # runs, both of them, as n is
    assert found["wm", "reached"].n_invalid == found["wm", "gain"].n_invalid == 1
    lost = curve("sim", score=np.append(STEPS[:-1] / 20, np.nan)) + curve("wm")
    assert measured(lost)["wm", "ratio"].n_invalid == 1 and measured(lost)["wm", "reached"].n_invalid == 0
    assert found["wm", "ratio"].details["costs"]["T"]["steps"][0] > 1600
    assert found["nan", "ratio"].value == pytest.approx(1600 / (PENALTY * 2000), rel=1e-12)
    assert found["nan", "ratio"].n_invalid == 1  # lost, and never there: still one run
    assert found["nan", "gain"].value == pytest.approx((5 - 100) / 100, rel=1e-12)
    with pytest.raises(DatasetError, match="one finite score"):
        measured([CurvePoint("sim", "T", 0, 1.0, None)])


def test_what_is_reached_at_once_is_said():
    head = curve("wm", steps=np.array([500.0, 1000.0]), score=np.array([90.0, 95.0]))
    result = measured(curve("sim") + head)["wm", "ratio"]
    assert result.value == pytest.approx(1600 / 500, rel=1e-12)
    assert "1 runs reach it at their first evaluation" in result.reason
    nothing = curve("wm", steps=np.array([0.0, 1000.0]), score=np.array([90.0, 95.0]))
    result = measured(curve("sim") + nothing)["wm", "ratio"]
    assert result.value is None
    assert "without any real step" in result.reason


def test_gain_is_taken_at_equal_steps():
    """Twice as fast: at the 1000 steps that both have, the reference scores 50 and the other 100."""
    result = measured(seeds("sim", [1, 1]) + seeds("wm", [0.5, 0.5]))["wm", "gain"]
    assert result.value == pytest.approx(0.5, rel=1e-12)
    assert result.details["curve"]["real_steps"]["T"] == [100.0, 325.0, 550.0, 775.0, 1000.0]
    assert result.details["curve"]["gain"] == pytest.approx([0.05, 0.1625, 0.275, 0.3875, 0.5], rel=1e-12)
    late = curve("wm", steps=np.array([5000.0]), score=np.array([100.0]))
    result = measured(curve("sim") + late)["wm", "gain"]
    assert result.value is None
    assert "equally many" in result.reason


def test_only_shared_tasks_count():
    found = measured(seeds("sim", [1, 1]) + seeds("sim", [1, 1], "U") + seeds("wm", [2, 2]) + curve("other", "V"))
    assert found["wm", "ratio"].n == 4
    for name in ("ratio", "ratio-smoothed", "gain", "reached"):
        assert found["other", name].value is None
        assert "shares no task" in found["other", name].reason


def test_what_makes_no_sense_is_refused():
    arrays = record_sparing(seeds("sim", [1, 1]), reference="sim").arrays
    for change, words in (
        ({"share": np.array(0.0)}, "shares"),
        ({"shares": np.array([0.5, 1.5])}, "shares"),
        ({"reference": np.array("nobody")}, "nobody"),
        ({"task_name": np.array(["U"])}, "no base score"),
        ({"real_steps": np.full(40, np.nan)}, "real_steps"),
        ({"real_steps": np.arange(40) - 1.0}, "real_steps"),
        ({"real_steps": np.ones(40)}, "two scores"),
    ):
        with pytest.raises(DatasetError, match=words):
            MEASURE(arrays | change)


@settings(max_examples=25, deadline=None)
@given(
    order=st.randoms(use_true_random=False),
    units=st.floats(1e-3, 1e3),
    offset=st.floats(-1e3, 1e3),
    stretch=st.floats(1e-3, 1e3),
)
def test_order_units_and_names_of_seeds_do_not_matter(order, units, offset, stretch):
    rng = np.random.default_rng(3)
    points = [
        p
        for who, k in (("sim", 1.0), ("wm", 0.6))
        for s in range(3)
        for p in curve(who, seed=s, k=k, score=STEPS / 20 + rng.normal(0, 4, 20))
    ]
    before = measured(points, base=-3.0)
    changed = [
        CurvePoint(p.subject, p.task, 7 - p.train_seed, stretch * p.real_steps, units * p.score + offset)
        for p in points
    ]
    order.shuffle(changed)
    after = measured(changed, base=units * -3.0 + offset)
    for key, result in before.items():
        for part in ("value", "ci_low", "ci_high"):
            assert getattr(after[key], part) == pytest.approx(getattr(result, part), rel=1e-6, abs=1e-9)


def test_the_interval_covers():
    """Seeds whose costs are log-normal: 95 % of Welch's intervals hold the truth."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        own, other = np.exp(rng.normal(0, 0.3, 4)), 0.5 * np.exp(rng.normal(0, 0.5, 5))
        result = measured(seeds("sim", own) + seeds("wm", other), shares=(0.5,))["wm", "ratio"]
        held += result.ci_low <= 2.0 <= result.ci_high
    assert held >= 270
