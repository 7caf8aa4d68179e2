"""TD-MPC2 as a policy: planning, its policy prior alone, or the best of several of the prior's samples."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch

from wmbench import checkpoints
from wmbench.cards import TaskCard
from wmbench.errors import WmbenchError
from wmbench.keys import fold_in, normal
from wmbench.protocols import State
from wmbench_baselines.tdmpc2.act import planes
from wmbench_baselines.tdmpc2.config import PIXELS
from wmbench_baselines.tdmpc2.planner import Planner, PlanNoise, moved_on
from wmbench_baselines.tdmpc2.simulator import TDMPC2


@dataclass(frozen=True)
class TDMPC2PolicyConfig:
    """How a trained model acts; None leaves a setting as the model was trained.

    Attributes:
        model: World model: a checkpoint folder, or a name.
        mode: ``"plan"``; ``"prior"``, the mean of the policy prior; ``"best"``, the sample of the prior that the mean
            of all Q-functions likes best.
        candidates: Samples of ``"best"``, the prior's mean among them.
        horizon: Steps planned ahead.
        samples: Sequences per round.
        elites: Of them.
        prior_samples: Sequences from the policy prior.
        iterations: Rounds of planning.
        replan: Steps of a plan that are acted out before the next is made.
        compile: Whether the planner runs compiled.
    """

    model: str = "tdmpc2"
    mode: Literal["plan", "prior", "best"] = "plan"
    candidates: int = 64
    horizon: int | None = None
    samples: int | None = None
    elites: int | None = None
    prior_samples: int | None = None
    iterations: int | None = None
    replan: int | None = None
    compile: bool | None = None

    def __post_init__(self) -> None:
        """Refuse a mode or a number that is none."""
        if self.mode not in ("plan", "prior", "best") or self.candidates < 1:
            raise ValueError(f"mode must be plan, prior or best with candidates, got {self.mode}, {self.candidates}")


PLANNING = ("horizon", "samples", "elites", "prior_samples", "iterations", "replan", "compile")


class TDMPC2Policy:
    """Acts by a trained :class:`TDMPC2`, without exploration.

    On a CPU each episode is planned by itself, so that a row's bits do not depend on the others; elsewhere all
    together. As published, the planner still draws one of its elites, by their scores: here from the row's key.
    """

    Config = TDMPC2PolicyConfig

    def __init__(
        self, config: TDMPC2PolicyConfig, task: TaskCard, *, model: TDMPC2 | None = None, device: str = "cpu"
    ) -> None:
        """Load the model and prepare.

        Args:
            config: Settings.
            task: The task, at the model's action repeat.
            model: To act by, in place of ``config.model``.
            device: Torch device; a model that is given must be there.

        Raises:
            CheckpointError: There is no such model for the task.
            WmbenchError: The model is no TD-MPC2, a setting of the planner is impossible, or it needs a compiler that
                is not there.
        """
        found = model or checkpoints.resolve(config.model, task, kind="world_model", device=device)
        if not isinstance(found, TDMPC2):
            raise WmbenchError(f"the policy 'tdmpc2' acts by a world model of that kind, {config.model!r} is none")
        self.config, self.task, self.model = config, task, found
        changes = {k: v for k in PLANNING if (v := getattr(config, k)) is not None}
        try:
            self.settings = dataclasses.replace(found.config, **changes)
        except ValueError as error:
            raise WmbenchError(f"tdmpc2: {error}") from error
        if found.latent.images:  # what it wants to be shown, see wmbench.views.wanted_by
            self.observation, self.image_size, self.frame_stack = "rgb", PIXELS, found.config.frame_stack
        self.planner = Planner(found.latent, self.settings)
        self.discount = torch.tensor(self.settings.discount(task.horizon), device=found.low.device)
        self.card: dict[str, Any] = {
            "name": "tdmpc2",
            "inputs": "stacked pictures" if found.latent.images else "the flat state observation, raw",
            "consumer": "a strong policy, and a planner whose horizon and samples can be swept",
            "risk": "plans in its own model: as good as that model near what it was trained on",
        }

    @classmethod
    def of_world_model(cls, model: TDMPC2, config: TDMPC2PolicyConfig | None = None) -> Self:
        """Act by a model that is loaded already."""
        return cls(config or TDMPC2PolicyConfig(), model.task, model=model)

    @classmethod
    def for_task(cls, task: TaskCard, *, device: str = "cpu") -> Self:
        """With the default settings: planning in the model that is shipped for the task."""
        return cls(TDMPC2PolicyConfig(), task, device=device)

    def to(self, device: torch.device | str) -> Self:
        """Move the model to a device."""
        self.model.to(device)
        self.discount = self.discount.to(device)
        return self

    def initial(self, batch_size: int) -> State:
        """Plans to start from, (B, H, A) zeros, what is left of the last plan (B, H, A), and how many steps (B,)."""
        if self.config.mode != "plan":
            return None
        shape = (batch_size, self.settings.horizon, self.model.latent.actions)
        plans = {"mean": np.zeros(shape, np.float32), "sequence": np.zeros(shape, np.float32)}
        return {**plans, "left": np.zeros(batch_size, np.int64)}

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Choose actions.

        Args:
            observation: (B, O) float32; of a model of images (B, k, H, W, 3) uint8.
            state: As returned by :meth:`initial` or by the previous call.
            keys: (B,) int64, fresh at every step.

        Returns:
            Actions (B, A) float32 inside the bounds, and the next state.

        Raises:
            WmbenchError: The observations have another shape.
        """
        self.model.refuse_shape(observation)
        device = self.model.low.device
        images = self.model.latent.images
        seen = planes(observation, 1) if images else np.ascontiguousarray(observation, np.float32)
        x = torch.from_numpy(seen).to(device)
        if self.config.mode == "prior":
            return self.model.by_rows(self._prior, x)[0].cpu().numpy(), None
        own = torch.from_numpy(np.ascontiguousarray(keys)).to(device)
        if self.config.mode == "best":
            return self._each(len(x), lambda rows: self._best(x[rows], own[rows])).cpu().numpy(), None
        mean, sequence, left = (state[k].copy() for k in ("mean", "sequence", "left"))
        due = np.flatnonzero(left == 0)
        for rows in [due[i : i + 1] for i in range(len(due))] if device.type == "cpu" else [due]:
            if len(rows):
                start = torch.from_numpy(mean[rows]).to(device)
                plan = self._plan(x[rows], start, own[rows])
                mean[rows], sequence[rows] = (p.cpu().numpy() for p in plan)
        left[due] = self.settings.replan
        action = self.model.box(torch.from_numpy(sequence[:, 0]).to(device)).cpu().numpy()
        mean, sequence = (moved_on(torch.from_numpy(p)).numpy() for p in (mean, sequence))
        return action, {"mean": mean, "sequence": sequence, "left": left - 1}

    def chunk(self, state: State) -> np.ndarray:
        """What is planned after the action just returned, (B, H - 1, A) float32, from the state returned with it.

        Raises:
            WmbenchError: The mode plans nothing ahead.
        """
        if state is None:
            raise WmbenchError(f"tdmpc2 in mode {self.config.mode!r} plans nothing ahead")
        return self.model.box(torch.from_numpy(state["sequence"][:, :-1]).to(self.model.low.device)).cpu().numpy()

    def _each(self, n: int, function: Any) -> torch.Tensor:
        """A function of rows, on a CPU one row at a time."""
        if self.model.low.device.type != "cpu":
            return function(slice(None))
        return torch.cat([function(slice(i, i + 1)) for i in range(n)])

    @torch.inference_mode()
    def _plan(self, x: torch.Tensor, mean: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and chosen sequence (b, H, A) of a new plan."""
        noise = PlanNoise.of_keys(self.settings, keys, self.model.latent.actions)
        plan = self.planner.plan_at(self.model.widened(x), mean, self.discount, noise, self.model.tasks(len(x)))
        return plan.mean, plan.sequence.clamp(-1, 1)

    def _prior(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of the policy prior, in the task's box."""
        z = self.model.encode(x)
        none = torch.zeros(len(z), self.model.latent.actions, device=z.device)
        return self.model.box(self.model.latent.pi(z, none, self.model.tasks(len(z))).mean)

    @torch.inference_mode()
    def _best(self, x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """The best of the prior's samples by the Q-functions, in the task's box."""
        model, n, size = self.model.latent, self.config.candidates, self.model.latent.actions
        task = self.model.tasks(len(x))
        task = None if task is None else task[:, None]
        z = self.model.encode(x)[:, None].expand(-1, n, -1)  # (b, N, L)
        noise = normal(fold_in(keys, 0), n * size).unflatten(1, (n, size)).clone()
        noise[:, 0] = 0  # the prior's mean
        action = model.pi(z, noise, task).action
        value = model.values(model.Q(z, action, None, task)).mean(0)  # (b, N)
        return self.model.box(action[torch.arange(len(x), device=x.device), value.argmax(1)])
