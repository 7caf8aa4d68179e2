"""``wmbench collect``: episodes of the true simulator, stored as a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from wmbench.collecting import collect
from wmbench.worlds import read_world, world_suffix


def main(
    task: Annotated[str, tyro.conf.Positional],
    recipe: str | None = None,
    policy: tuple[str, ...] = ("random",),
    episodes: tuple[int, ...] = (20,),
    seed: int = 0,
    workers: int = 1,
    noise: tuple[float, ...] = (0.0,),
    split: tuple[float, float, float] = (0.8, 0.1, 0.1),
    action_repeat: int = 1,
    world: str = "nominal",
    observation: str = "state",
    image_size: tuple[int, ...] = (64,),
    camera: str | None = None,
    render_preset: str | None = None,
    out: Path | None = None,
    progress: bool = True,
) -> None:
    """Collect episodes of a task's true simulator into a dataset; run again, it continues or extends.

    Args:
        task: Id or short name, for example DMC-CartpoleSwingup.
        recipe: A mixture of behaviour in place of policies: mixed, random, expert, play, failures, recovery, one
            of another package, or a JSON file.
        policy: One or more registered policies or checkpoint folders.
        episodes: How many; one number for each policy, or one for all; with a recipe one number in all.
        seed: Root of all seeds.
        workers: Processes that run episodes; the result does not depend on it.
        noise: Gaussian action noise as a share of half the action range; one number for each policy, or one for all.
        split: Shares of train, val and test, by episode.
        action_repeat: Control steps for which every action is applied.
        world: Where the episodes take place: nominal, near or far (all perturbations of the task, per episode), or JSON
            such as '{"mass": 1.5, "delay": "far"}'. See `wmbench info TASK`.
        observation: Pictures to be stored beside the state: state, or for example state+rgb or state+rgb+depth.
        image_size: Pixels of each side, or height and width.
        camera: One of the task's cameras; by default its first.
        render_preset: One of the task's ways of drawing, for example fast or full; by default its first.
        out: Folder of the dataset; by default datasets/TASK, with what was asked for behind it.
        progress: Show progress.
    """
    from wmbench.registration import task_card

    card = task_card(task)
    elsewhere = read_world(world)
    asked = ("" if action_repeat == 1 else f"-x{action_repeat}") + world_suffix(elsewhere)
    asked += "".join(f"-{name}" for name in observation.split("+") if name != "state")
    folder = out or Path("datasets") / f"{card.name}{asked}"
    dataset = collect(
        card,
        folder,
        recipe=recipe,
        policy="random" if recipe and policy == ("random",) else policy,
        episodes=episodes[0] if len(episodes) == 1 else episodes,
        seed=seed,
        workers=workers,
        noise=noise[0] if len(noise) == 1 else noise,
        split=split,
        action_repeat=action_repeat,
        world=elsewhere,
        observation=observation,
        image_size=image_size[0] if len(image_size) == 1 else image_size,
        camera=camera,
        render_preset=render_preset,
        show_progress=progress,
    )
    counts = dataset.manifest["counts"]["split"]
    parts = ", ".join(f"{name} {count['episodes']}" for name, count in counts.items())
    Console().print(
        f"{folder}: {len(dataset)} episodes ({parts}), {dataset.manifest['steps']} steps, "
        f"digest {dataset.digest[:12]}\nlook at it with  wmbench inspect {folder}",
        highlight=False,
        soft_wrap=True,
    )
