"""Trains `actor` checkpoints: stable-baselines3 SAC (or TD3) in the true simulator, resumable, with its curve.

Example:
    python baselines/scripts/train_sac_actor.py --task DMC-CartpoleSwingup --steps 50000 --work runs/sac-cartpole \
        --out baselines/wmbench_baselines/checkpoints/actor/DMC-CartpoleSwingup-v0

Every `evaluate-every` steps the deterministic actor plays the same validation episodes; the best of these
snapshots is scored once on separate evaluation episodes and exported. `--export-step N` exports the snapshot
of step N instead, without training. Snapshots and the replay buffer in the work folder are private scratch
files of stable-baselines3 (they hold pickles); what is exported is safetensors and JSON alone.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
import tyro
from rich.console import Console
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise

from wmbench import checkpoints, task_card
from wmbench.cards import TaskCard
from wmbench.seeding import episode_seeds
from wmbench_baselines.actor import Actor, ActorConfig

console = Console()


@dataclass(frozen=True)
class Common:
    """What every way of training an actor needs to know.

    Attributes:
        task: Task id or short name.
        work: Folder for snapshots and curve; a run found there is continued.
        out: Folder of the exported checkpoint.
        steps: Environment steps in all.
        seed: Root of every seed.
        hidden: Hidden widths of actor and critics.
        gamma: Discount.
        fused: Adam in one kernel: a sixth faster for networks this small, with other rounding.
        evaluate_every: Steps between snapshots.
        episodes: Validation episodes per snapshot.
        final_episodes: Evaluation episodes of the exported one.
        export_step: Export the snapshot of this step and do not train; 0 trains and exports the best.
    """

    task: str
    work: Path
    out: Path
    steps: int = 50_000
    seed: int = 0
    hidden: tuple[int, ...] = (128, 128)
    gamma: float = 0.99
    fused: bool = False
    evaluate_every: int = 5_000
    episodes: int = 5
    final_episodes: int = 50
    export_step: int = 0


@dataclass(frozen=True)
class Settings(Common):
    """What to train, for how long, and where to put it.

    Attributes:
        learning_rate: Of all three optimisers (Adam).
        learning_starts: Uniformly random steps at the beginning.
        train_freq: Environment steps between updates.
        gradient_steps: Updates each time.
        batch_size: Transitions per update.
        algorithm: SAC, or TD3 with exploration noise of a tenth of half the action range.
    """

    learning_rate: float = 3e-4
    learning_starts: int = 1_000
    train_freq: int = 1
    gradient_steps: int = 1
    batch_size: int = 256
    algorithm: Literal["SAC", "TD3"] = "SAC"


def actor_of(model: Any, settings: Settings, card: TaskCard) -> Actor:
    """Copy the deterministic part of a SAC or TD3 policy into ours."""
    actor = Actor(ActorConfig(settings.hidden, "relu"), card)
    theirs = [m for m in model.policy.actor.modules() if isinstance(m, torch.nn.Linear)]
    if settings.algorithm == "SAC":
        theirs.pop()  # the head of the standard deviation
    ours = [m for m in actor.network if isinstance(m, torch.nn.Linear)]
    for source, target in zip(theirs, ours, strict=True):
        target.load_state_dict(source.state_dict())
    return actor.eval()


def play(actor: Actor, env: gym.Env[Any, Any], seeds: list[int]) -> dict[str, Any]:
    """Score the deterministic actor on episodes given by their seeds."""
    returns, lengths, successes = [], [], []
    keys = np.zeros(1, np.int64)
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        total, steps, success, over = 0.0, 0, False, False
        while not over:
            action, _ = actor.act(observation[None], None, keys=keys)
            observation, reward, terminated, truncated, info = env.step(action[0])
            total, steps = total + float(reward), steps + 1
            success = bool(info["success"]) or (success and actor.task.success.when == "once")
            over = terminated or truncated
        returns.append(total)
        lengths.append(steps)
        successes.append(success)
    return {
        "episodes": len(seeds),
        "return_mean": float(np.mean(returns)),
        "return_std": float(np.std(returns)),
        "return_min": float(np.min(returns)),
        "length_mean": float(np.mean(lengths)),
        "success_rate": float(np.mean(successes)),
    }


def snapshot(work: Path, step: int) -> Path:
    """Folder of one snapshot."""
    return work / f"step-{step:07d}"


def train(settings: Settings, card: TaskCard) -> None:
    """Train to the end, continuing what the work folder holds."""
    settings.work.mkdir(parents=True, exist_ok=True)
    env, judge = Monitor(gym.make(card.id)), gym.make(card.id)
    latest, buffer = settings.work / "latest.zip", settings.work / "buffer.pkl"
    kind: Any = {"SAC": SAC, "TD3": TD3}[settings.algorithm]
    if latest.exists():
        model = kind.load(latest, env=env, device="cpu")
        model.load_replay_buffer(buffer)
    else:
        n_actions = len(card.action)
        noise = {"action_noise": NormalActionNoise(np.zeros(n_actions), np.full(n_actions, 0.1))}
        model = kind(
            "MlpPolicy",
            env,
            learning_rate=settings.learning_rate,
            buffer_size=settings.steps,
            learning_starts=settings.learning_starts,
            batch_size=settings.batch_size,
            gamma=settings.gamma,
            train_freq=settings.train_freq,
            gradient_steps=settings.gradient_steps,
            policy_kwargs={"net_arch": list(settings.hidden), "optimizer_kwargs": {"fused": settings.fused}},
            seed=settings.seed,
            device="cpu",
            **(noise if settings.algorithm == "TD3" else {}),
        )
    while model.num_timesteps < settings.steps:
        model.learn(settings.evaluate_every, reset_num_timesteps=False)
        evaluate_snapshot(actor_of(model, settings, card), model.num_timesteps, settings, judge)
        model.save(latest)
        model.save_replay_buffer(buffer)


def evaluate_snapshot(actor: Actor, step: int, settings: Common, judge: gym.Env[Any, Any]) -> None:
    """Score a snapshot on the validation episodes, save it, and add the point to the curve."""
    seeds = episode_seeds(settings.seed, actor.task.id, "val", settings.episodes)
    point = {"step": step, "at": round(time.time()), **play(actor, judge, seeds)}
    checkpoints.save(actor, snapshot(settings.work, step), kind="policy", name="actor")
    with (settings.work / "curve.jsonl").open("a") as stream:
        stream.write(json.dumps(point) + "\n")
    console.print(f"{actor.task.name} {point}", highlight=False)


def export(actor: Actor, algorithm: str, settings: Common) -> None:
    """Score one snapshot on evaluation episodes and write it with its history.

    Args:
        actor: Of the snapshots' shape; takes over the weights.
        algorithm: Its name.
        settings: Of the run.
    """
    curve = [json.loads(line) for line in (settings.work / "curve.jsonl").read_text().splitlines()]
    best = max(curve, key=lambda point: point["return_mean"])["step"]
    step = settings.export_step or best
    # scored anew in the task as it is now, so the digest of the card it was trained under does not matter
    actor.load_state_dict(checkpoints.load_tensors(snapshot(settings.work, step) / checkpoints.WEIGHTS))
    card = actor.task
    scores = play(actor, gym.make(card.id), episode_seeds(settings.seed, card.id, "eval", settings.final_episodes))
    training = {k: v for k, v in asdict(settings).items() if k not in ("task", "work", "out", "export_step")}
    provenance = {
        "algorithm": f"{algorithm}, stable-baselines3 {stable_baselines3.__version__}",
        "script": f"baselines/scripts/{Path(sys.argv[0]).name}",
        "command": "python " + shlex.join(sys.argv),
        "settings": training,
        "step": step,
        "chosen": "best mean return on the validation episodes" if step == best else "asked for",
        "scores": {"split": "eval", "root_seed": settings.seed, **scores},
        "curve": [[p["step"], round(p["return_mean"], 1)] for p in curve],
    }
    checkpoints.save(actor, settings.out, kind="policy", name="actor", provenance=provenance)
    console.print(f"{settings.out}: step {step}, {scores}", highlight=False)


def main(settings: Settings) -> None:
    """Train unless told only to export, then export."""
    card = task_card(settings.task)
    if not settings.export_step:
        train(settings, card)
    export(Actor(ActorConfig(settings.hidden, "relu"), card), settings.algorithm, settings)


if __name__ == "__main__":
    main(tyro.cli(Settings))
