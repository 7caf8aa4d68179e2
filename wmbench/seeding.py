"""Where every seed comes from: SeedSequence spawned per (task, split, episode), never seed + i."""

from __future__ import annotations

import zlib

import numpy as np

SPLITS = {"train": 0, "val": 1, "test": 2, "eval": 3, "init": 4}


def episode_seeds(root: int, task_id: str, split: str, n: int, *, start: int = 0) -> list[int]:
    """Seeds of episodes ``start`` to ``start + n - 1`` of one split of one task.

    Args:
        root: The run's root seed, non-negative.
        task_id: Registered id; different tasks never share a stream.
        split: One of :data:`SPLITS`.
        n: How many.
        start: Index of the first, so that a run can resume or extend.

    Returns:
        n ints in [0, 2**31), the same for the same arguments on every machine.

    Raises:
        ValueError: Unknown split or negative root.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {sorted(SPLITS)}")
    if root < 0:
        raise ValueError(f"a root seed must not be negative, got {root}")
    task = zlib.crc32(task_id.encode())
    return [
        int(np.random.SeedSequence(root, spawn_key=(task, SPLITS[split], i)).generate_state(1)[0] >> 1)
        for i in range(start, start + n)
    ]
