"""The proof of the drop-in: the twin over the oracle is the true environment, bit for bit, for every task."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import wmbench
from wmbench.errors import CheckpointError, StateError
from wmbench.keys import keys_from_seeds
from wmbench.protocols import Start
from wmbench.trees import gather
from wmbench_baselines.oracle import ENDED, Oracle, OracleConfig

TASKS = list(wmbench.task_cards())
HOPPER, CARTPOLE, REACHER = "wmbench/Gym-Hopper-v0", "wmbench/DMC-CartpoleSwingup-v0", "wmbench/Gym-Reacher-v0"
STEPS = 1010
SEEDS = [3, 1_000_003, 2**31 - 1]
ALONE = {"MS-PickCube", "MS-TwoRobotPickCube", "MS-CartpoleBalance", "MS-HopperHop"}
"""ManiSkill's tasks stand for each other where a twin of one row is as good as a row of many: one of each kind of
success, one whose action is a dictionary, one that terminates."""


def steps_for(task):
    """ManiSkill takes milliseconds a step: through one end of an episode where that is near."""
    card = wmbench.task_card(task)
    return STEPS if card.suite != "maniskill" else card.horizon + 10 if card.horizon <= 100 else 40


def actions_for(task, steps, rows, seed=0):
    """(T, B, A) float32, a third of them outside the box."""
    low, high = wmbench.task_card(task).action_bounds()
    span = high - low
    shape = (steps, rows, len(low))
    return np.random.default_rng(seed).uniform(low - span / 4, high + span / 4, shape).astype(np.float32)


def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("task", TASKS)
def test_batched_twin_over_the_oracle_is_the_true_environment(task):
    """A thousand steps from three seeds and ten more, through every end of an episode and what follows it."""
    seeds, steps = SEEDS[:2] if task.startswith("wmbench/MS-") else SEEDS, steps_for(task)
    true = SyncVectorEnv([lambda: gym.make(task)] * len(seeds))
    twin = gym.make_vec(task, num_envs=len(seeds), simulator="oracle")
    (a, i), (b, j) = true.reset(seed=seeds), twin.reset(seed=seeds)
    same(a, b)
    same(i["episode_seed"], j["episode_seed"])
    ends = 0
    for action in actions_for(task, steps, len(seeds)):
        *x, i = true.step(action)
        *y, j = twin.step(action)
        for p, q in zip(x, y, strict=True):
            same(p, q)
        for key in ("success", "is_success", "_success"):
            same(i[key], j[key])
        ends += int((x[2] | x[3]).sum())
        assert ("episode_seed" in i) == ("episode_seed" in j)
        if "episode_seed" in i:
            same(i["episode_seed"], j["episode_seed"])
    if steps > wmbench.task_card(task).horizon:
        assert ends >= len(seeds), "every row has ended, and begun anew"
    assert twin.unwrapped.diverged_count == 0
    assert len(twin.unwrapped.model._pool) == len(seeds), "each row keeps its own simulator"
    true.close(), twin.close()


@pytest.mark.parametrize("task", [t for t in TASKS if t[8:11] != "MS-" or t[8:-3] in ALONE])
def test_single_twin_over_the_oracle_is_the_true_environment(task):
    """Through the last step before the time limit and a reset without a seed, where the true one goes on as well."""
    true, twin = gym.make(task), gym.make(task, simulator="oracle")
    (a, i), (b, j) = true.reset(seed=7), twin.reset(seed=7)
    same(a, b)
    for action in actions_for(task, 120, 1, seed=1)[:, 0]:
        a, *x, i = true.step(action)
        b, *y, j = twin.step(action)
        same(a, b)
        assert x == y and [type(v) for v in x] == [type(v) for v in y]
        assert i["success"] is j["success"] and i["is_success"] is j["is_success"]
        assert j["diverged"] is False
        if x[1] or x[2]:
            (a, i), (b, j) = true.reset(), twin.reset()
            same(a, b)
            assert i["episode_seed"] == j["episode_seed"]
    true.close(), twin.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_it_is_so_in_every_autoreset_mode(mode):
    true = SyncVectorEnv([lambda: gym.make(HOPPER)] * 4, autoreset_mode=mode)
    twin = gym.make_vec(HOPPER, num_envs=4, simulator="oracle", autoreset_mode=mode.value)
    same(true.reset(seed=1)[0], twin.reset(seed=1)[0])
    for action in actions_for(HOPPER, 150, 4):
        x, y = true.step(action), twin.step(action)
        for p, q in zip(x[:4], y[:4], strict=True):
            same(p, q)
        ended = x[2] | x[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            same(*(e.reset(options={"reset_mask": ended.copy()})[0] for e in (true, twin)))


def oracle_at(task, seeds, **config):
    env = gym.make(task).unwrapped
    observation = np.stack([env.reset(seed=s)[0] for s in seeds])
    model = Oracle(OracleConfig(**config), wmbench.task_card(task))
    start = Start(torch.from_numpy(observation), seed=torch.tensor(seeds))
    return model, model.initial(start, keys=torch.from_numpy(keys_from_seeds(seeds)))


@pytest.mark.parametrize("task", [HOPPER, CARTPOLE, "wmbench/Gym-Ant-v0"])
def test_branches_equal_the_original(task):
    """A state is a value: stepped again, from a copy, or in another order, it leads to the same."""
    model, state = oracle_at(task, [0, 1])
    actions = torch.from_numpy(np.clip(actions_for(task, 12, 2), -1, 1))
    states, first = [state], []
    for action in actions:
        state, prediction = model.step(state, action)
        states.append(state)
        first.append(prediction)
    for t in (7, 3, 10, 0):
        many = gather(states[t], torch.tensor([1, 0, 1, 1]))
        _, again = model.step(many, actions[t][[1, 0, 1, 1]])
        for head in ("observation", "reward", "terminated", "success"):
            assert torch.equal(getattr(again, head), getattr(first[t], head)[[1, 0, 1, 1]])


def test_more_rows_than_simulators():
    wide, state = oracle_at(HOPPER, list(range(5)))
    narrow, same_state = oracle_at(HOPPER, list(range(5)), live=2)
    assert len(wide._pool) == 5 and len(narrow._pool) == 2
    for action in torch.from_numpy(np.clip(actions_for(HOPPER, 10, 5), -1, 1)):
        state, a = wide.step(state, action)
        same_state, b = narrow.step(same_state, action)
        assert torch.equal(a.observation, b.observation) and torch.equal(a.reward, b.reward)
    assert len(narrow._pool) == 2


def test_planners_may_look_beyond_the_end():
    """After the time limit the physics goes on as if there were none."""
    card = wmbench.task_card(REACHER)
    model, state = oracle_at(REACHER, [0])
    action = torch.zeros(1, len(card.action))
    for _ in range(card.horizon):
        state, prediction = model.step(state, action)
    assert state["sim"][0, ENDED] == 1 and prediction.terminated[0] == 0, "a time limit is no termination"
    for _ in range(3):
        state, prediction = model.step(state, action)
        assert torch.isfinite(prediction.observation).all() and prediction.terminated[0] == 0
    raw = gym.make("Reacher-v5").unwrapped
    raw.reset(seed=0)
    for _ in range(card.horizon + 3):
        observation, reward, *_ = raw.step(action[0].numpy())
    assert np.array_equal(prediction.observation[0].numpy(), observation.astype(np.float32))
    assert float(prediction.reward[0]) == reward


def test_starts_from_saved_states_and_refuses_what_does_not_fit():
    env = gym.make(HOPPER).unwrapped
    first, _ = env.reset(seed=0)
    for action in np.clip(actions_for(HOPPER, 5, 1)[:, 0], -1, 1):
        observation, *_ = env.step(action)
    saved = torch.from_numpy(env.get_state())[None]
    model, keys = Oracle.for_task(wmbench.task_card(HOPPER)), torch.zeros(1, dtype=torch.int64)
    now = torch.from_numpy(observation)[None]
    state = model.initial(Start(now, sim_state=saved, seed=torch.tensor([-1])), keys=keys)
    action = torch.full((1, 3), 0.5)
    _, prediction = model.step(state, action)
    expected, reward, *_ = env.step(action[0].numpy())
    assert np.array_equal(prediction.observation[0].numpy(), expected) and float(prediction.reward[0]) == reward
    with pytest.raises(StateError, match="needs the seed or the simulator state of row 0"):
        model.initial(Start(now), keys=keys)
    with pytest.raises(StateError, match="seed 0 of row 0's start leads to another observation"):
        model.initial(Start(now, seed=torch.tensor([0])), keys=keys)
    with pytest.raises(StateError, match="simulator state of row 0's start leads to another"):
        model.initial(Start(torch.from_numpy(first)[None], sim_state=saved), keys=keys)
    with pytest.raises(ValueError, match="live=0"):
        OracleConfig(live=0)


def test_it_has_no_bank():
    with pytest.raises(CheckpointError, match=r"has no bank of starts.*init='true'"):
        gym.make(HOPPER, simulator="oracle", init="bank")
