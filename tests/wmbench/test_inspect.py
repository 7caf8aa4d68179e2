"""``wmbench inspect``: names, units, counts and verdicts of a dataset, read from what is printed."""

import numpy as np
import pytest

from wmbench.collecting import collect
from wmbench.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("inspect") / "data"
    collect("Gym-Hopper", path, policy=["random", "zero"], episodes=[60, 4], noise=[0.0, 0.1])
    return path


def printed(capsys, monkeypatch, *words, columns=140):
    monkeypatch.setenv("COLUMNS", str(columns))
    status = main(["inspect", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_everything_a_reader_needs(folder, capsys, monkeypatch):
    from wmbench.episodes import Dataset

    data = Dataset(folder)
    status, out, _ = printed(capsys, monkeypatch, folder)
    assert status == 0
    card = data.task
    for word in (card.id, card.robot, card.action_convention[:30], "125 Hz", "every SHA-256", data.digest):
        assert word in out, word
    for dimension in (*card.observation, *card.action):
        assert dimension.name in out
    for word in ("rad/s", "reward", "success", "terminated", "truncated", "random", "zero+noise0.1", "train", "test"):
        assert word in out, word
    assert "aligned: " in out
    number = int(data.episodes("train")[0])
    episode = data.episode(number)
    first = (len(episode) - 5) // 2
    headings = [line for line in out.splitlines() if "key and name" in line]
    assert all(f"t={t}" in headings[0] for t in range(first, first + 5))
    speed = next(line.split() for line in out.splitlines() if card.observation[5].name in line)
    np.testing.assert_allclose([float(x) for x in speed[2:7]], episode.observation[first : first + 5, 5], atol=6e-4)


def test_five_steps_fit_into_eighty_columns(folder, capsys, monkeypatch):
    _, out, _ = printed(capsys, monkeypatch, folder, "--no-alignment", columns=80)
    assert max(map(len, out.splitlines())) <= 80
    headings = next(line for line in out.splitlines() if "key and name" in line)
    assert headings.count("t=") == 5 and "…" not in headings


def test_choices(folder, capsys, monkeypatch):
    words = ["--episode", "3", "--start", "2", "--steps", "2", "--dims", "4", "--no-alignment"]
    status, out, _ = printed(capsys, monkeypatch, folder, *words)
    assert status == 0 and "episode 3" in out and "t=2" in out and "t=3" in out and "t=4" not in out
    assert "and 7 more" in out and "aligned" not in out


@pytest.mark.parametrize(
    ("words", "word"),
    [(["--episode", "999"], "no episode 999"), (["--start", "9999"], "9999"), (["--steps", "0"], "asked for 0")],
)
def test_what_is_not_there(folder, capsys, monkeypatch, words, word):
    status, _, err = printed(capsys, monkeypatch, folder, *words)
    assert status == 1 and word in err


def test_a_damaged_file_is_named(folder, tmp_path, capsys, monkeypatch):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = next(copy.glob("shard-*/action.npy"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    status, _, err = printed(capsys, monkeypatch, copy)
    assert status == 1 and "action.npy" in err and "SHA-256" in err
    assert printed(capsys, monkeypatch, copy, "--no-verify", "--no-alignment")[0] == 0


def test_episodes_too_short_for_the_check(tmp_path, capsys, monkeypatch):
    from wmbench.episodes import Dataset, DatasetWriter, EpisodeData

    whole = collect("Gym-Hopper", tmp_path / "whole", episodes=2)
    with DatasetWriter(tmp_path / "short", whole.task) as writer:
        for i in range(2):
            fields = {k: v[: 6 if k in ("observation", "state") else 5].copy() for k, v in whole.arrays(i).items()}
            writer.add(EpisodeData(**fields, seed=i, source="random"))
    assert len(Dataset(tmp_path / "short")) == 2
    status, out, _ = printed(capsys, monkeypatch, tmp_path / "short")
    assert status == 0 and "cannot tell" in out and "at least 10 steps" in out
