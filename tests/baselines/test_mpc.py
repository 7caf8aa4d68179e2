"""Known answers of the planner: optimal control, analytic cart-pole, survival, and rows that ignore the batch."""

import dataclasses

import numpy as np
import pytest
import torch

from wmbench.cards import Dimension, ModelCard, SuccessRule, TaskCard
from wmbench.errors import CheckpointError, MissingHeadError, WmbenchError
from wmbench.keys import keys_from_seeds
from wmbench.protocols import Policy, Prediction
from wmbench_baselines.mpc import MPC, MPCConfig, _sum, rollout_returns


def make_card(n_observation, n_action, terminates=False, limit=1.0):
    return TaskCard(
        id="wmbench/Toy-Planning-v0",
        suite="toy",
        backend_id="toy",
        simulator="nowhere:Nothing",
        observation=tuple(Dimension(f"x{i}") for i in range(n_observation)),
        action=tuple(Dimension(f"u{i}", low=-limit, high=limit) for i in range(n_action)),
        control_hz=10.0,
        horizon=100,
        terminates=terminates,
        success=SuccessRule("return", 0.0, "none"),
        action_convention="force",
    )


class Toy:
    """A world model from a plain function of (observation, action) to a Prediction."""

    def __init__(self, task, function, heads=("observation", "reward")):
        self.function = function
        self.card = ModelCard("toy", (task.id,), frozenset(heads), "x", "u", "tests", "none", {"terminated": "card"})

    def initial(self, start, *, keys):
        return {"observation": start.observation, "key": keys}

    def step(self, state, action, *, uncertainty=False):
        prediction = self.function(state["observation"], action)
        return {"observation": prediction.observation, "key": state["key"]}, prediction


A = torch.tensor([[1.0, 0.2], [0.0, 1.0]])
B = torch.tensor([[0.0], [0.2]])
Q, R = 1.0, 0.1
HORIZON = 6


def quadratic(x, u):
    """Double integrator with quadratic cost of the next state and the action."""
    nxt = x @ A.T + u @ B.T
    return Prediction(nxt, reward=-(Q * (nxt**2).sum(1) + R * (u**2).sum(1)).double())


def optimal(x0):
    """Action sequence of the finite-horizon linear-quadratic regulator, by least squares over the whole horizon."""
    a, b = A.double().numpy(), B.double().numpy()
    rows, rest = [], []
    for t in range(1, HORIZON + 1):
        rows.append(np.hstack([np.linalg.matrix_power(a, t - 1 - s) @ b if s < t else 0 * b for s in range(HORIZON)]))
        rest.append(np.linalg.matrix_power(a, t) @ x0)
    full = np.vstack([np.sqrt(Q) * np.vstack(rows), np.sqrt(R) * np.eye(HORIZON)])
    return np.linalg.lstsq(full, -np.concatenate([np.sqrt(Q) * np.concatenate(rest), np.zeros(HORIZON)]), rcond=None)[0]


@pytest.mark.parametrize("planner", ["cem", "mppi"])
@pytest.mark.parametrize("particles", [1, 2])
def test_plan_is_the_optimum_of_a_quadratic_problem(planner, particles):
    card = make_card(2, 1, limit=20.0)
    config = MPCConfig(planner=planner, horizon=HORIZON, samples=300, elites=30, iterations=25, min_spread=0.0)
    policy = MPC(dataclasses.replace(config, particles=particles), card, model=Toy(card, quadratic))
    x0 = np.array([[1.0, 0.0], [-2.0, 1.5], [0.3, -1.0]], np.float32)
    plan = policy.plan(
        torch.from_numpy(x0), torch.zeros(3, HORIZON, 1), torch.from_numpy(keys_from_seeds([1, 2, 3]))
    ).numpy()
    expected = np.stack([optimal(x) for x in x0])
    assert np.abs(expected).max() > 2  # the answer is not the start
    np.testing.assert_allclose(plan[:, :, 0], expected, atol=0.02)


def test_plans_respect_the_box():
    card = make_card(2, 1, limit=0.5)
    policy = MPC(MPCConfig(horizon=HORIZON), card, model=Toy(card, quadratic))
    action, _ = policy.act(np.array([[5.0, 5.0]], np.float32), policy.initial(1), keys=keys_from_seeds([0]))
    assert action.dtype == np.float32 and action.shape == (1, 1)
    assert -0.5 <= action[0, 0] < -0.45  # the optimum lies far outside


@pytest.mark.parametrize("planner", ["cem", "mppi"])
def test_a_row_does_not_depend_on_the_batch(planner):
    card = make_card(2, 1)
    config = MPCConfig(planner=planner, horizon=4, samples=33, elites=7, iterations=3, particles=2, replan=2)
    policy = MPC(config, card, model=Toy(card, lambda x, u: quadratic_rowwise(x, u)))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 40, 2)).astype(np.float32)

    def act(rows):
        state, actions = policy.initial(len(rows)), []
        for t in range(3):
            action, state = policy.act(x[t, rows], state, keys=keys_from_seeds(100 * t + np.array(rows)))
            actions.append(action)
        return np.stack(actions, 1)

    whole = act(list(range(40)))
    for rows in ([0], [39], [7, 3], list(range(39, -1, -1)), list(range(5, 22))):
        np.testing.assert_array_equal(act(rows), whole[rows])


