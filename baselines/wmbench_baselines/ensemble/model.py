"""The probabilistic ensemble as a world model: members, elites, bounds on the variance, and named uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wmbench.cards import ModelCard, TaskCard
from wmbench.keys import fold_in, normal, randint
from wmbench.protocols import Prediction, Start, State
from wmbench_baselines.ensemble.config import PRESETS, EnsembleConfig
from wmbench_baselines.ensemble.networks import Members
from wmbench_baselines.ensemble.rows import grouped, mlp, whole

_MEMBER, _NEXT, _SWITCH = range(3)  # labels under which a row's key is split


class Ensemble(nn.Module):
    """Several Gaussian networks that predict the change of the observation, the reward and the end of the episode.

    Member e maps the normalised observation and action to a mean and a log-variance per output, the outputs being
    the normalised change of every observation dimension and the normalised reward. Log-variances lie softly between
    two learned bounds. Angles are read as sine and cosine. Dimensions that do not vary in the train split are not
    read, and predicted by their mean change. Where the task terminates, a second small network of the member tells
    from the observation that was reached whether the episode has ended there, in the place of the termination
    functions that PETS and MBPO are given: so the ending agrees with the predicted state, noise included. Where only
    the environment knows what counts as a success (a rule of kind ``"env"``), a third one tells that, likewise.

    Uncertainty, on request, over the elites and in units of the train split's standard deviations of the change
    (and of the reward), so that tasks and dimensions compare:

    - ``disagreement``: population standard deviation over the elites of the predicted mean change, summed over
      the observation dimensions (RWM-U, https://arxiv.org/abs/2504.16680).
    - ``max_aleatoric``: largest Euclidean norm of an elite's predicted standard deviations, reward included
      (MOPO's penalty, https://arxiv.org/abs/2005.13239).
    - ``max_deviation``: largest Euclidean distance of an elite's mean from the mean of all, reward included
      (the other penalty of MOPO's code).
    """

    Config = EnsembleConfig
    PRESETS = PRESETS

    angles: torch.Tensor
    input_mean: torch.Tensor
    input_scale: torch.Tensor
    target_mean: torch.Tensor
    target_scale: torch.Tensor
    elites: torch.Tensor

    def __init__(self, config: EnsembleConfig, task: TaskCard) -> None:
        """Build the networks with initial weights, and normalisers that change nothing."""
        super().__init__()
        self.config, self.task = config, task
        self.n_observation, self.n_action = len(task.observation), len(task.action)
        self.n_targets = self.n_observation + 1
        angles = [i for i, d in enumerate(task.observation) if d.kind == "angle"]
        self.n_features = self.n_observation + len(angles)
        sizes = (self.n_features + self.n_action, *config.hidden, 2 * self.n_targets)
        self.dynamics = Members(config.members, sizes)
        flag = (self.n_features, *config.end_hidden, 1)
        self.ends = Members(config.members, flag) if task.terminates else None
        self.solves = Members(config.members, flag) if task.success.kind == "env" else None
        self.max_logvar = nn.Parameter(torch.full((config.members, 1, self.n_targets), 0.5))
        self.min_logvar = nn.Parameter(torch.full((config.members, 1, self.n_targets), -10.0))
        self.register_buffer("angles", torch.tensor(angles, dtype=torch.int64), persistent=False)
        self.register_buffer("input_mean", torch.zeros(sizes[0]))
        self.register_buffer("input_scale", torch.ones(sizes[0]))
        self.register_buffer("target_mean", torch.zeros(self.n_targets, dtype=torch.float64))
        self.register_buffer("target_scale", torch.ones(self.n_targets, dtype=torch.float64))
        self.register_buffer("elites", torch.arange(config.elites))
        self._wrapped = [(i, d.low) for i, d in enumerate(task.observation) if d.kind == "angle" and d.low is not None]
        self.reset_parameters(0)
        self.card = self._card("")

    def reset_parameters(self, seed: int) -> None:
        """Draw initial weights."""
        generator = torch.Generator().manual_seed(seed)
        self.dynamics.reset_parameters(generator)
        for networks in self.flags.values():
            networks.reset_parameters(generator)

    @property
    def flags(self) -> dict[str, Members]:
        """The heads of what happens or not where a step leads, ``"terminated"`` and ``"success"``, as far as needed."""
        found = {"terminated": self.ends, "success": self.solves}
        return {name: networks for name, networks in found.items() if networks is not None}

    @classmethod
    def fit(
        cls,
        config: EnsembleConfig,
        dataset: Any,
        *,
        folder: Path,
        seed: int = 0,
        device: str = "cpu",
        progress: bool = True,
    ) -> Ensemble:
        """Train on a dataset's train split, with its val split held out by whole episodes; resumes in ``folder``."""
        from wmbench_baselines.ensemble.train import Training

        model = cls(config, dataset.task)
        model.card = model._card(dataset.digest)
        Training(model, dataset, folder=folder, seed=seed, device=device).run(progress=progress)
        return model.eval()

    def _card(self, trained_on: str) -> ModelCard:
        heads = {"observation", "observation_std", "reward", "uncertainty"}
        noise = "a draw from" if self.config.sample and self.config.propagation != "mean" else "the mean of"
        source = {"ts_inf": "one elite per episode", "ts_1": "one elite per step", "mean": "all elites"}
        resample = "each with its own bootstrap" if self.config.bootstrap else "without bootstrap"
        return ModelCard(
            name="ensemble",
            task_ids=(self.task.id,),
            predicts=frozenset(heads | set(self.flags)),
            inputs=f"the current observation and action; {self.config.members} networks, {resample}",
            condition="the action is concatenated to the observation, both normalised by the train split",
            consumer=f"rollouts as a simulator: {noise} {source[self.config.propagation]}; planning; MBPO",
            risk="errors compound over a rollout, first at contacts and outside the data; members can agree and err",
            sources={} if self.task.terminates else {"terminated": "card"},
            uncertainty=("disagreement", "max_aleatoric", "max_deviation"),
            n_parameters=sum(p.numel() for p in self.parameters()),
            trained_on=trained_on,
            revision="1",
        )

    def outcomes(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What all members predict, each from inputs of its own, as training needs it; differentiable.

        Args:
            inputs: (E, B, I) or (1, B, I), normalised.

        Returns:
            Mean and log-variance of the normalised targets, each (E, B, D).
        """
        mean, raw = self.dynamics(inputs).split(self.n_targets, -1)
        return mean, bound(raw, self.min_logvar, self.max_logvar)

    def features(self, observation: torch.Tensor) -> torch.Tensor:
        """What of (B, O) observations is read: every angle as its sine, and the cosines behind the rest; (B, F)."""
        if not len(self.angles):
            return observation
        turn = observation.index_select(1, self.angles)  # (B, number of angles)
        out = torch.cat([observation, torch.cos(turn)], 1)
        out[:, self.angles] = torch.sin(turn)
        return out

    def normalise(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Network inputs: (B, O) and (B, A) to (B, I)."""
        x = torch.cat([self.features(observation), action], 1)  # (B, I), fresh memory
        return x.sub_(self.input_mean).mul_(self.input_scale)

    def normalise_reached(self, observation: torch.Tensor) -> torch.Tensor:
        """Inputs of the networks that tell endings and successes: (B, O) to (B, F)."""
        n = self.n_features
        return (self.features(observation) - self.input_mean[:n]).mul_(self.input_scale[:n])

    def initial(self, start: Start, *, keys: torch.Tensor) -> State:
        """State of B episodes: the observation, the row's key, and the elite that predicts it.

        Args:
            start: Where they begin; only ``observation`` (B, O) is read.
            keys: (B,) int64.
        """
        return {"observation": start.observation, "key": keys, "member": self._draw(fold_in(keys, _MEMBER))}

    def _draw(self, keys: torch.Tensor) -> torch.Tensor:
        return self.elites[randint(keys, len(self.elites))]  # (B,)

    @torch.no_grad()
    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """Predict one step.

        Args:
            state: From :meth:`initial` or :meth:`step`.
            action: (B, A) float32.
            uncertainty: Evaluate all elites and fill in the uncertainty and ``observation_std``, which holds
                one member's predicted deviation, or under ``"mean"`` that of the elites' mixture.
        """
        keys, member = state["key"], state["member"]
        mode = self.config.propagation
        if mode == "ts_1":
            member = self._draw(fold_in(keys, _SWITCH))
        sample = self.config.sample and mode != "mean"
        x = self.normalise(state["observation"], action)
        key = fold_in(keys, _NEXT)
        network = self._networks(variance=sample or uncertainty)
        spread = std = None
        if uncertainty or mode == "mean":
            every = [whole(x, partial(network, e)) for e in self.elites.tolist()]  # K of (B, outputs)
            out = _mean(every) if mode == "mean" else self._pick(every, member)  # (B, outputs)
            if uncertainty:
                means, stds = zip(*(y.split(self.n_targets, 1) for y in every), strict=True)  # K of (B, D) each
                spread = _spread(means, stds, (self.target_scale > 0).float(), self.n_observation)
                std = _mixture_std(means, stds) if mode == "mean" else None
        else:
            out = grouped(x, member, self.config.members, network)
        targets = out[:, : self.n_targets]  # (B, D) normalised
        if mode != "mean" and (sample or uncertainty):
            std = out[:, self.n_targets :]  # (B, D)
            if sample:
                targets = normal(key, self.n_targets).mul_(std).add_(targets)
        n = self.n_observation
        scale, shift = self.target_scale[:n].float(), self.target_mean[:n].float()
        observation = (targets[:, :n] * scale).add_(shift).add_(state["observation"])  # (B, O)
        for i, low in self._wrapped:  # an angle that the task keeps within one turn
            observation[:, i] = (observation[:, i] - low) % (2 * math.pi) + low
        prediction = Prediction(
            observation=observation,
            observation_std=std[:, :n] * scale if uncertainty and std is not None else None,
            reward=(targets[:, n].double() * self.target_scale[n]).add_(self.target_mean[n]),
            terminated=self._probability(self.ends, observation, member),
            success=self._probability(self.solves, observation, member),
            uncertainty=spread,
        )
        return {"observation": observation, "key": key, "member": member}, prediction

    def _networks(self, variance: bool) -> Callable[[int, torch.Tensor], torch.Tensor]:
        """A function of a member and (N, I) inputs: means (N, D) and, if wanted, deviations (N, D) beside them.

        The variance is the exponential of what :func:`bound` gives: exp(low) + 1 / (exp(-high) + exp(-raw)).
        """
        d = self.n_targets
        layers = self.dynamics.apart(2 * d if variance else d)
        least, most = torch.exp(self.min_logvar), torch.exp(-self.max_logvar)  # (E, 1, D)

        def network(member: int, x: torch.Tensor) -> torch.Tensor:
            out = mlp(x, layers[member])
            if variance:
                raw = out[:, d : 2 * d]
                raw.copy_(torch.exp(-raw).add_(most[member]).reciprocal_().add_(least[member]).sqrt_())
            return out[:, : 2 * d if variance else d]

        return network

    def _probability(
        self, networks: Members | None, observation: torch.Tensor, member: torch.Tensor
    ) -> torch.Tensor | None:
        """Probability (B,) that the observations (B, O) that were reached are an end, or a success."""
        if networks is None:
            return None
        layers = networks.apart(1)
        x = self.normalise_reached(observation)

        def probability(e: int, x: torch.Tensor) -> torch.Tensor:
            return 1.0 / (1.0 + torch.exp(-mlp(x, layers[e])[:, :1]))  # (N, 1)

        if self.config.propagation == "mean":
            return _mean([whole(x, partial(probability, e)) for e in self.elites.tolist()])[:, 0]
        return grouped(x, member, self.config.members, probability)[:, 0]

    def _pick(self, every: list[torch.Tensor], member: torch.Tensor) -> torch.Tensor:
        """The output of each row's own member: K of (B, ...) to (B, ...)."""
        which = (self.elites[None] == member[:, None]).int().argmax(1)  # (B,)
        return torch.stack(every, 1)[torch.arange(len(member), device=member.device), which]


def softplus(x: torch.Tensor) -> torch.Tensor:
    """log(1 + exp(x)) up to x = 80, of functions whose bits do not depend on an element's place."""
    return x.clamp_max(80.0).exp().log1p()


def bound(raw: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Log-variances kept softly between learned bounds, as PETS does."""
    return low + softplus(high - softplus(high - raw) - low)


def _mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Elementwise mean, added in order."""
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total += tensor
    return total / len(tensors)


def _mixture_std(means: Sequence[torch.Tensor], stds: Sequence[torch.Tensor]) -> torch.Tensor:
    """Standard deviation of an equal mixture of Gaussians: (B, D)."""
    centre = _mean(means)
    return _mean([(m - centre) ** 2 + s**2 for m, s in zip(means, stds, strict=True)]).sqrt()


def _spread(
    means: Sequence[torch.Tensor], stds: Sequence[torch.Tensor], varies: torch.Tensor, n: int
) -> dict[str, torch.Tensor]:
    """The three signals of :class:`Ensemble`, each (B,), from K of (B, D) in normalised space.

    ``varies`` (D,) is 0 for the outputs that no network was trained on, ``n`` the number of observation dimensions.
    """
    centre = _mean(means)
    apart = [(m - centre) * varies for m in means]
    deviation = _mean([d * d for d in apart]).sqrt()  # (B, D)
    return {
        "disagreement": deviation[:, :n].sum(-1),
        "max_aleatoric": torch.stack([_norm(s * varies) for s in stds]).amax(0),
        "max_deviation": torch.stack([_norm(d) for d in apart]).amax(0),
    }


def _norm(x: torch.Tensor) -> torch.Tensor:
    """Euclidean norm of every row."""
    return (x * x).sum(-1).sqrt()
