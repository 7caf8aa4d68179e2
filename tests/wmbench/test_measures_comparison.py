"""Comparison on shared starts: pairing, invalid episodes, several pairs."""

import numpy as np
import pytest

from wmbench.measures.comparison import MEASURE
from wmbench.statistics import mcnemar, paired_difference


def arrays(*subjects, low=np.nan):
    """Each subject: (name, seeds, solved, returns, valid)."""
    return {
        "subject": np.concatenate([[name] * len(seeds) for name, seeds, *_ in subjects]),
        "seed": np.concatenate([s[1] for s in subjects]),
        "once": np.concatenate([s[2] for s in subjects]).astype(bool),
        "at_end": np.zeros(sum(len(s[1]) for s in subjects), bool),
        "returns": np.concatenate([s[3] for s in subjects]).astype(float),
        "valid": np.concatenate([s[4] for s in subjects]).astype(bool),
        "fault": np.array([""] * sum(len(s[1]) for s in subjects)),
        "length": np.full(sum(len(s[1]) for s in subjects), 10),
        "when": np.array("once"),
        "reward_low": np.array(low),
        "horizon": np.array(10),
    }


def subject(name, n=40, rate=0.5, seed=0, lift=0.0, seeds=None):
    rng = np.random.default_rng(seed)
    seeds = np.arange(n) if seeds is None else np.asarray(seeds)
    base = np.random.default_rng(99).normal(size=1000)[seeds]
    return (name, seeds, rng.random(len(seeds)) < rate, base + lift, np.ones(len(seeds), bool))


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


def test_differences_on_shared_starts():
    a, b = subject("a", rate=0.9, lift=0.25), subject("b", rate=0.3, seed=1)
    found = by_name(arrays(a, b))
    rate = found["a - b", "success-difference"]
    assert rate.value == pytest.approx(a[2].mean() - b[2].mean())
    assert (rate.ci_low, rate.ci_high) == paired_difference(a[2], b[2])
    assert rate.details["mcnemar_p"] == mcnemar(a[2], b[2]) == rate.details["holm_p"]
    assert rate.details["sequential"]["better"] == "a"
    gain = found["a - b", "return-difference"]
    # paired: the spread over starts, four times the gain, cancels out
    assert (gain.value, gain.ci_low, gain.ci_high) == pytest.approx((0.25, 0.25, 0.25))
    assert gain.details["share_of_pairs_won"] == 1.0


def test_order_of_episodes_does_not_matter_and_swapping_mirrors():
    a, b = subject("a", rate=0.8, lift=0.3), subject("b", rate=0.4, seed=1)
    order = np.random.default_rng(2).permutation(40)
    mixed = (b[0], *(part[order] for part in b[1:]))
    assert MEASURE(arrays(a, b)) == MEASURE(arrays(a, mixed))
    shuffled = by_name(arrays((a[0], *(part[order] for part in a[1:])), b))
    for key, result in by_name(arrays(a, b)).items():
        assert shuffled[key].value == pytest.approx(result.value)
        assert shuffled[key].details.get("mcnemar_p") == result.details.get("mcnemar_p")
    assert shuffled["a - b", "return-difference"].ci_low == pytest.approx(0.3)  # pairs still match, start by start
    one, two = by_name(arrays(a, b)), by_name(arrays(b, a))
    for name in ("success-difference", "return-difference"):
        assert one["a - b", name].value == -two["b - a", name].value
    assert one["a - b", "success-difference"].ci_low == pytest.approx(-two["b - a", "success-difference"].ci_high)


def test_only_shared_starts_count():
    a, b = subject("a", seeds=range(30)), subject("b", seed=1, seeds=range(20, 60))
    found = by_name(arrays(a, b))["a - b", "success-difference"]
    assert found.n == 10
    assert found.value == pytest.approx(a[2][20:].mean() - b[2][:10].mean())
    nothing = by_name(arrays(subject("a", seeds=range(5)), subject("b", seeds=range(5, 9))))
    for name in ("success-difference", "return-difference"):
        assert nothing["a - b", name].value is None
        assert "share no start" in nothing["a - b", name].reason
    assert nothing["a - b", "success-difference"].details["holm_p"] is None
    with pytest.raises(ValueError, match="'a' faced a start twice"):
        MEASURE(arrays(subject("a", seeds=[1, 1]), subject("b", seeds=[1, 2])))


def test_invalid_episodes_fail():
    a, b = subject("a", rate=1.0), subject("b", rate=1.0, lift=-1.0)
    a[4][:10] = False
    found = by_name(arrays(a, b))
    assert found["a - b", "success-difference"].value == -10 / 40
    assert found["a - b", "success-difference"].n_invalid == 10
    assert found["a - b", "return-difference"].value < 1.0
    a[4][:] = False
    assert "no valid episode" in by_name(arrays(a, b))["a - b", "return-difference"].reason


def test_several_pairs_are_adjusted_for():
    three = [subject("a", rate=0.9), subject("b", rate=0.5, seed=1), subject("c", rate=0.5, seed=2)]
    found = [r for r in MEASURE(arrays(*three)) if r.name == "success-difference"]
    assert [r.subject for r in found] == ["a - b", "a - c", "b - c"]
    p = [r.details["mcnemar_p"] for r in found]
    assert min(r.details["holm_p"] for r in found) == pytest.approx(3 * min(p))
    assert MEASURE(arrays(three[0])) == []
    # each pair is what it is without the third
    assert found[0].value == by_name(arrays(*three[:2]))["a - b", "success-difference"].value


def test_a_better_policy_is_found_and_an_equal_one_is_not():
    caught = alarms = 0
    for seed in range(100):
        better = arrays(subject("a", rate=0.8, seed=seed), subject("b", rate=0.3, seed=1000 + seed))
        equal = arrays(subject("a", rate=0.5, seed=seed), subject("b", rate=0.5, seed=1000 + seed))
        caught += by_name(better)["a - b", "success-difference"].details["mcnemar_p"] < 0.02
        alarms += by_name(equal)["a - b", "success-difference"].details["mcnemar_p"] < 0.02
    assert caught >= 95
    assert alarms <= 5
