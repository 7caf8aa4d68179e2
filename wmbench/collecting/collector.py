"""Collects datasets: policies act in the true simulator, episodes are stored in a fixed order."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wmbench.cards import TaskCard
from wmbench.collecting.ledger import Ledger
from wmbench.collecting.recipes import Recipe, load_recipe
from wmbench.collecting.sources import Source, intervenes, read_sources, recipe_sources
from wmbench.collecting.workers import Crew, Job, Taken, Work
from wmbench.episodes import Dataset, DatasetWriter
from wmbench.episodes.data import check_fractions, split_of
from wmbench.errors import DatasetError, RecipeError
from wmbench.frozen_sets import FrozenStarts
from wmbench.progress import progress
from wmbench.protocols import Policy
from wmbench.registration import task_card
from wmbench.views import View
from wmbench.worlds import Asked, parse_world

COMMIT_SECONDS = 10.0


def collect(
    task: TaskCard | str,
    out: Path | str,
    *,
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    policy: str | Policy | Sequence[str | Policy] = "random",
    episodes: int | Sequence[int] = 20,
    seed: int = 0,
    workers: int = 1,
    noise: float | Sequence[float] = 0.0,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    action_repeat: int | None = None,
    world: Asked = None,
    observation: str = "state",
    image_size: int | Sequence[int] = 64,
    camera: str | None = None,
    render_preset: str | None = None,
    show_progress: bool = False,
) -> Dataset:
    """Collect episodes of the true simulator, or continue where an earlier call stopped.

    The bytes on disk depend on the task, the policies, the seed and the numbers of episodes only: neither on
    the number of workers nor on interruptions. Asking for more episodes later appends them.

    Args:
        task: Card, id or short name.
        out: Folder of the dataset.
        recipe: A mixture of behaviour by registered name, as a JSON file or as plain data, in place of ``policy`` and
            ``noise``; see :mod:`wmbench.collecting.recipes`. Its sources' shares are met by largest remainder,
            episodes that are not what a source is asked for are discarded and counted, no test episode begins where
            one of another split does, and no other one begins where the task's frozen test set does.
        policy: A registered name, a checkpoint folder, an object that acts, or several of them: each is a
            source that the manifest counts. With workers, objects must be picklable, and the caller's module
            importable (``if __name__ == "__main__":`` around the call in a script).
        episodes: How many, one number per policy; in all with a recipe.
        seed: Root of all seeds.
        workers: Processes that run episodes.
        noise: Gaussian action noise, as a share of half the action range; one number per policy.
        split: Shares of train, val and test: within each source, with a recipe over the whole.
        action_repeat: Control steps per action, see :meth:`wmbench.cards.TaskCard.repeated`; None: the card's.
        world: Where the episodes take place, see :func:`wmbench.worlds.parse_world`. The manifest says which worlds
            were asked for, and every episode which one it drew; see :meth:`wmbench.episodes.Dataset.world`.
        observation: Pictures to be stored beside the state vector and the simulator's state, which always are, for
            example ``"state+rgb"``; see :meth:`wmbench.views.View.parse`. Each is a field (T + 1, H, W, C), and the
            manifest has the view with its units.
        image_size: Pixels of a side, or height and width.
        camera: One of the card's, None for its first.
        render_preset: One of the card's, None for its first.
        show_progress: Whether to show a progress line.

    Returns:
        The dataset. Where a policy can say that something else acted in its place, its episodes (and with a recipe
        all) carry the field ``intervention`` (T,) bool.

    Raises:
        DatasetError: The folder holds something else, or the plan differs from the one it was begun with.
        RecipeError: The recipe is none, or the task cannot meet it.
        WorldError: The task has no such world.
        ViewError: The task has no such pictures.
        RenderError: Pictures that cannot be drawn here; says what to install.
        WmbenchError: A policy cannot be found, or fails.
    """
    card = task_card(task) if isinstance(task, str) else task
    card = card if action_repeat is None else card.repeated(action_repeat)
    if seed < 0 or workers < 1:
        raise DatasetError(f"seed must not be negative and workers at least 1, got seed {seed} and workers {workers}")
    check_fractions(split)
    mixture = None if recipe is None else load_recipe(recipe)
    sources = _mixed(mixture, card, policy, episodes, noise) if mixture else read_sources(card, policy, episodes, noise)
    plan: dict[str, Any] = {"seed": seed}
    plan["sources"] = [{"name": s.name, "policy": s.identity, "noise": s.noise} for s in sources]
    if mixture:
        plan["recipe"] = mixture.to_json()
    elsewhere = parse_world(card, world)
    if elsewhere is not None:
        plan["world"] = elsewhere.label
    facts: dict[str, Any] = {}
    if elsewhere is not None:
        facts["world"] = {"asked": elsewhere.label, "names": elsewhere.names}
    view = View.parse(observation, image_size=image_size, camera=camera, render_preset=render_preset).of(card)
    if view.images:
        facts["view"] = view.with_units(card.action_repeat)
    flags = mixture is not None or any(intervenes(s.policy, card) for s in sources)
    work = Work(card, tuple(sources), seed, flags, world, view)
    within: Any = "dataset" if mixture else "source"
    with DatasetWriter(out, card, split=split, plan=plan, split_within=within, facts=facts) as writer:
        jobs = _jobs(writer, sources)
        ledger = Ledger(mixture, card, sources, writer, FrozenStarts(card)) if mixture else None
        total = sum(source.episodes for source in sources)
        with (
            progress(f"collect {card.name}", total, show=show_progress, done=len(writer)) as advance,
            Crew(work, min(workers, len(jobs))) as crew,
        ):
            committed = time.monotonic()
            for taken in crew.results(jobs):
                episode = _accept(taken, crew, ledger)
                writer.add(episode)
                advance(1, f"{episode.source}: return {episode.total_reward:.4g}, {len(episode)} steps")
                if time.monotonic() - committed > COMMIT_SECONDS:
                    writer.commit()
                    committed = time.monotonic()
    return Dataset(out, task=card)


def _mixed(recipe: Recipe, card: TaskCard, policy: Any, episodes: Any, noise: Any) -> list[Source]:
    """The recipe's sources; everything that a recipe decides itself must not be given."""
    if policy != "random" or noise != 0.0:
        raise RecipeError(
            f"the recipe {recipe.name!r} says itself who acts: give either a recipe or policies and noise"
        )
    if not isinstance(episodes, int) or episodes < 1:
        raise RecipeError(f"a recipe takes one number of episodes in all, at least 1, got {episodes}")
    return recipe_sources(recipe, card, episodes)


def _jobs(writer: DatasetWriter, sources: Sequence[Source]) -> list[Job]:
    """What is still to be done, in the order in which it is stored."""
    jobs = []
    position = len(writer)
    for number, source in enumerate(sources):
        if (have := writer.count(source.name)) > source.episodes:
            raise DatasetError(
                f"{writer.folder} already has {have} episodes of {source.name!r}, asked for {source.episodes}: "
                "ask for at least as many, or choose a new folder"
            )
        for index in range(have, source.episodes):
            place = index if writer.split_within == "source" else position
            jobs.append(Job(number, index, split_of(place, writer.split)))
            position += 1
    return jobs


def _accept(taken: Taken, crew: Crew, ledger: Ledger | None) -> Any:
    """The job's episode, tried again while it begins where it must not."""
    clashes: list[str] = []
    while ledger is not None:
        if taken.episode is None:
            raise ledger.unmet(taken, clashes)
        refused = ledger.refusal(taken.episode, taken.job.split)
        if refused is None:
            ledger.keep(taken, taken.episode, len(clashes))
            break
        clashes.append(refused)
        taken = crew.again(replace(taken.job, attempt=taken.attempt + 1))
    return taken.episode
