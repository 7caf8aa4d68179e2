"""Comparisons: known answers, other implementations, errors by simulation at any stopping time."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from wmbench.statistics import (
    compare_sequentially,
    confidence_sequence,
    hierarchical_bootstrap,
    holm,
    interval_over_seeds,
    log_e_proportion,
    mcnemar,
    paired_difference,
    t_interval,
    wilson,
)
from wmbench.statistics.sequential import _log_e_better, _log_wealth, mean_sequence


def pairs(only_first, only_second, both=0, neither=0):
    first = [1] * only_first + [0] * only_second + [1] * both + [0] * neither
    second = [0] * only_first + [1] * only_second + [1] * both + [0] * neither
    return np.array(first, bool), np.array(second, bool)


@pytest.mark.parametrize(
    ("a", "b", "p"), [(1, 9, 22 / 1024), (0, 5, 2 / 32), (5, 5, 1.0), (0, 0, 1.0), (9, 1, 22 / 1024)]
)
def test_mcnemar_known_answers(a, b, p):
    assert mcnemar(*pairs(a, b, 7, 3)) == pytest.approx(p)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_equals_scipys_binomial_test(a, b, both):
    expected = stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar(*pairs(a, b, both)) == pytest.approx(expected)
    assert mcnemar(*pairs(b, a, both)) == mcnemar(*pairs(a, b, both))


def test_paired_difference_known_answers_and_limits():
    # (1 - 10) / 22 +- 1.96 sqrt((11/22 - 81/484) / 22), Bonett and Price's formula by hand: x = 0, 9 of n = 20
    low, high = paired_difference(*pairs(0, 9, 5, 6))
    half = 1.959964 * np.sqrt((11 / 22 - (9 / 22) ** 2) / 22)
    assert (low, high) == pytest.approx((-9 / 22 - half, -9 / 22 + half), abs=1e-6)
    assert paired_difference(*pairs(0, 0, 10)) == pytest.approx((-0.2309, 0.2309), abs=1e-3)
    assert paired_difference(*pairs(1, 0)).high == 1.0
    mirrored = paired_difference(*pairs(9, 0, 5, 6))
    assert (mirrored.low, mirrored.high) == pytest.approx((-high, -low))
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference(*pairs(0, 0))
    for bad in ((np.ones(3, bool), np.ones(2, bool)), (np.ones((2, 2), bool),) * 2):
        for call in (mcnemar, paired_difference, compare_sequentially):
            with pytest.raises(ValueError, match="one length"):
                call(*bad)


def test_paired_difference_covers_what_it_promises():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(60):
        shares = rng.dirichlet(np.ones(4))
        truth = shares[0] - shares[1]
        counts = rng.multinomial(30, shares, size=100)
        ends = np.array([paired_difference(*pairs(*c)) for c in counts])
        covered.append(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())
    assert np.mean(covered) >= 0.94
    assert min(covered) >= 0.87


def test_holm_known_answer():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_t_interval_equals_scipy():
    x = np.random.default_rng(1).normal(size=5)
    theirs = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert t_interval(x) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert t_interval(np.array([1.0])) is None


@pytest.mark.parametrize(("seeds", "trials"), [(3, 1000), (5, 1000), (20, 100)])
def test_intervals_over_training_seeds_cover_what_they_promise(seeds, trials):
    rng = np.random.default_rng(2)
    hits = 0
    for trial in range(trials):
        scores = rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, 10))
        low, high = interval_over_seeds(list(scores), seed=trial)
        hits += low <= 0 <= high
    assert hits / trials >= 0.93


def test_the_hierarchical_bootstrap_resamples_both_levels():
    rng = np.random.default_rng(3)
    same = [rng.normal(size=20) for _ in range(6)]
    shifted = [s - s.mean() + i for i, s in enumerate(same)]
    narrow, wide = hierarchical_bootstrap(same), hierarchical_bootstrap(shifted)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    constant = [np.full(4, i) for i in (0.0, 1.0, 1.0, 2.0)]
    by_seed = hierarchical_bootstrap(constant)
    assert by_seed.low < 1 < by_seed.high
    assert hierarchical_bootstrap([np.full(9, 3.0), np.full(2, 3.0)]) == (3.0, 3.0)
    assert hierarchical_bootstrap(same[:1]) is None
    assert interval_over_seeds(same[:1]) is None
    assert hierarchical_bootstrap(same, seed=1) == hierarchical_bootstrap(same, seed=1)


def test_e_values_known_answers():
    assert np.exp(log_e_proportion(10, 10, 0.5)) == pytest.approx(2**10 / 11)
    assert np.exp(log_e_proportion(0, 10, 0.5)) == pytest.approx(2**10 / 11)
    assert log_e_proportion(0, 0, 0.3) == 0
    assert log_e_proportion(1, 5, 0.0) == np.inf
    # an e-value is 1 on average under its null, whatever the number of trials
    for n in (1, 7, 40):
        k = np.arange(n + 1)
        mean = (stats.binom.pmf(k, n, 0.3) * np.exp(log_e_proportion(k, n, 0.3))).sum()
        assert mean == pytest.approx(1, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@example((1, 368))
def test_confidence_sequences_are_wider_than_wilson_and_mirror(counts):
    k, n = counts
    low, high = confidence_sequence(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert (low, high) == pytest.approx([1 - x for x in confidence_sequence(n - k, n)][::-1])
    if 0 < k < n:
        assert low < wilson(k, n).low + 0.02
        assert log_e_proportion(k, n, low) == pytest.approx(np.log(20), abs=1e-6)
        assert high > wilson(k, n).high - 0.02


def test_confidence_sequence_limits():
    assert confidence_sequence(0, 0) == (0.0, 1.0)
    for bad in ((3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)):
        with pytest.raises(ValueError, match="expected"):
            confidence_sequence(*bad)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_a_confidence_sequence_holds_at_all_times_at_once(p):
    rng = np.random.default_rng(5)
    k = np.cumsum(rng.random((4000, 200)) < p, axis=1)
    ever = (log_e_proportion(k, np.arange(1, 201), p) >= np.log(20)).any(1)
    assert ever.mean() <= 0.05
    # looking at a fixed-time interval after every episode would be wrong far more often
    z = np.abs(k / np.arange(1, 201) - p) / np.sqrt(p * (1 - p) / np.arange(1, 201))
    assert (z[:, 20:] > 1.96).any(1).mean() > 0.2


def test_sequential_comparison_known_answers():
    for n, at in ((7, None), (8, 8), (30, 8)):  # 2^(n + 1) / (n + 1) (1 - 2^-(n + 1)) passes 40 at n = 8
        found = compare_sequentially(*pairs(n, 0))
        assert found.decided_at == at
        assert found.better == (None if at is None else "first")
    assert compare_sequentially(*pairs(0, 12, 3)).better == "second"
    expected = [2 ** (n + 1) / (n + 1) * (1 - 2 ** -(n + 1)) for n in range(1, 6)]
    assert np.exp(compare_sequentially(*pairs(5, 0)).log_e_first) == pytest.approx(expected)
    ties = compare_sequentially(*pairs(0, 0, 50, 50))
    assert ties.better is None
    assert np.exp(ties.log_e_first) == pytest.approx(np.ones(100))


def first_decisions(first, second):
    """(runs,) the better of the two at the first time at which one is decided upon: 1, -1, or 0 for never; and when."""
    wins, losses = np.cumsum(first & ~second, axis=1), np.cumsum(second & ~first, axis=1)
    limit = np.log(2 / 0.05)
    ahead, behind = _log_e_better(wins, losses) >= limit, _log_e_better(losses, wins) >= limit
    when = (ahead | behind).argmax(1)
    rows = np.arange(len(first))
    return ahead[rows, when].astype(int) - behind[rows, when], when + 1


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_stopping_as_soon_as_one_likes_errs_in_5_of_100_runs_at_most(rate, shared):
    # 2,000 evaluations of up to 300 starts, looked at after every one; a share of the starts decides for both alike
    rng = np.random.default_rng(6)
    common = rng.random((2000, 300)) < rate
    alike = rng.random((2000, 300)) < shared
    first, second = (np.where(alike, common, rng.random((2000, 300)) < rate) for _ in range(2))
    better, _ = first_decisions(first, second)
    assert (better != 0).mean() <= 0.05
    # McNemar's test after every start would be wrong far more often
    b, c = np.cumsum(first & ~second, axis=1), np.cumsum(second & ~first, axis=1)
    z = (b - c)[:, 20:] ** 2 > 1.96**2 * np.maximum((b + c)[:, 20:], 1)
    assert z.any(1).mean() > 0.09


def test_the_worse_is_hardly_ever_called_better_and_the_better_is_found_early():
    rng = np.random.default_rng(7)
    for p, q, median in ((0.9, 0.5, 45), (0.9, 0.7, 120), (0.6, 0.3, 90)):
        better, when = first_decisions(rng.random((400, 500)) < p, rng.random((400, 500)) < q)
        assert (better == -1).mean() <= 0.025
        assert (better == 1).mean() >= 0.95
        assert np.median(when[better == 1]) <= median
    one = compare_sequentially(rng.random(300) < 0.9, rng.random(300) < 0.4)
    better, when = first_decisions(*(np.array([[False] * 3 + [True] * 20]), np.zeros((1, 23), bool)))
    assert (better[0], when[0]) == (1, 11)  # eight wins after three ties
    assert one.better == "first"


@pytest.mark.parametrize(("p", "q"), [(0.6, 0.6), (0.9, 0.5), (1.0, 1.0), (0.02, 0.0)])
def test_the_interval_of_a_difference_holds_at_all_times(p, q):
    rng = np.random.default_rng(8)
    hits = 0
    for _ in range(200):
        low, high = mean_sequence((rng.random(120) < p) * 1.0 - (rng.random(120) < q), -1, 1, grid=201)
        assert -1 <= low <= high <= 1
        hits += low <= p - q <= high
    assert hits / 200 >= 0.95


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_bets_on_the_true_mean_neither_win_nor_lose(p):
    # over all sequences of eight coins: the wealth is a martingale, so its mean stays 1
    coins = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
    chance = p ** coins.sum(1) * (1 - p) ** (8 - coins.sum(1))
    wealth = np.array([[np.exp(side[:, 0]) for side in _log_wealth(c, np.array([p]), 0.05)] for c in coins])
    assert chance @ wealth.reshape(len(coins), -1) == pytest.approx(np.ones(16), rel=1e-12)
    assert wealth.min() > 0


def test_mean_sequences():
    assert mean_sequence(np.array([]), -1, 1) == (-1.0, 1.0)
    x = np.random.default_rng(9).random(400)
    wide, narrow = mean_sequence(x[:40], 0, 1), mean_sequence(x, 0, 1)
    assert wide.low <= narrow.low < x.mean() < narrow.high <= wide.high
    assert narrow.high - narrow.low < 0.15
    scaled = mean_sequence(10 * x - 3, -3, 7)
    assert scaled == pytest.approx((10 * narrow.low - 3, 10 * narrow.high - 3))
    mirrored = mean_sequence(1 - x, 0, 1)
    assert mirrored == pytest.approx((1 - narrow.high, 1 - narrow.low))
    # what refutes every mean: first all zeros, then all ones
    assert mean_sequence(np.repeat([0.0, 1.0], 300), 0, 1) == (0, 1)
    for bad in ((np.array([2.0]), 0, 1), (np.array([np.nan]), 0, 1), (np.array([0.5]), 1, 0)):
        with pytest.raises(ValueError, match="must lie between"):
            mean_sequence(*bad)
