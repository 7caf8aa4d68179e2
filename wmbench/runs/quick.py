"""The quick run: real data, an ensemble and a cloned policy, both simulators side by side, four measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.files import sync
from wmbench.registration import task_card
from wmbench.runs.pipeline import Context, Step
from wmbench.runs.plan import Plan
from wmbench.runs.store import RecordStore

REFERENCES = ("linear", "copy-last")
"""Reference models that stand beside the ensemble as environments; the others are baselines of the measures."""

SPLIT = (0.7, 0.1, 0.2)
"""More test episodes than usual: intervals resample episodes."""

EARLY_ENDS = 10
"""Times as many random episodes where they end early: random behaviour falls over within some twenty steps."""

FRAMES = (0, 10, 20, 35, 50, 75, 100)
"""Steps at which the true and the imagined rollout are drawn."""


@dataclass(frozen=True)
class Track:
    """A sequence of steps about one task, or about all of them (``card`` is None)."""

    card: TaskCard | None
    steps: tuple[Step, ...]


def tracks(plan: Plan) -> dict[str, Track]:
    """The plan's tracks by name: one per task, then the timings, which want the machine to themselves."""
    data = ("seed", "random_episodes", "smooth_episodes", "noisy_episodes", "demonstrations", "demonstrator")
    steps = (
        Step("collect", collect, (), data),
        Step("ensemble", train_ensemble, ("collect",), ("seed", "preset", "updates")),
        Step("bc", train_bc, ("collect",), ("seed", "demonstrator")),
        Step("references", fit_references, ("collect",)),
        Step("one-step", one_step, ("collect", "ensemble", "references"), ("seed", "models", "one_step_limit")),
        Step("drift", drift, ("collect", "ensemble", "references"), ("seed", "models", "windows", "horizon")),
        Step("success", success, ("ensemble", "bc"), ("seed", "models", "eval_episodes", "demonstrator")),
        Step("rollout", rollout_pair, ("collect", "ensemble"), ("horizon",)),
    )
    cards = [task_card(task) for task in plan.tasks]
    every = {card.name: Track(card, steps) for card in cards}
    return {**every, "timing": Track(None, (Step("latency", latency, (), ("tasks", "models", "latency_seconds")),))}


def collect(context: Context) -> dict[str, Any]:
    """Mixed behaviour in the true simulator: random, time-correlated, demonstrated with and without noise."""
    from wmbench import collect as collect_episodes
    from wmbench.evaluating import make_policy

    plan = context.plan
    smooth = make_policy("random", context.task, config={"smoothness": 0.9})
    more = EARLY_ENDS if context.task.terminates else 1
    wanted = [
        ("random", more * plan.random_episodes, 0.0),
        (smooth, more * plan.smooth_episodes, 0.0),
        (plan.demonstrator, plan.noisy_episodes, 0.3),
        (plan.demonstrator, plan.demonstrations, 0.0),
    ]
    policy, episodes, noise = zip(*(source for source in wanted if source[1]), strict=True)
    dataset = collect_episodes(
        context.task, context.folder, policy=policy, episodes=episodes, noise=noise, seed=plan.seed, split=SPLIT
    )
    return {
        "dataset": _relative(context),
        "digest": dataset.digest,
        "episodes": len(dataset),
        "steps": dataset.manifest["steps"],
        "sources": {name: count["episodes"] for name, count in dataset.manifest["counts"]["source"].items()},
    }


def train_ensemble(context: Context) -> dict[str, Any]:
    """The probabilistic ensemble, in the plan's preset."""
    updates: dict[str, Any] = {} if context.plan.updates is None else {"max_updates": context.plan.updates}
    return _train(context, "ensemble", preset=context.plan.preset, **updates)


def train_bc(context: Context) -> dict[str, Any]:
    """Behaviour cloning of the demonstrator's episodes, the noisy ones included: their noise averages out."""
    return _train(context, "bc", preset="quick", sources=(context.plan.demonstrator,))


def fit_references(context: Context) -> dict[str, Any]:
    """Reference models, each fitted in a second."""
    return {name: _train(context, name, folder=context.folder / name) for name in REFERENCES}


def _train(context: Context, name: str, folder: Path | None = None, **options: Any) -> dict[str, Any]:
    from wmbench import train

    out = folder or context.folder
    trained = train(name, context.task, _dataset_path(context), out, seed=context.plan.seed, progress=False, **options)
    return {
        "checkpoint": str(out.relative_to(_run_folder(context))),
        "digest": _digest(out / "model.safetensors"),
        "n_parameters": sum(p.numel() for p in trained.model.parameters()),
    }


def one_step(context: Context) -> dict[str, Any]:
    """One-step error of the ensemble and further models, beside the baselines."""
    from wmbench.measuring import measure_one_step

    plan = context.plan
    measured = measure_one_step(_models(context), _dataset(context), limit=plan.one_step_limit, seed=plan.seed)
    measured.recording.save(context.folder)
    return {"recording": _relative(context), "results": [r.to_json() for r in measured.results]}


