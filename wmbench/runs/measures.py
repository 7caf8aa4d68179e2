"""The measuring steps of the quick run: what is asked about the models that its other steps trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wmbench import checkpoints, registry
from wmbench.errors import CheckpointError
from wmbench.files import sync
from wmbench.recording.recorder import Subjects
from wmbench.registration import task_card
from wmbench.runs.pipeline import Context
from wmbench.runs.places import (
    checkpoint_path,
    dataset,
    dataset_path,
    extra_models,
    extra_policies,
    relative,
    run_folder,
)
from wmbench.runs.store import RecordStore
from wmbench.seeding import episode_seeds

FRAMES = (0, 10, 20, 35, 50, 75, 100)
"""Steps at which the true and the imagined rollout are drawn."""


def one_step(context: Context) -> dict[str, Any]:
    """One-step error of the ensemble and further models, beside the baselines."""
    return _record(context, "one-step", limit=context.plan.one_step_limit)


def drift(context: Context) -> dict[str, Any]:
    """Rollout drift of the ensemble and further models, beside baselines and floor."""
    return _record(context, "drift", horizon=context.plan.horizon, windows=context.plan.windows)


def counterfactual(context: Context) -> dict[str, Any]:
    """Effects of other actions, against exact branches of the true simulator."""
    return _record(context, "counterfactual", starts=context.plan.branch_starts)


def heads(context: Context) -> dict[str, Any]:
    """Rewards and endings."""
    return _record(context, "heads", limit=context.plan.one_step_limit, windows=context.plan.open_loops)


def uncertainty(context: Context) -> dict[str, Any]:
    """Whether the models know when they are wrong."""
    return _record(context, "uncertainty", windows=context.plan.open_loops)


def success(context: Context) -> dict[str, Any]:
    """The same policies on the same starts in the true and in the learned simulators."""
    from wmbench.measuring import measure_success
    from wmbench.recording.success import outcome

    plan, subjects = context.plan, _zoo(context)
    seeds = episode_seeds(plan.seed, context.task.id, "eval", plan.eval_episodes)
    policies = ["random", "bc", plan.demonstrator, *extra_policies(plan, context.task)]
    outcomes = {
        f"{policy} in {where or 'true'}": [outcome(e) for e in subjects.episodes(policy, where, seeds)]
        for where in (None, *subjects.simulators)
        for policy in policies
    }
    measured = measure_success({s: {"task": context.task.id, "episodes": found} for s, found in outcomes.items()})
    measured.recording.save(context.folder)
    return {
        "recording": relative(context),
        "policies": policies,
        "simulators": ["true", *subjects.simulators],
        "results": [r.to_json() for r in measured.results],
        "episodes": outcomes,
    }


def agreement(context: Context) -> dict[str, Any]:
    """Whether the learned simulators rank a zoo of policies as the true one does."""
    return _record(context, "agreement", _zoo(context), episodes=context.plan.eval_episodes)


def _zoo(context: Context) -> Subjects:
    """Policies far apart and close together: random, still, cloned, half-trained, demonstrators with noise, guests."""
    name = context.plan.demonstrator
    found = {"random": "random", "zero": "zero", "bc": checkpoint_path(context, "bc"), name: name}
    found |= {f"{name}+noise{level:g}": f"{name}+noise{level:g}" for level in context.plan.zoo_noise}
    found |= extra_policies(context.plan, context.task)
    medium = f"{name}-medium"
    try:
        checkpoints.find(medium, context.task, kind="policy")
    except CheckpointError:  # nobody shipped a half-trained one for this task
        return _subjects(context, found)
    return _subjects(context, {**found, medium: medium})


_gathered: dict[str, Subjects] = {}
"""Subjects with policies, by checkpoint of the ensemble: they remember episodes that two steps want."""


def _subjects(context: Context, policies: Mapping[str, str]) -> Subjects:
    """The run's models, and policies."""
    from wmbench.measuring import gather_subjects

    trained = checkpoint_path(context, "ensemble")
    if not policies or trained not in _gathered:
        models = {"ensemble": trained} | extra_models(context.plan, context.task)
        found = gather_subjects(dataset_path(context), models, policies, seed=context.plan.seed)
        if not policies:
            return found
        _gathered[trained] = found
    return _gathered[trained]


