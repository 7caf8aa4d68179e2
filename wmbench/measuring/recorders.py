"""The suite's own recorders: each hands the subjects to what records them, at the sizes of a full measurement."""

from __future__ import annotations

from typing import Any

from wmbench.recording import Recording
from wmbench.recording.agreement import record_agreement
from wmbench.recording.counterfactual import record_counterfactuals
from wmbench.recording.drift import record_drift
from wmbench.recording.heads import record_heads
from wmbench.recording.images import record_images
from wmbench.recording.latency import record_latency
from wmbench.recording.one_step import record_one_step
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.success import join
from wmbench.recording.uncertainty import record_uncertainty

EPISODES = 12
"""Starts that every policy faces in every simulator."""


def _of_models(record: Any) -> Any:
    """A recorder of models on data."""

    def function(subjects: Subjects, **options: Any) -> Recording:
        return record(subjects.models, subjects.dataset, seed=subjects.seed, **options)

    return function


def _success(subjects: Subjects, *, episodes: int = EPISODES, **options: Any) -> Recording:
    from wmbench.evaluating import evaluate

    everywhere: dict[str, str | None] = {"true": None, **subjects.simulators}
    return join(
        {
            f"{name} in {where}": evaluate(
                subjects.task,
                policy,
                simulator=simulator,
                episodes=episodes,
                seed=subjects.seed,
                num_envs=episodes,
                device=subjects.device,
                name=name,
                **options,
            )
            for where, simulator in everywhere.items()
            for name, policy in subjects.policies.items()
        }
    )


def _agreement(subjects: Subjects, *, episodes: int = EPISODES, **options: Any) -> Recording:
    options = {"num_envs": episodes, "device": subjects.device, **options}
    return record_agreement(
        subjects.task, subjects.policies, subjects.simulators, episodes=episodes, seed=subjects.seed, **options
    )


def _latency(subjects: Subjects, **options: Any) -> Recording:
    simulators: dict[str, str | None] = {"true": None, **subjects.simulators}
    options = {"device": subjects.device, "seed": subjects.seed, **options}
    return record_latency(subjects.task, simulators, subjects.policies, **options)


ONE_STEP = Recorder("one-step", _of_models(record_one_step))
DRIFT = Recorder("drift", _of_models(record_drift))
HEADS = Recorder("heads", _of_models(record_heads))
COUNTERFACTUAL = Recorder("counterfactual", _of_models(record_counterfactuals))
UNCERTAINTY = Recorder("uncertainty", _of_models(record_uncertainty))
IMAGES = Recorder("images", _of_models(record_images), full=False)
SUCCESS = Recorder("success", _success, policies=1)
AGREEMENT = Recorder("agreement", _agreement, policies=3)
LATENCY = Recorder("latency", _latency, full=False)
