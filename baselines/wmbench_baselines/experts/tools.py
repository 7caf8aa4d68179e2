"""Scripts for ManiSkill's tasks of one arm with something long in its hand: raise a peg, poke and pull with tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wmbench_baselines.experts.hand import CLOSED, OPEN, Hand, Phase, Scene
from wmbench_baselines.experts.moves import beside, grasp, leaning
from wmbench_baselines.experts.poses import (
    between,
    down,
    heading,
    length,
    level,
    multiply,
    nearest,
    rotate,
    rotation_vector,
    turn_by,
    vectors,
)


class LiftPegUpright(Hand):
    """Take the peg loosely at its outer end and lead that end over the other one, which stays on the table."""

    HALF, THICK, HOLD = 0.12, 0.025, 0.07
    """Half the peg's length and width, and how far from its middle it is taken, m."""
    AHEAD, TILT = 0.15, 0.6
    """How far ahead of the peg its end is led, and how far the hand leans with it at most, rad."""
    LOOSE = 0.0
    """How the fingers are closed: they hold the peg, and let it turn between them."""

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """Grasp, raise."""
        hand, peg, facing = scene.place("tcp"), scene.place("peg"), scene.turn("tcp")
        along = rotate(scene.turn("peg"), vectors(1.0, 0.0, 0.0))
        outer = np.where(along[0] < 0, -1.0, 1.0) * along
        flat = down(nearest(np.arctan2(outer[1], outer[0]), heading(facing), np.pi))
        at = peg + self.HOLD * outer
        arm = hand - peg
        held = arm[0] * along[0] + arm[1] * along[1] + arm[2] * along[2]  # from the peg's middle to the hand
        end = np.where(held < 0, -1.0, 1.0) * along
        lever = self.HALF + np.abs(held)
        step = rotation_vector(between(end, vectors(0.0, 0.0, 1.0)))
        next_end = rotate(turn_by(step * np.minimum(1.0, self.AHEAD / np.maximum(length(step), 1e-6))), end)
        to = hand + lever * (next_end - end)
        to = vectors(to[0], to[1], lever * next_end[2] + self.THICK * level(next_end))
        gone = (length(arm - held * along) > 0.03) | (np.abs(held) > self.HALF)
        never = np.zeros(len(gone), dtype=bool)
        take = grasp(scene, at, leaning(flat, at))
        side = rotate(facing, vectors(0.0, 1.0, 0.0))  # along which the fingers close, and about which all this turns
        back = np.where(side[1] > 0, -1.0, 1.0) * side  # a hand at heading 0 closes along -y
        level_hand = down(nearest(np.arctan2(side[0], -side[1]), heading(facing), np.pi))
        tilt = np.minimum(np.arctan2(np.abs(end[2]), level(end)), self.TILT)
        tilted = multiply(turn_by(vectors(tilt * back[0], tilt * back[1], 0.0)), level_hand)
        upright = np.abs(along[2]) > 0.9996  # 0.03 rad
        return [
            *take[:-1],
            replace(take[-1], grip=self.LOOSE),
            Phase(to, upright, tilted, self.LOOSE, lost=gone),
            Phase(hand, never, None, OPEN, lost=np.abs(along[2]) < 0.99),
        ]


class PokeCube(Hand):
    """Take the peg by its tail, bring its head behind the cube, and push the cube with it."""

    HALF, CUBE, GAP, HOLD = 0.12, 0.02, 0.03, 0.07
    """Half the peg's length and the cube's, the room left between them, and how far behind its middle the peg is
    taken, m."""
    SHORT = 0.02
    """How far short of the goal's middle the push ends, m: the cube slides on."""

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """Grasp, align, push."""
        hand, peg, cube, facing = scene.place("tcp"), scene.place("peg"), scene.place("cube"), scene.turn("tcp")
        left = scene.place("cube_to_goal")
        askew = heading(scene.turn("peg"))
        at = peg - self.HOLD * rotate(scene.turn("peg"), vectors(1.0, 0.0, 0.0))
        take = leaning(down(nearest(askew, heading(facing), np.pi)), at)
        straight = leaning(down(heading(facing) - askew), hand)
        gone = length(at - hand) > 0.04
        never = np.zeros(len(gone), dtype=bool)
        across = cube[1] - peg[1]
        behind = cube[0] - self.HALF - self.CUBE - self.GAP - peg[0]
        clear = 0.027 - peg[2]
        ready = (np.abs(across) < 0.004) & (np.abs(behind) < 0.01) & (np.abs(askew) < 0.03)
        on = np.maximum(left[0] - self.SHORT, 0.0)
        return [
            *grasp(scene, at, take),
            Phase(hand + vectors(behind, across, clear), ready, straight, CLOSED, lost=gone),
            Phase(hand + vectors(on, across + left[1], clear), never, straight, CLOSED, lost=gone, speed=0.7),
        ]

    def mistake(self, scene: Scene) -> Scene:
        """Poke beside the cube."""
        return scene.moved(cube=beside(scene.place("cube")))


class PullCubeTool(Hand):
    """Take the tool by its handle, lower its hook behind the cube, and pull."""

    HOLD = 0.04
    """Where the handle is taken, from its end, m."""
    INNER, SIDE = 0.15, 0.065
    """From the end of the handle to the hook's inner face, and from its middle line to where the cube lies, m."""
    HIGH, CLOSE = 0.1, -0.09
    """How high the tool is carried, and up to which x the cube is pulled (0.525 m from the robot's base), m."""

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """Grasp, lift, over, down, pull."""
        hand, tool, cube, facing = scene.place("tcp"), scene.place("tool"), scene.place("cube"), scene.turn("tcp")
        askew = heading(scene.turn("tool"))
        ahead = rotate(scene.turn("tool"), vectors(1.0, 0.0, 0.0))
        at = tool + self.HOLD * ahead
        take = down(nearest(askew, heading(facing), np.pi))
        straight = multiply(turn_by(rotation_vector(between(ahead, vectors(1.0, 0.0, 0.0)))), facing)
        gone = length(at - hand) > 0.04
        never = np.zeros(len(gone), dtype=bool)
        want = vectors(cube[0] + 0.04 - self.INNER, cube[1] - self.SIDE, 0.0 * cube[0])
        missing = want - tool
        flat = np.abs(missing[0]) + np.abs(missing[1])
        up = vectors(hand[0], hand[1], self.HIGH + 0.03)
        over = vectors(hand[0] + missing[0], hand[1] + missing[1], self.HIGH + 0.03)
        lower = vectors(hand[0] + missing[0], hand[1] + missing[1], hand[2] + 0.027 - tool[2])
        pull = vectors(
            hand[0] - np.clip(cube[0] - self.CLOSE, 0.0, 0.2), hand[1] + missing[1], hand[2] + 0.027 - tool[2]
        )
        return [
            *grasp(scene, at, take),
            Phase(up, hand[2] > self.HIGH, straight, CLOSED, lost=gone),
            Phase(over, flat < 0.01, straight, CLOSED, lost=gone),
            Phase(lower, tool[2] < 0.032, straight, CLOSED, lost=gone),
            Phase(pull, never, straight, CLOSED, lost=gone, speed=0.7),
        ]

    def mistake(self, scene: Scene) -> Scene:
        """Hook and pull beside the cube."""
        return scene.moved(cube=beside(scene.place("cube")))
