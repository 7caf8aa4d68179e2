"""Writers that are killed: every committed episode stays readable, and the next writer ends with the same bytes."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wmbench.episodes import Dataset, DatasetWriter, storage, writer
from wmbench.errors import DatasetError

KILLS = 16
CHILD = """
import sys
sys.path.insert(0, {here!r})
from conftest import TOY, make_episode
from wmbench.episodes import DatasetWriter

with DatasetWriter({folder!r}, TOY, shard_bytes=6000) as writer:
    print("ready", flush=True)
    for seed in range(len(writer), {last}):
        writer.add(make_episode(seed))
        if seed % 3:
            writer.commit()
            print(len(writer), flush=True)
"""


def run_child(folder, last):
    code = CHILD.format(here=str(Path(__file__).parent), folder=str(folder), last=last)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def check_contents(folder, toy_episode):
    """Everything committed is readable and equal to what was written; how much there is."""
    try:
        data = Dataset(folder, verify=True)
    except DatasetError as error:
        assert "is no dataset" in str(error)  # killed before the first commit
        return 0
    for i in range(len(data)):
        expected = toy_episode(i).fields()
        assert all(array.tobytes() == expected[name].tobytes() for name, array in data.arrays(i).items())
    return len(data)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.npy"))}


def test_sigkill_at_random_moments(tmp_path, toy_card, toy_episode):
    chance = random.Random(0)
    folder, committed, grew = tmp_path / "killed", 0, 0
    for _ in range(KILLS):
        child = run_child(folder, 100_000)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        reported = [int(child.stdout.readline()) for _ in range(chance.randrange(3))]
        time.sleep(chance.uniform(0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        reported += [int(line) for line in child.stdout.read().split()]
        child.wait()
        now = check_contents(folder, toy_episode)
        assert now >= max([committed, *reported])  # what a writer reported as committed is there
        grew += now > committed
        committed = now
    assert grew >= KILLS // 3
    last = committed + 10
    finisher = run_child(folder, last)
    finisher.communicate()
    assert finisher.returncode == 0 and check_contents(folder, toy_episode) == last
    with DatasetWriter(tmp_path / "unharmed", toy_card, shard_bytes=6000) as unharmed:
        for seed in range(last):
            unharmed.add(toy_episode(seed))
    assert contents(folder) == contents(tmp_path / "unharmed")
    assert Dataset(folder).digest == Dataset(tmp_path / "unharmed").digest
    manifests = [Dataset(path).manifest for path in (folder, tmp_path / "unharmed")]
    for manifest in manifests:
        del manifest["generators"]  # somebody may commit to this clone while the test runs
    assert manifests[0] == manifests[1]


class Killed(BaseException):
    """Stands for a kill between two operations on the file system."""


OPERATIONS = [
    (storage, "sync"),
    (storage.np, "save"),
    (storage.shutil, "rmtree"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (writer, "write_json"),
]


def test_a_crash_before_any_single_operation(tmp_path, toy_card, toy_episode, monkeypatch, unsynced):
    """One dataset per operation: its writer stops just before that operation, and another one goes on."""

    def write(folder, first, last):
        with DatasetWriter(folder, toy_card, shard_bytes=2500) as w:
            for seed in range(first if first is not None else len(w), last):
                w.add(toy_episode(seed))
                w.commit()

    write(tmp_path / "whole", 0, 5)
    whole = contents(tmp_path / "whole")
    step = 0
    while True:
        step += 1
        left = step
        with monkeypatch.context() as patch:

            def counted(function):
                def call(*args, **kwargs):
                    nonlocal left
                    left -= 1
                    if left <= 0:
                        raise Killed
                    return function(*args, **kwargs)

                return call

            for owner, name in OPERATIONS:
                patch.setattr(owner, name, counted(getattr(owner, name)))
            folder = tmp_path / f"crash-{step}"
            try:
                write(folder, 0, 3)
            except Killed:
                pass
            else:
                break
        there = check_contents(folder, toy_episode) if folder.exists() else 0
        assert there <= 3
        write(folder, None, 5)
        assert contents(folder) == whole
        assert {p.name for p in folder.iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}
    assert step > 40


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_elsewhere_keeps_what_was_added(tmp_path, toy_card, toy_episode, error):
    with pytest.raises(error), DatasetWriter(tmp_path / "data", toy_card) as w:
        w.add(toy_episode(0))
        raise error
    assert check_contents(tmp_path / "data", toy_episode) == 1


def test_a_lost_manifest_loses_no_shards(tmp_path, toy_card, toy_episode):
    with DatasetWriter(tmp_path / "data", toy_card, shard_bytes=2500) as w:
        for seed in range(7):
            w.add(toy_episode(seed))
    (tmp_path / "data" / "manifest.json").unlink()
    before = contents(tmp_path / "data")
    with pytest.raises(DatasetError, match="no manifest"):
        DatasetWriter(tmp_path / "data", toy_card, shard_bytes=2500)
    assert contents(tmp_path / "data") == before


def test_readers_beside_a_writer(tmp_path, toy_card, toy_episode, unsynced):
    """A dataset that grows can be opened at any moment."""
    total = 120

    def write():
        with DatasetWriter(tmp_path / "data", toy_card, shard_bytes=100_000) as w:
            for seed in range(total):
                w.add(toy_episode(seed))
                w.commit()

    thread = threading.Thread(target=write)
    thread.start()
    sizes = []
    while thread.is_alive():
        if (tmp_path / "data" / "manifest.json").exists():
            sizes.append(check_contents(tmp_path / "data", toy_episode))
    thread.join()
    assert len(set(sizes)) > 5 and sizes == sorted(sizes)
    assert check_contents(tmp_path / "data", toy_episode) == total


def test_a_commit_that_failed_can_be_repeated(tmp_path, toy_card, toy_episode, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    with DatasetWriter(tmp_path / "data", toy_card) as w:
        w.add(toy_episode(0))
        w.commit()
        w.add(toy_episode(1))
        with monkeypatch.context() as patch:
            patch.setattr(writer, "write_json", full)
            with pytest.raises(OSError, match="No space"):
                w.commit()
        assert check_contents(tmp_path / "data", toy_episode) == 1
    assert check_contents(tmp_path / "data", toy_episode) == 2
