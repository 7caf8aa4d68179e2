"""Cards of the dm_control suite's tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wmbench.cards import Cause, Dimension, JointReading, SuccessRule, TaskCard
from wmbench_envs.typical import typical_std

_RULE = "as the success rule"
_CAMERAS = {
    "acrobot": ("fixed", "lookat"),
    "ball_in_cup": ("cam0", "cam1"),
    "cartpole": ("fixed", "lookatcart"),
    "cheetah": ("side", "back"),
    "finger": ("cam0", "cam1"),
    "hopper": ("cam0", "back"),
    "pendulum": ("fixed", "lookat"),
    "point_mass": ("fixed", "cam0"),
    "reacher": ("fixed", "hand"),
    "walker": ("side", "back"),
}
_VARIED = ("mass", "friction", "damping", "gain", "gravity", "colour", "light", "camera")
_LACKING = {  # nothing touches anything, or everything moves in a horizontal plane
    "acrobot": ("friction",),
    "cartpole": ("friction",),
    "finger": ("gravity",),
    "pendulum": ("friction",),
    "point_mass": ("friction", "gravity"),
    "reacher": ("friction", "gravity"),
}
_CITATION = "Tassa et al., dm_control: software and tasks for continuous control, 2020, arXiv:2006.12983"


def _dims(unit: str, *names: str) -> list[Dimension]:
    return [Dimension(n, unit) for n in names]


def _angle(name: str) -> Dimension:
    """Position of a hinge without limits."""
    return Dimension(name, "rad", "angle")


def _velocities(*joints: str, slides: Iterable[str] = ()) -> list[Dimension]:
    """Velocities of joints, those in ``slides`` in metres per second."""
    return [Dimension(f"{j}_velocity", "m/s" if j in slides else "rad/s") for j in joints]


def _published(mean: float, task: str) -> SuccessRule:
    """For dense rewards: four fifths of a published mean return."""
    source = (
        f"0.8 of {mean}, TD-MPC2 at 1M frames (mean of 3 seeds), nicklashansen/tdmpc2@e9f5932 results/tdmpc2/{task}.csv"
    )
    return SuccessRule("return", round(0.8 * mean, 1), source)


def _at_end(source: str) -> SuccessRule:
    """For rewards that say whether the goal is met: met at the last step."""
    return SuccessRule(
        "reward", 0.5, f"{source}; 0.5 separates the two, and the episode's last step counts", when="end"
    )


def _fallen(dims: tuple[int, ...], cosine: float, source: str) -> dict[str, Cause]:
    """A pole that was not brought up, or not kept there."""
    return {
        "pole never upright": Cause(dims, cosine, when="never", source=source),
        "pole not upright at the end": Cause(dims, cosine, when="end", source=source),
    }


def _card(
    domain: str,
    task: str,
    observation: Iterable[Dimension],
    actuators: tuple[str, ...],
    *,
    hz: float,
    success: SuccessRule,
    tags: tuple[str, ...],
    **rest: Any,
) -> TaskCard:
    name = "".join(w.capitalize() for w in f"{domain}_{task}".split("_"))
    task_id = f"wmbench/DMC-{name}-v0"
    return TaskCard(
        id=task_id,
        suite="dm-control",
        drawn_by="opengl",
        backend_id=f"{domain}/{task}",
        simulator="wmbench_envs.dm_control:DmControl",
        observation=tuple(observation),
        action=tuple(Dimension(f"{a}_control", low=-1.0, high=1.0) for a in actuators),
        control_hz=hz,
        horizon=1000,
        terminates=False,
        success=success,
        action_convention="torque or force of each actuator divided by its gear",
        robot=domain.replace("_", " "),
        reward_range=(0.0, 1.0),
        cameras=_CAMERAS[domain],
        presets=("fast", "full"),
        perturbations=tuple(p for p in _VARIED if p not in _LACKING.get(domain, ())),
        typical_std=typical_std(task_id),
        tags=tags,
        license="Apache-2.0",
        citation=_CITATION,
        **rest,
    )


def _cartpole(task: str, success: SuccessRule, *tags: str) -> TaskCard:
    return _card(
        "cartpole",
        task,
        [
            *_dims("m", "slider_position"),
            *_dims("1", "hinge_1_cosine", "hinge_1_sine"),
            *_velocities("slider", "hinge_1", slides=("slider",)),
        ],
        ("slide",),
        hz=100,
        success=success,
        tags=("planar", "balance", *tags),
        pose={"slider": 0, "hinge_1": (2, 1)},
        causes={
            **_fallen((1,), 0.995, "_ANGLE_COSINE_RANGE of dm_control's cartpole"),
            "cart off the centre at the end": Cause((0,), -0.25, 0.25, "end", source="_CART_RANGE, the same place"),
            "cart at the rail's end": Cause(
                (0,), -1.75, 1.75, source="our definition: rails end at 1.8 m, cartpole.xml"
            ),
        },
    )


def _pendulum() -> TaskCard:
    return _card(
        "pendulum",
        "swingup",
        [*_dims("1", "hinge_cosine", "hinge_sine"), *_velocities("hinge")],
        ("torque",),
        hz=50,
        success=_at_end("the reward is 1 while the pole is within 8 degrees of upright, otherwise 0"),
        tags=("planar", "balance", "swingup", "sparse"),
        pose={"hinge": (1, 0)},
        causes=_fallen((0,), 0.990268, "_COSINE_BOUND of dm_control's pendulum, 8 degrees"),
    )


def _reacher(task: str, target: float) -> TaskCard:
    return _card(
        "reacher",
        task,
        [
            _angle("shoulder_position"),
            *_dims("rad", "wrist_position"),
            *_dims("m", "to_target_x", "to_target_y"),
            *_velocities("shoulder", "wrist"),
        ],
        ("shoulder", "wrist"),
        hz=50,
        success=SuccessRule(
            "distance",
            round(target + 0.01, 3),
            f"where the reward is 1: finger (radius 0.01 m) and target (radius {target} m) touch; "
            "the episode's last step counts",
            dims=(2, 3),
            when="end",
        ),
        tags=("manipulation", "planar", "goal", "sparse"),
        kwargs={"goal": ["geom_pos"], "place": {"target": ["finger", 2, 3]}},
        pose={"shoulder": 0, "wrist": 1},
        causes={
            "away from the target at the end": Cause((2, 3), high=round(target + 0.01, 3), when="end", source=_RULE)
        },
    )


def _finger() -> TaskCard:
    return _card(
        "finger",
        "spin",
        [
            *_dims("rad", "proximal_position", "distal_position"),
            *_dims("m", "tip_x", "tip_z"),
            *_velocities("proximal", "distal", "hinge"),
            *_dims("log1p(N)", "touchtop", "touchbottom"),
        ],
        ("proximal", "distal"),
        hz=50,
        success=_published(985.7, "finger-spin"),
        tags=("manipulation", "contact", "planar", "sparse"),
        kwargs={"derived": ["sensordata"]},
        pose={"proximal": 0, "distal": 1, "hinge": JointReading((2, 3), sign=-1)},
    )


def _ball_in_cup() -> TaskCard:
    joints = ("cup_x", "cup_z", "ball_x", "ball_z")
    return _card(
        "ball_in_cup",
        "catch",
        [*_dims("m", *(f"{j}_position" for j in joints)), *_velocities(*joints, slides=joints)],
        ("x", "z"),
        hz=50,
        success=_at_end("the reward is 1 while the ball is in the cup, otherwise 0"),
        tags=("manipulation", "contact", "planar", "goal", "sparse"),
        pose={j: i for i, j in enumerate(joints)},
    )


def _cheetah() -> TaskCard:
    legs = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
    return _card(
        "cheetah",
        "run",
        [
            *_dims("m", "rootz_position"),
            _angle("rooty_position"),
            *_dims("rad", *(f"{j}_position" for j in legs)),
            *_velocities("rootx", "rootz", "rooty", *legs, slides=("rootx", "rootz")),
        ],
        legs,
        hz=100,
        success=_published(844.4, "cheetah-run"),
        tags=("locomotion", "contact", "planar"),
        pose={joint: i for i, joint in enumerate(("rootz", "rooty", *legs))},
        causes={
            "on its back at the end": Cause((1,), -1.57, 1.57, "end", source="our definition: past a quarter turn")
        },
    )


def _walker(task: str, mean: float) -> TaskCard:
    bodies = ("torso", *(f"{side}_{b}" for side in ("right", "left") for b in ("thigh", "leg", "foot")))
    joints = tuple(f"{side}_{j}" for side in ("right", "left") for j in ("hip", "knee", "ankle"))
    angle = {body: (2 * i + 1, 2 * i) for i, body in enumerate(bodies)}
    parents = {"thigh": "torso", "leg": "thigh", "foot": "leg"}
    hinges = {}
    for joint, body in zip(joints, bodies[1:], strict=True):
        side, part = body.split("_")
        parent = parents[part] if part == "thigh" else f"{side}_{parents[part]}"
        hinges[joint] = JointReading(angle[parent], minus=angle[body])  # the joints turn about -y
    return _card(
        "walker",
        task,
        [
            *_dims("1", *(f"{b}_{f}" for b in bodies for f in ("cosine", "sine"))),
            *_dims("m", "torso_height"),
            *_velocities("rootz", "rootx", "rooty", *joints, slides=("rootz", "rootx")),
        ],
        joints,
        hz=40,
        success=_published(mean, f"walker-{task}"),
        tags=("locomotion", "contact", "planar"),
        pose={"rootz": JointReading(14, offset=-1.3), "rooty": angle["torso"], **hinges},
        causes={
            "not standing at the end": Cause((14,), 1.2, when="end", source="_STAND_HEIGHT of dm_control's walker"),
            "never stood": Cause((14,), 1.2, when="never", source="_STAND_HEIGHT of dm_control's walker"),
        },
    )


def _hopper(task: str, success: SuccessRule) -> TaskCard:
    joints = ("waist", "hip", "knee", "ankle")
    return _card(
        "hopper",
        task,
        [
            *_dims("m", "rootz_position"),
            _angle("rooty_position"),
            *_dims("rad", *(f"{j}_position" for j in joints)),
            *_velocities("rootx", "rootz", "rooty", *joints, slides=("rootx", "rootz")),
            *_dims("log1p(N)", "touch_toe", "touch_heel"),
        ],
        joints,
        hz=50,
        success=success,
        tags=("locomotion", "contact", "planar"),
        kwargs={"derived": ["sensordata"]},
        pose={joint: i for i, joint in enumerate(("rootz", "rooty", *joints))},
    )


def _acrobot() -> TaskCard:
    upper, lower = (0, 2), (1, 3)
    return _card(
        "acrobot",
        "swingup",
        [
            *_dims("1", *(f"{arm}_{f}" for f in ("sine", "cosine") for arm in ("upper_arm", "lower_arm"))),
            *_velocities("shoulder", "elbow"),
        ],
        ("elbow",),
        hz=100,
        success=_published(517.9, "acrobot-swingup"),
        tags=("planar", "balance", "swingup", "underactuated"),
        pose={"shoulder": upper, "elbow": JointReading(lower, minus=upper)},
    )


def _point_mass() -> TaskCard:
    joints = ("root_x", "root_y")
    return _card(
        "point_mass",
        "easy",
        [*_dims("m", *(f"{j}_position" for j in joints)), *_velocities(*joints, slides=joints)],
        ("t1", "t2"),
        hz=50,
        success=SuccessRule(
            "distance",
            0.015,
            "the mass within the target (radius 0.015 m, at the origin), where the reward's distance term is 1; "
            "the episode's last step counts",
            dims=(0, 1),
            when="end",
        ),
        tags=("planar", "goal"),
        pose={j: i for i, j in enumerate(joints)},
        causes={"away from the target at the end": Cause((0, 1), high=0.015, when="end", source=_RULE)},
    )


CARDS: tuple[TaskCard, ...] = (
    _cartpole("balance", _published(974.7, "cartpole-balance")),
    _cartpole("swingup", _published(875.9, "cartpole-swingup"), "swingup", "underactuated"),
    _cartpole(
        "swingup_sparse",
        _at_end(
            "the reward is 1 while the cart is within 0.25 m of the centre and the pole nearly upright, otherwise 0"
        ),
        "swingup",
        "underactuated",
        "sparse",
    ),
    _pendulum(),
    _reacher("easy", 0.05),
    _reacher("hard", 0.015),
    _finger(),
    _ball_in_cup(),
    _cheetah(),
    _walker("stand", 990.6),
    _walker("walk", 979.7),
    _walker("run", 842.3),
    _hopper("stand", _at_end("the reward is 0 or, while the torso stands, at least 0.8")),
    _hopper("hop", _published(337.7, "hopper-hop")),
    _acrobot(),
    _point_mass(),
)
