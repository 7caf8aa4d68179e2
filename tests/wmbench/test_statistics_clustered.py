"""Intervals of clustered items: limits, and coverage by simulation where a percentile bootstrap fails."""

import numpy as np
import pytest
from scipy import special, stats

from wmbench.statistics import bootstrap
from wmbench.statistics.calibration import LEVELS, coverage_sums, gaussian_centrality
from wmbench.statistics.clustered import (
    auroc_interval,
    jackknife,
    logit_interval,
    norm_interval,
    proportion_interval,
)
from wmbench.statistics.selective import Ranking

SIZES = ((10, 40), (50, 8))
"""Episodes, and items in each."""


def noise(rng, clusters, items, shared):
    """Standard normal items of which a share is common to a cluster, and their clusters."""
    cluster = np.repeat(np.arange(clusters), items)
    common, own = rng.normal(size=clusters)[cluster], rng.normal(size=clusters * items)
    return np.sqrt(shared) * common + np.sqrt(1 - shared) * own, cluster


def covered(trials, truth, interval):
    """Share of trials in which an interval holds the truth."""
    hits = 0
    for trial in range(trials):
        low, high = interval(np.random.default_rng(trial), trial)
        hits += low - 1e-12 <= truth <= high + 1e-12
    return hits / trials


def test_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(0).normal(size=15)
    value, error = jackknife(lambda w: w @ x / w.sum(1), 15)
    assert value == pytest.approx(x.mean(), rel=1e-12)
    assert error == pytest.approx(stats.sem(x), rel=1e-12)


def test_proportion_limits():
    ones = np.ones(20)
    p = proportion_interval(np.arange(20) % 2, ones)
    drawn = bootstrap(lambda w: w @ (np.arange(20) % 2) / w.sum(1), 20, bounds=(0.0, 1.0))
    n, t = 20 / (20 / 19), special.stdtrit(19, 0.975)  # the jackknife divides by n - 1: a design effect of 20 / 19
    half = t / (1 + t * t / n) * np.sqrt(0.25 / n + t * t / (4 * n * n))
    assert p == pytest.approx((min(0.5 - half, drawn.low), max(0.5 + half, drawn.high)), rel=1e-12)
    none = proportion_interval(0 * ones, ones)
    assert none == pytest.approx((0.0, t * t / 20 / (1 + t * t / 20)), rel=1e-12)
    assert proportion_interval(0 * ones, 5 * ones).low == 0.0
    assert proportion_interval(5 * ones, 5 * ones).high == 1.0
    # a thousand items of one episode say no more than that episode
    few = proportion_interval(np.array([100, 0, 100, 0]), np.full(4, 100))
    assert few.low < 0.15
    assert few.high > 0.85
    assert proportion_interval(np.array([1, 1]), np.array([2, 0])) is None
    with_empty = proportion_interval(np.array([1, 0, 2]), np.array([2, 0, 2]))
    assert with_empty == proportion_interval(np.array([1, 2]), np.array([2, 2]))


@pytest.mark.parametrize("rate", [0.5892, 0.9, 0.99])
def test_proportion_covers(rate):
    shares = []
    for clusters, items in SIZES:
        for shared in (0.0, 0.5):

            def interval(rng, trial, c=clusters, n=items, s=shared):
                z, cluster = noise(rng, c, n, s)
                inside = np.bincount(cluster, z < special.ndtri(rate), minlength=c)
                return proportion_interval(inside, np.full(c, n), resamples=200, seed=trial)

            shares.append(covered(200, rate, interval))
    assert np.mean(shares) >= 0.94
    assert min(shares) >= 0.90


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5, 4.0])
def test_auroc_covers_even_near_one(shift):
    truth = special.ndtr(shift / np.sqrt(2))
    shares = []
    for clusters, items in SIZES:
        for shared in (0.0, 0.2):

            def interval(rng, _, c=clusters, n=items, s=shared):
                z, cluster = noise(rng, c, n, s)
                positive = z > special.ndtri(0.9)
                u = noise(rng, c, n, s)[0] + shift * positive
                return auroc_interval(Ranking(u, cluster), positive)

            shares.append(covered(150, truth, interval))
    assert np.mean(shares) >= 0.94
    assert min(shares) >= 0.90


