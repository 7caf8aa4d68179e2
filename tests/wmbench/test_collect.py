"""Collecting: the same bytes whatever the workers and interruptions, sources counted, plans not mixed."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from rich.console import Console

from wmbench import task_card
from wmbench.collecting import NoisyPolicy, collect
from wmbench.commands.collect import main
from wmbench.episodes import Dataset
from wmbench.errors import CheckpointError, DatasetError, NotRegisteredError
from wmbench.keys import keys_from_seeds
from wmbench.progress import progress
from wmbench.seeding import episode_seeds
from wmbench_baselines.simple import RandomConfig, RandomPolicy, ZeroPolicy

TASK = "Gym-Hopper"


def test_episodes_replay_in_the_simulator(tmp_path):
    data = collect(TASK, tmp_path / "data", episodes=8, seed=3)
    env = gym.make(data.task.id)
    for i in range(8):
        episode = data.episode(i)
        assert np.array_equal(env.reset(seed=episode.seed)[0], episode.observation[0])
        for t in range(len(episode)):
            observation, reward, terminated, truncated, info = env.step(episode.action[t])
            assert np.array_equal(observation, episode.observation[t + 1])
            assert (reward, terminated, truncated) == (episode.reward[t], episode.terminated[t], episode.truncated[t])
            assert info["success"] == episode.success[t]
        assert terminated or truncated
        assert np.array_equal(env.unwrapped.get_state(), episode.state[-1])


def test_seeds_come_from_the_split_and_never_meet(tmp_path):
    data = collect(TASK, tmp_path / "data", policy=["random", "zero"], episodes=[9, 8], seed=3)
    seeds = data.index["seed"].tolist()
    assert len(set(seeds)) == 17
    card = task_card(TASK)
    for number, source in enumerate(("random", "zero")):
        for i, episode in enumerate(data.episodes(source=source)):
            split = str(data.index["split"][episode])
            assert seeds[episode] == episode_seeds(3, card.id, split, 1, start=number * 1_000_000 + i)[0]


def test_workers_change_nothing(tmp_path):
    options = {"policy": ["random", "zero"], "episodes": [7, 3], "noise": [0.0, 0.2], "seed": 1}
    one = collect(TASK, tmp_path / "one", **options)
    two = collect(TASK, tmp_path / "two", workers=2, **options)
    assert two.digest == one.digest and two.manifest == one.manifest
    assert collect(TASK, tmp_path / "three", **(options | {"seed": 2})).digest != one.digest


def test_growing_appends(tmp_path):
    small = collect(TASK, tmp_path / "data", episodes=5)
    seeds, splits = small.index["seed"].tolist(), small.index["split"].tolist()
    grown = collect(TASK, tmp_path / "data", episodes=12)
    assert grown.index["seed"].tolist()[:5] == seeds and grown.index["split"].tolist()[:5] == splits
    assert grown.digest == collect(TASK, tmp_path / "at-once", episodes=12).digest
    assert collect(TASK, tmp_path / "data", episodes=12).digest == grown.digest  # nothing left to do
    with pytest.raises(DatasetError, match="already has 12"):
        collect(TASK, tmp_path / "data", episodes=11)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_continued(tmp_path, workers):
    """A kill -9 in the middle; the same command then ends with the bytes of an undisturbed run."""
    code = (
        "import wmbench.collecting.collector as c, sys\n"
        "c.COMMIT_SECONDS = 0.0\n"
        "if __name__ == '__main__':\n"
        f"    c.collect({TASK!r}, sys.argv[1], episodes=150, workers={workers}, seed=5)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    folder = tmp_path / "data"
    for _ in range(2):
        child = subprocess.Popen([sys.executable, str(script), str(folder)], stderr=subprocess.DEVNULL)
        before = committed(folder)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and child.poll() is None:
            if committed(folder) >= before + 5:
                break
            time.sleep(0.005)
        workers_of_it = children(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert 5 <= len(Dataset(folder, verify=True)) < 150
        until = time.monotonic() + 60
        while time.monotonic() < until and any(alive(pid) for pid in workers_of_it):
            time.sleep(0.05)
        assert not any(alive(pid) for pid in workers_of_it)  # no worker outlives its parent
    finished = collect(TASK, folder, episodes=150, seed=5)
    assert finished.digest == collect(TASK, tmp_path / "undisturbed", episodes=150, seed=5).digest


def committed(folder):
    manifest = folder / "manifest.json"
    return json.loads(manifest.read_text())["episodes"] if manifest.exists() else 0


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_sources_are_counted_by_name(tmp_path):
    card = task_card(TASK)
    smooth = RandomPolicy(RandomConfig(smoothness=0.9), card)
    data = collect(
        TASK, tmp_path / "data", policy=["random", smooth, "zero"], episodes=[4, 3, 2], noise=[0, 0, 0.25], workers=1
    )
    counts = data.manifest["counts"]["source"]
    assert {name: c["episodes"] for name, c in counts.items()} == {
        "random": 4,
        "random(smoothness=0.9)": 3,
        "zero+noise0.25": 2,
    }
    assert sum(c["steps"] for c in counts.values()) == data.manifest["steps"] == len(data.transitions()["reward"])
    lag = {s: np.concatenate([_lag(data.episode(i)) for i in data.episodes(source=s)]) for s in counts}
    assert lag["random(smoothness=0.9)"].mean() > 0.5 and abs(lag["random"].mean()) < 0.25


def _lag(episode):
    return (np.sign(episode.action[1:]) * np.sign(episode.action[:-1])).ravel()


def test_other_plans_are_refused_and_leave_the_data_alone(tmp_path):
    data = collect(TASK, tmp_path / "data", episodes=3)
    for options, word in (
        ({"seed": 1}, "plan"),
        ({"policy": "zero"}, "plan"),
        ({"noise": 0.1}, "plan"),
        ({"split": (0.5, 0.25, 0.25)}, "split"),
    ):
        with pytest.raises(DatasetError, match=word):
            collect(TASK, tmp_path / "data", episodes=5, **options)
    with pytest.raises(DatasetError, match="Gym-Hopper"):
        collect("Gym-InvertedPendulum", tmp_path / "data", episodes=5)
    assert Dataset(tmp_path / "data", verify=True).digest == data.digest


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"policy": "randon"}, CheckpointError, "random"),
        ({"policy": "nowhere/at/all"}, CheckpointError, "nowhere"),
        ({"episodes": 0}, DatasetError, "between 1"),
        ({"policy": ["random", "zero"], "episodes": [1, 2, 3]}, DatasetError, "3 values of episodes for 2"),
        ({"policy": ["random", "random"]}, DatasetError, "'random'"),
        ({"noise": -1.0}, DatasetError, "noise"),
        ({"noise": float("nan")}, DatasetError, "noise"),
        ({"seed": -1}, DatasetError, "seed"),
        ({"workers": 0}, DatasetError, "workers"),
        ({"split": (1.0, 1.0, 1.0)}, DatasetError, "add up"),
    ],
)
def test_faulty_requests(tmp_path, options, error, word):
    with pytest.raises(error, match=word):
        collect(TASK, tmp_path / "data", **options)
    assert not (tmp_path / "data" / "manifest.json").exists()


def test_unknown_task(tmp_path):
    with pytest.raises(NotRegisteredError, match="did you mean"):
        collect("Gym-Hoper", tmp_path / "data")


class Lost(ZeroPolicy):
    """A policy that gives up in every episode's third step."""

    def initial(self, batch_size):
        return np.zeros(batch_size)

    def act(self, observation, state, *, keys):
        if state.max() >= 2:
            raise ZeroDivisionError("lost")
        return super().act(observation, state, keys=keys)[0], state + 1


