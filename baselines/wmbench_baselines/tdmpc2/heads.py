"""Heads that a simulator needs and TD-MPC2 lacks, read off its frozen latents: observation, and success if need be."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from wmbench.progress import progress as progress_line
from wmbench_baselines.networks import Normaliser
from wmbench_baselines.tdmpc2.model import LatentModel
from wmbench_baselines.tdmpc2.networks import MLP, initialise
from wmbench_baselines.tdmpc2.replay import Replay

LEARNING_RATE = 1e-3
"""Of Adam, at the start; it falls to zero along half a cosine."""


class Heads(nn.Module):
    """A decoder to the normalised observation, and a logit of success."""

    def __init__(self, model: LatentModel, observation: int, *, success: bool) -> None:
        """Make the networks, each as wide as the model's.

        Args:
            model: Whose latents are read.
            observation: Numbers of an observation.
            success: Whether there is a success head.
        """
        super().__init__()
        hidden = [model.config.mlp_dim] * 2
        self.normaliser = Normaliser(observation)
        self.decoder = MLP(model.config.latent_dim, hidden, observation)
        self.success = MLP(model.config.latent_dim, hidden, 1) if success else None
        initialise(self, torch.Generator().manual_seed(0))

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Latents (..., L) to observations (..., O) and logits of success (...), or None."""
        observation = self.decoder(z) * self.normaliser.scale + self.normaliser.mean
        return observation, None if self.success is None else self.success(z).squeeze(-1)


def fit_heads(
    heads: Heads, model: LatentModel, replay: Replay, *, number: int = 0, seed: int, progress: bool = True
) -> dict[str, float]:
    """Train the heads on latents of the model, which itself gets no gradient and stays as it is.

    Windows are encoded at their begin and rolled out, so that the heads know predicted latents, too.

    Args:
        heads: On the model's device.
        model: Trained.
        replay: What it was trained on.
        number: Number of the task.
        seed: Of the weights and of the windows.
        progress: Whether to show it.

    Returns:
        Losses of the last update: mean squared error in standard deviations, and cross-entropy of success.
    """
    import numpy as np

    config = model.config
    device = next(model.parameters()).device
    initialise(heads, torch.Generator().manual_seed(seed))
    size = len(heads.normaliser.mean)
    seen = replay.column("observation", number)[:, :size].cpu().double()
    heads.normaliser.fit(seen.mean(0), seen.std(0))
    optimiser = torch.optim.Adam(heads.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.head_updates)
    generator = np.random.default_rng(seed)
    several = model.task_embedding is not None
    task = torch.full((config.batch_size,), number, device=device) if several else None
    found: dict[str, Any] = {}
    with progress_line("tdmpc2 heads", config.head_updates, show=progress) as advance:
        for _ in range(config.head_updates):
            batch = replay.sample(config.batch_size, generator, only=number)
            with torch.no_grad():
                z = [model.encode(batch.observation[0], task)]
                for action in batch.action:
                    z.append(model.next(z[-1], action, task))
            observation, success = heads(torch.stack(z))
            error = (observation - batch.observation[..., :size]) / heads.normaliser.scale
            found = {"decoder": (error**2).mean()}
            if success is not None:
                assert batch.success is not None
                found["success"] = binary_cross_entropy_with_logits(success[1:], batch.success)
            optimiser.zero_grad()
            torch.stack(list(found.values())).sum().backward()
            optimiser.step()
            schedule.step()
            advance(1)
    return {name: float(value.detach()) for name, value in found.items()}
