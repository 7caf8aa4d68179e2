"""One update of TD-MPC2: latent rollout, losses, two Adams, the running scale and the slow Q-functions."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from wmbench_baselines.tdmpc2.compiled import Captured, compiler
from wmbench_baselines.tdmpc2.config import TDMPC2Config
from wmbench_baselines.tdmpc2.maths import RunningScale, soft_cross_entropy
from wmbench_baselines.tdmpc2.model import LatentModel
from wmbench_baselines.tdmpc2.networks import SHIFT


class Batch(NamedTuple):
    """Windows of H steps from B places of the replay, time first.

    Attributes:
        observation: (H + 1, B, O).
        action: (H, B, A), the action taken at each of the first H observations.
        reward: (H, B), what it earned.
        terminated: (H, B), 1 where the task itself ended in reaching the next observation, not at a time limit.
        task: (B,) int64, or None.
        success: (H, B), 1 where the step counts as a success, or None; TD-MPC2 itself does not read it.
    """

    observation: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    terminated: torch.Tensor
    task: torch.Tensor | None = None
    success: torch.Tensor | None = None


class UpdateNoise(NamedTuple):
    """All random numbers of one update.

    Attributes:
        target: (H, B, A) normal, of the prior's actions in the targets.
        target_heads: (2,) int64, the slow Q-functions whose minimum is the target.
        policy: (H + 1, B, A) normal, of the prior's actions in the policy's loss.
        policy_heads: (2,) int64, the Q-functions whose mean the policy climbs.
        dropout: (E, H * B, mlp_dim) factors, see :class:`Ensemble`; None: no dropout.
        policy_dropout: (2, (H + 1) * B, mlp_dim), or None.
        shift: (H + 1, B, 2) int64, how far each image is shifted, see :func:`shifted`; None: not at all.
    """

    target: torch.Tensor
    target_heads: torch.Tensor
    policy: torch.Tensor
    policy_heads: torch.Tensor
    dropout: torch.Tensor | None
    policy_dropout: torch.Tensor | None
    shift: torch.Tensor | None = None

    @classmethod
    def draw(cls, config: TDMPC2Config, batch: int, actions: int, generator: torch.Generator) -> Self:
        """From a generator, on its device."""
        device, h = generator.device, config.horizon

        def heads() -> torch.Tensor:
            return torch.randperm(config.num_q, generator=generator, device=device)[:2]

        def kept(members: int, rows: int) -> torch.Tensor | None:
            if not config.dropout:
                return None
            return dropped((members, rows, config.mlp_dim), config.dropout, generator)

        return cls(
            target=torch.randn((h, batch, actions), generator=generator, device=device),
            target_heads=heads(),
            policy=torch.randn((h + 1, batch, actions), generator=generator, device=device),
            policy_heads=heads(),
            dropout=kept(config.num_q, h * batch),
            policy_dropout=kept(2, (h + 1) * batch),
            shift=torch.randint(0, 2 * SHIFT + 1, (h + 1, batch, 2), generator=generator, device=device)
            if config.observation == "rgb"
            else None,
        )


def dropped(shape: tuple[int, ...], share: float, generator: torch.Generator) -> torch.Tensor:
    """Factors of dropout: 0 for a share of the units, independently, 1 / (1 - share) for the others.

    Instead of a number for each unit it draws the gaps between dropped ones, which are geometric: the same
    distribution from a hundredth of the numbers. (That they end before the last unit has odds below 1e-14.)
    """
    size = math.prod(shape)
    count = int(size * share + 8 * math.sqrt(size * share)) + 16
    waits = torch.empty(count, dtype=torch.float64, device=generator.device).exponential_(generator=generator)
    gaps = (waits / -math.log1p(-share)).floor().long() + 1
    factors = torch.full((size + 1,), 1 / (1 - share), device=generator.device)
    factors[(gaps.cumsum(0) - 1).clamp(max=size)] = 0.0  # those beyond the end fall onto a spare place
    return factors[:size].view(shape)


class Losses(NamedTuple):
    """What the model is trained on, each a scalar, and the latent states (H + 1, B, L) of the rollout."""

    total: torch.Tensor
    consistency: torch.Tensor
    reward: torch.Tensor
    value: torch.Tensor
    termination: torch.Tensor
    zs: torch.Tensor


@torch.no_grad()
def targets(
    model: LatentModel, batch: Batch, noise: UpdateNoise, discount: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the rollout should get, (H, B, L), and TD targets (H, B): r + discount (1 - terminated) min of two slow Qs.

    A time limit does not count as an end: its last step bootstraps like any other.
    """
    z = model.encode(batch.observation[1:], batch.task, None if noise.shift is None else noise.shift[1:])
    action = model.pi(z, noise.target, batch.task).action
    q = model.values(model.Q(z, action, noise.target_heads, batch.task, target=True)).amin(0)
    return z, batch.reward + discount * (1 - batch.terminated) * q


