"""The layout of a dataset folder: shards that appear whole, and a manifest that is committed last.

::

    folder/manifest.json                      what is in here; a shard that it does not name does not exist
    folder/shard-00000-00020/observation.npy  (sum of T + 1, O) float32; one plain .npy per field
    folder/shard-00000-00020/episodes.npy     (20,) index: first step row, length, seed, source, split, ...

A shard's name holds its number and how many episodes it has. The last shard may be replaced by a longer one
of the same number: first the new one appears, then the manifest names it, then the old one goes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.errors import DatasetError
from wmbench.files import sync

FORMAT = 1
MANIFEST = "manifest.json"
INDEX = "episodes"
INDEX_DTYPE = np.dtype(
    [
        ("start", "<i8"),
        ("length", "<i8"),
        ("seed", "<i8"),
        ("source", "<U64"),
        ("split", "<U8"),
        ("success", "?"),
        ("return", "<f8"),
    ]
)
KEYS = ("task", "task_digest", "fields", "shards", "files", "counts", "stats", "split", "plan", "generators")


def write_shard(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Write a shard's files under a temporary name, flush them to disk and rename the whole.

    Args:
        folder: The dataset.
        name: Of the shard.
        arrays: Field name to array; the index is one of them.

    Returns:
        Relative file name to ``{"sha256", "bytes"}``.
    """
    temporary = folder / f".{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    files = {}
    for field, array in arrays.items():
        path = temporary / f"{field}.npy"
        np.save(path, array, allow_pickle=False)
        sync(path)
        files[f"{name}/{path.name}"] = {"sha256": file_hash(path), "bytes": path.stat().st_size}
    sync(temporary)
    if (folder / name).exists():  # left by a writer that was killed before it could name it in the manifest
        shutil.rmtree(folder / name)
    temporary.rename(folder / name)
    sync(folder)
    return files


def clean(folder: Path, shards: list[str]) -> None:
    """Remove what a killed writer left behind: everything of ours that the manifest does not name."""
    for path in folder.iterdir():
        if path.name.startswith((".shard-", "shard-")) and path.name not in shards:
            shutil.rmtree(path)
        elif path.name.startswith(f".{MANIFEST}."):
            path.unlink()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(manifest: Mapping[str, Any]) -> str:
    """Identity of a dataset: the task's digest and the hashes of all files, wherever the folder lies."""
    files = manifest["files"]
    lines = [manifest["task_digest"], *(f"{name} {files[name]['sha256']}" for name in sorted(files))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, with every key that this version relies on.

    Raises:
        DatasetError: Absent, not JSON, of another version, or incomplete.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        if str(folder).startswith("frozen:"):
            raise DatasetError(
                f"{folder}: a frozen test set is for `wmbench inspect` and `wmbench record` alone, so that nothing is "
                "trained on it; its folder is what wmbench.frozen(TASK).folder says"
            ) from None
        raise DatasetError(
            f"{folder} is no dataset, {MANIFEST} is missing: make one with  wmbench collect TASK --out {folder}"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} is not JSON ({error}): restore it from a copy, or collect the dataset again"
        ) from error
    found = data.get("format") if isinstance(data, dict) else data
    if found != FORMAT:
        raise DatasetError(
            f"{path}: dataset format {found!r}, this version of wmbench reads {FORMAT}: "
            "install the version that wrote it, or collect it again"
        )
    if missing := [key for key in KEYS if key not in data]:
        raise DatasetError(f"{path}: {', '.join(missing)} missing: restore it from a copy, or collect it again")
    return data


def open_shard(folder: Path, name: str, manifest: Mapping[str, Any], *, verify: bool) -> dict[str, np.ndarray]:
    """Memory-map a shard's fields and check them against the manifest.

    Args:
        folder: The dataset.
        name: Of the shard.
        manifest: As :func:`read_manifest` gives it.
        verify: Whether to read every byte and compare hashes, too.

    Returns:
        Field name to a read-only array; the index under ``"episodes"``.

    Raises:
        DatasetError: A file is missing, cut short, changed, or not what the manifest says.
    """
    advice = "restore it from a copy, or collect the dataset again"
    fields = manifest["fields"]
    arrays = {}
    for field in (*fields, INDEX):
        relative = f"{name}/{field}.npy"
        path = folder / relative
        entry = manifest["files"].get(relative)
        if entry is None:
            raise DatasetError(f"{folder / MANIFEST} lists no hash for {relative}: {advice}")
        try:
            size = path.stat().st_size
            found = file_hash(path) if verify else entry["sha256"]
        except OSError:
            raise DatasetError(f"{path} is missing: {advice}") from None
        if size != entry["bytes"]:
            raise DatasetError(f"{path} has {size} bytes, {entry['bytes']} were written: {advice}")
        if found != entry["sha256"]:
            raise DatasetError(f"{path} has changed since it was written (its SHA-256 differs): {advice}")
        try:
            arrays[field] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            raise DatasetError(f"{path} is no readable .npy file ({error}): {advice}") from error
    index = arrays[INDEX]
    if index.dtype != INDEX_DTYPE or index.ndim != 1 or not len(index):
        raise DatasetError(f"{folder / name / INDEX}.npy is no episode index: {advice}")
    lengths = index["length"]
    steps = int(lengths.sum())
    if lengths.min() < 1 or not np.array_equal(index["start"], np.cumsum(lengths) - lengths):
        raise DatasetError(f"{folder / name / INDEX}.npy contradicts itself: {advice}")
    for field, spec in fields.items():
        array = arrays[field]
        rows = steps + len(index) if spec["per"] == "state" else steps
        if array.shape != (rows, *spec["shape"]) or array.dtype != np.dtype(spec["dtype"]):
            raise DatasetError(
                f"{folder / name / field}.npy holds {array.dtype} {array.shape}, the manifest and the index say "
                f"{spec['dtype']} {(rows, *spec['shape'])}: {advice}"
            )
    return arrays
