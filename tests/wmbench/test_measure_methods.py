"""Training methods over tasks and seeds: known answers, few seeds, invalid episodes, invariances."""

import numpy as np
import pytest

from wmbench.errors import DatasetError
from wmbench.measures.methods import MEASURE
from wmbench.statistics import improvement, iqm, t_interval, welch_interval, wilson
from wmbench.statistics.clustered import proportion_interval


def arrays(*methods, worst=0.0, target=1.0):
    """Each method: (name, {task: (seeds, episodes)})."""
    rows = [
        (name, task, seed, score)
        for name, tasks in methods
        for task, scores in tasks.items()
        for seed, episodes in enumerate(scores)
        for score in episodes
    ]
    subject, task, seed, score = zip(*rows, strict=True)
    return {
        "subject": np.array(subject),
        "task": np.array(task),
        "train_seed": np.array(seed),
        "score": np.array(score, float),
        "worst": np.array(worst),
        "target": np.array(target),
    }


def measured(*methods, **kwargs):
    return {(r.subject, r.name): r for r in MEASURE(arrays(*methods, **kwargs))}


def draws(seeds, episodes=10, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return shift + rng.normal(size=(seeds, 1)) + 0.3 * rng.normal(size=(seeds, episodes))


def test_means_over_seeds_have_students_interval():
    scores = draws(3)
    found = measured(("a", {"t": scores}))
    score = found["a", "score"]
    assert score.value == pytest.approx(scores.mean(), rel=1e-12)
    assert (score.ci_low, score.ci_high) == pytest.approx(t_interval(scores.mean(1)))
    assert (score.n, score.details["n_episodes"]) == (3, 30)
    assert score.details["runs"] == {"t": pytest.approx(scores.mean(1).tolist())}
    # episodes of one seed are no independent evidence: ten times as many change nothing about the interval's kind
    many = measured(("a", {"t": np.repeat(scores, 10, axis=1)}))["a", "score"]
    assert (many.ci_low, many.ci_high) == pytest.approx((score.ci_low, score.ci_high))


def test_tasks_weigh_the_same_whatever_their_seeds_and_episodes():
    one, two = draws(3, 5), draws(6, 20, shift=2.0, seed=1)
    found = measured(("a", {"s": one, "t": two}))["a", "score"]
    assert found.value == pytest.approx((one.mean() + two.mean()) / 2)
    assert (found.ci_low, found.ci_high) == pytest.approx(welch_interval([one.mean(1), two.mean(1)]))
    assert found.details["tasks"] == ["s", "t"]


def test_aggregates_of_runs():
    found = measured(("a", {"s": draws(5), "t": draws(5, shift=1.0, seed=1)}), target=1.5)
    runs = np.concatenate(list(found["a", "score"].details["runs"].values()))
    assert found["a", "iqm"].value == pytest.approx(iqm(runs))
    assert found["a", "optimality-gap"].value == pytest.approx(np.maximum(1.5 - runs, 0).mean())
    for name in ("iqm", "optimality-gap"):
        assert found["a", name].ci_low <= found["a", name].value <= found["a", name].ci_high
    assert found["a", "optimality-gap"].ci_low >= 0


def test_comparison_of_two_methods():
    a, b = {"s": draws(4, shift=3.0), "t": draws(4, shift=3.0, seed=1)}, {"s": draws(3, seed=2), "u": draws(3, seed=3)}
    found = measured(("a", a), ("b", b))
    difference, better = found["a - b", "score-difference"], found["a - b", "improvement"]
    assert difference.details["tasks"] == ["s"]
    x, y = a["s"].mean(1), b["s"].mean(1)
    assert difference.value == pytest.approx(x.mean() - y.mean())
    assert (difference.ci_low, difference.ci_high) == pytest.approx(welch_interval([x, y], [1, -1]))
    value, (low, high) = improvement([x], [y])
    assert (better.value, better.ci_low, better.ci_high) == pytest.approx((value, low, high))
    assert better.n == 7
    apart = measured(("a", {"s": draws(3)}), ("b", {"t": draws(3)}))
    for name in ("improvement", "score-difference"):
        assert apart["a - b", name].value is None
        assert "share no task" in apart["a - b", name].reason


def test_one_training_seed_says_nothing_about_the_method():
    a, b = draws(1, 30), draws(1, 30, seed=1)
    found = measured(("a", {"t": a}), ("b", {"t": b}))
    assert "one training seed" in found["a", "score"].reason
    assert (found["a", "score"].ci_low, found["a", "score"].ci_high) == pytest.approx(t_interval(a[0]))
    assert "one training seed" in found["a - b", "score-difference"].reason
    for key in (("a", "iqm"), ("a", "optimality-gap"), ("a - b", "improvement")):
        assert found[key].ci_low is None
        assert "two training seeds" in found[key].reason


def test_success_of_a_few_seeds_is_no_certainty():
    always, never = np.ones((3, 20)), np.zeros((3, 20))
    found = measured(("a", {"t": always}), ("b", {"t": never}))
    score = found["a", "score"]
    assert (score.value, score.ci_high) == (1.0, 1.0)
    assert score.ci_low == pytest.approx(proportion_interval(np.full(3, 20), np.full(3, 20)).low)
    assert score.ci_low < wilson(60, 60).low
    difference = found["a - b", "score-difference"]
    assert (difference.value, difference.ci_high) == (1.0, 1.0)
    assert difference.ci_low == pytest.approx(1 - np.hypot(1 - score.ci_low, found["b", "score"].ci_high))
    assert found["a - b", "improvement"].ci_low < 0.6
    single = measured(("a", {"t": np.ones((1, 1))}))["a", "score"]
    assert (single.ci_low, single.ci_high) == pytest.approx(wilson(1, 1))
    assert measured(("a", {"t": np.full((1, 1), 0.5)}))["a", "score"].ci_low is None
    # seeds that differ: Student's interval is the wider one
    mixed = np.concatenate([np.ones((2, 20)), np.zeros((2, 20))])
    half = measured(("a", {"t": mixed}))["a", "score"]
    assert half.ci_low == max(0.0, t_interval(mixed.mean(1)).low)


def test_invalid_episodes_score_worst_and_are_counted():
    scores = draws(3)
    scores[0, 0], scores[1, 1] = np.nan, np.inf
    found = measured(("a", {"t": scores}), ("b", {"t": draws(3, seed=1)}), worst=-5.0)
    assert found["a", "score"].n_invalid == 2
    assert found["a - b", "improvement"].n_invalid == 2
    assert found["b", "score"].n_invalid == 0
    known = np.where(np.isfinite(scores), scores, -5.0)
    assert found["a", "score"].value == pytest.approx(known.mean())
    with pytest.raises(DatasetError, match="2 scores are not finite"):
        measured(("a", {"t": scores}), worst=np.nan)


def test_order_and_units_change_nothing():
    a, b = {"s": draws(4, shift=1.0), "t": draws(3, seed=4)}, {"s": draws(3, seed=2), "t": draws(5, seed=3)}
    data = arrays(("a", a), ("b", b))
    order = np.random.default_rng(5).permutation(len(data["score"]))
    order = np.r_[order[data["subject"][order] == "a"], order[data["subject"][order] == "b"]]
    mixed = {k: v[order] if v.ndim else v for k, v in data.items()}
    scaled = data | {"score": 3 * data["score"] + 2, "target": np.array(5.0)}
    for plain, other, more in zip(MEASURE(data), MEASURE(mixed), MEASURE(scaled), strict=True):
        assert (plain.subject, plain.name) == (other.subject, other.name)
        assert (other.value, other.ci_low, other.ci_high) == pytest.approx((plain.value, plain.ci_low, plain.ci_high))
        factor, shift = {"improvement": (1, 0), "score-difference": (3, 0), "optimality-gap": (3, 0)}.get(
            plain.name, (3, 2)
        )
        assert more.value == pytest.approx(factor * plain.value + shift)
        assert more.ci_high == pytest.approx(factor * plain.ci_high + shift)


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_better_method_is_found_and_an_equal_one_is_not(seeds):
    caught = alarms = 0
    for seed in range(100):
        good, base = draws(seeds, shift=8.0, seed=3 * seed), draws(seeds, seed=3 * seed + 1)
        same = draws(seeds, seed=3 * seed + 2)
        found = measured(("a", {"t": good}), ("b", {"t": base}), ("c", {"t": same}))
        caught += found["a - b", "score-difference"].ci_low > 0
        alarms += not found["b - c", "score-difference"].ci_low <= 0 <= found["b - c", "score-difference"].ci_high
    assert caught >= 95
    assert alarms <= 10