def _record(context: Context, name: str, subjects: Subjects | None = None, **options: Any) -> dict[str, Any]:
    """Make one recording of the run's models, and apply every measure that reads it."""
    recording = registry.recorders.load(name)(subjects or _subjects(context, {}), **options)
    recording.save(context.folder)
    return {"recording": relative(context), "results": [r.to_json() for r in recording.every_result()]}


def rollout_pair(context: Context) -> dict[str, Any]:
    """One rollout of the same actions in both simulators, as numbers and, where pictures can be made, as frames."""
    import gymnasium as gym

    from wmbench.errors import RenderError

    card = context.task
    data = dataset(context)
    index = int(data.episodes("test")[-1])
    episode = data.episode(index)
    actions = episode.action[: context.plan.horizon]
    drawn: dict[str, Any] = {"render_mode": "rgb_array", "height": 96, "width": 128}
    true = gym.make(card.id, **card.options(), **drawn)
    learned = gym.make(card.id, **card.options(), simulator=checkpoint_path(context, "ensemble"), init="true", **drawn)
    shown = _most_moving(episode.observation[: len(actions) + 1])
    traces: list[np.ndarray] = []
    strips: list[np.ndarray] = []
    frame_steps = [s for s in FRAMES if s <= len(actions)]
    why = None
    for env in (true, learned):
        observation, _ = env.reset(seed=episode.seed)
        trace, frames = [observation], []
        for step in range(len(actions) + 1):
            if why is None and step in frame_steps:
                try:
                    frames.append(env.render())
                except RenderError as error:
                    why = str(error)
            if step < len(actions) and len(trace) == step + 1:
                observation, _, terminated, truncated, _ = env.step(actions[step])
                trace.append(observation)
                if terminated or truncated:
                    break
        traces.append(np.array(trace)[:, shown])
        strips.append(np.array(frames))
        env.close()
    length = min(map(len, traces))
    count = min(map(len, strips))
    path = None
    if why is None and count:
        context.folder.mkdir(parents=True, exist_ok=True)
        np.save(context.folder / "frames.npy", np.stack([s[:count] for s in strips]))
        sync(context.folder / "frames.npy")
        path = f"{relative(context)}/frames.npy"
    return {
        "episode": index,
        "seed": episode.seed,
        "dimensions": [card.observation[d].name for d in shown],
        "units": [card.observation[d].unit for d in shown],
        "true": traces[0][:length].tolist(),
        "imagined": traces[1][:length].tolist(),
        "frames": path,
        "frame_steps": frame_steps[:count],
        "why_no_frames": why,
    }


def latency(context: Context) -> dict[str, Any]:
    """Cost of calls, task by task, alone on the machine. Everything it finds is a fact, not a value."""
    from wmbench.measuring import measure_latency
    from wmbench.provenance import provenance

    plan = context.plan
    folder = run_folder(context)
    store = RecordStore(folder)
    results, recordings = [], {}
    for task in plan.tasks:
        card = task_card(task)
        ensembles = [r for r in store.all() if (r["track"], r["step"]) == (card.name, "ensemble")]
        trained = folder / ensembles[-1]["values"]["checkpoint"]
        simulators: dict[str, str | None] = {"true": None, "ensemble": str(trained)}
        simulators |= extra_models(plan, card)
        measured = measure_latency(card, simulators, batches=(1, 16, 256, 4096), budget_s=plan.latency_seconds)
        measured.recording.save(context.folder / card.name)
        recordings[card.id] = f"{relative(context)}/{card.name}"
        results += [{"task": card.id, "result": r.to_json()} for r in measured.results]
    context.facts["results"], context.facts["recordings"] = results, recordings
    context.facts["provenance"] = provenance()
    return {"tasks": list(plan.tasks)}


def _most_moving(observation: np.ndarray, count: int = 4) -> list[int]:
    """Indices of the dimensions with the largest spread relative to their size, in their own order."""
    spread = observation.std(0) / (1e-6 + np.abs(observation).max(0))
    return sorted(np.argsort(-spread)[:count].tolist())
