"""Random numbers of a batch in which every row has its own seed: the same as each row would draw alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode


class RowDraws(TorchFunctionMode):
    """Inside this context, torch's random numbers for all rows at once come from a generator for each row.

    What is drawn with a first dimension of as many rows is drawn row by row, on the CPU, as a single row seeded with
    ``torch.manual_seed`` would; anything else comes from the first row's generator.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        """One generator for each seed."""
        super().__init__()
        self._rows = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Draw if it is a draw."""
        options = dict(kwargs or {})
        split = _ARGUMENTS.get(func)
        if split is None or "generator" in options:
            return func(*args, **options)
        given, size = split(args, options)
        device = options.pop("device", None)
        options["device"] = "cpu"
        if size is None or not size or size[0] != len(self._rows):
            shape = () if size is None else (size,)
            return func(*given, *shape, generator=self._rows[0], **options).to(device)
        rows = [func(*given, (1, *size[1:]), generator=row, **options) for row in self._rows]
        return torch.cat(rows).to(device)


class RowRandom:
    """NumPy's random numbers in the same way; whatever is not drawn for all rows comes from the first."""

    def __init__(self, rows: Sequence[np.random.RandomState]) -> None:
        """One generator for each row."""
        self._rows = rows

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """As NumPy's."""
        return self._draw("normal", (loc, scale), size)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """As NumPy's."""
        return self._draw("uniform", (low, high), size)

    def __getattr__(self, name: str) -> Any:
        """The first row's."""
        return getattr(self._rows[0], name)

    def _draw(self, name: str, given: tuple[Any, ...], size: Any) -> Any:
        if not isinstance(size, (tuple, list)) or size[0] != len(self._rows):
            return getattr(self._rows[0], name)(*given, size)
        return np.concatenate([getattr(row, name)(*given, (1, *size[1:])) for row in self._rows])


def _plain(args: tuple, options: dict) -> tuple[tuple, tuple | None]:
    """``rand(2, 3)``, ``rand((2, 3))``, ``rand(size=(2, 3))``."""
    size = options.pop("size", args)
    if len(size) == 1 and isinstance(size[0], (tuple, list, torch.Size)):
        size = size[0]
    return (), tuple(int(n) for n in size)


def _sized_third(args: tuple, options: dict) -> tuple[tuple, tuple | None]:
    """``randint(low, high, size)``, ``randint(high, size)``, ``normal(mean, std, size)``."""
    if "size" in options:
        return args, tuple(options.pop("size"))
    if isinstance(args[-1], (tuple, list, torch.Size)):
        return args[:-1], tuple(args[-1])
    return args, None


_ARGUMENTS = {torch.rand: _plain, torch.randn: _plain, torch.randint: _sized_third, torch.normal: _sized_third}
