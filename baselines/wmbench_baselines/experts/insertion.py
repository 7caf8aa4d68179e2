"""Scripts for ManiSkill's tasks of one arm that puts one thing into another: a peg, a plug."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wmbench_baselines.experts.hand import CLOSED, Hand, Phase, Scene
from wmbench_baselines.experts.moves import along_with, grasp, raised
from wmbench_baselines.experts.poses import (
    Turns,
    Vectors,
    about,
    down,
    heading,
    inverse,
    length,
    multiply,
    nearest,
    rotate,
    rotation_vector,
    vectors,
)

X = vectors(1.0, 0.0, 0.0)


def insert(
    scene: Scene,
    name: str,
    goal: Vectors,
    turn: Turns,
    *,
    back: float,
    near: float,
    fit: float,
    pace: float,
    gone: np.ndarray,
) -> list[Phase]:
    """Lift what is held, align it behind where it goes in, bring it near, and push it in.

    Args:
        scene: What is seen.
        name: Of what is held.
        goal: Where its origin is once it is in.
        turn: How it is turned then; it goes in along its own x axis.
        back: How far behind its goal it is aligned, m.
        near: How far behind it is aligned precisely, m.
        fit: How far aside it may be and still go in, m.
        pace: How far it is pushed at a time, m; as far back where it would not go in.
        gone: (B,) bool: it is not held.
    """
    hand, thing = scene.place("tcp"), scene.place(name)
    ahead = rotate(turn, X)
    offset = rotate(inverse(turn), thing - goal)  # along, left, up
    aside = np.sqrt(offset[1] * offset[1] + offset[2] * offset[2])
    askew = length(rotation_vector(multiply(turn, inverse(scene.turn(name)))))
    never = np.zeros(len(gone), dtype=bool)

    def at(along: float | np.ndarray) -> tuple[Vectors, Turns]:
        return along_with(scene, name, goal + along * ahead, turn)

    sound = (aside < fit) & (askew < 0.02)
    on = np.minimum(np.where(sound, offset[0] + pace, offset[0] - pace), 0.0)
    far, close, deeper = at(-back), at(-near), at(on)
    aligned = (aside < 0.01) & (askew < 0.1)
    precise = (aside < fit / 2) & (askew < 0.01) & (np.abs(offset[0] + near) < 0.01)
    lift = vectors(hand[0], hand[1], hand[2] + goal[2] - thing[2])
    return [
        Phase(lift, np.abs(goal[2] - thing[2]) < 0.02, far[1], CLOSED, lost=gone),
        Phase(far[0], aligned, far[1], CLOSED, lost=gone),
        Phase(close[0], precise, close[1], CLOSED, lost=gone, fine=True),
        Phase(deeper[0], never, deeper[1], CLOSED, lost=gone | (aside > 0.02), fine=True),
    ]


class PegInsertionSide(Hand):
    """Take the peg by its tail, and push its head into the hole."""

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """Grasp, insert."""
        hand, peg, hole = scene.place("tcp"), scene.place("peg"), scene.place("hole")
        half = scene["peg_half_size_x"]
        turn = scene.turn("peg")
        hold = np.maximum(0.05, half / 2 + 0.01)
        at = peg - hold * rotate(turn, X)
        take = down(nearest(heading(turn), heading(scene.turn("tcp")), np.pi))
        goal = hole - half * rotate(scene.turn("hole"), X)
        gone = length(at - hand) > 0.05
        return [
            *grasp(scene, at, take),
            *insert(scene, "peg", goal, scene.turn("hole"), back=0.2, near=0.14, fit=0.002, pace=0.01, gone=gone),
        ]

    def mistake(self, scene: Scene) -> Scene:
        """Push it against the box above the hole."""
        return scene.moved(hole=raised(scene.place("hole"), 0.04))


class PlugCharger(Hand):
    """Take the charger by its base, with the hand leaning back, and plug it in."""

    BASE, LEAN = 0.02, np.deg2rad(15.0)
    """Where the base's middle is behind the pins, m; how far the hand leans so as not to touch the socket."""

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """Grasp, insert."""
        hand, charger, goal = scene.place("tcp"), scene.place("charger"), scene.place("goal")
        turn = scene.turn("charger")
        at = charger - self.BASE * rotate(turn, X)
        take = multiply(down(heading(turn)), about(1, self.LEAN))
        gone = length(at - hand) > 0.03
        return [
            *grasp(scene, at, take),
            *insert(
                scene, "charger", goal, scene.turn("goal"), back=0.06, near=0.03, fit=0.0006, pace=0.003, gone=gone
            ),
        ]

    def mistake(self, scene: Scene) -> Scene:
        """Push it against the wall above the socket."""
        return scene.moved(goal=raised(scene.place("goal"), 0.03))
