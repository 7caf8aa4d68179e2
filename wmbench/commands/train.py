"""``wmbench train NAME``: every field of the model's settings is a flag."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError, WmbenchError, require
from wmbench.registration import task_card


@dataclass(frozen=True)
class Options:
    """What every training is told.

    Attributes:
        task: Id or short name, for example DMC-CartpoleSwingup. Several: one model of all of them, if it can be that.
        dataset: Folder that `wmbench collect` wrote, one for each task; without it, what can learn online acts in the
            true simulator.
        out: Folder of the checkpoint, or of one for each task; checkpoints/NAME-TASK by default.
        preset: A named set of settings to start from.
        seed: Of everything random in training.
        device: cpu, cuda or cuda:N.
        tensorboard: Also write the log for TensorBoard.
    """

    task: tuple[str, ...]
    dataset: tuple[Path, ...] = ()
    out: Path | None = None
    preset: str | None = None
    seed: int = 0
    device: str = "cpu"
    tensorboard: bool = False


def main(words: list[str]) -> None:
    """Train a world model or policy, on a dataset or online; interrupted, the same command goes on."""
    from wmbench.training import LOG, WORK, settle, train, train_several, trainable

    console = Console()
    if not words or words[0].startswith("-"):
        _usage(console)
        if words and words[0] in ("-h", "--help"):
            return
        raise WmbenchError("the first word must be what to train, for example: wmbench train ensemble --task ...")
    name, rest = words[0], words[1:]
    _, cls = trainable(name)
    asked = _parse(name, cls.Config, settle(cls, None, _peek(rest, "--preset"), {}), rest)
    if asked.tensorboard:
        require("tensorboard", "tensorboard")
    cards = [task_card(one) for one in asked.task]
    refuse_uneven(cards, asked.dataset)
    out = asked.out or Path("checkpoints") / "-".join([name, *(card.name for card in cards)])
    how: dict[str, Any] = {"config": asked.settings, "seed": asked.seed, "device": asked.device}
    if len(cards) == 1:
        each = [train(name, asked.task[0], asked.dataset[0] if asked.dataset else None, out, **how)]
    else:
        each = train_several(name, asked.dataset, out, **how)
    if asked.tensorboard:
        _tensorboard(out / WORK / LOG, out / WORK)
    for done in each:
        word = "already trained" if done.kept else "trained"
        console.print(f"{word}: {done.folder}", highlight=False, soft_wrap=True)
        if dataclasses.is_dataclass(done.model.config):
            console.print(next_line(done.model, done.folder), highlight=False, soft_wrap=True)


def refuse_uneven(cards: list[TaskCard], folders: tuple[Path, ...]) -> None:
    """Refuse tasks and datasets that do not go together.

    Raises:
        WmbenchError: There is no task, or not one dataset for each of several, or more datasets than tasks.
        DatasetError: A dataset is of another of the tasks, or unreadable.
    """
    if not cards:
        raise WmbenchError("say what to learn: --task TASK")
    if len(folders) != len(cards) and (folders or len(cards) > 1):
        raise WmbenchError(
            f"give one dataset for each task, in their order: got {len(cards)} tasks and {len(folders)} datasets"
            + ("; merge those of one task first (wmbench merge)" if len(folders) > len(cards) == 1 else "")
        )
    if len(cards) == 1:
        return
    for card, folder in zip(cards, folders, strict=True):
        if (found := Dataset(folder).task).id != card.id:
            raise DatasetError(f"{folder} is a dataset of {found.name}, where one of {card.name} should be")


def next_line(model: Any, folder: Path) -> str:
    """What makes use of a checkpoint: a line of Python for a world model, a command for what can only act."""
    card, repeat = model.task, model.task.action_repeat
    if "observation" in getattr(model.card, "predicts", ()):
        return f'gym.make("{card.id}", simulator="{folder}"' + (f", action_repeat={repeat})" if repeat > 1 else ")")
    return f"wmbench evaluate {card.name} --policy {folder}" + (f" --action-repeat {repeat}" if repeat > 1 else "")


main.takes_argv = True  # type: ignore[attr-defined]


def _parse(name: str, config: type, base: Any, words: list[str]) -> Any:
    """The options with a further field ``settings``, whose own fields are flags beside the others."""
    fields = [("settings", config, dataclasses.field(default=base))]
    options = dataclasses.make_dataclass("Options", fields, bases=(Options,), frozen=True)
    flat: Any = tyro.conf.OmitArgPrefixes
    about = f"Train {name}; interrupted, the same command goes on."
    return tyro.cli(flat[options], prog=f"wmbench train {name}", description=about, args=words)


def _peek(words: list[str], flag: str) -> str | None:
    """The value of a flag before the words are parsed: the preset decides the other flags' defaults."""
    for i, word in enumerate(words):
        if word == flag and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(flag + "="):
            return word.split("=", 1)[1]
    return None


def _usage(console: Console) -> None:
    from wmbench import registry

    both: list[tuple[str, Any]] = [*registry.world_models, *registry.policies]
    names = [name for name, cls in both if hasattr(cls, "fit")]
    console.print("wmbench train NAME --task TASK --dataset FOLDER [settings]", highlight=False)
    console.print(f"NAME is one of: {', '.join(names)}", highlight=False)
    console.print("`wmbench train NAME --help` shows its settings.", highlight=False)


def _tensorboard(log: Path, folder: Path) -> None:
    """Repeat the JSONL log's numbers for TensorBoard."""
    import json

    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, line in enumerate(log.read_text().splitlines()):
            for key, value in json.loads(line).items():
                for i, number in enumerate(value) if isinstance(value, list) else [(None, value)]:
                    if isinstance(number, (int, float)):
                        writer.add_scalar(key if i is None else f"{key}/{i}", number, step)
