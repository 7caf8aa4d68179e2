"""A scripted hand: phases of where to go, how to turn and when to go on, for tasks that move one arm by its hand."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wmbench.cards import TaskCard
from wmbench.protocols import State
from wmbench_baselines.experts.control import Controller
from wmbench_baselines.experts.poses import (
    Turns,
    Vectors,
    about,
    inverse,
    length,
    level,
    multiply,
    rotate,
    rotation_vector,
    vectors,
)

OPEN, CLOSED = 1.0, -1.0
TARGET = 0.1
"""How far an action of 1 puts the hand's target from where it is, m or rad."""
REACH = 0.72
"""So far from its base (m, on the level) a hand that points down can be anywhere between the table and 0.4 m."""
STEP = 0.04
"""What an action of 1 moves the hand (m) or turns it (rad) within a control step of 0.05 s once it has got going: four
tenths of the 0.1 m or rad by which it moves the target. (Measured; drives of stiffness 1000 and damping 100 follow as a
lag of 0.1 s. A step sideways or upwards from rest is half as long.)"""
CARRY = 0.3
"""Share of the last step's motion that the next one repeats by itself."""
NEAR, SUM, MOST = 0.01, 0.3, 0.005
"""Within which distance (m) what is missing is added up, which share of it per step, and up to how much (m)."""
EAGER = 0.8
"""Share of what is missing that one step is to close."""


class Scene:
    """One observation of many rows, read by the names on the task's card."""

    def __init__(self, task: TaskCard, columns: np.ndarray) -> None:
        """Prepare; ``columns`` is (O, B) float64."""
        self._index = {dimension.name: i for i, dimension in enumerate(task.observation)}
        self._columns = columns
        self._places: dict[str, Vectors] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        """(B,): one dimension."""
        return self._columns[self._index[name]]

    def place(self, name: str) -> Vectors:
        """Where something is."""
        if name in self._places:
            return self._places[name]
        return np.stack([self[f"{name}_{axis}"] for axis in "xyz"])

    def turn(self, name: str) -> Turns:
        """How something is turned."""
        return np.stack([self[f"{name}_q{part}"] for part in "wxyz"])

    def moved(self, **places: Vectors) -> Scene:
        """The same with some positions elsewhere."""
        other = copy(self)
        other._places = self._places | places
        return other

    def renamed(self, names: dict[str, str]) -> Scene:
        """The same with things exchanged: what is asked for as a key is read as its value."""
        other = copy(self)
        other._index = dict(self._index)
        for name, i in self._index.items():
            for asked, read in names.items():
                if name.startswith(read + "_"):
                    other._index[asked + name.removeprefix(read)] = i
        return other

    def width(self) -> np.ndarray:
        """(B,): how far apart the fingers are, m."""
        return self["gripper_left_position"] + self["gripper_right_position"]


@dataclass(frozen=True)
class Phase:
    """What the hand does until something holds.

    Attributes:
        to: Where it goes.
        done: (B,) bool: go on to the next phase; the last one stays.
        turn: How it is to be turned; None: as it is.
        grip: -1 closes the fingers, 1 opens them.
        least: Steps that it lasts at least.
        most: Steps after which it goes on in any case.
        lost: (B,) bool: go back to the first phase; None: never.
        skip: (B,) bool: go on at once, however short it has lasted; None: never.
        speed: Share of the fastest motion.
        fine: Whether to add up what stays missing, so that not even the weight of what is held leaves the hand short.
    """

    to: Vectors
    done: np.ndarray
    turn: Turns | None = None
    grip: float = OPEN
    least: int = 0
    most: int = 1_000_000
    lost: np.ndarray | None = None
    skip: np.ndarray | None = None
    speed: float = 1.0
    fine: bool = False


