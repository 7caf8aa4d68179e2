"""What scripts for a hand are made of: reach, grasp, carry, put down."""

from __future__ import annotations

import numpy as np

from wmbench_baselines.experts.hand import CLOSED, OPEN, Hand, Phase, Scene
from wmbench_baselines.experts.poses import (
    Turns,
    Vectors,
    between,
    down,
    heading,
    inverse,
    length,
    level,
    multiply,
    nearest,
    rotate,
    rotation_vector,
    turn_by,
    vectors,
)

UP = 0.1
"""How far above things the hand travels, m."""
WRIST = 0.16
"""Lever of the lean, m: the hand from wrist to fingertips is 0.21 m long."""
QUARTER = np.pi / 2
BESIDE = 0.15
"""How far beside the right place a mistaken one is, m."""


def raised(place: Vectors, by: float | np.ndarray) -> Vectors:
    """The place, so much higher."""
    return vectors(place[0], place[1], place[2] + by)


def beside(place: Vectors) -> Vectors:
    """Another place, to the other side of the table's middle line."""
    return vectors(place[0], place[1] - np.where(place[1] > 0, BESIDE, -BESIDE), place[2])


def square(scene: Scene, name: str) -> Turns:
    """The hand pointing down with its fingers along the sides of a cube, by the least turning."""
    turn = down(nearest(heading(scene.turn(name)), heading(scene.turn("tcp")), QUARTER))
    return leaning(turn, scene.place(name))


def leaning(turn: Turns, at: Vectors) -> Turns:
    """The hand leaning outwards where it could not reach straight down."""
    out = vectors(at[0] - Hand.place[0], at[1] - Hand.place[1], 0.0)
    far = level(out)
    lean = np.clip((far - 0.74) / WRIST, 0.0, 0.6)
    return multiply(turn_by(vectors(out[1] / far * lean, -out[0] / far * lean, 0.0)), turn)


def levelled(scene: Scene, name: str) -> Turns:
    """The hand as it is, turned on so that what it holds lies level."""
    up = rotate(scene.turn(name), vectors(0.0, 0.0, 1.0))
    return multiply(between(up, vectors(0.0, 0.0, 1.0)), scene.turn("tcp"))


def reached(hand: Vectors, to: Vectors, within: float) -> np.ndarray:
    """(B,): whether the hand is there."""
    return length(to - hand) < within


def turned(scene: Scene, to: Turns, within: float = 0.1) -> np.ndarray:
    """(B,): whether the hand is turned that way."""
    return length(rotation_vector(multiply(to, inverse(scene.turn("tcp"))))) < within


def grasp(scene: Scene, at: Vectors, turn: Turns) -> list[Phase]:
    """Above it, down to it, and close."""
    hand = scene.place("tcp")
    above = raised(at, UP)
    over = (level(at - hand) < 0.01) & turned(scene, turn)
    return [
        Phase(above, over, turn),
        Phase(at, reached(hand, at, 0.006), turn, lost=level(at - hand) > 0.03),
        Phase(at, scene.width() < 0.1, turn, CLOSED, least=3),
    ]


def put(
    scene: Scene,
    name: str,
    on: Vectors,
    turn: Turns,
    flat: Turns,
    *,
    drop: float = 0.003,
    rest: int = 0,
    fit: float = 0.003,
) -> list[Phase]:
    """Grasp something, lift it, carry it over a place, lower it, let go, leave.

    Args:
        scene: What is seen.
        name: Of what is moved.
        on: Where its middle goes.
        turn: The hand's turn to grasp it.
        flat: The hand's turn while it carries it.
        drop: From how high above its place it is let go, m.
        fit: How precisely it is brought above, m.
        rest: For how many steps it is first held there.
    """
    hand, thing = scene.place("tcp"), scene.place(name)
    gone = length(thing - hand) > 0.04
    missing = on - thing
    placed = (level(missing) < 0.02) & (np.abs(missing[2]) < 0.006)
    over = level(missing)
    height = np.maximum(on[2] + 0.03, 0.08)
    carry = vectors(hand[0] + missing[0], hand[1] + missing[1], height)
    lift = vectors(hand[0], hand[1], height)
    never = np.zeros(len(over), dtype=bool)
    away = vectors(hand[0], hand[1], on[2] + UP)
    return [
        *grasp(scene, thing, turn),
        Phase(lift, hand[2] > height - 0.02, flat, CLOSED, lost=gone),
        Phase(carry, over < fit, flat, CLOSED, lost=gone, fine=True),
        Phase(hand + missing, missing[2] > -drop, flat, CLOSED, lost=gone | (over > 0.02), speed=0.5),
        Phase(hand + missing, ~never, flat, CLOSED, least=rest, fine=True),
        Phase(hand, ~never, None, OPEN, least=3),
        Phase(away, never, None, OPEN, lost=~placed),
    ]


def along_with(scene: Scene, name: str, place: Vectors, turn: Turns) -> tuple[Vectors, Turns]:
    """Where the hand must be, and how turned, for what it holds to be at a place and turned a certain way."""
    change = multiply(turn, inverse(scene.turn(name)))
    return place + rotate(change, scene.place("tcp") - scene.place(name)), multiply(change, scene.turn("tcp"))
