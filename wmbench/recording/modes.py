"""A world model's batched step in three modes: eager, compiled, and captured as a CUDA graph, checked against eager."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.keys import keys_from_seeds
from wmbench.protocols import Prediction, Start, State, WorldModel
from wmbench.recording.subjects import device_of
from wmbench.trees import gather, tree_map

MODES = ("eager", "compiled", "captured")

TOLERANCE = 1e-4
"""Largest |a - b| / (1 + |b|) of any output; float32 sums in another order differ by some 1e-6."""

ALONE = 8
"""So many rows of a batch are also stepped one at a time."""

Step = Callable[[State, torch.Tensor], tuple[State, Prediction]]


class ModeUnavailableError(Exception):
    """A mode that cannot be had here; the message says what is missing, or what went wrong."""


@dataclass(frozen=True)
class Case:
    """What is stepped: a state of B rows, an action, and another pair to compare on.

    Attributes:
        state: After :meth:`WorldModel.initial`.
        action: (B, A) float32.
        later: The state one eager step later.
        other: (B, A) float32, another action.
    """

    state: State
    action: torch.Tensor
    later: State
    other: torch.Tensor

    @classmethod
    def of(cls, task: TaskCard, model: WorldModel, start: Start, batch: int, seed: int) -> Case:
        """Repeat one start for a batch; rows differ in their keys and actions.

        Args:
            task: Gives the action box.
            model: Which.
            start: One row, as :func:`first_start` gives it.
            batch: B.
            seed: Of the actions.
        """
        device = device_of(model)
        low, high = task.action_bounds()
        draw = np.random.default_rng(seed).random((2, batch, len(low)))
        action, other = (torch.from_numpy((low + (high - low) * d).astype(np.float32)).to(device) for d in draw)
        rows = Start(
            observation=start.observation.repeat(batch, 1).to(device),
            sim_state=None if start.sim_state is None else start.sim_state.repeat(batch, 1),
            seed=None if start.seed is None else start.seed.repeat(batch),
        )
        keys = torch.from_numpy(keys_from_seeds(np.arange(batch))).to(device)
        with torch.no_grad():
            state = model.initial(rows, keys=keys)
            later, _ = model.step(state, action)
        return cls(state, action, later, other)


def make_step(model: WorldModel, mode: str, case: Case) -> Step:
    """The model's step in a mode, compiled or captured and called once: making it takes the time of that.

    Args:
        model: Which.
        mode: One of :data:`MODES`.
        case: Shapes that the step is specialised to.

    Raises:
        ModeUnavailableError: Something is missing, or the model's step cannot be compiled or captured.
        ValueError: Unknown mode.
    """
    if mode == "eager":
        with torch.no_grad():
            model.step(case.state, case.action)
        return model.step
    if mode == "compiled":
        if why := missing_for_compilation(device_of(model).type):
            raise ModeUnavailableError(why)
        torch.compiler.reset()
        compiled = torch.compile(model.step, dynamic=False)
        with _explained("torch.compile"):
            compiled(case.state, case.action)
        return compiled
    if mode == "captured":
        if device_of(model).type != "cuda":
            raise ModeUnavailableError("capturing a CUDA graph needs a model on a CUDA device, this one is on the CPU")
        with _explained("CUDA graph capture"):
            captured = _capture(model.step, case)
            captured(case.state, case.action)
        return captured
    raise ValueError(f"unknown mode {mode!r}: one of {', '.join(MODES)}")


def missing_for_compilation(device: str) -> str:
    """What ``torch.compile`` lacks on this machine, or nothing.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
    """
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile on a CUDA device needs triton, which is not installed"
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    if device != "cuda" and not any(shutil.which(name) for name in names):
        return f"torch.compile on a CPU needs a C++ compiler, and there is no {' or '.join(names)} on the path"
    return ""


def error_of(model: WorldModel, step: Step, case: Case, *, alone: bool) -> float:
    """How far a mode's outputs are from those of the eager step.

    A step is compared on the state one step later and on another action than it was captured with, so that one that
    ignores its inputs is found out.

    Args:
        model: Which.
        step: In some mode.
        case: What to step.
        alone: Compare with the eager step of single rows, rather than of the batch.

    Returns:
        Largest |a - b| / (1 + |b|) over all predictions and the next state; infinite where one is finite and the other
        not, or where integers differ.
    """
    with torch.no_grad():
        found = _leaves(step(case.later, case.other))
        if not alone:
            return max(_apart(a, b) for a, b in zip(found, _leaves(model.step(case.later, case.other)), strict=True))
        worst = 0.0
        for i in range(min(ALONE, len(case.other))):
            single = _leaves(model.step(gather(case.later, slice(i, i + 1)), case.other[i : i + 1]))
            worst = max(worst, *(_apart(a[i : i + 1], b) for a, b in zip(found, single, strict=True)))
        return worst


def _capture(step: Step, case: Case) -> Step:
    """A step recorded once as a CUDA graph and replayed from then on; its outputs are overwritten by the next call."""

    def fresh(leaf: Any) -> Any:
        return leaf.clone()

    def refill(static: Any, given: Any) -> None:
        static.copy_(given)

    state, action = tree_map(fresh, case.state), case.action.clone()
    device = action.device
    side = torch.cuda.Stream(device)
    with torch.no_grad(), torch.cuda.device(device):
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):  # libraries set themselves up at their first calls, which no graph may hold
            for _ in range(3):
                step(state, action)
        torch.cuda.current_stream(device).wait_stream(side)
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(device)
        try:
            with torch.cuda.graph(graph):
                outputs = step(state, action)
        except Exception as error:  # ending the capture fails then, too, hides why, and leaves its stream current
            raise RuntimeError(str(error.__context__ or error)) from error
        finally:
            torch.cuda.set_stream(before)

    def replay(given: State, chosen: torch.Tensor) -> tuple[State, Prediction]:
        tree_map(refill, state, given)
        action.copy_(chosen)
        graph.replay()
        return outputs

    return replay


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turns any failure into :class:`ModeUnavailableError` with a reason of one line, without pages of logs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with torch.no_grad():
            yield
    except Exception as error:  # whatever a compiler raises is the finding
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise ModeUnavailableError(f"{what} failed: {type(error).__name__}: {first[:200]}") from error
    finally:
        logging.disable(before)


def _leaves(outcome: tuple[State, Prediction]) -> list[np.ndarray]:
    """Every array of a step's outcome, with the batch first."""
    found: list[np.ndarray] = []

    def keep(leaf: Any) -> None:
        found.append(leaf.detach().cpu().numpy().copy() if isinstance(leaf, torch.Tensor) else np.array(leaf))

    state, prediction = outcome
    tree_map(keep, [state, *(getattr(prediction, h) for h in ("observation", "reward", "terminated", "success"))])
    return found


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Largest |a - b| / (1 + |b|); infinite where integers differ or only one side is finite."""
    if a.shape != b.shape:
        return float("inf")
    if a.dtype.kind != "f":
        return 0.0 if np.array_equal(a, b) else float("inf")
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.where(same, 0.0, np.abs(x - y) / (1 + np.abs(y)))
    return float(np.nan_to_num(gap, nan=np.inf, posinf=np.inf).max(initial=0.0))
