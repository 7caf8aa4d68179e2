"""What a transfer refuses before anything runs: models and policies that do not fit the task, or are not as frozen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from wmbench import checkpoints
from wmbench.cards import ModelCard, TaskCard
from wmbench.episodes.storage import file_hash
from wmbench.errors import CheckpointError, WmbenchError
from wmbench.measuring.everything import plain_reference, read_policy
from wmbench.protocols import Policy
from wmbench.views import wanted_by
from wmbench.zoo import Member, Zoo


@dataclass(frozen=True)
class Fitting:
    """A learned simulator that can stand in for the task's.

    Attributes:
        reference: Shipped name or checkpoint folder.
        identity: SHA-256 of what it consists of: settings, card and weights.
        doubts: Whether it says how sure it is.
        start: (1, O) float32, how an episode begins in it.
    """

    reference: str
    identity: str
    doubts: bool
    start: np.ndarray


def fitting_model(reference: str, card: TaskCard, *, device: str = "cpu", seed: int = 0) -> Fitting:
    """Make one environment of a learned simulator, which refuses everything that does not fit, and begin an episode.

    Args:
        reference: Shipped name or checkpoint folder.
        card: The task.
        device: Torch device.
        seed: Of the episode.

    Raises:
        CheckpointError: It cannot be read, or was made for another task; both are named.
        MissingHeadError: It lacks a prediction that the task needs.
        DeviceError: The device cannot be used here.
    """
    env: Any = gym.make(card.id, simulator=reference, init="true", device=device, **card.options())
    try:
        start, _ = env.reset(seed=seed)
        model = env.unwrapped.model
        return Fitting(reference, _identity(model), "uncertainty" in model.card.predicts, start[None])
    finally:
        env.close()


def _identity(model: Any) -> str:
    """SHA-256 of a world model's class, settings, card and weights."""
    card = model.card.to_json() if isinstance(model.card, ModelCard) else str(model.card)
    settings = checkpoints.plain(model.config) if hasattr(model, "config") else {}
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    text = json.dumps([kind, settings, card], sort_keys=True)
    weights = checkpoints.digest(model) if hasattr(model, "state_dict") else ""
    return hashlib.sha256((text + weights).encode()).hexdigest()


def fitting_policies(zoo: Zoo, start: np.ndarray, *, device: str = "cpu") -> list[Policy]:
    """The policies of a zoo, each checked against the task and against what was frozen.

    Args:
        zoo: The zoo.
        start: (1, O) float32, an observation that an episode begins with.
        device: Torch device.

    Raises:
        CheckpointError: One cannot be read, was made for another task, acts in another space, or has other weights
            than when its truth was found; the two that differ are named.
    """
    found = []
    for member in zoo.members:
        try:
            policy = read_policy(member.reference, zoo.task, device=device)
            weights = weights_of(member, zoo.task)
        except WmbenchError as error:
            raise CheckpointError(f"the zoo's {member.name!r}: {error}") from error
        check_fits(policy, zoo.task, start, name=f"the zoo's {member.name!r}")
        if weights != member.weights:
            raise CheckpointError(
                f"the zoo's {member.name!r} has weights {weights[:12] or 'none'}, its true results were found with "
                f"{member.weights[:12] or 'none'}: restore them, or make the zoo anew"
            )
        found.append(policy)
    return found


def check_fits(policy: Policy, card: TaskCard, start: np.ndarray, *, name: str) -> None:
    """Refuse a policy of other spaces than the task's. One that fails is left to lose its episodes.

    Args:
        policy: The policy.
        card: The task.
        start: (1, O) float32, an observation that an episode begins with.
        name: What errors call the policy.

    Raises:
        CheckpointError: It acts on pictures, or in another number of dimensions; the two numbers are named.
    """
    if (wanted := wanted_by(policy)).images:
        raise CheckpointError(
            f"{name} acts on {wanted.observation!r}, but the policies of a zoo act on the state of {card.id}"
        )
    own = getattr(getattr(policy, "policy", policy), "task", card)  # of the policy that noise is added to
    if own.id != card.id:
        raise CheckpointError(
            f"{name} is a policy for {own.id} ({len(own.observation)} observations, {len(own.action)} actions), "
            f"asked for {card.id} ({len(card.observation)} observations, {len(card.action)} actions)"
        )
    try:
        action, _ = policy.act(start, policy.initial(1), keys=np.zeros(1, dtype=np.int64))
    except Exception:  # whatever it is, it shows in the episodes
        return
    shape = np.shape(action)
    if shape != (1, len(card.action)):
        raise CheckpointError(
            f"{name} gives actions of shape {shape[1:]} for observations of shape {start.shape[1:]}, but {card.id} "
            f"takes actions of shape {(len(card.action),)}"
        )


def weights_of(member: Member, task: TaskCard) -> str:
    """SHA-256 of the weights behind a member, ``""`` if it has none."""
    folder = checkpoints.find(plain_reference(member.reference), task, kind="policy")
    return "" if folder is None else file_hash(folder / checkpoints.WEIGHTS)
