"""ManiSkill's GPU simulation as a batch of environments."""

from __future__ import annotations

from typing import Any, NoReturn

from gymnasium.vector import AutoresetMode

from wmbench.cards import TaskCard
from wmbench.devices import torch_device
from wmbench.errors import StateError
from wmbench_envs.batched_vector import BatchedVectorEnv
from wmbench_envs.maniskill_batch import PHYSICS, Scenes, cuda_card


class ManiSkillVectorEnv(BatchedVectorEnv):
    """N rows of a ManiSkill task, simulated together by PhysX on a GPU.

    It is another simulation than the one on the CPU, and its card says so (``physics="physx-cuda"``): a row begins
    where the simulation on the CPU does with the same episode seed (up to rounding, see ``docs/maniskill.md``), and
    goes on from there in steps of its own. It promises no repeatable bits, so it has no states to save or branch from.
    """

    def __init__(
        self,
        card: TaskCard,
        num_envs: int,
        *,
        device: str = "cuda",
        array: str = "numpy",
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    ) -> None:
        """Build the scenes.

        Args:
            card: The task.
            num_envs: N.
            device: ``"cuda"``, or one of several as ``"cuda:1"``.
            array: ``"torch"`` (tensors that never leave the GPU) or ``"numpy"``.
            autoreset_mode: What happens to a row after its episode's end.

        Raises:
            MissingExtraError: ManiSkill is not installed.
            ValueError: There is no such device, or torch was built without CUDA.
        """
        core = Scenes(cuda_card(card), num_envs, device=torch_device(card.id, device), array=array)
        super().__init__(core, array=array, autoreset_mode=autoreset_mode)
        self.metadata = {**self.metadata, "physics": PHYSICS}

    def get_state(self) -> NoReturn:
        """Refused.

        Raises:
            StateError: Always.
        """
        raise StateError(
            f"{self.card.id}: PhysX on a GPU does not repeat its steps exactly, so no state leads to what followed it; "
            "make the environment with device='cpu' to save, restore and branch"
        )

    def set_state(self, state: Any) -> NoReturn:
        """Refused, as :meth:`get_state`.

        Raises:
            StateError: Always.
        """
        self.get_state()

    def call(self, name: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: there are no environments to call, one for each row.

        Raises:
            StateError: Of saving or restoring.
            AttributeError: Of anything else.
        """
        if name in ("get_state", "set_state", "branch"):
            self.get_state()
        raise AttributeError(f"{self.card.id}: the rows of the GPU simulation have no {name!r} of their own")
