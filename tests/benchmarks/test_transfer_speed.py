"""Ten policies in one batch of a learned simulator, beside one policy after the other and beside the true simulator."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from wmbench.measuring.everything import read_policy
from wmbench.registration import task_card
from wmbench.rollout import rollout
from wmbench.threads import one_thread
from wmbench.troop import Troop
from wmbench.zoo import load_zoo

TASK = "DMC-CartpoleSwingup"
POLICIES, EPISODES = 10, 100
TRUE = 5
"""Episodes of each policy in the true simulator, whose time is then scaled up."""


@pytest.mark.benchmark(group="transfer")
def test_ten_policies_of_a_hundred_episodes(benchmark: Any) -> None:
    """The learned side of a transfer, doubts included, as `wmbench transfer` asks for them."""
    card = task_card(TASK)
    zoo = load_zoo(card)
    order = np.linspace(0, len(zoo.members) - 1, POLICIES).astype(int)
    policies = [read_policy(zoo.members[k].reference, card) for k in order]
    seeds = zoo.seed[:EPISODES].tolist()
    learned = {"simulator": "ensemble", "uncertainty": True}
    took: dict[str, tuple[float, float]] = {}

    def timed(name: str, scale: float, *calls: Any) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        for call in calls:
            call()
        took[name] = scale * (time.perf_counter() - wall), scale * (time.process_time() - processor)

    def together() -> None:
        rollout(card, Troop(policies, EPISODES), seeds * POLICIES, num_envs=POLICIES * EPISODES, **learned)

    def alone(policy: Any, simulator: dict[str, Any], n: int) -> Any:
        return lambda: rollout(card, policy, seeds[:n], num_envs=n, **simulator)

    def measure() -> None:
        with one_thread():
            rollout(card, policies[0], seeds[:1], **learned)  # warm
            timed("all in one batch", 1.0, together)
            timed("one after the other", 1.0, *(alone(policy, learned, EPISODES) for policy in policies))
            timed("the true simulator", EPISODES / TRUE, *(alone(policy, {}, TRUE) for policy in policies))

    benchmark.pedantic(measure, rounds=1, iterations=1)
    benchmark.extra_info.update(seconds=took)
    first = took["all in one batch"][1]
    print(f"\n{TASK}: {POLICIES} policies, {EPISODES} episodes of {card.horizon} steps each, one thread")
    for name, (wall, processor) in took.items():
        print(f"  {name:20} {wall:7.1f} s, {processor:7.1f} s of processor time, {processor / first:5.1f} times")
