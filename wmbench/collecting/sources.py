"""Who acts in a dataset: policies by name or as objects, each with what must stay the same to continue."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wmbench import registry
from wmbench.cards import TaskCard
from wmbench.collecting.recipes import Recipe
from wmbench.episodes import EpisodeData
from wmbench.episodes.storage import file_hash
from wmbench.errors import DatasetError
from wmbench.keys import fold_in, normal
from wmbench.protocols import Intervened, Policy, State

PER_SOURCE = 1_000_000
"""Seeds set aside for each source of a plan, so that a source may grow without moving the others."""

NOISE = 0x6E6F6973
"""Label of the random numbers of action noise."""


class NoisyPolicy:
    """Another policy's actions plus independent Gaussian noise, clipped to the task's bounds."""

    def __init__(self, policy: Policy, task: TaskCard, noise: float) -> None:
        """Wrap a policy.

        Args:
            policy: Who chooses the actions.
            task: For the bounds.
            noise: Standard deviation as a share of half the width of each dimension's range.

        Raises:
            ValueError: Negative noise.
        """
        if not noise >= 0:
            raise ValueError(f"action noise must not be negative, got {noise}")
        self.policy = policy
        self.low, self.high = task.action_bounds()
        self.scale = np.float32(noise) * (self.high - self.low) / 2
        if isinstance(policy, Intervened):
            self.interventions = policy.interventions

    def initial(self, batch_size: int) -> State:
        """State of the policy inside."""
        return self.policy.initial(batch_size)

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """The policy's actions (B, A) with noise drawn from the rows' keys, and its next state."""
        action, state = self.policy.act(observation, state, keys=keys)
        noise = normal(fold_in(keys, NOISE), len(self.scale))  # (B, A)
        return np.clip(action + self.scale * noise, self.low, self.high).astype(np.float32), state


@dataclass(frozen=True)
class Source:
    """One kind of behaviour in a plan.

    Attributes:
        policy: Who acts: a reference, or an object.
        name: What its episodes carry.
        identity: What must stay the same for a dataset to be continued.
        episodes: How many.
        noise: Gaussian action noise, as a share of half the action range.
        config: Settings of a registered policy.
        kind: What its episodes must be, one of :data:`wmbench.collecting.recipes.KINDS`.
        tries: How many are run at most for one that is kept.
    """

    policy: Any
    name: str
    identity: str
    episodes: int
    noise: float
    config: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "any"
    tries: int = 1

    def make(self, card: TaskCard) -> Policy:
        """The policy that acts on a task.

        Raises:
            CheckpointError: There is none.
        """
        policy = self.policy
        if isinstance(policy, (str, Path)):
            from wmbench.evaluating import make_policy

            policy = make_policy(str(policy), card, config=self.config)
        return NoisyPolicy(policy, card, self.noise) if self.noise else policy


def recipe_sources(recipe: Recipe, card: TaskCard, episodes: int) -> list[Source]:
    """A recipe's sources on a task, with the numbers of episodes that meet its shares.

    Raises:
        RecipeError: The task lacks a policy, or there are too few episodes.
    """
    counts = recipe.counts(episodes)
    found = zip(recipe.sources, recipe.chosen(card), counts, strict=True)
    return [
        Source(
            policy=who.policy,
            name=who.name,
            identity=_identify(who.policy, card)[1],
            episodes=count,
            noise=who.noise,
            config=who.config,
            kind=source.kind,
            tries=recipe.tries,
        )
        for source, who, count in found
    ]


def intervenes(policy: Any, card: TaskCard) -> bool:
    """Whether a policy, or what a reference names, can say when something else acted in its place."""
    if not isinstance(policy, (str, Path)):
        return hasattr(policy, "interventions")
    from wmbench import checkpoints

    folder = checkpoints.find(str(policy), card, kind="policy")
    name = str(policy) if folder is None else checkpoints.read_config(folder)["name"]
    return hasattr(registry.policies.load(name), "interventions")


def interventions(policy: Any, episode: EpisodeData) -> np.ndarray:
    """Where something else acted in an episode: (T,) bool, nowhere for a policy that knows of nothing."""
    if not hasattr(policy, "interventions"):
        return np.zeros(len(episode), dtype=bool)
    return np.asarray(policy.interventions([episode.seed], len(episode))[0], dtype=bool)


def read_sources(card: TaskCard, policy: Any, episodes: Any, noise: Any) -> list[Source]:
    """The plan's sources, named, with one number of episodes and one noise level each."""
    several = isinstance(policy, Sequence) and not isinstance(policy, str)
    policies = list(policy) if several else [policy]
    counts = _each(episodes, len(policies), "episodes")
    noises = _each(noise, len(policies), "noise")
    sources = []
    for reference, count, level in zip(policies, counts, noises, strict=True):
        if count < 1 or count > PER_SOURCE:
            raise DatasetError(f"episodes must lie between 1 and {PER_SOURCE} per policy, got {count}")
        if not 0 <= level < math.inf:
            raise DatasetError(f"action noise must be a number that is not negative, got {level}")
        name, identity = _identify(reference, card)
        name += f"+noise{level:g}" if level else ""
        sources.append(Source(reference, name, identity, int(count), float(level)))
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise DatasetError(f"two policies would both be the source {max(names, key=names.count)!r}: name each once")
    return sources


def _each(value: Any, n: int, what: str) -> list[Any]:
    values = list(value) if isinstance(value, Sequence) else [value] * n
    if len(values) != n:
        raise DatasetError(f"{len(values)} values of {what} for {n} policies: give one each, or one for all")
    return values


def _identify(reference: Any, card: TaskCard) -> tuple[str, str]:
    """A policy's name as a source, and what must stay the same for a dataset to be continued."""
    if not isinstance(reference, (str, Path)):
        return _describe(reference)
    from wmbench import checkpoints

    folder = checkpoints.find(str(reference), card, kind="policy")
    if folder is None:
        return str(reference), f"policy {reference}"
    config = checkpoints.read_config(folder)
    weights = file_hash(folder / checkpoints.WEIGHTS)
    shipped = folder != Path(reference)  # its name says which one it is; a folder's name does not
    return str(reference) if shipped else f"{config['name']}-{weights[:8]}", f"checkpoint {config['name']} {weights}"


def _describe(policy: Any) -> tuple[str, str]:
    """The same for an object: its card's or class's name, with the settings that differ from their defaults."""
    card = getattr(policy, "card", None)
    name = card["name"] if isinstance(card, Mapping) else type(policy).__name__
    config = getattr(policy, "config", None)
    if not is_dataclass(config) or isinstance(config, type):
        return name, f"object {name}"
    changed = [f for f in fields(config) if getattr(config, f.name) != f.default]
    settings = ",".join(f"{f.name}={getattr(config, f.name)}" for f in changed)
    return f"{name}({settings})" if settings else name, f"object {name} {json.dumps(asdict(config), sort_keys=True)}"
