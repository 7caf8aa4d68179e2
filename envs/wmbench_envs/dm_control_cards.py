"""Cards of the dm_control suite's tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wmbench.cards import Dimension, SuccessRule, TaskCard

_CITATION = "Tassa et al., dm_control: software and tasks for continuous control, 2020, arXiv:2006.12983"


def _card(
    domain: str,
    task: str,
    name: str,
    observation: Iterable[Dimension],
    actuators: tuple[str, ...],
    *,
    hz: float,
    success: SuccessRule,
    tags: tuple[str, ...],
    pose: Mapping[str, int | tuple[int, int]],
    kwargs: Mapping[str, Any] | None = None,
    convention: str = "torque or force of each actuator divided by its gear",
) -> TaskCard:
    return TaskCard(
        id=f"wmbench/DMC-{name}-v0",
        suite="dm-control",
        backend_id=f"{domain}/{task}",
        simulator="wmbench_envs.dm_control:DmControl",
        observation=tuple(observation),
        action=tuple(Dimension(f"{a}_control", low=-1.0, high=1.0) for a in actuators),
        control_hz=hz,
        horizon=1000,
        terminates=False,
        success=success,
        action_convention=convention,
        kwargs=kwargs or {},
        robot=domain.replace("_", " "),
        reward_range=(0.0, 1.0),
        pose=pose,
        tags=tags,
        license="Apache-2.0",
        citation=_CITATION,
    )


_CARTPOLE = (
    Dimension("cart_position", "m"),
    Dimension("pole_angle_cosine"),
    Dimension("pole_angle_sine"),
    Dimension("cart_velocity", "m/s"),
    Dimension("pole_angular_velocity", "rad/s"),
)


CARDS: tuple[TaskCard, ...] = (
    _card(
        "cartpole",
        "swingup",
        "CartpoleSwingup",
        _CARTPOLE,
        ("slide",),
        hz=100,
        success=SuccessRule("return", 700, "0.8 of TD-MPC2's mean return at 1M frames"),
        tags=("planar", "underactuated"),
        pose={"slider": 0, "hinge_1": (2, 1)},
    ),
)
