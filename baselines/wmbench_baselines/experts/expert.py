"""The policy ``expert``: for each task the controller or trained actor that demonstrates it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import CheckpointError
from wmbench.protocols import Policy, State
from wmbench.registration import shipped_checkpoints
from wmbench_baselines.experts.acrobot import Acrobot
from wmbench_baselines.experts.arms import DmcReacher, GymReacher, PointMass, Reach
from wmbench_baselines.experts.control import Controller
from wmbench_baselines.experts.hand import Hand
from wmbench_baselines.experts.insertion import PegInsertionSide, PlugCharger
from wmbench_baselines.experts.poles import Cartpole, GymDoublePendulum, GymPendulum, Pendulum
from wmbench_baselines.experts.tabletop import PickCube, PlaceSphere, RollBall, Slide, StackCube, StackPyramid
from wmbench_baselines.experts.tools import LiftPegUpright, PokeCube, PullCubeTool

SCRIPTED: dict[str, tuple[type[Controller], str]] = {
    "wmbench/DMC-CartpoleBalance-v0": (Cartpole, "LQR"),
    "wmbench/DMC-CartpoleSwingup-v0": (Cartpole, "energy shaping, then LQR"),
    "wmbench/DMC-CartpoleSwingupSparse-v0": (Cartpole, "energy shaping, then LQR"),
    "wmbench/DMC-PendulumSwingup-v0": (Pendulum, "energy shaping, then LQR"),
    "wmbench/DMC-AcrobotSwingup-v0": (Acrobot, "energy shaping chosen by looking ahead, then LQR"),
    "wmbench/DMC-ReacherEasy-v0": (DmcReacher, "inverse kinematics, PD"),
    "wmbench/DMC-ReacherHard-v0": (DmcReacher, "inverse kinematics, PD"),
    "wmbench/DMC-PointMassEasy-v0": (PointMass, "PD"),
    "wmbench/Gym-Reacher-v0": (GymReacher, "inverse kinematics, PD"),
    "wmbench/Gym-InvertedPendulum-v0": (GymPendulum, "LQR"),
    "wmbench/Gym-InvertedDoublePendulum-v0": (GymDoublePendulum, "LQR"),
    "wmbench/MS-PickCube-v0": (PickCube, "grasp, carry"),
    "wmbench/MS-PushCube-v0": (Slide, "push from behind"),
    "wmbench/MS-StackCube-v0": (StackCube, "grasp, lift, place"),
    "wmbench/MS-PullCube-v0": (Slide, "push from behind"),
    "wmbench/MS-PokeCube-v0": (PokeCube, "grasp the peg, align, push"),
    "wmbench/MS-PlaceSphere-v0": (PlaceSphere, "grasp, lift, place"),
    "wmbench/MS-PullCubeTool-v0": (PullCubeTool, "grasp the tool, hook, pull"),
    "wmbench/MS-StackPyramid-v0": (StackPyramid, "grasp, lift, place; twice"),
}
"""Task id to its controller and to what that does, in words."""

CANDIDATES: dict[str, tuple[type[Controller], str]] = {
    "wmbench/MS-RollBall-v0": (RollBall, "strike from behind"),
    "wmbench/MS-PegInsertionSide-v0": (PegInsertionSide, "grasp, align, insert"),
    "wmbench/MS-PlugCharger-v0": (PlugCharger, "grasp, align, insert"),
    "wmbench/MS-LiftPegUpright-v0": (LiftPegUpright, "grasp at one end, raise it over the other"),
}
"""Scripts that are no experts yet: their success over 200 episodes is below 90 %. See the settings."""

ACTOR = "actor"
"""The shipped checkpoints that are experts where nothing is scripted."""


def expert_tasks() -> dict[str, str]:
    """Every task with an expert: id to what the expert does, in words."""
    actors = {task: "trained actor" for name, task in shipped_checkpoints() if name == ACTOR}
    return dict(sorted((actors | {task: how for task, (_, how) in SCRIPTED.items()}).items()))


@dataclass(frozen=True)
class ExpertConfig:
    """Settings of :class:`Expert`.

    Attributes:
        candidates: Whether a script that is no expert yet will do, see :data:`CANDIDATES`.
    """

    candidates: bool = False


class Expert:
    """What demonstrates a task: a scripted controller, or else the shipped actor.

    It reads the observation that the task's card describes, and nothing else.
    """

    Config = ExpertConfig

    def __init__(self, config: ExpertConfig, task: TaskCard, *, device: str = "cpu") -> None:
        """Find the task's expert.

        Args:
            config: Settings.
            task: The task.
            device: Where a trained actor runs.

        Raises:
            CheckpointError: The task has none; the message names those that have one.
        """
        self.config = config
        self.task = task
        tasks = expert_tasks() | ({t: how for t, (_, how) in CANDIDATES.items()} if config.candidates else {})
        if task.id not in tasks:
            raise CheckpointError(
                f"there is no expert for {task.id}; there is one for {', '.join(tasks)}: choose another policy, "
                "or train one (baselines/scripts/train_sac_actor.py)"
            )
        self.policy: Policy
        if scripted := (SCRIPTED | CANDIDATES).get(task.id):
            self.policy = scripted[0](task)
        else:
            from wmbench.checkpoints import resolve  # needs torch; scripted experts do not

            self.policy = resolve(ACTOR, task, kind="policy", device=device)
        self.card: dict[str, Any] = {
            "name": "expert",
            "inputs": "the flat state observation",
            "consumer": "demonstrations",
            "risk": f"{tasks[task.id]}, made for the nominal task: weak where the physics are others",
        }

    @classmethod
    def for_task(cls, task: TaskCard, *, device: str = "cpu") -> Expert:
        """The task's expert; a scripted one lives on the CPU whatever the device."""
        return cls(ExpertConfig(), task, device=device)

    def initial(self, batch_size: int) -> State:
        """The state of whoever acts."""
        return self.policy.initial(batch_size)

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """The actions (B, A) float32 and the next state of whoever acts."""
        return self.policy.act(observation, state, keys=keys)


def mistaken(task: TaskCard) -> Controller:
    """The expert of a task, made to take the target for another: see each controller for which.

    Raises:
        CheckpointError: No such task; the message names those there are.
    """
    made = SCRIPTED[task.id][0] if task.id in SCRIPTED else None
    if made is not None and issubclass(made, Reach):
        return made(task, mirror=True)
    if made is not None and issubclass(made, Hand) and made.can_mistake():
        return made(task, mistaken=True)
    able = [t for t, (c, _) in SCRIPTED.items() if issubclass(c, Reach) or (issubclass(c, Hand) and c.can_mistake())]
    raise CheckpointError(
        f"{task.id} has no target that an expert could mistake; these have one: {', '.join(sorted(able))}"
    )
