"""Known answers, limits and coverage of the statistics that measures share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wmbench.statistics import (
    agresti_caffo,
    bootstrap,
    bootstrap_interval,
    clopper_pearson,
    iqm,
    mean_survival,
    median_survival,
    needed_for_quantile,
    optimality_gap,
    probability_of_improvement,
    quantile_interval,
    resample_weights,
    survival_curve,
    wilson,
)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(0, 20, 0.0, 0.161125), (45, 50, 0.786398, 0.956524), (180, 200, 0.850594, 0.934330)]
)
def test_wilson_known_answers(k, n, low, high):
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-7)


@pytest.mark.parametrize(("k", "n", "low", "high"), [(0, 20, 0.0, 0.168433), (45, 50, 0.781865, 0.966725)])
def test_clopper_pearson_known_answers(k, n, low, high):
    assert clopper_pearson(k, n) == pytest.approx((low, high), abs=5e-7)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95]))
def test_proportions_equal_scipy(counts, level):
    k, n = counts
    test = stats.binomtest(k, n)
    for ours, name in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = test.proportion_ci(level, method=name)
        assert ours(k, n, level) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)
        low, high = ours(k, n, level)
        assert 0 <= low <= k / n <= high <= 1


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((14, 30, 22, 30), -0.483, -0.017),
        ((30, 30, 24, 30), 0.032, 0.343),
        ((10, 10, 0, 10), 0.612, 1.0),
        ((5, 150, 4, 150), -0.035, 0.049),
    ],
)
def test_agresti_caffo_known_answers(counts, low, high):
    assert agresti_caffo(*counts) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(("k", "n", "level"), [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 0.0)])
def test_impossible_counts_are_refused(k, n, level):
    for call in (wilson, clopper_pearson, lambda *a: agresti_caffo(1, 2, *a)):
        with pytest.raises(ValueError, match=r"expected|level"):
            call(k, n, level)


def test_wilson_covers_what_it_promises():
    p = np.linspace(0.001, 0.999, 999)
    for n, least in ((20, 0.915), (50, 0.91)):
        ends = np.array([wilson(k, n) for k in range(n + 1)])
        inside = (ends[:, :1] <= p) & (p <= ends[:, 1:])  # (n + 1, P)
        covered = (stats.binom.pmf(np.arange(n + 1)[:, None], n, p) * inside).sum(0)
        assert covered.mean() >= 0.945
        middle = (p > 0.05) & (p < 0.95)
        assert covered[middle].min() >= least


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_quantile_interval_covers_what_it_promises(q):
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(600, 90))
    truth = -np.log(1 - q)
    hits = [(i := quantile_interval(row, q)).low <= truth <= i.high for row in draws]
    assert np.mean(hits) >= 0.935


def test_quantile_interval_equals_scipy_and_needs_enough_data():
    values = np.random.default_rng(1).normal(size=101)
    theirs = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    assert quantile_interval(values, 0.5) == pytest.approx((theirs.low, theirs.high))
    assert quantile_interval(np.arange(5.0), 0.5) is None
    assert quantile_interval(np.arange(6.0), 0.5) == (0.0, 5.0)
    assert quantile_interval(np.array([]), 0.5) is None


def test_sample_sizes_of_mlperf_early_stopping():
    table = {0: (44, 90, 459, 4603), 1: (64, 130, 662, 6636), 10: (197, 398, 2010, 20140)}
    for tolerated, row in table.items():
        assert tuple(needed_for_quantile(q, tolerated) for q in (0.9, 0.95, 0.99, 0.999)) == row


def test_bootstrap_is_deterministic_and_a_matter_of_clusters():
    values = np.random.default_rng(2).normal(size=12)
    assert bootstrap_interval(values) == bootstrap_interval(values.copy())
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
    weights = resample_weights(12)
    assert weights.shape == (2000, 12)
    assert (weights.sum(1) == 12).all()
    # repeating every item within its cluster adds no information
    sums, counts = 7 * values, np.full(12, 7.0)
    assert bootstrap(lambda w: (w @ sums) / (w @ counts), 12) == pytest.approx(bootstrap_interval(values))


@pytest.mark.parametrize(("n", "least"), [(10, 0.93), (20, 0.93), (50, 0.93)])
def test_bootstrap_of_a_mean_covers_what_it_promises(n, least):
    rng = np.random.default_rng(3)
    for method in ("studentised", "percentile", "bca"):
        hits = 0
        for trial in range(400):
            x = rng.normal(size=n)
            low, high = bootstrap(
                lambda w, x=x: w @ x / w.sum(1), n, seed=trial, method=method, resamples=500
            )  # every trial its own weights
            hits += low <= 0 <= high
        assert hits / 400 >= least - (0.02 if method == "bca" else 0)


def test_bca_follows_skewness():
    x = np.random.default_rng(4).exponential(size=30)
    plain = bootstrap(lambda w: w @ x / w.sum(1), 30, method="percentile")
    skewed = bootstrap(lambda w: w @ x / w.sum(1), 30, method="bca")
    assert skewed.low > plain.low
    assert skewed.high > plain.high


def test_the_studentised_bootstrap_follows_skewness_and_covers_what_the_percentile_does_not():
    rng = np.random.default_rng(4)
    hits = {"studentised": 0, "percentile": 0}
    for trial in range(400):
        x = rng.exponential(size=10)
        for method in hits:
            low, high = bootstrap(lambda w, x=x: w @ x / w.sum(1), 10, seed=trial, method=method, resamples=500)
            hits[method] += low <= 1 <= high
    assert hits["studentised"] / 400 >= 0.92  # 0.935 in the long run
    assert hits["studentised"] >= hits["percentile"] + 6
    x = rng.exponential(size=30)
    plain, wide = (bootstrap(lambda w: w @ x / w.sum(1), 30, method=m) for m in ("percentile", "studentised"))
    assert wide.low <= plain.low
    assert wide.high > plain.high
    # the largest of several equal means: its resamples lie above it, as it lies above the truth
    many = rng.normal(size=(20, 5))
    plain, wide = (bootstrap(lambda w: (w @ many / 20).max(1), 20, method=m) for m in ("percentile", "studentised"))
    assert wide.low < plain.low
    # beyond the bounds of what can be, there is nothing
    assert bootstrap(lambda w: w @ x / w.sum(1), 30, bounds=(1.0, 1.1)) == (1.0, 1.1)
    many = rng.exponential(size=500)
    assert bootstrap(lambda w: w @ many / 500, 500) == bootstrap(lambda w: w @ many / 500, 500, method="percentile")
    sums = [0.0, 0, 0, 0, 0, 1]  # most resamples of five or six equal items have no spread of their own
    assert np.isfinite(bootstrap_interval(np.array(sums))).all()


def test_bootstrap_limits():
    assert bootstrap_interval(np.array([1.0])) is None
    assert bootstrap_interval(np.full(5, 3.0)) == (3.0, 3.0)
    assert bootstrap(lambda w: np.full(len(w), 2.0), 5, method="bca") == (2.0, 2.0)
    assert bootstrap(lambda w: np.where(w[:, 0] > 1, np.inf, w[:, 0]), 5).high == np.inf
    with pytest.raises(ValueError, match="NaN"):
        bootstrap(lambda w: np.full(len(w), np.nan), 5)
    with pytest.raises(ValueError, match="method"):
        bootstrap(lambda w: w[:, 0], 5, method="magic")


def test_kaplan_meier_equals_scipy():
    rng = np.random.default_rng(5)
    times = rng.integers(1, 30, size=80)
    observed = rng.random(80) < 0.6
    ours = survival_curve(times, observed, np.ones((1, 80)), 30)[0]
    data = stats.CensoredData(uncensored=times[observed], right=times[~observed])
    theirs = stats.ecdf(data).sf
    assert ours == pytest.approx(theirs.evaluate(np.arange(31)), abs=1e-12)


def test_kaplan_meier_known_answer_and_weights():
    # Events at 1 and 3, censored at 2 and 4: S = 1, 3/4, 3/4, 3/8, 3/8
    times, observed = np.array([1, 2, 3, 4]), np.array([True, False, True, False])
    curve = survival_curve(times, observed, np.ones((1, 4)), 5)
    assert curve[0] == pytest.approx([1, 0.75, 0.75, 0.375, 0.375, 0.375])
    assert median_survival(curve)[0] == 3
    assert mean_survival(curve)[0] == pytest.approx(1 + 0.75 + 0.75 + 0.375 + 0.375)
    doubled = survival_curve(np.repeat(times, 2), np.repeat(observed, 2), np.ones((1, 8)), 5)
    assert survival_curve(times, observed, np.full((1, 4), 2.0), 5) == pytest.approx(doubled)
    never = survival_curve(times, np.zeros(4, bool), np.ones((1, 4)), 5)
    assert median_survival(never)[0] == np.inf
    assert mean_survival(never)[0] == 5
    # an item that was never looked at (time 0) counts nowhere
    more = survival_curve(np.append(times, 0), np.append(observed, False), np.ones((1, 5)), 5)
    assert more == pytest.approx(curve)


def test_median_survival_reaches_one_half_despite_rounding():
    times = np.repeat(np.arange(1, 7), 1)
    curve = survival_curve(times, np.ones(6, bool), np.ones((1, 6)), 6)
    assert median_survival(curve)[0] == 3  # S(3) = 5/6 * 4/5 * 3/4, one half but for rounding


def test_aggregates_known_answers():
    assert iqm(np.arange(1, 9)) == 4.5
    assert iqm(np.array([0, 0, 0, 1, 1, 1, 1, 10])) == 0.75
    assert iqm(np.array([3.0])) == 3.0
    assert probability_of_improvement(np.array([1, 2, 3]), np.array([2, 2, 4])) == pytest.approx(1 / 3)
    assert optimality_gap(np.array([0.5, 2.0])) == 0.25
    x, y = np.random.default_rng(6).normal(size=(2, 9))
    assert iqm(x) == pytest.approx(stats.trim_mean(x, 0.25), rel=1e-12)
    u = stats.mannwhitneyu(x, y).statistic / 81
    assert probability_of_improvement(x, y) == pytest.approx(u, rel=1e-12)
    assert probability_of_improvement(x, x) == 0.5
    for bad in (np.array([]), np.array([1.0, np.nan])):
        for call in (iqm, optimality_gap, lambda a: probability_of_improvement(a, a)):
            with pytest.raises(ValueError, match="finite"):
                call(bad)
