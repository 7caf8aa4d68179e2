"""Makes the shipped zoos: chooses among trained snapshots, adds what needs no training, and freezes the true results.

Example:
    python baselines/scripts/make_zoo.py DMC-CartpoleSwingup --work runs/zoo

`train_zoo.py` trains the snapshots. An interrupted call goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from train_zoo import STEPS

from wmbench import checkpoints, task_card
from wmbench.cards import TaskCard
from wmbench.errors import WmbenchError
from wmbench.files import write_json
from wmbench.registration import shipped_checkpoints
from wmbench.transferring import freeze_zoo
from wmbench.zoo import Member, Zoo
from wmbench_baselines.experts.expert import SCRIPTED
from wmbench_baselines.shipped import CHECKPOINTS, ZOOS

UNTRAINED = {
    "random": ("random", "random", "uniform in the action box"),
    "expert": ("expert", "scripted", "the task's expert"),
    "expert-noisy": ("expert+noise0.3", "scripted", "the expert with noise of 0.3 half widths of the action box"),
    "expert-shaky": ("expert+noise0.6", "scripted", "the expert with noise of 0.6 half widths of the action box"),
    "early-stop": ("early-stop", "scripted", "the expert for half of the episode, then no action"),
}
"""Name to reference, algorithm and note; left out where the task has no expert, or has it already as its actor."""
MORE = {"expert-slight": 0.15, "expert-wild": 1.0}
"""Name to noise, where no actor is shipped that would stand between the expert and the snapshots."""
DEGRADED = {"actor-noisy": 0.3, "actor-shaky": 0.6}
"""Name to noise, in half widths of the action box, of the shipped actor where there is one."""


def main(
    tasks: Annotated[tuple[str, ...], tyro.conf.Positional],
    work: Path = Path("runs/zoo"),
    episodes: int = 200,
    seed: int = 0,
) -> None:
    """Make the zoos of some tasks.

    Args:
        tasks: Names.
        work: Where `train_zoo.py` put the snapshots.
        episodes: Of each policy in the true simulator.
        seed: Root of the episodes' seeds, and the trainings' seed.
    """
    for name in tasks:
        card = task_card(name)
        members = [*untrained(card), *cloned(card, work / name, seed), *trained(card, work / name, seed)]
        command = f"python baselines/scripts/make_zoo.py {name} --episodes {episodes} --seed {seed}"
        out = ZOOS / f"{card.id.removeprefix('wmbench/')}.json"
        zoo = freeze_zoo(card, members, out, episodes=episodes, seed=seed, work=work / name / "truth", command=command)
        write_histories(zoo)
        for member, returns, success in zip(zoo.members, zoo.returns[-1], zoo.success[-1], strict=True):
            Console().print(
                f"{member.name:>14} {returns.mean():10.2f} {100 * success.mean():6.1f} %  {member.note}",
                highlight=False,
            )
    Console().print("now bring docs/zoo.md up to date: python docs/scripts/write_zoo_page.py", highlight=False)


def untrained(card: TaskCard) -> list[Member]:
    """Policies that are there without training for the zoo, the shipped actors among them; none of them twice."""
    members = []
    doubled = card.id not in SCRIPTED  # nothing is scripted: the expert is the shipped actor, who comes below
    for name, (reference, algorithm, note) in UNTRAINED.items():
        if doubled and reference.split("+")[0] == "expert":
            continue
        if _exists(reference.split("+")[0], card):
            members.append(Member(name, reference, algorithm, note))
    for name in ("actor", "actor-medium"):
        if (folder := shipped_checkpoints().get((name, card.id))) is not None:
            provenance = checkpoints.read_config(folder)["provenance"]
            note = f"shipped, trained for {provenance['step']} steps"
            members.append(Member(name, name, provenance["algorithm"].split(",")[0], note))
            if name == "actor":
                for worse, noise in DEGRADED.items():
                    members.append(Member(worse, f"actor+noise{noise}", members[-1].algorithm, f"actor, noise {noise}"))
    names = [member.name for member in members]
    if "expert" in names and "actor" not in names:
        for name, noise in MORE.items():
            members.append(Member(name, f"expert+noise{noise}", "scripted", f"the expert with noise of {noise}"))
    return members


def _exists(reference: str, card: TaskCard) -> bool:
    try:
        checkpoints.resolve(reference, card, kind="policy")
    except WmbenchError:
        return False
    return True


def cloned(card: TaskCard, folder: Path, seed: int) -> list[Member]:
    """Behaviour cloning on a few and on more demonstrations, copied to where shipped checkpoints lie."""
    members = []
    for unit in sorted(folder.glob(f"bc*-{seed}"), key=lambda path: len(path.name)):
        if not (unit / checkpoints.CONFIG).exists():
            continue
        name = unit.name.removesuffix(f"-{seed}")
        ship(unit, name, card)
        note = f"behaviour cloning on {name.removeprefix('bc')} demonstrations"
        members.append(Member(name, name, "BC", note))
    shipped_checkpoints.cache_clear()  # they have just become more
    return members


def ship(source: Path, name: str, card: TaskCard) -> None:
    """Copy a checkpoint to where shipped ones lie."""
    target = CHECKPOINTS / name / card.id.removeprefix("wmbench/")
    target.mkdir(parents=True, exist_ok=True)
    for file in (checkpoints.CONFIG, checkpoints.WEIGHTS):
        shutil.copy(source / file, target)


def trained(card: TaskCard, folder: Path, seed: int) -> list[Member]:
    """Snapshots chosen from every training, copied to where shipped checkpoints lie."""
    members = []
    for unit in sorted(folder.glob(f"*-{seed}")):
        if not (unit / "curve.jsonl").exists():
            continue
        curve = [json.loads(line) for line in (unit / "curve.jsonl").read_text().splitlines()]
        for step, why in choose(curve).items():
            algorithm = unit.name.removesuffix(f"-{seed}")
            name = f"{algorithm}-{round(step / 1000):03d}k"
            ship(unit / f"step-{step:07d}", name, card)
            members.append(Member(name, name, algorithm.upper(), f"{step} steps of training: {why}"))
    shipped_checkpoints.cache_clear()  # they have just become more
    return members


def write_histories(zoo: Zoo) -> None:
    """Write into the checkpoints of chosen snapshots how they came about; the digests are of weights alone."""
    for member in zoo.members:
        folder = CHECKPOINTS / member.reference / zoo.task.id.removeprefix("wmbench/")
        if member.algorithm not in STEPS or not (folder / checkpoints.CONFIG).exists():
            continue
        config = checkpoints.read_config(folder)
        if config["provenance"]:
            continue
        seed = json.loads((ZOOS / f"{zoo.task.id.removeprefix('wmbench/')}.json").read_text())["root_seed"]
        command = f"--tasks {zoo.task.name} --algorithms {member.algorithm} --seed {seed}"
        versions = zoo.facts["provenance"]["versions"]
        config["provenance"] = {
            "algorithm": f"{member.algorithm}, stable-baselines3 {versions['stable-baselines3']}",
            "script": "baselines/scripts/train_zoo.py",
            "command": f"python baselines/scripts/train_zoo.py {command}",
            "step": int(member.note.split()[0]),
            "chosen": member.note.split(": ")[1],
        }
        write_json(folder / checkpoints.CONFIG, config)


def choose(curve: list[dict[str, Any]]) -> dict[int, str]:
    """Three snapshots of one training: an early one, the best, and its neighbour, which is nearly as good.

    Of a training that learned nothing, the last alone: more of its kind would be one policy many times.

    Args:
        curve: Points with ``step`` and ``return_mean``, in order.

    Returns:
        Step to the reason for the choice, in the order of training.
    """
    if len({point["return_mean"] for point in curve}) == 1:
        return {curve[-1]["step"]: "no snapshot differs from the first"}
    best = max(range(len(curve)), key=lambda i: curve[i]["return_mean"])
    beside = best - 1 if best else min(best + 1, len(curve) - 1)
    first = curve[best]["return_mean"], curve[0]["return_mean"]
    half = min(range(len(curve)), key=lambda i: abs(curve[i]["return_mean"] - sum(first) / 2))
    why = {half: "half way", beside: "beside the best", best: "the best on validation episodes"}
    return {curve[i]["step"]: why[i] for i in sorted(why)}


if __name__ == "__main__":
    tyro.cli(main)
