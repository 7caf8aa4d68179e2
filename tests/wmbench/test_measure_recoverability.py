"""Recoverability: known answers, trivial optima, an independent R2, invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from wmbench.errors import DatasetError
from wmbench.measures.recoverability import DEFINITIONS, MEASURE

N, A, E = 60, 2, 3
BRANCHES = ("elsewhere", "recorded")


def arrays(models, *, ceiling=lambda a: 0.9 * a, seed=0, action=None, mean=None):
    """Actions -1 and 1 in boxes of half width 1 and 4; ``models`` and ``ceiling`` map actions to what is recovered."""
    rng = np.random.default_rng(seed)
    half = np.array([1.0, 4.0])
    if action is None:
        action = np.where(rng.random((N, 2, A)) < 0.5, -1.0, 1.0) * half
        action[1::2] = -action[::2]  # mean 0

    def members(f):
        return np.repeat(f(action)[None], E, axis=0)

    return {
        "subject": np.array(list(models)),
        "role": np.array(["model"] * len(models)),
        "branch": np.array(BRANCHES),
        "action_name": np.array(["push", "turn"]),
        "action_low": -half,
        "action_high": half,
        "action_mean": np.zeros(A) if mean is None else mean,
        "action": action,
        "valid": np.ones((N, 2), bool),
        "recovered_true": members(ceiling),
        "recovered": np.stack([members(f) for f in models.values()]),
        "episode": np.arange(N) // 6,
    }


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


MODELS = {
    "oracle": lambda a: 0.9 * a,
    "half": lambda a: 0.5 * a,
    "blind": lambda a: 0.0 * a,
    "mirror": lambda a: -a,
    "one": lambda a: a * np.array([1.0, 0.0]),
    "lost": lambda a: a * np.nan,
}


def test_known_answers_and_trivial_optima():
    found = by_name(arrays(MODELS))
    expected = {"oracle": 0.99, "half": 0.75, "blind": 0.0, "mirror": -3.0, "one": 0.5, "lost": -3.0}
    for subject, r2 in expected.items():
        for suffix in ("", ":recorded"):
            result = found[subject, f"recoverability{suffix}"]
            assert found[subject, f"r2-true{suffix}"].value == pytest.approx(0.99, rel=1e-12)
            assert found[subject, f"r2-model{suffix}"].value == pytest.approx(r2, rel=1e-12, abs=1e-12)
            assert result.value == pytest.approx(r2 / 0.99, rel=1e-12, abs=1e-12)
            assert result.ci_low <= result.value <= result.ci_high
            assert (result.n, result.n_invalid) == (N, N if subject == "lost" else 0)
    assert found["oracle", "recoverability"].value == 1.0  # exactly
    assert found["one", "r2-model"].details["by_dimension"] == {"push": 1.0, "turn": 0.0}
    assert found["one", "r2-model"].details["n_episodes"] == 10
    assert [r.name for r in MEASURE(arrays({"m": MODELS["half"]}))][:4] == list(DEFINITIONS)


def test_disagreement_on_what_was_predicted():
    data = arrays({"m": MODELS["half"], "lost": MODELS["lost"]})
    spread = np.array([-1.0, 0.0, 1.0])[:, None, None, None] * np.array([1.0, 4.0])
    data["recovered_true"] = data["recovered_true"] + 0.1 * spread  # variance 2/3 of 0.01 in half widths
    data["recovered"] = data["recovered"] + 0.3 * spread
    found = by_name(data)
    assert found["m", "fooled"].value == pytest.approx(3.0, rel=1e-12)
    assert found["lost", "fooled"].value == pytest.approx(np.sqrt(1 / (0.01 * 2 / 3)), rel=1e-12)
    assert found["m", "recoverability"].value == pytest.approx(0.75 / 0.99, rel=1e-12)  # of the members' mean
    data["recovered_true"] = data["recovered_true"] - 0.1 * spread
    found = by_name(data)
    assert found["m", "fooled"].value is None and "last digit" in found["m", "fooled"].reason
    assert by_name(arrays(MODELS))["half", "fooled"].value == 1.0  # neither disagrees


def test_one_lost_prediction_is_the_worst_there_is():
    data = arrays({"m": lambda a: a.copy()}, ceiling=lambda a: a)
    data["recovered"][0, :, 0, 0] = np.nan
    result = by_name(data)["m", "r2-model"]
    assert result.value == pytest.approx(1 - 4 / N, rel=1e-12) and result.n_invalid == 1
    data["recovered"][0, 0, 0, 0] = 1.0  # one member is enough
    assert by_name(data)["m", "r2-model"].value == pytest.approx(1 - 4 / N, rel=1e-12)


def test_no_answer_without_a_ceiling():
    found = by_name(arrays(MODELS, ceiling=lambda a: 0.05 * a))  # R2 = 1 - 0.95 ** 2 = 0.0975
    assert found["oracle", "recoverability"].value is None
    assert "0.0975" in found["oracle", "recoverability"].reason
    assert found["oracle", "r2-model"].value == pytest.approx(0.99)
    assert by_name(arrays(MODELS, ceiling=lambda a: 0.06 * a))["oracle", "recoverability"].value > 8


def test_no_answer_without_actions_that_differ():
    data = arrays(MODELS, action=np.zeros((N, 2, A)))
    assert all(r.value is None and "mean" in r.reason for r in MEASURE(data))
    data = arrays(MODELS)
    data["valid"][:] = False
    assert all(r.value is None for r in MEASURE(data))
    data = arrays({"m": MODELS["half"]})
    data["action"][:, 0, 1] = 0.0
    data["recovered_true"][:, :, 0, 1] = 0.0
    assert by_name(data)["m", "r2-true"].details["by_dimension"] == {"push": pytest.approx(0.99), "turn": None}


def test_without_branches_only_the_recorded_actions_are_scored():
    data = arrays({"m": MODELS["half"]})
    for name, axis in (("branch", 0), ("action", 1), ("valid", 1), ("recovered_true", 2), ("recovered", 3)):
        data[name] = np.take(data[name], [1], axis=axis)
    found = by_name(data)
    assert found["m", "recoverability"].value is None and "elsewhere" in found["m", "recoverability"].reason
    assert found["m", "recoverability:recorded"].value == pytest.approx(0.75 / 0.99)
    with pytest.raises(DatasetError, match="recovered_true"):
        MEASURE({k: v for k, v in data.items() if k != "recovered_true"})


def test_a_single_episode_has_no_interval():
    data = arrays(MODELS)
    data["episode"] = np.zeros(N, int)
    result = by_name(data)["half", "recoverability"]
    assert result.value == pytest.approx(0.75 / 0.99) and result.ci_low is result.ci_high is None


def noisy(seed):
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (N, 2, A)) * np.array([1.0, 4.0])
    true, model = (rng.normal(size=(E, N, 2, A)) * s for s in (0.1, 0.3))
    data = arrays({"m": lambda a: a}, action=action, mean=action[:, 0].mean(0))
    data["recovered_true"], data["recovered"] = data["recovered_true"] + true, data["recovered"] + model
    return data


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_r2_equals_that_of_scikit_learn(seed):
    data = noisy(seed)
    half = np.array([1.0, 4.0])
    found = by_name(data)
    for name, recovered in (("r2-true", data["recovered_true"]), ("r2-model", data["recovered"][0])):
        guess = recovered[:, :, 0].mean(0) / half
        expected = r2_score(data["action"][:, 0] / half, guess, multioutput="variance_weighted")
        assert found["m", name].value == pytest.approx(expected, rel=1e-12)
        each = r2_score(data["action"][:, 0] / half, guess, multioutput="raw_values")
        assert list(found["m", name].details["by_dimension"].values()) == pytest.approx(list(each), rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-50, 50))
def test_units_order_and_duplicates_do_not_matter(seed, scale, shift):
    data = noisy(seed)
    before = by_name(data)
    other = dict(data)
    for name in ("action_low", "action_high", "action_mean", "action", "recovered_true", "recovered"):
        other[name] = data[name] * scale + shift
    order = np.random.default_rng(seed).permutation(N)
    shuffled = {**data, "action": data["action"][order], "valid": data["valid"][order]}
    shuffled |= {"episode": data["episode"][order], "recovered_true": data["recovered_true"][:, order]}
    shuffled["recovered"] = data["recovered"][:, :, order]
    twice = {k: data[k] for k in data}
    twice |= {k: np.concatenate([data[k]] * 2) for k in ("action", "valid", "episode")}
    twice["recovered_true"] = np.concatenate([data["recovered_true"]] * 2, axis=1)
    twice["recovered"] = np.concatenate([data["recovered"]] * 2, axis=2)
    for changed in (other, shuffled, twice):
        for key, result in by_name(changed).items():
            assert result.value == pytest.approx(before[key].value, rel=1e-6, abs=1e-9)
            assert result.ci_low == pytest.approx(before[key].ci_low, rel=1e-6, abs=1e-6)


def test_intervals_cover_where_episodes_differ():
    """Ten episodes whose errors differ by factors of e, simulated: nominal 95 %."""
    rng = np.random.default_rng(0)

    def draw(episodes):
        scale = np.repeat(np.exp(0.5 * rng.normal(size=episodes)), 20)[:, None]
        action = rng.uniform(-1, 1, (len(scale), A))
        true = action + 0.15 * scale * rng.normal(size=action.shape)
        return action, true, true + 0.35 * scale * rng.normal(size=action.shape), np.repeat(np.arange(episodes), 20)

    def score(episodes):
        action, true, model, episode = draw(episodes)
        data = arrays({"m": MODELS["half"]}, action=np.zeros((len(action), 1, A)))
        data |= {"action": action[:, None], "episode": episode, "valid": np.ones((len(action), 1), bool)}
        data |= {"recovered_true": true[None, :, None], "recovered": model[None, None, :, None]}
        data |= {"branch": np.array(["elsewhere"]), "action_low": -np.ones(A), "action_high": np.ones(A)}
        return by_name(data)["m", "recoverability"]

    share = 3 * np.exp(0.5)  # mean square of the scale over that of the actions
    truth = (1 - share * (0.15**2 + 0.35**2)) / (1 - share * 0.15**2)
    many = score(1500)
    assert many.value == pytest.approx(truth, abs=0.08) and many.ci_low < many.value < many.ci_high
    hits = [found.ci_low <= truth <= found.ci_high for found in (score(10) for _ in range(150))]
    assert np.mean(hits) >= 0.92


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        (lambda a, rng: np.roll(a, 1, axis=0), 95),  # the previous row's action
        (lambda a, rng: -a, 95),
        (lambda a, rng: a[..., ::-1] * np.array([0.25, 4.0]), 95),  # dimensions in another order
        (lambda a, rng: 0 * a, 95),
    ],
    ids=["shifted", "swapped sign", "swapped dimensions", "ignored"],
)
def test_injected_faults_are_found(fault, least):
    """The threshold is the 2 % quantile of sound models; at least 95 of 100 faulty ones fall below it."""

    def value(seed, change):
        rng = np.random.default_rng(seed)
        data = noisy(seed)
        noise = data["recovered"][0] - data["action"]
        data["recovered"] = (change(data["action"], rng) + noise)[None]
        sums = by_name({**data, "episode": np.zeros(N, int)})
        return sums["m", "recoverability"].value

    sound = np.quantile([value(seed, lambda a, rng: a) for seed in range(200)], 0.02)
    assert sum(value(1000 + seed, fault) < sound for seed in range(100)) >= least
