"""The planner of TD-MPC2: MPPI over latent trajectories, seeded by the policy prior, for many episodes at once."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import torch

from wmbench.keys import fold_in, normal, uniform
from wmbench_baselines.tdmpc2.compiled import Captured, compiler
from wmbench_baselines.tdmpc2.config import TDMPC2Config
from wmbench_baselines.tdmpc2.model import LatentModel


class PlanNoise(NamedTuple):
    """All random numbers of one plan for N episodes.

    Attributes:
        prior: (H, N, P, A) normal, of the sequences from the policy prior.
        samples: (R, H, N, S - P, A) normal, of the sampled sequences of each round.
        value: (R, N, S, A) normal, of the prior's action at the end of each sequence.
        heads: (R, N, 2) int64, the two Q-functions that each round asks.
        choice: (N, K) exponential, of the choice among the elites.
        action: (N, A) normal, of the exploration; zeros act without.
    """

    prior: torch.Tensor
    samples: torch.Tensor
    value: torch.Tensor
    heads: torch.Tensor
    choice: torch.Tensor
    action: torch.Tensor

    @classmethod
    def shapes(cls, config: TDMPC2Config, n: int, a: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the fields, for n episodes and a action dimensions."""
        h, r, s, p = config.horizon, config.rounds(a), config.samples, config.prior_samples
        samples, value = (r, h, n, s - p, a), (r, n, s, a)
        return {"prior": (h, n, p, a), "samples": samples, "value": value, "heads": (r, n, 2)} | {
            "choice": (n, config.elites),
            "action": (n, a),
        }

    @classmethod
    def draw(cls, config: TDMPC2Config, n: int, a: int, generator: torch.Generator, *, explore: bool) -> Self:
        """From a generator, on its device."""
        device = generator.device
        made = {}
        for name, shape in cls.shapes(config, n, a).items():
            if name == "choice":
                made[name] = torch.empty(shape, device=device).exponential_(generator=generator)
            elif name == "heads":
                order = torch.rand((*shape[:-1], config.num_q), generator=generator, device=device).argsort(-1)
                made[name] = order[..., :2]
            elif name == "action" and not explore:
                made[name] = torch.zeros(shape, device=device)
            else:
                made[name] = torch.randn(shape, generator=generator, device=device)
        return cls(**made)

    @classmethod
    def of_keys(cls, config: TDMPC2Config, keys: torch.Tensor, a: int) -> Self:
        """From one key per episode, so that an episode's plan does not depend on the others; without exploration."""
        n = len(keys)
        made = {}
        for label, (name, shape) in enumerate(cls.shapes(config, n, a).items()):
            axis = _EPISODES[name]
            own = fold_in(keys, label)
            each = [size for i, size in enumerate(shape) if i != axis]
            if name == "heads":
                drawn = uniform(own, math.prod(each[:-1]) * config.num_q)
                drawn = drawn.unflatten(1, (*each[:-1], config.num_q)).argsort(-1)[..., :2]
            elif name == "choice":
                drawn = -torch.log1p(-uniform(own, each[0])).clamp(min=-16.0)
                drawn = drawn.clamp(min=2.0**-25)
            elif name == "action":
                drawn = torch.zeros(shape, device=keys.device)
            else:
                drawn = normal(own, math.prod(each)).unflatten(1, each)
            made[name] = drawn.movedim(0, axis)
        return cls(**made)


_EPISODES = {"prior": 1, "samples": 2, "value": 1, "heads": 1, "choice": 0, "action": 0}
"""The axis of each field of :class:`PlanNoise` that counts episodes."""


class Plan(NamedTuple):
    """What to do from here.

    Attributes:
        action: (N, A) in [-1, 1], what to do now.
        sequence: (N, H, A), the chosen elite: what to do now, without exploration, and after.
        mean: (N, H, A), of the planner's distribution, where the next plan starts from.
        std: (N, H, A), its standard deviation.
        elite_value: (N, K), best first.
    """

    action: torch.Tensor
    sequence: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    elite_value: torch.Tensor


