"""Online training of TD-MPC2 on one task: act, remember, update; a kill costs time and changes no number."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.progress import progress as progress_line
from wmbench.seeding import episode_seeds
from wmbench_baselines.tdmpc2 import run as shared
from wmbench_baselines.tdmpc2.act import Pilot, planes, to_box
from wmbench_baselines.tdmpc2.config import PIXELS, TDMPC2Config
from wmbench_baselines.tdmpc2.model import LatentModel
from wmbench_baselines.tdmpc2.planner import Planner
from wmbench_baselines.tdmpc2.replay import Episode, Replay
from wmbench_baselines.tdmpc2.run import Run, entropy

SIDE = 10
"""Evaluation episodes lived side by side at most; each needs a simulator of its own."""


class OnlineTraining(Run):
    """One run of one model on one task, episode by episode; evaluated beside, without a trace in the training.

    Attributes:
        task: The task's card at the action repeat of the settings.
    """

    def __init__(self, config: TDMPC2Config, task: TaskCard, *, folder: Path, seed: int, device: str = "cpu") -> None:
        """Make the model, its environment and an empty replay.

        Args:
            config: Settings.
            task: The task, at any action repeat.
            folder: Where the run keeps its state and its log.
            seed: Of everything random.
            device: Torch device.
        """
        self.task = task.repeated(config.action_repeat)
        actions = [len(task.action)]
        seen = config.shape(len(task.observation))
        model = LatentModel(config, seen, actions, episodic=task.terminates, seed=entropy(seed, 0))
        replay = Replay(config.capacity, config.horizon, folder=folder / "replay", device=device)
        discount = torch.tensor(config.discount(self.task.horizon))
        super().__init__(model, discount, replay, about=[task.id], folder=folder, seed=seed, device=device)
        self.low, self.high = task.action_bounds()
        self.planner = Planner(self.model)
        self.actions = np.random.default_rng(entropy(seed, 3))
        self.facts |= {"steps": 0, "evaluated": 0, "episodes": 0}
        self.judges: list[Any] = []

    @property
    def steps(self) -> int:
        """Actions taken so far."""
        return self.facts["steps"]

    @property
    def total(self) -> int:
        """Actions of the whole run."""
        return -(-self.config.frames // self.config.action_repeat)

    @property
    def due(self) -> int:
        """Evaluations that should have been made by now."""
        return self.steps // max(1, self.config.eval_every // self.config.action_repeat)

    def run(self, *, progress: bool = True, on_evaluation: Callable[[], None] = lambda: None) -> None:
        """Train to the end, from where the folder's run was saved last.

        Args:
            progress: Whether to show it.
            on_evaluation: Called after every evaluation.
        """
        (self.folder / "replay").mkdir(parents=True, exist_ok=True)
        self.restore()
        self.env: Any = self.make_env()
        began, before, saved, note = time.monotonic(), self.facts["seconds"], time.monotonic(), ""
        with progress_line(f"tdmpc2 {self.task.name}", self.total, show=progress, done=self.steps) as advance:
            while True:
                self.facts["seconds"] = before + time.monotonic() - began
                if self.due > self.facts["evaluated"]:
                    self.save()
                    returns, successes = self.evaluate()
                    self.facts["evaluated"] = self.due
                    self.facts["seconds"] = before + time.monotonic() - began
                    self._note("evaluation", returns, successes)
                    on_evaluation()
                    saved, note = -shared.SAVE_SECONDS, f"evaluation {np.mean(returns):.0f}, "
                if time.monotonic() - saved > shared.SAVE_SECONDS or self.steps >= self.total:
                    self.save()
                    saved = time.monotonic()
                if self.steps >= self.total:
                    break
                earned, success = self.episode(advance)
                self.facts["seconds"] = before + time.monotonic() - began
                self._note("episode", [earned], [success])
                advance(0, f"{note}episode {self.facts['episodes']} return {earned:.0f}")
        for env in (self.env, *self.judges):
            env.close()
        self.judges.clear()

    def episode(self, advance: Any = lambda n=1, note="": None) -> tuple[float, bool]:
        """Live one episode, update the model after every action beyond the random ones.

        Returns:
            What was earned, and whether it was a success by the task's rule.
        """
        random = self.config.random_steps(self.task.horizon)
        seed = episode_seeds(self.seed, self.task.id, "train", 1, start=self.facts["episodes"])[0]
        observation = self.see(self.env.reset(seed=seed)[0])
        pilot = self.pilot(1)
        seen, rows = [observation], []
        over = False
        while not over and self.steps < self.total:
            if self.steps > random:
                x = torch.from_numpy(observation)[None].to(self.device)
                action = pilot.act(x, self.noise, explore=True)[0].cpu().numpy()
            else:
                action = self.actions.uniform(-1, 1, len(self.low)).astype(np.float32)
            observation, reward, terminated, truncated, info = self.env.step(to_box(action, self.low, self.high))
            over, observation = terminated or truncated, self.see(observation)
            seen.append(observation)
            rows.append((action, reward, terminated, info["success"]))
            if self.steps >= random:
                for _ in range(random if self.steps == random else 1):
                    self.update()
            self.facts["steps"] += 1
            advance(1)
        acted, *columns = zip(*rows, strict=True)
        self.measured()
        reward, ended, success = (np.array(column, np.float32) for column in columns)
        self.replay.add(Episode(np.stack(seen), np.stack(acted), reward, ended, success))
        self.facts["episodes"] = self.replay.seen
        return float(np.sum(columns[0])), self.succeeded(success)

    def pilot(self, episodes: int) -> Pilot:
        """A planner for fresh episodes."""
        return Pilot(self.planner, self.learner.discount, episodes)

    def make_env(self) -> Any:
        """The true simulator, at the action repeat."""
        options: dict[str, Any] = {}
        if self.config.observation == "rgb":
            options = {"observation": "rgb", "image_size": PIXELS, "frame_stack": self.config.frame_stack}
        return gym.make(self.task.id, action_repeat=self.config.action_repeat, disable_env_checker=True, **options)

    def see(self, observation: np.ndarray) -> np.ndarray:
        """An observation as the model takes it: of images, the stacked frames' colours as planes (3k, H, W)."""
        return observation if self.config.observation == "state" else planes(observation)

    def evaluate(self) -> tuple[list[float], list[bool]]:
        """Episodes without exploration, some side by side; it leaves no trace in the training.

        Returns:
            Each episode's return, and whether it was a success by the task's rule.
        """
        generator = torch.Generator(self.device).manual_seed(entropy(self.seed, 4, self.steps))
        seeds = episode_seeds(self.seed, self.task.id, "eval", self.config.eval_episodes)
        lived = [self.live(seeds[i : i + SIDE], generator) for i in range(0, len(seeds), SIDE)]
        return [x for returns, _ in lived for x in returns], [x for _, successes in lived for x in successes]

    def live(self, seeds: Sequence[int], generator: torch.Generator) -> tuple[list[float], list[bool]]:
        """An episode from each seed, side by side, each in a simulator that the next evaluation takes again."""
        n = len(seeds)
        self.judges += [self.make_env() for _ in range(n - len(self.judges))]
        envs = self.judges[:n]
        now = np.stack([self.see(env.reset(seed=seed)[0]) for env, seed in zip(envs, seeds, strict=True)])
        pilot = self.pilot(n)
        returns, over = np.zeros(n), np.zeros(n, bool)
        successes: list[list[bool]] = [[] for _ in range(n)]
        while not over.all():
            actions = pilot.act(torch.from_numpy(now).to(self.device), generator, explore=False).cpu().numpy()
            for i in np.flatnonzero(~over):
                observation, reward, terminated, truncated, info = envs[i].step(to_box(actions[i], self.low, self.high))
                now[i] = self.see(observation)
                returns[i] += reward
                successes[i].append(info["success"])
                over[i] = terminated or truncated
        return returns.tolist(), [self.succeeded(steps) for steps in successes]

    def succeeded(self, steps: Sequence[float] | np.ndarray) -> bool:
        """Whether an episode with these steps was a success: at its last step, or at any, as the task's rule has it."""
        return bool(steps[-1] if self.task.success.when == "end" else np.any(steps))

    def restore(self) -> None:
        """Go on where the folder's run was saved last, with the episodes it had seen."""
        super().restore()
        if "actions" in self.facts:
            self.actions.bit_generator.state = self.facts.pop("actions")
        self.replay.restore(self.facts["episodes"])

    def save(self) -> None:
        """Write everything that the next episode depends on."""
        self.facts["actions"] = self.actions.bit_generator.state
        super().save()
        del self.facts["actions"]

    def _note(self, kind: str, returns: list[float], successes: list[bool]) -> None:
        """Log an episode or an evaluation."""
        entry = {
            "kind": kind,
            "frames": self.steps * self.config.action_repeat,
            **{name: self.facts[name] for name in ("steps", "updates", "episodes")},
            "return": float(np.mean(returns)),
            "success": float(np.mean(successes)),
            **({"returns": returns} if kind == "evaluation" else self.measured()),
            "seconds": round(self.facts["seconds"], 1),
        }
        self.log(entry)
