"""Expert for dm_control's acrobot: energy shaping plus LQR, the law chosen by looking ahead in the equations of motion.

The torque is weak (2 N m against 20 N m of gravity), so no single energy-shaping law swings up from every start within
ten seconds. Several fixed laws do it from most starts between them. At intervals each is therefore played forward in
the equations of motion, and the one that promises most acts next (the rollout algorithm: Bertsekas, Dynamic
Programming and Optimal Control, vol. 1, section 6.4). The equations are written out here; no simulator is asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.keys import keys_from_seeds, uniform
from wmbench.protocols import State
from wmbench_baselines.experts.arms import turn
from wmbench_baselines.experts.control import Controller, combine, quadratic, saturate
from wmbench_baselines.experts.physics import DMC_ACROBOT, GRAVITY, lqr

LAWS = 64
RANGES = {
    "pump": (-1.0, 2.0),
    "sharp": (-1.0, 3.5),
    "spring": (-4.5, -1.0),
    "brake": (-9.0, -0.5),
    "lean": (-2.0, 2.0),
    "catch": (5.5, 8.0),
}
"""Of each setting of a law, that of ``lean`` as it is and those of the others as logarithms."""


def laws(n: int) -> dict[str, np.ndarray]:
    """Energy-shaping laws, always the same n: settings drawn uniformly from :data:`RANGES`, (n,) each.

    ``pump`` is action per J of missing energy, up to 1.5, applied along the elbow's velocity, which saturates with
    ``sharp`` per rad/s; ``spring`` is action per rad that the elbow is bent and ``brake`` per rad/s of its velocity;
    ``lean`` times the arctangent of the shoulder's velocity is added. Where the regulator's cost-to-go is below
    ``catch``, it acts instead. (Energy along the elbow and a spring that straightens it: Xin and Kaneda, Analysis of
    the energy-based swing-up control of the Acrobot, Int. J. Robust Nonlinear Control 17, 2007. The lean: Spong, The
    swing up control problem for the Acrobot, IEEE Control Systems 15, 1995.)
    """
    drawn = uniform(keys_from_seeds(range(n)), len(RANGES)).astype(np.float64)  # (n, 6)
    low, high = np.array(list(RANGES.values())).T
    values = low + (high - low) * drawn
    return {
        name: column if name == "lean" else np.exp(column)
        for name, column in zip(RANGES, np.ascontiguousarray(values.T), strict=True)
    }


class Acrobot(Controller):
    """Energy shaping, then LQR; which law shapes is decided anew every tenth of a second."""

    EVERY = 10
    """Control steps from one decision to the next."""
    AHEAD, STRIDE = 150, 0.02
    """Steps of a look ahead, and their length in s."""
    MISSING, SPINNING = 3.0, 0.3
    """What a J too much or too little at its end costs, in rewards of one step, and what the elbow's squared velocity
    does: an arm that spins has its energy where it is of no use."""

    def __init__(self, task: TaskCard) -> None:
        """Solve for the gain at the task's control rate."""
        super().__init__(task)
        self.lqr = lqr(DMC_ACROBOT, task.dt, weights=(1.0, 1.0, 0.1, 0.1), effort=10.0)
        self.laws = laws(LAWS)

    def initial(self, batch_size: int) -> State:
        """The law that acts, and for how many more steps, (B,) int64 each."""
        return {"law": np.zeros(batch_size, dtype=np.int64), "left": np.zeros(batch_size, dtype=np.int64)}

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Act by the law in force, after choosing a new one where it is time and the pole is not yet balanced.

        Args:
            observation: (B, O) float32, as the task's card says.
            state: As returned by :meth:`initial` or by the previous call.
            keys: (B,) int64, ignored.

        Returns:
            Actions (B, A) float32 inside the bounds, and the next state.

        Raises:
            WmbenchError: Observations of another shape.
        """
        now = self._read(self.columns(observation))
        law, left = state["law"].copy(), state["left"].copy()
        caught = quadratic(self.lqr.cost, self._errors(now)) < self.laws["catch"][law]
        due = np.flatnonzero((left <= 0) & ~caught)
        if len(due):
            law[due], left[due] = self._choose([column[due] for column in now]), self.EVERY
        action = self._law({name: values[law] for name, values in self.laws.items()}, now)
        return self.bounded([action]), {"law": law, "left": np.maximum(left - 1, 0)}

    def command(self, observation: np.ndarray) -> list[np.ndarray]:
        """The action of the law that looks best from here."""
        now = self._read(observation)
        chosen = self._choose(now)
        return [self._law({name: values[chosen] for name, values in self.laws.items()}, now)]

    @staticmethod
    def _read(observation: np.ndarray) -> list[np.ndarray]:
        """Absolute angles of both arms from upright and their velocities, from (O, B)."""
        sine, sine2, cosine, cosine2, shoulder, elbow = observation
        return [np.arctan2(sine, cosine), np.arctan2(sine2, cosine2), shoulder, shoulder + elbow]

    @staticmethod
    def _errors(now: list[np.ndarray]) -> list[np.ndarray]:
        return [turn(now[0]), turn(now[1]), now[2], now[3]]

    def _law(self, law: dict[str, np.ndarray], now: list[np.ndarray]) -> np.ndarray:
        """The action of one law per row, inside [-1, 1]."""
        errors = self._errors(now)
        elbow, bent = now[3] - now[2], turn(now[1] - now[0])
        pump = -saturate(law["pump"] * energy(now), 1.5) * np.tanh(law["sharp"] * elbow)
        shaped = pump - law["spring"] * bent - law["brake"] * elbow + law["lean"] * np.arctan(now[2])
        near = quadratic(self.lqr.cost, errors) < law["catch"]
        return saturate(np.where(near, -combine(self.lqr.gain, errors), shaped), 1.0)

    def _choose(self, now: list[np.ndarray]) -> np.ndarray:
        """The most promising law of each of n rows, (n,) int64."""
        n = len(now[0])
        law = {name: np.tile(values, n) for name, values in self.laws.items()}  # (n * LAWS,)
        state = [np.repeat(column, LAWS) for column in now]
        promise = np.zeros(n * LAWS)
        for _ in range(self.AHEAD):
            state = runge_kutta(state, self._law(law, state), self.STRIDE)
            promise += reward(state)
        elbow = state[3] - state[2]
        promise -= self.MISSING * np.abs(energy(state)) + self.SPINNING * elbow * elbow
        return promise.reshape(n, LAWS).argmax(axis=1)


_INERTIA = DMC_ACROBOT.upright_inertia
_UPPER, _LOWER, _COUPLED = float(_INERTIA[0, 0]), float(_INERTIA[1, 1]), float(_INERTIA[0, 1])
_WEIGHT, _WEIGHT2 = (float(GRAVITY * moment) for moment in DMC_ACROBOT.moment)


def energy(state: list[np.ndarray]) -> np.ndarray:
    """Energy in J above that of resting upright.

    Args:
        state: Absolute angles from upright and their velocities: four arrays.
    """
    a, b, va, vb = state
    kinetic = 0.5 * _UPPER * va * va + 0.5 * _LOWER * vb * vb + _COUPLED * np.cos(a - b) * va * vb
    return kinetic + _WEIGHT * (np.cos(a) - 1.0) + _WEIGHT2 * (np.cos(b) - 1.0)


def motion(state: list[np.ndarray], action: np.ndarray) -> list[np.ndarray]:
    """Time derivative of the state under an action in [-1, 1]."""
    a, b, va, vb = state
    sine, cosine = np.sin(a - b), _COUPLED * np.cos(a - b)
    shoulder, elbow = DMC_ACROBOT.damping
    torque = DMC_ACROBOT.gear * action - elbow * (vb - va)
    upper = -_COUPLED * sine * vb * vb + _WEIGHT * np.sin(a) - shoulder * va - torque
    lower = _COUPLED * sine * va * va + _WEIGHT2 * np.sin(b) + torque
    scale = _UPPER * _LOWER - cosine * cosine
    return [va, vb, (_LOWER * upper - cosine * lower) / scale, (_UPPER * lower - cosine * upper) / scale]


def runge_kutta(state: list[np.ndarray], action: np.ndarray, dt: float) -> list[np.ndarray]:
    """The state ``dt`` seconds later, by one classical fourth-order step."""

    def after(step: float, slope: list[np.ndarray]) -> list[np.ndarray]:
        return [x + step * k for x, k in zip(state, slope, strict=True)]

    first = motion(state, action)
    second = motion(after(dt / 2, first), action)
    third = motion(after(dt / 2, second), action)
    fourth = motion(after(dt, third), action)
    slopes: Any = zip(state, first, second, third, fourth, strict=True)
    return [x + dt / 6 * (k + 2.0 * m + 2.0 * p + q) for x, k, m, p, q in slopes]


def reward(state: list[np.ndarray]) -> np.ndarray:
    """The task's reward: 1 within 0.2 m of the top, 0.1 at 1 m more, Gaussian in between (dm_control's tolerance)."""
    across, up = np.sin(state[0]) + np.sin(state[1]), np.cos(state[0]) + np.cos(state[1]) - 2.0
    beyond = np.maximum(np.sqrt(across * across + up * up) - 0.2, 0.0)
    return np.exp(np.log(0.1) * beyond * beyond)
