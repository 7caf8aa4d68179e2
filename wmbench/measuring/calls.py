"""From models, policies and a dataset to results: each measure recorded and computed in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.measures import Result
from wmbench.protocols import Policy, WorldModel
from wmbench.recording import Recording
from wmbench.recording.agreement import record_agreement
from wmbench.recording.counterfactual import record_counterfactuals
from wmbench.recording.drift import record_drift
from wmbench.recording.heads import record_heads
from wmbench.recording.images import record_images
from wmbench.recording.latency import record_latency
from wmbench.recording.one_step import record_one_step
from wmbench.recording.success import join
from wmbench.recording.uncertainty import record_uncertainty
from wmbench.registration import task_card


@dataclass(frozen=True)
class Measured:
    """What was recorded, and what the measure makes of it.

    Attributes:
        recording: The arrays; saved, they give the same results again without simulator or model.
        results: Every result, subject by subject.
    """

    recording: Recording
    results: list[Result]

    def find(self, name: str, subject: str) -> Result:
        """One result by name and subject.

        Raises:
            KeyError: There is none.
        """
        for result in self.results:
            if (result.name, result.subject) == (name, subject):
                return result
        raise KeyError(f"{self.recording.measure}: no result {name!r} of {subject!r}")


def _measured(recording: Recording) -> Measured:
    return Measured(recording, recording.results())


def measure_one_step(
    models: Mapping[str, WorldModel], dataset: Dataset, *, limit: int = 4000, seed: int = 0, **options: Any
) -> Measured:
    """Errors of one predicted step on the test split, with copy-last, mean-delta and linear beside the models.

    Args:
        models: Name to model.
        dataset: Of the models' task.
        limit: At most this many transitions.
        seed: Of their choice and of the models' keys.
        **options: See :func:`wmbench.recording.one_step.record_one_step`.

    Raises:
        DatasetError: A model of another task, or an empty split.
    """
    return _measured(record_one_step(models, dataset, limit=limit, seed=seed, **options))


def measure_drift(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    horizon: int = 100,
    windows: int = 64,
    seed: int = 0,
    floor: bool = True,
    **options: Any,
) -> Measured:
    """Drift of open-loop rollouts on the test split, with baselines and the true simulator's own divergence.

    Args:
        models: Name to model.
        dataset: Of the models' task.
        horizon: Steps of a window.
        windows: How many.
        seed: Of their choice, of the models' keys and of the disturbances.
        floor: Whether to run the true simulator from disturbed states.
        **options: See :func:`wmbench.recording.drift.record_drift`.

    Raises:
        DatasetError: A model of another task, or an empty split.
    """
    return _measured(record_drift(models, dataset, horizon=horizon, windows=windows, seed=seed, floor=floor, **options))


def measure_counterfactual(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    starts: int = 128,
    steps: int = 10,
    seed: int = 0,
    **options: Any,
) -> Measured:
    """Effects of changed actions, against branches of the true simulator from the same states.

    Args:
        models: Name to model.
        dataset: Of the models' task, with simulator states.
        starts: How many states.
        steps: Length of the action sequences.
        seed: Of states, actions and the models' keys.
        **options: See :func:`wmbench.recording.counterfactual.record_counterfactuals`.

    Raises:
        DatasetError: A model of another task, an empty split, or no simulator states.
    """
    return _measured(record_counterfactuals(models, dataset, starts=starts, steps=steps, seed=seed, **options))


def measure_heads(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    limit: int = 4000,
    horizon: int = 50,
    windows: int = 200,
    seed: int = 0,
    **options: Any,
) -> Measured:
    """Reward, success and termination heads on the test split, with the train split's marginal beside the models.

    Args:
        models: Name to model.
        dataset: Of the models' task.
        limit: At most this many single steps.
        horizon: Steps of an open-loop window.
        windows: How many.
        seed: Of their choice and of the models' keys.
        **options: See :func:`wmbench.recording.heads.record_heads`.

    Raises:
        DatasetError: A model of another task, or an empty split.
    """
    return _measured(record_heads(models, dataset, limit=limit, horizon=horizon, windows=windows, seed=seed, **options))


def measure_uncertainty(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    horizon: int = 20,
    windows: int = 400,
    seed: int = 0,
    **options: Any,
) -> Measured:
    """What the models know of their own errors on the test split, with four trivial signals beside theirs.

    Args:
        models: Name to model.
        dataset: Of the models' task.
        horizon: Steps of an open-loop window.
        windows: How many.
        seed: Of their choice, of the models' keys and of the noise off the data.
        **options: See :func:`wmbench.recording.uncertainty.record_uncertainty`.

    Raises:
        DatasetError: A model of another task, or an empty split.
        MissingHeadError: A model does not give a signal that its card names.
    """
    return _measured(record_uncertainty(models, dataset, horizon=horizon, windows=windows, seed=seed, **options))


def measure_images(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    horizon: int = 20,
    windows: int = 16,
    size: int = 64,
    seed: int = 0,
    **options: Any,
) -> Measured:
    """Predicted pictures beside true ones; for looking at, never for ranking.

    Args:
        models: Name to model.
        dataset: Of the models' task.
        horizon: Steps of an open-loop window.
        windows: How many.
        size: Height and width of pictures of states.
        seed: Of the choice of windows and of the models' keys.
        **options: See :func:`wmbench.recording.images.record_images`.

    Raises:
        DatasetError: A model of another task, an empty split, or nothing to draw.
        CheckpointError: Weights that are absent or of another kind.
        RenderError: No graphics backend works here, or the task's card has no pose.
    """
    return _measured(record_images(models, dataset, horizon=horizon, windows=windows, size=size, seed=seed, **options))


def measure_success(evaluations: Mapping[str, Any]) -> Measured:
    """Success, return and length of several evaluations of one task side by side.

    Args:
        evaluations: Subject (for example ``"bc in ensemble"``) to what :func:`wmbench.evaluating.evaluate` returned,
            or to its JSON.

    Raises:
        DatasetError: Evaluations of different tasks, or none.
    """
    return _measured(join(evaluations))


def measure_comparison(evaluations: Mapping[str, Any]) -> Measured:
    """Differences in success and return between every two evaluations, on the starts that both faced.

    Args:
        evaluations: As :func:`measure_success` takes them, two or more.

    Raises:
        DatasetError: Evaluations of different tasks, or none.
    """
    recording = join(evaluations)
    return _measured(Recording("comparison", recording.arrays, recording.meta))


def measure_agreement(
    task: TaskCard | str,
    policies: Mapping[str, Policy],
    simulators: Mapping[str, str],
    *,
    episodes: int = 50,
    seed: int = 0,
    outcome: str = "return",
    **options: Any,
) -> Measured:
    """Rank, choice and value of policies in learned simulators against the true one, on the same starts.

    Args:
        task: Card, id or short name.
        policies: Name to policy, eight or more.
        simulators: Name to what ``gym.make(id, simulator=...)`` takes.
        episodes: How many starts.
        seed: Root seed of the starts.
        outcome: ``return`` or ``success``.
        **options: See :func:`wmbench.recording.agreement.record_agreement`.

    Raises:
        DatasetError: No policies or simulators, or horizons beyond the task's.
    """
    card = task_card(task) if isinstance(task, str) else task
    found = record_agreement(card, policies, simulators, episodes=episodes, seed=seed, outcome=outcome, **options)
    return _measured(found)


def measure_latency(
    task: TaskCard | str,
    simulators: Mapping[str, str | None],
    policies: Mapping[str, Policy] | None = None,
    *,
    batches: Sequence[int] = (1, 16, 256, 4096),
    budget_s: float = 2.0,
    **options: Any,
) -> Measured:
    """Cost of reset, step and act.

    Args:
        task: Card, id or short name.
        simulators: Name to what ``gym.make(id, simulator=...)`` takes; None is the true simulator.
        policies: Name to policy.
        batches: Rows per call.
        budget_s: Seconds for each kind of call, at most.
        **options: See :func:`wmbench.recording.latency.record_latency`.
    """
    card = task_card(task) if isinstance(task, str) else task
    return _measured(record_latency(card, simulators, policies or {}, batches=batches, budget_s=budget_s, **options))
