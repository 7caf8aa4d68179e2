"""Ranking, risk and coverage: known answers, scikit-learn and scipy, ties, and weights as repeated items."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wmbench.statistics import bootstrap, resample_weights
from wmbench.statistics.selective import Ranking

U = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
LOSS = np.array([0, 0, 1, 0, 1])


def test_known_answers():
    ranking = Ranking(U)
    assert ranking.aurc(LOSS)[0] == pytest.approx((1 / 3 + 1 / 4 + 2 / 5) / 5, rel=1e-12)
    assert ranking.aurc(LOSS)[0] == pytest.approx(0.19667, abs=5e-6)
    assert ranking.augrc(LOSS)[0] == pytest.approx(0.16, rel=1e-12)
    assert ranking.auroc(LOSS == 1)[0] == pytest.approx(5 / 6, rel=1e-12)
    assert ranking.coverage_at_risk(LOSS, 0.0)[0] == pytest.approx(0.4)
    assert ranking.coverage_at_risk(LOSS, 0.25)[0] == pytest.approx(0.8)
    assert ranking.coverage_at_risk(LOSS, 0.4)[0] == 1.0
    coverage, risk = ranking.risk_coverage(LOSS)
    assert coverage == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert risk == pytest.approx([0, 0, 1 / 3, 1 / 4, 2 / 5])


def test_a_constant_score_knows_nothing():
    ranking = Ranking(np.zeros(5))
    assert ranking.auroc(LOSS == 1)[0] == 0.5
    assert ranking.aurc(LOSS)[0] == pytest.approx(0.4)
    assert ranking.augrc(LOSS)[0] == pytest.approx(0.4 * 6 / 10)
    assert ranking.spearman(U)[0] == 0.0
    assert ranking.coverage_at_risk(LOSS, 0.1)[0] == 0.0  # all or nothing
    assert ranking.coverage_at_risk(LOSS, 0.4)[0] == 1.0


def test_a_perfect_and_a_reversed_score():
    loss = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    good, bad = Ranking(np.arange(10)), Ranking(-np.arange(10))
    assert (good.auroc(loss == 1)[0], bad.auroc(loss == 1)[0]) == (1.0, 0.0)
    assert good.augrc(loss)[0] == pytest.approx((1 + 2) / 100)
    assert bad.aurc(loss)[0] > 0.2 > good.aurc(loss)[0]
    assert good.coverage_at_risk(loss, 0.0)[0] == pytest.approx(0.8)


def brute(u, loss):
    """AURC and AUGRC averaged over many random orders of ties."""
    rng, n = np.random.default_rng(0), len(u)
    aurc, augrc = [], []
    for _ in range(4000):
        order = np.lexsort((rng.random(n), u))
        total = np.cumsum(loss[order])
        aurc.append((total / np.arange(1, n + 1)).mean())
        augrc.append((total / n).mean())
    return np.mean(aurc), np.mean(augrc)


def test_ties_are_the_mean_over_their_orders():
    u, loss = np.array([1, 1, 2, 2, 2, 3, 0, 1]), np.array([0, 1, 1, 0, 0, 1, 0, 0])
    aurc, augrc = brute(u, loss)
    assert Ranking(u).aurc(loss)[0] == pytest.approx(aurc, abs=4e-3)
    assert Ranking(u).augrc(loss)[0] == pytest.approx(augrc, abs=4e-3)


scores = st.lists(st.tuples(st.integers(-4, 4), st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40)


@settings(max_examples=100, deadline=None)
@given(scores, st.randoms(use_true_random=False))
def test_equal_to_scikit_learn_and_scipy_and_blind_to_order_and_unit(items, random):
    metrics = pytest.importorskip("sklearn.metrics")
    u, positive, other = (np.array(column) for column in zip(*items, strict=True))
    ranking = Ranking(u)
    if 0 < positive.sum() < len(u):
        assert ranking.auroc(positive)[0] == pytest.approx(metrics.roc_auc_score(positive, u), abs=1e-12)
    else:
        assert ranking.auroc(positive)[0] == 0.5
    if len(set(u)) > 1 and len(set(other)) > 1:
        assert ranking.spearman(other)[0] == pytest.approx(stats.spearmanr(u, other)[0], abs=1e-12)
    loss = positive.astype(float)
    shuffled = random.sample(range(len(u)), len(u))
    again = Ranking(np.exp(u[shuffled] / 3.0))
    assert again.auroc(positive[shuffled])[0] == pytest.approx(ranking.auroc(positive)[0], abs=1e-12)
    assert again.spearman(7 * other[shuffled] - 1)[0] == pytest.approx(ranking.spearman(other)[0], abs=1e-12)
    for name in ("aurc", "augrc"):
        here, there = getattr(ranking, name)(loss)[0], getattr(again, name)(loss[shuffled])[0]
        assert here == pytest.approx(there, abs=1e-12)
    coverage, risk = ranking.risk_coverage(loss)
    assert ranking.coverage_at_risk(loss, 0.3)[0] == max(
        [c for c, r in zip(coverage, risk, strict=True) if r <= 0.3], default=0
    )


@settings(max_examples=50, deadline=None)
@given(scores, st.integers(0, 10**6))
def test_weights_stand_for_repeated_clusters(items, seed):
    u, positive, other = (np.array(column) for column in zip(*items, strict=True))
    loss = positive.astype(float)
    cluster = np.random.default_rng(seed).integers(0, 4, len(u))
    ranking = Ranking(u, cluster)
    weights = resample_weights(ranking.clusters, 6, seed)
    every = {
        "auroc": (ranking.auroc(positive, weights), lambda r, i: r.auroc(positive[i])),
        "spearman": (ranking.spearman(other, weights), lambda r, i: r.spearman(other[i])),
        "aurc": (ranking.aurc(loss, weights), lambda r, i: r.aurc(loss[i])),
        "augrc": (ranking.augrc(loss, weights), lambda r, i: r.augrc(loss[i])),
        "coverage": (ranking.coverage_at_risk(loss, 0.3, weights), lambda r, i: r.coverage_at_risk(loss[i], 0.3)),
    }
    for row, w in enumerate(weights):
        rows = np.repeat(np.arange(len(u)), w[ranking.cluster].astype(int))
        for values, direct in every.values():
            assert values[row] == pytest.approx(direct(Ranking(u[rows]), rows)[0], abs=1e-12)


def test_infinite_scores_count_and_nan_is_refused():
    assert Ranking(np.array([-np.inf, 0.0, np.inf])).auroc(np.array([False, False, True]))[0] == 1.0
    for bad in (np.array([]), np.array([0.0, np.nan])):
        with pytest.raises(ValueError, match="scores"):
            Ranking(bad)


def test_blocks_do_not_change_the_numbers(monkeypatch):
    rng = np.random.default_rng(4)
    u, loss, cluster = rng.normal(size=50), (rng.random(50) < 0.3).astype(float), np.arange(50) % 7
    ranking, weights = Ranking(u, cluster), resample_weights(7, 40)
    whole = ranking.aurc(loss, weights)
    monkeypatch.setattr("wmbench.statistics.selective.BLOCK", 100)
    assert (ranking.aurc(loss, weights) == whole).all()


def test_the_band_around_coverage_holds_where_resampling_the_maximum_does_not():
    rng = np.random.default_rng(5)
    hits = plain = 0
    for trial in range(60):  # the score knows nothing, a tenth fails: the true coverage at 5 % risk is 0
        u, loss = rng.normal(size=300), (rng.random(300) < 0.1).astype(float)
        ranking = Ranking(u, np.arange(300) // 10)
        low, high = ranking.coverage_at_risk_interval(loss, 0.05, resamples=200, seed=trial)
        hits += low == 0
        at_risk = partial(ranking.coverage_at_risk, loss, 0.05)
        low, _ = bootstrap(at_risk, 30, resamples=200, seed=trial, method="percentile")
        plain += low == 0
        assert 0 <= low <= high <= 1
    assert hits >= 57
    assert plain < 45
    assert Ranking(U, np.zeros(5)).coverage_at_risk_interval(LOSS, 0.1) is None
    sure = Ranking(np.arange(400), np.arange(400) % 40).coverage_at_risk_interval(np.arange(400) >= 200, 0.05)
    assert 0.4 < sure.low < 10 / 19 < sure.high < 0.7  # half of all fail
