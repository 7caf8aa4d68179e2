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
from wmbench.errors import DatasetError, WmbenchError
from wmbench.files import write_atomically
from wmbench.progress import progress as progress_line
from wmbench_baselines.ensemble.data import Transitions, fit_normalisers

if TYPE_CHECKING:
    from wmbench_baselines.ensemble.model import Ensemble

RESUME = "resume.safetensors"
LOG = "log.jsonl"
APART = 1.0
"""The least distance of the log-variance's bounds. The penalty that draws them together has no lower end, and Adam
makes full steps of the weakest steady pull: without it an upper bound can fall below its lower one and stay there."""
SAVE_SECONDS = 2.0
"""How much work a killed run loses at most (and at least one epoch)."""
HOLDOUT = 20_000
"""At most so many held-out transitions are evaluated after every epoch."""

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
        self.train = Transitions.of(model, train)
        self.holdout = Transitions.of(model, holdout)
        self.varies = (model.target_scale > 0).float()  # (D,)
        self.share = self.varies / self.varies.sum().clamp_min(1)  # (D,), the mean over what varies
        n = len(self.train.x)
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
        order = torch.from_numpy(rng.permuted(self.rows, axis=1)).to(self.train.x.device)  # (E, N)
        total, count = torch.zeros((), device=self.train.x.device), 0
        for start in range(0, order.shape[1] - self.batch + 1, self.batch):
            rows = order[:, start : start + self.batch]  # (E, B)
            for group in self.optimiser.param_groups:
                group["lr"] = self._learning_rate()
            loss = self._loss(self.train.take(rows))
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            with torch.no_grad():
                torch.maximum(self.model.max_logvar, self.model.min_logvar + APART, out=self.model.max_logvar)
            total += loss.detach()
            count += 1
            self.updates += 1
            if self.updates >= self.config.max_updates:
                break
        self.epoch += 1
        return float(total) / count / self.config.members

    def _loss(self, rows: Transitions) -> torch.Tensor:
        """Sum over the members, which share nothing, of what they are trained on; ``rows`` hold (E, B, ...).

        The Gaussian negative log-likelihood without its constant, the distance of the log-variance's bounds as in
        PETS, and the cross-entropies of ending and success.
        """
        mean, logvar = self.model.outcomes(rows.x)
        square = (mean - rows.y) ** 2  # (E, B, D)
        inverse = (-logvar).exp()
        nll = square * inverse + logvar
        if self.config.variance_weight:  # the same gradient for the variance, another for the mean
            weight = (self.config.variance_weight * logvar.detach()).exp()
            nll = square.detach() * inverse + logvar + square * (weight * inverse.detach())
        bounds = (self.model.max_logvar - self.model.min_logvar) @ self.varies
        loss = (nll @ self.share).mean(1).sum() + self.config.bound_weight * bounds.sum()
        for name, networks in self.model.flags.items():
            logit = networks(rows.reached)[..., 0]  # (E, B)
            loss = loss + binary_cross_entropy_with_logits(logit, rows.flags[name], reduction="sum") / logit.shape[1]
        return loss

    @torch.no_grad()
    def _judge(self, loss: float, began: float) -> None:
        """Evaluate the hold-out, keep what is best, and log the epoch."""
        mse, nll, bce = self._holdout()
        score = sum(bce.values(), mse)
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
            "holdout_bce": bce["terminated"].tolist() if "terminated" in bce else None,
            **({"holdout_success_bce": bce["success"].tolist()} if "success" in bce else {}),
            "best": self.best.tolist(),
            "seconds": round(time.monotonic() - began, 3),
        }
        self.lines.append(json.dumps(entry))
        with (self.folder / LOG).open("a") as stream:
            stream.write(self.lines[-1] + "\n")

    @torch.no_grad()
    def _holdout(self) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Per member (E,), on the CPU: mean squared error, negative log-likelihood, cross-entropy of each flag."""
        e, heads = self.config.members, self.model.flags
        sums = torch.zeros(2 + len(heads), e, dtype=torch.float64)
        for rows in self.holdout.split(4096):
            mean, logvar = self.model.outcomes(rows.x[None])
            square = (mean - rows.y) ** 2
            sums[0] += (square @ self.share).sum(1).double().cpu()
            sums[1] += ((square * (-logvar).exp() + logvar) @ self.share).sum(1).double().cpu()
            for i, (name, networks) in enumerate(heads.items(), 2):
                logit = networks(rows.reached[None])[..., 0]  # (E, B)
                entropy = binary_cross_entropy_with_logits(logit, rows.flags[name].expand(e, -1), reduction="none")
                sums[i] += entropy.sum(1).double().cpu()
        mse, nll, *bce = (sums / len(self.holdout.x)).float()
        return mse, nll, dict(zip(heads, bce, strict=True))

    def _learning_rate(self) -> float:
        config = self.config
        if config.schedule == "constant":
            return config.learning_rate
        return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * self.updates / config.max_updates))

    def _adam(self) -> torch.optim.Adam:
        """Adam with each layer's own L2 penalty on its weights, as in PETS; none on anything else."""
        decays = zip(self.model.dynamics.weights, self.config.weight_decay, strict=True)
        groups: list[dict[str, Any]] = [{"params": [w], "weight_decay": decay} for w, decay in decays]
        decayed = {id(w) for w in self.model.dynamics.weights}
        rest = [p for p in self.model.parameters() if id(p) not in decayed]
        groups += [{"params": rest, "weight_decay": 0.0}]
        return torch.optim.Adam(groups, lr=self.config.learning_rate, fused=True)

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
            self.best_weights = _copy(_under("best.", tensors), self.train.x.device)
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(tensors[f"weights.{name}"])
            optimiser = self.optimiser.state_dict()
            indices = [i for group in optimiser["param_groups"] for i in group["params"]]
            optimiser["state"] = {i: _under(f"adam.{i}.", tensors) for i in indices}
            self.optimiser.load_state_dict(optimiser)
        text = "".join(line + "\n" for line in self.lines)
        write_atomically(self.folder / LOG, lambda temporary: temporary.write_text(text))


def _entropy(*labels: int) -> int:
    return int(np.random.SeedSequence(labels).generate_state(1)[0])


def _rng(*labels: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(labels))


def _copy(tensors: Mapping[str, torch.Tensor], device: Any = None) -> dict[str, torch.Tensor]:
    return {k: v.detach().to(device or v.device, copy=True).contiguous() for k, v in tensors.items()}


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The entries whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
