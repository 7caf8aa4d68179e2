"""Online training of TD-MPC2 on one task: act, remember, update; a kill costs time and changes no number."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from wmbench.cards import TaskCard
from wmbench.checkpoints import load_tensors
from wmbench.errors import CheckpointError, WmbenchError
from wmbench.files import write_atomically
from wmbench.progress import progress as progress_line
from wmbench.seeding import episode_seeds
from wmbench_baselines.tdmpc2.act import Pilot
from wmbench_baselines.tdmpc2.config import TDMPC2Config
from wmbench_baselines.tdmpc2.model import LatentModel
from wmbench_baselines.tdmpc2.planner import Planner
from wmbench_baselines.tdmpc2.replay import Episode, Replay
from wmbench_baselines.tdmpc2.update import Learner, UpdateNoise

RESUME = "resume.safetensors"
LOG = "log.jsonl"
SAVE_SECONDS = 120.0
"""How much work a killed run loses at most, and at least one episode."""

_WEIGHTS, _NOISE, _REPLAY, _ACTIONS, _EVALUATION = range(5)  # labels of independent random streams


class OnlineTraining:
    """One run of one model on one task; everything the next episode depends on is in :meth:`_save`.

    Attributes:
        model: The model.
        steps: Actions taken so far.
        lines: The log so far.
    """

    def __init__(self, config: TDMPC2Config, task: TaskCard, *, folder: Path, seed: int, device: str = "cpu") -> None:
        """Make the model, its environment and an empty replay.

        Args:
            config: Settings.
            task: The task, whose own action repeat is one.
            folder: Where the run keeps its state and its log.
            seed: Of everything random.
            device: Torch device.
        """
        self.config, self.task, self.folder, self.seed, self.device = config, task, folder, seed, device
        self.identity = json.dumps([task.id, seed, _unusual(config)], sort_keys=True)
        low, high = task.action_bounds()
        self.low, self.high = low, high
        self.horizon = -(-task.horizon // config.action_repeat)
        self.model = LatentModel(
            config, len(task.observation), [len(low)], episodic=task.terminates, seed=_entropy(seed, _WEIGHTS)
        ).to(device)
        self.learner = Learner(self.model, torch.tensor(config.discount(self.horizon), device=device))
        self.planner = Planner(self.model)
        self.replay = Replay(config.capacity, config.horizon, folder=folder / "replay", device=device)
        self.noise = torch.Generator(device).manual_seed(_entropy(seed, _NOISE))
        self.places = np.random.default_rng(_entropy(seed, _REPLAY))
        self.actions = np.random.default_rng(_entropy(seed, _ACTIONS))
        self.env: Any = gym.make(task.id, disable_env_checker=True)
        self.steps = self.updates = self.evaluated = 0
        self.seconds = 0.0
        self.lines: list[str] = []
        self.measured: dict[str, float] = {}

    @property
    def total(self) -> int:
        """Actions of the whole run."""
        return -(-self.config.frames // self.config.action_repeat)

    def run(self, *, progress: bool = True, on_evaluation: Callable[[], None] = lambda: None) -> None:
        """Train to the end, from where the folder's run was saved last.

        Args:
            progress: Whether to show it.
            on_evaluation: Called after every evaluation.
        """
        (self.folder / "replay").mkdir(parents=True, exist_ok=True)
        self._restore()
        saved = began = time.monotonic()
        before = self.seconds
        note = ""
        with progress_line(f"tdmpc2 {self.task.name}", self.total, show=progress, done=self.steps) as advance:
            while True:
                if self.due:
                    self.seconds = before + time.monotonic() - began
                    self._save()
                    returns = self.evaluate()
                    self.evaluated = self.steps // self._every
                    self._write("evaluation", returns)
                    on_evaluation()
                    note = f"evaluation {np.mean(returns):.0f}"
                    saved = 0.0
                self.seconds = before + time.monotonic() - began
                if time.monotonic() - saved > SAVE_SECONDS or self.steps >= self.total:
                    self._save()
                    saved = time.monotonic()
                if self.steps >= self.total:
                    break
                steps = self.steps
                earned = self.episode(advance)
                self._write("episode", [earned])
                advance(0, f"{note} return {earned:.0f} ({self.steps - steps} steps)")
        self.env.close()

    @property
    def _every(self) -> int:
        return max(1, self.config.eval_every // self.config.action_repeat)

    @property
    def due(self) -> bool:
        """Whether the next evaluation is."""
        return self.steps // self._every > self.evaluated

    def episode(self, advance: Any = lambda n=1, note="": None) -> float:
        """Live one episode, update the model after every action beyond the random ones, and return what was earned."""
        random = self.config.random_steps(self.horizon)
        seed = episode_seeds(self.seed, self.task.id, "train", 1, start=self.replay.seen)[0]
        observation, _ = self.env.reset(seed=seed)
        pilot = self.pilot(1)
        seen, acted, earned, ended = [observation], [], [], []
        over = False
        while not over and self.steps < self.total:
            if self.steps > random:
                x = torch.from_numpy(observation)[None].to(self.device)
                action = pilot.act(x, self.noise, explore=True)[0].cpu().numpy()
            else:
                action = self.actions.uniform(-1, 1, len(self.low)).astype(np.float32)
            observation, reward, terminated, over = self.repeat(self.env, action)
            seen.append(observation)
            acted.append(action)
            earned.append(reward)
            ended.append(terminated)
            if self.steps >= random:
                for _ in range(random if self.steps == random else 1):
                    self.update()
            self.steps += 1
            advance(1)
        self._check()
        lists = (np.array(acted, np.float32), np.array(earned, np.float32), np.array(ended, np.float32))
        self.replay.add(Episode(np.stack(seen), *lists))
        return float(np.sum(earned))

    def pilot(self, episodes: int) -> Pilot:
        """A planner for fresh episodes."""
        return Pilot(self.planner, self.learner.discount, episodes)

    def repeat(self, env: Any, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Hold an action in [-1, 1] for the action repeat: observation, summed reward, terminated, over."""
        scaled = np.clip(self.low + 0.5 * (action + 1) * (self.high - self.low), self.low, self.high)
        total, terminated, over = 0.0, False, False
        observation = None
        for _ in range(self.config.action_repeat):
            observation, reward, terminated, truncated, _ = env.step(scaled)
            total += float(reward)
            over = terminated or truncated
            if over:
                break
        assert observation is not None
        return observation, total, terminated, over

    def update(self) -> None:
        """One update from the replay."""
        batch = self.replay.sample(self.config.batch_size, self.places)
        noise = UpdateNoise.draw(self.config, self.config.batch_size, len(self.low), self.noise)
        self.losses = self.learner.update(batch, noise)
        self.updates += 1

    def evaluate(self) -> list[float]:
        """Returns of the evaluation's episodes, planned side by side; it leaves no trace in the training."""
        n = self.config.eval_episodes
        generator = torch.Generator(self.device).manual_seed(_entropy(self.seed, _EVALUATION, self.steps))
        envs = [gym.make(self.task.id, disable_env_checker=True) for _ in range(n)]
        seeds = episode_seeds(self.seed, self.task.id, "eval", n)
        now = np.stack([env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)])
        pilot = self.pilot(n)
        returns, over = np.zeros(n), np.zeros(n, bool)
        while not over.all():
            actions = pilot.act(torch.from_numpy(now).to(self.device), generator, explore=False).cpu().numpy()
            for i in np.flatnonzero(~over):
                now[i], reward, _, over[i] = self.repeat(envs[i], actions[i])
                returns[i] += reward
        for env in envs:
            env.close()
        return returns.tolist()

    def _check(self) -> None:
        """Refuse to go on with a model that is lost."""
        self.measured = {k: float(v) for k, v in getattr(self, "losses", {}).items()}
        if not all(np.isfinite(list(self.measured.values()))):
            raise WmbenchError(f"tdmpc2 on {self.task.id} diverged after {self.updates} updates: {self.measured}")

    def _write(self, kind: str, returns: list[float]) -> None:
        """Log what happened."""
        entry: dict[str, Any] = {
            "kind": kind,
            "frames": self.steps * self.config.action_repeat,
            "steps": self.steps,
            "updates": self.updates,
            "episodes": self.replay.seen,
            "return": float(np.mean(returns)),
            **({"returns": returns} if kind == "evaluation" else self.measured),
            "seconds": round(self.seconds, 1),
        }
        self.lines.append(json.dumps(entry))
        with (self.folder / LOG).open("a") as stream:
            stream.write(self.lines[-1] + "\n")

    def _save(self) -> None:
        """Write everything the next episode depends on, atomically; the replay has files of its own."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors["scale"] = self.learner.scale.value
        for name, optimiser in self._optimisers().items():
            for i, state in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}.{i}.{k}": v for k, v in state.items()}
        tensors["noise"] = self.noise.get_state()
        facts = {
            "steps": self.steps,
            "updates": self.updates,
            "evaluated": self.evaluated,
            "episodes": self.replay.seen,
            "seconds": self.seconds,
            "lines": self.lines,
            "places": self.places.bit_generator.state,
            "actions": self.actions.bit_generator.state,
        }
        whole = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
        metadata = {"identity": self.identity, "facts": json.dumps(facts)}
        write_atomically(self.folder / RESUME, lambda path: save_file(whole, path, metadata))

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"adam": self.learner.optimiser, "policy_adam": self.learner.policy_optimiser}

    def _restore(self) -> None:
        """Go on where the folder's run was saved last; lines logged after that are taken back.

        Raises:
            CheckpointError: It is a run with other settings, another task or seed.
        """
        path = self.folder / RESUME
        if path.exists():
            tensors = load_tensors(path)
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
            if metadata["identity"] != self.identity:
                raise CheckpointError(
                    f"{path} belongs to a run with other settings, another task or seed: "
                    "give another folder, or delete it to start afresh"
                )
            facts = json.loads(metadata["facts"])
            self.steps, self.updates, self.evaluated = facts["steps"], facts["updates"], facts["evaluated"]
            self.seconds, self.lines = facts["seconds"], facts["lines"]
            self.model.load_state_dict(_under("model.", tensors))
            self.learner.scale.value.copy_(tensors["scale"])
            for name, optimiser in self._optimisers().items():
                whole = optimiser.state_dict()
                indices = [i for group in whole["param_groups"] for i in group["params"]]
                whole["state"] = {i: s for i in indices if (s := _under(f"{name}.{i}.", tensors))}
                optimiser.load_state_dict(whole)
            self.noise.set_state(tensors["noise"])
            self.places.bit_generator.state = facts["places"]
            self.actions.bit_generator.state = facts["actions"]
            self.replay.restore(facts["episodes"])
        text = "".join(line + "\n" for line in self.lines)
        write_atomically(self.folder / LOG, lambda temporary: temporary.write_text(text))


def _unusual(config: TDMPC2Config) -> dict[str, Any]:
    """Settings that differ from the defaults, the length of training apart: a longer run goes on from a shorter."""
    usual = dataclasses.asdict(TDMPC2Config())
    return {k: v for k, v in dataclasses.asdict(config).items() if v != usual[k] and k != "frames"}


def _entropy(*labels: int) -> int:
    return int(np.random.SeedSequence(labels).generate_state(1)[0])


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The entries whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
