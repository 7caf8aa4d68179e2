"""The learned twin is a drop-in for every task: spaces, Gymnasium's own checks, refusals, fresh arrays, starts."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import wmbench
from wmbench import registration
from wmbench.errors import CheckpointError, InvalidActionError, LifecycleError, WmbenchError

TASKS = list(wmbench.task_cards())
MODELS = ["copy-last", "mean-delta", "linear", "random-walk", "tdmpc2"]
HOPPER, CARTPOLE, REACHER = "wmbench/Gym-Hopper-v0", "wmbench/DMC-CartpoleSwingup-v0", "wmbench/Gym-Reacher-v0"


def zeros(env):
    return np.zeros(env.action_space.shape, np.float32)


@pytest.mark.parametrize("task", TASKS)
def test_spaces_and_metadata_are_the_true_ones(task, fitted):
    true, twin = gym.make(task).unwrapped, gym.make(task, simulator=fitted(task, "copy-last")).unwrapped
    many = gym.make_vec(task, num_envs=3, simulator=fitted(task, "copy-last")).unwrapped
    trues = gym.make_vec(task, num_envs=3).unwrapped
    assert twin.card == true.card and many.card == true.card
    for name in ("observation_space", "action_space", "metadata", "render_mode"):
        assert getattr(twin, name) == getattr(true, name)
        assert getattr(many, name) == getattr(trues, name)
    assert many.single_observation_space == true.observation_space
    assert many.single_action_space == true.action_space


@pytest.mark.parametrize("task", TASKS)
def test_check_env(task, fitted):
    """Linear for every task; the other reference models and the oracle where the test below says."""
    run_check_env(gym.make(task, simulator=fitted(task, "linear")))


@pytest.mark.parametrize("task", [HOPPER, CARTPOLE])
@pytest.mark.parametrize("model", [*MODELS, "oracle"])
@pytest.mark.parametrize("init", [None, "true"])
def test_check_env_of_every_model(task, model, init, fitted):
    run_check_env(gym.make(task, simulator=model if model == "oracle" else fitted(task, model), init=init))


def run_check_env(env):
    """Gymnasium warns about unbounded spaces, which the true tasks have; every other warning is a failure."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        check_env(env.unwrapped, skip_render_check=True)
    expected = ("value is -infinity", "value is infinity", "symmetric and normalized", "render method is not tested")
    serious = [str(w.message) for w in found if not any(e in str(w.message) for e in expected)]
    assert not serious


@pytest.mark.parametrize("task", TASKS)
def test_spec_survives_json(task, fitted):
    env = gym.make(task, simulator=fitted(task, "linear"), init="bank", uncertainty=False)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert np.array_equal(env.reset(seed=4)[0], again.reset(seed=4)[0])
    a, b = env.step(zeros(env)), again.step(zeros(env))
    assert np.array_equal(a[0], b[0]) and a[1:] == b[1:]
    many = gym.make_vec(task, num_envs=2, simulator=fitted(task, "linear"))
    spec = EnvSpec.from_json(many.spec.to_json())
    spec.kwargs.pop("vectorization_mode")
    assert np.array_equal(gym.make_vec(spec).reset(seed=1)[0], many.reset(seed=1)[0])


BAD = {
    "NaN": lambda a: np.full_like(a, np.nan),
    "infinite": lambda a: np.where(np.arange(a.size).reshape(a.shape) == a.size - 1, np.inf, a).astype(np.float32),
    "shape": lambda a: a[..., None],
    "short": lambda a: a[..., :0],
    "integers": lambda a: a.astype(int),
    "list": lambda a: a.tolist(),
    "objects": lambda a: a.astype(object),
    "None": lambda a: None,
}


