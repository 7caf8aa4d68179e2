"""Faults that are put into models: each does what it says, and nothing else."""

import numpy as np
import pytest
import torch

import wmbench
from wmbench import checkpoints
from wmbench.cards import ModelCard
from wmbench.protocols import Prediction, Start, WorldModel
from wmbench.recording.executability import Plan
from wmbench_baselines.faults import (
    DisagreeingStages,
    Exploitable,
    IgnoredAction,
    MistakenAction,
    Overconfident,
    ShiftedAction,
    StaleObservation,
)
from wmbench_baselines.faults.models import Faulty
from wmbench_baselines.faults.puck import TASK, Puck, PuckData, PuckInverse, PuckModel, move, register

B = 5


class Sum:
    """Adds the action, padded with zeros, to the observation, and pays the sum of the action."""

    def __init__(self, reward=True):
        self.card = ModelCard("sum", (TASK.id,), frozenset({"observation"}), "o", "adds", "tests", "none")
        self.reward = reward

    def initial(self, start, *, keys):
        return {"o": start.observation}

    def step(self, state, action, *, uncertainty=False):
        after = state["o"] + torch.nn.functional.pad(action, (0, 2))
        answer = Prediction(after, torch.ones_like(after) if uncertainty else None)
        answer.reward = action.double().sum(1) if self.reward else None
        return {"o": after}, answer


def rollout(model, action, history=None):
    """Observations (B, T, 4) and rewards (B, T) from zero under actions (B, T, 2)."""
    start = Start(torch.zeros(len(action), 4), history_action=history)
    state = model.initial(start, keys=torch.arange(len(action)))
    out = []
    for t in range(action.shape[1]):
        state, answer = model.step(state, action[:, t], uncertainty=True)
        out.append(answer)
    return torch.stack([a.observation for a in out], 1), [a.reward for a in out], out


@pytest.fixture
def action():
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (B, 6, 2)).astype(np.float32))


def test_no_fault_changes_nothing_but_the_name(action):
    model = Faulty(Sum())
    assert torch.equal(rollout(model, action)[0], rollout(Sum(), action)[0])
    assert model.card.name == "sum, no fault"
    assert model.card.task_ids == (TASK.id,)
    assert isinstance(model, WorldModel)


def test_shifted_actions(action):
    shifted = torch.cat([torch.zeros(B, 1, 2), action[:, :-1]], 1)
    assert torch.equal(rollout(ShiftedAction(Sum(), TASK), action)[0], rollout(Sum(), shifted)[0])
    history = torch.full((B, 3, 2), 0.5)
    history[:, -1] = 0.25
    found = rollout(ShiftedAction(Sum(), TASK), action, history)[0]
    assert torch.equal(found[:, 0, :2], torch.full((B, 2), 0.25))


@pytest.mark.parametrize(
    ("convert", "means"),
    [
        (torch.neg, lambda a: -a),
        (lambda a: a.flip(1), lambda a: a[..., [1, 0]]),
        (lambda a: 3 * a, lambda a: (3 * a).clamp(-1, 1)),
    ],
)
def test_mistaken_actions_stay_in_the_box(action, convert, means):
    assert torch.equal(rollout(MistakenAction(Sum(), TASK, convert), action)[0], rollout(Sum(), means(action))[0])


def test_ignored_actions(action):
    assert not rollout(IgnoredAction(Sum(), TASK), action)[0].any()
    hopper = wmbench.task_card("Gym-Hopper")
    low, high = hopper.action_bounds()
    assert torch.equal(IgnoredAction(Sum(), hopper).middle, torch.from_numpy((low + high) / 2))


def test_stale_observations(action):
    """Every step goes out from where one was a step ago, so the odd ones and the even ones go their own ways."""
    found = rollout(StaleObservation(Sum()), action)[0]
    assert torch.equal(found[:, 0, :2], action[:, 0])
    assert torch.equal(found[:, 1, :2], action[:, 1])
    assert torch.allclose(found[:, 4, :2], action[:, 0] + action[:, 2] + action[:, 4])
    assert torch.allclose(found[:, 5, :2], action[:, 1] + action[:, 3] + action[:, 5])


def test_exaggerated_confidence(action):
    observation, _, answers = rollout(Overconfident(Sum()), action)
    assert torch.equal(observation, rollout(Sum(), action)[0])
    assert all(torch.equal(a.observation_std, torch.full((B, 4), 0.25)) for a in answers)
    _, answer = (model := Overconfident(Sum(), 0.5)).step(
        model.initial(Start(torch.zeros(1, 4)), keys=torch.arange(1)), action[:1, 0]
    )
    assert answer.observation_std is None


def test_exploitable_rewards(action):
    def bonus(observation, given):
        return 10.0 * (observation[:, 0] > 0) + given[:, 1]

    observation, reward, _ = rollout(Exploitable(Sum(), bonus), action)
    for t in range(6):
        extra = 10.0 * (observation[:, t, 0] > 0) + action[:, t, 1]
        assert torch.allclose(reward[t], action[:, t].double().sum(1) + extra.double())
    assert rollout(Exploitable(Sum(reward=False), bonus), action)[1] == [None] * 6


