"""How many bytes something takes: of the process, of a GPU, of a model's parameters and of its state."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.trees import tree_map

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """By how much the process, and a GPU, grow at their peak while something happens.

    On Linux the kernel's high-water mark of resident memory is set back when watching begins; elsewhere the growth of
    the largest size ever is all there is, and what stays below an earlier peak shows as 0. Memory that others give back
    meanwhile hides as much of the growth.
    """

    def __init__(self, device: str = "cpu") -> None:
        """Begin to watch.

        Args:
            device: Torch device, whose allocator is asked if it is a GPU.
        """
        self._device = device if device.startswith("cuda") else None
        if self._device:
            import torch

            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
            self._allocated = torch.cuda.memory_allocated(self._device)
            self._reserved = torch.cuda.memory_reserved(self._device)
        self._resets = _reset_peak()
        self._before = _status("VmRSS") if self._resets else _largest()

    def growth(self) -> dict[str, float]:
        """Bytes by name: ``peak-memory``, and on a GPU ``cuda-allocated`` and ``cuda-reserved``."""
        peak = _status("VmHWM") if self._resets else _largest()
        found = {"peak-memory": float(max(0, peak - self._before))}
        if self._device:
            import torch

            torch.cuda.synchronize(self._device)
            found["cuda-allocated"] = float(torch.cuda.max_memory_allocated(self._device) - self._allocated)
            found["cuda-reserved"] = float(torch.cuda.max_memory_reserved(self._device) - self._reserved)
        return found


def method() -> str:
    """How :class:`PeakMemory` watches on this machine."""
    return "VmHWM, set back before" if _reset_peak() else "ru_maxrss, the largest size so far"


def parameter_bytes(model: Any) -> int:
    """Bytes of parameters and buffers; 0 for what is no ``torch.nn.Module``."""
    import torch

    if not isinstance(model, torch.nn.Module):
        return 0
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays and tensors of a pytree."""
    total = 0

    def count(leaf: Any) -> None:
        nonlocal total
        total += leaf.nbytes if isinstance(leaf, np.ndarray) else leaf.numel() * leaf.element_size()

    tree_map(count, tree)
    return total


def _reset_peak() -> bool:
    """Set the kernel's high-water mark back to the present size; whether that is possible."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> int:
    """A size from the kernel, in bytes."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _largest() -> int:
    """The largest resident size of the process so far, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
