"""Scores of tasks and runs: known answers, rliable, SciPy, coverage with few runs."""

import numpy as np
import pytest
from rliable import metrics
from scipy import stats

from wmbench.statistics import (
    improvement,
    iqm,
    iqm_rows,
    optimality_gap,
    probability_of_improvement,
    t_interval,
    welch_interval,
)
from wmbench.statistics import stratified_interval as interval
from wmbench.statistics.stratified import skewed_interval

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(4, 6)) * 0.1 + np.arange(4)[:, None]  # (tasks, runs)
OTHERS = RNG.normal(size=(4, 5)) * 0.1 + np.arange(4)[:, None]


def test_points_equal_rliables():
    assert iqm_rows(SCORES.reshape(1, -1))[0] == pytest.approx(metrics.aggregate_iqm(SCORES.T), rel=1e-12)
    assert iqm(SCORES) == pytest.approx(metrics.aggregate_iqm(SCORES.T), rel=1e-12)
    assert optimality_gap(SCORES, 1.3) == pytest.approx(metrics.aggregate_optimality_gap(SCORES.T, 1.3), rel=1e-12)
    theirs = metrics.probability_of_improvement(SCORES.T, OTHERS.T)
    assert improvement(list(SCORES), list(OTHERS))[0] == pytest.approx(theirs, rel=1e-12)
    one = probability_of_improvement(SCORES[0], OTHERS[0])
    assert improvement([SCORES[0]], [OTHERS[0]])[0] == pytest.approx(one, rel=1e-12)


def test_known_answers():
    assert iqm_rows(np.array([[1.0, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 1, 1, 1, 1, 10]])).tolist() == [4.5, 0.75]
    value, _ = improvement([np.array([1.0, 2, 3])], [np.array([2.0, 2, 4])])
    assert value == pytest.approx(1 / 3, rel=1e-12)
    same = [np.array([1.0, 2, 3])]
    assert improvement(same, same)[0] == 0.5


def test_welch_equals_scipy():
    x, y = RNG.normal(size=5), 3 * RNG.normal(size=8)
    theirs = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert welch_interval([x, y], [1.0, -1.0]) == pytest.approx((theirs.low, theirs.high), rel=1e-10)
    assert welch_interval([x]) == pytest.approx(t_interval(x), rel=1e-12)
    assert welch_interval([x, x[:1]]) is None
    assert welch_interval([np.ones(3), np.zeros(2)]) == (0.5, 0.5)


def test_intervals_keep_tasks_apart_and_know_how_few_runs_there_are():
    low, high = interval(list(SCORES), iqm_rows)
    assert low < iqm(SCORES) < high
    assert high - low < 0.3  # the differences between tasks do not widen it
    assert interval([SCORES[0], SCORES[1, :1]], iqm_rows) is None
    assert interval(list(SCORES), iqm_rows, bounds=(1.4, 1.5)) == (1.4, 1.5)
    assert interval([np.ones(3), np.ones(4)], iqm_rows) == (1.0, 1.0)
    assert interval(list(SCORES), iqm_rows, seed=1) == interval(list(SCORES), iqm_rows, seed=1)

    # for a mean it is Student's interval, up to the resampling
    def mean(rows):
        return rows.mean(1)

    x = RNG.normal(size=12)
    assert interval([x], mean, resamples=20000) == pytest.approx(t_interval(x), abs=0.02)
    # of six runs in two tasks, one task alone says how uncertain the spread is
    few = [SCORES[0, :3], SCORES[1, :3]]
    half = np.subtract(*interval(few, mean)[::-1]) / 2
    spread = np.sqrt(sum(f.var(ddof=1) for f in few) / 3) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, 2) * spread, rel=0.1)


def test_skewed_means():
    rng = np.random.default_rng(3)
    short = [rng.exponential(size=6), 2 * rng.exponential(size=9), rng.exponential(size=5)]
    centre = np.mean([s.mean() for s in short])
    low, high = skewed_interval(short)
    plain = welch_interval(short)
    assert low <= plain.low
    assert high > plain.high  # the long tail is above
    assert high - centre > centre - low
    mirrored = skewed_interval([-s for s in short])
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)
    assert skewed_interval(short, bounds=(0.9, 1.4)) == (0.9, 1.4)
    assert skewed_interval([np.zeros(3), np.zeros(4)]) == (0.0, 0.0)
    assert skewed_interval([np.zeros(3), np.zeros(1)]) is None
    # few groups: at least as wide as the smallest group's degrees of freedom ask for
    two = [rng.normal(size=3), rng.normal(size=3)]
    half = stats.t.ppf(0.975, 2) * np.sqrt(sum(g.var(ddof=1) / 3 for g in two)) / 2
    low, high = skewed_interval(two)
    assert (low, high) <= (np.mean(two) - half + 1e-12, np.inf)
    assert high >= np.mean(two) + half - 1e-12
    hits = 0
    for _ in range(300):
        low, high = skewed_interval([rng.exponential(size=5), rng.exponential(size=5)], resamples=500)
        hits += low <= 1 <= high
    assert hits / 300 >= 0.91


def covered(draw, statistic, truth, trials):
    return np.mean([(i := interval(draw(), statistic, resamples=300, seed=s)).low <= truth <= i.high
                    for s in range(trials)])  # fmt: skip


@pytest.mark.parametrize(("tasks", "runs"), [(1, 5), (2, 3), (5, 3), (10, 5)])
def test_the_iqm_of_few_runs_is_covered(tasks, runs):
    rng = np.random.default_rng(1)
    centre, spread = np.linspace(0.3, 0.9, tasks), np.linspace(0.05, 0.2, tasks)
    draw = lambda: list(centre[:, None] + spread[:, None] * rng.normal(size=(tasks, runs)))  # noqa: E731
    truth = np.mean([iqm(np.stack(draw())) for _ in range(4000)])
    assert covered(draw, iqm_rows, truth, 400) >= 0.92  # .95 or more in the long run


def test_improvement_is_covered_where_a_bootstrap_is_not():
    rng = np.random.default_rng(2)
    for shift in (0.0, 1.0, 3.0):
        truth = stats.norm.cdf(shift / np.sqrt(2))
        hits = 0
        for _ in range(200):
            low, high = improvement([rng.normal(size=3) + shift], [rng.normal(size=3)])[1]
            assert 0 <= low <= high <= 1
            hits += low <= truth <= high
        assert hits / 200 >= 0.93
    # three runs above three others, by chance every twentieth time, are no proof
    value, (low, high) = improvement([np.array([4.0, 5, 6])], [np.array([1.0, 2, 3])])
    assert (value, high) == (1.0, 1.0)
    assert low < 0.6
    value, (low, high) = improvement([np.array([1.0, 2, 3])], [np.array([4.0, 5, 6])])
    assert (value, low) == (0.0, 0.0)
    assert high > 0.4
    assert improvement([np.array([1.0])], [np.array([2.0, 3.0])]) == (0.0, None)


def test_improvement_mirrors_and_does_not_see_units():
    x, y = list(SCORES), list(OTHERS)
    value, (low, high) = improvement(x, y)
    other, (below, above) = improvement(y, x)
    assert (other, below, above) == pytest.approx((1 - value, 1 - high, 1 - low))
    cubes, ends = improvement([(3 * a) ** 3 for a in x], [(3 * b) ** 3 for b in y])
    assert (cubes, *ends) == pytest.approx((value, low, high))
