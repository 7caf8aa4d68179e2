"""Cards of ManiSkill's tasks that need no download."""

from __future__ import annotations

from typing import Any

from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench_envs.typical import typical_std

_VARIED = ("mass", "friction", "damping", "gain", "gravity")
_LACKING = {"cartpole": ("friction",)}  # nothing touches anything
_CITATION = "Tao et al., ManiSkill3: GPU parallelized robotics simulation and rendering, 2024, arXiv:2410.00425"
_LICENSE = "Apache-2.0 AND CC-BY-NC-4.0"  # of the tasks, and of ManiSkill's assets
_EE = "pd_ee_delta_pose"
_JOINT = "pd_joint_delta_pos"
_GRIPPER = "the target of the gripper's fingers goes from -0.01 m (-1, closed) to 0.04 m (1, open)"
# ManiSkill scales rotations by the lower bound of their range, so that they have the opposite sign.
_HAND = (
    "pd_ee_delta_pose: 1 puts the target of the hand 0.1 m along an axis of the robot's base from where the hand is, "
    "and turns it by -0.1 rad about that axis (three angles longer than 1 together are shortened to 1); " + _GRIPPER
)


def _deltas(amount: str) -> str:
    return f"pd_joint_delta_pos: 1 puts the target of a joint {amount} from where the joint is"


_ARM = tuple(f"joint_{i}" for i in range(1, 8))
_FINGERS = ("gripper_left", "gripper_right")
_HAND_JOINTS = tuple(f"finger_{f}_joint_{j}" for j in range(1, 4) for f in range(1, 4))

Dims = list[Dimension]


def _vector(name: str, unit: str = "m", axes: str = "xyz") -> Dims:
    return [Dimension(f"{name}_{axis}", unit) for axis in axes]


def _turn(name: str) -> Dims:
    """A unit quaternion, w first."""
    return [Dimension(f"{name}_q{part}", kind="quaternion") for part in "wxyz"]


def _pose(*names: str) -> Dims:
    """Position and orientation of each."""
    return [d for name in names for d in (*_vector(name), *_turn(name))]


def _joints(names: tuple[str, ...], slides: tuple[str, ...] = (), turns: tuple[str, ...] = ()) -> Dims:
    """Positions, then velocities; those in ``slides`` in metres; those in ``turns`` jump from 2 pi to -2 pi."""
    return [
        *(
            Dimension(f"{n}_position", "m" if n in slides else "rad", "angle" if n in turns else "linear")
            for n in names
        ),
        *(Dimension(f"{n}_velocity", "m/s" if n in slides else "rad/s") for n in names),
    ]


def _panda(prefix: str = "") -> Dims:
    """Seven joints and two fingers."""
    fingers = tuple(prefix + f for f in _FINGERS)
    return _joints(tuple(prefix + j for j in _ARM) + fingers, fingers)


def _flag(name: str) -> Dims:
    """0 or 1."""
    return [Dimension(name)]


def _actions(*names: str) -> tuple[Dimension, ...]:
    return tuple(Dimension(n, low=-1.0, high=1.0) for n in names)


_EE_ACTIONS = _actions("dx", "dy", "dz", "turn_x", "turn_y", "turn_z", "gripper")
_TWO_ARMS = _actions(*(f"{side}_{j}" for side in ("left", "right") for j in (*(f"{a}_delta" for a in _ARM), "gripper")))
_TWO_AGENTS = [["panda_wristcam-0", 8], ["panda_wristcam-1", 8]]


