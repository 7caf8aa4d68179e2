"""Rank violations and regret: known answers, every way to break a tie, intervals that hold."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench.statistics.bootstrap import resample_weights
from wmbench.statistics.ranking import MMRV_VARIANTS, mmrv, picked, regret_at_k
from wmbench.statistics.ranking_intervals import (
    MANY_TIES,
    mean_bounds,
    mmrv_interval,
    regret_bounds,
    regret_interval,
)

R = np.array([0.9, 0.7, 0.4, 0.1])


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        ([0.8, 0.85, 0.3, 0.2], {"sym": 0.1, "lt": 0.1, "gt": 0.1, "product": 0.1, "sim-gap": 0.025}),
        ([0.1, 0.4, 0.7, 0.9], {"sym": 0.675, "lt": 0.675, "gt": 0.675, "product": 0.675}),
        ([0.5] * 4, {"sym": 0.675, "lt": 0.375, "gt": 0.425, "product": 0.0, "sim-gap": 0.0}),
        ([0.8, 0.85, 0.3, 0.3], {"sym": 0.25, "lt": 0.175, "gt": 0.175, "product": 0.10}),
        ([0.9, 0.7, 0.4, 0.1], dict.fromkeys(MMRV_VARIANTS, 0.0)),
    ],
)
def test_mmrv_known_answers(estimate, expected):
    for variant, value in expected.items():
        assert mmrv(np.array(estimate), R, variant) == pytest.approx(value, rel=1e-12, abs=1e-15)


def test_mmrv_swapped_arguments_are_the_sim_gap():
    s = np.array([0.8, 0.85, 0.3, 0.2])
    assert mmrv(R, s, "gt") == mmrv(s, R, "sim-gap") == pytest.approx(0.025, rel=1e-12)
    with pytest.raises(ValueError, match="unknown MMRV variant"):
        mmrv(R, R, "max")


def test_mmrv_of_missing_estimates():
    assert mmrv(np.array([-np.inf, 0.7, 0.4, 0.1]), R) == pytest.approx((0.8 + 0.2 + 0.5 + 0.8) / 4)
    assert mmrv(np.full(4, -np.inf), R) == mmrv(np.zeros(4), R)  # without estimates all tie


whole = st.lists(st.integers(0, 5), min_size=2, max_size=7)


@settings(max_examples=150, deadline=None)
@given(whole, st.data(), st.sampled_from(MMRV_VARIANTS))
def test_mmrv_ignores_order_and_shifts_and_follows_units(s, data, variant):
    r = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(s), max_size=len(s))), float)
    order = np.array(data.draw(st.permutations(range(len(s)))))
    s = np.array(s, float)
    value = mmrv(s, r, variant)
    assert mmrv(s[order], r[order], variant) == pytest.approx(value)
    assert mmrv(8 * s + 3, 8 * r - 1, variant) == pytest.approx(8 * value)
    assert mmrv(np.stack([s, r]), np.stack([r, r]), variant) == pytest.approx([value, 0.0])
    assert mmrv(s, r, "product") <= mmrv(s, r, "lt") <= mmrv(s, r, "sym")
    assert mmrv(s, r, "product") <= mmrv(s, r, "gt") <= mmrv(s, r, "sym")
    if variant != "sim-gap":
        assert mmrv(np.exp(s), r, variant) == pytest.approx(value)


def brute(s, r, k):
    """True values of the k picked, for every way to break ties."""
    ways = {tuple(sorted(order[:k])) for order in itertools.permutations(range(len(s)))
            if all(s[a] >= s[b] for a, b in itertools.pairwise(order))}  # fmt: skip
    return [np.array([r[i] for i in way]) for way in ways]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.data())
def test_regret_goes_through_every_way_to_break_ties(s, data):
    r = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(s), max_size=len(s))), float)
    s = np.array(s, float)
    for k in range(1, len(s) + 1):
        ways = brute(s, r, k)
        raw = [r.max() - way.max() for way in ways]
        mean = [np.sort(r)[-k:].mean() - way.mean() for way in ways]
        assert regret_at_k(s, r, k, variant="raw") == pytest.approx(np.mean(raw))
        assert regret_at_k(s, r, k, variant="raw", ties="worst") == pytest.approx(np.max(raw))
        assert regret_at_k(s, r, k, variant="top-k-mean") == pytest.approx(np.mean(mean))
        assert regret_at_k(s, r, k, variant="top-k-mean", ties="worst") == pytest.approx(np.max(mean))
        if np.ptp(r) > 0:
            assert regret_at_k(s, r, k) == pytest.approx(np.mean(raw) / np.ptp(r))
            assert regret_at_k(7 * s - 2, 7 * r + 4, k) == pytest.approx(np.mean(raw) / np.ptp(r))
        else:
            assert regret_at_k(s, r, k) is None
        # bounds that are points give the regret itself, and wider ones contain it
        for variant, ties in itertools.product(("raw", "range", "top-k-mean"), ("expected", "worst")):
            value = regret_at_k(s, r, k, variant=variant, ties=ties)
            if value is not None:
                assert regret_bounds(s, (r, r), k, variant=variant, ties=ties) == pytest.approx((value, value))
                low, high = regret_bounds(s, (r - 1, r + 2), k, variant=variant, ties=ties)
                assert low <= value + 1e-12
                assert high >= value - 1e-12


def test_regret_known_answers():
    r = np.array([0.92, 0.853, 0.133])
    assert regret_at_k(np.array([0.7, 0.8, 0.1]), r, 1, variant="raw") == pytest.approx(0.067)
    assert regret_at_k(np.array([0.7, 0.8, 0.1]), r, 1) == pytest.approx(0.067 / 0.787, rel=1e-12)
    assert regret_at_k(np.array([0.7, 0.8, 0.1]), r, 1, variant="deep-ope") == pytest.approx(0.067 / 0.787, rel=1e-12)
    constant = np.zeros(4)
    assert regret_at_k(constant, R, 1) == pytest.approx((0 + 0.2 + 0.5 + 0.8) / 4 / 0.8, rel=1e-12)
    assert regret_at_k(constant, R, 1, ties="worst") == 1.0
    assert regret_at_k(constant, R, 4) == 0.0
    # a policy whose estimate is not a number is never the pick
    assert regret_at_k(np.array([-np.inf, 0.1, 0.2, 0.3]), R, 1, variant="raw") == pytest.approx(0.8)
    # beyond twice the range all estimates are cut to a tie, as in published code
    wild = np.array([1.75, 9.0, 0.0, 0.0])  # .1 + 2 * .8 = 1.7
    assert regret_at_k(wild, R, 1, variant="deep-ope") == pytest.approx(0.125)
    assert regret_at_k(wild, R, 1) == pytest.approx(0.25)


def test_regret_refuses_what_makes_no_sense():
    for bad in ({"variant": "mean"}, {"ties": "best"}, {"k": 0}, {"k": 5}):
        with pytest.raises(ValueError, match=r"unknown|between"):
            regret_at_k(R, R, **({"k": 1} | bad))
    certain, tied = picked(np.array([1.0, 3.0, 1.0, 2.0]), 3)
    assert (certain.tolist(), tied.tolist()) == ([1, 3], [0, 2])


def test_too_many_ties_have_no_bounds():
    assert regret_bounds(np.zeros(30), (np.zeros(30), np.ones(30)), 3) is not None
    assert regret_bounds(np.zeros(40), (np.zeros(40), np.ones(40)), 3) is None
    assert MANY_TIES < 40 * 39 * 38 / 6


def test_mean_bounds_hold_together():
    rng = np.random.default_rng(0)
    p = np.linspace(0.05, 0.95, 8)
    hits = {1: [], 8: []}
    for _ in range(300):
        outcomes = (rng.random((8, 20)) < p[:, None]).astype(float)
        for shared, found in hits.items():
            low, high = mean_bounds(outcomes, shared=shared)
            found.append((low <= p) & (p <= high))
    assert np.mean(np.array(hits[8]).all(1)) >= 0.95
    assert np.mean(hits[1]) >= 0.95
    assert np.mean(np.array(hits[1]).all(1)) < 0.95
    assert mean_bounds(p[:, None]) is None
    low, high = mean_bounds(rng.normal(size=(4, 30)) + 5)
    assert ((low < 5.5) & (high > 4.5) & (high - low < 2)).all()


def test_mmrv_intervals():
    rng = np.random.default_rng(1)
    p = np.linspace(0.4, 0.6, 12)[:, None]  # near ties, whose order is mostly noise
    true, learned = ((rng.random((12, 30)) < p).astype(float) for _ in range(2))
    low, high = mmrv_interval(learned, true)
    assert 0 <= low <= mmrv(learned.mean(1), true.mean(1)) <= high
    # the ends, once more: the percentiles, or the estimate less the spread about the resamples' own mean
    weights = resample_weights(30)
    drawn = np.array([mmrv(learned @ w / 30, true @ w / 30) for w in weights])
    centre, value = drawn.mean(), mmrv(learned.mean(1), true.mean(1))
    ends = np.sort(drawn)[[49, 1949]]
    assert low == pytest.approx(max(0, min(ends[0], value - ends[1] + centre)), abs=1e-9)
    assert high == pytest.approx(max(ends[1], value - ends[0] + centre), abs=1e-9)
    assert low < ends[0]
    assert mmrv_interval(true, true) == (0.0, 0.0)  # the same starts, resampled together
    assert mmrv_interval(true[:, :20], true).high > 0  # others are not
    assert mmrv_interval(true[:, :1], true) is None
    lost = learned.copy()
    lost[true.mean(1).argmax(), 3] = np.nan  # the best policy ranks last
    assert mmrv_interval(lost, true).low > low


def test_regret_intervals_hold_the_regret_of_the_pick():
    rates = np.linspace(0.1, 0.9, 8)
    learned_rates = np.array([0.1, 0.2, 0.5, 0.3, 0.5, 0.9, 0.8, 0.7])
    rng = np.random.default_rng(2)
    hits = {1: [], 3: []}
    for _ in range(300):
        learned, true = ((rng.random((8, 30)) < p[:, None]).astype(float) for p in (learned_rates, rates))
        s, every = learned.mean(1), mean_bounds(true, shared=8)
        for k, found in hits.items():
            for variant in ("range", "raw", "top-k-mean"):
                low, high = regret_interval(s, true, k, variant=variant)
                truth, value = (regret_at_k(s, r, k, variant=variant) for r in (rates, true.mean(1)))
                found.append(low <= truth + 1e-12 <= high + 1e-9)
                assert low <= value + 1e-12 <= high + 1e-9
                if k == 1:  # stricter than what holds for all items at once, where that is not needed
                    assert high <= regret_bounds(s, every, k, variant=variant).high + 1e-12
    assert np.mean(hits[1]) >= 0.95
    assert np.mean(hits[3]) >= 0.95
    assert regret_interval(s, true[:, :1], 1) is None
    assert regret_interval(np.zeros(40), np.zeros((40, 5)), 3) is None