def quadratic_rowwise(x, u):
    """The same without matrix products, whose last bits depend on the batch."""
    nxt = torch.stack([x[:, 0] + 0.2 * x[:, 1], x[:, 1] + 0.2 * u[:, 0]], 1)
    return Prediction(nxt, reward=-(nxt[:, 0] ** 2 + nxt[:, 1] ** 2 + 0.1 * u[:, 0] ** 2).double())


def test_many_episodes_are_planned_in_parts(monkeypatch):
    card = make_card(2, 1)
    policy = MPC(MPCConfig(horizon=3, samples=8, elites=2, iterations=2), card, model=Toy(card, quadratic_rowwise))
    x, keys = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32), keys_from_seeds(range(10))
    whole, _ = policy.act(x, policy.initial(10), keys=keys)
    monkeypatch.setattr("wmbench_baselines.mpc.ROWS", 24)
    parts, _ = policy.act(x, policy.initial(10), keys=keys)
    np.testing.assert_array_equal(parts, whole)


def test_plans_are_kept_moved_on_and_made_again_when_due():
    card = make_card(2, 1)
    seen = []

    class Spy(MPC):
        def plan(self, observation, mean, keys):
            seen.append(mean.clone())
            return super().plan(observation, mean, keys)

    config = MPCConfig(horizon=4, samples=20, elites=4, iterations=2, replan=3)
    policy = Spy(config, card, model=Toy(card, quadratic))
    state = policy.initial(2)
    assert isinstance(policy, Policy)
    x = np.ones((2, 2), np.float32)
    first, state = policy.act(x, state, keys=keys_from_seeds([1, 2]))
    plan = state["mean"].copy()
    second, state = policy.act(x * 9, state, keys=keys_from_seeds([3, 4]))
    third, state = policy.act(x * 9, state, keys=keys_from_seeds([5, 6]))
    assert len(seen) == 1  # acted open loop in between, whatever was observed
    np.testing.assert_array_equal(second, plan[:, 0])
    np.testing.assert_array_equal(third, plan[:, 1])
    policy.act(x, state, keys=keys_from_seeds([7, 8]))
    assert len(seen) == 2
    np.testing.assert_array_equal(seen[1][:, 0], plan[:, 2])  # warm start: the old plan, moved on
    assert not seen[1][:, 1:].any()  # and the centre of the box where it says nothing
    assert not np.array_equal(first, second)


def test_reward_counts_while_alive():
    """Reward 1 a step, death with probability p: expected return 1 + (1 - p) + ... ; the death's own step counts."""
    p = torch.tensor([0.0, 0.25, 1.0])

    def step(state, action):
        return state, Prediction(torch.zeros(3, 1), reward=torch.ones(3).double(), terminated=p)

    got = rollout_returns(None, step, torch.zeros(3, 4, 1), 0.5, True)
    survival = (1 - p.double()[:, None]) ** torch.arange(4)
    torch.testing.assert_close(got, (survival * 0.5 ** torch.arange(4)).sum(1))


def test_what_comes_after_death_is_ignored_and_nan_before_it_is_refused():
    reward = torch.tensor([[1.0, 1.0, 1.0], [1.0, torch.nan, 1.0], [1.0, torch.nan, 1.0], [torch.inf, 0.0, 0.0]])
    ends = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, torch.nan], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

    def step(t, action):
        observation = torch.zeros(4, 1) if t else torch.tensor([[0.0], [torch.nan], [0.0], [0.0]])
        return t + 1, Prediction(observation, reward=reward[:, t].double(), terminated=ends[:, t])

    got = rollout_returns(0, step, torch.zeros(4, 3, 1), 1.0, True)
    assert got.tolist() == [2.0, 1.0, -np.inf, -np.inf]


def test_survival_is_chosen_over_a_reward_that_kills():
    card = make_card(1, 1, terminates=True)

    def cliff(x, u):
        nxt = x + 0.3 * u
        return Prediction(nxt, reward=(1 + u[:, 0]).double(), terminated=(nxt[:, 0] > 0.5).float())

    model = Toy(card, cliff, heads=("observation", "reward", "terminated"))
    policy = MPC(MPCConfig(horizon=12, samples=200, elites=20, iterations=8), card, model=model)
    state, x = policy.initial(1), np.array([[0.4]], np.float32)
    for t in range(8):
        action, state = policy.act(x, state, keys=keys_from_seeds([t]))
        x = x + np.float32(0.3) * action
        assert x[0, 0] <= 0.5
    with pytest.raises(MissingHeadError, match="terminated"):
        MPC(MPCConfig(), card, model=Toy(card, cliff))


