"""Best of n: against enumeration, order statistics and scipy; the noise that stands in for a model's errors."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wmbench.statistics.selection import ErrorModel, best_of_weights, discordance, value_of_best


def by_enumeration(score, value, n):
    """Every subset, and every tied item of it, once."""
    found = []
    for subset in itertools.combinations(range(len(score)), n):
        best = max(score[i] for i in subset)
        found.append(np.mean([value[i] for i in subset if score[i] == best]))
    return np.mean(found)


@given(
    st.lists(st.tuples(st.integers(-2, 2), st.floats(-5, 5, allow_subnormal=False)), min_size=1, max_size=7),
    st.booleans(),
)
def test_equals_enumeration_with_and_without_ties(pairs, distinct):
    score, value = (np.array(c, dtype=np.float64) for c in zip(*pairs, strict=True))
    if distinct:
        score = score + 1e-3 * np.arange(len(score))
    sizes = range(1, len(score) + 1)
    expected = [by_enumeration(score, value, n) for n in sizes]
    assert value_of_best(score, value, sizes) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_order_statistics_of_ranks():
    """The largest of n of the numbers 1 to P is n (P + 1) / (n + 1) in expectation."""
    pool = np.arange(1, 1025)
    sizes = [1, 4, 16, 64, 256, 1024]
    expected = [n * 1025 / (n + 1) for n in sizes]
    assert value_of_best(pool, pool, sizes) == pytest.approx(expected, rel=1e-12)
    assert best_of_weights(10, [3])[0] == pytest.approx(np.diff(stats.hypergeom.sf(2, 10, np.arange(11), 3)), rel=1e-12)


def test_trivial_scores():
    value = np.random.default_rng(0).normal(size=(2, 3, 20))
    sizes = [1, 5, 20]
    flat = value_of_best(np.zeros((2, 3, 20)), value, sizes)
    assert flat == pytest.approx(np.repeat(value.mean(-1)[..., None], 3, -1), rel=1e-12)
    assert value_of_best(value, value, sizes)[..., -1] == pytest.approx(value.max(-1), rel=1e-12)
    assert value_of_best(-value, value, sizes)[..., -1] == pytest.approx(value.min(-1), rel=1e-12)
    lost = np.where(np.arange(20) < 19, -np.inf, 0.0)
    assert value_of_best(lost, value, [20])[..., 0] == pytest.approx(value[..., 19], rel=1e-12)


@pytest.mark.parametrize("size", [0, 4])
def test_sizes_and_scores_that_make_no_sense(size):
    with pytest.raises(ValueError, match="1 to 3"):
        best_of_weights(3, [size])
    with pytest.raises(ValueError, match="minus infinity"):
        value_of_best(np.array([1.0, np.nan]), np.zeros(2), [1])


def test_discordance_is_kendalls():
    rng = np.random.default_rng(1)
    for _ in range(5):
        x, y = rng.normal(size=(2, 30))
        assert discordance(x, y) == pytest.approx((1 - stats.kendalltau(x, y).statistic) / 2, rel=1e-12)
    assert discordance(y, y) == 0.0
    assert discordance(np.zeros(30), y) == 0.5  # no opinion is right as often as wrong, not always
    x = np.array([0.0, 0.0, 1.0, 2.0, 2.0])
    orders = [discordance(x + np.array(e), y[:5]) for e in ([0, 0.1, 0, 0, 0.1], [0.1, 0, 0, 0, 0.1])]
    orders += [discordance(x + np.array(e), y[:5]) for e in ([0, 0.1, 0, 0.1, 0], [0.1, 0, 0, 0.1, 0])]
    assert discordance(x, y[:5]) == pytest.approx(np.mean(orders), rel=1e-12)
    assert discordance(-y, y) == 1.0
    assert discordance(y, np.zeros(30)) == 0.0


def test_errors_known_answers():
    rng = np.random.default_rng(2)
    true = rng.normal(size=(3, 200))
    same = ErrorModel.of(true, true)
    assert (same.bias == 0).all()
    assert (same.slope == 0).all()
    assert (same.spread == 0).all()
    linear = ErrorModel.of(true, 3.0 + 2.5 * true)
    assert linear.slope == pytest.approx(1.5, rel=1e-12)
    assert linear.bias == pytest.approx(3 + 1.5 * true.mean(1), rel=1e-12)
    assert linear.spread == pytest.approx(0.0, abs=1e-12)
    assert linear.draw(true, np.zeros((5, 3, 200))) == pytest.approx(np.tile(3 + 1.5 * true, (5, 1, 1)), rel=1e-9)


def test_errors_equal_a_regression():
    rng = np.random.default_rng(3)
    true = rng.normal(size=(1, 50))
    imagined = 0.5 * true + rng.normal(size=(1, 50))
    fit, errors = stats.linregress(true[0], imagined[0] - true[0]), ErrorModel.of(true, imagined)
    assert errors.slope[0] == pytest.approx(fit.slope, rel=1e-12)
    rest = imagined[0] - true[0] - fit.intercept - fit.slope * true[0]
    assert errors.spread[0] == pytest.approx(np.sqrt((rest**2).sum() / 48), rel=1e-12)
    drawn = errors.draw(true, rng.normal(size=(2000, 1, 50)))[:, 0]
    assert drawn.std(0).mean() == pytest.approx(errors.spread[0], rel=0.02)


def test_errors_of_what_is_not_finite_or_does_not_vary():
    true = np.tile(np.array([[0.1 + 0.2], [0.0]]), (1, 6))
    true[1] = np.arange(6.0)
    imagined = true + np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    imagined[1, 2:] = np.nan
    errors = ErrorModel.of(true, imagined)
    assert errors.slope.tolist() == [0.0, 0.0]
    assert errors.spread == pytest.approx([np.sqrt(6 / 4), 0.0])
    assert errors.bias[1] == 0.0
