"""Exchange: what goes out comes back equal, through the real libraries; what does not fit is refused by name."""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from wmbench.episodes import Dataset, DatasetWriter
from wmbench.errors import DatasetError, MissingExtraError, NotRegisteredError, WmbenchError
from wmbench.exchange import ExchangeWarning, export, import_
from wmbench.main import main
from wmbench.registry import formats

pytestmark = [pytest.mark.usefixtures("unsynced"), pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")]

LACKS = {
    "minari": (None, "minari"),
    "lerobot": ("its torch and numpy are older than the other tests': see docs/exchange.md", "lerobot"),
    "rlds": (None, "tensorflow_datasets"),
    "tensorflow": ("TensorFlow is no dependency: see docs/exchange.md", "tensorflow"),
}


def needs(*names):
    missing = [name for name in names if find_spec(LACKS[name][1]) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{missing} not installed; {[LACKS[n][0] for n in missing]}")


WAYS = [
    pytest.param("minari", "hdf5", marks=needs("minari")),
    pytest.param("rlds", "array_record", marks=needs("rlds")),
    pytest.param("rlds", "tfrecord", marks=needs("rlds", "tensorflow")),
    pytest.param("lerobot", "image", marks=needs("lerobot")),
]
"""Format and storage of everything that keeps every bit."""
EACH = [pytest.param(f, marks=needs(f)) for f in ("minari", "rlds", "lerobot")]
PIXELS = 32
VIEW = {"names": ["state", "rgb"], "height": PIXELS, "width": PIXELS, "camera": "side", "preset": "fast"}


def picture_episode(make, seed, steps, pictures=True):
    """One of the toy's episodes with awkward numbers, beside all kinds of further fields."""
    rng = np.random.default_rng(seed)
    episode = make(seed, source=("random", "bc+noise0.3", "größer")[seed % 3], steps=steps)
    odd = np.array([0.1 + 0.2, -0.0, 5e-324, 1e100, 1 / 3])
    episode.reward = np.where(rng.random(steps) < 0.5, rng.choice(odd, steps), episode.reward)
    episode.observation[0, 0] = np.float32(1e-45)
    if seed % 4 == 3:  # cut, neither terminated nor truncated
        episode.terminated[:] = episode.truncated[:] = False
    episode.extra = {"intervention": rng.random(steps) < 0.5}
    if pictures:
        size = (steps + 1, PIXELS, PIXELS)
        episode.extra |= {
            "rgb": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
            "depth": rng.normal(size=(*size, 1)).astype(np.float32),
            "segmentation": rng.integers(-3, 3000, (*size, 1)).astype(np.int16),
        }
    return episode


@pytest.fixture
def written(tmp_path, toy_card, toy_episode):
    """Function that writes a dataset of short episodes, the first of one step, in splits of their own."""

    def write(*, n=9, seed=0, pictures=True, name="data", card=toy_card):
        rng = np.random.default_rng(seed)
        facts = {"view": VIEW} if pictures else {}
        with DatasetWriter(tmp_path / name, card, shard_bytes=100_000, plan={"by": "test"}, facts=facts) as writer:
            for i in range(n):
                steps = 1 if i == 0 else int(rng.integers(1, 9))
                episode = picture_episode(toy_episode, seed * 100 + i, steps, pictures)
                writer.add(episode, split="train" if i == 0 else str(rng.choice(["train", "val", "test"])))
        return Dataset(tmp_path / name, task=card, verify=True)

    return write


def same(a, b):
    """Two datasets are equal bit by bit and entry by entry."""
    assert len(a) == len(b) and a.fields == b.fields
    assert np.array_equal(a.index, b.index)
    for i in range(len(a)):
        one, other = a.arrays(i), b.arrays(i)
        for name in one:
            assert one[name].tobytes() == other[name].tobytes(), name
    assert a.digest == b.digest
    assert a.manifest == b.manifest


@pytest.mark.parametrize(("format", "storage"), WAYS)
@pytest.mark.parametrize(("seed", "pictures"), [(1, True), (2, True), (3, False)])
def test_what_goes_out_comes_back(written, tmp_path, format, storage, seed, pictures):
    data = written(seed=seed, pictures=pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExchangeWarning)
        out = export(data, tmp_path / "there-v0", format=format, storage=storage)
        back = import_(out, tmp_path / "back", data.task, format=format)
    same(data, Dataset(back.folder, task=data.task, verify=True))
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize("format", EACH)
def test_real_data(tmp_path, format, monkeypatch):
    from wmbench.collecting import collect

    monkeypatch.chdir(tmp_path)
    tmp_path = Path("here")  # relative, as on the command line
    data = collect("Gym-Hopper", tmp_path / "data", policy=["random", "zero"], episodes=[8, 4])
    if format == "lerobot":
        with pytest.warns(ExchangeWarning, match="validation and test"):
            export(data, tmp_path / "hopper-v0", format=format)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ExchangeWarning)
            export(data, tmp_path / "hopper-v0", format=format)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExchangeWarning)
        same(data, import_(tmp_path / "hopper-v0", tmp_path / "back", "Gym-Hopper", format=format))


