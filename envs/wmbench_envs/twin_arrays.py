"""The two kinds of arrays a twin hands out, and infos with masks built from whole batches of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class Arrays:
    """NumPy arrays on the CPU, or torch tensors on the model's device: one vocabulary for both.

    Attributes:
        numpy: Whether arrays are NumPy's.
        xp: The module ``numpy`` or ``torch``.
        device: The model's device.
    """

    def __init__(self, kind: str, device: torch.device) -> None:
        """Choose ``"numpy"`` or ``"torch"``."""
        self.numpy = kind == "numpy"
        self.xp: Any = np if self.numpy else torch
        self.device = device

    def of_tensor(self, tensor: torch.Tensor) -> Any:
        """A tensor as this kind; may share memory."""
        return tensor.cpu().numpy() if self.numpy else tensor

    def of_numpy(self, array: np.ndarray) -> Any:
        """A NumPy array as this kind; may share memory."""
        return array if self.numpy else torch.from_numpy(array).to(self.device)

    def tensor(self, array: Any) -> torch.Tensor:
        """An array of this kind as a tensor on the device; may share memory."""
        return torch.from_numpy(array).to(self.device) if self.numpy else array

    def host(self, array: Any) -> np.ndarray:
        """An array of this kind as NumPy; may share memory."""
        return array if self.numpy else array.cpu().numpy()

    def copy(self, array: Any) -> Any:
        """Memory that nobody else holds."""
        return array.copy() if self.numpy else array.clone()

    def zeros(self, n: int, dtype: str) -> Any:
        """(n,) zeros of a dtype given by name."""
        return np.zeros(n, dtype) if self.numpy else torch.zeros(n, dtype=getattr(torch, dtype), device=self.device)

    def ones(self, n: int) -> Any:
        """(n,) True."""
        return np.ones(n, np.bool_) if self.numpy else torch.ones(n, dtype=torch.bool, device=self.device)

    def zeros_like_rows(self, n: int, value: Any) -> Any:
        """(n,) zeros of the dtype of ``value``."""
        if self.numpy:
            return np.zeros(n, value.dtype)
        return torch.zeros(n, dtype=value.dtype, device=self.device)

    def add_info(self, info: dict[str, Any], values: dict[str, Any], rows: Any, n: int) -> None:
        """Write values into an info with masks, for many rows at once as ``VectorEnv._add_info`` does for one.

        Args:
            info: Changed in place.
            values: Key to (r,) array of this kind, or to a dict of such; copied.
            rows: (r,) int64 of this kind, None for all n rows.
            n: Rows of the environment.
        """
        for key, value in values.items():
            mask = info.get(f"_{key}")
            if rows is None:
                mask = self.ones(n)
            else:
                mask = self.zeros(n, "bool") if mask is None else mask
                mask[rows] = True
            info[f"_{key}"] = mask
            if isinstance(value, dict):
                self.add_info(info.setdefault(key, {}), value, rows, n)
            elif rows is None:
                info[key] = self.copy(value)
            else:
                if key not in info:
                    info[key] = self.zeros_like_rows(n, value)
                info[key][rows] = value


def rows_of(values: dict[str, Any], rows: Any) -> dict[str, Any]:
    """The given rows of every value of a nested dict."""
    return {k: rows_of(v, rows) if isinstance(v, dict) else v[rows] for k, v in values.items()}
