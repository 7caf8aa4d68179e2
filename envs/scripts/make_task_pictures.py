"""Draws one picture of every task for ``envs/README.md``: ``python envs/scripts/make_task_pictures.py``.

An expert acts where there is one, otherwise random actions do; the picture shows a moment of the episode with seed 0.
Tasks of ManiSkill need a Vulkan device. Existing pictures are kept unless their tasks are named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import gymnasium as gym
import numpy as np
import tyro
from PIL import Image
from rich.console import Console

from wmbench.cards import TaskCard
from wmbench.checkpoints import resolve
from wmbench.errors import WmbenchError
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.machine import obstacle
from wmbench.progress import progress
from wmbench.registration import task_card, task_cards

FOLDER = Path(__file__).resolve().parents[1] / "images"
WIDTH, HEIGHT = 160, 120
COLOURS = 96
MOMENT = 0.35
"""Share of the horizon, or of 80 steps if that is less, after which the picture is taken."""


def main(tasks: Annotated[tuple[str, ...], tyro.conf.Positional] = ()) -> None:
    """Draw the pictures that are missing, or those of the tasks named.

    Args:
        tasks: Ids or short names.
    """
    cards = [task_card(t) for t in tasks] or [
        c for c in task_cards().values() if not (FOLDER / f"{c.name}.png").exists()
    ]
    FOLDER.mkdir(exist_ok=True)
    with progress("draw", len(cards)) as advance:
        for card in cards:
            if (reason := obstacle(card, "rgb")) is not None:
                Console().print(f"{card.name}: {reason}", highlight=False)
            else:
                image = Image.fromarray(draw(card)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
                image.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{card.name}.png", optimize=True)
            advance(1, card.name)


def draw(card: TaskCard) -> np.ndarray:
    """A moment of the episode with seed 0, four times as large as the picture: (H, W, 3) uint8."""
    env = gym.make(card.id, render_mode="rgb_array", height=4 * HEIGHT, width=4 * WIDTH)
    try:
        policy = resolve("expert", card, kind="policy")
    except WmbenchError:
        policy = resolve("random", card, kind="policy")
    observation, _ = env.reset(seed=0)
    state, keys = policy.initial(1), keys_from_seeds([0])
    for t in range(int(MOMENT * min(card.horizon, 80))):
        action, state = policy.act(observation[None], state, keys=fold_in(keys, t))
        observation, _, terminated, truncated, _ = env.step(action[0])
        if terminated or truncated:
            break
    frame = env.render()
    env.close()
    return np.asarray(frame)


if __name__ == "__main__":
    tyro.cli(main)
