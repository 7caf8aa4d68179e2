"""TD-MPC2 behind the suite's contracts: trained online or from datasets, and a world model by its own heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad

from wmbench.cards import ModelCard, TaskCard
from wmbench.errors import WmbenchError
from wmbench.protocols import Prediction, Start, State
from wmbench_baselines.tdmpc2.config import PIXELS, PRESETS, TDMPC2Config
from wmbench_baselines.tdmpc2.heads import Heads, fit_heads
from wmbench_baselines.tdmpc2.model import LatentModel
from wmbench_baselines.tdmpc2.replay import Replay
from wmbench_baselines.tdmpc2.run import Run, entropy

ROWS = 8
"""CPU kernels treat whole groups of this many rows alike."""
NUMBERS = 32_768
"""Numbers of an activation that one thread works on as a whole, so that none is cut where a row is."""


class TDMPC2(nn.Module):
    """The trained model of one task; of a model of several tasks, as one of them sees it.

    The state of an imagined episode is a latent state. Dynamics, reward and termination are the method's own; it
    predicts no observation, so a decoder is trained afterwards on its frozen latents, and a success head where only
    the environment knows what counts as one. A model of images has neither: it acts, and is no simulator.
    """

    Config = TDMPC2Config
    PRESETS = PRESETS

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, config: TDMPC2Config, task: TaskCard) -> None:
        """Build the networks with initial weights.

        Args:
            config: Settings; ``tasks`` names all tasks of a model of several.
            task: The task, at the action repeat that the model knows.

        Raises:
            ValueError: The task is none of the model's.
        """
        super().__init__()
        self.config, self.task = config, task
        names = [name for name, *_ in config.tasks]
        if names and task.id not in names:
            raise ValueError(f"this model is of {', '.join(names)}, not of {task.id}")
        self.number = names.index(task.id) if names else 0
        sizes = [(o, a, ends) for _, o, a, ends in config.tasks]
        sizes = sizes or [(len(task.observation), len(task.action), task.terminates)]
        self.width = max(o for o, _, _ in sizes)
        actions = [a for _, a, _ in sizes]
        self.latent = LatentModel(config, config.shape(self.width), actions, episodic=any(ends for *_, ends in sizes))
        seen, known = len(task.observation), task.success.kind == "env"
        self.heads = None if self.latent.images else Heads(self.latent, seen, success=known)
        low, high = task.action_bounds()
        self.register_buffer("low", torch.from_numpy(low), persistent=False)
        self.register_buffer("high", torch.from_numpy(high), persistent=False)
        self.card = self._card("")

    @classmethod
    def live(
        cls,
        config: TDMPC2Config,
        task: TaskCard,
        *,
        folder: Path,
        seed: int = 0,
        device: str = "cpu",
        progress: bool = True,
    ) -> TDMPC2:
        """Train online in the true simulator, for ``config.frames`` control steps; resumes in ``folder``."""
        from wmbench_baselines.tdmpc2.online import OnlineTraining

        run = OnlineTraining(config, task, folder=folder, seed=seed, device=device)
        run.run(progress=progress)
        return cls.of_run(config, run.task, run, trained_on="", progress=progress)

    @classmethod
    def fit(
        cls,
        config: TDMPC2Config,
        dataset: Any,
        *,
        folder: Path,
        seed: int = 0,
        device: str = "cpu",
        progress: bool = True,
    ) -> TDMPC2:
        """Train offline on a dataset's train split, for ``config.updates`` updates; resumes in ``folder``."""
        return cls.fit_several(config, [dataset], folder=folder, seed=seed, device=device, progress=progress)[0]

    @classmethod
    def fit_several(
        cls,
        config: TDMPC2Config,
        datasets: Sequence[Any],
        *,
        folder: Path,
        seed: int = 0,
        device: str = "cpu",
        progress: bool = True,
    ) -> list[TDMPC2]:
        """Train one model offline on the datasets of several tasks.

        Returns:
            The model as each task sees it, in the order of the datasets; all share the same weights.

        Raises:
            DatasetError: Two datasets are of the same task, or one is empty.
        """
        from wmbench_baselines.tdmpc2.offline import OfflineTraining

        run = OfflineTraining(config, datasets, folder=folder, seed=seed, device=device)
        run.run(progress=progress)
        digest, settings = "+".join(data.digest for data in datasets), run.settings()
        return [
            cls.of_run(settings, data.task, run, number=i, trained_on=digest, progress=progress)
            for i, data in enumerate(datasets)
        ]

    @classmethod
    def of_run(
        cls, config: TDMPC2Config, task: TaskCard, run: Run, *, number: int = 0, trained_on: str, progress: bool
    ) -> TDMPC2:
        """A finished run's model, with heads trained on its latents."""
        made = cls(config, task)
        made.latent.load_state_dict(run.model.state_dict())
        made.to(run.device)
        if made.heads is not None:
            made.read_off(run.replay, seed=entropy(run.seed, 5), progress=progress)
        made.card = made._card(trained_on)
        return made.eval()

    def read_off(self, replay: Replay, *, seed: int, progress: bool = True) -> dict[str, float]:
        """Train the heads on the frozen latents; see :func:`fit_heads`."""
        assert self.heads is not None, "a model of images has none"
        return fit_heads(self.heads, self.latent, replay, number=self.number, seed=seed, progress=progress)

    def _card(self, trained_on: str) -> ModelCard:
        ends = self.latent.termination_head is not None
        images = self.heads is None
        heads = {"reward"} | (set() if images else {"observation"}) | ({"terminated"} if ends else set())
        heads |= {"success"} if self.heads is not None and self.heads.success is not None else set()
        stack = self.config.frame_stack
        seen = f"the last {stack} pictures of {PIXELS} x {PIXELS} pixels" if images else "the current observation"
        simulating = (
            "no simulator, since it sees pictures alone and predicts none"
            if images
            else "as a simulator, reward and termination are its own heads, and the observation is read by a decoder "
            "trained afterwards on frozen latents, which planning never sees"
        )
        return ModelCard(
            name="tdmpc2",
            task_ids=tuple(name for name, *_ in self.config.tasks) or (self.task.id,),
            predicts=frozenset(heads),
            inputs=f"{seen}, encoded once at the begin of an episode",
            condition="the action is concatenated to the latent state",
            consumer=f"planning by its own planner; {simulating}",
            risk="latents are trained to predict value and themselves, not observations: what the task does not "
            "reward may be lost, and latents are only trained a few steps ahead",
            sources={} if ends else {"terminated": "card"},
            n_parameters=sum(p.numel() for p in self.parameters() if p.requires_grad),
            trained_on=trained_on,
            revision="1",
        )

    def tasks(self, n: int) -> torch.Tensor | None:
        """The task's number for n rows, None if the model has one task."""
        if self.latent.task_embedding is None:
            return None
        return torch.full((n,), self.number, device=self.low.device)

    def encode(self, observation: torch.Tensor) -> torch.Tensor:
        """Observations (B, O) of the task, or images (B, 3k, H, W), to latent states (B, L)."""
        return self.latent.encode(self.widened(observation), self.tasks(len(observation)))

    def widened(self, observation: torch.Tensor) -> torch.Tensor:
        """Observations (B, O) of the task, filled up with zeros for a model of wider ones; images as they are."""
        if self.latent.images:
            return observation
        return pad(observation, (0, self.width - observation.shape[1]))

    def unit(self, action: torch.Tensor) -> torch.Tensor:
        """Actions (B, A) of the task's box as the model takes them, in [-1, 1] and as wide as its widest task's."""
        scaled = (2 * (action - self.low) / (self.high - self.low) - 1).clamp(-1, 1)
        return pad(scaled, (0, self.latent.actions - action.shape[1]))

    def box(self, action: torch.Tensor) -> torch.Tensor:
        """The model's actions (..., A) as the task takes them."""
        own = action[..., : len(self.low)]
        scaled = self.low + 0.5 * (own + 1) * (self.high - self.low)
        return torch.minimum(torch.maximum(scaled, self.low), self.high)

    def initial(self, start: Start, *, keys: torch.Tensor) -> State:
        """Encode where the episodes begin; the model is deterministic, so the keys are not needed.

        Raises:
            WmbenchError: It is a model of images, and a start is a state.
        """
        if self.latent.images:
            raise WmbenchError(
                f"{self.task.id}: this tdmpc2 sees pictures alone and predicts none, so it is no simulator; use it "
                "as a policy, or train one with observation='state'"
            )
        return {"z": self.by_rows(self.encode, start.observation)[0]}

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """One step of the dynamics, and what the heads say of it; see :class:`wmbench.protocols.WorldModel`."""
        z, observation, reward, ended, success = self.by_rows(self._step, state["z"], action)
        prediction = Prediction(
            observation=observation,
            reward=reward.double(),
            terminated=ended if "terminated" in self.card.predicts else None,
            success=success if "success" in self.card.predicts else None,
        )
        return {"z": z}, prediction

    def _step(self, z: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Next latents, observations, rewards, probabilities of an end and of success."""
        model, task, a = self.latent, self.tasks(len(z)), self.unit(action)
        reward = model.values(model.reward(z, a, task))
        following = model.next(z, a, task)
        assert self.heads is not None, "a model of images is no simulator"
        observation, success = self.heads(following)
        none = torch.zeros_like(reward)
        ended = none if model.termination_head is None else model.termination(following, task).sigmoid()
        return following, observation, reward, ended, none if success is None else success.sigmoid()

    def by_rows(self, function: Callable[..., Any], *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A function of rows (B, ...) whose bits, on a CPU, do not depend on the batch around a row.

        Batches are padded to a multiple of 8 rows, and cut so that no thread's share ends within a row.
        """
        n = len(inputs[0])
        widest = max(self.config.mlp_dim, self.config.enc_dim, self.config.latent_dim)
        size = max(ROWS, NUMBERS // widest // ROWS * ROWS) if inputs[0].is_cpu else max(n, 1)
        size = ROWS if self.latent.images and inputs[0].is_cpu else size
        parts = []
        with torch.inference_mode():
            for first in range(0, n, size):
                cut = [x[first : first + size] for x in inputs]
                m = len(cut[0])
                if cut[0].is_cpu:
                    cut = [pad(x, (0,) * (2 * x.ndim - 1) + (-m % ROWS,)) for x in cut]
                out = function(*cut)
                parts.append([x[:m] for x in (out if isinstance(out, tuple) else (out,))])
        return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))

    def refuse_shape(self, observation: Any) -> None:
        """Refuse observations that are not (B, O), or pictures that are not (B, k, H, W, 3).

        Raises:
            WmbenchError: They are not.
        """
        own: tuple[int, ...] = (len(self.task.observation),)
        if self.latent.images:
            stack = () if self.config.frame_stack == 1 else (self.config.frame_stack,)
            own = (*stack, PIXELS, PIXELS, 3)
        if tuple(observation.shape[1:]) != own:
            raise WmbenchError(
                f"{self.task.id}: tdmpc2 expects observations of shape (B, {', '.join(map(str, own))}), "
                f"got {tuple(observation.shape)}"
            )
