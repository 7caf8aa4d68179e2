"""The world model of TD-MPC2 as in the paper: encode, next, reward, pi and Q, on plain tensors."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from wmbench_baselines.tdmpc2.config import TDMPC2Config
from wmbench_baselines.tdmpc2.maths import Bins, two_hot_inverse
from wmbench_baselines.tdmpc2.networks import MLP, Ensemble, ImageEncoder, initialise, shifted

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Prior(NamedTuple):
    """The policy prior at some latent states.

    Attributes:
        action: (..., A) in [-1, 1], a sample.
        mean: (..., A) in [-1, 1], the tanh of the Gaussian's mean.
        log_std: (..., A), of the Gaussian before the tanh.
        noise: (..., A) standard normal numbers that made the sample.
    """

    action: torch.Tensor
    mean: torch.Tensor
    log_std: torch.Tensor
    noise: torch.Tensor


class LatentModel(nn.Module):
    """Encoder h, dynamics d, reward R, termination, policy prior p and Q-functions, for one task or several.

    Everything takes ``task``, (B,) int64 that broadcasts against the rows' leading axes from the right, and None for
    a model of one task. Random numbers are inputs.
    """

    def __init__(
        self,
        config: TDMPC2Config,
        observation: int | tuple[int, int, int],
        actions: Sequence[int],
        *,
        episodic: bool = False,
        seed: int = 0,
    ) -> None:
        """Build the networks and draw their weights.

        Args:
            config: Sizes.
            observation: Numbers of an observation, the widest of all tasks; or planes, height and width of images.
            actions: Numbers of an action of each task; one entry for a model of one task.
            episodic: Whether there is a termination head.
            seed: Of the weights.
        """
        super().__init__()
        self.build(config, observation, actions, episodic=episodic)
        initialise(self, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            last: nn.Linear = self.reward_head.layers[-1]  # type: ignore[assignment]
            last.weight.zero_()
            self.q_functions.weights[-1].zero_()
        self.target_q_functions = copy.deepcopy(self.q_functions).requires_grad_(False)

    action_mask: torch.Tensor

    def build(
        self, config: TDMPC2Config, observation: int | tuple[int, int, int], actions: Sequence[int], *, episodic: bool
    ) -> None:
        """Make room for the weights, without drawing them."""
        self.config = config
        self.bins = Bins(config.vmin, config.vmax, config.num_bins)
        self.actions = max(actions)
        several = len(actions) > 1
        extra = config.task_dim if several else 0
        hidden = [config.mlp_dim] * 2
        z, a = config.latent_dim, self.actions
        mask = torch.arange(a) < torch.tensor(list(actions))[:, None]  # (tasks, A)
        self.register_buffer("action_mask", mask.float(), persistent=False)
        self.task_embedding = nn.Embedding(len(actions), extra) if several else None
        self.images = not isinstance(observation, int)
        self.encoder: nn.Module
        if isinstance(observation, int):
            encoder_hidden = [config.enc_dim] * max(config.enc_layers - 1, 1)
            self.encoder = MLP(observation + extra, encoder_hidden, z, config.simnorm_dim)
        else:
            if several or observation[1:] != (64, 64) or 16 * config.channels != z:
                raise ValueError(
                    "images must be 64 x 64, of one task, and latent_dim 16 times channels; "
                    f"got {observation}, latent_dim {z} and channels {config.channels}"
                )
            self.encoder = ImageEncoder(observation[0], config.channels, config.simnorm_dim)
        self.dynamics = MLP(z + extra + a, hidden, z, config.simnorm_dim)
        self.reward_head = MLP(z + extra + a, hidden, config.num_bins)
        self.termination_head = MLP(z + extra, hidden, 1) if episodic else None
        self.policy = MLP(z + extra, hidden, 2 * a)
        self.q_functions = Ensemble(config.num_q, z + extra + a, config.mlp_dim, config.num_bins)

    def learnable(self) -> int:
        """Learnable numbers, the targets not counted."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def encode(
        self, observation: torch.Tensor, task: torch.Tensor | None = None, shift: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The encoder, z = h(s): observations (..., O), or images (..., C, H, W), to latent states (..., L).

        ``shift`` (..., 2) moves images by whole pixels, see :func:`shifted`.
        """
        if self.images:
            return self.encoder(observation if shift is None else shifted(observation, shift))
        return self.encoder(observation, *self._embedded(task))

    def next(self, z: torch.Tensor, action: torch.Tensor, task: torch.Tensor | None = None) -> torch.Tensor:
        """The dynamics, z' = d(z, a): (..., L) and (..., A), which may broadcast, to (..., L)."""
        return self.dynamics(z, *self._embedded(task), action)

    def reward(self, z: torch.Tensor, action: torch.Tensor, task: torch.Tensor | None = None) -> torch.Tensor:
        """The reward, R(z, a): logits (..., bins) of the reward."""
        return self.reward_head(z, *self._embedded(task), action)

    def termination(self, z: torch.Tensor, task: torch.Tensor | None = None) -> torch.Tensor:
        """Logit (...) that the task ends in reaching z (..., L); only of an episodic model."""
        assert self.termination_head is not None, "this model is of a task that does not end"
        return self.termination_head(z, *self._embedded(task)).squeeze(-1)

    def pi(self, z: torch.Tensor, noise: torch.Tensor, task: torch.Tensor | None = None) -> Prior:
        """The policy prior, a ~ p(z): a tanh-squashed Gaussian.

        Args:
            z: (..., L).
            noise: (..., A) standard normal numbers.
            task: See the class.
        """
        mean, log_std = self.policy(z, *self._embedded(task)).chunk(2, -1)
        low, high = self.config.log_std_min, self.config.log_std_max
        log_std = low + 0.5 * (high - low) * (torch.tanh(log_std) + 1)
        if task is not None:
            mask = self.action_mask[task]
            mean, log_std, noise = mean * mask, log_std * mask, noise * mask
        return Prior(torch.tanh(mean + noise * log_std.exp()), torch.tanh(mean), log_std, noise)

    def entropy(self, prior: Prior, task: torch.Tensor | None = None) -> torch.Tensor:
        """The entropy term of the policy's loss (...): a sample's negative log-density times the action's size.

        ``entropy="squashed"`` adds the tanh's correction, as the code that made the published curves does.
        """
        size = prior.noise.shape[-1] if task is None else self.action_mask[task].sum(-1)
        log_prob = (-0.5 * prior.noise**2 - prior.log_std - HALF_LOG_2PI).sum(-1) * size
        if self.config.entropy == "squashed":
            log_prob = log_prob - torch.log((1 - prior.action**2).relu() + 1e-6).sum(-1)
        return -log_prob

    def Q(
        self,
        z: torch.Tensor,
        action: torch.Tensor,
        heads: torch.Tensor | None = None,
        task: torch.Tensor | None = None,
        *,
        target: bool = False,
        dropout: torch.Tensor | None = None,
        frozen: bool = False,
    ) -> torch.Tensor:
        """Logits (K, ..., bins) of the chosen Q-functions at (z, a).

        Args:
            z: (..., L).
            action: (..., A).
            heads: (K,) int64, which ones; None: all.
            task: See the class.
            target: Whether to ask the slow copies.
            dropout: (K, rows, mlp_dim), see :class:`Ensemble`; None: no dropout.
            frozen: Whether their weights get no gradient.
        """
        ensemble = self.target_q_functions if target else self.q_functions
        lead = z.shape[:-1]
        parts = [part.expand(*lead, part.shape[-1]).flatten(0, -2) for part in (z, *self._embedded(task), action)]
        out = ensemble(*parts, heads=heads, dropout=dropout, frozen=frozen)
        return out.unflatten(1, lead)

    def values(self, logits: torch.Tensor) -> torch.Tensor:
        """Rewards or values (...) that logits (..., bins) stand for."""
        return two_hot_inverse(logits, self.bins)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the target Q-functions towards the Q-functions."""
        pairs = zip(self.target_q_functions.parameters(), self.q_functions.parameters(), strict=True)
        slow, fast = zip(*pairs, strict=True)
        torch._foreach_lerp_(list(slow), list(fast), self.config.tau)

    @torch.no_grad()
    def renorm(self) -> None:
        """Keep the norm of every task's embedding at most one."""
        if self.task_embedding is not None:
            self.task_embedding.weight.renorm_(2, 0, 1.0)

    def _embedded(self, task: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """The tasks' embeddings, as a further part of an input."""
        if self.task_embedding is None:
            return ()
        assert task is not None, "this model is of several tasks: say which"
        return (self.task_embedding(task),)
