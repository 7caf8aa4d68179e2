"""An action repeat is the same simulator seen in longer steps: sums, states, branches, cards, twins and datasets."""

import dataclasses
import json
import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import wmbench
from wmbench import checkpoints
from wmbench.cards import TaskCard
from wmbench.errors import CardError, CheckpointError, DatasetError, StateError
from wmbench.training import train

CARDS = [card for card in wmbench.task_cards().values() if card.suite in ("gym-mujoco", "dm-control")]
FEW = ["wmbench/DMC-ReacherEasy-v0", "wmbench/Gym-Hopper-v0", "wmbench/DMC-BallInCupCatch-v0"]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_one_long_step_is_several_short_ones(card: TaskCard) -> None:
    long, short = gym.make(card.id, action_repeat=3).unwrapped, gym.make(card.id).unwrapped
    assert long.card == card.repeated(3)
    assert np.array_equal(long.reset(seed=3)[0], short.reset(seed=3)[0])
    rng = np.random.default_rng(0)
    low, high = card.action_bounds()
    for _ in range(5):
        action = rng.uniform(low, high).astype(np.float32)
        seen, reward, terminated, truncated, info = long.step(action)
        total = 0.0
        for _ in range(3):
            one = short.step(action)
            total += one[1]
            if one[2] or one[3]:
                break
        assert np.array_equal(seen, one[0])
        assert (reward, terminated, truncated) == (total, one[2], one[3])
        if card.success.kind == "distance":
            assert info["success"] == one[4]["success"]
        if terminated:
            break
    long.close(), short.close()


@pytest.mark.parametrize("repeat", [2, 3])
def test_an_episode_is_as_long_as_without(repeat: int) -> None:
    """3 does not divide 1000: the last action is applied once only."""
    card = wmbench.task_card("DMC-PendulumSwingup")
    env, plain = gym.make(card.id, action_repeat=repeat).unwrapped, gym.make(card.id).unwrapped
    env.reset(seed=0), plain.reset(seed=0)
    action, steps, total = np.full(1, 0.5, np.float32), 0, 0.0
    while True:
        seen, reward, _, truncated, _ = env.step(action)
        steps, total = steps + 1, total + reward
        if truncated:
            break
    ended, whole = False, 0.0
    while not ended:
        last, reward, _, ended, _ = plain.step(action)
        whole += reward
    assert steps == env.card.horizon == math.ceil(1000 / repeat)
    assert np.array_equal(seen, last)
    assert total == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("task", FEW)
def test_states_and_branches_are_exact(task: str) -> None:
    env = gym.make(task, action_repeat=2).unwrapped
    low, high = env.card.action_bounds()
    rng = np.random.default_rng(1)
    actions = rng.uniform(low, high, (12, len(low))).astype(np.float32)
    env.reset(seed=5)
    for action in actions[:4]:
        env.step(action)
    state = env.get_state()

    def follow() -> list:
        steps: list = []
        while len(steps) < 8 and not (steps and (steps[-1][2] or steps[-1][3])):
            steps.append(env.step(actions[4 + len(steps)])[:4])
        return steps

    after = follow()
    env.set_state(state)
    for a, b in zip(after, follow(), strict=True):
        assert np.array_equal(a[0], b[0])
        assert a[1:] == b[1:]
    found = env.branch(np.stack([state, state]), np.stack([actions[4:], actions[4:]]), np.array([8, 3]))
    if found is not None:
        observation, reward, terminated, _, valid = found
        assert valid.sum(1).tolist() == [len(after), 3]
        for row in (0, 1):
            for i in range(valid[row].sum()):
                assert np.array_equal(observation[row, i], after[i][0])
                assert (reward[row, i], terminated[row, i]) == (after[i][1], after[i][2])
        assert not observation[1, 3:].any()
    with pytest.raises(StateError, match="action repeat"):
        gym.make(task).unwrapped.set_state(state)


def test_branches_end_with_the_episode() -> None:
    env = gym.make("wmbench/DMC-CheetahRun-v0", action_repeat=3).unwrapped
    env.reset(seed=0)
    still = np.zeros(6, np.float32)
    for _ in range(env.card.horizon - 2):
        env.step(still)
    state = env.get_state()
    steps = [env.step(still + 0.3), env.step(still - 0.2)]
    assert steps[1][3]
    actions = np.stack([still + 0.3, still - 0.2, still, still])[None]
    observation, reward, _, _, valid = env.branch(state[None], actions, np.array([4]))
    assert valid.tolist() == [[True, True, False, False]]
    assert np.array_equal(observation[0, :2], np.stack([s[0] for s in steps]))
    assert reward[0, :2].tolist() == [s[1] for s in steps]