def test_a_policy_that_fails_is_not_hidden(tmp_path):
    with pytest.raises(ZeroDivisionError, match="lost"):
        collect(TASK, tmp_path / "data", policy=Lost.for_task(task_card(TASK)), episodes=2)


def test_noise_has_the_asked_size_and_stays_in_the_box():
    card = task_card(TASK)
    low, high = card.action_bounds()
    keys = keys_from_seeds(range(4000))
    observation = np.zeros((4000, len(card.observation)), np.float32)
    policy = NoisyPolicy(ZeroPolicy.for_task(card), card, 0.2)
    action, _ = policy.act(observation, policy.initial(4000), keys=keys)
    np.testing.assert_allclose(action.std(0), 0.2 * (high - low) / 2, rtol=0.05)
    np.testing.assert_allclose(action.mean(0), 0, atol=0.02)
    wild, _ = NoisyPolicy(ZeroPolicy.for_task(card), card, 5.0).act(observation, None, keys=keys)
    assert (wild >= low).all() and (wild <= high).all() and wild.dtype == np.float32
    alone, _ = policy.act(observation[:1], None, keys=keys[7:8])
    assert np.array_equal(alone[0], action[7])


def test_command(tmp_path, capsys):
    from wmbench.main import main as wmbench

    words = ["collect", TASK, "--policy", "random", "zero", "--episodes", "4", "2", "--seed", "1"]
    assert wmbench([*words, "--out", str(tmp_path / "data")]) == 0
    said = capsys.readouterr()
    data = Dataset(tmp_path / "data")
    assert "6 episodes" in said.out and data.digest[:12] in said.out
    assert f"collect {TASK}: 6/6" in said.err
    assert data.digest == collect(TASK, tmp_path / "python", policy=["random", "zero"], episodes=[4, 2], seed=1).digest
    assert wmbench([*words[:2], "--out", str(tmp_path / "data"), "--no-progress"]) == 1
    assert "plan" in capsys.readouterr().err
    assert main.__doc__


def test_progress_only_when_asked(capsys):
    with progress("work", 3, show=False) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")
    with progress("work", 3, done=1) as advance:
        advance()
        advance(note="done")
    assert capsys.readouterr().err == "work: 3/3 done\n"


def test_progress_bar_on_a_terminal():
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    with progress("work", 3, done=1, console=terminal) as advance:
        advance(2, note="all is well")
    shown = terminal.file.getvalue()
    assert "work" in shown and "3/3" in shown and "all is well" in shown