def test_faults_go_into_a_trained_model():
    task = wmbench.task_card("DMC-CartpoleSwingup")
    model = checkpoints.resolve("ensemble", task, kind="world_model")
    start = Start(torch.from_numpy(np.random.default_rng(0).normal(size=(B, len(task.observation))).astype(np.float32)))
    keys, action = torch.arange(B), torch.full((B, 1), 0.7)

    def first(world, given):
        state = world.initial(start, keys=keys)
        return world.step(state, given, uncertainty=True)[1]

    still, pushed, pulled = (first(model, a * action / 0.7) for a in (0.0, 0.7, -0.7))
    for faulty, expected in (
        (ShiftedAction(model, task), still),
        (IgnoredAction(model, task), still),
        (MistakenAction(model, task, torch.neg), pulled),
        (StaleObservation(model), pushed),
        (Overconfident(model), pushed),
    ):
        answer = first(faulty, action)
        assert torch.equal(answer.observation, expected.observation)
        assert torch.equal(answer.reward, expected.reward)
    assert torch.equal(answer.observation_std, 0.25 * pushed.observation_std)
    assert not torch.equal(still.observation, pushed.observation)


def test_the_puck_is_what_its_model_without_errors_says():
    register()
    data = PuckData(0, train=2, test=2, steps=20)
    exact = PuckModel(0, data.stats["delta"]["std"], size=0.0)
    simulator, episode = Puck(), data.episode(3)
    simulator.set_state(episode.state[0])
    state = exact.initial(Start(torch.from_numpy(episode.observation[:1])), keys=torch.arange(1))
    for t, action in enumerate(episode.action):
        observation, reward, *_ = simulator.step(action)
        state, answer = exact.step(state, torch.from_numpy(action[None]))
        assert np.array_equal(observation, episode.observation[t + 1])
        assert np.array_equal(simulator.get_state(), episode.state[t + 1])
        assert answer.observation[0].numpy() == pytest.approx(observation, abs=1e-4)
        assert reward == pytest.approx(float(answer.reward[0]), abs=1e-3)
        assert reward == episode.reward[t]


def test_branches_of_the_puck_are_its_steps():
    data = PuckData(1, train=2, test=2)
    rng = np.random.default_rng(0)
    states = data.episode(0).state[[0, 30, 38]]
    action = rng.uniform(-1, 1, (3, 5, 2)).astype(np.float32)
    found = Puck().branch(states, action, np.array([5, 3, 5]))
    for r, steps in enumerate((5, 3, 2)):  # the last one ends with its episode
        simulator = Puck()
        simulator.set_state(states[r])
        for k in range(steps):
            observation, reward, terminated, _, info = simulator.step(action[r, k])
            for part, value in zip(found, (observation, reward, terminated, info["success"], True), strict=True):
                assert np.array_equal(part[r, k], value)
        for part in found:
            assert not part[r, steps:].any()


def test_walls_give_back_half_of_the_speed():
    state, touched = move(np.array([[0.99, 0.0, 2.0, 0.0], [0.0, 0.0, 2.0, 0.0]]), np.zeros((2, 2)))
    speed = 2.0 * (1 - 0.05 * 0.5)
    assert touched.tolist() == [[True, False], [False, False]]
    assert state[0] == pytest.approx([1 - 0.5 * (0.99 + 0.05 * speed - 1), 0.0, -0.5 * speed, 0.0])
    assert state[1] == pytest.approx([0.05 * speed, 0.0, speed, 0.0])
    free, none = move(np.array([[0.99, 0.0, 2.0, 0.0]]), np.zeros((1, 2)), walls=False)
    assert not none.any()
    assert free[0, 0] == pytest.approx(0.99 + 0.05 * speed)


def test_the_puck_says_what_it_touches_and_what_cannot_be():
    simulator = Puck()
    simulator.set_state(np.array([0.99, 0.0, 2.0, 0.0, 3.0, 0.0, 0.0]))
    assert simulator.contacts() == frozenset()
    simulator.step(np.zeros(2, np.float32))
    assert simulator.contacts() == {"puck-wall across x"}
    again = Puck()
    again.set_state(simulator.get_state())
    assert again.contacts() == simulator.contacts()
    depth = simulator.violations(np.array([[0.0, 0.5, 9.0, 9.0], [0.2, -1.25, 0.0, 0.0], [np.nan, 0.0, 0.0, 0.0]]))
    assert depth["penetration"].tolist() == [0.0, 0.25, np.inf]


def test_the_inverse_reads_the_force_off_the_true_puck():
    data = PuckData(3, train=2, test=2)
    steps = data.transitions("test")
    recovered = PuckInverse().recover(steps["observation"], steps["next_observation"])
    free = ~data.recorded.touched[2:].reshape(-1, 2).any(1)
    assert recovered.shape == (2, len(free), 2)
    assert recovered[0][free] == pytest.approx(steps["action"][free], abs=1e-4)
    assert np.abs(recovered).max() <= 1.0


def test_a_cascade_whose_action_stage_lags():
    action = np.arange(12.0).reshape(2, 3, 2)
    plan = Plan(np.ones((2, 3, 4)), action)
    found = DisagreeingStages(lambda observation, state, steps: plan)(np.zeros((2, 4)), np.zeros((2, 7)), 3)
    assert found.observation is plan.observation
    assert found.action.tolist() == action[:, [0, 0, 1]].tolist()


def test_the_model_is_honest_about_its_errors():
    data = PuckData(2, train=16, test=24)
    steps = data.transitions("test")
    within = []
    for seed in range(8):
        model = PuckModel(seed, data.stats["delta"]["std"], size=0.1)
        start = Start(torch.from_numpy(steps["observation"]))
        _, answer = model.step(model.initial(start, keys=torch.zeros(0)), torch.from_numpy(steps["action"]))
        error = steps["next_observation"] - answer.observation.numpy()
        within.append((np.abs(error) < 1.6449 * answer.observation_std.numpy()).mean())
        assert np.abs(error).mean() > 0.02 * data.stats["delta"]["std"].mean()
    assert np.mean(within) == pytest.approx(0.9, abs=0.03)
