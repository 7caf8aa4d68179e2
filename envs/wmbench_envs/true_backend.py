"""What the shell asks of a simulator, and where a card's simulator is found."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import RenderError
from wmbench.views import View
from wmbench_envs.true_branch import Branched


class Backend(Protocol):
    """A simulator as the shell needs it, without any checks of its own. Constructed as ``Class(card)``."""

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the episode of this seed: fresh observation (O,) float32 and info."""
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply a checked action (A,) float32: Gymnasium's five values, observation and info fresh."""
        ...

    def get_state(self) -> np.ndarray:
        """Everything the next observation and reward depend on: (S,) float64."""
        ...

    def set_state(self, state: np.ndarray) -> np.ndarray:
        """Continue from a state of the right size; returns the observation there, (O,) float32."""
        ...

    def state_size(self) -> int:
        """S."""
        ...

    def moving(self) -> slice:
        """Where positions and velocities lie in a state."""
        ...

    def branch(self, states: np.ndarray, action: np.ndarray, steps: np.ndarray) -> Branched | None:
        """Branch R states (R, S) at once under checked actions (R, K, A) for (R,) steps each, up to the task's end.

        Wherever this leaves the simulation. None where only stepping one by one is exact, or is as fast.
        """
        ...

    def contacts(self) -> frozenset[str]:
        """Pairs of bodies that touch in the current state."""
        ...

    def violations(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """How far observations (N, O) break the laws of the task's bodies: name to (N,)."""
        ...

    def images(self, view: View) -> Mapping[str, np.ndarray]:
        """The current scene as each of ``view.images``: name to (H, W, C), a function of the state alone.

        The view's camera and preset are names that the card knows; its ``frame_stack`` is not the backend's concern.
        A backend that has no such method draws nothing.
        """
        ...

    def look(self, view: View) -> None:
        """Get ready to draw such pictures, or say why they cannot be had here. Optional."""
        ...

    def segments(self) -> Mapping[int, str]:
        """What the numbers in a segmentation image stand for. Optional."""
        ...

    def render(self, height: int, width: int) -> np.ndarray:
        """The current scene, (H, W, 3) uint8."""
        ...

    def render_pose(self, observation: np.ndarray, height: int, width: int) -> np.ndarray:
        """The scene that an observation describes, (H, W, 3) uint8, leaving the simulation alone."""
        ...

    def perturb(self, values: dict[str, float], seed: int) -> None:
        """Put a world in force, from the next reset or restored state on: the card's perturbations to their values.

        What a value leaves open (which colours) is drawn from the episode's seed. Values of the nominal world leave no
        trace of another one. Only for tasks whose card lists perturbations.
        """
        ...

    def images_of(self, observation: np.ndarray, view: View) -> Mapping[str, np.ndarray]:
        """As :meth:`images`, of the scene that an observation describes; only where the card has a pose."""
        ...

    def close(self) -> None:
        """Free what the garbage collector would not."""
        ...


def backend_class(card: TaskCard) -> Any:
    """The class that the card names, imported now."""
    module, name = card.simulator.split(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        asked = os.environ.get("MUJOCO_GL")
        if asked:
            raise RenderError(
                f"{card.id}: {module} cannot be imported with MUJOCO_GL={asked} ({error}): "
                "unset it, or install the graphics library that it names"
            ) from error
        raise
