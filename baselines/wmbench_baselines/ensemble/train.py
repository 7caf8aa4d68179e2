"""Training of the ensemble: bootstrap, Gaussian likelihood, hold-out by episode, and a state that survives a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits

from wmbench.checkpoints import load_tensors
from wmbench.episodes.statistics import difference
from wmbench.errors import DatasetError, WmbenchError
from wmbench.files import write_atomically
from wmbench.progress import progress as progress_line

if TYPE_CHECKING:
    from wmbench_baselines.ensemble.model import Ensemble

RESUME = "resume.safetensors"
LOG = "log.jsonl"
SAVE_SECONDS = 2.0
"""How much work a killed run loses at most (and at least one epoch)."""
HOLDOUT = 20_000
"""At most so many held-out transitions are evaluated after every epoch."""
FLAT = 1e-6
"""A dimension whose standard deviation is below this fraction of its largest magnitude is constant but for rounding."""

_BOOTSTRAP, _ORDER, _HOLDOUT = range(3)  # labels of independent random streams


class Training:
    """One training run of one model; everything the next epoch depends on is in :meth:`_save`."""

    def __init__(self, model: Ensemble, dataset: Any, *, folder: Path, seed: int, device: str) -> None:
        """Read the data, fit the normalisers and draw the initial weights.

        Raises:
            DatasetError: The val split is empty, so nothing could be held out.
        """
        self.model, self.folder, self.seed = model, folder, seed
        self.config = config = model.config
        identity = json.dumps([dataclasses.asdict(config), model.task.digest(), dataset.digest, seed], sort_keys=True)
        self.identity = hashlib.sha256(identity.encode()).hexdigest()
        if not len(dataset.episodes("val")):
            raise DatasetError(
                f"this dataset of {model.task.id} has no val episodes, and the ensemble chooses its elites by a "
                "hold-out of whole episodes: collect more"
            )
        train = dataset.transitions("train")
        holdout = dataset.transitions("val", limit=HOLDOUT, seed=_entropy(seed, _HOLDOUT))
        fit_normalisers(model, train)
        model.reset_parameters(seed)
        model.to(device)
        self.x, self.y, self.done = self._tensors(train)
        self.x_holdout, self.y_holdout, self.done_holdout = self._tensors(holdout)
        self.varies = (model.target_scale > 0).float()  # (D,)
        n = len(self.x)
        self.batch = min(config.batch_size, n)
        self.rows = np.tile(np.arange(n), (config.members, 1))  # (E, N) rows of the train split per member
        if config.bootstrap:
            self.rows = _rng(seed, _BOOTSTRAP).integers(n, size=self.rows.shape)
        self.optimiser = self._adam()
        self.epoch = self.updates = self.stale = 0
        self.best = torch.full((config.members,), math.inf)  # lowest hold-out loss per member
        self.mark = self.best.clone()  # the loss that the next improvement must beat
        self.best_weights = _copy(dict(model.named_parameters()))
        self.lines: list[str] = []

    @property
    def over(self) -> bool:
        """Whether training has ended."""
        return self.updates >= self.config.max_updates or self.stale >= self.config.patience

    def run(self, *, progress: bool) -> None:
        """Train to the end, then leave every member's best epoch and the elites in the model."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._restore()
        saved = time.monotonic()
        with progress_line("ensemble", self.config.max_updates, show=progress, done=self.updates) as advance:
            while not self.over:
                before = self.updates
                began = time.monotonic()
                loss = self._train_epoch()
                self._judge(loss, began)
                advance(self.updates - before, f"hold-out loss {float(self.best.mean()):.4f}")
                if self.over or time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(self.best_weights[name])
            self.model.elites.copy_(self.best.argsort(stable=True)[: self.config.elites])

    def _train_epoch(self) -> float:
        """One pass over every member's resample, in an order that depends on the seed and the epoch alone."""
        rng = _rng(self.seed, _ORDER, self.epoch)
        order = torch.from_numpy(rng.permuted(self.rows, axis=1)).to(self.x.device)  # (E, N)
        total, count = torch.zeros((), device=self.x.device), 0
        for start in range(0, order.shape[1] - self.batch + 1, self.batch):
            rows = order[:, start : start + self.batch]  # (E, B)
            for group in self.optimiser.param_groups:
                group["lr"] = self._learning_rate()
            loss = self._loss(self.x[rows], self.y[rows], self.done[rows])
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            total += loss.detach()
            count += 1
            self.updates += 1
            if self.updates >= self.config.max_updates:
                break
        self.epoch += 1
        return float(total) / count / self.config.members

    def _loss(self, x: torch.Tensor, y: torch.Tensor, done: torch.Tensor) -> torch.Tensor:
        """Sum over the members, which share nothing, of the Gaussian negative log-likelihood (without its constant).

        x (E, B, I), y (E, B, D), done (E, B). The bounds of the log-variance are drawn together as in PETS.
        """
        mean, logvar, logit = self.model.networks(x)
        nll = ((mean - y) ** 2 * (-logvar).exp() + logvar) @ self.varies / self.varies.sum().clamp_min(1)  # (E, B)
        loss = nll.mean(1).sum()
        bounds = (self.model.max_logvar - self.model.min_logvar) @ self.varies
        loss = loss + self.config.bound_weight * bounds.sum()
        if self.model.task.terminates:
            loss = loss + binary_cross_entropy_with_logits(logit[..., 0], done, reduction="sum") / done.shape[1]
        return loss

    @torch.no_grad()
    def _judge(self, loss: float, began: float) -> None:
        """Evaluate the hold-out, keep what is best, and log the epoch."""
        mse, nll, bce = self._holdout()
        score = mse + bce
        if not (math.isfinite(loss) and bool(torch.isfinite(score).all() and torch.isfinite(nll).all())):
            raise WmbenchError(f"the ensemble diverged in epoch {self.epoch}: lower the learning rate")
        better = score < self.best
        self.best = torch.where(better, score, self.best)
        for name, parameter in self.model.named_parameters():
            self.best_weights[name][better] = parameter[better]
        enough = score < (1 - self.config.improvement) * self.mark
        self.mark = torch.where(enough, score, self.mark)
        self.stale = 0 if bool(enough.any()) else self.stale + 1
        entry = {
            "epoch": self.epoch,
            "updates": self.updates,
            "learning_rate": self._learning_rate(),
            "train_loss": loss,
            "holdout_mse": mse.tolist(),
            "holdout_nll": nll.tolist(),
            "holdout_bce": bce.tolist() if self.model.task.terminates else None,
            "best": self.best.tolist(),
            "seconds": round(time.monotonic() - began, 3),
        }
        self.lines.append(json.dumps(entry))
        with (self.folder / LOG).open("a") as stream:
            stream.write(self.lines[-1] + "\n")

    @torch.no_grad()
    def _holdout(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Per member (E,): mean squared error, negative log-likelihood and termination cross-entropy, on the CPU."""
        sums = torch.zeros(3, self.config.members, dtype=torch.float64)
        parts = (self.x_holdout.split(4096), self.y_holdout.split(4096), self.done_holdout.split(4096))
        for x, y, done in zip(*parts, strict=True):
            mean, logvar, logit = self.model.networks(x[None])
            square = (mean - y) ** 2
            weight = self.varies / self.varies.sum().clamp_min(1)
            sums[0] += (square @ weight).sum(1).double().cpu()
            sums[1] += ((square * (-logvar).exp() + logvar) @ weight).sum(1).double().cpu()
            if self.model.task.terminates:
                target = done.expand(self.config.members, -1)
                entropy = binary_cross_entropy_with_logits(logit[..., 0], target, reduction="none")
                sums[2] += entropy.sum(1).double().cpu()
        mse, nll, bce = (sums / len(self.x_holdout)).float()
        return mse, nll, bce

    def _learning_rate(self) -> float:
        config = self.config
        if config.schedule == "constant":
            return config.learning_rate
        return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * self.updates / config.max_updates))

    def _adam(self) -> torch.optim.Adam:
        """Adam with each layer's own L2 penalty on its weights, as in PETS; none on biases and bounds."""
        decays = zip(self.model.weights, self.config.weight_decay, strict=True)
        groups: list[dict[str, Any]] = [{"params": [w], "weight_decay": decay} for w, decay in decays]
        groups += [{"params": [*self.model.biases, self.model.max_logvar, self.model.min_logvar], "weight_decay": 0.0}]
        return torch.optim.Adam(groups, lr=self.config.learning_rate, fused=True)

    def _tensors(self, data: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalised inputs (N, I), normalised targets (N, D) and terminations (N,)."""
        model = self.model
        device = model.target_mean.device
        x = model.normalise(*(torch.from_numpy(data[k]).to(device) for k in ("observation", "action")))
        raw = torch.from_numpy(targets(model, data)).to(device)
        scale = model.target_scale
        y = torch.where(scale > 0, (raw - model.target_mean) / torch.where(scale > 0, scale, 1.0), 0.0)
        return x, y.float(), torch.from_numpy(data["terminated"]).to(device).float()

    def _save(self) -> None:
        """Write everything the next epoch depends on, atomically, in one file."""
        tensors: dict[str, torch.Tensor] = {f"weights.{k}": v for k, v in self.model.named_parameters()}
        tensors |= {f"best.{k}": v for k, v in self.best_weights.items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{k}": v for k, v in state.items()}
        tensors |= {"losses.best": self.best, "losses.mark": self.mark}
        facts = {"epoch": self.epoch, "updates": self.updates, "stale": self.stale, "lines": self.lines}
        metadata = {"identity": self.identity, "facts": json.dumps(facts)}
        whole = _copy(tensors, "cpu")
        write_atomically(self.folder / RESUME, lambda path: save_file(whole, path, metadata))

    def _restore(self) -> None:
        """Go on where the folder's run was saved last; lines logged after that are taken back.

        Raises:
            DatasetError: It is a run with other settings, data or seed.
        """
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
            self.epoch, self.updates, self.stale = facts["epoch"], facts["updates"], facts["stale"]
            self.lines = facts["lines"]
            self.best, self.mark = tensors["losses.best"], tensors["losses.mark"]
            self.best_weights = _copy(_under("best.", tensors), self.x.device)
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(tensors[f"weights.{name}"])
            optimiser = self.optimiser.state_dict()
            indices = [i for group in optimiser["param_groups"] for i in group["params"]]
            optimiser["state"] = {i: _under(f"adam.{i}.", tensors) for i in indices}
            self.optimiser.load_state_dict(optimiser)
        text = "".join(line + "\n" for line in self.lines)
        write_atomically(self.folder / LOG, lambda temporary: temporary.write_text(text))


def targets(model: Ensemble, data: dict[str, np.ndarray]) -> np.ndarray:
    """What the networks are to predict, before normalisation: change of the observation, then reward; (N, D) float64.

    Changes of angles are wrapped to [-pi, pi].
    """
    change = difference(data["next_observation"], data["observation"], model.task.observation)
    return np.concatenate([change, data["reward"][:, None]], 1)


def fit_normalisers(model: Ensemble, data: dict[str, np.ndarray]) -> None:
    """Means and standard deviations of inputs and targets; dimensions that do not vary are scaled by zero."""
    inputs = np.concatenate([data["observation"], data["action"]], 1).astype(np.float64)
    outputs = targets(model, data)
    scale_in, scale_out = _scale(inputs), _scale(outputs)
    inverse = np.divide(1.0, scale_in, out=np.zeros_like(scale_in), where=scale_in > 0)
    for buffer, value in (
        (model.input_mean, inputs.mean(0)),
        (model.input_scale, inverse),
        (model.target_mean, outputs.mean(0)),
        (model.target_scale, scale_out),
    ):
        buffer.copy_(torch.from_numpy(value))


def _scale(values: np.ndarray) -> np.ndarray:
    """Standard deviation of every column of (N, D), zero for those that are constant but for rounding."""
    std = values.std(0)
    return np.where(std > np.maximum(FLAT * np.abs(values).max(0), 1e-12), std, 0.0)


def _entropy(*labels: int) -> int:
    return int(np.random.SeedSequence(labels).generate_state(1)[0])


def _rng(*labels: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(labels))


def _copy(tensors: Mapping[str, torch.Tensor], device: Any = None) -> dict[str, torch.Tensor]:
    return {k: v.detach().to(device or v.device, copy=True).contiguous() for k, v in tensors.items()}


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The entries whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