def drift(context: Context) -> dict[str, Any]:
    """Rollout drift of the ensemble and further models, beside baselines and floor."""
    from wmbench.measuring import measure_drift

    plan = context.plan
    measured = measure_drift(
        _models(context), _dataset(context), horizon=plan.horizon, windows=plan.windows, seed=plan.seed
    )
    measured.recording.save(context.folder)
    return {"recording": _relative(context), "results": [r.to_json() for r in measured.results]}


def success(context: Context) -> dict[str, Any]:
    """The same policies on the same starts in the true and in the learned simulators."""
    from wmbench import evaluate
    from wmbench.measuring import measure_success

    plan = context.plan
    simulators: dict[str, str | None] = {"true": None, "ensemble": _path(context, "ensemble")}
    simulators |= {_label(ref): ref for ref in _extra_models(plan)}
    policies = {"random": "random", "bc": _path(context, "bc"), plan.demonstrator: plan.demonstrator}
    evaluations = {
        f"{policy} in {simulator}": evaluate(
            context.task,
            reference,
            simulator=where,
            episodes=plan.eval_episodes,
            seed=plan.seed,
            num_envs=plan.eval_episodes,
            name=policy,
        )
        for simulator, where in simulators.items()
        for policy, reference in policies.items()
    }
    measured = measure_success(evaluations)
    measured.recording.save(context.folder)
    return {
        "recording": _relative(context),
        "policies": list(policies),
        "simulators": list(simulators),
        "results": [r.to_json() for r in measured.results],
        "episodes": {name: e.episodes for name, e in evaluations.items()},
    }


def rollout_pair(context: Context) -> dict[str, Any]:
    """One rollout of the same actions in both simulators, as numbers and, where pictures can be made, as frames."""
    import gymnasium as gym

    from wmbench.errors import RenderError

    card = context.task
    dataset = _dataset(context)
    index = int(dataset.episodes("test")[-1])
    episode = dataset.episode(index)
    actions = episode.action[: context.plan.horizon]
    true = gym.make(card.id, render_mode="rgb_array", height=96, width=128)
    learned = gym.make(
        card.id, simulator=_path(context, "ensemble"), init="true", render_mode="rgb_array", height=96, width=128
    )
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
        path = f"{_relative(context)}/frames.npy"
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
    run_folder = _run_folder(context)
    store = RecordStore(run_folder)
    results = []
    for task in plan.tasks:
        card = task_card(task)
        ensembles = [r for r in store.all() if (r["track"], r["step"]) == (card.name, "ensemble")]
        trained = run_folder / ensembles[-1]["values"]["checkpoint"]
        simulators: dict[str, str | None] = {"true": None, "ensemble": str(trained)}
        simulators |= {_label(ref): ref for ref in _extra_models(plan)}
        measured = measure_latency(card, simulators, batches=(1, 16, 256, 4096), budget_s=plan.latency_seconds)
        measured.recording.save(context.folder / card.name)
        results += [{"task": card.id, "result": r.to_json()} for r in measured.results]
    context.facts["results"] = results
    context.facts["provenance"] = provenance()
    return {"tasks": list(plan.tasks)}


def _most_moving(observation: np.ndarray, count: int = 4) -> list[int]:
    """Indices of the dimensions with the largest spread relative to their size, in their own order."""
    spread = observation.std(0) / (1e-6 + np.abs(observation).max(0))
    return sorted(np.argsort(-spread)[:count].tolist())


def _models(context: Context) -> dict[str, Any]:
    """The trained ensemble and the plan's further models, loaded."""
    from wmbench import checkpoints

    references = {"ensemble": _path(context, "ensemble")} | {_label(r): r for r in _extra_models(context.plan)}
    return {
        name: checkpoints.resolve(reference, context.task, kind="world_model") for name, reference in references.items()
    }


def _extra_models(plan: Plan) -> list[str]:
    return [str(Path(m).resolve()) if Path(m).exists() else m for m in plan.models]


def _label(reference: str) -> str:
    return Path(reference).name


def _run_folder(context: Context) -> Path:
    return context.folder.parent.parent


def _relative(context: Context) -> str:
    return str(context.folder.relative_to(_run_folder(context)))


def _path(context: Context, step: str) -> str:
    """Absolute path of a checkpoint that an earlier step wrote."""
    return str((_run_folder(context) / context.records[step]["checkpoint"]).resolve())


def _dataset_path(context: Context) -> Path:
    return _run_folder(context) / context.records["collect"]["dataset"]


def _dataset(context: Context) -> Any:
    from wmbench.episodes import Dataset

    return Dataset(_dataset_path(context))


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