@pytest.mark.parametrize("task", TASKS)
def test_bad_actions_are_refused_in_the_true_sentence_and_nothing_moves(task, fitted):
    kwargs = {"simulator": fitted(task, "linear")}
    single = (gym.make(task), gym.make(task, **kwargs), gym.make(task, **kwargs))
    batch = tuple(gym.make_vec(task, num_envs=2, **k) for k in ({}, kwargs, kwargs))
    for true, twin, other in (single, batch):
        for env in (true, twin, other):
            env.reset(seed=0)
        good = zeros(twin)
        for fault, spoil in BAD.items():
            told = []
            for env in (true, twin):
                with pytest.raises(InvalidActionError) as caught:
                    env.step(spoil(good))
                told.append(str(caught.value))
            assert told[0] == told[1] and task in told[0], fault
        assert np.array_equal(twin.step(good)[0], other.step(good)[0])


@pytest.mark.parametrize("array", ["numpy", "torch"])
def test_a_bad_row_is_named_and_no_row_moves(array, fitted):
    kwargs = {"simulator": fitted(HOPPER, "linear"), "array": array}
    env, other = (gym.make_vec(HOPPER, num_envs=5, **kwargs) for _ in range(2))
    env.reset(seed=0), other.reset(seed=0)
    bad = zeros(env)
    bad[3, 1] = np.nan
    with pytest.raises(InvalidActionError, match="NaN in row 3, dimension 1"):
        env.step(torch.from_numpy(bad) if array == "torch" else bad)
    good = torch.zeros(5, 3) if array == "torch" else zeros(env)
    assert np.array_equal(np.asarray(env.step(good)[0]), np.asarray(other.step(good)[0]))


@pytest.mark.parametrize("task", TASKS)
def test_actions_outside_the_box_are_clipped_as_in_the_true_task(task, fitted):
    env, other = (gym.make(task, simulator=fitted(task, "linear")) for _ in range(2))
    env.reset(seed=0), other.reset(seed=0)
    high = env.action_space.high
    assert np.array_equal(env.step(high * 3)[0], other.step(high)[0])


@pytest.mark.parametrize("task", [HOPPER, REACHER])
def test_misuse_is_refused_in_the_true_sentence(task, fitted):
    kwargs = {"simulator": fitted(task, "copy-last")}

    def story(env):
        """Every sentence on the way through an environment's life."""
        told = []

        def refuse(call):
            with pytest.raises(LifecycleError) as caught:
                call()
            told.append(str(caught.value))

        refuse(lambda: env.step(zeros(env)))
        refuse(env.render)
        env.reset(seed=0)
        ended = False
        while not ended:
            *_, terminated, truncated, _ = env.step(zeros(env))
            ended = terminated or truncated
        refuse(lambda: env.step(zeros(env)))
        refuse(lambda: env.step(np.full_like(zeros(env), np.nan)))
        env.reset()
        env.step(zeros(env))
        env.close()
        env.close()
        refuse(lambda: env.step(zeros(env)))
        refuse(env.reset)
        refuse(env.render)
        return told

    assert story(gym.make(task)) == story(gym.make(task, **kwargs))


@pytest.mark.parametrize("task", [HOPPER, REACHER])
def test_misuse_of_a_batch_is_refused_in_the_true_sentence(task, fitted):
    kwargs = {"simulator": fitted(task, "copy-last"), "init": "true"}

    def story(env):
        told = []

        def refuse(call, kind=LifecycleError):
            with pytest.raises(kind) as caught:
                call()
            told.append(str(caught.value))

        some = np.array([True, False, False])
        refuse(lambda: env.step(zeros(env)))
        refuse(env.render)
        refuse(lambda: env.reset(options={"reset_mask": some}))
        env.reset(seed=0)
        for options in ({"reset_mask": [True] * 3}, {"reset_mask": some[:2]}, {"reset_mask": ~some & some}, {"x": 1}):
            refuse(lambda options=options: env.reset(options=options), ValueError)
        for seed in (-1, 2**32, 1.5, "a", [1, 2], [1, 2, -3], True):
            refuse(lambda seed=seed: env.reset(seed=seed), ValueError)
        steps = 0
        while not told[-1].endswith("for it"):
            steps += 1
            *_, terminated, truncated, _ = env.step(zeros(env))
            if (terminated | truncated).any():
                refuse(lambda: env.step(zeros(env)))
        env.reset()
        env.close()
        env.close()
        refuse(lambda: env.step(zeros(env)))
        refuse(env.reset)
        refuse(env.render)
        return [t.split("row ")[0] for t in told]

    true = gym.make_vec(task, num_envs=3, autoreset_mode="Disabled")
    assert story(true) == story(gym.make_vec(task, num_envs=3, autoreset_mode="Disabled", **kwargs))


