"""Files and folders that are whole or absent: written under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wmbench.errors import WmbenchError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file in the same folder and rename it to ``path``.

    A reader sees the old file or the new one, never half of one; after a power cut too. Who may read it is what the
    user's own files have, also where the writer (as that of safetensors) would keep it private.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        write(temporary)
        temporary.chmod(mode)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON, atomically.

    Raises:
        ValueError: The data hold NaN or infinity, which JSON cannot.
    """
    text = json.dumps(data, indent=1, allow_nan=False)
    write_atomically(path, lambda temporary: temporary.write_text(text))


@contextmanager
def fresh_folder(out: Path) -> Iterator[Path]:
    """A new folder beside ``out``, renamed to it if the block ends well and removed if not.

    What a killed call left behind is removed first: a second try begins anew.

    Args:
        out: The target, which must not exist.

    Yields:
        Where to write.

    Raises:
        WmbenchError: There is something at ``out``.
    """
    if out.exists() or out.is_symlink():
        raise WmbenchError(f"{out} exists and is never overwritten: choose another folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for path in partial.rglob("*"):
            sync(path)
        sync(partial)
        partial.rename(out)
        sync(out.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync(path: Path) -> None:
    """Flush a file's or folder's contents to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
