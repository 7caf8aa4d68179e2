"""What a model does not predict comes from a declared source or is refused; what it predicts is taken at its word."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

import wmbench
from wmbench.cards import ModelCard, SuccessRule
from wmbench.errors import CardError, CheckpointError, MissingHeadError
from wmbench.protocols import Prediction, Start
from wmbench_envs.twin_core import Imagination, check_heads
from wmbench_envs.twin_starts import BankStarts

HOPPER, CARTPOLE = "wmbench/Gym-Hopper-v0", "wmbench/DMC-CartpoleSwingup-v0"
ALL = frozenset({"observation", "reward", "terminated", "success"})


def card(predicts=ALL, **fields):
    words = dict.fromkeys(("inputs", "condition", "consumer", "risk"), "test")
    return ModelCard(name="toy", task_ids=(), predicts=frozenset(predicts), **words, **fields)


class Toy:
    """Says what it is told to, row by row."""

    def __init__(self, model_card, **heads):
        self.card, self.heads = model_card, heads

    def initial(self, start, *, keys):
        return {"x": start.observation, "key": keys}

    def step(self, state, action, *, uncertainty=False):
        n = len(action)
        given = {
            "observation": state["x"] + 1,
            "reward": torch.ones(n, dtype=torch.float64),
            "terminated": torch.zeros(n),
            "success": torch.zeros(n),
        }
        return state, Prediction(**given | {k: v(n, state) for k, v in self.heads.items()})


class Still:
    """Starts at zero."""

    def __init__(self, task):
        self.size = len(task.observation)

    def draw(self, seeds):
        return Start(torch.zeros(len(seeds), self.size))

    def close(self):
        pass


def core(task, model, n=4, array="numpy"):
    return Imagination(task, model, Still(task), n, device=torch.device("cpu"), array=array)


def advance(imagination, rows=None):
    n = imagination.num_envs if rows is None else len(rows)
    return imagination.advance(torch.zeros(n, len(imagination.task.action)), rows)


SOLVED_BY_ITSELF = dataclasses.replace(
    wmbench.task_card(CARTPOLE), success=SuccessRule("env", source="the environment")
)


@pytest.mark.parametrize(
    ("task", "predicts", "sources", "fault"),
    [
        (CARTPOLE, ALL - {"reward"}, {}, "no 'reward' head, and nothing else can supply it"),
        (CARTPOLE, ALL - {"reward"}, {"reward": "task", "terminated": "card"}, "no 'reward' head"),
        (CARTPOLE, ALL - {"observation"}, {}, "no 'observation' head"),
        (CARTPOLE, ALL - {"terminated"}, {}, "no 'terminated' head, and its card declares no source for it"),
        (CARTPOLE, ALL - {"terminated"}, {"terminated": "never"}, "its source 'never' is unknown"),
        (HOPPER, ALL - {"terminated"}, {}, "no 'terminated' head, and its card declares no source for it"),
        (HOPPER, ALL - {"terminated"}, {"terminated": "card"}, "this task can terminate"),
        (SOLVED_BY_ITSELF, ALL - {"success"}, {}, "no 'success' head"),
    ],
)
def test_what_nobody_knows_is_refused(task, predicts, sources, fault, world_model):
    model_card = card(predicts, sources=sources)
    known = wmbench.task_card(task) if isinstance(task, str) else task
    with pytest.raises(MissingHeadError, match=fault) as caught:
        check_heads(known, model_card, uncertainty=False)
    assert known.id in str(caught.value) and "'toy'" in str(caught.value)
    if isinstance(task, str):
        name = world_model("toy", lambda task, device: Toy(model_card))
        for make in (gym.make, gym.make_vec):
            with pytest.raises(MissingHeadError, match=fault):
                make(task, simulator=name)


@pytest.mark.parametrize(
    ("task", "predicts", "sources"),
    [
        (CARTPOLE, ALL - {"terminated"}, {"terminated": "card"}),
        (CARTPOLE, ALL - {"success"}, {}),
        (HOPPER, ALL - {"success"}, {}),
        (HOPPER, ALL, {}),
    ],
)
def test_what_somebody_knows_is_accepted(task, predicts, sources):
    check_heads(wmbench.task_card(task), card(predicts, sources=sources), uncertainty=False)


def test_a_declared_absence_of_endings_wins_over_what_is_not_promised():
    """A head that the card does not list is not read."""
    task = wmbench.task_card(CARTPOLE)
    model = Toy(card(ALL - {"terminated"}, sources={"terminated": "card"}), terminated=lambda n, s: torch.ones(n))
    imagination = core(task, model)
    imagination.begin(np.arange(4))
    assert not advance(imagination).terminated.any()


@pytest.mark.parametrize("array", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("head", "value", "error", "fault"),
    [
        ("reward", lambda n, s: None, MissingHeadError, "promises 'reward' in its card and predicted None"),
        ("terminated", lambda n, s: None, MissingHeadError, "promises 'terminated'"),
        ("reward", lambda n, s: torch.ones(n, 1), CardError, r"'reward' of shape \(4, 1\), expected \(4,\)"),
        ("terminated", lambda n, s: torch.ones(()), CardError, r"'terminated' of shape \(\)"),
        (
            "observation",
            lambda n, s: torch.ones(n, 3),
            CardError,
            r"'observation' of shape \(4, 3\), expected \(4, 11\)",
        ),
    ],
)
def test_broken_promises_are_named(head, value, error, fault, array):
    task = wmbench.task_card(HOPPER)
    imagination = core(task, Toy(card(), **{head: value}), array=array)
    imagination.begin(np.arange(4))
    with pytest.raises(error, match=fault):
        advance(imagination)


@pytest.mark.parametrize("array", ["numpy", "torch"])
def test_a_termination_probability_ends_at_one_half(array):
    task = wmbench.task_card(HOPPER)
    model = Toy(card(), terminated=lambda n, s: torch.tensor([0.0, 0.499, 0.5, 1.0]))
    imagination = core(task, model, array=array)
    imagination.begin(np.arange(4))
    outcome = advance(imagination)
    assert outcome.terminated.tolist() == [False, False, True, True] and outcome.any_ended
    assert outcome.truncated.tolist() == [False] * 4


@pytest.mark.parametrize("array", ["numpy", "torch"])
def test_a_drawn_termination_has_its_probability_and_follows_the_seed(array):
    task, n, p = wmbench.task_card(HOPPER), 4000, 0.3
    model = Toy(card(termination="sample"), terminated=lambda n, s: torch.full((n,), p))

    def draws(seeds, steps=3):
        imagination = core(task, model, n=len(seeds), array=array)
        imagination.begin(seeds)
        return np.array([advance(imagination).terminated.tolist() for _ in range(steps)])

    drawn = draws(np.arange(n))
    assert np.abs(drawn.mean(1) - p).max() < 4 * np.sqrt(p * (1 - p) / n)
    both = (drawn[0] & drawn[1]).mean()
    assert abs(both - p * p) < 4 * np.sqrt(p * p / n), "steps are independent"
    assert np.array_equal(draws(np.array([77, 5, 2])), drawn[:, [77, 5, 2]])
    for sure in (0.0, 1.0):
        model.heads["terminated"] = lambda n, s, sure=sure: torch.full((n,), sure)
        assert (draws(np.arange(n)) == bool(sure)).all()


@pytest.mark.parametrize("array", ["numpy", "torch"])
def test_success_is_the_cards_rule(array):
    base = wmbench.task_card(CARTPOLE)
    rules = {
        SuccessRule("reward", 1.0, "test"): [False, True, True, True],
        SuccessRule("distance", 0.25, "test", dims=(0, 1)): [True, True, False, False],
        SuccessRule("distance", 0.25, "test", dims=(0,), minus=(1,)): [True, True, True, True],
        SuccessRule("env", source="test"): [False, False, True, True],
    }
    heads = {
        "reward": lambda n, s: torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64),
        "success": lambda n, s: torch.tensor([0.0, 0.4, 0.5, 1.0]),
        "observation": lambda n, s: torch.tensor([0.0, 0.1, 0.2, 0.3])[:, None].repeat(1, 5),
    }
    for rule, expected in rules.items():
        imagination = core(dataclasses.replace(base, success=rule), Toy(card(), **heads), array=array)
        imagination.begin(np.arange(4))
        assert advance(imagination).success.tolist() == expected, rule


def test_success_by_return_counts_the_whole_episode_at_its_end():
    task = dataclasses.replace(wmbench.task_card(CARTPOLE), horizon=3, success=SuccessRule("return", 3.0, "test"))
    model = Toy(card(), reward=lambda n, s: torch.tensor([1.0, 0.9, 1.1, 0.9], dtype=torch.float64)[-n:])
    imagination = core(task, model)
    imagination.begin(np.arange(4))
    assert not advance(imagination).success.any()
    rows = np.array([3])
    imagination.begin(np.array([9]), rows)
    assert not advance(imagination).success.any()
    assert advance(imagination).success.tolist() == [True, False, True, False]
    last = advance(imagination, rows)
    assert last.truncated.tolist() == [True] and last.success.tolist() == [False]


@pytest.mark.parametrize("array", ["numpy", "torch"])
def test_predictions_stay_inside_the_observation_bounds_of_the_card(array):
    task = wmbench.task_card(CARTPOLE)
    dims = [dataclasses.replace(d, low=-1.0, high=1.0 if i else None) for i, d in enumerate(task.observation)]
    task = dataclasses.replace(task, observation=tuple(dims))
    model = Toy(card(), observation=lambda n, s: torch.tensor([-3.0, -0.5, 0.5, 3.0])[:, None].repeat(1, 5))
    imagination = core(task, model, array=array)
    imagination.begin(np.arange(4))
    observation = np.asarray(advance(imagination).observation)
    assert observation[:, 0].tolist() == [-1.0, -0.5, 0.5, 3.0] and observation[:, 1].tolist() == [-1.0, -0.5, 0.5, 1.0]


@pytest.mark.parametrize("array", ["numpy", "torch"])
@pytest.mark.parametrize(("limits", "expected"), [((0.0, 1.0), 1.0), ((None, -2.0), -2.0), ((None, None), 7.0)])
def test_rewards_stay_inside_the_range_of_the_card(limits, expected, array):
    task = dataclasses.replace(wmbench.task_card(CARTPOLE), reward_range=limits)
    model = Toy(card(), reward=lambda n, state: torch.full((n,), 7.0, dtype=torch.float64))
    one = core(task, model, array=array)
    one.begin(np.arange(4))
    outcome = one.advance(torch.zeros(4, 1))
    assert [float(r) for r in outcome.reward] == [expected] * 4


def test_a_bank_carries_every_field_to_the_model():
    task = wmbench.task_card(CARTPOLE)
    n, o, a = 6, 5, 1
    bank = {
        "observation": torch.arange(n)[:, None].repeat(1, o).float(),
        "history_observation": torch.arange(n)[:, None, None].repeat(1, 2, o).float(),
        "history_action": torch.arange(n)[:, None, None].repeat(1, 2, a).float(),
        "sim_state": torch.arange(n)[:, None].repeat(1, 11).double(),
        "seed": torch.arange(n),
    }
    starts = BankStarts(bank, task, device=torch.device("cpu"), source="folder")
    start = starts.draw(np.arange(200))
    picked = start.seed
    assert sorted(set(picked.tolist())) == list(range(n))
    counts = torch.bincount(picked)
    assert counts.min() > 15, "all starts are as likely"
    for field in dataclasses.fields(start):
        value = getattr(start, field.name)
        assert (value.reshape(200, -1) == picked[:, None]).all() and value.dtype == bank[field.name].dtype


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"observation": None}, "holds no observations"),
        ({"observation": torch.zeros(0, 5)}, "holds no observations"),
        ({"observation": torch.zeros(3, 4)}, "have 4 of wmbench/DMC-CartpoleSwingup-v0's 5"),
        ({"observation": torch.zeros(3, 5).double()}, "'observation' is torch.float64"),
        (
            {"seed": torch.zeros(2).long()},
            "'seed' is torch.int64 of shape .2,., expected torch.int64 with 1 axes and 3",
        ),
        ({"mood": torch.zeros(3)}, "unknown fields .'mood'."),
    ],
)
def test_a_bank_that_does_not_fit_is_refused(change, fault):
    bank = {"observation": torch.zeros(3, 5)} | change
    bank = {k: v for k, v in bank.items() if v is not None}
    with pytest.raises(CheckpointError, match=fault) as caught:
        BankStarts(bank, wmbench.task_card(CARTPOLE), device=torch.device("cpu"), source="some/folder")
    assert "some/folder" in str(caught.value)