@pytest.mark.parametrize("format", EACH)
def test_refusals_leave_nothing_behind(written, tmp_path, toy_card, format):
    data = written(n=3, pictures=False)
    out = tmp_path / "there-v0"
    out.mkdir()
    with pytest.raises(WmbenchError, match="exists and is never overwritten"):
        export(data, out, format=format)
    out.rmdir()
    with pytest.raises(DatasetError, match="no storage 'jpeg'"):
        export(data, out, format=format, storage="jpeg")
    (tmp_path / ".there-v0.partial").mkdir()  # of a call that was killed
    (tmp_path / ".there-v0.partial" / "junk").write_text("half")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExchangeWarning)
        export(data, out, format=format)
    assert not list(out.rglob("junk"))
    with pytest.raises(DatasetError, match=r"does not fit wmbench/Gym-Hopper-v0.*control_hz: 20 / 125"):
        import_(out, tmp_path / "back", "Gym-Hopper", format=format)
    with pytest.raises(DatasetError, match="is no"):
        import_(tmp_path / "data", tmp_path / "back", format=format)
    with pytest.raises(DatasetError, match="no folder"):
        import_(tmp_path / "nowhere", tmp_path / "back", format=format)
    assert not (tmp_path / "back").exists() and not list(tmp_path.glob(".*partial*"))


def test_an_error_halfway_leaves_nothing_behind(written, tmp_path, monkeypatch):
    from wmbench.exchange import minari

    pytest.importorskip("minari")
    data = written(n=4, pictures=False)
    export(data, tmp_path / "there-v0", format="minari")
    real, seen = minari._ours, []

    def fail(*arguments):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(minari, "_ours", fail)
    with pytest.raises(KeyboardInterrupt):
        import_(tmp_path / "there-v0", tmp_path / "back", format="minari")
    assert not (tmp_path / "back").exists() and not list(tmp_path.glob(".*partial*"))
    same(data, import_(tmp_path / "there-v0", tmp_path / "back", data.task, format="minari"))


