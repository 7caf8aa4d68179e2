"""One thread for many small computations: what imagined steps are, and what several threads make slower."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one CPU thread inside the block, and put back what was before.

    A step of a small network takes about a millisecond; handing it to several threads and waiting for the slowest
    costs as much, and a hundred times as much where other processes keep the cores busy. Whoever sets
    ``OMP_NUM_THREADS`` is believed to know better, and nothing happens.
    """
    import torch

    if os.environ.get("OMP_NUM_THREADS"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