def _card(
    task: str,
    observation: Dims,
    action: tuple[Dimension, ...],
    *,
    horizon: int,
    success: SuccessRule | str,
    convention: str = _HAND,
    controller: str = _EE,
    robot: str = "panda",
    hz: float = 20,
    tags: tuple[str, ...] = (),
    reward: str = "normalized_dense",
    reward_range: tuple[float | None, float | None] = (0.0, 1.0),
    terminates: bool = False,
    cameras: tuple[str, ...] = ("base_camera",),
    **kwargs: Any,
) -> TaskCard:
    """A card; ``success`` in words where the environment itself says whether there is one."""
    if isinstance(success, str):
        success = SuccessRule("env", source=f"evaluate() of {task} in ManiSkill 3: {success}")
    task_id = f"wmbench/MS-{task.removesuffix('-v1').removeprefix('MS-')}-v0"
    return TaskCard(
        id=task_id,
        suite="maniskill",
        requires=("mani_skill",),
        drawn_by="vulkan",
        perturbations=tuple(p for p in _VARIED if p not in _LACKING.get(robot, ())),
        typical_std=typical_std(task_id),
        backend_id=task,
        simulator="wmbench_envs.maniskill:ManiSkill",
        observation=tuple(observation),
        action=action,
        control_hz=hz,
        horizon=horizon,
        terminates=terminates,
        success=success,
        action_convention=convention,
        kwargs={"control_mode": controller, "reward_mode": reward, **kwargs},
        robot=robot,
        physics="physx-cpu",
        reward_range=reward_range,
        cameras=cameras,
        presets=("fast", "full"),
        tags=tags,
        license=_LICENSE,
        citation=_CITATION,
    )


def _half(horizon: int) -> SuccessRule:
    """For rewards between 0 and 1 of tasks without a success of their own."""
    return SuccessRule(
        "return", horizon / 2, "half of the highest possible return; our choice, no return in this reward is published"
    )


def _arm(task: str, horizon: int, extra: Dims, success: str, tags: tuple[str, ...] = (), **rest: Any) -> TaskCard:
    """A task of one Panda arm moved by its hand."""
    tags = ("manipulation", "contact", *tags)
    if rest.get("robot") == "panda_wristcam":
        rest["cameras"] = ("base_camera", "hand_camera")
    return _card(task, [*_panda(), *extra], _EE_ACTIONS, horizon=horizon, success=success, tags=tags, **rest)


def _two_arms(task: str, extra: Dims, success: str) -> TaskCard:
    return _card(
        task,
        [*_panda("left_"), *_panda("right_"), *_pose("left_tcp", "right_tcp"), *extra],
        _TWO_ARMS,
        horizon=100,
        success=success,
        controller=_JOINT,
        convention=f"{_deltas('0.1 rad')}; {_GRIPPER}",
        robot="two of panda_wristcam",
        cameras=("base_camera", *(f"{name}-hand_camera" for name, _ in _TWO_AGENTS)),
        tags=("manipulation", "contact", "two arms"),
        agents=_TWO_AGENTS,
    )


def _to(*names: str) -> Dims:
    return [d for name in names for d in _vector(name)]


def _cartpole(task: str, **rest: Any) -> TaskCard:
    joints = _joints(("slider", "hinge"), ("slider",), ("hinge",))
    extra = [*_vector("pole_velocity", "m/s"), *_vector("pole_angular_velocity", "rad/s")]
    return _card(
        task,
        [*joints, *extra],
        _actions("slider_delta"),
        horizon=1000,
        success=_half(1000),
        controller=_JOINT,
        convention=_deltas("1 m"),
        robot="cartpole",
        tags=("planar", "balance"),
        **rest,
    )


def _hopper(task: str) -> TaskCard:
    slides = ("root_x", "root_z")
    names = ("root_z", "root_pitch", "waist", "hip", "knee", "ankle")
    observation = [
        *(d for d in _joints(names, slides, ("root_pitch",)) if "velocity" not in d.name),
        *(d for d in _joints(("root_x", *names), slides) if "velocity" in d.name),
        *(Dimension(f"{n}_touch", "log(1+N)") for n in ("toe", "heel")),
    ]
    return _card(
        task,
        observation,
        _actions("hip_delta", "knee_delta", "waist_delta", "ankle_delta"),
        horizon=600,
        success=_half(600),
        controller=_JOINT,
        convention=_deltas("2 rad (ankle: 0.8 rad)"),
        robot="hopper",
        cameras=("cam0",),
        hz=25,
        tags=("locomotion", "contact", "planar"),
    )


