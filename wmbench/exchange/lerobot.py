"""LeRobot dataset v3: Parquet and video that its own library writes and reads, and beside them what it cannot hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, EpisodeData
from wmbench.errors import DatasetError
from wmbench.exchange.beside import assemble, describe, restore
from wmbench.exchange.foreign import Facts, Steps, adopt, check_facts
from wmbench.exchange.format import Advance, Format, Wanted
from wmbench.exchange.notes import note
from wmbench.files import write_json

BESIDE = "wmbench"
"""Folder within the dataset for what LeRobot has no place for."""
DESCRIPTION = "description.json"
STATE, ACTION, PICTURE = "observation.state", "action", "observation.images.rgb"
PLACES = {
    "action": ACTION,
    "reward": "next.reward",
    "terminated": "next.terminated",
    "truncated": "next.truncated",
    "success": "next.success",
}
DONE = "next.done"
CHECKED = 4
"""Episodes whose video is read again after an export, to say how far it is off."""


def export(dataset: Dataset, folder: Path, storage: str, advance: Advance) -> None:
    """Fill ``folder``, which ``LeRobotDataset(repo_id, root=folder)`` then reads.

    An episode of T transitions has T frames; what comes after the last one (the final observation), the simulator's
    states, depth and segmentation have no place in the format and lie beside it, in ``wmbench/``, without loss.
    """
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    card, fields = dataset.task, dataset.fields
    flags = [n for n, f in fields.items() if n not in PLACES and f["per"] == "step" and not f["shape"]]
    features = _features(dataset, flags, storage)
    rate = round(card.control_hz)
    if rate != card.control_hz:
        note(f"LeRobot counts whole frames per second: {card.control_hz:g} Hz is written as {rate}, and kept beside it")
    made = folder / "made"
    target = LeRobotDataset.create(
        f"wmbench/{card.name.lower()}", fps=rate, features=features, root=made, robot_type=card.robot or None
    )
    beside = folder / BESIDE
    beside.mkdir()
    for i in range(len(dataset)):
        arrays, length = dataset.arrays(i), int(dataset.index["length"][i])
        for t in range(length):
            target.add_frame(_frame(arrays, t, length, flags) | {"task": card.id})
        target.save_episode()
        _save(beside / _file(i), _rest(arrays, flags))
        advance()
    target.finalize()
    for path in made.iterdir():
        path.rename(folder / path.name)
    made.rmdir()
    shutil.rmtree(folder / "images", ignore_errors=True)  # an empty workplace
    index = {name: dataset.index[name].tolist() for name in ("length", "seed", "source", "split")}
    lossy = _error(dataset, folder) if "rgb" in fields and storage == "video" else None
    write_json(beside / DESCRIPTION, describe(dataset, flags=flags, rgb=lossy, index=index))
    if lossy:
        note(f"rgb {_words(lossy)}")
    if set(index["split"]) != {"train"}:
        note("LeRobot has no splits by episode: which episodes are for validation and test is kept beside it only")


def import_(path: Path, folder: Path, wanted: Wanted, advance: Advance) -> TaskCard:
    """Read a LeRobot dataset into one of ours."""
    data = _open(path)
    description = path / BESIDE / DESCRIPTION
    if description.exists():
        try:
            own = json.loads(description.read_text())
        except ValueError as error:
            raise DatasetError(f"{description} is not JSON ({error}): export the dataset again") from error
        changed = {"rgb": _words(own["rgb"])} if own.get("rgb") else {}
        return restore(path, own, wanted.task, folder, _ours(path, data, own), changed=changed, advance=advance)
    card = wanted.task
    if card is None:
        raise DatasetError(
            f"{path} was not exported by wmbench: say which task it is of, with --task (task= in Python)"
        )
    features = data.features
    if missing := [name for name in (STATE, ACTION) if name not in features]:
        raise DatasetError(f"{path} has no {' and no '.join(missing)}; its features are {', '.join(features)}")
    reward = next((name for name in ("next.reward", "reward") if name in features), None)
    rate = float(data.fps) if wanted.control_hz is None else wanted.control_hz
    check_facts(path, Facts(tuple(features[STATE]["shape"]), tuple(features[ACTION]["shape"]), control_hz=rate), card)
    cameras = [name for name, feature in features.items() if feature["dtype"] in ("image", "video")]
    picture = cameras[0] if len(cameras) == 1 else None
    used = {STATE, ACTION, reward, DONE, "next.success", picture, *_counted()}
    theirs = (_theirs(path, data, i, reward, picture) for i in range(data.num_episodes))
    plan = {"imported": {"format": "lerobot", "id": data.repo_id, "version": _version(path)}}
    adopt(path, card, folder, (s for s in theirs if len(s.action)), source=wanted.source, plan=plan, advance=advance)
    note("each episode lost its last frame's action: the observation that it led to is not in the format")
    if ignored := sorted(set(features) - used):
        note(f"left out, because nothing here reads them: {', '.join(ignored)}")
    if picture and features[picture]["dtype"] == "video":
        note(f"{picture} is video: the pictures are not those that were recorded")
    return card


def count(path: Path) -> int:
    """Number of episodes."""
    return int(_open(path).num_episodes)


def _features(dataset: Dataset, flags: list[str], storage: str) -> dict[str, Any]:
    """LeRobot's description of a frame."""
    card, fields = dataset.task, dataset.fields
    features: dict[str, Any] = {
        STATE: {"dtype": "float32", "shape": (len(card.observation),), "names": [d.name for d in card.observation]},
        ACTION: {"dtype": "float32", "shape": (len(card.action),), "names": [d.name for d in card.action]},
        DONE: {"dtype": "bool", "shape": (1,), "names": None},
    }
    for name in ("reward", "terminated", "truncated", "success", *flags):
        features[PLACES.get(name, name)] = {"dtype": fields[name]["dtype"], "shape": (1,), "names": None}
    if "rgb" in fields:
        shape = tuple(fields["rgb"]["shape"])
        features[PICTURE] = {"dtype": storage, "shape": shape, "names": ["height", "width", "channels"]}
    return features