class Rolled(NamedTuple):
    """Where action sequences lead.

    Attributes:
        returns: (N, S), discounted predicted rewards.
        alive: (N, S), 1 until the task ends in the model, 0 from then on.
        z: (N, S, L), the last latent state.
    """

    returns: torch.Tensor
    alive: torch.Tensor
    z: torch.Tensor


def roll(
    model: LatentModel,
    z: torch.Tensor,
    actions: torch.Tensor,
    discount: torch.Tensor,
    task: torch.Tensor | None = None,
) -> Rolled:
    """Follow action sequences in the model.

    Args:
        model: The model.
        z: (N, L), where they begin.
        actions: (H, N, S, A).
        discount: () or (N, 1), per step.
        task: (N, 1) int64, or None.
    """
    at = z[:, None]  # (N, 1, L): what all sequences share is multiplied once
    returns = torch.zeros(actions.shape[1:3], dtype=z.dtype, device=z.device)
    alive = torch.ones_like(returns)
    factor = torch.ones_like(discount)
    for action in actions.unbind(0):
        returns = returns + factor * alive * model.values(model.reward(at, action, task))
        at = model.next(at, action, task)
        factor = factor * discount
        if model.termination_head is not None:
            alive = alive * (model.termination(at, task) <= 0).to(alive.dtype)  # a probability of one half
    return Rolled(returns, alive, at)


def final_value(
    model: LatentModel, z: torch.Tensor, noise: torch.Tensor, heads: torch.Tensor, task: torch.Tensor | None = None
) -> torch.Tensor:
    """Value of going on with the policy prior: mean of two Q-functions.

    Args:
        model: The model.
        z: (N, S, L).
        noise: (N, S, A) standard normal numbers.
        heads: (N, 2) int64, the Q-functions of each episode.
        task: (N, 1) int64, or None.

    Returns:
        (N, S).
    """
    action = model.pi(z, noise, task).action
    if len(z) == 1 or model.config.num_q == 2:
        return model.values(model.Q(z, action, heads[0], task)).mean(0)
    every = model.values(model.Q(z, action, None, task))  # (E, N, S)
    return every.gather(0, heads.T[:, :, None].expand(-1, -1, every.shape[2])).mean(0)


def estimate_value(
    model: LatentModel,
    z: torch.Tensor,
    actions: torch.Tensor,
    discount: torch.Tensor,
    noise: torch.Tensor,
    heads: torch.Tensor,
    task: torch.Tensor | None = None,
) -> torch.Tensor:
    """Predicted return of action sequences (H, N, S, A), the value at their end included: (N, S)."""
    rolled = roll(model, z, actions, discount, task)
    return rolled.returns + discount ** len(actions) * rolled.alive * final_value(model, rolled.z, noise, heads, task)