@pytest.mark.parametrize("task", FEW)
def test_the_oracle_equals_the_truth(task: str) -> None:
    true, twin = gym.make(task, action_repeat=2), gym.make(task, action_repeat=2, simulator="oracle", init="true")
    assert true.observation_space == twin.observation_space
    assert np.array_equal(true.reset(seed=2)[0], twin.reset(seed=2)[0])
    true.action_space.seed(0)
    for _ in range(12):
        action = true.action_space.sample()
        a, b = true.step(action), twin.step(action)
        assert np.array_equal(a[0], b[0])
        assert a[1:4] == b[1:4]
        assert a[4]["success"] == b[4]["success"]
        if a[2] or a[3]:
            break
    true.close(), twin.close()


@pytest.mark.parametrize("card", wmbench.task_cards().values(), ids=lambda card: card.name)
def test_the_card_of_a_repeat(card: TaskCard) -> None:
    four = card.repeated(4)
    assert (four.action_repeat, four.horizon, four.control_hz) == (4, math.ceil(card.horizon / 4), card.control_hz / 4)
    assert four.repeated(1) == card.repeated(1) == card
    assert four.repeated(2) == card.repeated(2)
    assert TaskCard.from_json(json.loads(json.dumps(four.to_json()))) == four
    assert len({card.digest(), four.digest(), card.repeated(2).digest()}) == 3
    times = 4 if card.success.kind == "reward" else 1
    assert four.success.threshold == card.success.threshold * times
    low, high = four.reward_range
    assert low is None or low <= card.reward_range[0]
    assert high is None or high >= card.reward_range[1]


def test_what_is_no_repeat_is_refused() -> None:
    card = wmbench.task_card("DMC-ReacherEasy")
    for bad in (0, -1, 2.0, True, "2", None):
        with pytest.raises(CardError, match="ReacherEasy-v0: action_repeat must be a positive integer"):
            gym.make(card.id, action_repeat=bad)
    with pytest.raises(CardError, match="made by repeated"):
        dataclasses.replace(card, action_repeat=2)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_accepts_it_in_every_form() -> None:
    env = gym.make(FEW[0], action_repeat=2)
    check_env(env.unwrapped, skip_render_check=True)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.card.action_repeat == 2
    vector = gym.make_vec(FEW[0], num_envs=2, action_repeat=2)
    first, _ = vector.reset(seed=[1, 2])
    single, _ = env.reset(seed=2)
    assert np.array_equal(first[1], single)
    action = np.full((2, 2), 0.1, np.float32)
    assert np.array_equal(vector.step(action)[0][1], env.step(action[1])[0])
    vector.close()


def test_a_dataset_a_model_and_a_policy_keep_to_their_repeat(tmp_path) -> None:
    task = "DMC-PointMassEasy"
    twice = wmbench.task_card(task).repeated(2)
    data = wmbench.collect(task, tmp_path / "data", episodes=10, action_repeat=2)
    assert data.task == twice
    assert data.manifest["control_hz"] == 25.0
    episode = data.episode(0)
    assert len(episode) == 500
    with pytest.raises(DatasetError, match=r"action_repeat=2, wanted for action_repeat=1"):
        wmbench.collect(task, tmp_path / "data", episodes=10)
    with pytest.raises(DatasetError, match=r"action_repeat=2, training was asked for .* action_repeat=1"):
        train("linear", wmbench.task_card(task), data, tmp_path / "no")
    done = train("linear", task, data, tmp_path / "linear", bank_size=8)
    assert checkpoints.load(done.folder, kind="world_model", task=twice).task == twice
    folder = str(done.folder)
    with pytest.raises(CheckpointError, match=r"action_repeat=2, asked for action_repeat=1"):
        gym.make(twice.id, simulator=folder)
    with pytest.raises(CheckpointError, match=r"action_repeat=2, asked for action_repeat=4"):
        wmbench.evaluate(task, simulator=folder, episodes=1, action_repeat=4)
    twin = gym.make(twice.id, simulator=folder, action_repeat=2)
    assert twin.unwrapped.card == twice
    found = wmbench.evaluate(task, simulator=folder, episodes=2, action_repeat=2)
    assert found.settings["action_repeat"] == 2
    assert found.episodes[0]["length"] <= 500
