"""What online and offline training share: a learner, its random streams, its log, a state that survives a kill."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from wmbench.checkpoints import load_tensors
from wmbench.devices import torch_device
from wmbench.errors import CheckpointError, WmbenchError
from wmbench.files import write_atomically
from wmbench_baselines.tdmpc2.config import TDMPC2Config
from wmbench_baselines.tdmpc2.model import LatentModel
from wmbench_baselines.tdmpc2.replay import Replay
from wmbench_baselines.tdmpc2.update import Learner, UpdateNoise

RESUME = "resume.safetensors"
LOG = "log.jsonl"
SAVE_SECONDS = 120.0
"""How much work a killed run loses at most, and at least one episode, or one line of the log."""


class Run:
    """One learner at work; everything that comes next depends on what :meth:`save` writes and on the replay.

    Attributes:
        model: The model.
        learner: What updates it.
        replay: What it learns from.
        noise: Random numbers of planning and updates.
        places: Random numbers of the replay.
        facts: Counters and whatever else the kind of training must remember, as plain data.
        lines: The log so far.
    """

    def __init__(
        self,
        model: LatentModel,
        discount: torch.Tensor,
        replay: Replay,
        *,
        about: list[Any],
        folder: Path,
        seed: int,
        device: str,
    ) -> None:
        """Set up the learner.

        Args:
            model: The model, with its initial weights.
            discount: () or (tasks,).
            replay: Empty, or filled the same way at every start.
            about: What else the run is of, as plain data; a run goes on only where this and the settings agree.
            folder: Where the run keeps its state and its log.
            seed: Of everything random.
            device: Torch device.

        Raises:
            DeviceError: There is no such device.
            WmbenchError: It is to be compiled, and there is no compiler.
        """
        torch_device("tdmpc2", device)
        self.model, self.config, self.replay = model.to(device), model.config, replay
        self.learner = Learner(self.model, discount.to(device))
        self.folder, self.seed, self.device = folder, seed, device
        self.identity = json.dumps([*about, seed, unusual(model.config)], sort_keys=True)
        self.noise = torch.Generator(device).manual_seed(entropy(seed, 1))
        self.places = np.random.default_rng(entropy(seed, 2))
        self.facts: dict[str, Any] = {"updates": 0, "seconds": 0.0}
        self.lines: list[str] = []
        self.losses: dict[str, torch.Tensor] = {}

    def update(self) -> None:
        """One update from the replay."""
        config, model = self.config, self.model
        batch = self.replay.sample(config.batch_size, self.places, tasks=model.task_embedding is not None)
        self.losses = self.learner.update(batch, UpdateNoise.draw(config, config.batch_size, model.actions, self.noise))
        self.facts["updates"] += 1

    def measured(self) -> dict[str, float]:
        """Losses of the last update.

        Raises:
            WmbenchError: One is not finite: the model is lost.
        """
        found = {k: float(v) for k, v in self.losses.items()}
        if not all(np.isfinite(list(found.values()))):
            raise WmbenchError(f"tdmpc2 diverged after {self.facts['updates']} updates: {found}")
        return found

    def log(self, entry: dict[str, Any]) -> None:
        """Add a line to the log."""
        self.lines.append(json.dumps(entry))
        with (self.folder / LOG).open("a") as stream:
            stream.write(self.lines[-1] + "\n")

    def save(self) -> None:
        """Write everything that comes next depends on, atomically, in one file; the replay has files of its own."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors["scale"] = self.learner.scale.value
        for name, optimiser in self._optimisers().items():
            for i, state in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}.{i}.{k}": v for k, v in state.items()}
        tensors["noise"] = self.noise.get_state()
        facts = {**self.facts, "places": self.places.bit_generator.state, "lines": self.lines}
        whole = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
        metadata = {"identity": self.identity, "facts": json.dumps(facts)}
        write_atomically(self.folder / RESUME, lambda path: save_file(whole, path, metadata))

    def restore(self) -> None:
        """Go on where the folder's run was saved last; lines logged after that are taken back.

        Raises:
            CheckpointError: It is a run with other settings, of something else, or with another seed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / RESUME
        if path.exists():
            tensors = load_tensors(path)
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
            if metadata["identity"] != self.identity:
                raise CheckpointError(
                    f"{path} belongs to another run ({different(metadata['identity'], self.identity)}): give another "
                    "folder, or delete it to start afresh"
                )
            facts = json.loads(metadata["facts"])
            self.lines, self.places.bit_generator.state = facts.pop("lines"), facts.pop("places")
            self.facts.update(facts)
            self.model.load_state_dict(_under("model.", tensors))
            self.learner.scale.value.copy_(tensors["scale"])
            for name, optimiser in self._optimisers().items():
                whole = optimiser.state_dict()
                indices = [i for group in whole["param_groups"] for i in group["params"]]
                whole["state"] = {i: s for i in indices if (s := _under(f"{name}.{i}.", tensors))}
                optimiser.load_state_dict(whole)
            self.learner.forget()
            self.noise.set_state(tensors["noise"])
        text = "".join(line + "\n" for line in self.lines)
        write_atomically(self.folder / LOG, lambda temporary: temporary.write_text(text))

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"adam": self.learner.optimiser, "policy_adam": self.learner.policy_optimiser}


def unusual(config: TDMPC2Config) -> dict[str, Any]:
    """Settings that differ from the defaults, lengths of training apart: a longer run goes on from a shorter."""
    usual, lengths = dataclasses.asdict(TDMPC2Config()), ("frames", "updates", "head_updates")
    return {k: v for k, v in dataclasses.asdict(config).items() if v != usual[k] and k not in lengths}


def different(there: str, here: str) -> str:
    """In what two runs differ, from what identifies them."""
    usual = json.loads(json.dumps(dataclasses.asdict(TDMPC2Config())))
    (*of, seed, settings), (*own_of, own_seed, own_settings) = json.loads(there), json.loads(here)
    found = [] if of == own_of else ["its tasks or data"]
    both = {"seed": (seed, own_seed)}
    both |= {
        k: (settings.get(k, usual.get(k)), own_settings.get(k, usual.get(k)))
        for k in sorted({*settings, *own_settings})
    }
    return ", ".join(found + [f"{k} {a} there, {b} here" for k, (a, b) in both.items() if a != b])


def entropy(*labels: int) -> int:
    """A seed for the random stream of these labels.

    Raises:
        WmbenchError: One is negative.
    """
    if min(labels) < 0:
        raise WmbenchError(f"a seed must not be negative, got {min(labels)}")
    return int(np.random.SeedSequence(labels).generate_state(1)[0])


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The entries whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
