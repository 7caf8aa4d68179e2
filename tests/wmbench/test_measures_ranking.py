"""Ranking of short action sequences: known answers, trivial optima, ties, what is not finite, invariances."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wmbench.measures.ranking import MEASURE, as_wrong_as_can_be, hit, rank_correlation
from wmbench.recording import Recording

N, B, K = 12, 8, 10


def arrays(models, *, seed=0, n=N, candidates=B, steps=K, sources=("uniform", "elite"), **more):
    rng = np.random.default_rng(seed)
    true = np.cumsum(rng.normal(size=(len(sources), n, candidates, steps)), -1)
    m = len(models)
    return {
        "subject": np.array(list(models)),
        "role": np.array(["model"] * m),
        "has_reward": np.ones(m, bool),
        "source": np.array(sources),
        "true": np.stack([true] * m),
        "imagined": np.stack([f(true) for f in models.values()]),
        "episode": np.arange(n) // 2,
        "replan": np.zeros(0, np.int64),
        **{k: np.zeros((m, 0, 0)) for k in ("plan_return", "plan_success", "plan_planless")},
        **{k: np.zeros(0) for k in ("random_return", "recorded_return", "plan_episode")},
        "success_rule": np.array("as the card says"),
        **more,
    }


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


def test_trivial_optima():
    models = {
        "oracle": lambda t: t,
        "constant": lambda t: np.full_like(t, 3.0),
        "mirror": lambda t: -t,
        "steep": lambda t: np.exp(t),
        "lost": lambda t: t * np.nan,
    }
    data = arrays(models)
    found = by_name(data)
    for suffix in ("", ":uniform-1", ":uniform-3", ":uniform-5", ":elite-10", ":elite-1"):
        for who in ("oracle", "steep"):
            assert found[who, f"spearman{suffix}"].value == 1.0
            for k in (1, 3):
                assert found[who, f"regret-{k}{suffix}"].value == 0.0
                assert found[who, f"hit-{k}{suffix}"].value == 1.0
        assert found["constant", f"spearman{suffix}"].value == 0.0
        assert found["constant", f"regret-1{suffix}"].value == pytest.approx(1.0, rel=1e-12)
        assert found["constant", f"hit-1{suffix}"].value == pytest.approx(1 / B, rel=1e-12)
        assert found["constant", f"hit-3{suffix}"].value == pytest.approx(3 / B, rel=1e-12)
        for who in ("mirror", "lost"):
            assert found[who, f"spearman{suffix}"].value == -1.0
            assert found[who, f"hit-3{suffix}"].value == 0.0
    true = data["true"][0, 0, :, :, -1]
    worst = ((true.max(1) - true.min(1)) / (true.max(1) - true.mean(1))).mean()
    third = ((true.max(1) - np.sort(true, 1)[:, 2]) / (true.max(1) - true.mean(1))).mean()
    for who in ("mirror", "lost"):
        assert found[who, "regret-1"].value == pytest.approx(worst, rel=1e-12)
        assert found[who, "regret-3"].value == pytest.approx(third, rel=1e-12)
    assert found["lost", "spearman"].n_invalid == N
    assert found["constant", "regret-1"].details["worst_ties"] == pytest.approx(worst, rel=1e-12)
    assert {r.details["horizon"] for r in MEASURE(data) if "spearman" in r.name} == {1, 3, 5, 10}


def test_known_answer_by_hand():
    """True returns 0, 1, 2, 9 from one start; the model puts 2 above 9."""
    data = arrays({"m": lambda t: t}, n=1, candidates=4, steps=1, sources=("uniform",))
    data["true"] = np.array([0.0, 1.0, 2.0, 9.0]).reshape(1, 1, 1, 4, 1)
    data["imagined"] = np.array([0.0, 1.0, 5.0, 4.0]).reshape(1, 1, 1, 4, 1)
    found = by_name(data)
    assert found["m", "spearman"].value == pytest.approx(0.8, rel=1e-12)
    assert found["m", "regret-1"].value == pytest.approx((9 - 2) / (9 - 3), rel=1e-12)
    assert found["m", "regret-3"].value == 0.0
    assert (found["m", "hit-1"].value, found["m", "hit-3"].value) == (0.0, 1.0)
    assert found["m", "spearman"].ci_low is None  # a single episode shows no spread
    data["imagined"][0, 0, 0, 3] = 5.0  # a tie at the top
    found = by_name(data)
    assert found["m", "regret-1"].value == pytest.approx((9 - 5.5) / 6, rel=1e-12)
    assert found["m", "regret-1"].details["worst_ties"] == pytest.approx(7 / 6, rel=1e-12)
    assert found["m", "hit-1"].value == 0.5


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (2, 30, 9)).astype(float)
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    assert rank_correlation(x, y) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6), st.integers(1, 6))
def test_hits_are_the_mean_over_orders(pairs, k):
    score, true = (np.array(c, dtype=float) for c in zip(*pairs, strict=True))
    k = min(k, len(score))
    found = []
    for order in itertools.permutations(range(len(score))):
        ranked = sorted(order, key=lambda i: -score[i])  # stable: ties in the order of the permutation
        found.append(true.max() in true[ranked[:k]])
    assert hit(score, true, k) == pytest.approx(np.mean(found), rel=1e-12)


def test_what_is_not_finite_is_as_wrong_as_can_be():
    true = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    whole = as_wrong_as_can_be(np.full(5, np.nan), true)
    assert stats.spearmanr(whole, true).statistic == pytest.approx(-1.0, rel=1e-12)
    partly = as_wrong_as_can_be(np.array([0.0, np.nan, 2.0, np.inf, 4.0]), true)
    assert np.argsort(partly).tolist() == [3, 0, 2, 4, 1]
    rng = np.random.default_rng(1)
    for _ in range(20):  # failing outright never pays
        true, imagined = rng.normal(size=(2, 9))
        lost = np.where(rng.random(9) < 0.3, np.nan, true)
        assert stats.spearmanr(as_wrong_as_can_be(lost, true), true).statistic <= 1.0 - 1e-9 or not np.isnan(lost).any()
        assert as_wrong_as_can_be(imagined, true) is imagined


def test_starts_with_nothing_to_rank_are_skipped_and_counted():
    data = arrays({"m": lambda t: -t})
    data["true"][:, :, :5] = 1.0
    found = by_name(data)["m", "spearman"]
    assert (found.n, found.details["skipped"], found.details["n_episodes"]) == (N - 5, 5, 4)
    data["true"][:] = 1.0
    found = by_name(data)
    assert found["m", "spearman"].value is None
    assert "do not differ" in found["m", "regret-3:elite-1"].reason
    data = arrays({"m": lambda t: -t})
    data["has_reward"][:] = False
    assert all("no reward" in r.reason for r in MEASURE(data))


def test_few_candidates_and_no_planner():
    found = by_name(arrays({"m": lambda t: t}, candidates=2))
    assert ("m", "regret-3") not in found
    assert found["m", "regret-1"].value == 0.0
    assert "no planner" in found["m", "planner-return"].reason


def test_planners():
    data = arrays({"a": lambda t: t, "b": lambda t: t})
    data |= {
        "replan": np.array([1, 5]),
        "plan_return": np.array([[[3.0, 2.0], [5.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]),
        "plan_success": np.array([[[True, True], [True, False]], [[False] * 2] * 2]),
        "plan_planless": np.zeros((2, 2, 2), bool),
        "random_return": np.array([-1.0, 1.0]),
        "recorded_return": np.array([2.0, 4.0]),
        "plan_episode": np.array([0, 1]),
    }
    found = by_name(data)
    assert (found["a", "planner-return:1"].value, found["a", "planner-return:5"].value) == (4.0, 1.5)
    assert (found["a", "planner-success:1"].value, found["a", "planner-success:5"].value) == (1.0, 0.5)
    assert found["a", "planner-return:1"].details["random"] == 0.0
    assert found["a", "planner-return:1"].details["recorded"] == 3.0
    data["plan_planless"][0, 0, 0] = True
    found = by_name(data)
    assert found["a", "planner-return:1"].value == (-1.0 + 5.0) / 2
    assert found["a", "planner-success:1"].value == 0.5
    assert found["a", "planner-success:1"].n_invalid == 1
    data["random_return"] = np.array([1.0, 1.0])
    assert by_name(data)["a", "planner-return:1"].value == (0.0 + 5.0) / 2
    data["has_reward"] = np.array([True, False])  # then nobody planned in the other one, and its zeros are no returns
    assert by_name(data)["a", "planner-return:1"].value == (1.0 + 5.0) / 2


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 1000))
def test_invariances(scale, shift, seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(1, 6, 5, 3))
    data = arrays({"m": lambda t: t + noise}, n=6, candidates=5, steps=3, sources=("uniform",), seed=seed)
    before = by_name(data)
    order, rows = rng.permutation(5), rng.permutation(6)
    moved = {**data, "true": data["true"] * scale + shift, "imagined": data["imagined"] * 7 - 3}
    for part in ("true", "imagined"):
        moved[part] = moved[part][:, :, rows][:, :, :, order]
    moved["episode"] = data["episode"][rows]
    for key, result in by_name(moved).items():
        assert result.value == (None if before[key].value is None else pytest.approx(before[key].value, abs=1e-7))


def test_the_same_from_a_file(tmp_path):
    recording = Recording("ranking", arrays({"m": lambda t: t**3 - t}))
    again = Recording.load(recording.save(tmp_path / "r.safetensors"))
    assert [r.to_json() for r in again.results()] == [r.to_json() for r in recording.results()]