@pytest.mark.parametrize("model", MODELS)
def test_every_call_returns_memory_of_its_own(model, fitted):
    """Scribbling over everything an environment has returned changes nothing of what it returns next."""

    def scribble(value):
        if isinstance(value, dict):
            for v in value.values():
                scribble(v)
        elif isinstance(value, (tuple, list)):
            for v in value:
                scribble(v)
        elif isinstance(value, np.ndarray) and value.dtype == object:
            scribble([v for v in value if v is not None])
        elif isinstance(value, (np.ndarray, torch.Tensor)):
            value[...] = 1

    def run(env, spoil):
        seen = []
        for i in range(60):
            action = torch.zeros(3, 3) if torch_in else zeros(env)
            values = env.reset(seed=0) if i == 0 else env.step(action)
            if isinstance(env, gym.Env) and i and (values[2] or values[3]):
                break
            seen.append(np.concatenate([np.asarray(v).ravel() for v in values[:2]]) if i else None)
            if spoil:
                scribble(values)
        return seen[1:]

    torch_in = False
    a, b = (run(gym.make(HOPPER, simulator=fitted(HOPPER, model), init="true"), spoil) for spoil in (False, True))
    assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
    for torch_in in (False, True):
        for mode in ("NextStep", "SameStep"):
            kwargs = {"simulator": fitted(HOPPER, model), "autoreset_mode": mode}
            kwargs["array"] = "torch" if torch_in else "numpy"
            a = run(gym.make_vec(HOPPER, num_envs=3, **kwargs), False)
            b = run(gym.make_vec(HOPPER, num_envs=3, **kwargs), True)
            assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_true_starts_are_the_true_resets(task, fitted):
    true, twin = gym.make(task), gym.make(task, simulator=fitted(task, "linear"), init="true")
    many = gym.make_vec(task, num_envs=2, simulator=fitted(task, "linear"), init="true")
    for seed in (5, None, None, 9):
        (a, i), (b, j) = true.reset(seed=seed), twin.reset(seed=seed)
        assert np.array_equal(a, b) and b.dtype == np.float32
        assert {k: i[k] for k in j if k != "diverged"} == {k: j[k] for k in j if k != "diverged"}
    first, _ = many.reset(seed=[9, 5])
    assert np.array_equal(first[0], a)


@pytest.mark.parametrize("task", TASKS)
def test_bank_starts_need_no_simulator_and_follow_the_seed(task, fitted, random_data, monkeypatch):
    folder = fitted(task, "copy-last")
    monkeypatch.setattr("wmbench_envs.true_env.TrueEnv.__init__", None)
    known = {e.observation[0].tobytes() for e in map(random_data(task).episode, random_data(task).episodes())}
    one, many = gym.make(task, simulator=folder), gym.make_vec(task, num_envs=300, simulator=folder, init="bank")
    observations, info = many.reset(seed=11)
    assert {o.tobytes() for o in observations} == known, "300 seeds meet all six starts, and nothing else"
    assert np.array_equal(info["episode_seed"], 11 + np.arange(300))
    for row in (0, 7, 299):
        assert np.array_equal(one.reset(seed=11 + row)[0], observations[row])
    assert np.array_equal(many.reset(seed=11)[0], observations)


