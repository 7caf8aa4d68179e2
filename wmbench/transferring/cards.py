"""A card for every policy of a zoo: what it is, where it comes from, and what it truly earns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wmbench import checkpoints
from wmbench.cards import TaskCard
from wmbench.measures.agreement import NEAR
from wmbench.measuring.everything import plain_reference
from wmbench.statistics.comparison import t_interval
from wmbench.statistics.intervals import wilson
from wmbench.zoo import Member, Zoo


@dataclass(frozen=True)
class PolicyCard:
    """One policy of a zoo.

    Attributes:
        name: Its name there.
        reference: What to give to ``--policy`` or ``gym.make``'s users: a registered name, a shipped checkpoint or a
            folder, with ``+noise0.3`` if its actions are disturbed.
        algorithm: How it came about.
        steps: Environment steps, or for BC transitions, that it learned from; None if it learned nothing.
        note: A sentence about it.
        weights: SHA-256 of its weights, ``""`` if it has none.
        episodes: Frozen true episodes.
        returns: Their mean return.
        returns_interval: Its 95 % interval, Student's; None with one episode.
        success: Share of them that succeed, in [0, 1].
        success_interval: Its 95 % interval, Wilson's.
        length: Their mean number of steps.
        ties: Other policies that its frozen episodes cannot be told from: on the same starts, the 95 % interval of the
            mean difference of returns holds zero.
        near: Other policies whose mean is within :data:`NEAR` of the range of the zoo's, as agreement counts them.
    """

    name: str
    reference: str
    algorithm: str
    steps: int | None
    note: str
    weights: str
    episodes: int
    returns: float
    returns_interval: tuple[float, float] | None
    success: float
    success_interval: tuple[float, float]
    length: float
    ties: tuple[str, ...]
    near: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def policy_cards(zoo: Zoo) -> list[PolicyCard]:
    """A card for every member, the best first.

    Raises:
        CheckpointError: A member's checkpoint cannot be read.
    """
    final, solved = zoo.returns[-1], zoo.success[-1]  # (K, E)
    gap = np.abs(final.mean(1)[:, None] - final.mean(1))  # (K, K)
    close = NEAR * gap.max()
    cards = []
    for k in np.argsort(-final.mean(1), kind="stable").tolist():
        member, interval = zoo.members[k], t_interval(final[k])
        solved_between = wilson(int(solved[k].sum()), final.shape[1])
        cards.append(
            PolicyCard(
                name=member.name,
                reference=member.reference,
                algorithm=member.algorithm,
                steps=_steps(member, zoo.task),
                note=member.note,
                weights=member.weights,
                episodes=final.shape[1],
                returns=float(final[k].mean()),
                returns_interval=None if interval is None else (interval.low, interval.high),
                success=float(solved[k].mean()),
                success_interval=(solved_between.low, solved_between.high),
                length=float(zoo.length[k].mean()),
                ties=tuple(o.name for j, o in enumerate(zoo.members) if j != k and _tied(final[k], final[j])),
                near=tuple(o.name for j, o in enumerate(zoo.members) if j != k and gap[k, j] <= close),
            )
        )
    return cards


def member_of(reference: str, card: TaskCard) -> Member:
    """A member of a zoo of one's own, by what the suite calls it.

    Args:
        reference: Registered name, shipped checkpoint or folder, with ``+noise0.3`` if its actions are disturbed.
        card: The task.

    Raises:
        CheckpointError: It names nothing for this task.
    """
    plain = plain_reference(reference)
    folder = checkpoints.find(plain, card, kind="policy")
    name = Path(plain).name + reference[len(plain) :]
    if folder is None:
        return Member(name, reference, plain, "needs no training")
    config = checkpoints.read_config(folder)
    algorithm = str(config["provenance"].get("algorithm", config["name"])).split(",")[0]
    where = str(folder.resolve()) + reference[len(plain) :] if Path(plain).exists() else reference
    return Member(name, where, algorithm, f"of {plain}")


def _tied(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether (E,) returns from the same starts do not tell two policies apart."""
    interval = t_interval(first - second)
    return interval is not None and interval.low <= 0.0 <= interval.high


def _steps(member: Member, task: TaskCard) -> int | None:
    """What the checkpoint behind a member says that it learned from."""
    folder = checkpoints.find(plain_reference(member.reference), task, kind="policy")
    if folder is None:
        return None
    config = checkpoints.read_config(folder)
    steps = config["provenance"].get("step", config["card"].get("transitions"))
    return None if steps is None else int(steps)
