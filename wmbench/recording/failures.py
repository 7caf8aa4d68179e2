"""Records why episodes failed: the same ones in the true and in learned simulators, read by the same predicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import EpisodeData
from wmbench.errors import DatasetError
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Policy, State
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.store import Recording
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds

Roll = Callable[[str, str | None, Sequence[int]], list[EpisodeData]]

GENERIC = ("ends early", "runs out of time", "loses progress", "actions saturate")
SATURATED = 0.5
"""Share of action components at an end of their range from which on actions saturate."""

EPISODES = 12
"""Starts of a full measurement: those of success and agreement, so that their episodes are run once."""


def record_failures(
    task: TaskCard,
    policies: Mapping[str, Policy],
    simulators: Mapping[str, str],
    *,
    mode: Literal["policy", "actions"] = "policy",
    episodes: int = 32,
    seed: int = 0,
    roll: Roll | None = None,
    num_envs: int = 64,
    device: str = "cpu",
) -> Recording:
    """Run the same episodes in the true and in every learned simulator and look for causes of failure in all of them.

    Any task has the causes ``ends early`` (the task ends before the time limit), ``runs out of time`` (the time limit
    comes first), ``loses progress`` (the mean reward of the last quarter lies below that of the best quarter before by
    more than the standard deviation of rewards in the true episodes) and ``actions saturate`` (half of all action
    components or more are at an end of their range). Others are in the task's card. Whether an episode failed is
    decided by the card's success rule.

    Args:
        task: The task.
        policies: Name to policy.
        simulators: Name to what ``gym.make(task.id, simulator=...)`` takes.
        mode: ``"policy"``: the policy acts on what it sees in each simulator. ``"actions"``: the true episode's
            actions are replayed, its last one to the end if imagination goes on.
        episodes: How many starts.
        seed: Root seed of the starts.
        roll: Gives episodes of (policy, simulator, seeds), None being the true simulator, in place of a rollout.
        num_envs: Episodes side by side.
        device: Where learned simulators run.

    Raises:
        DatasetError: Nothing to run, an unknown mode, or not one valid true episode.
    """
    if not policies or not simulators or episodes < 1:
        raise DatasetError(f"{task.id}: explaining failures needs policies, learned simulators and episodes")
    if mode not in ("policy", "actions"):
        raise DatasetError(f"{task.id}: mode must be 'policy' or 'actions', got {mode!r}")

    def plain(who: Policy, where: str | None, seeds: Sequence[int]) -> list[EpisodeData]:
        kwargs: dict[str, Any] = {} if where is None else {"device": device}
        return rollout(task, who, seeds, simulator=where, num_envs=num_envs, on_error="record", **kwargs)

    if roll is None:

        def roll(name: str, where: str | None, seeds: Sequence[int]) -> list[EpisodeData]:
            return plain(policies[name], None if where is None else simulators[where], seeds)

    seeds = episode_seeds(seed, task.id, "eval", episodes)
    true = [roll(name, None, seeds) for name in policies]
    rewards = np.concatenate([e.reward for row in true for e in row if e.invalid is None] or [np.zeros(0)])
    if not len(rewards):
        raise DatasetError(f"{task.id}: no episode in the true simulator is valid: {true[0][0].invalid}")
    scale = float(rewards.std())
    predicted = []
    for where, reference in simulators.items():
        if mode == "policy":
            predicted.append([roll(name, where, seeds) for name in policies])
        else:
            predicted.append([plain(Replay(task, seeds, row), reference, seeds) for row in true])
    causes = (*GENERIC, *task.causes)
    shape = (len(simulators), len(policies), episodes)
    arrays = {
        "subject": np.array(list(simulators)),
        "role": np.array(["model"] * len(simulators)),
        "policy": np.array(list(policies)),
        "cause": np.array(causes),
        "seed": np.array(seeds, dtype=np.int64),
        "reward_std": np.array(scale),
    }
    for name, found in (("true", [true]), ("predicted", predicted)):
        every = [e for model in found for row in model for e in row]
        places = shape if name == "predicted" else shape[1:]
        seen = np.array([[read_cause(task, c, e, scale) for c in causes] for e in every], dtype=bool)
        arrays[name] = seen.reshape(*places, len(causes))
        arrays[f"{name}_failed"] = np.array([not e.succeeded(task) for e in every]).reshape(places)
        arrays[f"{name}_valid"] = np.array([_valid(e) for e in every]).reshape(places)
    return Recording("failures", arrays, {"task": task.id, "seed": seed, "mode": mode, "device": device})


def read_cause(task: TaskCard, cause: str, episode: EpisodeData, scale: float) -> bool:
    """Whether an episode shows a cause; an invalid one shows none.

    Args:
        task: The task.
        cause: One of :data:`GENERIC` or of the card's.
        episode: True or imagined.
        scale: Standard deviation of the rewards of true episodes.

    Raises:
        KeyError: The card has no such cause.
    """
    if not _valid(episode) or not len(episode):
        return False
    if cause == "ends early":
        return bool(episode.terminated[-1]) and len(episode) < task.horizon
    if cause == "runs out of time":
        return not episode.terminated[-1] and len(episode) >= task.horizon
    if cause == "loses progress":
        quarters = [float(part.mean()) for part in np.array_split(episode.reward, 4) if len(part)]
        return len(quarters) == 4 and quarters[3] < max(quarters[:3]) - scale
    if cause == "actions saturate":
        low, high = task.action_bounds()
        edge = 1e-6 * (high - low)
        return bool(((episode.action <= low + edge) | (episode.action >= high - edge)).mean() >= SATURATED)
    return task.shows(cause, episode.observation[1:])


class Replay:
    """A policy that repeats recorded actions: which step of which episode it is, it knows from its keys."""

    def __init__(self, task: TaskCard, seeds: Sequence[int], episodes: Sequence[EpisodeData]) -> None:
        """Remember the actions of every episode; after the last one it goes on with that."""
        low, high = task.action_bounds()
        self._actions: dict[int, np.ndarray] = {}
        self._shape = low.shape
        steps = np.arange(task.horizon, dtype=np.int64)
        for key, episode in zip(keys_from_seeds(seeds), episodes, strict=True):
            taken = episode.action if len(episode) else ((low + high) / 2)[None]
            at = np.minimum(steps, len(taken) - 1)
            own = fold_in(np.full(len(steps), key, dtype=np.int64), steps)
            self._actions |= dict(zip(own.tolist(), taken[at], strict=True))

    def initial(self, batch_size: int) -> State:
        """No memory."""
        return None

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """The recorded actions (B, A) of these keys' steps; the observation is ignored."""
        return np.stack([self._actions[k] for k in keys.tolist()]).astype(np.float32), None


def _valid(episode: EpisodeData) -> bool:
    """Whether something can be read off an episode."""
    return episode.invalid is None and not episode.diverged


def _record(subjects: Subjects, **options: Any) -> Recording:
    own = {"seed": subjects.seed, "device": subjects.device, "roll": subjects.episodes, "episodes": EPISODES}
    return record_failures(subjects.task, subjects.policies, subjects.simulators, **{**own, **options})


RECORDER = Recorder("failures", _record, policies=1)
