"""Training of the ensemble: all members at once, held-out episodes decide when to stop and which members count."""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from wmbench import checkpoints
from wmbench.errors import DatasetError, WmbenchError
from wmbench.progress import progress as progress_line

if TYPE_CHECKING:
    from wmbench_baselines.ensemble.model import Ensemble

LOG, STATE = "log.jsonl", "state.safetensors"
SAVE_SECONDS = 10.0
CONSTANT = 1e-8
"""A dimension whose deviation is below this share of its size counts as constant."""


class Training:
    """One training run: the model, its optimiser, and the best weights of every member so far.

    Deterministic on the CPU given seed and number of threads. What an epoch does depends on the state before it and
    on (seed, epoch) alone, so an interrupted run that goes on ends with the same weights.
    """

    def __init__(self, model: Ensemble, dataset: Any, *, folder: Path, seed: int, device: str) -> None:
        """Fit the normalisers, move the data to the device, and take up an interrupted run if there is one.

        Raises:
            DatasetError: No train or no val episode, or ``folder`` holds a run of other settings or data.
        """
        self.model, self.folder, self.seed = model, folder, seed
        train, held = dataset.transitions("train"), dataset.transitions("val")
        for split, data in (("train", train), ("val", held)):
            if not len(data["observation"]):
                raise DatasetError(f"the {split} split of this dataset of {dataset.task.id} is empty; collect more")
        _fit_normalisers(model, train)
        model.reset_parameters(seed)
        model.to(device)
        self.train, self.held = self._tensors(train, device), self._tensors(held, device)
        self.optimiser = torch.optim.Adam(model.parameters(), lr=model.config.learning_rate)
        members = model.config.members
        self.best = [p.detach().clone() for p in model.parameters()]
        self.best_loss = torch.full((members,), math.inf, dtype=torch.float64)
        self.reference = torch.full((members,), math.inf, dtype=torch.float64)  # for patience
        self.epoch = self.updates = self.stale = 0
        identity = json.dumps([checkpoints.plain(model.config), dataset.digest, seed], sort_keys=True)
        digest = hashlib.sha256(identity.encode()).digest()
        self.identity = torch.frombuffer(bytearray(digest), dtype=torch.uint8)
        self.varies = (model.target_scale > 0).float()  # (D,)

    def run(self, *, progress: bool) -> None:
        """Train to the end; leaves the best weights, the elites and the hold-out losses in the model."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._restore()
        config = self.model.config
        saved = time.monotonic()
        with progress_line("ensemble", config.max_updates, show=progress, done=self.updates) as advance:
            while not self._over():
                before = self.updates
                loss = self._epoch()
                held = self._held_out()
                self._judge(held)
                self._log(loss, held)
                advance(self.updates - before, f"hold-out {float(held.mean()):.4f}")
                if time.monotonic() - saved > SAVE_SECONDS or self._over():
                    self._save()
                    saved = time.monotonic()
        with torch.no_grad():
            for parameter, best in zip(self.model.parameters(), self.best, strict=True):
                parameter.copy_(best)
        order = torch.argsort(self.best_loss, stable=True)[: config.elites]
        self.model.elites.copy_(order.sort().values)

    def _over(self) -> bool:
        config = self.model.config
        return self.updates >= config.max_updates or self.stale >= config.patience

    def _tensors(self, data: dict[str, np.ndarray], device: str) -> dict[str, torch.Tensor]:
        """Normalised inputs (N, I), normalised targets (N, D), and termination (N, 1)."""
        model = self.model
        observation = torch.from_numpy(data["observation"]).to(device)
        inputs = model.normalise(observation, torch.from_numpy(data["action"]).to(device))
        targets = torch.from_numpy(_targets(data)).to(device)  # (N, D) float64
        scale = torch.where(model.target_scale > 0, model.target_scale, 1.0)
        return {
            "x": inputs,
            "y": ((targets - model.target_mean) / scale).float(),
            "end": torch.from_numpy(data["terminated"]).float()[:, None].to(device),
        }

    def _order(self) -> torch.Tensor:
        """(E, N) rows that each member sees in this epoch, in its own order."""
        n, members = len(self.train["x"]), self.model.config.members
        resample = torch.Generator().manual_seed(self.seed * 1_000_003 + 1)
        shuffle = torch.Generator().manual_seed((self.seed * 1_000_003 + 2) * 1_000_003 + self.epoch)
        if self.model.config.bootstrap:
            rows = torch.randint(n, (members, n), generator=resample)
        else:
            rows = torch.arange(n).expand(members, n)
        order = torch.argsort(torch.rand(members, n, generator=shuffle), 1)
        return rows.gather(1, order).to(self.train["x"].device)

    def _epoch(self) -> float:
        """One pass over the train split; the mean loss of an update.

        Raises:
            WmbenchError: The loss is no longer finite.
        """
        config = self.model.config
        total, updates = torch.zeros((), dtype=torch.float64), 0
        for rows in self._order().split(config.batch_size, 1):
            if self.updates >= config.max_updates:
                break
            if config.schedule == "cosine":
                share = self.updates / config.max_updates
                for group in self.optimiser.param_groups:
                    group["lr"] = 0.5 * config.learning_rate * (1.0 + math.cos(math.pi * share))
            loss = self._loss(rows)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            total += loss.detach().double().cpu()
            self.updates += 1
            updates += 1
        self.epoch += 1
        mean = float(total) / updates
        if not math.isfinite(mean):
            raise WmbenchError(
                f"the ensemble's loss is no longer finite in epoch {self.epoch}: lower the learning rate"
            )
        return mean

    def _loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Gaussian negative log-likelihood (constants dropped), cross-entropy of termination, and the penalties.

        Args:
            rows: (E, B) indices into the train split.
        """
        model = self.model
        mean, logvar, logit = model.networks(self.train["x"][rows])  # (E, B, D), (E, B, D), (E, B, 0 or 1)
        error = (mean - self.train["y"][rows]) ** 2 * torch.exp(-logvar) + logvar
        loss = (error * self.varies).sum() / (rows.shape[1] * self.varies.sum().clamp(min=1.0))
        if logit.shape[-1]:
            each = functional.binary_cross_entropy_with_logits(logit, self.train["end"][rows], reduction="none")
            loss = loss + each.mean((1, 2)).sum()
        loss = loss + model.config.bound_weight * (model.max_logvar.sum() - model.min_logvar.sum())
        for weight, decay in zip(model.weights, model.config.weight_decay, strict=True):
            loss = loss + 0.5 * decay * (weight**2).sum()
        return loss

    @torch.no_grad()
    def _held_out(self) -> torch.Tensor:
        """(E,) float64: mean squared error on held-out episodes, plus the cross-entropy of termination."""
        total = torch.zeros(self.model.config.members, dtype=torch.float64)
        n = len(self.held["x"])
        for x, y, end in zip(*(self.held[k].split(4096) for k in ("x", "y", "end")), strict=True):
            mean, _, logit = self.model.networks(x[None])
            error = ((mean - y) ** 2 * self.varies).sum(-1) / self.varies.sum().clamp(min=1.0)  # (E, B)
            if logit.shape[-1]:
                both = end.expand_as(logit)
                error = error + functional.binary_cross_entropy_with_logits(logit, both, reduction="none")[..., 0]
            total += error.double().sum(1).cpu()
        return total / n

    def _judge(self, held: torch.Tensor) -> None:
        """Keep the weights of members that are better than ever, and count epochs in which none improved enough."""
        better = held < self.best_loss
        for parameter, best in zip(self.model.parameters(), self.best, strict=True):
            best[better] = parameter.detach()[better]
        self.best_loss = torch.minimum(self.best_loss, held)
        enough = held < self.reference * (1.0 - self.model.config.improvement)
        self.reference = torch.where(enough, held, self.reference)
        self.stale = 0 if bool(enough.any()) else self.stale + 1

    def _log(self, loss: float, held: torch.Tensor) -> None:
        line = {"epoch": self.epoch, "updates": self.updates, "loss": loss, "holdout": held.tolist()}
        with (self.folder / LOG).open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        """Write everything that later epochs depend on, in one file, atomically."""
        tensors = {"identity": self.identity, "best_loss": self.best_loss, "reference": self.reference}
        tensors["counters"] = torch.tensor([self.epoch, self.updates, self.stale])
        for i, (parameter, best) in enumerate(zip(self.model.parameters(), self.best, strict=True)):
            tensors |= {f"now.{i}": parameter, f"best.{i}": best}
            for name, value in self.optimiser.state[parameter].items():
                tensors[f"adam.{i}.{name}"] = value
        checkpoints.save_tensors(self.folder / STATE, tensors)

    def _restore(self) -> None:
        path, log = self.folder / STATE, self.folder / LOG
        if not path.exists():
            log.unlink(missing_ok=True)
            return
        tensors = checkpoints.load_tensors(path)
        if not torch.equal(tensors["identity"], self.identity):
            raise DatasetError(f"{path} belongs to a training with other settings, data or seed; choose another folder")
        self.best_loss, self.reference = tensors["best_loss"], tensors["reference"]
        self.epoch, self.updates, self.stale = (int(c) for c in tensors["counters"])
        with torch.no_grad():
            for i, (parameter, best) in enumerate(zip(self.model.parameters(), self.best, strict=True)):
                parameter.copy_(tensors[f"now.{i}"])
                best.copy_(tensors[f"best.{i}"])
                prefix = f"adam.{i}."
                self.optimiser.state[parameter] = {
                    name.removeprefix(prefix): value.to(parameter.device) if value.dim() else value
                    for name, value in tensors.items()
                    if name.startswith(prefix)
                }
        lines = log.read_text().splitlines()[: self.epoch]
        log.write_text("".join(line + "\n" for line in lines))


def _targets(data: dict[str, np.ndarray]) -> np.ndarray:
    """Change of the observation and reward: (N, D) float64."""
    change = data["next_observation"].astype(np.float64) - data["observation"]
    return np.concatenate([change, data["reward"][:, None]], 1)


def _fit_normalisers(model: Ensemble, train: dict[str, np.ndarray]) -> None:
    """Mean and deviation of inputs and targets on the train split; scale 0 where a dimension does not vary."""
    inputs = np.concatenate([train["observation"], train["action"]], 1).astype(np.float64)
    targets = _targets(train)
    for values, mean, scale, invert in (
        (inputs, model.input_mean, model.input_scale, True),
        (targets, model.target_mean, model.target_scale, False),
    ):
        std = values.std(0)
        varies = std > CONSTANT * np.maximum(1.0, np.abs(values).max(0))
        factor = np.divide(1.0, std, out=np.zeros_like(std), where=varies) if invert else np.where(varies, std, 0.0)
        mean.copy_(torch.from_numpy(values.mean(0)))
        scale.copy_(torch.from_numpy(factor))