def test_a_model_of_another_task_is_refused(fitted):
    with pytest.raises(CheckpointError, match=rf"made for {CARTPOLE}, asked for {HOPPER}"):
        gym.make(HOPPER, simulator=fitted(CARTPOLE, "linear"))
    with pytest.raises(CheckpointError, match="asked for"):
        gym.make_vec(HOPPER, num_envs=2, simulator=fitted(CARTPOLE, "linear"))


@pytest.mark.parametrize(
    ("kwargs", "fault"),
    [
        ({"simulator": "/nowhere/checkpoint"}, "no checkpoint folder /nowhere/checkpoint"),
        ({"simulator": "linaer"}, "did you mean 'linear'"),
        ({"simulator": "oracle", "init": "bank"}, "no bank of starts"),
        ({"simulator": "oracle", "init": "flat"}, "init must be None"),
        ({"simulator": "oracle", "observation": "rgb"}, "predicts the state and no pictures"),
        ({"simulator": "oracle", "device": "abacus"}, "device 'abacus' cannot be used here"),
        ({"simulator": "oracle", "device": "cuda:77"}, "device 'cuda:77' cannot be used here"),
        ({"simulator": "oracle", "render_mode": "human"}, "render_mode must be None or 'rgb_array'"),
        ({"simulator": "oracle", "uncertainty": True}, "no 'uncertainty' head"),
    ],
)
def test_arguments_that_make_no_twin(kwargs, fault):
    for make in (gym.make, gym.make_vec):
        with pytest.raises((WmbenchError, ValueError), match=fault):
            make(HOPPER, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "fault"),
    [
        ({"num_envs": 0}, "num_envs must be a positive integer"),
        ({"array": "jax"}, "array must be one of"),
        ({"autoreset_mode": "Never"}, "autoreset_mode must be one of"),
        ({"vectorization": "async"}, "steps all rows as one batch"),
    ],
)
def test_arguments_that_make_no_batch(kwargs, fault):
    with pytest.raises(ValueError, match=fault):
        gym.make_vec(HOPPER, **{"num_envs": 2, "simulator": "oracle", **kwargs})


def test_a_shipped_reference_model_has_an_id_of_its_own(fitted, monkeypatch):
    card = wmbench.task_card(CARTPOLE)
    learned = "wmbench/DMC-CartpoleSwingup-Learned-v0"
    before = gym.registry.pop(learned, None)
    shipped = {("ensemble", CARTPOLE): fitted(CARTPOLE, "linear")}
    for module in ("wmbench.registration", "wmbench.checkpoints"):
        monkeypatch.setattr(f"{module}.shipped_checkpoints", lambda: shipped)
    try:
        registration.register_all()
        assert registration.learned_id(card) == learned
        env, named = gym.make(learned), gym.make(CARTPOLE, simulator="ensemble")
        assert env.unwrapped.model_card.name == "linear" and env.unwrapped.card == card
        assert np.array_equal(env.reset(seed=1)[0], named.reset(seed=1)[0])
        assert gym.make_vec(learned, num_envs=2).reset(seed=0)[0].shape == (2, 5)
    finally:
        gym.registry.pop(learned, None)
        if before is not None:
            gym.registry[learned] = before


def test_what_measures_reach_through_unwrapped(fitted):
    env = gym.make(HOPPER, simulator=fitted(HOPPER, "random-walk"))
    many = gym.make_vec(HOPPER, num_envs=4, simulator=fitted(HOPPER, "random-walk"))
    for e, rows in ((env.unwrapped, 1), (many.unwrapped, 4)):
        assert e.model_state is None and e.diverged_count == 0
        e.reset(seed=0)
        assert e.model_card is e.model.card and e.model_card.name == "random-walk"
        assert e.model_state["observation"].shape == (rows, 11) and e.model_state["key"].shape == (rows,)
    assert len(many.unwrapped.np_random) == 4
