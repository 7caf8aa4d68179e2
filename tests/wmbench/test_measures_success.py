"""Success: every episode counts, and every invalid one counts as a failure."""

import numpy as np
import pytest

from wmbench.measures.success import MEASURE
from wmbench.statistics import wilson


def arrays(n=20, solved=0, *, invalid=(), when="once", low=np.nan, subject="p"):
    returns = np.arange(n, dtype=float) + 10
    return {
        "subject": np.array([subject] * n),
        "seed": np.arange(100, 100 + n),
        "once": np.arange(n) < solved,
        "at_end": np.arange(n) < solved // 2,
        "valid": ~np.isin(np.arange(n), invalid),
        "fault": np.where(np.isin(np.arange(n), invalid), "broke", ""),
        "returns": returns,
        "length": np.full(n, 50),
        "when": np.array(when),
        "reward_low": np.array(low),
        "horizon": np.array(100),
    }


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


@pytest.mark.parametrize(("n", "solved"), [(20, 0), (20, 20), (50, 45), (200, 180)])
def test_rates_and_intervals(n, solved):
    found = by_name(arrays(n, solved))
    rate = found["p", "success"]
    assert rate.value == solved / n
    assert (rate.ci_low, rate.ci_high) == wilson(solved, n)
    assert rate.n == n
    assert found["p", "success-once"].value == rate.value
    assert found["p", "success-at-end"].value == (solved // 2) / n
    assert by_name(arrays(n, solved, when="end"))["p", "success"].value == (solved // 2) / n


def test_invalid_episodes_fail_and_are_listed():
    found = by_name(arrays(20, 10, invalid=[0, 1, 15]))
    assert found["p", "success"].value == 8 / 20
    assert found["p", "success"].n == 20
    assert found["p", "success"].n_invalid == 3
    assert found["p", "success"].details["invalid"] == [{"seed": s, "why": "broke"} for s in (100, 101, 115)]


def test_invalid_returns_are_the_worst_admissible():
    # no bound: at most the lowest valid return, 11 (episode 0 has 10 already)
    assert by_name(arrays(4, invalid=[0, 3]))["p", "return"].value == (10 + 11 + 12 + 11) / 4
    # rewards of at least -1: the 50 missing steps of episode 3 cost 50
    assert by_name(arrays(4, invalid=[3], low=-1.0))["p", "return"].value == (10 + 11 + 12 + 13 - 50) / 4
    # rewards of at least 0: what was earned stands
    assert by_name(arrays(4, invalid=[3], low=0.0))["p", "return"].value == 11.5
    nothing = by_name(arrays(4, invalid=range(4)))["p", "return"]
    assert nothing.value is None
    assert "no valid episode" in nothing.reason
    assert nothing.n_invalid == 4


def test_return_and_length():
    found = by_name(arrays(20))
    result = found["p", "return"]
    assert result.value == pytest.approx(19.5)
    assert result.ci_low < 19.5 < result.ci_high
    assert found["p", "length"].value == 50 == found["p", "length"].ci_low


def test_subjects_side_by_side_are_what_they_are_alone():
    one, two = arrays(20, 5), arrays(30, 21, subject="q", invalid=[3])
    both = {k: np.concatenate([one[k], two[k]]) if one[k].ndim else one[k] for k in one}
    assert MEASURE(both) == MEASURE(one) + MEASURE(two)


def test_order_does_not_matter():
    data = arrays(20, 7, invalid=[2])
    order = np.random.default_rng(0).permutation(20)
    mixed = {k: v[order] if v.ndim else v for k, v in data.items()}
    for before, after in zip(MEASURE(data), MEASURE(mixed), strict=True):
        assert before.value == pytest.approx(after.value)
        assert before.n_invalid == after.n_invalid
