"""What is put under measure, and the functions that record something about it, found through entry points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, EpisodeData
from wmbench.protocols import Policy, WorldModel
from wmbench.recording.store import Recording
from wmbench.rollout import rollout

ROWS = 64
"""Episodes that run side by side; results do not depend on it."""


@dataclass(frozen=True)
class Subjects:
    """What a recorder may ask.

    Attributes:
        dataset: Real data of the task: the test split is scored, the train split gives scales and baselines.
        models: Name to world model, loaded.
        simulators: The same names to what ``gym.make(id, simulator=...)`` takes.
        policies: Name to policy, in the order in which they are shown.
        expert: Name of the policy that stands for good behaviour, or None.
        seed: Root of every random choice.
        device: Where the models live.
        identity: What models and policies are, as plain data that differs whenever they do; without it a recording
            of them is never taken for one that is already there.
    """

    dataset: Dataset
    models: Mapping[str, WorldModel]
    simulators: Mapping[str, str]
    policies: Mapping[str, Policy] = field(default_factory=dict)
    expert: str | None = None
    seed: int = 0
    device: str = "cpu"
    identity: Mapping[str, Any] = field(default_factory=dict)
    _kept: dict[Any, list[EpisodeData]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def task(self) -> TaskCard:
        """The dataset's task."""
        return self.dataset.task

    def episodes(self, policy: str, simulator: str | None, seeds: Sequence[int]) -> list[EpisodeData]:
        """Episodes of a policy, from memory if it has faced these starts before: several recordings want the same.

        Args:
            policy: Its name.
            simulator: A model's name; None is the true simulator.
            seeds: One per episode.

        Returns:
            One per seed; those in which policy or simulator failed say so.
        """
        key = (policy, simulator, tuple(seeds))
        if key not in self._kept:
            where = None if simulator is None else self.simulators[simulator]
            actor, rows = self.policies[policy], min(len(seeds), ROWS)
            self._kept[key] = rollout(
                self.task, actor, seeds, simulator=where, num_envs=rows, device=self.device, on_error="record"
            )
        return self._kept[key]


@dataclass(frozen=True)
class Recorder:
    """How one recording is made, at the sizes of a full measurement.

    Attributes:
        name: Name of the recording, the same as that of its main measure.
        function: Subjects and options that replace its own to a recording.
        policies: How many policies it needs at least; with fewer it is left out, with a note.
        full: Whether a full measurement includes it; what takes minutes or wants the machine to itself does not.
        anywhere: Whether a dataset of another world will do, because nothing runs in the true simulator, which here is
            that of the nominal world.
    """

    name: str
    function: Callable[..., Recording]
    policies: int = 0
    full: bool = True
    anywhere: bool = False

    def __call__(self, subjects: Subjects, **options: Any) -> Recording:
        """Record."""
        return self.function(subjects, **options)

    def why_not(self, subjects: Subjects) -> str | None:
        """Why it cannot record these subjects; None if it can."""
        if len(subjects.policies) < self.policies:
            return f"{self.name} needs {self.policies} policies or more, there are {len(subjects.policies)}"
        if not self.anywhere and (world := subjects.dataset.manifest.get("world")):
            return (
                f"{self.name} runs the true simulator of the nominal world, but {subjects.dataset.folder} was recorded "
                f"in the world {world['asked']!r}"
            )
        return None