def _frame(arrays: Mapping[str, np.ndarray], t: int, length: int, flags: list[str]) -> dict[str, Any]:
    frame: dict[str, Any] = {STATE: np.array(arrays["observation"][t]), ACTION: np.array(arrays["action"][t])}
    for name in ("reward", "terminated", "truncated", "success", *flags):
        frame[PLACES.get(name, name)] = np.array(arrays[name][t : t + 1])
    frame[DONE] = np.array([t == length - 1])
    if "rgb" in arrays:
        frame[PICTURE] = np.array(arrays["rgb"][t])
    return frame


def _rest(arrays: Mapping[str, np.ndarray], flags: list[str]) -> dict[str, np.ndarray]:
    """What goes beside: last rows of what is in the frames, all rows of what is not."""
    framed = {*PLACES, *flags}
    return {n: a[-1:] if n in ("observation", "rgb") else a for n, a in arrays.items() if n not in framed}


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    np.savez_compressed(path, **arrays)


def _file(episode: int) -> str:
    return f"episode-{episode:06d}.npz"


def _open(path: Path) -> Any:
    if not (path / "meta" / "info.json").exists():
        raise DatasetError(f"{path} is no LeRobot dataset: it has no meta/info.json")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    try:
        return LeRobotDataset(path.name, root=path)
    except Exception as error:
        raise DatasetError(f"{path} cannot be read by LeRobot ({type(error).__name__}: {error})") from error


def _version(path: Path) -> str:
    """Version of the format, which the library gives as an entry or an attribute, depending on its own version."""
    return str(json.loads((path / "meta" / "info.json").read_text())["codebase_version"])


def _counted() -> set[str]:
    """Features that LeRobot adds by itself."""
    return {"timestamp", "frame_index", "episode_index", "index", "task_index"}


def _columns(data: Any, episode: int, names: list[str]) -> dict[str, np.ndarray]:
    """Rows of one episode from the Parquet files, in the dtype they were written in."""
    about = data.meta.episodes[episode]
    table = data.hf_dataset.with_format("arrow")[about["dataset_from_index"] : about["dataset_to_index"]]
    columns = {}
    for name in names:
        dtype = np.dtype(data.features[name]["dtype"])
        rows = table.column(name).combine_chunks()
        flat = rows.flatten() if tuple(data.features[name]["shape"]) != (1,) else rows
        columns[name] = flat.to_numpy(zero_copy_only=False).astype(dtype).reshape(len(rows), -1)
    return columns