def test_missing_libraries_are_named_with_their_line(written, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, module in (("minari", "minari"), ("lerobot", "lerobot"), ("rlds", "tensorflow_datasets")):
        with pytest.raises(MissingExtraError, match=rf"{module} is not installed.*wmbench\[{name}\]"):
            export(written(n=1, name=name), tmp_path / "x-v0", format=name)
    with pytest.raises(NotRegisteredError, match="rosbag"):
        export(tmp_path / "rlds", tmp_path / "x-v0", format="rosbag")
    assert {name for name, _ in formats} >= {"minari", "lerobot", "rlds"}


@needs("minari")
def test_minari_reads_it(written, tmp_path, monkeypatch):
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = written()
    with pytest.warns(ExchangeWarning, match="not installed"):  # the toy task
        export(data, tmp_path / "toy-v3", format="minari")
    with pytest.raises(DatasetError, match="-v0"):
        export(data, tmp_path / "toy", format="minari")
    read = minari.load_dataset("toy-v3")
    assert len(read) == 9 and read.total_steps == data.manifest["steps"]
    assert read.observation_space["rgb"].dtype == np.uint8 and read.action_space.high.tolist() == [1.0, 2.0]
    for i, episode in enumerate(read.iterate_episodes()):
        ours = data.episode(i)
        assert np.array_equal(episode.observations["rgb"], ours.extra["rgb"])
        assert np.array_equal(episode.observations["state"], ours.observation)
        assert episode.rewards.tobytes() == ours.reward.tobytes()
        assert np.array_equal(episode.infos["intervention"], ours.extra["intervention"])
        assert np.array_equal(episode.infos["simulator_state"], ours.state)
    assert not read.storage.jpeg_encoding


@needs("minari")
def test_minari_recovers_the_environment_as_it_was_recorded(tmp_path):
    import minari

    from wmbench.collecting import collect

    data = collect("Gym-Hopper", tmp_path / "data", episodes=2, action_repeat=2, world={"mass": 1.5})
    export(data, tmp_path / "hopper-v0", format="minari")
    read = minari.MinariDataset(tmp_path / "hopper-v0" / "data")
    env = read.recover_environment()
    ours = data.episode(1)
    observation, _ = env.reset(seed=ours.seed)
    assert np.array_equal(observation, ours.observation[0])
    for t in range(len(ours)):
        observation, reward, *_ = env.step(np.array(ours.action[t]))
        assert np.array_equal(observation, ours.observation[t + 1]) and reward == ours.reward[t]
    back = import_(tmp_path / "hopper-v0", tmp_path / "back", format="minari")
    same(data, back)
    assert back.world(1)["mass"] == 1.5 and back.task.action_repeat == 2
    with pytest.raises(DatasetError, match="action_repeat: 2 / 1"):
        import_(tmp_path / "hopper-v0", tmp_path / "other", "Gym-Hopper", format="minari")


@needs("rlds")
def test_tensorflow_datasets_reads_it_as_rlds_means_it(written, tmp_path):
    import tensorflow_datasets as tfds

    data = written()
    export(data, tmp_path / "toy", format="rlds")
    builder = tfds.builder_from_directory(str(tmp_path / "toy"))
    number = {"train": 0, "val": 0, "test": 0}
    for split in builder.info.splits:
        for example in builder.as_data_source(split=split):
            about, steps = example["episode_metadata"], list(example["steps"])
            ours = data.episode(int(data.episodes(split)[number[split]]))
            number[split] += 1
            assert (about["seed"], about["source"].decode()) == (ours.seed, ours.source)
            assert len(steps) == len(ours) + 1
            assert [step["is_first"] for step in steps] == [True] + [False] * len(ours)
            assert [step["is_last"] for step in steps] == [False] * len(ours) + [True]
            assert [step["is_terminal"] for step in steps] == [False] * len(ours) + [bool(ours.terminated[-1])]
            assert [step["reward"] for step in steps] == [*ours.reward, 0.0]
            assert [step["discount"] for step in steps] == [*(1.0 - ours.terminated), 0.0]
            assert np.array_equal([step["action"] for step in steps[:-1]], ours.action)
            assert not np.any(steps[-1]["action"])
            assert np.array_equal([step["observation"]["state"] for step in steps], ours.observation)
            assert np.array_equal([step["observation"]["rgb"] for step in steps], ours.extra["rgb"])
    assert number == {split: len(data.episodes(split)) for split in number}


@needs("rlds", "tensorflow")
def test_tensorflow_loads_it_by_name(written, tmp_path):
    import tensorflow_datasets as tfds

    data = written()
    export(data, tmp_path / "toy_point" / "1.0.0", format="rlds", storage="tfrecord")
    rewards = [
        [step["reward"] for step in tfds.as_numpy(example["steps"])]
        for example in tfds.load("toy_point", data_dir=str(tmp_path), split="train")
    ]
    ours = [[*data.episode(int(i)).reward, 0.0] for i in data.episodes("train")]
    assert sorted(rewards) == sorted(ours)


@needs("lerobot")
def test_lerobot_reads_it(written, tmp_path):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    data = written()
    export(data, tmp_path / "toy", format="lerobot", storage="image")
    read = LeRobotDataset("toy", root=tmp_path / "toy")
    assert (read.num_episodes, read.num_frames, read.fps) == (9, data.manifest["steps"], 20)
    row = 0
    for i in range(len(data)):
        ours = data.episode(i)
        for t in range(len(ours)):
            item = read[row]
            row += 1
            assert np.array_equal(item["observation.state"].numpy(), ours.observation[t])
            assert np.array_equal(item["action"].numpy(), ours.action[t])
            assert bool(item["next.done"]) == (t == len(ours) - 1)
            assert np.float32(item["next.reward"]) == np.float32(ours.reward[t])
            assert item["task"] == data.task.id
            image = (item["observation.images.rgb"].permute(1, 2, 0) * 255).round().byte().numpy()
            assert np.array_equal(image, ours.extra["rgb"][t])


@needs("lerobot")
def test_video_stays_within_the_tolerance_that_is_stated(tmp_path, toy_card, toy_episode):
    y, x = np.mgrid[:64, :64]
    with DatasetWriter(tmp_path / "data", toy_card) as writer:
        for seed in range(5):
            episode = toy_episode(seed)
            waves = [np.sin((x + 3 * t + seed) / 9) * np.cos(y / 8) for t in range(len(episode) + 1)]
            episode.extra = {
                "rgb": np.stack([np.stack([w, w / 2, -w], -1) * 100 + 127 for w in waves]).astype(np.uint8)
            }
            writer.add(episode)
    data = Dataset(tmp_path / "data")
    with pytest.warns(ExchangeWarning, match="lossy video: off by"):
        export(data, tmp_path / "toy", format="lerobot")
    stated = json.loads((tmp_path / "toy" / "wmbench" / "description.json").read_text())["rgb"]
    with pytest.warns(ExchangeWarning, match="lossy video: off by"):
        back = import_(tmp_path / "toy", tmp_path / "back", data.task, format="lerobot")
    gaps = []
    for i in range(5):
        one, other = data.episode(i), back.episode(i)
        for name in ("observation", "action", "reward", "state", "success", "terminated", "truncated"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
        gaps.append(np.abs(one.extra["rgb"][:-1].astype(int) - other.extra["rgb"][:-1]))
        assert np.array_equal(one.extra["rgb"][-1], other.extra["rgb"][-1])  # the last picture lies beside
    assert 0 < stated["mean"] < 6 and np.mean(np.concatenate(gaps)) < 1.2 * stated["mean"]


def test_changed_between_out_and_in(written, tmp_path):
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("minari")
    data = written(n=4, pictures=False)
    export(data, tmp_path / "there-v0", format="minari")
    with h5py.File(tmp_path / "there-v0" / "data" / "main_data.hdf5", "a") as file:
        file["episode_1/rewards"][0] += 1
    with pytest.warns(ExchangeWarning, match="no longer what was exported"):
        import_(tmp_path / "there-v0", tmp_path / "back", data.task, format="minari")


@needs("minari")
def test_commands(written, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    from wmbench.collecting import collect

    data = collect("Gym-Hopper", tmp_path / "data", episodes=4)
    there = Path("minari", "hopper-v0")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "data", "--format", "minari", "--out", str(there)]) == 0
    assert main(["import", str(there), "--format", "minari", "--out", "back"]) == 0
    said = capsys.readouterr()
    assert data.digest[:12] in said.out and "4/4" in said.err and "note:" not in said.out
    assert (
        main(["import", str(there), "--format", "minari", "--task", "Gym-Walker2d", "--out", str(tmp_path / "x")]) == 1
    )
    assert "does not fit wmbench/Gym-Walker2d-v0" in capsys.readouterr().err
    written(n=2, name="toy", pictures=False)
    assert main(["export", str(tmp_path / "toy"), "--format", "minari", "--out", str(tmp_path / "toy-v0")]) == 0
    assert "note: wmbench/Toy-Point-v0 is not installed" in capsys.readouterr().out
