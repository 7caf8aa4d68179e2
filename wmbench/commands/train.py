"""``wmbench train NAME``: every field of the model's settings is a flag."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from wmbench.errors import WmbenchError


@dataclass(frozen=True)
class Options:
    """What every training is told.

    Attributes:
        task: Id or short name, for example DMC-CartpoleSwingup.
        dataset: Folder that `wmbench collect` wrote.
        out: Folder of the checkpoint; checkpoints/NAME-TASK by default.
        preset: A named set of settings to start from.
        seed: Of everything random in training.
        device: cpu, cuda or cuda:N.
        tensorboard: Also write the log for TensorBoard.
    """

    task: str
    dataset: Path
    out: Path | None = None
    preset: str | None = None
    seed: int = 0
    device: str = "cpu"
    tensorboard: bool = False


def main(words: list[str]) -> None:
    """Train a world model or policy on a dataset; interrupted, the same command goes on."""
    from wmbench.training import WORK, settle, train, trainable

    console = Console()
    if not words or words[0].startswith("-"):
        _usage(console)
        if words and words[0] in ("-h", "--help"):
            return
        raise WmbenchError("the first word must be what to train, for example: wmbench train ensemble --task ...")
    name, rest = words[0], words[1:]
    _, cls = trainable(name)
    base = settle(cls, None, _peek(rest, "--preset"), {})
    both: Any = tyro.conf.OmitArgPrefixes[tuple[Options, cls.Config]]  # type: ignore[misc, name-defined]
    options, config = tyro.cli(
        both,
        prog=f"wmbench train {name}",
        description=f"Train {name} on a dataset.",
        args=rest,
        default=(Options(task=tyro.MISSING, dataset=tyro.MISSING), base),
    )
    out = options.out or Path("checkpoints") / f"{name}-{options.task}"
    done = train(name, options.task, options.dataset, out, config=config, seed=options.seed, device=options.device)
    if options.tensorboard:
        _tensorboard(out / WORK / "log.jsonl", out / WORK)
    word = "already trained" if done.kept else "trained"
    console.print(f"{word}: {done.folder}", highlight=False, soft_wrap=True)
    if dataclasses.is_dataclass(done.model.config):
        console.print(
            f'gym.make("{done.model.task.id}", simulator="{done.folder}")'
            if getattr(done.model.card, "predicts", None)
            else f"wmbench evaluate {done.model.task.name} --policy {done.folder}",
            highlight=False,
            soft_wrap=True,
        )


main.takes_argv = True  # type: ignore[attr-defined]


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

    from wmbench.errors import require

    require("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, line in enumerate(log.read_text().splitlines()):
            for key, value in json.loads(line).items():
                if isinstance(value, (int, float)):
                    writer.add_scalar(key, value, step)
