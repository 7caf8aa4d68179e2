"""Minari: HDF5 files that its own library writes and reads, pictures without loss."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, EpisodeData
from wmbench.episodes.data import CORE
from wmbench.errors import DatasetError
from wmbench.exchange import layout
from wmbench.exchange.beside import KEY, assemble, describe, restore
from wmbench.exchange.foreign import Facts, Steps, adopt, check_facts
from wmbench.exchange.format import Advance, Format, Wanted
from wmbench.exchange.notes import note
from wmbench.views import View

PLACES = {"action": "actions", "reward": "rewards", "terminated": "terminations", "truncated": "truncations"}
SUCCESS = ("success", "is_success")


def export(dataset: Dataset, folder: Path, storage: str, advance: Advance) -> None:
    """Fill ``folder/data``.

    ``observations`` is the state vector, or a dictionary of ``state`` and the pictures. Everything else that is
    stored is in ``infos`` (a field per step has T rows, a field per state T + 1); source, split and number of
    each episode are its metadata, all further facts ``metadata["wmbench"]``.
    """
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    card, fields = dataset.task, dataset.fields
    infos = layout.remarks(fields, frozenset({*PLACES, "observation"}))
    names = layout.pictures(fields)
    data = MinariStorage.new(
        folder / "data",
        observation_space=layout.observation_space(card, fields),
        action_space=layout.action_space(card),
        env_spec=_spec(card, dataset.manifest),
        data_format=storage,
        jpeg_encoding=False,  # the default loses bits
    )
    data.update_metadata(
        {
            "dataset_id": _dataset_id(folder),
            "minari_version": minari.__version__,
            "algorithm_name": ", ".join(dataset.manifest["counts"]["source"]),
            "description": f"{card.id}: {len(dataset)} episodes, exported by wmbench",
            KEY: describe(dataset, infos=infos, pictures=list(names)),
        }
    )

    def buffers() -> Iterator[Any]:
        for i in range(len(dataset)):
            arrays, row = dataset.arrays(i), dataset.index[i]
            observation: Any = arrays["observation"]
            yield EpisodeBuffer(
                seed=int(row["seed"]),
                observations={"state": observation} | {n: arrays[n] for n in names} if names else observation,
                infos={place: arrays[name] for name, place in infos.items()},
                **{place: arrays[name] for name, place in PLACES.items()},
            )
            advance()

    data.update_episodes(buffers())
    data.update_episode_metadata(
        {"source": str(row["source"]), "split": str(row["split"]), "seed": int(row["seed"])} for row in dataset.index
    )


def import_(path: Path, folder: Path, wanted: Wanted, advance: Advance) -> TaskCard:
    """Read ``path/data`` (or ``path``, if that is the ``data`` folder) into a dataset of ours."""
    data = _open(path)
    metadata = data.read_raw_metadata(data.data_path)
    known = list(data.get_episode_metadata(range(data.total_episodes)))
    episodes = zip(data.get_episodes(range(data.total_episodes)), known, strict=True)
    if KEY in metadata:
        own = metadata[KEY]
        ours = (_ours(path, found, about, own) for found, about in episodes)
        return restore(path, own, wanted.task, folder, ours, changed={}, advance=advance)
    card = wanted.task
    if card is None:
        raise DatasetError(
            f"{path} was not exported by wmbench: say which task it is of, with --task (task= in Python)"
        )
    picked, lossy = _pick(path, data.observation_space, card, data.jpeg_encoding)
    check_facts(path, _facts(path, data, metadata, picked, wanted.control_hz), card)
    ignored: set[str] = set()
    theirs = (_theirs(found, about, picked, ignored) for found, about in episodes)
    plan = {
        "imported": {"format": "minari", "id": metadata.get("dataset_id"), "version": metadata.get("minari_version")}
    }
    adopt(path, card, folder, theirs, source=wanted.source, plan=plan, advance=advance)
    if ignored:
        note(f"left out, because nothing here reads them: {', '.join(sorted(ignored))}")
    for name in lossy:
        note(f"{name} was stored as JPEG: the pictures are not those that were drawn")
    return card


def count(path: Path) -> int:
    """Number of episodes."""
    return int(_open(path).total_episodes)


def _open(path: Path) -> Any:
    from minari.dataset.minari_storage import METADATA_FILE_NAME, MinariStorage

    place = path if (path / METADATA_FILE_NAME).exists() else path / "data"
    try:
        return MinariStorage.read(place)
    except Exception as error:
        raise DatasetError(f"{path} is no Minari dataset ({type(error).__name__}: {error})") from error


def _dataset_id(folder: Path) -> str:
    """The name under which Minari finds the target: that of its folder."""
    from minari.dataset.minari_dataset import DATASET_ID_RE

    name = folder.name.removeprefix(".").removesuffix(".partial")
    match = DATASET_ID_RE.fullmatch(name)
    if not match or match.group("version") is None:
        raise DatasetError(
            f"Minari finds a dataset by its folder's name, which must end in -v0 or the like, not {name!r}"
        )
    return name


def _spec(card: TaskCard, manifest: Mapping[str, Any]) -> Any:
    """What ``recover_environment`` makes: the task as it was recorded, if it is installed."""
    if card.id not in gym.registry:
        note(f"{card.id} is not installed: Minari's recover_environment will not work on this dataset")
        return None
    spec = copy.deepcopy(gym.spec(card.id))
    if card.action_repeat > 1:
        spec.kwargs["action_repeat"] = card.action_repeat
    if "world" in manifest:
        spec.kwargs["world"] = manifest["world"]["asked"]
    if view := manifest.get("view"):
        known = {field.name: view[field.name] for field in dataclasses.fields(View) if field.name in view}
        spec.kwargs |= View.from_json(known).options()
    return spec


def _ours(path: Path, found: Mapping[str, Any], about: Mapping[str, Any], own: Mapping[str, Any]) -> EpisodeData:
    try:
        arrays = {name: found[place] for name, place in PLACES.items()}
        seen = found["observations"]
        arrays["observation"] = seen["state"] if own["pictures"] else seen
        arrays |= {name: seen[name] for name in own["pictures"]}
        arrays |= {name: found["infos"][place] for name, place in own["infos"].items()}
        return assemble(arrays, int(about["seed"]), str(about["source"]), str(about["split"]))
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}, episode {found['id']}: {error} is missing; it was changed since its export"
        ) from error


def _pick(path: Path, space: gym.Space, card: TaskCard, jpeg: bool) -> tuple[tuple[str, tuple[str, ...]], list[str]]:
    """Key of the state vector in the observations ("" if they are it) and of the pictures; which of these are lossy."""
    if isinstance(space, gym.spaces.Box):
        return ("", ()), []
    keys = [key for key in ("state", "observation") if isinstance(space, gym.spaces.Dict) and key in space.spaces]
    if not keys:
        raise DatasetError(
            f"{path}: observations must be a vector, or a dictionary with 'state' or 'observation', not {space}"
        )
    from minari.dataset.minari_storage import is_image_space

    spaces = space.spaces  # type: ignore[attr-defined]
    names = tuple(name for name in layout.CHANNELS if name in spaces)
    return (keys[0], names), [name for name in names if jpeg and is_image_space(spaces[name])]


def _facts(path: Path, data: Any, metadata: Mapping[str, Any], picked: tuple[str, Any], rate: float | None) -> Facts:
    spaces = data.observation_space, data.action_space
    vector = spaces[0][picked[0]] if picked[0] else spaces[0]
    if not isinstance(spaces[1], gym.spaces.Box):
        raise DatasetError(f"{path}: actions must be a box of floats, not {spaces[1]}")
    facts = Facts(vector.shape, spaces[1].shape, (spaces[1].low, spaces[1].high), rate)
    if "env_spec" in metadata:
        from gymnasium.envs.registration import EnvSpec

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spec = EnvSpec.from_json(metadata["env_spec"])
        facts.environment, facts.kwargs, facts.horizon = spec.id, dict(spec.kwargs), spec.max_episode_steps
    return facts


def _theirs(
    found: Mapping[str, Any], about: Mapping[str, Any], picked: tuple[str, tuple[str, ...]], ignored: set[str]
) -> Steps:
    key, names = picked
    seen = found["observations"]
    infos = found["infos"] or {}
    said = next((np.asarray(infos[name]) for name in SUCCESS if name in infos), None)
    ignored |= {f"infos/{name}" for name in infos if name not in SUCCESS}
    if key:
        ignored |= {f"observations/{name}" for name in seen if name not in (key, *names)}
    steps = len(found["actions"])
    return Steps(
        observation=np.asarray(seen[key] if key else seen),
        action=np.asarray(found["actions"]),
        reward=np.asarray(found["rewards"]),
        terminated=np.asarray(found["terminations"], dtype=bool),
        truncated=np.asarray(found["truncations"], dtype=bool),
        success=None if said is None or said.ndim != 1 or len(said) < steps else said[-steps:].astype(bool),
        extra={name: np.asarray(seen[name]) for name in names},
        seed=-1 if about.get("seed") is None else int(about["seed"]),
    )


FORMAT = Format("minari", "minari", "minari", ("hdf5",), count, export, import_)
assert frozenset(PLACES) | {"observation", "success"} == frozenset(CORE)
