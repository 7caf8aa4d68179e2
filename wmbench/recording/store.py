"""Recordings on disk: one safetensors file each, checked by hash, from which every number can be computed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

from wmbench import registry
from wmbench.errors import DatasetError
from wmbench.files import write_atomically
from wmbench.measures import Result

FORMAT = 1
SUFFIX = ".safetensors"
KEY = "wmbench"


@dataclass
class Recording:
    """The arrays that one measure reads, and where they come from.

    Attributes:
        measure: Registered name of the measure.
        arrays: Name to array: numbers, booleans, or text (dtype ``U``).
        meta: Plain JSON: task, digests, sizes, seeds. Measures do not read it.
    """

    measure: str
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any] = field(default_factory=dict)

    def results(self) -> list[Result]:
        """Apply the measure.

        Raises:
            NotRegisteredError: The measure is not installed.
            DatasetError: An array that it needs is missing.
        """
        with threadpool_limits(1, user_api="blas"):  # the same order of summation, and so the same digits, anywhere
            return registry.measures.load(self.measure)(self.arrays)

    def every_result(self, only: Collection[str] = ()) -> list[Result]:
        """Apply every installed measure that reads recordings of this name, its own first.

        Args:
            only: Names of measures; all of them if empty.

        Raises:
            DatasetError: An array that one of them needs is missing.
        """
        own = {name: m for name, m in registry.measures if (m.recording or m.name) == self.measure}
        order = sorted(own, key=lambda name: (name != self.measure, name))
        with threadpool_limits(1, user_api="blas"):
            return [result for name in order if not only or name in only for result in own[name](self.arrays)]

    def digest(self) -> str:
        """SHA-256 over names, types, shapes and contents of the arrays."""
        return hashlib.sha256(json.dumps(_hashes(self.arrays), sort_keys=True).encode()).hexdigest()

    def save(self, path: Path | str) -> Path:
        """Write atomically.

        Args:
            path: A file ending in ``.safetensors``; anything else is a folder, created if absent, in which the
                file is called ``recording.safetensors``.

        Returns:
            The file.

        Raises:
            ValueError: An array of objects, or meta that are not plain JSON.
        """
        path = _file(path)
        text = {name: a for name, a in self.arrays.items() if a.dtype.kind == "U"}
        numbers = {name: np.asarray(a, order="C") for name, a in self.arrays.items() if a.dtype.kind in "biuf"}
        if other := sorted(set(self.arrays) - set(text) - set(numbers)):
            raise ValueError(f"{path}: arrays {other} hold neither numbers nor text")
        header = {
            "format": FORMAT,
            "measure": self.measure,
            "meta": self.meta,
            "text": {name: a.tolist() for name, a in text.items()},
            "sha256": _hashes(self.arrays),
        }
        metadata = {KEY: json.dumps(header, allow_nan=False)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: save_file(numbers, temporary, metadata))
        return path

    @classmethod
    def load(cls, path: Path | str) -> Recording:
        """Read back and check every array against its hash.

        Args:
            path: File or folder, as :meth:`save` takes it.

        Raises:
            DatasetError: Absent, no recording, of another format, or damaged.
        """
        path = _file(path)
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise DatasetError(f"{path} does not exist") from None
        except (SafetensorError, OSError) as error:
            raise DatasetError(f"{path} is no recording or is damaged ({error}): record it again") from error
        try:
            header = json.loads(metadata[KEY])
            found = header["format"]
            arrays |= {name: np.array(values, dtype=np.str_) for name, values in header["text"].items()}
            recording = cls(header["measure"], arrays, header["meta"])
            stored = header["sha256"]
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise DatasetError(f"{path} is a safetensors file, but no recording") from error
        if found != FORMAT:
            raise DatasetError(f"{path}: format {found!r}, this version reads {FORMAT}")
        if _hashes(arrays) != stored:
            raise DatasetError(f"{path} is damaged: its arrays do not match their hashes; record it again")
        return recording


def find_recordings(path: Path | str) -> list[Path]:
    """Every recording in a folder and below it, sorted, or the one that is named.

    Raises:
        DatasetError: There is no such file or folder, or no recording in it.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise DatasetError(f"{path} does not exist")
        return [path]
    found = [p for p in sorted(path.rglob(f"[!.]*{SUFFIX}")) if _is_recording(p)]
    if not found:
        raise DatasetError(f"{path} holds no recording")
    return found


def _is_recording(path: Path) -> bool:
    """Whether a safetensors file says that it is a recording; one that cannot be read is left for loading to refuse."""
    try:
        with safe_open(path, framework="np") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return path.name == f"recording{SUFFIX}"


def _file(path: Path | str) -> Path:
    path = Path(path)
    return path if path.suffix == SUFFIX else path / f"recording{SUFFIX}"


def _hashes(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """SHA-256 of every array: its type, shape and bytes; text by its JSON, whatever the width of its cells."""
    found = {}
    for name, array in arrays.items():
        text = array.dtype.kind == "U"
        body = json.dumps(array.tolist()).encode() if text else array.tobytes()
        head = f"{'U' if text else array.dtype.str}{array.shape}".encode()
        found[name] = hashlib.sha256(head + body).hexdigest()
    return found
