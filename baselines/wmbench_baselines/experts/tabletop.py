"""Scripts for ManiSkill's tasks of one arm that moves things on a table: pick, push, pull, stack, place, roll."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wmbench_baselines.experts.hand import CLOSED, Hand, Phase, Scene
from wmbench_baselines.experts.moves import QUARTER, UP, beside, grasp, levelled, put, raised, reached, square, turned
from wmbench_baselines.experts.poses import down, heading, length, level, nearest, vectors


class PickCube(Hand):
    """Grasp the cube and hold it at the goal."""

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """Grasp, carry."""
        hand, cube, goal = (scene.place(n) for n in ("tcp", "cube", "goal"))
        turn = square(scene, "cube")
        gone = length(cube - hand) > 0.04
        never = np.zeros(len(gone), dtype=bool)
        return [*grasp(scene, cube, turn), Phase(hand + goal - cube, never, turn, CLOSED, lost=gone)]

    def mistake(self, scene: Scene) -> Scene:
        """Hold it beside the goal."""
        return scene.moved(goal=beside(scene.place("goal")))


class Slide(Hand):
    """Push a cube along the table with closed fingers, from behind as seen from the goal."""

    BEHIND = 0.07
    LOW = 0.02

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """Above the place behind the cube, down, push."""
        hand, cube, goal = (scene.place(n) for n in ("tcp", "cube", "goal"))
        way = goal - cube
        away = np.maximum(level(way), 1e-6)
        way = vectors(way[0] / away, way[1] / away, 0.0 * away)
        start = vectors(cube[0] - self.BEHIND * way[0], cube[1] - self.BEHIND * way[1], self.LOW + 0.0 * away)
        turn = down(nearest(np.arctan2(way[1], way[0]), heading(scene.turn("tcp")), np.pi))
        offset = cube - hand
        across = np.abs(offset[0] * way[1] - offset[1] * way[0])
        along = offset[0] * way[0] + offset[1] * way[1]
        on = away - along
        there = vectors(cube[0] + on * way[0], cube[1] + on * way[1], self.LOW + 0.0 * away)
        never = np.zeros(len(away), dtype=bool)
        lost = ((across > 0.02) | (along < 0)) & (away > 0.08)
        return [
            Phase(raised(start, UP), (level(start - hand) < 0.02) & turned(scene, turn, 0.3), turn, CLOSED),
            Phase(start, reached(hand, start, 0.01), turn, CLOSED, lost=level(start - hand) > 0.04),
            Phase(there, never, turn, CLOSED, lost=lost, speed=0.6),
        ]

    def mistake(self, scene: Scene) -> Scene:
        """Push it beside the goal."""
        return scene.moved(goal=beside(scene.place("goal")))


class StackCube(Hand):
    """Put cube A on cube B."""

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """Grasp, lift, carry over, lower, let go, leave."""
        on = raised(scene.place("cube_b"), 0.04)
        return put(scene, "cube_a", on, square(scene, "cube_a"), levelled(scene, "cube_a"))

    def mistake(self, scene: Scene) -> Scene:
        """Put cube B on cube A."""
        return scene.renamed({"cube_a": "cube_b", "cube_b": "cube_a"})


class PlaceSphere(Hand):
    """Put the sphere into the bin."""

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """As with a cube, but the hand need not turn."""
        turn = down(heading(scene.turn("tcp")))
        return put(scene, "sphere", raised(scene.place("bin"), 0.0225), turn, turn, fit=0.0015, rest=6)

    def mistake(self, scene: Scene) -> Scene:
        """Put it beside the bin."""
        return scene.moved(bin=beside(scene.place("bin")))


class RollBall(Hand):
    """Strike the ball from behind, towards the goal; it rolls most of the way."""

    place = (-0.1, 1.0)
    base = -np.pi / 2
    BEHIND, LOW = 0.08, 0.035

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """Above the place behind the ball, down, and on."""
        hand, ball, goal = (scene.place(n) for n in ("tcp", "ball", "goal"))
        way = goal - ball
        away = np.maximum(level(way), 1e-6)
        way = vectors(way[0] / away, way[1] / away, 0.0 * away)
        start = vectors(ball[0] - self.BEHIND * way[0], ball[1] - self.BEHIND * way[1], self.LOW + 0.0 * away)
        turn = down(nearest(np.arctan2(way[1], way[0]), heading(scene.turn("tcp")), np.pi))
        there = vectors(ball[0] + way[0], ball[1] + way[1], self.LOW + 0.0 * away)
        never = np.zeros(len(away), dtype=bool)
        return [
            Phase(raised(start, UP), (level(start - hand) < 0.02) & turned(scene, turn, 0.1), turn, CLOSED),
            Phase(start, reached(hand, start, 0.008), turn, CLOSED, lost=level(start - hand) > 0.04),
            Phase(there, never, turn, CLOSED),
        ]

    def mistake(self, scene: Scene) -> Scene:
        """Roll it beside the goal."""
        goal = scene.place("goal")
        return scene.moved(goal=vectors(goal[0] - np.where(goal[0] > self.place[0], 0.4, -0.4), goal[1], goal[2]))


class StackPyramid(Hand):
    """Put cube A beside cube B, and cube C on both."""

    APART = 0.052
    """From B's middle to A's: room for a corner of B, and less than the 0.0616 m that ManiSkill allows."""

    def phases(self, scene: Scene) -> Sequence[Phase]:
        """Place A, unless it lies there already; place C."""
        hand, a, b, c = (scene.place(name) for name in ("tcp", "cube_a", "cube_b", "cube_c"))
        angle = nearest(heading(scene.turn("cube_a")), heading(scene.turn("tcp")), QUARTER)
        side = vectors(np.cos(angle), np.sin(angle), 0.0)  # past which no finger is
        spots = b + self.APART * side, b - self.APART * side
        spot = np.where(level(spots[0] - c) > level(spots[1] - c), spots[0], spots[1])
        lies = (level(a - b) < 0.06) & (np.abs(a[2] - b[2]) < 0.005)
        left = lies & (length(a - hand) > 0.05)
        first = put(scene, "cube_a", spot, square(scene, "cube_a"), levelled(scene, "cube_a"))
        first[-1] = replace(first[-1], lost=~lies)
        second = put(scene, "cube_c", raised((a + b) / 2, 0.04), square(scene, "cube_c"), levelled(scene, "cube_c"))
        return [*(replace(one, skip=left) for one in first), *second]