def test_candidates_that_diverge_are_never_elites():
    card = make_card(1, 1)

    def minefield(x, u):  # everything above 0.2 is NaN, just below it is best
        return Prediction(x, reward=torch.where(u[:, 0] > 0.2, torch.nan, u[:, 0]).double())

    policy = MPC(
        MPCConfig(horizon=2, samples=300, elites=20, iterations=10, min_spread=0.0), card, model=Toy(card, minefield)
    )
    action, _ = policy.act(np.zeros((1, 1), np.float32), policy.initial(1), keys=keys_from_seeds([0]))
    assert 0.15 < action[0, 0] <= 0.2
    nothing = Toy(card, lambda x, u: Prediction(x * torch.nan, reward=u[:, 0].double()))
    for planner in ("cem", "mppi"):
        policy = MPC(MPCConfig(planner=planner, horizon=2), card, model=nothing)
        action, _ = policy.act(np.zeros((1, 1), np.float32), policy.initial(1), keys=keys_from_seeds([0]))
        assert action[0, 0] == 0.0  # nothing learned: the plan it had


def test_mppi_weights_follow_the_returns():
    card = make_card(1, 1)
    policy = MPC(MPCConfig(planner="mppi", temperature=0.5), card, model=Toy(card, quadratic))
    returns = torch.tensor([[3.0, 2.0, 1.0, -torch.inf], [5.0, 5.0, 5.0, 5.0], [-torch.inf] * 4], dtype=torch.float64)
    weight = policy._weights(returns)
    scale = np.std([3.0, 2.0, 1.0])
    expected = np.exp(-np.array([0.0, 1.0, 2.0]) / (0.5 * scale))
    np.testing.assert_allclose(weight[0], [*(expected / expected.sum()), 0.0], rtol=1e-12)
    np.testing.assert_allclose(weight[1], 0.25)
    assert not weight[2].any()


def cartpole(x, u):
    """Euler steps of a cart-pole, pole upright at angle 0; rewarded for upright and centred."""
    position, speed, angle, spin = x.unbind(1)
    sin, cos = torch.sin(angle), torch.cos(angle)
    pull = (10 * u[:, 0] + 0.05 * spin**2 * sin) / 1.1
    turn = (9.8 * sin - cos * pull) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    push = pull - 0.05 * turn * cos / 1.1
    dt = 0.05
    nxt = torch.stack([position + dt * speed, speed + dt * push, angle + dt * spin, spin + dt * turn], 1)
    return Prediction(nxt, reward=(torch.cos(nxt[:, 2]) - 0.05 * nxt[:, 0] ** 2).double())


@pytest.mark.parametrize("planner", ["cem", "mppi"])
def test_swings_up_an_analytic_cartpole(planner):
    card = make_card(4, 1)
    policy = MPC(
        MPCConfig(planner=planner, horizon=25, samples=100, elites=10, iterations=4), card, model=Toy(card, cartpole)
    )
    hanging = torch.tensor([[0.0, 0.0, np.pi, 0.0]] * 2)
    rng = np.random.default_rng(0)
    totals = {}
    for name in ("mpc", "random"):
        x, state, rewards = hanging, policy.initial(2), []
        for t in range(80):
            if name == "mpc":
                action, state = policy.act(x.numpy(), state, keys=keys_from_seeds([2 * t, 2 * t + 1]))
            else:
                action = rng.uniform(-1, 1, (2, 1)).astype(np.float32)
            prediction = cartpole(x, torch.from_numpy(action))
            x = prediction.observation
            rewards.append(prediction.reward)
        totals[name] = torch.stack(rewards)
    assert totals["mpc"][-20:].mean() > 0.9  # upright at the end
    assert totals["random"][-20:].mean() < 0.5
    assert (totals["mpc"].sum(0) > totals["random"].sum(0) + 40).all()


def test_sum_by_halves():
    x = torch.arange(7.0).view(1, 7).repeat(2, 1) ** 2
    assert _sum(x).tolist() == [91.0, 91.0]
    assert _sum(x[:, :1]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "bad",
    [
        {"elites": 0},
        {"elites": 300},
        {"replan": 21},
        {"horizon": 0},
        {"momentum": 1.0},
        {"discount": 0.0},
        {"spread": 0.0},
        {"temperature": 0.0},
        {"min_spread": 0.9},
    ],
)
def test_settings_that_plan_nothing_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MPCConfig(**bad)


def test_misuse_is_named():
    card = make_card(2, 1)
    with pytest.raises(CheckpointError, match="no-such-model"):
        MPC(MPCConfig(model="no-such-model"), card)
    policy = MPC(MPCConfig(), card, model=Toy(card, quadratic))
    with pytest.raises(WmbenchError, match=r"expects observations of shape \(B, 2\)"):
        policy.act(np.zeros((1, 3), np.float32), policy.initial(1), keys=keys_from_seeds([0]))
