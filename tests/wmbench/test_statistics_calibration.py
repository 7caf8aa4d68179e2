"""Calibration: known answers, uncertainty-toolbox, exact coverage of ranks, and the parts of the Brier score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wmbench.statistics.calibration import (
    LEVELS,
    Reliability,
    binomial_deviation,
    calibration_error,
    coverage_sums,
    gaussian_centrality,
    miscalibration_area,
    rms_calibration_error,
    sample_centrality,
    sample_levels,
)


def observed(z, levels=LEVELS):
    """Coverage of standardised residuals, (L,)."""
    return coverage_sums(gaussian_centrality(z), levels, np.zeros(len(z), dtype=int))[0] / len(z)


@pytest.mark.parametrize(("stated", "picp", "ece"), [(0.5, 0.5892, 0.2063), (1.0, 0.9, 0.0), (2.0, 0.9990, 0.2069)])
def test_gaussian_with_the_wrong_sigma(stated, picp, ece):
    exact = 2 * stats.norm.cdf(stated * stats.norm.ppf(0.5 + LEVELS / 2)) - 1
    assert exact[89] == pytest.approx(picp, abs=5e-5)
    assert calibration_error(LEVELS, exact) == pytest.approx(ece, abs=5e-5)
    truth = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)  # every quantile of the truth once
    assert observed(truth / stated) == pytest.approx(exact, abs=1e-5)


def test_central_intervals_equal_uncertainty_toolbox():
    uct = pytest.importorskip("uncertainty_toolbox")
    rng = np.random.default_rng(0)
    y, mean, std = rng.normal(size=300), 0.2 * rng.normal(size=300), rng.uniform(0.5, 2, size=300)
    curve = observed((y - mean) / std)
    _, theirs = uct.get_proportion_lists_vectorized(mean, std, y, num_bins=101, prop_type="interval")
    assert curve == pytest.approx(theirs[1:-1], abs=1e-12)
    # theirs also averages the levels 0 and 1, where every forecast is right
    options = {"num_bins": 101, "prop_type": "interval"}
    mace = uct.mean_absolute_calibration_error(mean, std, y, **options)
    rmsce = uct.root_mean_squared_calibration_error(mean, std, y, **options)
    assert calibration_error(LEVELS, curve) * 99 / 101 == pytest.approx(mace, rel=1e-12)
    assert rms_calibration_error(LEVELS, curve) * np.sqrt(99 / 101) == pytest.approx(rmsce, rel=1e-12)
    assert miscalibration_area(LEVELS, curve) == pytest.approx(
        uct.miscalibration_area(mean, std, y, **options), rel=1e-12
    )


def test_miscalibration_area_known_answers():
    levels = np.array([0.5])
    assert miscalibration_area(levels, np.array([0.5])) == 0.0
    assert miscalibration_area(levels, np.array([1.0])) == pytest.approx(0.25)  # triangle (0,0) (.5,1) (1,1)
    # two levels, gaps +.1 and -.1: the curve crosses half way between them
    crossed = miscalibration_area(np.array([0.25, 0.75]), np.array([0.35, 0.65]))
    assert crossed == pytest.approx(0.5 * 0.25 * 0.1 + 2 * 0.5 * 0.25 * 0.1 + 0.5 * 0.25 * 0.1)
    assert miscalibration_area(LEVELS, np.zeros((3, 99))).shape == (3,)
    assert miscalibration_area(LEVELS, np.zeros(99)) == pytest.approx(0.5 * 0.99**2 + 0.5 * 0.01 * 0.99)


def test_what_is_infinitely_far_lies_outside_every_interval():
    assert (observed(np.array([np.inf, -np.inf])) == 0).all()
    assert (observed(np.zeros(3)) == 1).all()


@pytest.mark.parametrize("m", [2, 3, 9, 10, 39])
def test_coverage_of_ranks_is_exactly_nominal_for_any_number_of_draws(m):
    # every one of the m + 1 ranks once
    draws = np.arange(m)[:, None] + np.zeros(m + 1)
    truth = np.arange(m + 1) - 0.5
    levels = sample_levels(m)
    sums = coverage_sums(sample_centrality(draws, truth), levels, np.zeros(m + 1, dtype=int))[0]
    assert sums / (m + 1) == pytest.approx(levels, abs=1e-12)
    assert levels[0] > 0
    assert levels[-1] < 1
    if m == 39:
        assert levels == pytest.approx(np.arange(1, 20) / 20)


def test_coverage_of_draws_of_the_right_distribution():
    rng = np.random.default_rng(2)
    levels = sample_levels(39)
    centrality = sample_centrality(rng.exponential(size=(39, 20_000)), rng.exponential(size=20_000))
    coverage = coverage_sums(centrality, levels, np.zeros(20_000, dtype=int))[0] / 20_000
    assert coverage == pytest.approx(levels, abs=0.015)
    # draws that all hit the truth hold it in every interval, draws that all miss it in none
    assert sample_centrality(np.ones((5, 1)), np.ones(1))[0] == pytest.approx(1 / 6)
    assert sample_centrality(np.ones((5, 1)), np.full(1, 2.0))[0] == 1.0


def test_coverage_is_counted_by_cluster():
    centrality, cluster = np.array([0.05, 0.5, 0.9, 1.0]), np.array([0, 1, 1, 0])
    sums = coverage_sums(centrality, np.array([0.1, 0.5, 0.95]), cluster)
    assert sums.tolist() == [[1, 1, 1], [0, 1, 2]]


def test_brier_known_answers():
    sums = Reliability.of(np.array([0.0, 1.0, 0.5, 0.5]), np.array([False, True, True, False]))
    assert sums.brier[0] == 0.125
    assert sums.ece[0] == 0.0
    assert sums.base_rate[0] == 0.5
    assert sums.sharpness[0] == pytest.approx(0.125)
    assert [float(p[0]) for p in sums.parts] == pytest.approx([0.0, 0.125, 0.25])
    wrong = Reliability.of(np.array([1.0, 1.0]), np.array([False, False]))
    assert (wrong.brier[0], wrong.ece[0]) == (1.0, 1.0)
    assert wrong.ece_if_calibrated[0] == 0.0
    marginal = Reliability.of(np.full(10, 0.3), np.arange(10) < 3)  # the trivial optimum of calibration
    assert marginal.ece[0] == pytest.approx(0.0, abs=1e-12)
    assert marginal.sharpness[0] == pytest.approx(0.0, abs=1e-12)
    assert marginal.parts[1][0] == pytest.approx(0.0, abs=1e-12)
    assert marginal.brier[0] == pytest.approx(0.21)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=60))
def test_parts_add_up_to_the_brier_score_where_a_bin_has_one_probability(items):
    p = np.array([i for i, _ in items]) / 10
    y = np.array([b for _, b in items])
    sums = Reliability.of(p, y, bins=11)
    reliability, resolution, uncertainty = (float(part[0]) for part in sums.parts)
    assert sums.brier[0] == pytest.approx(reliability - resolution + uncertainty, abs=1e-12)
    assert sums.brier[0] == pytest.approx(((p - y) ** 2).mean(), abs=1e-12)


def test_the_expected_error_of_a_calibrated_forecast_equals_the_binomial_sum():
    p = np.concatenate([np.full(7, 0.05), np.full(5, 0.42), np.full(1, 0.99), np.zeros(3)])
    expected = 0.0
    for n, q in ((10, 7 * 0.05 / 10), (5, 0.42), (1, 0.99)):  # .05 and 0 share the first bin
        k = np.arange(n + 1)
        expected += (stats.binom.pmf(k, n, q) * np.abs(k - n * q)).sum()
    sums = Reliability.of(p, np.zeros(16, dtype=bool))
    assert sums.ece_if_calibrated[0] == pytest.approx(expected / 16, rel=1e-12)


def test_binomial_deviation_known_answers():
    assert binomial_deviation(1, 0.5) == pytest.approx(0.5)
    assert binomial_deviation(2, 0.5) == pytest.approx(0.25)
    assert binomial_deviation(10, np.array([0.0, 1.0])).tolist() == [0.0, 0.0]
    assert binomial_deviation(10_000, 0.3) == pytest.approx(np.sqrt(2 / np.pi * 0.21 / 10_000), rel=1e-3)


def test_weights_stand_for_repeated_clusters():
    rng = np.random.default_rng(3)
    p, y, cluster = rng.random(30), rng.random(30) < 0.5, np.repeat([0, 1, 2], 10)
    sums = Reliability.of(p, y, cluster).weighted(np.array([[2.0, 0.0, 1.0]]))
    rows = np.concatenate([np.arange(10), np.arange(10), np.arange(20, 30)])
    direct = Reliability.of(p[rows], y[rows])
    for name in ("n", "brier", "ece", "sharpness", "base_rate", "ece_if_calibrated"):
        assert getattr(sums, name) == pytest.approx(getattr(direct, name), rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1, np.inf])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(ValueError, match="probabilities"):
        Reliability.of(np.array([0.5, bad]), np.array([True, False]))
