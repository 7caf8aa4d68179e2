"""Bad actions: the same sentence whichever way they come, and the row that is at fault."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench.checks import ActionCheck
from wmbench.errors import InvalidActionError


def make_check(rule: str = "clip") -> ActionCheck:
    card = TaskCard(
        id="wmbench/Gym-Toy-v0", suite="toy", backend_id="toy", simulator="toy:Toy",
        observation=(Dimension("x"),),
        action=(Dimension("a", low=-1.0, high=2.0), Dimension("b", low=-0.5, high=0.5)),
        control_hz=10.0, horizon=5, terminates=False, success=SuccessRule("reward", 1.0, "t"),
        action_convention="force", action_rule=rule,
    )  # fmt: skip
    return ActionCheck(card)


CHECK, REFUSE = make_check(), make_check("refuse")
WAYS: dict[str, Callable[[ActionCheck, Any], Any]] = {
    "one": lambda check, a: check.one(a),
    "batch": lambda check, a: check.batch(np.stack([np.zeros_like(a), a]), 2)[1],
    "torch": lambda check, a: check.batch_torch(torch.from_numpy(np.stack([np.zeros_like(a), a])), 2, "cpu")[1].numpy(),
}


@pytest.mark.parametrize("way", WAYS)
@given(action=arrays(np.float32, 2, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_finite_actions_are_clipped_into_fresh_float32(way: str, action: np.ndarray) -> None:
    given_before = action.copy()
    result = WAYS[way](CHECK, action)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.clip(action, CHECK.low, CHECK.high))
    assert not np.shares_memory(result, action)
    np.testing.assert_array_equal(action, given_before)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_nonfinite_actions_name_id_dimension_and_row(way: str, bad: float, word: str) -> None:
    action = np.array([0.0, bad], dtype=np.float32)
    row = "" if way == "one" else "row 1, "
    with pytest.raises(InvalidActionError, match=f"wmbench/Gym-Toy-v0: the action is {word} in {row}dimension 1"):
        WAYS[way](CHECK, action)


@pytest.mark.parametrize("way", WAYS)
def test_a_card_may_refuse_what_lies_outside(way: str) -> None:
    inside = np.array([1.5, 0.5], dtype=np.float32)
    np.testing.assert_array_equal(WAYS[way](REFUSE, inside), inside)
    with pytest.raises(InvalidActionError, match=r"dimension 1, outside \[-0.5, 0.5\]"):
        WAYS[way](REFUSE, np.array([1.5, 0.75], dtype=np.float32))


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ([0.0, 0.0], "got list"),
        (None, "got NoneType"),
        ("left", "got str"),
        (torch.zeros(2), "got Tensor"),
        (np.zeros(2, dtype=np.int64), "dtype int64"),
        (np.zeros(2, dtype=bool), "dtype bool"),
        (np.array([None, None]), "dtype object"),
        (np.zeros(3, dtype=np.float32), r"shape \(2,\), got \(3,\)"),
        (np.zeros((1, 2), dtype=np.float32), r"got \(1, 2\)"),
        (np.float32(0.0), "got float32"),
    ],
)
def test_wrong_types_and_shapes_are_named(bad: Any, fault: str) -> None:
    with pytest.raises(InvalidActionError, match=fault):
        CHECK.one(bad)


def test_wrong_batches_are_named() -> None:
    with pytest.raises(InvalidActionError, match=r"\(4, 2\), got \(3, 2\)"):
        CHECK.batch(np.zeros((3, 2), dtype=np.float32), 4)
    with pytest.raises(InvalidActionError, match=r"\(4, 2\), got \(3, 2\)"):
        CHECK.batch_torch(torch.zeros(3, 2), 4, "cpu")
    with pytest.raises(InvalidActionError, match=r"dtype torch.int64"):
        CHECK.batch_torch(torch.zeros(4, 2, dtype=torch.int64), 4, "cpu")


def test_float64_is_accepted_and_its_overflow_is_caught() -> None:
    assert CHECK.one(np.array([0.25, 0.25])).dtype == np.float32
    with pytest.raises(InvalidActionError, match="infinite"):
        CHECK.one(np.array([1e300, 0.0]))
