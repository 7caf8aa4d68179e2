"""Cards of Gymnasium's MuJoCo v5 tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wmbench.cards import Dimension, SuccessRule, TaskCard

_TORQUE = "torque on each hinge (force on each slide) divided by its actuator's gear"


def _positions(*joints: str, unit: str = "rad") -> list[Dimension]:
    """Positions of limited hinges, or of slides with ``unit="m"``."""
    return [Dimension(f"{j}_position", unit) for j in joints]


def _angle(joint: str) -> Dimension:
    """Position of a hinge without limits."""
    return Dimension(f"{joint}_position", "rad", "angle")


def _velocities(*joints: str, slides: Iterable[str] = ()) -> list[Dimension]:
    """Velocities of joints, those in ``slides`` in metres per second."""
    return [Dimension(f"{j}_velocity", "m/s" if j in slides else "rad/s") for j in joints]


def _torques(*joints: str, bound: float = 1.0, unit: str = "1") -> tuple[Dimension, ...]:
    return tuple(Dimension(f"{j}_torque", unit, low=-bound, high=bound) for j in joints)


def _threshold(value: float, name: str) -> SuccessRule:
    """The return at which Gymnasium calls the task solved."""
    return SuccessRule("return", value, f"reward_threshold of {name} in Gymnasium's registry")


def _card(
    name: str,
    observation: Iterable[Dimension],
    action: tuple[Dimension, ...],
    *,
    hz: float,
    success: SuccessRule,
    robot: str,
    citation: str,
    tags: tuple[str, ...],
    horizon: int = 1000,
    terminates: bool = True,
    pose: Mapping[str, int | tuple[int, int]] | None = None,
    reward_range: tuple[float | None, float | None] = (None, None),
    kwargs: Mapping[str, Any] | None = None,
    convention: str = _TORQUE,
) -> TaskCard:
    return TaskCard(
        id=f"wmbench/Gym-{name}-v0",
        suite="gym-mujoco",
        backend_id=f"{name}-v5",
        simulator="wmbench_envs.gym_mujoco:GymMujoco",
        observation=tuple(observation),
        action=action,
        control_hz=hz,
        horizon=horizon,
        terminates=terminates,
        success=success,
        action_convention=convention,
        kwargs=kwargs or {},
        robot=robot,
        reward_range=reward_range,
        pose=pose or {},
        tags=tags,
        license="MIT",
        citation=citation,
    )


def _half_cheetah() -> TaskCard:
    legs = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
    return _card(
        "HalfCheetah",
        [
            *_positions("rootz", unit="m"),
            _angle("rooty"),
            *_positions(*legs),
            *_velocities("rootx", "rootz", "rooty", *legs, slides=("rootx", "rootz")),
        ],
        _torques(*legs),
        hz=20,
        success=_threshold(4800, "HalfCheetah-v5"),
        robot="half cheetah",
        citation="Wawrzynski, A cat-like robot real-time learning to run, 2009",
        tags=("locomotion", "contact", "planar"),
        terminates=False,
        pose={joint: i for i, joint in enumerate(("rootz", "rooty", *legs))},
    )


def _hopper() -> TaskCard:
    legs = ("thigh_joint", "leg_joint", "foot_joint")
    return _card(
        "Hopper",
        [
            *_positions("rootz", unit="m"),
            _angle("rooty"),
            *_positions(*legs),
            *_velocities("rootx", "rootz", "rooty", *legs, slides=("rootx", "rootz")),
        ],
        _torques(*legs),
        hz=125,
        success=_threshold(3800, "Hopper-v5"),
        robot="hopper",
        citation="Erez, Tassa and Todorov, Infinite horizon model predictive control for nonlinear periodic tasks, 2011",
        tags=("locomotion", "contact", "planar"),
        pose={joint: i for i, joint in enumerate(("rootz", "rooty", *legs))},
    )


CARDS: tuple[TaskCard, ...] = (_half_cheetah(), _hopper())
