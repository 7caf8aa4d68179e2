"""Cards refuse contradictions, survive JSON, and evaluate their success rules for arrays and tensors alike."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from wmbench.cards import Dimension, ModelCard, SuccessRule, TaskCard
from wmbench.errors import CardError
from wmbench.registration import task_cards

RULE = SuccessRule("return", 10.0, "made up for this test")


def card(**changes: object) -> TaskCard:
    values: dict = {
        "id": "wmbench/Gym-Toy-v0",
        "suite": "toy",
        "backend_id": "toy",
        "simulator": "toy:Toy",
        "observation": (Dimension("x", "m"), Dimension("v", "m/s")),
        "action": (Dimension("force", "N", low=-1.0, high=2.0),),
        "control_hz": 50.0,
        "horizon": 100,
        "terminates": False,
        "success": RULE,
        "action_convention": "force",
    }
    return TaskCard(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"id": "Gym-Toy-v0"}, "no task id"),
        ({"id": "wmbench/Gym-toy-v0"}, "no task id"),
        ({"version": 3}, "version 3 differ"),
        ({"horizon": 0}, "horizon"),
        ({"control_hz": float("nan")}, "control_hz"),
        ({"observation": ()}, "observation dimensions"),
        ({"observation": (Dimension("x"), Dimension("x"))}, "each name once"),
        ({"action": (Dimension("u"),)}, "finite bounds"),
        ({"action": (Dimension("u", low=1.0, high=1.0),)}, "low < high"),
        ({"action": (Dimension("u", low=0.0, high=float("inf")),)}, "finite bounds"),
        ({"success": SuccessRule("distance", 0.1, "test", dims=(0, 2))}, "reads observation 2"),
    ],
)
def test_contradictions_are_refused(changes: dict, fault: str) -> None:
    with pytest.raises(CardError, match=fault):
        card(**changes)


def test_success_rules_without_source_or_dims_are_refused() -> None:
    with pytest.raises(CardError, match="source"):
        SuccessRule("reward", 1.0)
    with pytest.raises(CardError, match="dims"):
        SuccessRule("distance", 1.0, "test")
    with pytest.raises(CardError, match="minus"):
        SuccessRule("distance", 1.0, "test", dims=(0, 1), minus=(2,))


def test_every_card_survives_json_with_the_same_digest() -> None:
    for one in (card(pose={"hinge": (1, 0), "slide": 0}, tags=("a", "b")), *task_cards().values()):
        again = TaskCard.from_json(json.loads(json.dumps(one.to_json())))
        assert again == one
        assert again.digest() == one.digest()
        assert dataclasses.replace(one, horizon=one.horizon + 1).digest() != one.digest()
        assert dataclasses.replace(one, tags=("other",), citation="moved").digest() == one.digest()


def test_a_card_with_a_missing_or_unknown_field_is_refused() -> None:
    data = card().to_json()
    with pytest.raises(CardError, match="colour"):
        TaskCard.from_json({**data, "colour": "red"})
    del data["action"]
    with pytest.raises(CardError, match="action"):
        TaskCard.from_json(data)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_rules_know_their_answers(kind: str) -> None:
    make = np.asarray if kind == "numpy" else torch.as_tensor
    reward, returns = make([0.5, 1.0, 2.0]), make([9.0, 10.0, 11.0])
    observation = make([[0.0, 0.3, 0.0], [0.3, 0.4, 0.0], [0.3, 0.41, 0.0]])
    ended = make([True, True, False])

    def ask(rule: SuccessRule) -> list[bool]:
        return [bool(x) for x in rule(reward, returns, observation, ended)]

    assert ask(SuccessRule("reward", 1.0, "t")) == [False, True, True]
    assert ask(SuccessRule("return", 10.0, "t")) == [False, True, False]
    assert ask(SuccessRule("distance", 0.5000001, "t", dims=(0, 1))) == [True, True, False]
    assert ask(SuccessRule("distance", 0.105, "t", dims=(0,), minus=(1,))) == [False, True, False]
    with pytest.raises(CardError, match="env"):
        ask(SuccessRule("env", 0.0, "t"))


def test_model_cards_name_unknown_heads_and_blank_fields() -> None:
    values: dict = {
        "name": "m", "task_ids": ("t",), "predicts": frozenset({"observation", "reward"}),
        "inputs": "i", "condition": "c", "consumer": "k", "risk": "r",
    }  # fmt: skip
    one = ModelCard(**values)
    assert ModelCard.from_json(json.loads(json.dumps(one.to_json()))) == one
    with pytest.raises(CardError, match="colour"):
        ModelCard(**{**values, "predicts": frozenset({"colour"})})
    with pytest.raises(CardError, match="risk"):
        ModelCard(**{**values, "risk": ""})
    with pytest.raises(CardError, match="not a model card"):
        ModelCard.from_json({"name": "m"})
