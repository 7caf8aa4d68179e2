"""Proper scores: known answers, an independent implementation, and what a proper score must prefer."""

import math

import numpy as np
import pytest
from scipy import stats

from wmbench.statistics.scoring import gaussian_crps, gaussian_nll, sample_crps


@pytest.mark.parametrize(
    ("mean", "std", "truth", "crps", "nll"),
    [
        (0, 1, 0, (math.sqrt(2) - 1) / math.sqrt(math.pi), 0.5 * math.log(2 * math.pi)),
        (0, 1, 1, 0.602441358, 0.5 * math.log(2 * math.pi) + 0.5),
        (2, 3, -1, 1.807324073, 2.517550822),
    ],
)
def test_gaussian_known_answers(mean, std, truth, crps, nll):
    assert gaussian_crps(mean, std, truth) == pytest.approx(crps, abs=5e-10)
    assert gaussian_nll(mean, std, truth) == pytest.approx(nll, abs=5e-10)
    if mean == 0 and truth == 0:  # closed forms, exact
        assert gaussian_crps(mean, std, truth) == pytest.approx(crps, rel=1e-12)
        assert gaussian_crps(0.0, 1.0, 0.0) == pytest.approx(0.233694977, abs=5e-10)
        assert gaussian_nll(0.0, 1.0, 0.0) == pytest.approx(0.918938533, abs=5e-10)


def test_gaussian_scores_equal_uncertainty_toolbox_and_scipy():
    uct = pytest.importorskip("uncertainty_toolbox")
    rng = np.random.default_rng(0)
    mean, truth, std = rng.normal(size=200), rng.normal(size=200), rng.uniform(0.1, 3, size=200)
    assert gaussian_crps(mean, std, truth).mean() == pytest.approx(uct.crps_gaussian(mean, std, truth), rel=1e-12)
    assert gaussian_nll(mean, std, truth).mean() == pytest.approx(uct.nll_gaussian(mean, std, truth), rel=1e-12)
    assert gaussian_nll(mean, std, truth) == pytest.approx(-stats.norm(mean, std).logpdf(truth), rel=1e-12)


def test_crps_of_a_narrow_gaussian_is_the_absolute_error_and_scales_with_the_unit():
    assert gaussian_crps(2.0, 1e-9, 5.0) == pytest.approx(3.0, rel=1e-8)
    assert gaussian_crps(20.0, 30.0, -10.0) == pytest.approx(10 * gaussian_crps(2.0, 3.0, -1.0), rel=1e-12)
    assert gaussian_nll(20.0, 30.0, -10.0) == pytest.approx(math.log(10) + gaussian_nll(2.0, 3.0, -1.0), rel=1e-12)


@pytest.mark.parametrize("std", [0.0, -1.0, np.nan, np.inf])
def test_a_standard_deviation_must_be_positive(std):
    for score in (gaussian_nll, gaussian_crps):
        with pytest.raises(ValueError, match="positive"):
            score(0.0, std, 0.0)


def test_sample_crps_known_answers():
    assert sample_crps(np.array([0.0, 1.0]), 0.0) == 0.0  # 1/2 - 1/2 * 1
    assert sample_crps(np.array([3.0, 3.0, 3.0]), 1.0) == 2.0  # a point: the absolute error
    assert sample_crps(np.array([0.0, 1.0, 3.0]), 2.0) == pytest.approx(4 / 3 - 1.0)  # pairs 1, 3, 2: mean 2
    with pytest.raises(ValueError, match="two draws"):
        sample_crps(np.zeros((1, 4)), np.zeros(4))


def test_sample_crps_equals_the_double_sum():
    rng = np.random.default_rng(1)
    draws, truth = rng.normal(size=(7, 3, 2)), rng.normal(size=(3, 2))
    pairs = np.abs(draws[:, None] - draws[None]).sum((0, 1)) / (7 * 6)
    expected = np.abs(draws - truth).mean(0) - 0.5 * pairs
    assert sample_crps(draws, truth) == pytest.approx(expected, rel=1e-12)
    assert sample_crps(rng.permutation(draws), truth) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("m", [2, 5, 20])
def test_the_fair_estimator_does_not_depend_on_the_number_of_draws(m):
    rng = np.random.default_rng(m)
    truth, draws = 0.7, rng.normal(size=(m, 200_000))
    score = sample_crps(draws, np.full(200_000, truth))
    assert score.mean() == pytest.approx(gaussian_crps(0.0, 1.0, truth), abs=4 * score.std() / math.sqrt(200_000))


def test_scores_are_proper_the_true_sigma_wins():
    truth = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    for score in (gaussian_nll, gaussian_crps):
        means = [score(0.0, sigma, truth).mean() for sigma in (0.5, 0.8, 1.0, 1.25, 2.0)]
        assert np.argmin(means) == 2
