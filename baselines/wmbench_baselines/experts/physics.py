"""The bodies that the scripted experts reason about: constants of the MuJoCo models, their linearisation, and LQR.

The constants are those of the compiled models (``body_mass``, ``body_ipos``, ``body_inertia``, ``dof_damping``,
``actuator_gear`` of dm_control 1.0.50 and Gymnasium 1.4, MuJoCo 3.17). A test compares the linearisation with finite
differences of the true simulators, so a constant that no longer fits is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm, solve_discrete_are

GRAVITY = 9.81
"""m/s^2, in all of these models."""


@dataclass(frozen=True)
class Chain:
    """One or two poles, hinged one on the other, on a cart or on a fixed pivot.

    Coordinates are the cart's position (if there is a cart) and the poles' absolute angles from upright, positive
    towards the cart's positive side.

    Attributes:
        cart: Mass of the cart in kg, None for a fixed pivot.
        mass: Of each pole, kg.
        com: Distance of each pole's centre of mass from its hinge, m.
        length: Distance from each pole's hinge to the next one, m.
        inertia: Of each pole about its centre of mass, kg m^2.
        damping: Of each joint, the cart's slider first: N s/m, then N m s/rad.
        gear: Force in N, or torque in N m, of an action of 1.
        actuated: The joint that the actuator moves, counted as in ``damping``.
    """

    cart: float | None
    mass: tuple[float, ...]
    com: tuple[float, ...]
    length: tuple[float, ...]
    inertia: tuple[float, ...]
    damping: tuple[float, ...]
    gear: float
    actuated: int = 0

    @property
    def moment(self) -> np.ndarray:
        """First moment of each pole with what it carries, about its own hinge: (n,) in kg m."""
        carried = [sum(self.mass[i + 1 :]) for i in range(len(self.mass))]
        return np.array([m * c + k * h for m, c, k, h in zip(self.mass, self.com, carried, self.length, strict=True)])

    @property
    def upright_inertia(self) -> np.ndarray:
        """Mass matrix with all poles upright, (d, d) in kg, kg m and kg m^2."""
        n = len(self.mass)
        poles = np.zeros((n, n))
        for i in range(n):
            carried = sum(self.mass[i + 1 :])
            poles[i, i] = self.inertia[i] + self.mass[i] * self.com[i] ** 2 + carried * self.length[i] ** 2
            for j in range(i):
                poles[i, j] = poles[j, i] = self.length[j] * self.moment[i]
        if self.cart is None:
            return poles
        matrix = np.zeros((n + 1, n + 1))
        matrix[0, 0] = self.cart + sum(self.mass)
        matrix[0, 1:] = matrix[1:, 0] = self.moment
        matrix[1:, 1:] = poles
        return matrix

    def linearised(self) -> tuple[np.ndarray, np.ndarray]:
        """Continuous dynamics about upright: d/dt (q, v) = F (q, v) + G action.

        Returns:
            F (2d, 2d) and G (2d, 1), in SI units.
        """
        d = len(self.damping)
        slider = 0 if self.cart is None else 1
        relative = np.eye(d)  # joint velocities from velocities of the coordinates
        for i in range(slider + 1, d):
            relative[i, i - 1] = -1.0
        stiffness = np.diag([*[0.0] * slider, *(GRAVITY * self.moment)])
        friction = relative.T @ np.diag(self.damping) @ relative
        push = relative.T[:, self.actuated : self.actuated + 1] * self.gear
        inverse = np.linalg.inv(self.upright_inertia)
        f = np.block([[np.zeros((d, d)), np.eye(d)], [inverse @ stiffness, -inverse @ friction]])
        return f, np.concatenate([np.zeros((d, 1)), inverse @ push])

    def discrete(self, dt: float) -> tuple[np.ndarray, np.ndarray]:
        """The same over one control step of ``dt`` seconds with the action held: A (2d, 2d) and B (2d, 1)."""
        f, g = self.linearised()
        n = len(f)
        whole = expm(np.block([[f, g], [np.zeros((1, n + 1))]]) * dt)
        return whole[:n, :n], whole[:n, n:]


@dataclass(frozen=True)
class Gain:
    """A linear-quadratic regulator.

    Attributes:
        gain: (n,), the action is ``-gain @ state``.
        cost: (n, n), ``state @ cost @ state`` is what is still to be paid from a state.
    """

    gain: np.ndarray
    cost: np.ndarray


def lqr(chain: Chain, dt: float, weights: tuple[float, ...], effort: float) -> Gain:
    """The gain that minimises the sum of ``weights . state^2 + effort * action^2`` over all control steps.

    (Discrete-time algebraic Riccati equation; Anderson and Moore, Optimal Control: Linear Quadratic Methods, 1990.)

    Args:
        chain: What is balanced.
        dt: Control step in seconds.
        weights: One per state: positions, then velocities.
        effort: Weight of the squared action.
    """
    a, b = chain.discrete(dt)
    cost = solve_discrete_are(a, b, np.diag(weights), np.array([[effort]]))
    gain = np.linalg.solve(effort + b.T @ cost @ b, b.T @ cost @ a)
    return Gain(gain[0], cost)


DMC_CARTPOLE = Chain(
    cart=1.0, mass=(0.1,), com=(0.5,), length=(1.0,), inertia=(0.00942459,), damping=(5e-4, 2e-6), gear=10.0
)
"""dm_control's cartpole.xml."""

DMC_PENDULUM = Chain(cart=None, mass=(1.0,), com=(0.5,), length=(0.5,), inertia=(0.001,), damping=(0.1,), gear=1.0)
"""dm_control's pendulum.xml."""

DMC_ACROBOT = Chain(
    cart=None,
    mass=(1.0, 1.0),
    com=(0.5, 0.5),
    length=(1.0, 1.0),
    inertia=(0.09557031, 0.09530366),
    damping=(0.05, 0.05),
    gear=2.0,
    actuated=1,
)
"""dm_control's acrobot.xml."""

GYM_PENDULUM = Chain(
    cart=10.47197551,
    mass=(5.01859164,),
    com=(0.3000004,),
    length=(0.6,),
    inertia=(0.18874977,),
    damping=(1.0, 1.0),
    gear=100.0,
)
"""Gymnasium's inverted_pendulum.xml. Its pole leans by 1/600 rad in its own frame, which is left out."""

GYM_DOUBLE_PENDULUM = Chain(
    cart=10.47197551,
    mass=(4.19873858, 4.19873858),
    com=(0.3, 0.3),
    length=(0.6, 0.6),
    inertia=(0.15497067, 0.15497067),
    damping=(0.05, 0.05, 0.05),
    gear=500.0,
)
"""Gymnasium's inverted_double_pendulum.xml."""
