"""What must not change a number: units, shifts, the order of items and episodes, and episodes that are there twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench import registry

D = 3
W, H = 10, 12

order = st.randoms(use_true_random=False)
scales = st.lists(st.floats(1e-3, 1e3), min_size=D, max_size=D)
shifts = st.lists(st.floats(-10, 10), min_size=D, max_size=D)


def values(name, arrays):
    return {(r.subject, r.name): r for r in registry.measures.load(name)(arrays)}


def permutation(random, n):
    rows = list(range(n))
    random.shuffle(rows)
    return np.array(rows)


def same(before, after, *, intervals=False, rel=1e-6):
    assert before.keys() == after.keys()
    for key, result in before.items():
        for part in ("value", "ci_low", "ci_high") if intervals else ("value",):
            expected = getattr(result, part)
            found = getattr(after[key], part)
            assert found == (None if expected is None else pytest.approx(expected, rel=rel, abs=1e-9)), (key, part)


def described(scale, shift, truth):
    flat = truth.reshape(-1, D)
    return {
        "dimension": np.array(["x", "y", "z"]),
        "kind": np.array(["linear"] * D),
        "unit": np.array(["m"] * D),
        "observation_std": flat.std(0) * scale,
        "observation_low": flat.min(0) * scale + shift,
        "observation_high": flat.max(0) * scale + shift,
    }


def drift(scale=1.0, shift=0.0, rows=slice(None), copies=1):
    rng = np.random.default_rng(0)
    truth = np.cumsum(rng.normal(size=(W, H + 1, D)), axis=1)
    models = [truth[:, 1:] + g * np.arange(1, H + 1)[:, None] * rng.normal(size=(W, 1, D)) for g in (0.02, 0.1)]
    valid = np.arange(H) < rng.integers(4, H + 1, W)[:, None]
    episode = np.arange(W) // 2
    pick = np.concatenate([np.arange(W)[rows]] * copies)
    return {
        "subject": np.array(["good", "bad"]),
        "role": np.array(["model", "floor"]),
        "disturbance": np.array([0.0, 1e-6]),
        "truth": (truth * scale + shift)[pick],
        "valid": valid[pick],
        "prediction": np.stack([m * scale + shift for m in models])[:, pick],
        "episode": episode[pick] + 100 * np.repeat(np.arange(copies), W),
        "control_hz": np.array(20.0),
        **described(scale, shift, truth),
    }


@settings(max_examples=15, deadline=None)
@given(scales, shifts)
def test_drift_does_not_see_units(scale, shift):
    same(values("drift", drift()), values("drift", drift(np.array(scale), np.array(shift))), intervals=True)


@settings(max_examples=8, deadline=None)
@given(order, st.integers(1, 3))
def test_drift_does_not_see_order_nor_copies(random, copies):
    same(values("drift", drift()), values("drift", drift(rows=permutation(random, W), copies=copies)))


def counterfactual(scale=1.0, shift=0.0, rows=slice(None), copies=1):
    rng = np.random.default_rng(1)
    n = 24
    truth = rng.normal(size=(n, 4, 5, D))
    models = [truth + 0.3 * rng.normal(size=truth.shape), 0.5 * truth, np.repeat(truth[:, :1], 4, axis=1) + 0.1]
    pick = np.concatenate([np.arange(n)[rows]] * copies)
    return {
        "subject": np.array(["noisy", "half", "blind"]),
        "branch": np.array(["recorded", "near", "data", "corner"]),
        "truth": (truth * scale + shift)[pick],
        "valid": np.ones((len(pick), 4, 5), bool),
        "prediction": np.stack([m * scale + shift for m in models])[:, pick],
        "episode": (np.arange(n) // 4)[pick] + 100 * np.repeat(np.arange(copies), n),
        "delta_std": np.full(D, 0.7) * scale,
        **described(scale, shift, truth),
    }


@settings(max_examples=10, deadline=None)
@given(scales, shifts)
def test_counterfactuals_do_not_see_units(scale, shift):
    changed = counterfactual(np.array(scale), np.array(shift))
    same(values("counterfactual", counterfactual()), values("counterfactual", changed), rel=1e-5)


@settings(max_examples=6, deadline=None)
@given(order, st.integers(1, 3))
def test_counterfactuals_do_not_see_order_nor_copies(random, copies):
    changed = counterfactual(rows=permutation(random, 24), copies=copies)
    same(values("counterfactual", counterfactual()), values("counterfactual", changed))


def evaluation(rows=slice(None), copies=1, scale=1.0, shift=0.0):
    """Two policies on 30 shared starts; two episodes of the first are invalid."""
    rng = np.random.default_rng(2)
    n = 30
    solved, returns = rng.random((2, n)) < [[0.8], [0.4]], rng.normal(size=(2, n))
    valid = np.ones((2, n), bool)
    valid[0, [3, 17]] = False
    pick = np.concatenate([np.arange(2 * n)[rows]] * copies)
    return {
        "subject": np.repeat(["a", "b"], n)[pick],
        "seed": np.tile(np.arange(n), 2)[pick] + 1000 * np.repeat(np.arange(copies), 2 * n),
        "once": solved.ravel()[pick],
        "at_end": (solved & (returns > 0)).ravel()[pick],
        "valid": valid.ravel()[pick],
        "fault": np.where(valid.ravel(), "", "broke")[pick],
        "returns": (returns.ravel() * scale + shift)[pick],
        "length": np.full(len(pick), 9),
        "when": np.array("once"),
        "reward_low": np.array(np.nan),
        "horizon": np.array(9),
    }


@settings(max_examples=15, deadline=None)
@given(order, st.integers(1, 3))
def test_success_does_not_see_order_nor_copies(random, copies):
    same(values("success", evaluation()), values("success", evaluation(permutation(random, 60), copies)))


@settings(max_examples=15, deadline=None)
@given(order)
def test_success_of_policies_does_not_see_their_order(random):
    changed = evaluation(permutation(random, 60))
    assert {k: (r.ci_low, r.ci_high) for k, r in values("success", changed).items() if k[1].startswith("success")} == {
        k: (r.ci_low, r.ci_high) for k, r in values("success", evaluation()).items() if k[1].startswith("success")
    }


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_returns_follow_their_unit(scale, shift):
    before, after = values("success", evaluation()), values("success", evaluation(scale=scale, shift=shift))
    for key, result in before.items():
        factor, offset = (scale, shift) if key[1] == "return" else (1.0, 0.0)
        for part in ("value", "ci_low", "ci_high"):
            assert getattr(after[key], part) == pytest.approx(factor * getattr(result, part) + offset, rel=1e-6)
    before, after = values("comparison", evaluation()), values("comparison", evaluation(scale=scale, shift=shift))
    for key, result in before.items():
        factor = scale if key[1] == "return-difference" else 1.0
        assert after[key].value == pytest.approx(factor * result.value, rel=1e-6, abs=1e-9 * scale)
        assert after[key].details.get("sign_flip_p") == result.details.get("sign_flip_p")


@settings(max_examples=10, deadline=None)
@given(order, st.integers(1, 3))
def test_comparison_does_not_see_the_order_of_episodes_nor_copies(random, copies):
    """Within each policy; which of the two comes first decides the sign, and whoever appears first comes first."""
    rows = np.concatenate([permutation(random, 30), 30 + permutation(random, 30)])
    same(values("comparison", evaluation()), values("comparison", evaluation(rows, copies)))


def runs(rows=slice(None), copies=1):
    rng = np.random.default_rng(3)
    subject, task, seed = (a.ravel() for a in np.meshgrid(["a", "b"], ["s", "t"], np.arange(3), indexing="ij"))
    score = rng.normal(size=(len(subject), 4)) + np.repeat(rng.normal(size=(len(subject), 1)), 4, axis=1)
    columns = {"subject": subject, "task": task, "train_seed": seed}
    every = {k: np.repeat(v, 4) for k, v in columns.items()} | {"score": score.ravel()}
    pick = np.concatenate([np.arange(score.size)[rows]] * copies)
    return {k: v[pick] for k, v in every.items()} | {"worst": np.array(-9.0), "target": np.array(1.0)}


@settings(max_examples=15, deadline=None)
@given(order, st.integers(1, 3))
def test_methods_do_not_see_order_nor_copies_of_episodes(random, copies):
    """The interval is over seeds: more copies of their episodes are no more evidence."""
    rows = np.concatenate([permutation(random, 24), 24 + permutation(random, 24)])
    same(values("methods", runs()), values("methods", runs(rows, copies)), intervals=True)


@settings(max_examples=15, deadline=None)
@given(order, st.floats(1e-3, 1e3))
def test_latency_does_not_see_order_and_follows_the_unit(random, scale):
    """Order matters to the streaks of missed deadlines alone, and they are not asked for here."""
    seconds = np.random.default_rng(4).lognormal(-7, 0.5, 400)

    def timed(values):
        return {
            "subject": np.array(["m"]),
            "call": np.array(["step"]),
            "batch": np.array([4]),
            "row": np.zeros(400, int),
            "seconds": values,
            "warmup": np.zeros(400, bool),
        }

    before, after = (
        values("latency", timed(seconds)),
        values("latency", timed(scale * seconds[permutation(random, 400)])),
    )
    for key, result in before.items():
        factor = {"s": scale, "rows/s": 1 / scale}.get(result.unit, 1.0)
        expected = None if result.value is None else pytest.approx(factor * result.value, rel=1e-9)
        assert after[key].value == expected, key
