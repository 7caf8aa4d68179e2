"""Keeps account of a recipe: what was asked for, kept and discarded, for the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wmbench.cards import TaskCard
from wmbench.collecting.recipes import Recipe, advice
from wmbench.collecting.sources import Source
from wmbench.collecting.workers import Taken
from wmbench.episodes import DatasetWriter, EpisodeData
from wmbench.errors import RecipeError


class Ledger:
    """The account of one dataset, and who may begin where.

    Attributes:
        account: Plain data: by source the share, kind, episodes asked for and kept, steps, successes, episodes run
            (``tried``) and ``discarded`` because of their ``outcome`` or their ``start``; by kind the sums; the frozen
            test set whose starts are left out; and whether everything asked for is there.
    """

    def __init__(
        self, recipe: Recipe, card: TaskCard, sources: Sequence[Source], writer: DatasetWriter, frozen: Any
    ) -> None:
        """Begin, or go on where the writer's manifest stands.

        Args:
            recipe: What is to be met.
            card: The task.
            sources: The recipe's, on this task.
            writer: Of the dataset.
            frozen: :class:`wmbench.frozen_sets.FrozenStarts` of the task.
        """
        self.recipe, self.card, self.sources, self.writer, self.frozen = recipe, card, sources, writer, frozen
        before = (writer.recipe or {}).get("sources", {})
        self.account: dict[str, Any] = {
            "name": recipe.name,
            "description": recipe.description,
            "sources": {
                source.name: {
                    "share": ingredient.share,
                    "kind": source.kind,
                    "asked": source.episodes,
                    "episodes": 0,
                    "steps": 0,
                    "successes": 0,
                    "tried": 0,
                    "discarded": {"outcome": 0, "start": 0},
                }
                for ingredient, source in zip(recipe.sources, sources, strict=True)
            },
        }
        for name, entry in before.items():
            own = self.account["sources"][name]
            own.update({key: entry[key] for key in ("episodes", "steps", "successes", "tried")})
            own["discarded"] = dict(entry["discarded"])
        self._publish()

    def refusal(self, episode: EpisodeData, split: str) -> str | None:
        """Why an episode must not begin where it does; None if it may."""
        if split != "test" and self.frozen.holds(episode.observation, episode.state):
            return "the frozen test set"
        if other := self.writer.starts.clash(episode.observation, episode.state, split):
            return f"the {other} split"
        return None

    def keep(self, taken: Taken, episode: EpisodeData, starts: int) -> None:
        """Note an episode that is about to be stored, after so many tries that began where they must not."""
        entry = self.account["sources"][episode.source]
        entry["episodes"] += 1
        entry["steps"] += len(episode)
        entry["successes"] += episode.succeeded(self.card)
        entry["tried"] += taken.attempt + 1
        entry["discarded"]["start"] += starts
        entry["discarded"]["outcome"] += taken.attempt - starts
        self._publish()

    def unmet(self, taken: Taken, clashes: list[str]) -> RecipeError:
        """The error for a job whose tries are over."""
        source = self.sources[taken.job.source]
        entry = self.account["sources"][source.name]
        own, where = f"the recipe {self.recipe.name!r} cannot be met on {self.card.id}", f"source {source.name!r}"
        sofar = f"{entry['episodes']} of {entry['asked']} were found in {entry['tried']} tries before"
        if clashes:
            return RecipeError(
                f"{own}: {where} found no new start for the {taken.job.split} split in {taken.attempt} tries, "
                f"{len(clashes)} began where {clashes[-1]} does ({sofar}). The task's resets draw from few starts, "
                f"{self.writer.starts.to_json()['distinct']['observation']} so far: collect without a test split "
                "(--split 0.9 0.1 0)"
            )
        return RecipeError(
            f"{own}: {where} gave no episode of kind {source.kind!r} in {taken.attempt} tries ({sofar}). "
            f"{advice(self.card)}; a recipe of your own may allow more tries, or another policy"
        )

    def _publish(self) -> None:
        """Let the writer's next manifest say how things stand."""
        entries = list(self.account["sources"].values())
        kinds = {entry["kind"]: {"asked": 0, "episodes": 0, "steps": 0} for entry in entries}
        for entry in entries:
            for key in ("asked", "episodes", "steps"):
                kinds[entry["kind"]][key] += entry[key]
        self.account["kinds"] = kinds
        self.account["frozen"] = self.frozen.to_json()
        self.account["complete"] = all(entry["episodes"] == entry["asked"] for entry in entries)
        self.writer.recipe = self.account
