"""Cards of Gymnasium's MuJoCo v5 tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wmbench.cards import Cause, Dimension, JointReading, SuccessRule, TaskCard
from wmbench_envs.typical import typical_std

_VARIED = ("mass", "friction", "damping", "gain", "gravity", "colour", "light", "camera")
_LACKING = {  # no contacts with friction, no gravity, or everything moves in a horizontal plane
    "InvertedDoublePendulum": ("friction",),
    "InvertedPendulum": ("friction",),
    "Pusher": ("friction", "gravity"),
    "Reacher": ("friction", "gravity"),
    "Swimmer": ("friction", "gravity"),
}
_XYZ = ("x", "y", "z")
_GEARED = "torque on each hinge (force on each slide) divided by its actuator's gear"
_HOPPER_PAPER = "Erez, Tassa and Todorov, Infinite-horizon MPC for periodic tasks with contacts, RSS 2011"
_POLE_PAPER = "Barto, Sutton and Anderson, Neuronlike adaptive elements that can solve difficult problems, 1983"
_GYM_PAPER = "Brockman et al., OpenAI Gym, 2016, arXiv:1606.01540"


def _positions(*joints: str, unit: str = "rad") -> list[Dimension]:
    """Positions of limited hinges, or of slides with ``unit="m"``."""
    return [Dimension(f"{j}_position", unit) for j in joints]


def _angle(joint: str) -> Dimension:
    """Position of a hinge without limits."""
    return Dimension(f"{joint}_position", "rad", "angle")


def _velocities(*joints: str, slides: Iterable[str] = ()) -> list[Dimension]:
    """Velocities of joints, those in ``slides`` in metres per second."""
    return [Dimension(f"{j}_velocity", "m/s" if j in slides else "rad/s") for j in joints]


def _vector(name: str, unit: str, axes: Iterable[str] = _XYZ) -> list[Dimension]:
    return [Dimension(f"{name}_{a}", unit) for a in axes]


def _free_position() -> list[Dimension]:
    """Height and orientation of a free root; its horizontal position is not observed."""
    return [Dimension("root_z", "m"), *(Dimension(f"root_quaternion_{a}", "1", "quaternion") for a in ("w", *_XYZ))]


def _free_velocity() -> list[Dimension]:
    """Linear velocity in the world's frame, angular velocity in the root's own."""
    return [*_vector("root_velocity", "m/s"), *_vector("root_angular_velocity", "rad/s")]


def _external_forces(bodies: Iterable[str]) -> list[Dimension]:
    """Rows of ``cfrc_ext``: torque, then force, about the centre of mass of the kinematic tree."""
    return [d for b in bodies for d in (*_vector(f"{b}_external_torque", "N m"), *_vector(f"{b}_external_force", "N"))]


def _torques(*joints: str, bound: float = 1.0, unit: str = "1") -> tuple[Dimension, ...]:
    return tuple(Dimension(f"{j}_torque", unit, low=-bound, high=bound) for j in joints)


def _registered(value: float, name: str) -> SuccessRule:
    """The return at which Gymnasium calls the task solved."""
    return SuccessRule("return", value, f"reward_threshold of {name}-v5 in Gymnasium's registry")


def _published(mean: float, name: str) -> SuccessRule:
    """For tasks that Gymnasium registers without a threshold: four fifths of a published mean."""
    source = f"0.8 of {mean}, SAC on {name}-v3 at 1M steps (mean of 10 seeds), thu-ml/tianshou examples/mujoco"
    return SuccessRule("return", round(0.8 * mean, 1), source)


def _unhealthy(name: str, height: tuple[float, float | None], tilt: float | None = None) -> dict[str, Cause]:
    """The health rule by which Gymnasium ends episodes: height of the root, and how far it leans."""
    source = f"healthy_z_range and healthy_angle_range of {name}-v5 in Gymnasium"
    causes = {"too low": Cause((0,), low=height[0], source=source)}
    if height[1] is not None:
        causes["too high"] = Cause((0,), high=height[1], source=source)
    if tilt is not None:
        causes["leans too far"] = Cause((1,), -tilt, tilt, source=source)
    return causes


def _far(dims: tuple[int, ...], limit: float, minus: tuple[int, ...] = (), source: str = "") -> dict[str, Cause]:
    """What should be together is apart when the episode ends."""
    return {"away from the goal at the end": Cause(dims, high=limit, when="end", minus=minus, source=source)}


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
    **rest: Any,
) -> TaskCard:
    common = {"horizon": 1000, "terminates": True, "action_convention": _GEARED, "cameras": ("track",)}
    task_id = f"wmbench/Gym-{name}-v0"
    return TaskCard(
        id=task_id,
        suite="gym-mujoco",
        drawn_by="opengl",
        backend_id=f"{name}-v5",
        simulator="wmbench_envs.gym_mujoco:GymMujoco",
        observation=tuple(observation),
        action=action,
        control_hz=hz,
        success=success,
        robot=robot,
        presets=("fast", "full"),
        perturbations=tuple(p for p in _VARIED if p not in _LACKING.get(name, ())),
        typical_std=typical_std(task_id),
        tags=tags,
        license="MIT",
        citation=citation,
        **{**common, **rest},
    )


def _runner(
    name: str, legs: tuple[str, ...], *, hz: float, success: SuccessRule, robot: str, citation: str, **rest: Any
) -> TaskCard:
    """A planar body on two root slides and a root hinge; the horizontal position is not observed."""
    joints = ("rootz", "rooty", *legs)
    return _card(
        name,
        [
            *_positions("rootz", unit="m"),
            _angle("rooty"),
            *_positions(*legs),
            *_velocities("rootx", *joints, slides=("rootx", "rootz")),
        ],
        _torques(*legs),
        hz=hz,
        success=success,
        robot=robot,
        citation=citation,
        tags=("locomotion", "contact", "planar"),
        pose={joint: i for i, joint in enumerate(joints)},
        **rest,
    )


def _ant() -> TaskCard:
    joints = tuple(f"{part}_{i}" for i in range(1, 5) for part in ("hip", "ankle"))
    limbs = ("front_left", "front_right", "back", "right_back")
    bodies = ("torso", *(b for i, limb in enumerate(limbs, 1) for b in (f"{limb}_leg", f"aux_{i}", f"{limb}_foot")))
    return _card(
        "Ant",
        [
            *_free_position(),
            *_positions(*joints),
            *_free_velocity(),
            *_velocities(*joints),
            *_external_forces(bodies),
        ],
        _torques("hip_4", "ankle_4", "hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3"),
        hz=20,
        success=_registered(6000, "Ant"),
        robot="ant",
        citation="Schulman et al., High-dimensional continuous control using GAE, 2016, arXiv:1506.02438",
        tags=("locomotion", "contact"),
        kwargs={"derived": ["xpos", "cfrc_ext"]},
        pose={"root": (0, 1, 2, 3, 4), **{joint: 5 + i for i, joint in enumerate(joints)}},
        causes=_unhealthy("Ant", (0.2, 1.0)),
    )


def _humanoid() -> TaskCard:
    arms = tuple(f"{side}_{j}" for side in ("right", "left") for j in ("shoulder1", "shoulder2", "elbow"))
    legs = tuple(f"{side}_{j}" for side in ("right", "left") for j in ("hip_x", "hip_z", "hip_y", "knee"))
    joints = ("abdomen_z", "abdomen_y", "abdomen_x", *legs, *arms)
    limbs = tuple(f"{side}_{b}" for side in ("right", "left") for b in ("thigh", "shin", "foot"))
    bodies = ("torso", "lwaist", "pelvis", *limbs)
    bodies += tuple(f"{side}_{b}" for side in ("right", "left") for b in ("upper_arm", "lower_arm"))
    inertia = [
        d
        for b in bodies
        for d in (
            *_vector(f"{b}_inertia", "kg m2", ("xx", "yy", "zz", "xy", "xz", "yz")),
            *_vector(f"{b}_mass_offset", "kg m"),
            Dimension(f"{b}_mass", "kg"),
        )
    ]
    spin = [d for b in bodies for d in (*_vector(f"{b}_angular_velocity", "rad/s"), *_vector(f"{b}_velocity", "m/s"))]
    return _card(
        "Humanoid",
        [
            *_free_position(),
            *_positions(*joints),
            *_free_velocity(),
            *_velocities(*joints),
            *inertia,
            *spin,
            *(Dimension(f"{j}_actuator_torque", "N m") for j in joints),
            *_external_forces(bodies),
        ],
        _torques("abdomen_y", "abdomen_z", "abdomen_x", *legs, *arms, bound=0.4),
        hz=1 / 0.015,
        success=_published(5488.5, "Humanoid"),
        robot="humanoid",
        citation="Tassa, Erez and Todorov, Synthesis and stabilization of complex behaviors, IROS 2012",
        tags=("locomotion", "contact", "high-dimensional"),
        kwargs={"derived": ["xipos", "cinert", "cvel", "qfrc_actuator", "cfrc_ext"]},
        pose={"root": (0, 1, 2, 3, 4), **{joint: 5 + i for i, joint in enumerate(joints)}},
        causes=_unhealthy("Humanoid", (1.0, 2.0)),
    )


def _swimmer() -> TaskCard:
    joints = ("free_body_rot", "motor1_rot", "motor2_rot")
    return _card(
        "Swimmer",
        [
            _angle("free_body_rot"),
            *_positions("motor1_rot", "motor2_rot"),
            *_velocities("slider1", "slider2", *joints, slides=("slider1", "slider2")),
        ],
        _torques("motor1_rot", "motor2_rot"),
        hz=25,
        terminates=False,
        success=_registered(360, "Swimmer"),
        robot="swimmer",
        citation="Coulom, Reinforcement learning using neural networks, PhD thesis, INPG, 2002",
        tags=("locomotion", "planar", "fluid"),
        pose={joint: i for i, joint in enumerate(joints)},
    )


def _reacher() -> TaskCard:
    return _card(
        "Reacher",
        [
            *(Dimension(f"{j}_{f}") for f in ("cosine", "sine") for j in ("joint0", "joint1")),
            *_positions("target_x", "target_y", unit="m"),
            *_velocities("joint0", "joint1"),
            *_vector("fingertip_minus_target", "m", "xy"),
        ],
        _torques("joint0", "joint1"),
        hz=50,
        horizon=50,
        terminates=False,
        success=SuccessRule(
            "distance",
            0.019,
            "fingertip (radius 0.01 m) and target (radius 0.009 m in reacher.xml) touch when the episode ends; the "
            "threshold in Gymnasium's registry, a mean return of -3.75, says of one episode how far its target was",
            dims=(8, 9),
            when="end",
        ),
        cameras=("free",),
        robot="two-link arm",
        reward_range=(None, 0.0),
        citation=_GYM_PAPER,
        tags=("manipulation", "planar", "goal"),
        kwargs={"derived": ["xpos"]},
        pose={"joint0": (2, 0), "joint1": (3, 1), "target_x": 4, "target_y": 5},
        causes=_far((8, 9), 0.05, source="our definition: five radii of the fingertip"),
    )


def _pusher() -> TaskCard:
    arm = ("shoulder_pan", "shoulder_lift", "upper_arm_roll", "elbow_flex", "forearm_roll", "wrist_flex", "wrist_roll")
    joints = tuple(f"r_{j}_joint" for j in arm)
    start = {"x": 0.45, "y": -0.05}  # of object and goal alike, in pusher_v5.xml
    slides = {
        f"{b[:3] if b == 'object' else b}_slide{a}": JointReading(first + "xy".index(a), offset=-start[a])
        for b, first in (("object", 17), ("goal", 20))
        for a in "xy"
    }
    return _card(
        "Pusher",
        [
            *_positions(*joints),
            *_velocities(*joints),
            *_vector("tips_arm", "m"),
            *_vector("object", "m"),
            *_vector("goal", "m"),
        ],
        _torques(*joints, bound=2.0, unit="N m"),
        hz=20,
        horizon=100,
        terminates=False,
        success=SuccessRule(
            "distance",
            0.08,
            "the object's axis within the goal's disc (geom size 0.08 m in pusher_v5.xml) when the episode ends; "
            "the threshold in Gymnasium's registry, a return of 0, cannot be reached",
            dims=(17, 18),
            minus=(20, 21),
            when="end",
        ),
        cameras=("free",),
        robot="seven-joint arm",
        reward_range=(None, 0.0),
        action_convention="torque on each hinge",
        citation=_GYM_PAPER,
        tags=("manipulation", "contact", "goal"),
        kwargs={"derived": ["xpos"]},
        pose={**{joint: i for i, joint in enumerate(joints)}, **slides},
        causes=_far((17, 18), 0.08, (20, 21), "as the success rule"),
    )


def _inverted_pendulum() -> TaskCard:
    return _card(
        "InvertedPendulum",
        [
            *_positions("slider", unit="m"),
            *_positions("hinge"),
            *_velocities("slider", "hinge", slides=("slider",)),
        ],
        (Dimension("slider_force", low=-3.0, high=3.0),),
        hz=25,
        success=_registered(950, "InvertedPendulum"),
        cameras=("free",),
        robot="cart and pole",
        reward_range=(0.0, 1.0),
        citation=_POLE_PAPER,
        tags=("balance", "planar"),
        pose={"slider": 0, "hinge": 1},
        causes={"pole fell": Cause((1,), -0.2, 0.2, source="the pole's limit in Gymnasium's InvertedPendulum-v5")},
    )


def _inverted_double_pendulum() -> TaskCard:
    return _card(
        "InvertedDoublePendulum",
        [
            *_positions("slider", unit="m"),
            *(Dimension(f"{j}_{f}") for f in ("sine", "cosine") for j in ("hinge", "hinge2")),
            *_velocities("slider", "hinge", "hinge2", slides=("slider",)),
            Dimension("slider_constraint_force", "N"),
        ],
        (Dimension("slider_force", low=-1.0, high=1.0),),
        hz=20,
        success=_registered(9100, "InvertedDoublePendulum"),
        cameras=("near", "free"),
        robot="cart and two poles",
        reward_range=(None, 10.0),
        citation=_POLE_PAPER,
        tags=("balance", "planar"),
        kwargs={"derived": ["qfrc_constraint"]},
        pose={"slider": 0, "hinge": (1, 3), "hinge2": (2, 4)},
    )


CARDS: tuple[TaskCard, ...] = (
    _runner(
        "HalfCheetah",
        ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"),
        hz=20,
        terminates=False,
        success=_registered(4800, "HalfCheetah"),
        robot="half cheetah",
        causes={
            "on its back at the end": Cause((1,), -1.57, 1.57, "end", source="our definition: past a quarter turn")
        },
        citation="Wawrzynski, A cat-like robot real-time learning to run, ICANNGA 2009",
    ),
    _runner(
        "Hopper",
        ("thigh_joint", "leg_joint", "foot_joint"),
        hz=125,
        success=_registered(3800, "Hopper"),
        robot="hopper",
        causes=_unhealthy("Hopper", (0.7, None), 0.2),
        citation=_HOPPER_PAPER,
    ),
    _runner(
        "Walker2d",
        ("thigh_joint", "leg_joint", "foot_joint", "thigh_left_joint", "leg_left_joint", "foot_left_joint"),
        hz=125,
        success=_published(5007.0, "Walker2d"),
        robot="planar walker",
        causes=_unhealthy("Walker2d", (0.8, 2.0), 1.0),
        citation=_HOPPER_PAPER,
    ),
    _ant(),
    _swimmer(),
    _reacher(),
    _pusher(),
    _inverted_pendulum(),
    _inverted_double_pendulum(),
    _humanoid(),
)
