"""One resumable run of behaviour cloning: epochs, early stopping, the log, and everything a killed run needs."""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from wmbench.checkpoints import load_tensors
from wmbench.errors import DatasetError, WmbenchError
from wmbench.files import write_atomically
from wmbench.progress import progress as progress_line
from wmbench_baselines.networks import SquashedMLP

RESUME = "resume.safetensors"
LOG = "log.jsonl"
SAVE_SECONDS = 2.0
"""How much work a killed run loses at most (and at least one epoch)."""


class Run:
    """One training run: weights, optimiser and the best epoch so far, saved between epochs."""

    def __init__(self, model: SquashedMLP, folder: Path, *, seed: int, identity: str) -> None:
        """Prepare; nothing is read or trained yet.

        Args:
            model: With its normaliser fitted and its initial weights.
            folder: For the log and the state of an unfinished run.
            seed: Of the order of the batches.
            identity: Digest of everything that decides the outcome; a state with another one is refused.
        """
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
