"""Experts for poles: linear-quadratic regulators near upright, energy shaping on the way there."""

from __future__ import annotations

import numpy as np

from wmbench.cards import TaskCard
from wmbench_baselines.experts.control import Controller, combine, quadratic, saturate
from wmbench_baselines.experts.physics import (
    DMC_CARTPOLE,
    DMC_PENDULUM,
    GRAVITY,
    GYM_DOUBLE_PENDULUM,
    GYM_PENDULUM,
    lqr,
)


class GymPendulum(Controller):
    """LQR for Gymnasium's cart and pole."""

    def __init__(self, task: TaskCard) -> None:
        """Solve for the gain at the task's control rate."""
        super().__init__(task)
        self.lqr = lqr(GYM_PENDULUM, task.dt, weights=(1.0, 10.0, 0.1, 0.1), effort=1.0)

    def command(self, observation: np.ndarray) -> list[np.ndarray]:
        """The observation is the state: cart, angle and their velocities."""
        return [-combine(self.lqr.gain, list(observation))]


class GymDoublePendulum(Controller):
    """LQR for Gymnasium's cart and two poles; softly, so that the force rarely saturates and the rail suffices."""

    def __init__(self, task: TaskCard) -> None:
        """Solve for the gain at the task's control rate."""
        super().__init__(task)
        self.lqr = lqr(GYM_DOUBLE_PENDULUM, task.dt, weights=(0.01, 0.1, 0.1, 0.001, 0.001, 0.001), effort=1.0)

    def command(self, observation: np.ndarray) -> list[np.ndarray]:
        """Absolute angles from the sines and cosines of the joints', the second of which is relative."""
        x, sine, sine2, cosine, cosine2, v, omega, omega2, _ = observation
        first = np.arctan2(sine, cosine)
        second = first + np.arctan2(sine2, cosine2)
        return [-combine(self.lqr.gain, [x, first, second, v, omega, omega + omega2])]


class Cartpole(Controller):
    """Energy shaping of the pole by the cart's acceleration, then LQR, for dm_control's cartpole.

    Below the catching region the cart's acceleration is commanded, by partial feedback linearisation, to pump the
    pole's energy towards that of resting upright, and softly back to the middle (Astrom and Furuta, Swinging up a
    pendulum by energy control, Automatica 36, 2000; Spong, Energy based control of a class of underactuated
    mechanical systems, IFAC 1996). The constants were found by random search for the highest return in the equations
    of motion.
    """

    PUMP = 140.0
    """Acceleration per energy (J) and pole velocity."""
    PUSH = 6.5
    """Most acceleration for pumping, m/s^2."""
    CENTRE, BRAKE = 3.7, 1.2
    """Acceleration per metre and per m/s away from the middle."""
    CATCH = 100.0
    """Below this cost-to-go of the regulator it takes over."""

    def __init__(self, task: TaskCard) -> None:
        """Solve for the gain at the task's control rate."""
        super().__init__(task)
        self.lqr = lqr(DMC_CARTPOLE, task.dt, weights=(1.0, 4.0, 0.1, 0.1), effort=0.3)

    def command(self, observation: np.ndarray) -> list[np.ndarray]:
        """Swing up, or balance where that is cheap."""
        x, cosine, sine, v, omega = observation
        state = [x, np.arctan2(sine, cosine), v, omega]
        balance = -combine(self.lqr.gain, state)
        near = quadratic(self.lqr.cost, state) < self.CATCH
        chain = DMC_CARTPOLE
        inertia, moment = chain.upright_inertia[1, 1], chain.moment[0]
        energy = 0.5 * inertia * omega * omega + moment * GRAVITY * (cosine - 1.0)  # 0 at rest upright
        wanted = saturate(self.PUMP * energy * omega * cosine, self.PUSH) - self.CENTRE * x - self.BRAKE * v
        tip = moment * GRAVITY * sine - chain.damping[1] * omega  # torque on the pole
        force = (chain.upright_inertia[0, 0] - (moment * cosine) ** 2 / inertia) * wanted
        force += moment * cosine * tip / inertia - moment * sine * omega * omega + chain.damping[0] * v
        return [np.where(near, balance, force / chain.gear)]


class Pendulum(Controller):
    """Energy shaping within the torque limit, then LQR, for dm_control's pendulum."""

    PUMP = 5.0
    """Torque per energy (J) and velocity."""
    CATCH = 1.0
    """Up to this torque (of at most 1) the regulator takes over."""

    def __init__(self, task: TaskCard) -> None:
        """Solve for the gain at the task's control rate."""
        super().__init__(task)
        self.lqr = lqr(DMC_PENDULUM, task.dt, weights=(1.0, 0.1), effort=1.0)

    def command(self, observation: np.ndarray) -> list[np.ndarray]:
        """Swing up, or balance where the torque suffices."""
        cosine, sine, omega = observation
        balance = -combine(self.lqr.gain, [np.arctan2(sine, cosine), omega])
        chain = DMC_PENDULUM
        inertia, weight = chain.upright_inertia[0, 0], chain.moment[0] * GRAVITY
        energy = 0.5 * inertia * omega * omega + weight * (cosine - 1.0)  # 0 at rest upright
        forward = np.where(omega >= 0, 1.0, -1.0)  # at rest, either way is as good
        pump = np.where(energy < -0.1, forward, -self.PUMP * energy * omega + chain.damping[0] * omega)
        near = (cosine > 0.8) & (np.abs(balance) < self.CATCH)
        return [np.where(near, balance, pump) / chain.gear]
