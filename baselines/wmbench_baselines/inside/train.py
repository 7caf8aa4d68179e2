"""Trains with stable-baselines3 in one simulator, and evaluates in both on the way; resumes from a kill."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from wmbench import checkpoints
from wmbench.cards import TaskCard
from wmbench.errors import DatasetError, MissingHeadError
from wmbench.files import write_json
from wmbench.progress import progress
from wmbench.provenance import provenance
from wmbench.recording.success import outcome
from wmbench.registration import task_card
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds
from wmbench.threads import one_thread
from wmbench_baselines.actor import Actor, ActorConfig
from wmbench_baselines.inside.config import PENALTIES, InsideConfig
from wmbench_baselines.inside.rows import InsideRows

CURVE = "curve.jsonl"


def train_inside(config: InsideConfig, folder: Path | str, *, show_progress: bool = False) -> list[dict[str, Any]]:
    """Train, and evaluate the deterministic policy in both simulators every so many steps.

    Args:
        config: What to train.
        folder: Of this training alone. Holds ``config.json``, ``curve.jsonl`` with a line per evaluation, the last
            policy under ``actor``, and scratch files of stable-baselines3 from which an interrupted call goes on.
        show_progress: Whether to show a progress line.

    Returns:
        The lines of the curve: ``step``, ``seconds`` (training so far, of the processor, on one thread: what the
        wall clock shows if nothing else runs), ``simulator_seconds`` (of these, in the simulator), and the outcomes of
        every evaluation episode, ``true`` and ``learned``.

    Raises:
        DatasetError: The folder holds another training; the fields that differ are named.
        WmbenchError: No such task or model, or a model that lacks what the training needs.
    """
    card, folder = task_card(config.task), Path(folder)
    check_model(config, card)
    _claim(config, folder)
    with _alone(folder):
        return _train(config, card, folder, show_progress)


def _train(config: InsideConfig, card: TaskCard, folder: Path, show_progress: bool) -> list[dict[str, Any]]:
    curve = read_curve(folder)
    done = curve[-1]["step"] if curve else 0
    if done >= config.steps:
        return curve
    with one_thread(), progress(f"train {card.name}", config.steps, show=show_progress, done=done) as advance:
        rows = InsideRows(config, card)
        model, spent = _begin(config, rows, folder, resume=done)
        while done < config.steps:
            if model.num_timesteps <= done:  # else it was killed after it was saved, before it was evaluated
                began, inside = time.process_time(), rows.seconds
                model.learn(min(config.evaluate_every, config.steps - done), reset_num_timesteps=False)
                spent[0] += time.process_time() - began
                spent[1] += rows.seconds - inside
            before, done = done, int(model.num_timesteps)
            actor = actor_of(model, config, card)
            point: dict[str, Any] = {"step": done, "seconds": spent[0], "simulator_seconds": spent[1]}
            _save(model, spent, folder)
            point |= evaluate(actor, config, card)
            checkpoints.save(actor, folder / "actor", kind="policy", name="actor", provenance=_history(config, done))
            curve.append(point)
            with (folder / CURVE).open("a") as stream:
                stream.write(json.dumps(point) + "\n")
            means = {where: np.mean([e["returns"] for e in point[where]]) for where in ("true", "learned")}
            advance(done - before, f"true {means['true']:.4g}, learned {means['learned']:.4g}")
        rows.close()
    return curve


def check_model(config: InsideConfig, card: TaskCard) -> None:
    """Refuse a model that cannot do its part, before anything is trained: also the evaluation needs it.

    Raises:
        MissingHeadError: It lacks a head, or the uncertainty that the penalty multiplies.
        WmbenchError: There is no such model, or it is of another task.
    """
    signal = PENALTIES[config.penalty]
    twin: Any = gym.make_vec(card.id, num_envs=1, simulator=config.model, uncertainty=bool(signal))
    twin.close()
    named = checkpoints.resolve(config.model, card, kind="world_model").card.uncertainty
    if signal and signal not in named:
        raise MissingHeadError(
            f"{card.id}: the penalty {config.penalty!r} multiplies the uncertainty {signal!r}, and the model "
            f"{config.model!r} names {', '.join(named) or 'none'}"
        )


def read_curve(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's curve, none if it has not begun."""
    path = folder / CURVE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def evaluate(actor: Actor, config: InsideConfig, card: TaskCard) -> dict[str, list[dict[str, Any]]]:
    """Outcomes of the same starts in both simulators, at whole episodes and without penalties."""
    seeds = episode_seeds(config.seed, card.id, "val", config.episodes)
    found = {}
    for name, simulator in (("true", None), ("learned", config.model)):
        episodes = rollout(card, actor, seeds, simulator=simulator, num_envs=config.episodes, on_error="record")
        found[name] = [outcome(episode) for episode in episodes]
    return found


