"""Experts for two-link arms: the two ways to reach a point, and a damped spring towards the nearer one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wmbench.cards import TaskCard
from wmbench_baselines.experts.control import Controller


@dataclass(frozen=True)
class Arm:
    """A planar arm of two links with the shoulder at the origin.

    Attributes:
        upper: Length of the first link, m.
        lower: From the second joint to the finger, m.
        limit: The second joint's range is plus or minus this, rad.
    """

    upper: float
    lower: float
    limit: float

    def tip(self, shoulder: np.ndarray, wrist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the finger is: x and y of the same shape as the angles."""
        both = shoulder + wrist
        return (
            self.upper * np.cos(shoulder) + self.lower * np.cos(both),
            self.upper * np.sin(shoulder) + self.lower * np.sin(both),
        )

    def reach(self, x: np.ndarray, y: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
        """Joint angles that put the finger on a point, or as near to it as links and limit allow.

        (Law of cosines; Craig, Introduction to Robotics, 3rd edition, section 4.4.)

        Args:
            x: Of the point, any shape.
            y: Of the point.
            side: The sign of the second angle, 1 or -1.

        Returns:
            Shoulder and wrist angle.
        """
        bend = (x * x + y * y - self.upper**2 - self.lower**2) / (2 * self.upper * self.lower)
        wrist = side * np.minimum(np.arccos(np.clip(bend, -1.0, 1.0)), self.limit)
        lead = np.arctan2(self.lower * np.sin(wrist), self.upper + self.lower * np.cos(wrist))
        return np.arctan2(y, x) - lead, wrist


DMC_ARM = Arm(0.12, 0.12, np.deg2rad(160.0))
"""dm_control's reacher.xml."""

GYM_ARM = Arm(0.1, 0.11, 3.0)
"""Gymnasium's reacher.xml."""


def turn(angle: np.ndarray) -> np.ndarray:
    """The angle modulo full turns, in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


class Reach(Controller):
    """A damped spring from the joints to the nearer of the two ways to hold the target.

    Subclasses read the joints and the target from the observation.
    """

    arm: Arm
    spring: tuple[float, float] = (1.0, 1.0)
    """Action per rad of each joint."""
    damper: tuple[float, float] = (0.1, 0.1)
    """Action per rad/s of each joint."""

    def __init__(self, task: TaskCard, *, mirror: bool = False) -> None:
        """Prepare.

        Args:
            task: The task.
            mirror: Reach for the target's mirror image in the shoulder instead: a point as far out, half a turn away.
        """
        super().__init__(task)
        self.sign = -1.0 if mirror else 1.0

    def read(self, observation: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Angles and velocities of the two joints and the target's x and y, from (O, B)."""
        raise NotImplementedError

    def command(self, observation: np.ndarray) -> list[np.ndarray]:
        """Pull both joints towards the angles that reach the target with the least turning."""
        angles, velocities, target = self.read(observation)
        ways = []
        for side in (1.0, -1.0):
            shoulder, wrist = self.arm.reach(self.sign * target[0], self.sign * target[1], side)
            ways.append((turn(shoulder - angles[0]), wrist - angles[1]))  # the wrist cannot go round
        first, second = ways
        nearer = np.maximum(np.abs(first[0]), np.abs(first[1])) <= np.maximum(np.abs(second[0]), np.abs(second[1]))
        errors = [np.where(nearer, one, other) for one, other in zip(first, second, strict=True)]
        return [self.pull(joint, errors, velocities[joint]) for joint in (0, 1)]

    def pull(self, joint: int, errors: list[np.ndarray], velocity: np.ndarray) -> np.ndarray:
        """The action of one joint, from what is missing of both angles and from its velocity."""
        return self.spring[joint] * errors[joint] - self.damper[joint] * velocity


class DmcReacher(Reach):
    """dm_control's reacher: torques of 0.05 N m against damping of 0.01 N m s, so speeds stay below 5 rad/s."""

    arm = DMC_ARM
    spring = (2.0, 2.0)
    damper = (0.2, 0.05)

    def read(self, observation: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """The target is where the finger is, plus the vector to it."""
        shoulder, wrist, dx, dy, v_shoulder, v_wrist = observation
        x, y = self.arm.tip(shoulder, wrist)
        return [shoulder, wrist], [v_shoulder, v_wrist], [x + dx, y + dy]


class GymReacher(Reach):
    """Gymnasium's reacher: armature makes each joint 1 kg m^2 with damping 1, and effort costs its square."""

    arm = GYM_ARM
    SOFT, STIFF, NEAR, DAMPING = 0.23, 0.08, 0.024, 0.086
    """Spring far away; what it gains towards the target; within which angle; damper per root of the spring. Found by
    random search for the highest mean return; the spring stiffens near the target because effort costs its square
    and distance only its first power."""

    def read(self, observation: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Angles from cosines and sines; the target stands in the observation."""
        cosine, cosine2, sine, sine2, x, y, v, v2, _, _ = observation
        return [np.arctan2(sine, cosine), np.arctan2(sine2, cosine2)], [v, v2], [x, y]

    def pull(self, joint: int, errors: list[np.ndarray], velocity: np.ndarray) -> np.ndarray:
        """A spring that stiffens towards the target."""
        missing = np.sqrt(errors[0] * errors[0] + errors[1] * errors[1])
        spring = self.SOFT + self.STIFF / (self.NEAR + missing)
        return spring * errors[joint] - self.DAMPING * np.sqrt(spring) * velocity


class PointMass(Controller):
    """A damped spring on each axis towards the target in the middle, for dm_control's point mass."""

    SPRING, DAMPER = 20.0, 8.0
    """Action per m and per m/s; the mass is 0.3 kg, damping 1 N s/m, and an action of 1 is 0.1 N."""

    def command(self, observation: np.ndarray) -> list[np.ndarray]:
        """The observation is the state."""
        x, y, vx, vy = observation
        return [-self.SPRING * x - self.DAMPER * vx, -self.SPRING * y - self.DAMPER * vy]