def _pictures(data: Any, episode: int, name: str) -> np.ndarray:
    """(T, H, W, C) uint8 of one episode, from video or from pictures in the Parquet files."""
    about = data.meta.episodes[episode]
    start, stop = about["dataset_from_index"], about["dataset_to_index"]
    if data.features[name]["dtype"] == "image":
        rows = data.hf_dataset.with_format(None)[start:stop][name]
        return np.stack([np.asarray(picture) for picture in rows])
    place = data.root / data.meta.get_video_file_path(episode, name)
    return _decode(place, float(about[f"videos/{name}/from_timestamp"]), stop - start, data.fps)


def _decode(path: Path, first: float, count: int, fps: int) -> np.ndarray:
    """Frames of a video from a time on, (count, H, W, 3) uint8; PyAV's wheel brings all that this needs."""
    import av

    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(first / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            late = float(frame.pts * stream.time_base) - first - len(frames) / fps
            if late < -0.5 / fps:  # the seek ends at the key frame before
                continue
            if late > 0.5 / fps or len(frames) == count:
                break
            frames.append(frame.to_ndarray(format="rgb24"))
    if len(frames) < count:
        raise DatasetError(f"{path} holds {len(frames)} of the {count} frames from {first:g} s on")
    return np.stack(frames)


def _ours(path: Path, data: Any, own: Mapping[str, Any]) -> Iterator[EpisodeData]:
    index, flags = own["index"], own["flags"]
    fields = own["manifest"]["fields"]
    if len(index["length"]) != data.num_episodes:
        raise DatasetError(f"{path} has {data.num_episodes} episodes, {len(index['length'])} were exported")
    for i, length in enumerate(index["length"]):
        rows = _columns(data, i, [STATE, *PLACES.values(), *flags])
        if len(rows[STATE]) != length:
            raise DatasetError(f"{path}, episode {i} has {len(rows[STATE])} frames, {length} were exported")
        try:
            with np.load(path / BESIDE / _file(i), allow_pickle=False) as stored:
                arrays = dict(stored)
            arrays["observation"] = np.concatenate([rows[STATE], arrays["observation"]])
            if "rgb" in fields:
                arrays["rgb"] = np.concatenate([_pictures(data, i, PICTURE), arrays["rgb"]])
        except (OSError, KeyError, ValueError) as error:
            raise DatasetError(f"{path / BESIDE / _file(i)} is missing or unreadable: {error}") from error
        for name in (*PLACES, *flags):
            value = rows[PLACES.get(name, name)]
            arrays[name] = value if name == "action" else value[:, 0]
        yield assemble(arrays, index["seed"][i], index["source"][i], index["split"][i])


def _theirs(path: Path, data: Any, episode: int, reward: str | None, picture: str | None) -> Steps:
    names = [n for n in (STATE, ACTION, reward, DONE, "next.success") if n and n in data.features]
    rows = _columns(data, episode, names)
    if DONE in rows and rows[DONE][:-1].any():
        raise DatasetError(f"{path}, episode {episode}: {DONE} is set before its last frame")
    length = len(rows[STATE]) - 1
    nothing = np.zeros(length, dtype=bool)
    return Steps(
        observation=rows[STATE],
        action=rows[ACTION][:-1],
        reward=rows[reward][:-1, 0] if reward else None,
        terminated=nothing,
        truncated=nothing.copy(),
        success=rows["next.success"][:-1, 0].astype(bool) if "next.success" in rows else None,
        extra={"rgb": _pictures(data, episode, picture)} if picture else {},
    )


def _error(dataset: Dataset, folder: Path) -> dict[str, float]:
    """How far the video is off, over a few episodes: mean and largest absolute difference, of 255."""
    data = _open(folder)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, CHECKED).astype(int))
    gaps = [
        np.abs(_pictures(data, i, PICTURE).astype(np.int16) - dataset.arrays(i)["rgb"][:-1]) for i in map(int, chosen)
    ]
    count = sum(gap.size for gap in gaps)
    return {
        "mean": float(sum(gap.sum(dtype=np.int64) for gap in gaps) / count),
        "largest": float(max(gap.max() for gap in gaps)),
        "episodes": len(chosen),
    }


def _words(error: Mapping[str, float]) -> str:
    return (
        f"went through lossy video: off by {error['mean']:.2f} of 255 on average and {error['largest']:.0f} at most "
        f"(measured at the export on {error['episodes']:.0f} episodes); --storage image keeps it bit by bit"
    )


FORMAT = Format("lerobot", "lerobot", "lerobot", ("video", "image"), count, export, import_)