def actor_of(model: Any, config: InsideConfig, card: TaskCard) -> Actor:
    """The deterministic part of a policy of stable-baselines3, as one of ours."""
    actor = Actor(ActorConfig(config.hidden, "relu"), card)
    policy = model.policy
    layers = (
        [*policy.actor.latent_pi, policy.actor.mu]
        if isinstance(model, SAC)
        else [*policy.mlp_extractor.policy_net, policy.action_net]
    )
    theirs = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
    ours = [layer for layer in actor.network if isinstance(layer, torch.nn.Linear)]
    for source, target in zip(theirs, ours, strict=True):
        target.load_state_dict(source.state_dict())
    return actor.eval()


def _begin(config: InsideConfig, rows: InsideRows, folder: Path, *, resume: int) -> tuple[BaseAlgorithm, list[float]]:
    """The learner, new or as it was saved, and the seconds it has spent: in all, and in the simulator."""
    latest = folder / "latest.zip"
    if resume:
        kind: Any = SAC if config.algorithm == "SAC" else PPO
        model = kind.load(latest, env=rows, device="cpu")
        if config.algorithm == "SAC":
            model.load_replay_buffer(folder / "buffer.pkl")
        return model, list(model.spent)
    common: dict[str, Any] = {"gamma": config.gamma, "seed": config.seed, "device": "cpu"}
    common["learning_rate"] = config.learning_rate
    network: dict[str, Any] = {"net_arch": list(config.hidden), "activation_fn": torch.nn.ReLU}
    if config.algorithm == "PPO":
        settings: dict[str, Any] = {"n_steps": 256, "batch_size": 256, "n_epochs": 10, "policy_kwargs": network}
        return PPO("MlpPolicy", rows, **settings, **common), [0.0, 0.0]
    return SAC(
        "MlpPolicy",
        rows,
        buffer_size=config.steps,
        learning_starts=1_000,
        train_freq=1,
        gradient_steps=max(1, round(config.updates * config.num_envs)),
        policy_kwargs=network | {"optimizer_kwargs": {"fused": True}},
        **common,
    ), [0.0, 0.0]


def _save(model: Any, spent: list[float], folder: Path) -> None:
    model.spent = spent  # stable-baselines3 keeps what a learner carries
    model.save(folder / "latest.zip")
    if isinstance(model, SAC):
        model.save_replay_buffer(folder / "buffer.pkl")


def _claim(config: InsideConfig, folder: Path) -> None:
    """Begin a folder, or refuse one that holds something else."""
    mine, path = json.loads(json.dumps(asdict(config))), folder / "config.json"
    if path.exists():
        theirs = json.loads(path.read_text())
        if differ := sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k)):
            shown = ", ".join(f"{k} {theirs.get(k)!r} there, {mine.get(k)!r} asked for" for k in differ)
            raise DatasetError(f"{folder} holds another training ({shown}): choose a new folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, mine)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of a training's folder."""
    with (folder / ".lock").open("wb") as lock:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DatasetError(f"{folder}: another process trains here; wait for it to end") from None
        yield


def _history(config: InsideConfig, step: int) -> dict[str, Any]:
    return {"training": asdict(config), "step": step, **provenance()}