def test_auroc_limits():
    positive = np.arange(40) % 2 == 0
    for sign, end in ((1, "high"), (-1, "low")):
        ranking = Ranking(sign * positive.astype(float), np.arange(40) // 4)
        interval = auroc_interval(ranking, positive)
        assert getattr(interval, end) == (1.0 if sign > 0 else 0.0)
        assert 0.05 < interval.high - interval.low < 0.3  # a bootstrap would say 0
        copies = Ranking(np.tile(sign * positive.astype(float), 9), np.tile(np.arange(40) // 4, 9))
        assert auroc_interval(copies, np.tile(positive, 9)) == interval
    assert auroc_interval(Ranking(np.arange(10), np.zeros(10)), np.arange(10) > 5) is None


def test_logit_limits_and_transformation():
    x = np.linspace(0.2, 0.4, 12)

    def mean(w):
        return w @ x / w.sum(1)

    t = special.stdtrit(11, 0.975) * stats.sem(x) / (0.3 * 0.7)
    low, high = special.expit(special.logit(0.3) + np.array([-t, t]))
    drawn = bootstrap(mean, 12)
    assert logit_interval(mean, 12) == pytest.approx((min(low, drawn.low), max(high, drawn.high)), rel=1e-9)
    assert logit_interval(lambda w: 0.0 * w[:, 0], 12) is None
    assert logit_interval(lambda w: w[:, 0], 1) is None


@pytest.mark.parametrize("name", ["aurc", "augrc"])
def test_risk_areas_cover(name):
    # a score that correlates with the error, of which a tenth counts
    truth = {"aurc": 0.0203, "augrc": 0.0163}[name]  # of 400,000 independent items
    shares = []
    for clusters, items in SIZES:
        for shared in (0.0, 0.4):

            def interval(rng, trial, c=clusters, n=items, s=shared):
                z, cluster = noise(rng, c, n, s)
                u = (z + noise(rng, c, n, s)[0]) / np.sqrt(2)
                ranking, loss = Ranking(u, cluster), (z > special.ndtri(0.9)).astype(float)
                area = getattr(ranking, name)
                return logit_interval(lambda w: area(loss, w), c, resamples=200, seed=trial)

            shares.append(covered(150, truth, interval))
    assert np.mean(shares) >= 0.94
    assert min(shares) >= 0.90


@pytest.mark.parametrize("sigma", [0.8, 1.0, 1.2])
def test_calibration_error_covers_even_at_zero(sigma):
    truth = np.abs(2 * special.ndtr(sigma * special.ndtri(0.5 + LEVELS / 2)) - 1 - LEVELS).mean()
    shares = []
    for clusters, items in SIZES:
        for shared in (0.0, 0.4):

            def interval(rng, trial, c=clusters, n=items, s=shared):
                z, cluster = noise(rng, c, n, s)
                inside = coverage_sums(gaussian_centrality(z / sigma), LEVELS, cluster)

                def gap(w):
                    return w @ inside / (w.sum(1) * n)[:, None] - LEVELS

                return norm_interval(gap, lambda g: np.abs(g).mean(-1), c, resamples=200, seed=trial)

            shares.append(covered(150, truth, interval))
    assert np.mean(shares) >= 0.94
    assert min(shares) >= 0.89


def test_a_percentile_interval_of_a_norm_misses_zero():
    z, cluster = noise(np.random.default_rng(1), 20, 20, 0.0)
    inside = coverage_sums(gaussian_centrality(z), LEVELS, cluster)

    def gap(w):
        return w @ inside / (w.sum(1) * 20)[:, None] - LEVELS

    assert bootstrap(lambda w: np.abs(gap(w)).mean(-1), 20, method="percentile").low > 0
    assert norm_interval(gap, lambda g: np.abs(g).mean(-1), 20).low == 0
    assert norm_interval(gap, lambda g: np.abs(g).mean(-1), 1) is None