class Planner:
    """Model-predictive path integral control with the policy prior's sequences among the candidates.

    The prior's sequences stay the same in every round, so what they lead to is predicted once.
    """

    def __init__(self, model: LatentModel, config: TDMPC2Config | None = None) -> None:
        """Plan in a model, with its own settings of the planner or others.

        Raises:
            WmbenchError: It is to be compiled, and there is no compiler.
        """
        self.model, self.config = model, config or model.config
        ready = compiler(self.config.compile)
        self._roll, self._final_value = ready(roll), ready(final_value)
        self._captured = Captured(ready(self._plan_at), model) if self.config.compile else None

    @torch.inference_mode()
    def plan_at(
        self,
        observation: torch.Tensor,
        previous: torch.Tensor,
        discount: torch.Tensor,
        noise: PlanNoise,
        task: torch.Tensor | None = None,
    ) -> Plan:
        """Encode N observations and plan from there; on a GPU, compiled, as one CUDA graph. See :meth:`plan`."""
        whole: Any = self._captured if self._captured is not None and observation.is_cuda else self._plan_at
        return whole(observation, previous, discount, noise, task)

    def _plan_at(
        self,
        observation: torch.Tensor,
        previous: torch.Tensor,
        discount: torch.Tensor,
        noise: PlanNoise,
        task: torch.Tensor | None,
    ) -> Plan:
        return self._plan(self.model.encode(observation, task), previous, discount, noise, task)

    @torch.inference_mode()
    def plan(
        self,
        z: torch.Tensor,
        previous: torch.Tensor,
        discount: torch.Tensor,
        noise: PlanNoise,
        task: torch.Tensor | None = None,
    ) -> Plan:
        """Plan from N latent states.

        Args:
            z: (N, L), encoded observations.
            previous: (N, H, A), mean of the last plan, see :func:`moved_on`; zeros at an episode's begin.
            discount: () or (N,), per step.
            noise: All random numbers.
            task: (N,) int64, or None.
        """
        return self._plan(z, previous, discount, noise, task)

    def _plan(
        self,
        z: torch.Tensor,
        previous: torch.Tensor,
        discount: torch.Tensor,
        noise: PlanNoise,
        task: torch.Tensor | None,
    ) -> Plan:
        model, config, size = self.model, self.config, self.model.actions
        horizon, n, kept, _ = noise.prior.shape
        discount = discount[:, None] if discount.ndim else discount
        task = None if task is None else task[:, None]  # (N, 1)
        mask = None if task is None else model.action_mask[task]  # (N, 1, A)
        if kept:
            prior = self.prior_sequences(z, noise.prior, task)  # (H, N, P, A)
            known = self._roll(model, z, prior, discount, task)
        mean = previous.transpose(0, 1)[:, :, None]  # (H, N, 1, A)
        std = torch.full_like(mean, config.max_std)
        for r in range(config.rounds(size)):
            samples = (mean + std * noise.samples[r]).clamp(-1, 1)  # (H, N, S - P, A)
            if mask is not None:
                samples = samples * mask
            rolled = self._roll(model, z, samples, discount, task)
            if kept:
                samples = torch.cat((prior, samples), 2)
                rolled = Rolled(*(torch.cat(pair, 1) for pair in zip(known, rolled, strict=True)))
            value = self._final_value(model, rolled.z, noise.value[r], noise.heads[r], task)
            value = (rolled.returns + discount**horizon * rolled.alive * value).nan_to_num(0)  # (N, S)
            best, which = value.topk(config.elites, dim=1)  # (N, K)
            elites = samples.gather(2, which[None, :, :, None].expand(horizon, -1, -1, size))  # (H, N, K, A)
            score = torch.exp(config.temperature * (best - best[:, :1]))
            score = score / score.sum(1, keepdim=True)  # (N, K)
            weight = score[:, :, None] / (score.sum(1)[:, None, None] + 1e-9)
            mean = (weight * elites).sum(2, keepdim=True)
            std = (weight * (elites - mean) ** 2).sum(2, keepdim=True).sqrt().clamp(config.min_std, config.max_std)
            if mask is not None:
                mean, std = mean * mask, std * mask
        chosen = (score.log() - noise.choice.log()).argmax(1)  # (N,): Gumbel's choice, by the scores
        sequence = elites[:, torch.arange(n, device=z.device), chosen].transpose(0, 1)  # (N, H, A)
        mean, std = mean[:, :, 0].transpose(0, 1), std[:, :, 0].transpose(0, 1)
        action = (sequence[:, 0] + std[:, 0] * noise.action).clamp(-1, 1)
        return Plan(action, sequence, mean, std, best)

    def prior_sequences(self, z: torch.Tensor, noise: torch.Tensor, task: torch.Tensor | None = None) -> torch.Tensor:
        """Sequences (H, N, P, A) that the policy prior takes from z (N, L), given normal numbers of that shape."""
        at = z[:, None].expand(-1, noise.shape[2], -1)
        actions = []
        for t, own in enumerate(noise.unbind(0)):
            actions.append(self.model.pi(at, own, task).action)
            if t + 1 < len(noise):
                at = self.model.next(at, actions[t], task)
        return torch.stack(actions)


def moved_on(mean: torch.Tensor, steps: int = 1) -> torch.Tensor:
    """A plan's mean (N, H, A) as the next plan takes it: ``steps`` later, zeros at its end."""
    return torch.cat((mean[:, steps:], torch.zeros_like(mean[:, :steps])), 1)
