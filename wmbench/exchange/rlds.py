"""RLDS: episodes of steps as TensorFlow Datasets stores them; ArrayRecord files need no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, EpisodeData
from wmbench.episodes.data import SPLITS
from wmbench.errors import DatasetError, require
from wmbench.exchange import layout
from wmbench.exchange.beside import KEY, assemble, describe, restore
from wmbench.exchange.foreign import Facts, Steps, adopt, check_facts
from wmbench.exchange.format import Advance, Format, Wanted
from wmbench.exchange.notes import note

VERSION = "1.0.0"
SHARD_BYTES = 2**28
KNOWN = frozenset({"observation", "action", "reward"})
VALIDATION = {"validation": "val", "valid": "val"}
"""What others call our splits."""


def export(dataset: Dataset, folder: Path, storage: str, advance: Advance) -> None:
    """Fill ``folder``, which ``tfds.builder_from_directory`` then reads.

    An episode of T transitions has T + 1 steps. Action, reward and discount of a step belong to its observation;
    those of the last step, which has only an observation, are zeros, as RLDS has it. Further fields of a step
    (``terminated``, ``truncated``, ``success``, ...) are zero there, too. Numbers of 64 bits are stored as bytes,
    because a ``tf.train.Example`` would round them to 32.
    """
    if storage == "tfrecord":
        _require_tensorflow()
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    fields = dataset.fields
    names = layout.pictures(fields)
    others = layout.remarks(fields, KNOWN)
    order = [str(split) for split in dataset.index["split"]]
    identity = DatasetIdentity(
        name=_name(dataset.task), version=tfds.core.Version(VERSION), data_dir=str(folder), module_name=__name__
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        features=_features(dataset, names, others),
        description=f"{dataset.task.id}: {len(dataset)} episodes, exported by wmbench",
        license=dataset.task.license,
        citation=dataset.task.citation,
        disable_shuffling=True,
        metadata=tfds.core.MetadataDict({KEY: describe(dataset, pictures=list(names), steps=others, order=order)}),
    )
    size = sum(entry["bytes"] for entry in dataset.manifest["files"].values()) / len(dataset)
    writer = tfds.core.SequentialWriter(
        info, max_examples_per_shard=max(1, int(SHARD_BYTES / size)), overwrite=False, file_format=storage
    )
    writer.initialize_splits([split for split in SPLITS if split in order])
    for i, split in enumerate(order):
        writer.add_examples({split: [_example(dataset, i, names, others)]})
        advance()
    writer.close_all()


def import_(path: Path, folder: Path, wanted: Wanted, advance: Advance) -> TaskCard:
    """Read a folder of TensorFlow Datasets whose episodes have ``steps`` into a dataset of ours."""
    builder = _open(path)
    metadata = builder.info.metadata or {}
    if KEY in metadata:
        own = metadata[KEY]
        each = {split: _read(path, builder, split) for split in dict.fromkeys(own["order"])}
        ours = (_ours(path, next(each[split], None), split, own) for split in own["order"])
        return restore(path, own, wanted.task, folder, ours, changed={}, advance=advance)
    card = wanted.task
    if card is None:
        raise DatasetError(
            f"{path} was not exported by wmbench: say which task it is of, with --task (task= in Python)"
        )
    features = _steps_of(path, builder)
    key = _vector(path, features)
    vector = features["observation"][key] if key else features["observation"]
    facts = Facts(tuple(vector.shape), tuple(features["action"].shape), control_hz=wanted.control_hz)
    check_facts(path, facts, card)
    ignored: set[str] = set()
    theirs = (
        _theirs(example, key, VALIDATION.get(split, split if split in SPLITS else ""), ignored)
        for split in builder.info.splits
        for example in _read(path, builder, split)
    )
    plan = {"imported": {"format": "rlds", "name": builder.info.name, "version": str(builder.info.version)}}
    held = {VALIDATION.get(split, split) for split in builder.info.splits} <= {"val", "test"}
    shares = (0.0, 0.5, 0.5) if held else (0.8, 0.1, 0.1)
    adopt(path, card, folder, theirs, source=wanted.source, plan=plan, advance=advance, shares=shares)
    if ignored:
        note(f"left out, because nothing here reads them: {', '.join(sorted(ignored))}")
    return card


def count(path: Path) -> int:
    """Number of episodes."""
    return sum(split.num_examples for split in _open(path).info.splits.values())


def _name(card: TaskCard) -> str:
    return card.name.replace("-", "_").lower()


def _require_tensorflow() -> None:
    """TFRecord files are read and written by TensorFlow itself, which the extra does not bring."""
    require("tensorflow", "rlds,tensorflow")


def _features(dataset: Dataset, names: tuple[str, ...], others: Mapping[str, str]) -> Any:
    import tensorflow_datasets as tfds

    kinds, fields = tfds.features, dataset.fields

    def tensor(name: str, *, packed: str = "bytes") -> Any:
        dtype = np.dtype(fields[name]["dtype"])
        plain = dtype in (np.dtype(bool), np.dtype(np.float32), np.dtype(np.int64)) and packed == "bytes"
        return kinds.Tensor(shape=tuple(fields[name]["shape"]), dtype=dtype.type, encoding="none" if plain else packed)

    flag = kinds.Scalar(np.bool_)
    step = {
        "observation": {"state": tensor("observation")} | {name: tensor(name, packed="zlib") for name in names},
        "action": tensor("action"),
        "reward": tensor("reward"),
        "discount": kinds.Scalar(np.float32),
        "is_first": flag,
        "is_last": flag,
        "is_terminal": flag,
    } | {place: tensor(name) for name, place in others.items()}
    about = {"index": kinds.Scalar(np.int64), "seed": kinds.Scalar(np.int64), "source": kinds.Text()}
    return kinds.FeaturesDict({"steps": kinds.Dataset(step), "episode_metadata": about})


def _example(dataset: Dataset, number: int, names: tuple[str, ...], others: Mapping[str, str]) -> dict[str, Any]:
    """One episode as RLDS nests it."""
    row = dataset.index[number]
    length = int(row["length"])
    arrays = {
        name: array if len(array) > length else np.concatenate([array, np.zeros_like(array[:1])])
        for name, array in dataset.arrays(number).items()
    }  # (T + 1, ...) each
    ended = bool(arrays["terminated"][length - 1])
    steps = [
        {
            "observation": {"state": arrays["observation"][t]} | {name: arrays[name][t] for name in names},
            "action": arrays["action"][t],
            "reward": arrays["reward"][t],
            "discount": np.float32(t < length and not arrays["terminated"][t]),
            "is_first": t == 0,
            "is_last": t == length,
            "is_terminal": t == length and ended,
            **{place: arrays[name][t] for name, place in others.items()},
        }
        for t in range(length + 1)
    ]
    about = {"index": number, "seed": int(row["seed"]), "source": str(row["source"])}
    return {"steps": steps, "episode_metadata": about}


def _open(path: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(str(path))
    except Exception as error:
        raise DatasetError(f"{path} is no folder of TensorFlow Datasets ({type(error).__name__}: {error})") from error


def _read(path: Path, builder: Any, split: str) -> Iterator[dict[str, Any]]:
    """A split's episodes in order, ``steps`` a list."""
    from tensorflow_datasets.core.file_adapters import FileFormat

    if builder.info.file_format == FileFormat.ARRAY_RECORD:
        for example in builder.as_data_source(split=split):
            yield example | {"steps": list(example["steps"])}
        return
    _require_tensorflow()
    import tensorflow_datasets as tfds

    one_by_one = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    for example in builder.as_dataset(split=split, read_config=one_by_one, shuffle_files=False):
        steps = [dict(step) for step in tfds.as_numpy(example["steps"])]
        rest = {name: value for name, value in example.items() if name != "steps"}
        yield {**tfds.as_numpy(rest), "steps": steps}


