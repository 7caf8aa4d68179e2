"""``wmbench.evaluate``: a policy over a list of episode seeds, in the true or in a learned simulator."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmbench import registry
from wmbench.cards import TaskCard
from wmbench.delays import First, LatencyTrace, OnMiss, delayed
from wmbench.errors import CheckpointError
from wmbench.files import write_json
from wmbench.measures import Result
from wmbench.protocols import Policy
from wmbench.provenance import provenance
from wmbench.recording.success import outcome, record_success
from wmbench.registration import task_card
from wmbench.seeding import episode_seeds
from wmbench.threads import one_thread
from wmbench.worlds import Asked, parse_world

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """One policy in one simulator of one task.

    Attributes:
        task: Id.
        policy: Name or folder.
        simulator: ``"true"``, or name or folder of the world model.
        seeds: One per episode, in order.
        episodes: One outcome per seed: see :func:`wmbench.recording.success.outcome`.
        results: Success (Wilson interval), return and length (bootstrap intervals).
        settings: What was asked for: root seed, number of environments, device, where episodes begin; under
            ``delayed`` how late the policy answered, with the latency trace itself, if it did; under ``world`` what was
            asked of the worlds, if they were other than the nominal one.
        facts: Seconds and provenance: what may differ between two runs with the same outcome.
    """

    task: str
    policy: str
    simulator: str
    seeds: list[int]
    episodes: list[dict[str, Any]]
    results: list[Result]
    settings: dict[str, Any]
    facts: dict[str, Any]

    @property
    def subject(self) -> str:
        """``"bc in true"``; of checkpoint folders only the last part."""
        return subject(self.policy, self.simulator)

    def find(self, name: str) -> Result:
        """The result of a name: ``success``, ``success-once``, ``success-at-end``, ``return`` or ``length``.

        Raises:
            KeyError: There is none.
        """
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(f"an evaluation has no result {name!r}")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": FORMAT,
            "task": self.task,
            "policy": self.policy,
            "simulator": self.simulator,
            "seeds": self.seeds,
            "episodes": self.episodes,
            "results": [r.to_json() for r in self.results],
            "settings": self.settings,
            "facts": self.facts,
        }


def evaluate(
    task: TaskCard | str,
    policy: str | Policy = "random",
    *,
    simulator: str | Path | None = None,
    episodes: int = 20,
    seed: int = 0,
    num_envs: int = 8,
    device: str = "cpu",
    init: str = "true",
    out: str | Path | None = None,
    policy_config: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
    name: str | None = None,
    on_episode: Callable[[int, Any], None] | None = None,
    delay: int = 0,
    latency_trace: LatencyTrace | str | Path | None = None,
    on_miss: OnMiss = "hold",
    first: First = "zero",
    action_repeat: int | None = None,
    world: Asked = None,
    **options: Any,
) -> Evaluation:
    """Evaluate a policy on a fixed list of episodes.

    The result is the same for any ``num_envs``. An episode in which the policy or the simulator fails is invalid:
    it counts as a failure and is listed, and the others go on.

    Args:
        task: Card, id or short name.
        policy: Registered name, checkpoint folder, or a policy.
        simulator: None for the true simulator, otherwise a world model's name or checkpoint folder.
        episodes: How many.
        seed: Root seed, from which the episodes' seeds derive.
        num_envs: Episodes that run side by side.
        device: Where the learned simulator and the policy run.
        init: Where imagined episodes begin: ``"true"``, the true simulator's own starts, so that both simulators
            face the same ones, or ``"bank"``.
        out: File for the record as JSON.
        policy_config: Settings of a registered policy that needs no training.
        seeds: Explicit episode seeds instead of those derived from ``seed``.
        name: What the policy is called in results; its reference by default.
        on_episode: Called with (position, episode) as episodes end.
        delay: Control steps from an observation to the action chosen from it; 0 is the synchronous evaluation.
        latency_trace: Measured times of decisions to replay, or their file; see :class:`wmbench.delays.TraceDelay`.
        on_miss: What is applied while a decision of the trace is under way: ``"hold"``, ``"zero"`` or ``"chunk"``.
        first: What is applied until the first decision arrives: ``"zero"`` or ``"mid"``.
        action_repeat: Control steps per action; None: the card's. Delays count actions.
        world: Where the true simulator's episodes take place: see :func:`wmbench.worlds.parse_world`. An episode's
            outcome then has the values it drew under ``world``.
        **options: Further options of :class:`wmbench.rollout.Rollout`.

    Raises:
        NotRegisteredError: No such task.
        CheckpointError: No such policy or world model, or a checkpoint that cannot be used.
        DatasetError: A file that is no latency trace.
        WmbenchError: A delay that is none, or both a delay and a trace.
        WorldError: A world that the task, or a learned simulator, does not have.
        ValueError: Fewer than one episode.
    """
    from wmbench.rollout import rollout

    card = task_card(task) if isinstance(task, str) else task
    card = card if action_repeat is None else card.repeated(action_repeat)
    chosen = list(seeds) if seeds is not None else episode_seeds(seed, card.id, "eval", episodes)
    if not chosen:
        raise ValueError(f"{card.id}: an evaluation needs at least one episode")
    actor = make_policy(policy, card, device=device, config=policy_config) if isinstance(policy, str) else policy
    label = name or (policy if isinstance(policy, str) else type(policy).__name__)
    elsewhere = parse_world(card, world)
    trace = LatencyTrace.load(latency_trace) if isinstance(latency_trace, (str, Path)) else latency_trace
    actor, late = delayed(actor, card, delay=delay, trace=trace, on_miss=on_miss, first=first)
    began = time.perf_counter()
    with one_thread():
        run = rollout(
            card,
            actor,
            chosen,
            simulator=simulator,
            num_envs=num_envs,
            init=init,
            device=device,
            on_error="record",
            on_episode=on_episode,
            source=label[:64],
            world=world,
            **options,
        )
    seconds = time.perf_counter() - began
    outcomes = [outcome(episode) for episode in run]
    if elsewhere is not None:
        outcomes = [one | {"world": elsewhere.draw(one["seed"])} for one in outcomes]
    where = "true" if simulator is None else str(simulator)
    recording = record_success(card, subject(label, where), outcomes)
    settings: dict[str, Any] = {"seed": seed if seeds is None else None, "num_envs": num_envs, "device": device}
    settings |= {"init": init, "policy_config": dict(policy_config or {}), "task_digest": card.digest()}
    settings |= {"delayed": late} if late else {}
    settings |= card.options()
    settings |= {} if elsewhere is None else {"world": elsewhere.label}
    evaluation = Evaluation(
        task=card.id,
        policy=label,
        simulator=where,
        seeds=chosen,
        episodes=outcomes,
        results=recording.results(),
        settings=settings,
        facts={
            "seconds": seconds,
            "steps_per_second": sum(o["length"] for o in outcomes) / seconds,
            "provenance": provenance(),
        },
    )
    if out is not None:
        path = Path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, evaluation.to_json())
    return evaluation


def subject(policy: str, simulator: str) -> str:
    """What results call a policy in a simulator."""
    return f"{Path(policy).name} in {Path(simulator).name}"


def make_policy(
    reference: str, task: TaskCard, *, device: str = "cpu", config: Mapping[str, Any] | None = None
) -> Policy:
    """The policy behind a reference, with settings of its own if it needs no training.

    Args:
        reference: Registered name, or checkpoint folder.
        task: The task.
        device: Torch device.
        config: Fields of the policy's config that differ from their defaults.

    Raises:
        CheckpointError: No such policy, or a setting that does not exist or is of the wrong type.
    """
    from wmbench import checkpoints

    if not config:
        return checkpoints.resolve(reference, task, kind="policy", device=device)
    folder = checkpoints.find(reference, task, kind="policy")
    acting = checkpoints.acts_by(checkpoints.read_config(folder)["name"]) if folder else None
    if acting:
        given = checkpoints.parse_config(acting.Config, {**config, "model": str(folder)}, Path(f"settings of {folder}"))
        return acting(given, task, device=device)
    if folder is not None:
        raise CheckpointError(f"{reference} is a trained policy, whose settings are in its checkpoint; give none")
    cls = registry.policies.load(reference)
    policy = cls(checkpoints.parse_config(cls.Config, dict(config), Path(f"settings of {reference}")), task)
    return policy.to(device) if hasattr(policy, "to") else policy
