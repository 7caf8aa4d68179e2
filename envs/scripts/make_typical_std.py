"""Measures envs/wmbench_envs/typical_std.json: how much each number of an observation varies under random actions.

    python envs/scripts/make_typical_std.py [TASK ...]

Per task 10 episodes of at most 100 steps; an action is drawn evenly from the box and held for 5 steps, so that bodies
move. Without tasks all that are installed are measured; with tasks the others' numbers stay as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np

import wmbench
from wmbench.cards import TaskCard
from wmbench.seeding import episode_seeds

FILE = Path(__file__).parents[1] / "wmbench_envs" / "typical_std.json"
EPISODES, STEPS, HELD = 10, 100, 5


def measure(card: TaskCard) -> list[float]:
    """Standard deviation of each dimension, to four digits."""
    env = gym.make(card.id)
    low, high = card.action_bounds()
    seen = []
    for seed in episode_seeds(0, card.id, "train", EPISODES):
        rng = np.random.default_rng(seed)
        seen.append(env.reset(seed=seed)[0])
        for step in range(STEPS):
            if step % HELD == 0:
                action = rng.uniform(low, high).astype(np.float32)
            observation, _, terminated, truncated, _ = env.step(action)
            seen.append(observation)
            if terminated or truncated:
                break
    env.close()
    return [float(f"{value:.4g}") for value in np.std(np.array(seen, dtype=np.float64), axis=0)]


def main() -> None:
    """Measure and write."""
    chosen = [wmbench.task_card(name) for name in sys.argv[1:]] or list(wmbench.task_cards().values())
    table = json.loads(FILE.read_text())["std"] if FILE.exists() and sys.argv[1:] else {}
    for card in chosen:
        table[card.id] = measure(card)
    about = f"{EPISODES} episodes of at most {STEPS} steps, random actions held for {HELD} steps"
    lines = ",\n".join(f"  {json.dumps(task)}: {json.dumps(std)}" for task, std in table.items())
    FILE.write_text(f'{{"about": {json.dumps(about)},\n "std": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