def _ours(path: Path, example: Mapping[str, Any] | None, split: str, own: Mapping[str, Any]) -> EpisodeData:
    if example is None:
        raise DatasetError(f"{path} has fewer episodes in {split} than were exported: it was changed since")
    try:
        steps, about = example["steps"], example["episode_metadata"]
        per = {name: spec["per"] for name, spec in own["manifest"]["fields"].items()}
        columns = {"observation": [step["observation"]["state"] for step in steps]}
        columns |= {name: [step["observation"][name] for step in steps] for name in own["pictures"]}
        columns |= {name: [step[name] for step in steps] for name in ("action", "reward")}
        columns |= {name: [step[place] for step in steps] for name, place in own["steps"].items()}
        arrays = {
            name: np.stack([np.asarray(value) for value in (rows if per[name] == "state" else rows[:-1])])
            for name, rows in columns.items()
        }
        return assemble(arrays, int(about["seed"]), about["source"].decode(), split)
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{path}: an episode of {split} is not as it was exported ({error})") from error


def _steps_of(path: Path, builder: Any) -> Any:
    """The features of a step."""
    features = builder.info.features
    found = features["steps"].feature if "steps" in features else {}
    if missing := [name for name in ("observation", "action", "is_last") if name not in found]:
        raise DatasetError(f"{path} does not follow RLDS: its steps lack {', '.join(missing) or 'everything'}")
    if hasattr(found["action"], "keys"):
        raise DatasetError(f"{path}: the action must be a vector, not a dictionary of {', '.join(found['action'])}")
    return found


def _vector(path: Path, features: Any) -> str:
    """Key of the state vector within the observation; "" if the observation is it."""
    observation = features["observation"]
    if not hasattr(observation, "keys"):
        return ""
    for key in ("state", "observation"):
        if key in observation:
            return key
    raise DatasetError(f"{path}: observations have no 'state', only {', '.join(observation.keys())}")


def _theirs(example: Mapping[str, Any], key: str, split: str, ignored: set[str]) -> Steps:
    steps = example["steps"]
    seen = [step["observation"] for step in steps]
    taken = {"observation", "action", "reward", "discount", "is_first", "is_last", "is_terminal", "success"}
    ignored |= {f"steps/{name}" for name in steps[0] if name not in taken}
    pictures = [name for name in layout.CHANNELS if key and name in seen[0]]
    if key:
        ignored |= {f"steps/observation/{name}" for name in seen[0] if name not in (key, *pictures)}
    length = len(steps) - 1
    end = np.arange(length) == length - 1
    terminal = bool(steps[-1].get("is_terminal", False))
    whole = bool(steps[-1]["is_last"])
    return Steps(
        observation=np.stack([one[key] if key else one for one in seen]),
        action=np.stack([step["action"] for step in steps[:-1]]) if length else np.zeros((0, 0), np.float32),
        reward=np.array([step["reward"] for step in steps[:-1]]) if "reward" in steps[0] else None,
        terminated=end & terminal,
        truncated=end & (whole and not terminal),
        success=np.array([bool(step["success"]) for step in steps[:-1]]) if "success" in steps[0] else None,
        extra={name: np.stack([one[name] for one in seen]) for name in pictures},
        split=split,
    )


FORMAT = Format("rlds", "tensorflow_datasets", "rlds", ("array_record", "tfrecord"), count, export, import_)
