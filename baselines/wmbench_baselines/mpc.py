"""Planning by sampling in any world model: the cross-entropy method and MPPI, for many episodes at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch

from wmbench import checkpoints
from wmbench.cards import TaskCard
from wmbench.errors import MissingHeadError, WmbenchError
from wmbench.keys import fold_in, normal
from wmbench.protocols import Start, State, WorldModel

ROWS = 65_536
"""At most about so many imagined rollouts run together; more episodes than fit are planned one part after another."""


@dataclass(frozen=True)
class MPCConfig:
    """Settings of :class:`MPC`.

    Attributes:
        model: World model to plan in: a checkpoint folder, or a name.
        planner: ``"cem"``, the cross-entropy method (equal weights for the elites), or ``"mppi"``, model-predictive
            path integral control as in TD-MPC (https://arxiv.org/abs/2203.04955): elites weighted by their returns.
        horizon: Steps looked ahead.
        samples: Candidate action sequences per iteration.
        elites: The best so many of them make the next distribution.
        iterations: Rounds of sampling per plan.
        particles: Rollouts per candidate, whose returns are averaged, for models with noise or several members.
        spread: Standard deviation of the first samples, as a share of half the action range.
        min_spread: It does not fall below this.
        momentum: Share of the old mean and deviation that each iteration keeps.
        temperature: Of MPPI's weights, in standard deviations of the elites' returns.
        replan: Steps of a plan that are acted out before the next one is made.
        discount: Per step.
    """

    model: str = "ensemble"
    planner: Literal["cem", "mppi"] = "cem"
    horizon: int = 20
    samples: int = 200
    elites: int = 20
    iterations: int = 5
    particles: int = 1
    spread: float = 0.5
    min_spread: float = 0.05
    momentum: float = 0.1
    temperature: float = 0.5
    replan: int = 1
    discount: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that plan nothing."""
        if min(self.horizon, self.iterations, self.particles, self.replan) < 1:
            raise ValueError("horizon, iterations, particles and replan must be at least 1")
        if not 1 <= self.elites <= self.samples:
            raise ValueError(f"elites must be between 1 and samples ({self.samples}), got {self.elites}")
        if self.replan > self.horizon:
            raise ValueError(f"replan must not exceed the horizon ({self.horizon}), got {self.replan}")
        if not 0 <= self.min_spread <= self.spread or not self.spread > 0 or not self.temperature > 0:
            raise ValueError("spread and temperature must be positive, and min_spread in [0, spread]")
        if not 0 <= self.momentum < 1 or not 0 < self.discount <= 1:
            raise ValueError("momentum must lie in [0, 1) and discount in (0, 1]")


class MPC:
    """Acts by the first action of the best plan found, and plans again from where it gets.

    A plan is a Gaussian over action sequences. Each iteration samples candidates from it (the mean among them),
    clips them into the action box, rolls them out in the world model and refits the Gaussian to the elites.
    The next plan starts from the mean moved on by one step. A candidate's return is the sum of predicted rewards,
    each times the predicted probability of still being alive; one that is not finite counts as minus infinity.
    All candidates of an episode meet the same model noise, fresh in every iteration. A row's plan depends on its
    observation, its keys and its own past alone. The model is started from the current observation: one that
    needs a history or a simulator state cannot be planned in.
    """

    Config = MPCConfig

    def __init__(
        self, config: MPCConfig, task: TaskCard, *, model: WorldModel | None = None, device: str = "cpu"
    ) -> None:
        """Load the world model and prepare.

        Args:
            config: Settings.
            task: The task.
            model: To plan in, in place of ``config.model``.
            device: Where planning happens; a model that is given must be there.

        Raises:
            CheckpointError: There is no such world model for the task.
            MissingHeadError: It predicts no reward, or no end although the task can end.
        """
        self.config = config
        self.task = task
        self.device = torch.device(device)
        self.model: Any = model or checkpoints.resolve(config.model, task, kind="world_model", device=device)
        needed = {"observation", "reward"} | ({"terminated"} if task.terminates else set())
        if missing := sorted(needed - self.model.card.predicts):
            raise MissingHeadError(
                f"{task.id}: world model {self.model.card.name!r} does not predict {', '.join(missing)}; "
                "planning needs it"
            )
        low, high = task.action_bounds()
        self.low, self.high = torch.from_numpy(low).to(self.device), torch.from_numpy(high).to(self.device)
        self.centre = (self.low + self.high) / 2  # (A,)
        self.half = (self.high - self.low) / 2  # (A,)
        self.card: dict[str, Any] = {
            "name": "mpc",
            "inputs": f"the observation, and the world model {self.model.card.name!r}",
            "consumer": "control without a learned policy, and a strong test of what the model says about actions",
            "risk": "finds and exploits the model's errors; sees no further than its horizon",
        }

    @classmethod
    def for_task(cls, task: TaskCard, *, device: str = "cpu") -> Self:
        """With the default settings: planning in the ensemble that is shipped for the task."""
        return cls(MPCConfig(), task, device=device)

    def to(self, device: torch.device | str) -> Self:
        """Move planning, and the model if it can be moved, to a device."""
        self.device = torch.device(device)
        if hasattr(self.model, "to"):
            self.model = self.model.to(self.device)
        for name in ("low", "high", "centre", "half"):
            setattr(self, name, getattr(self, name).to(self.device))
        return self

    def initial(self, batch_size: int) -> State:
        """Plans to start from, the centre of the action box (B, H, A), and steps until each must be made anew (B,)."""
        mean = self.centre.cpu().numpy()
        return {
            "mean": np.tile(mean, (batch_size, self.config.horizon, 1)),
            "left": np.zeros(batch_size, dtype=np.int64),
        }

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Plan where a plan is due, and act.

        Args:
            observation: (B, O) float32.
            state: As returned by :meth:`initial` or by the previous call.
            keys: (B,) int64, fresh at every step.

        Returns:
            Actions (B, A) float32 inside the bounds, and the next state.

        Raises:
            WmbenchError: The observations have another shape.
        """
        if observation.ndim != 2 or observation.shape[1] != len(self.task.observation):
            raise WmbenchError(
                f"{self.task.id}: mpc expects observations of shape (B, {len(self.task.observation)}), "
                f"got {observation.shape}"
            )
        mean, left = state["mean"].copy(), state["left"].copy()
        due = np.flatnonzero(left == 0)
        at_once = max(1, ROWS // (self.config.samples * self.config.particles))
        for start in range(0, len(due), at_once):
            rows = due[start : start + at_once]
            given = (torch.from_numpy(x[rows]).to(self.device) for x in (observation, mean, keys))
            mean[rows] = self.plan(*given).cpu().numpy()
        left[due] = self.config.replan
        action = mean[:, 0].copy()
        centre = np.broadcast_to(self.centre.cpu().numpy(), (len(mean), 1, mean.shape[2]))
        return action, {"mean": np.concatenate([mean[:, 1:], centre], 1), "left": left - 1}

    def chunk(self, state: State) -> np.ndarray:
        """What is planned after the action just returned, (B, H - 1, A) float32, from the state returned with it."""
        return state["mean"][:, :-1]

    @torch.no_grad()
    def plan(self, observation: torch.Tensor, mean: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Improve plans.

        Args:
            observation: (b, O) float32.
            mean: (b, H, A) float32, where to start.
            keys: (b,) int64.

        Returns:
            (b, H, A) float32, inside the action box.
        """
        c = self.config
        b = len(observation)
        std = (c.spread * self.half).expand_as(mean)  # (b, H, A)
        for iteration in range(c.iterations):
            fresh = fold_in(keys, iteration)
            noise = self._noise(fold_in(fresh, 0), mean.shape)  # (b, N, H, A)
            actions = mean[:, None] + std[:, None] * noise
            actions = torch.minimum(torch.maximum(actions, self.low), self.high)
            returns = self._returns(observation, actions, fold_in(fresh, 1))  # (b, N)
            best = torch.sort(returns, dim=1, descending=True, stable=True)
            top, which = best.values[:, : c.elites], best.indices[:, : c.elites]  # (b, K)
            elites = actions[torch.arange(b, device=self.device)[:, None], which]  # (b, K, H, A)
            weight = self._weights(top).float()[:, :, None, None]  # (b, K, 1, 1)
            new = _sum(weight * elites)
            new_std = _sum(weight * (elites - new[:, None]) ** 2).sqrt()
            new_std = torch.maximum(new_std, c.min_spread * self.half)
            usable = torch.isfinite(top[:, :1, None])  # (b, 1, 1): with no finite return at all nothing was learned
            mean = torch.where(usable, c.momentum * mean + (1 - c.momentum) * new, mean)
            std = torch.where(usable, c.momentum * std + (1 - c.momentum) * new_std, std)
        return torch.minimum(torch.maximum(mean, self.low), self.high)

    def _noise(self, keys: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Standard normal (b, N, H, A), zero for the first candidate of each row."""
        b, horizon, width = shape
        n = self.config.samples
        candidate = torch.arange(n, device=self.device).repeat(b)  # (b * N,)
        noise = normal(fold_in(keys.repeat_interleave(n), candidate), horizon * width)
        noise = noise.view(b, n, horizon, width)
        noise[:, 0] = 0.0
        return noise

    def _weights(self, returns: torch.Tensor) -> torch.Tensor:
        """Weights of the elites (b, K), of sum one wherever one of them is finite; ``returns`` is descending."""
        finite = torch.isfinite(returns)
        weight = finite.double()
        if self.config.planner == "mppi":
            gap = torch.where(finite, returns[:, :1] - returns, 0.0)
            count = _sum(weight).clamp_min(1)
            centre = _sum(gap * weight) / count
            scale = (_sum((gap - centre[:, None]) ** 2 * weight) / count).sqrt()  # (b,)
            weight = weight * torch.exp(-gap / (self.config.temperature * scale[:, None]).clamp_min(1e-300))
        return weight / _sum(weight).clamp_min(1e-300)[:, None]

    def _returns(self, observation: torch.Tensor, actions: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Imagined returns (b, N) of candidates (b, N, H, A) from observations (b, O)."""
        (b, n, horizon, width), particles = actions.shape, self.config.particles
        particle = torch.arange(particles, device=self.device).repeat(b)
        keys = fold_in(keys.repeat_interleave(particles), particle).view(b, 1, particles)
        keys = keys.expand(b, n, particles).reshape(-1)  # the same model noise for every candidate
        rows = b * n * particles
        actions = actions[:, :, None].expand(b, n, particles, horizon, width).reshape(rows, horizon, width)
        start = Start(observation=observation.repeat_interleave(n * particles, 0))
        returns = rollout_returns(
            self.model.initial(start, keys=keys), self.model.step, actions, self.config.discount, self.task.terminates
        )
        returns = returns.view(b * n, particles)
        return (_sum(returns) / particles).view(b, n)


def rollout_returns(
    state: State, step: Callable[..., Any], actions: torch.Tensor, discount: float, terminates: bool
) -> torch.Tensor:
    """Imagined returns of action sequences.

    Args:
        state: Of a world model, R rows.
        step: The world model's.
        actions: (R, H, A) float32.
        discount: Per step.
        terminates: Whether predicted probabilities of termination count.

    Returns:
        (R,) float64, minus infinity where a reward that counts, or the observation before it, is not finite.
    """
    total = torch.zeros(len(actions), dtype=torch.float64, device=actions.device)
    alive = torch.ones_like(total)
    failed = torch.zeros_like(total, dtype=torch.bool)
    for t in range(actions.shape[1]):
        state, prediction = step(state, actions[:, t])
        counts = alive > 0
        failed |= counts & ~torch.isfinite(prediction.reward)
        total += torch.where(counts & ~failed, discount**t * alive * prediction.reward, 0.0)
        if terminates:
            ends = prediction.terminated.double()
            failed |= counts & ~torch.isfinite(ends)
            alive = torch.where(counts, alive * (1.0 - ends), alive)
        failed |= (alive > 0) & ~torch.isfinite(prediction.observation).all(1)
    return torch.where(failed, -torch.inf, total)


def _sum(x: torch.Tensor) -> torch.Tensor:
    """Sum over dimension 1 by halves: an order, and so a rounding, that does not depend on the other dimensions."""
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        rest = x[:, 2 * half :]
        x = torch.cat([x[:, :half] + x[:, half : 2 * half], rest], 1)
    return x[:, 0]
