"""What makes plans and updates fast: compiling, and on a GPU hundreds of small kernels recorded and launched as one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from wmbench.errors import WmbenchError

WARM = 3
"""Calls that are made one kernel after the other before a graph is recorded; they load, compile and choose kernels."""
KEPT = 8
"""Graphs kept for inputs of different shapes; further shapes are never recorded."""


def compiler(wanted: bool) -> Any:
    """What compiles a function, at its first call; not wanted, it leaves functions as they are.

    Raises:
        WmbenchError: There is no C++ compiler.
    """
    if not wanted:
        return lambda function: function
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name.split()[0]) is None:
        raise WmbenchError(
            f"tdmpc2 with compile=True needs a C++ compiler, and {name!r} is not found: install one, name another in "
            "the environment variable CXX, or do without, which is slower and the same to rounding (train with "
            "--no-compile, act with --policy-config '{\"compile\": false}')"
        )
    return torch.compile


class Captured:
    """A function of tensors as it runs on a GPU: replayed as one CUDA graph from its fourth call on.

    The function must do the same work at every call with inputs of the same shapes, and never wait for the device.
    What it reads besides its inputs (weights, states of optimisers) it may change, but only in place; after anything
    else has put new memory in its place, :meth:`forget` must be called. Moved weights of ``module`` are noticed.

    Inputs are copied to where the graph reads them, results are copies: both may be kept or overwritten by the caller.
    """

    def __init__(self, function: Callable[..., Any], module: nn.Module) -> None:
        """Record nothing yet.

        Args:
            function: Of tensors, None and tuples of them, to tensors in tuples or dictionaries.
            module: Whose weights it reads.
        """
        self._function, self._module = function, module
        self.forget()

    def forget(self) -> None:
        """Record anew."""
        self._calls: dict[Any, int] = {}
        self._recorded: dict[Any, tuple[list[Any], Callable[[], Any]]] = {}
        self._where = self._place()

    def __call__(self, *inputs: Any) -> Any:
        """What the function makes of the inputs, all on the module's device."""
        if self._place() != self._where:
            self.forget()
        leaves, structure = tree_flatten(inputs)
        key = tuple((x.shape, x.dtype) if isinstance(x, torch.Tensor) else x for x in leaves)
        if key not in self._recorded:
            calls = self._calls[key] = self._calls.get(key, 0) + 1
            if calls <= WARM or len(self._recorded) >= KEPT:
                return beside(self._function, inputs)
            own = [x.clone() if isinstance(x, torch.Tensor) else x for x in leaves]
            self._recorded[key] = own, record(self._function, tree_unflatten(own, structure))
        own, replay = self._recorded[key]
        for mine, given in zip(own, leaves, strict=True):
            if isinstance(given, torch.Tensor):
                mine.copy_(given)
        return tree_map(torch.clone, replay())

    def _place(self) -> int:
        return next(self._module.parameters()).data_ptr()


def beside(function: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """Call a function on a stream of its own, as what is to be recorded must be before."""
    with _device_of(inputs):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), published_products():
            made = function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
    return made


def record(function: Callable[..., Any], inputs: tuple[Any, ...]) -> Callable[[], Any]:
    """Record a function's kernels without carrying them out.

    Returns:
        What carries them out; it gives the results, in the same memory every time.
    """
    graph = torch.cuda.CUDAGraph()
    with _device_of(inputs), published_products(), torch.cuda.graph(graph):
        made = function(*inputs)

    def replay() -> Any:
        graph.replay()
        return made

    return replay


@contextmanager
def published_products() -> Iterator[None]:
    """Matrix products as in the public code on a GPU: inputs rounded to TF32, sums in single precision."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _device_of(inputs: tuple[Any, ...]) -> torch.cuda.device:
    """The GPU of the inputs as the current one."""
    leaves, _ = tree_flatten(inputs)
    return torch.cuda.device(next(x.device for x in leaves if isinstance(x, torch.Tensor)))
