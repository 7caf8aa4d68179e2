"""Behaviour cloning: a multilayer perceptron that repeats the actions of recorded episodes."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from wmbench.cards import TaskCard
from wmbench.checkpoints import load_tensors
from wmbench.errors import DatasetError, WmbenchError
from wmbench.files import write_atomically
from wmbench.progress import progress as progress_line
from wmbench_baselines.networks import Activation, SquashedMLP, check_network

RESUME = "resume.safetensors"
LOG = "log.jsonl"
SAVE_SECONDS = 2.0
"""How much work a killed run loses at most (and at least one epoch)."""


@dataclass(frozen=True)
class BCConfig:
    """Network, optimiser and choice of demonstrations.

    Attributes:
        hidden: Widths of the hidden layers.
        activation: Between the layers.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW, on every parameter.
        batch_size: Transitions per update.
        epochs: Passes over the train split at most.
        patience: Stop after this many epochs without a lower validation loss.
        sources: Only episodes whose source begins with one of these; empty takes all.
        min_return: Only episodes with at least this undiscounted return; None takes all.
    """

    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 256
    epochs: int = 200
    patience: int = 20
    sources: tuple[str, ...] = ()
    min_return: float | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        check_network(self.hidden, self.activation)
        for name in ("learning_rate", "batch_size", "epochs", "patience"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")


QUICK = BCConfig(epochs=12, batch_size=512, learning_rate=2e-3)
"""A few seconds on two cores for 20,000 transitions."""


class BehaviourCloning(SquashedMLP):
    """Imitates by regression: mean squared error on actions, in units of half the action range.

    Observations are normalised per dimension with the statistics of the chosen train transitions.
    """

    Config = BCConfig
    PRESETS: ClassVar = {"quick": QUICK}

    def __init__(self, config: BCConfig, task: TaskCard) -> None:
        """Build the untrained network for a task; see :class:`SquashedMLP`."""
        super().__init__(config, task)
        self.card: dict[str, Any] = {
            "name": "bc",
            "inputs": "the flat state observation, normalised per dimension",
            "consumer": "a cheap imitator of the demonstrations it was given",
            "risk": "small errors lead to states that the demonstrations never visited, where it errs more; "
            "averages demonstrations that disagree",
        }

    @classmethod
    def fit(
        cls,
        config: BCConfig,
        dataset: Any,
        *,
        folder: Path,
        seed: int = 0,
        device: str = "cpu",
        progress: bool = True,
    ) -> BehaviourCloning:
        """Clone the chosen episodes of a dataset, resuming from ``folder`` if a run was interrupted there.

        The weights of the epoch with the lowest validation loss are kept; with no validation episode
        among the chosen ones there is no early stopping, and the last epoch's are. Deterministic on the
        CPU given the seed and the number of threads, whether interrupted or not.

        Args:
            config: See :class:`BCConfig`.
            dataset: A :class:`wmbench.episodes.Dataset`.
            folder: For ``log.jsonl`` (one object per epoch) and the state of an unfinished run.
            seed: Of the initial weights and the order of the batches.
            device: Torch device.
            progress: Whether to show a progress line.

        Returns:
            The trained policy, in evaluation mode.

        Raises:
            DatasetError: No train episode is chosen, or ``folder`` holds a run of other settings or data.
            WmbenchError: The loss is no longer finite.
        """
        train = select(dataset, "train", config)
        validation = select(dataset, "val", config)
        if not len(train["observation"]):
            raise DatasetError(_nothing_chosen(dataset, config))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config, dataset.task)
        first = train["observation"].astype(np.float64)
        model.normaliser.fit(first.mean(0), first.std(0))
        model.to(device)
        identity = json.dumps([dataclasses.asdict(config), dataset.digest, seed], sort_keys=True)
        run = _Run(model, folder, seed=seed, identity=hashlib.sha256(identity.encode()).hexdigest())
        run.train(train, validation, progress=progress)
        model.card |= {
            "trained_on": dataset.digest,
            "episodes": train["episodes"],
            "transitions": len(train["observation"]),
            "epochs": run.epoch,
            "best_epoch": run.best_epoch,
            "validation_loss": run.best if math.isfinite(run.best) else None,
        }
        return model.eval()


def select(dataset: Any, split: str, config: BCConfig) -> dict[str, Any]:
    """The transitions of a split's episodes that the configuration chooses.

    Returns:
        ``observation`` (N, O) float32, ``action`` (N, A) float32, and the number of ``episodes``.
    """
    observations = [np.empty((0, len(dataset.task.observation)), np.float32)]
    actions = [np.empty((0, len(dataset.task.action)), np.float32)]
    for index in dataset.episodes(split):
        episode = dataset.episode(int(index))
        if config.sources and not episode.source.startswith(config.sources):
            continue
        if config.min_return is not None and not float(episode.reward.sum()) >= config.min_return:
            continue
        observations.append(episode.observation[:-1])
        actions.append(episode.action)
    return {
        "observation": np.concatenate(observations),
        "action": np.concatenate(actions),
        "episodes": len(actions) - 1,
    }


def _nothing_chosen(dataset: Any, config: BCConfig) -> str:
    """Say which episodes there are and which were asked for."""
    episodes = [dataset.episode(int(i)) for i in dataset.episodes("train")]
    if not episodes:
        return f"the dataset of {dataset.task.id} has no train episodes to clone: collect more"
    sources = sorted({e.source for e in episodes})
    best = max(float(e.reward.sum()) for e in episodes)
    return (
        f"no train episode of {dataset.task.id} fits sources={list(config.sources)} and "
        f"min_return={config.min_return}: there are {len(episodes)}, from {sources}, the best with return {best:g}"
    )


class _Run:
    """One training run: weights, optimiser and the best epoch so far, saved between epochs."""

    def __init__(self, model: BehaviourCloning, folder: Path, *, seed: int, identity: str) -> None:
        self.model, self.folder, self.seed, self.identity = model, folder, seed, identity
        config = model.config
        self.optimiser = torch.optim.AdamW(
            model.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.epoch = 0
        self.best_epoch = 0
        self.best = math.inf
        self.best_weights = copy.deepcopy(model.network.state_dict())
        self.lines: list[str] = []

    def train(self, train: dict[str, Any], validation: dict[str, Any], *, progress: bool) -> None:
        """Train to the end and leave the best weights in the model."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._restore()
        x, y = self._tensors(train)
        x_val, y_val = self._tensors(validation)
        saved = time.monotonic()
        epochs = self.model.config.epochs
        with progress_line("behaviour cloning", epochs, show=progress, done=self.epoch) as advance:
            while not self._over(len(x_val)):
                loss = self._epoch(x, y)
                self._record(loss, self._loss(x_val, y_val) if len(x_val) else None)
                advance(1, f"loss {loss:.4f}")
                if time.monotonic() - saved > SAVE_SECONDS or self._over(len(x_val)):
                    self._save()
                    saved = time.monotonic()
        self.model.network.load_state_dict(self.best_weights)

    def _tensors(self, data: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised observations (N, O), and actions (N, A) as the network's output before scaling: in [-1, 1]."""
        model = self.model
        x = model.normaliser(torch.from_numpy(data["observation"]).to(model.low.device))
        y = torch.from_numpy(data["action"]).to(model.low.device)
        return x, 2.0 * (y - model.low) / (model.high - model.low) - 1.0

    def _over(self, n_validation: int) -> bool:
        config = self.model.config
        stale = bool(n_validation) and self.epoch - self.best_epoch >= config.patience
        return self.epoch >= config.epochs or stale

    def _epoch(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """One pass in an order that depends on the seed and the epoch alone; the mean loss."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(x), generator=generator).to(x.device)
        total = torch.zeros((), device=x.device)
        for rows in order.split(self.model.config.batch_size):
            loss = torch.mean((torch.tanh(self.model.network(x[rows])) - y[rows]) ** 2)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            total += loss.detach() * len(rows)
        self.epoch += 1
        return float(total) / len(x)

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> float:
        with torch.no_grad():
            return float(torch.mean((torch.tanh(self.model.network(x)) - y) ** 2))

    def _record(self, loss: float, validation: float | None) -> None:
        """Log the epoch, and keep its weights if it is the best (or if nothing can tell)."""
        if not math.isfinite(loss) or not math.isfinite(validation or 0.0):
            raise WmbenchError(f"behaviour cloning diverged in epoch {self.epoch}: lower the learning rate")
        if validation is None or validation < self.best:
            self.best = math.inf if validation is None else validation
            self.best_epoch = self.epoch
            self.best_weights = copy.deepcopy(self.model.network.state_dict())
        self.lines.append(json.dumps({"epoch": self.epoch, "loss": loss, "validation_loss": validation}))
        with (self.folder / LOG).open("a") as stream:
            stream.write(self.lines[-1] + "\n")

    def _save(self) -> None:
        """Write everything the next epoch depends on, atomically, in one file."""
        tensors = {f"weights.{k}": v for k, v in self.model.network.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best_weights.items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": v for k, v in state.items()}
        whole = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        best = None if math.isinf(self.best) else self.best
        facts = {"epoch": self.epoch, "best_epoch": self.best_epoch, "best": best, "lines": self.lines}
        metadata = {"identity": self.identity, "facts": json.dumps(facts)}
        write_atomically(self.folder / RESUME, lambda path: save_file(whole, path, metadata))

    def _restore(self) -> None:
        """Continue where the folder's run was saved last; lines logged after that are taken back."""
        path = self.folder / RESUME
        if path.exists():
            tensors = load_tensors(path)
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
            if metadata["identity"] != self.identity:
                raise DatasetError(
                    f"{path} belongs to a run with another configuration, dataset or seed: "
                    "give another folder, or delete that file to start afresh"
                )
            facts = json.loads(metadata["facts"])
            self.epoch, self.best_epoch, self.lines = facts["epoch"], facts["best_epoch"], facts["lines"]
            self.best = math.inf if facts["best"] is None else facts["best"]
            self.model.network.load_state_dict(_under("weights.", tensors))
            self.best_weights = _under("best.", tensors)
            optimiser = self.optimiser.state_dict()
            n = len(optimiser["param_groups"][0]["params"])
            optimiser["state"] = {i: _under(f"optimiser.{i}.", tensors) for i in range(n)}
            self.optimiser.load_state_dict(optimiser)
        text = "".join(line + "\n" for line in self.lines)
        write_atomically(self.folder / LOG, lambda temporary: temporary.write_text(text))


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The entries whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
