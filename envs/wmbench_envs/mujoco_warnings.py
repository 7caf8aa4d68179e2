"""What MuJoCo's compiler has to say, said in Python's way."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import mujoco


@contextlib.contextmanager
def compiler_warnings() -> Iterator[None]:
    """Turn warnings of MuJoCo's compiler into Python's while a model is loaded.

    MuJoCo would print them and append them to a new file in the working directory. That the models of
    Gymnasium and dm_control use deprecated attributes is not passed on: no reader could act on it.
    """
    before = mujoco.get_mju_user_warning()
    told: list[str] = []
    mujoco.set_mju_user_warning(told.append)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
    for text in told:
        if "is deprecated" not in text:
            warnings.warn(f"MuJoCo: {text}", stacklevel=2)
