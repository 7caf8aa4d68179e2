"""Correlations: known answers, SciPy, weights as repetitions, intervals, permutation tests."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wmbench.statistics.correlation import (
    KINDS,
    correlation_interval,
    fisher_interval,
    kendall,
    pearson,
    resampled_interval,
    slope_interval,
    spearman,
)
from wmbench.statistics.permutation import permutation_p, sign_flip_p

SCIPY = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
R, S = np.array([0.9, 0.7, 0.4, 0.1]), np.array([0.8, 0.85, 0.3, 0.2])
scores = st.lists(st.integers(-4, 4), min_size=3, max_size=12)


def test_known_answers():
    assert pearson(S, R)[0] == pytest.approx(0.92723, abs=5e-6)
    assert spearman(S, R)[0] == pytest.approx(0.8, rel=1e-12)
    assert kendall(S, R)[0] == pytest.approx(2 / 3, rel=1e-12)
    # 3 concordant, no discordant pair, of 6 and of 5 untied ones
    assert kendall(np.array([1, 1, 2]), np.array([1, 2, 3]))[0] == pytest.approx(2 / math.sqrt(6), rel=1e-12)
    for correlation in KINDS.values():
        assert correlation(R, R)[0] == 1.0
        assert correlation(-R, R)[0] == -1.0


@settings(max_examples=200, deadline=None)
@given(scores, st.data())
def test_they_equal_scipys(x, data):
    y = data.draw(st.lists(st.integers(-4, 4), min_size=len(x), max_size=len(x)))
    x, y = np.array(x, float), np.array(y, float)
    for kind, ours in KINDS.items():
        if len(set(x)) == 1 or len(set(y)) == 1:
            assert np.isnan(ours(x, y)[0])
        else:
            assert ours(x, y)[0] == pytest.approx(SCIPY[kind](x, y).statistic, rel=1e-12, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(scores, st.data())
def test_weights_are_repetitions(x, data):
    n = len(x)
    y = np.array(data.draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n)), float)
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    x = np.array(x, float)
    if times.sum() < 2:
        return
    for correlation in KINDS.values():
        weighted = correlation(x, y, times[None].astype(float))[0]
        repeated = correlation(np.repeat(x, times), np.repeat(y, times))[0]
        assert weighted == pytest.approx(repeated, rel=1e-9, abs=1e-9, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(scores, st.data(), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_order_units_and_affine_rescaling_change_nothing(x, data, scale, shift):
    y = np.array(data.draw(st.lists(st.integers(-4, 4), min_size=len(x), max_size=len(x))), float)
    order = np.array(data.draw(st.permutations(range(len(x)))))
    x = np.array(x, float)
    for correlation in KINDS.values():
        plain = correlation(x, y)[0]
        assert correlation(x[order], y[order])[0] == pytest.approx(plain, rel=1e-9, abs=1e-9, nan_ok=True)
        assert correlation(scale * x + shift, y)[0] == pytest.approx(plain, rel=1e-6, abs=1e-6, nan_ok=True)
        assert correlation(-scale * x, y)[0] == pytest.approx(-plain, rel=1e-6, abs=1e-6, nan_ok=True)
        assert correlation(y, x)[0] == pytest.approx(plain, rel=1e-9, abs=1e-9, nan_ok=True)
    for rank in (spearman, kendall):  # any increasing function
        assert rank(np.exp(x), y)[0] == pytest.approx(rank(x, y)[0], rel=1e-12, abs=1e-12, nan_ok=True)


def test_a_constant_is_seen_despite_rounding():
    # the mean of three times 0.1 is not 0.1, so a computed variance would not be 0
    for correlation in KINDS.values():
        assert np.isnan(correlation(np.full(3, 0.1), np.array([1.0, 2.0, 3.0]))[0])
        assert np.isnan(correlation(np.full(4, 0.5), np.full(4, 0.25))[0])


def test_minus_infinity_ranks_last_and_ties_with_itself():
    x, y = np.array([3.0, -np.inf, 1.0, -np.inf]), np.array([4.0, 2.0, 3.0, 1.0])
    for rank, theirs in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        assert rank(x, y)[0] == pytest.approx(theirs([2, 0, 1, 0], y).statistic, rel=1e-12)


def test_extreme_magnitudes():
    assert pearson(R * 1e-200, S * 1e200)[0] == pytest.approx(pearson(R, S)[0], rel=1e-12)


@pytest.mark.parametrize(
    ("r", "n", "low", "high"),
    [(0.95, 4, -0.13, 0.999), (0.9, 8, 0.53, 0.98), (0.9, 12, 0.67, 0.97), (0.95, 20, 0.876, 0.980)],
)
def test_fisher_known_answers(r, n, low, high):
    digits = 0.005 if n < 20 else 0.0005
    assert fisher_interval(r, n) == pytest.approx((low, high), abs=digits)


def test_fisher_equals_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9))
    theirs = stats.pearsonr(x, y).confidence_interval(0.9)
    assert fisher_interval(pearson(x, y)[0], 9, level=0.9) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert correlation_interval(x, y, level=0.9) == fisher_interval(pearson(x, y)[0], 9, level=0.9)


def test_fisher_limits():
    assert fisher_interval(0.5, 3) is None
    assert fisher_interval(0.5, 4, "kendall") is None
    assert fisher_interval(1.0, 8) == (1.0, 1.0)
    for kind in ("spearman", "kendall"):
        perfect = fisher_interval(1.0, 8, kind)
        assert perfect.high == 1.0
        assert 0.6 < perfect.low < 0.9  # perfect ranks of eight are no proof of perfect ranks
        assert fisher_interval(-1.0, 8, kind) == (-1.0, -perfect.low)
    with pytest.raises(ValueError, match="unknown correlation"):
        fisher_interval(0.5, 8, "phi")
    with pytest.raises(ValueError, match="between -1 and 1"):
        fisher_interval(1.5, 8)


def test_resampled_intervals():
    x = np.random.default_rng(1).normal(size=10)
    y = x + np.random.default_rng(2).normal(size=10)
    for kind, correlation in KINDS.items():
        low, high = resampled_interval(x, y, kind)
        assert -1 <= low < correlation(x, y)[0] < high <= 1
        wide = correlation_interval(x, y, kind)
        assert wide.low <= correlation(x, y)[0] <= wide.high
        if kind != "pearson":
            assert wide.low <= low
            assert wide.high >= high
            assert wide.low <= fisher_interval(float(correlation(x, y)[0]), 10, kind).low
        assert correlation_interval(x, np.zeros(10), kind) is None
        assert resampled_interval(x, np.zeros(10), kind) is None
        assert correlation_interval(x[:3], y[:3], kind) is None
    # of two items every fourth resample twice holds the same one: nothing is known
    assert resampled_interval(x[:2], y[:2]) == (-1.0, 1.0)
    assert resampled_interval(x[:1], y[:1]) is None


def test_permutation_p_is_exact_for_few_items():
    assert permutation_p(np.arange(3), np.arange(3)) == (1 / 6, 1 / 6)
    assert permutation_p(np.arange(8.0), np.arange(8.0) ** 3, "spearman") == pytest.approx((1 / 40320, 1 / 40320))
    assert permutation_p(np.arange(4), -np.arange(4), "kendall") == (1.0, 1 / 24)
    # two pairs tie: four of the 24 orders are the same
    assert permutation_p(np.array([1, 1, 2, 2]), np.array([1, 1, 2, 2]))[1] == pytest.approx(4 / 24)
    for kind, correlation in KINDS.items():
        every = [correlation(S, np.array(p))[0] for p in itertools.permutations(R)]
        expected = np.mean(np.array(every) >= correlation(S, R)[0] - 1e-12)
        assert permutation_p(S, R, kind)[0] == pytest.approx(expected)
        assert permutation_p(S, np.ones(4), kind) is None


def test_permutation_p_of_many_items():
    rng = np.random.default_rng(3)
    x = rng.normal(size=20)
    y = 0.6 * x + rng.normal(size=20)
    for kind in KINDS:
        p, floor = permutation_p(x, y, kind)
        assert floor == 1e-4
        assert p == pytest.approx(SCIPY[kind](x, y, alternative="greater").pvalue, abs=0.01)
    assert permutation_p(x, x) == (1e-4, 1e-4)


def test_sign_flip_equals_scipys_permutation_test():
    x = np.array([0.3, -0.1, 0.7, 0.2, 0.0, 0.5, -0.2])
    theirs = stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf)
    p, floor = sign_flip_p(x)
    assert p == pytest.approx(theirs.pvalue)
    assert floor == 2.0**-5
    assert sign_flip_p(np.ones(6)) == (2 / 64, 2 / 64)
    assert sign_flip_p(np.zeros(4)) == (1.0, 1.0)
    assert sign_flip_p(-x) == (p, floor)
    assert sign_flip_p(1e-9 * x) == (p, floor)
    many = np.random.default_rng(4).normal(0.3, 1, size=60)
    p, floor = sign_flip_p(many)
    assert floor == 1e-4
    assert p == pytest.approx(stats.ttest_1samp(many, 0).pvalue, abs=0.01)


def test_slope_equals_scipys():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 9))
    theirs = stats.linregress(x, y)
    slope, (low, high) = slope_interval(x, y)
    half = stats.t.ppf(0.975, 7) * theirs.stderr
    assert slope == pytest.approx(theirs.slope, rel=1e-12)
    assert (low, high) == pytest.approx((slope - half, slope + half), rel=1e-10)
    assert slope_interval(np.array([0.0, 1.0]), np.array([0.0, 2.0])) == (2.0, None)