def model_losses(
    model: LatentModel, batch: Batch, noise: UpdateNoise, reached: torch.Tensor, td: torch.Tensor
) -> Losses:
    """Losses of encoder, dynamics, reward, termination and Q-functions along a latent rollout.

    Args:
        model: The model.
        batch: Windows.
        noise: Its dropout is used.
        reached: (H, B, L), see :func:`targets`.
        td: (H, B), see :func:`targets`.
    """
    config, h, task = model.config, len(batch.action), batch.task
    z = model.encode(batch.observation[0], task, None if noise.shift is None else noise.shift[0])
    zs = [z]
    for t in range(h):
        z = model.next(z, batch.action[t], task)
        zs.append(z)
    rollout = torch.stack(zs)  # (H + 1, B, L)
    weight = config.rho ** torch.arange(h, dtype=z.dtype, device=z.device)  # (H,)
    consistency = (((rollout[1:] - reached) ** 2).mean((1, 2)) * weight).mean()
    r = soft_cross_entropy(model.reward(rollout[:-1], batch.action, task), batch.reward, model.bins)  # (H, B)
    q = model.Q(rollout[:-1], batch.action, None, task, dropout=noise.dropout)  # (E, H, B, bins)
    v = soft_cross_entropy(q, td, model.bins).mean(0)  # (H, B)
    reward, value = (r.mean(1) * weight).mean(), (v.mean(1) * weight).mean()
    termination = torch.zeros_like(reward)
    if model.termination_head is not None:
        termination = binary_cross_entropy_with_logits(model.termination(rollout[1:], task), batch.terminated)
    total = (
        config.consistency_weight * consistency
        + config.reward_weight * reward
        + config.value_weight * value
        + config.termination_weight * termination
    )
    return Losses(total, consistency, reward, value, termination, rollout)


def policy_values(
    model: LatentModel, zs: torch.Tensor, noise: UpdateNoise, task: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and entropies (H + 1, B) of the prior's actions, with gradients for the policy alone."""
    prior = model.pi(zs, noise.policy, task)
    q = model.Q(zs, prior.action, noise.policy_heads, task, dropout=noise.policy_dropout, frozen=True)
    return model.values(q).mean(0), model.entropy(prior, task)


class Learner:
    """A model with what its training needs besides: optimisers and running scale.

    Attributes:
        model: The model.
        scale: The running scale of the policy's loss.
        discount: () or (tasks,), per step.
    """

    def __init__(self, model: LatentModel, discount: torch.Tensor) -> None:
        """Set up the optimisers.

        Args:
            model: On the device where training happens.
            discount: () or (tasks,).

        Raises:
            WmbenchError: It is to be compiled, and there is no compiler.
        """
        config = model.config
        self.model, self.config = model, config
        self.discount = discount.to(next(model.parameters()).device)
        self.scale = RunningScale(config.tau).to(self.discount.device)
        policy = set(model.policy.parameters())
        encoder = set(model.encoder.parameters())
        rest = [p for p in model.parameters() if p.requires_grad and p not in policy | encoder]
        self.trained = [*model.encoder.parameters(), *rest]
        groups: list[dict[str, Any]] = [
            {"params": list(model.encoder.parameters()), "lr": config.learning_rate * config.encoder_rate},
            {"params": rest, "lr": config.learning_rate},
        ]
        on_gpu = self.discount.is_cuda
        adam: dict[str, Any] = {"lr": config.learning_rate, "fused": True, "capturable": on_gpu}
        self.optimiser = torch.optim.Adam(groups, **adam)
        self.policy_optimiser = torch.optim.Adam(model.policy.parameters(), eps=1e-5, **adam)
        ready = compiler(config.compile)
        self._targets, self._losses, self._values = ready(targets), ready(model_losses), ready(policy_values)
        self._captured = Captured(self._step, model) if config.compile and on_gpu else None

    def forget(self) -> None:
        """To be called after the optimisers have taken over states: nothing recorded of older ones is replayed."""
        if self._captured is not None:
            self._captured.forget()

    def update(self, batch: Batch, noise: UpdateNoise) -> dict[str, torch.Tensor]:
        """Take one step with both optimisers.

        Returns:
            Scalars: the losses, both gradients' norms, and the scale; still on the device.
        """
        return (self._captured or self._step)(batch._replace(success=None), noise)

    def _step(self, batch: Batch, noise: UpdateNoise) -> dict[str, torch.Tensor]:
        model, config = self.model, self.config
        discount = self.discount if batch.task is None else self.discount[batch.task]
        reached, td = self._targets(model, batch, noise, discount)
        losses = self._losses(model, batch, noise, reached, td)
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, config.grad_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        model.renorm()

        q, entropy = self._values(model, losses.zs.detach(), noise, batch.task)
        self.scale.update(q[0].detach())
        weight = config.rho ** torch.arange(len(q), dtype=q.dtype, device=q.device)
        objective = config.entropy_weight * entropy + q / self.scale.value
        policy_loss = -(objective.mean(1) * weight).mean()
        policy_loss.backward()
        policy_norm = torch.nn.utils.clip_grad_norm_(model.policy.parameters(), config.grad_clip)
        self.policy_optimiser.step()
        model.zero_grad(set_to_none=True)  # of the tasks' embeddings, too: the policy's loss is the policy's alone
        model.follow()
        return {
            "loss": losses.total.detach(),
            "consistency_loss": losses.consistency.detach(),
            "reward_loss": losses.reward.detach(),
            "value_loss": losses.value.detach(),
            "termination_loss": losses.termination.detach(),
            "policy_loss": policy_loss.detach(),
            "entropy": entropy.detach().mean(),
            "gradient": norm,
            "policy_gradient": policy_norm,
            "scale": self.scale.value.clone(),
        }
