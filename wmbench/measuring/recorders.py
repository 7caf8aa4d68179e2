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
from wmbench.recording.success import join, outcome
from wmbench.recording.uncertainty import record_uncertainty
from wmbench.seeding import episode_seeds

EPISODES = 12
"""Starts that every policy faces in every simulator."""


def _of_models(record: Any) -> Any:
    """A recorder of models on data."""

    def function(subjects: Subjects, **options: Any) -> Recording:
        return record(subjects.models, subjects.dataset, seed=subjects.seed, **options)

    return function


def _success(subjects: Subjects, *, episodes: int = EPISODES) -> Recording:
    seeds = episode_seeds(subjects.seed, subjects.task.id, "eval", episodes)
    return join(
        {
            f"{name} in {where or 'true'}": {
                "task": subjects.task.id,
                "episodes": [outcome(e) for e in subjects.episodes(name, where, seeds)],
            }
            for where in (None, *subjects.simulators)
            for name in subjects.policies
        }
    )


def _agreement(subjects: Subjects, *, episodes: int = EPISODES, **options: Any) -> Recording:
    options = {"roll": subjects.episodes, "seed": subjects.seed, **options}
    return record_agreement(subjects.task, subjects.policies, subjects.simulators, episodes=episodes, **options)


def _latency(subjects: Subjects, **options: Any) -> Recording:
    simulators: dict[str, str | None] = {"true": None, **subjects.simulators}
    options = {"device": subjects.device, "seed": subjects.seed, **options}
    return record_latency(subjects.task, simulators, subjects.policies, **options)


ONE_STEP = Recorder("one-step", _of_models(record_one_step), anywhere=True)
DRIFT = Recorder("drift", _of_models(record_drift), anywhere=True)
HEADS = Recorder("heads", _of_models(record_heads), anywhere=True)
COUNTERFACTUAL = Recorder("counterfactual", _of_models(record_counterfactuals))
UNCERTAINTY = Recorder("uncertainty", _of_models(record_uncertainty), anywhere=True)
IMAGES = Recorder("images", _of_models(record_images), full=False, anywhere=True)
SUCCESS = Recorder("success", _success, policies=1)
AGREEMENT = Recorder("agreement", _agreement, policies=3)
LATENCY = Recorder("latency", _latency, full=False, anywhere=True)