class Hand(Controller):
    """Plays phases that are computed anew from each observation; what it remembers is which one it is in, and how long.

    Subclasses write :meth:`phases`.
    """

    place: ClassVar[tuple[float, float]] = (-0.615, 0.0)
    """Where the robot's base stands, m."""
    base: ClassVar[float] = 0.0
    """Heading of the robot's base, rad: actions are given along its axes."""

    def __init__(self, task: TaskCard, *, mistaken: bool = False) -> None:
        """Prepare.

        Args:
            task: The task.
            mistaken: Do as well, but to the wrong thing or at the wrong place: see :meth:`mistake`.
        """
        super().__init__(task)
        self.mistaken = mistaken

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """What to do, one after the other; always the same number of phases."""
        raise NotImplementedError

    def mistake(self, scene: Scene) -> Scene:
        """The scene as somebody sees it who takes one thing or place for another; as it is where there is none."""
        return scene

    @classmethod
    def can_mistake(cls) -> bool:
        """Whether :meth:`mistake` changes anything."""
        return cls.mistake is not Hand.mistake

    def initial(self, batch_size: int) -> State:
        """Phase and steps spent in it (B,) int64, where the hand was (B, 3), what stayed missing (B, 3)."""
        return {
            "phase": np.zeros(batch_size, dtype=np.int64),
            "steps": np.zeros(batch_size, dtype=np.int64),
            "before": np.full((batch_size, 3), np.nan),
            "short": np.zeros((batch_size, 3)),
        }

    def command(self, observation: np.ndarray) -> list[np.ndarray]:
        """The action of the first phase."""
        action, _ = self._play(observation, self.initial(observation.shape[1]))
        return action

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Go on to the phase that is due, and do what it says.

        Args:
            observation: (B, O) float32, as the task's card says.
            state: As returned by :meth:`initial` or by the previous call.
            keys: (B,) int64, ignored.

        Returns:
            Actions (B, A) float32 inside the bounds, and the next state.

        Raises:
            WmbenchError: Observations of another shape.
        """
        action, state = self._play(self.columns(observation), state)
        return self.bounded(action), state

    def _play(self, columns: np.ndarray, state: State) -> tuple[list[np.ndarray], State]:
        scene = Scene(self.task, columns)
        phases = self.phases(self.mistake(scene) if self.mistaken else scene)
        phase, steps = advance(phases, state["phase"], state["steps"])
        hand, facing = scene.place("tcp"), scene.turn("tcp")
        to, turn = hand, facing
        grip, speed, fine = np.zeros(len(phase)), np.ones(len(phase)), np.zeros(len(phase), dtype=bool)
        for i, one in enumerate(phases):
            here = phase == i
            to = np.where(here, one.to, to)
            turn = turn if one.turn is None else np.where(here, one.turn, turn)
            grip, speed = np.where(here, one.grip, grip), np.where(here, one.speed, speed)
            fine = np.where(here, one.fine, fine)
        missing = to - hand
        short = np.ascontiguousarray(state["short"].T)
        near = fine & (length(missing) < NEAR)
        short = np.where(near, np.clip(short + SUM * missing, -MOST, MOST), 0.0)
        before = np.ascontiguousarray(state["before"].T)
        carried = np.where(np.isnan(before), 0.0, CARRY * (hand - before))
        x, y, z = self._within_reach(hand, to, towards(missing + short - carried, speed))
        u, v, w = turns(multiply(turn, inverse(facing)), speed)
        if self.base:
            x, y, _ = rotate(about(2, -self.base), np.stack([x, y, z]))
            u, v, _ = rotate(about(2, -self.base), np.stack([u, v, w]))
        # a turn of +1 turns by a negative angle: see the card's action_convention
        memory = {"phase": phase, "steps": steps + 1, "before": hand.T.copy(), "short": short.T.copy()}
        return [x, y, z, -u, -v, -w, grip], memory

    def _within_reach(self, hand: Vectors, to: Vectors, action: Vectors) -> Vectors:
        """The action, shortened where it would put the hand's target farther from the base than the arm may reach.

        The controller's inverse kinematics gives up at a target out of reach, and the arm would stay where it is.
        """
        base = vectors(self.place[0], self.place[1], 0.0)
        farthest = np.maximum(np.maximum(level(hand - base), level(to - base)), REACH)
        aim = hand + TARGET * action - base
        far = np.maximum(level(aim) / farthest, 1.0)
        aim = base + vectors(aim[0] / far, aim[1] / far, aim[2])
        return (aim - hand) / TARGET


def advance(phases: Sequence[Phase], phase: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phase that is due, and the steps already spent in it, (B,) each.

    A row goes on through as many phases as are done already, and back to the first where the one it is in is lost.
    """
    for i, one in enumerate(phases[:-1]):
        over = (steps >= one.least) & (one.done | (steps >= one.most))
        on = (phase == i) & (over if one.skip is None else over | one.skip)
        phase, steps = np.where(on, i + 1, phase), np.where(on, 0, steps)
    for i, one in enumerate(phases):
        if one.lost is not None:
            back = (phase == i) & one.lost
            phase, steps = np.where(back, 0, phase), np.where(back, 0, steps)
    return phase, steps


def towards(missing: Vectors, speed: np.ndarray) -> Vectors:
    """The action (3, B) that goes most of what is missing within a step, at most ``speed`` along any axis."""
    action = missing * (EAGER / STEP)
    size = np.maximum(np.maximum(np.abs(action[0]), np.abs(action[1])), np.abs(action[2]))
    return action * (speed / np.maximum(size, speed))


def turns(missing: Turns, speed: np.ndarray) -> Vectors:
    """The same for a turn, at most ``speed`` about all axes together."""
    action = rotation_vector(missing) * (EAGER / STEP)
    return action * (speed / np.maximum(length(action), speed))
