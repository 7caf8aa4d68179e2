"""The quick run: real data, an ensemble and a cloned policy, both simulators side by side, the main measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmbench.cards import TaskCard
from wmbench.registration import task_card
from wmbench.runs import measures
from wmbench.runs.pipeline import Context, Step
from wmbench.runs.places import dataset_path, file_digest, relative, run_folder
from wmbench.runs.plan import Plan

REFERENCES = ("linear", "copy-last")
"""Reference models that stand beside the ensemble as environments; the others are baselines of the measures."""

SPLIT = (0.7, 0.1, 0.2)
"""More test episodes than usual: intervals resample episodes."""

EARLY_ENDS = 10
"""Times as many random episodes where they end early: random behaviour falls over within some twenty steps."""


@dataclass(frozen=True)
class Track:
    """A sequence of steps about one task, or about all of them (``card`` is None)."""

    card: TaskCard | None
    steps: tuple[Step, ...]


def tracks(plan: Plan) -> dict[str, Track]:
    """The plan's tracks by name: one per task, then the timings, which want the machine to themselves."""
    data = ("seed", "random_episodes", "smooth_episodes", "noisy_episodes", "demonstrations", "demonstrator")
    models = ("collect", "ensemble", "references")
    zoo = ("seed", "models", "policies", "demonstrator", "zoo_noise", "eval_episodes")
    steps = (
        Step("collect", collect, (), data),
        Step("ensemble", train_ensemble, ("collect",), ("seed", "preset", "updates")),
        Step("bc", train_bc, ("collect",), ("seed", "demonstrator")),
        Step("references", fit_references, ("collect",)),
        Step("one-step", measures.one_step, models, ("seed", "models", "one_step_limit")),
        Step("drift", measures.drift, models, ("seed", "models", "windows", "horizon")),
        Step("counterfactual", measures.counterfactual, ("collect", "ensemble"), ("seed", "models", "branch_starts")),
        Step("heads", measures.heads, ("collect", "ensemble"), ("seed", "models", "one_step_limit", "open_loops")),
        Step("uncertainty", measures.uncertainty, ("collect", "ensemble"), ("seed", "models", "open_loops")),
        Step(
            "success",
            measures.success,
            ("collect", "ensemble", "bc"),
            ("seed", "models", "policies", "eval_episodes", "demonstrator"),
        ),
        Step("agreement", measures.agreement, ("collect", "ensemble", "bc"), zoo),
        Step("rollout", measures.rollout_pair, ("collect", "ensemble"), ("horizon",)),
    )
    cards = [task_card(task) for task in plan.tasks]
    every = {card.name: Track(card, steps) for card in cards}
    timing = Step("latency", measures.latency, (), ("tasks", "models", "latency_seconds"))
    return {**every, "timing": Track(None, (timing,))}


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
        "dataset": relative(context),
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
    trained = train(name, context.task, dataset_path(context), out, seed=context.plan.seed, progress=False, **options)
    return {
        "checkpoint": str(out.relative_to(run_folder(context))),
        "digest": file_digest(out / "model.safetensors"),
        "n_parameters": sum(p.numel() for p in trained.model.parameters()),
    }