def _ant(task: str) -> TaskCard:
    joints = tuple(f"{kind}_{i}" for kind in ("hip", "ankle") for i in range(1, 5))
    legs = ("front_left", "front_right", "left_back", "right_back")
    links = ("torso", *(f"{leg}_{part}" for part in ("leg", "foot") for leg in legs))
    observation = [
        *_joints(joints),
        *_vector("centre_of_mass_velocity", "m/s"),
        *(d for link in links for d in _vector(f"{link}_angular_velocity", "rad/s")),
        *(d for link in links for d in _vector(f"{link}_velocity", "m/s")),
        Dimension("torso_qz_as_height"),  # ManiSkill reads the wrong end of the pose; its reward for standing does, too
        *(Dimension(f"{link}_q{part}") for part in "wxyz" for link in links),
        *(Dimension(f"{leg}_foot_force", "log(1+N)") for leg in legs),
    ]
    return _card(
        task,
        observation,
        _actions(*(f"{j}_delta" for j in joints)),
        horizon=1000,
        success=_half(1000),
        controller=_JOINT,
        convention=_deltas("1 rad"),
        robot="ant",
        cameras=("side_cam",),
        hz=40,
        tags=("locomotion", "contact"),
    )


CARDS: tuple[TaskCard, ...] = (
    _arm(
        "PickCube-v1",
        50,
        [*_flag("is_grasped"), *_pose("tcp"), *_vector("goal"), *_pose("cube"), *_to("tcp_to_cube", "cube_to_goal")],
        "the cube within 0.025 m of the goal, and the arm's joints below 0.2 rad/s",
        tags=("goal",),
    ),
    _arm(
        "PushCube-v1",
        50,
        [*_pose("tcp"), *_vector("goal"), *_pose("cube")],
        "the cube on the table, its centre within the goal's disc of 0.1 m",
        tags=("goal",),
    ),
    _arm(
        "PullCube-v1",
        50,
        [*_pose("tcp"), *_vector("goal"), *_pose("cube")],
        "the cube's centre within the goal's disc of 0.1 m",
        tags=("goal",),
    ),
    _arm(
        "StackCube-v1",
        50,
        [*_pose("tcp", "cube_a", "cube_b"), *_to("tcp_to_cube_a", "tcp_to_cube_b", "cube_a_to_cube_b")],
        "cube A lies still on cube B, and is not held",
        robot="panda_wristcam",
    ),
    _arm(
        "PegInsertionSide-v1",
        100,
        [*_pose("tcp", "peg"), *_vector("peg_half_size"), *_pose("hole"), Dimension("hole_radius", "m")],
        "the peg's head in the hole, at most 0.015 m short of its middle",
        robot="panda_wristcam",
        tags=("precise",),
    ),
    _arm(
        "LiftPegUpright-v1",
        100,  # ManiSkill's 50 are just enough to raise the peg, and leave no time to recover from anything
        _pose("tcp", "peg"),
        "the peg within 0.08 rad of upright, and its centre within 0.005 m of half its length above the table",
    ),
    _arm(
        "PlaceSphere-v1",
        50,
        [*_flag("is_grasped"), *_pose("tcp"), *_vector("bin"), *_pose("sphere"), *_to("tcp_to_sphere")],
        "the sphere lies still in the bin (0.005 m), and is not held",
    ),
    _arm(
        "PokeCube-v1",
        50,
        [
            *_pose("tcp", "cube", "peg"),
            *_vector("peg_as_goal"),  # ManiSkill gives the peg's place where it says goal
            *_to("tcp_to_peg", "peg_to_cube", "cube_to_goal", "cube_to_peg_head"),
        ],
        "the cube's centre within the goal's disc of 0.05 m, and the arm's joints below 0.2 rad/s",
        tags=("goal", "tool"),
    ),
    _arm(
        "RollBall-v1",
        80,
        [
            *_pose("tcp"),
            *_vector("goal"),
            *_pose("ball"),
            *_vector("ball_velocity", "m/s"),
            *_to("tcp_to_ball", "ball_to_goal"),
        ],
        "the ball's centre within the goal's disc of 0.1 m",
        tags=("goal",),
    ),
    _arm(
        "PullCubeTool-v1",
        100,
        _pose("tcp", "cube", "tool"),
        "the cube within 0.6 m of the robot's base",
        tags=("tool",),
        reward_range=(None, 2.7),  # ManiSkill divides by 5 what may sum up to 13.5, with pulls that count negative
    ),
    _arm(
        "PlugCharger-v1",
        200,
        _pose("tcp", "charger", "receptacle", "goal"),
        "the charger within 0.005 m and 0.2 rad of plugged in",
        robot="panda_wristcam",
        reward="sparse",
        tags=("precise", "sparse"),
    ),
    _arm(
        "StackPyramid-v1",
        250,
        [
            *_pose("tcp", "cube_a", "cube_b", "cube_c"),
            *_to("tcp_to_cube_a", "tcp_to_cube_b", "tcp_to_cube_c"),
            *_to("cube_a_to_cube_b", "cube_b_to_cube_c", "cube_a_to_cube_c"),
        ],
        "cube A beside cube B and cube C on both, all still and not held",
        robot="panda_wristcam",
        reward="sparse",
        tags=("sparse",),
    ),
    _card(
        "RotateValveLevel0-v1",
        [
            *_joints(_HAND_JOINTS),
            *_pose("tip_1", "tip_2", "tip_3"),
            Dimension("direction"),
            Dimension("valve_position", "rad", "angle"),
            Dimension("valve_velocity", "rad/s"),
            Dimension("valve_cosine"),
            Dimension("valve_sine"),
            *_pose("valve"),
        ],
        _actions(*(f"{j}_delta" for j in _HAND_JOINTS)),
        horizon=80,
        success="the valve turned by more than a quarter from where it was",
        controller=_JOINT,
        convention=_deltas("0.1 rad"),
        robot="dclaw",
        tags=("manipulation", "dexterous", "contact"),
        reward_range=(-5 / 6, 1.0),
    ),
    _card(
        "TriFingerRotateCubeLevel0-v1",
        [
            *_joints(_HAND_JOINTS),
            *(Dimension(f"tip_{i}_{axis}", "m") for axis in "xyz" for i in (1, 2, 3)),
            *(Dimension(f"tip_{i}_q{part}") for part in "wxyz" for i in (1, 2, 3)),
            *(Dimension(f"tip_{i}_velocity_{axis}", "m/s") for axis in "xyz" for i in (1, 2, 3)),
            *_pose("goal", "cube"),
        ],
        _actions(*(f"finger_{f}_joint_{j}_delta" for f in range(1, 4) for j in range(1, 4))),
        horizon=250,
        success="the cube within 0.02 m and 0.1 rad of the goal",
        controller=_JOINT,
        convention=_deltas("0.1 rad"),
        robot="trifinger",
        tags=("manipulation", "dexterous", "contact", "goal"),
    ),
    _two_arms(
        "TwoRobotPickCube-v1",
        [*_pose("cube"), *_to("left_tcp_to_cube", "right_tcp_to_cube", "cube_to_goal")],
        "the cube within 0.025 m of the goal, and the right arm's joints below 0.2 rad/s",
    ),
    _two_arms(
        "TwoRobotStackCube-v1",
        [
            *_vector("goal"),
            *_pose("cube_a", "cube_b"),
            *_to("left_tcp_to_cube_a", "right_tcp_to_cube_b", "cube_a_to_cube_b"),
        ],
        "cube B's centre within the goal's disc of 0.06 m, cube A on cube B, and neither held",
    ),
    _cartpole("MS-CartpoleBalance-v1", terminates=True, ends_on_fail=True),
    _cartpole("MS-CartpoleSwingUp-v1"),
    _hopper("MS-HopperHop-v1"),
    _hopper("MS-HopperStand-v1"),
    _ant("MS-AntWalk-v1"),
    _ant("MS-AntRun-v1"),
)
