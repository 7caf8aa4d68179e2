"""Torch devices by name, refused where they cannot be used, before anything runs on them."""

from __future__ import annotations

from typing import Any

from wmbench.errors import DeviceError


def torch_device(asker: str, device: str) -> Any:
    """A torch device that can be used here.

    Args:
        asker: What needs it, for the error: an id or a name.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...

    Raises:
        DeviceError: It does not exist, or torch was built without it.
    """
    import torch

    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DeviceError(f"{asker}: device {device!r} cannot be used here: {reason}") from error
