"""Window sampler against Minari on the same episodes, and against a plain memory copy for pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench.episodes import Dataset, DatasetWriter, EpisodeData

EPISODES, STEPS = 300, 200
BATCH, LENGTH = 256, 16
CARD = TaskCard(
    id="wmbench/Bench-Cheetah-v0",
    suite="bench",
    backend_id="cheetah",
    simulator="nowhere:Nothing",
    observation=tuple(Dimension(f"o{i}") for i in range(17)),
    action=tuple(Dimension(f"a{i}", low=-1.0, high=1.0) for i in range(6)),
    control_hz=20,
    horizon=1000,
    terminates=False,
    success=SuccessRule("reward", 1.0, "none"),
    action_convention="torque",
)


def episode(seed: int, steps: int, pictures: bool = False) -> EpisodeData:
    """Noise in the shapes of HalfCheetah, or of 64 x 64 pictures."""
    rng = np.random.default_rng(seed)
    no = np.zeros(steps, dtype=bool)
    return EpisodeData(
        observation=rng.normal(size=(steps + 1, 17)).astype(np.float32),
        action=rng.uniform(-1, 1, (steps, 6)).astype(np.float32),
        reward=rng.normal(size=steps),
        terminated=no,
        truncated=no,
        success=no,
        seed=seed,
        source="random",
        extra={"rgb": rng.integers(0, 255, (steps + 1, 64, 64, 3), dtype=np.uint8)} if pictures else {},
    )


def interleaved(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each function, called in turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(rounds + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if i >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def minari_dataset(folder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same episodes as a Minari dataset."""
    minari = pytest.importorskip("minari")
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    buffers = [
        EpisodeBuffer(
            id=i,
            observations=e.observation,  # type: ignore[arg-type]
            actions=e.action,  # type: ignore[arg-type]
            rewards=e.reward.tolist(),
            terminations=e.terminated.tolist(),
            truncations=e.truncated.tolist(),
        )
        for i, e in ((i, episode(i, STEPS)) for i in range(EPISODES))
    ]
    spaces = {"observation_space": Box(-np.inf, np.inf, (17,), np.float32), "action_space": Box(-1, 1, (6,))}
    return minari.create_dataset_from_buffers("bench/cheetah-v0", buffers, **spaces)


def stacked(episodes: Any, rng: np.random.Generator, windows_each: int) -> dict[str, np.ndarray]:
    """Windows of Minari episodes, sliced and stacked as its users do."""
    pieces: dict[str, list[np.ndarray]] = {}
    for e in episodes:
        for _ in range(windows_each):
            t = int(rng.integers(0, len(e.rewards) - LENGTH + 1))
            pieces.setdefault("observation", []).append(e.observations[t : t + LENGTH + 1])
            pieces.setdefault("action", []).append(e.actions[t : t + LENGTH])
            pieces.setdefault("reward", []).append(e.rewards[t : t + LENGTH])
            pieces.setdefault("terminated", []).append(e.terminations[t : t + LENGTH])
            pieces.setdefault("truncated", []).append(e.truncations[t : t + LENGTH])
    return {name: np.stack(values) for name, values in pieces.items()}


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_windows_against_minari(benchmark: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with DatasetWriter(tmp_path / "ours", CARD, split=(1, 0, 0)) as writer:
        for i in range(EPISODES):
            writer.add(episode(i, STEPS))
    fields = ("observation", "action", "reward", "terminated", "truncated")
    sampler = Dataset(tmp_path / "ours").windows("train", LENGTH, batch_size=BATCH, seed=0, fields=fields)
    theirs = minari_dataset(tmp_path / "minari", monkeypatch)
    rng = np.random.default_rng(0)
    in_memory = list(theirs.iterate_episodes())
    assert np.array_equal(in_memory[3].observations, episode(3, STEPS).observation)
    functions = {
        "ours": sampler.sample,
        "Minari, one window from each of 256 sampled episodes": lambda: stacked(theirs.sample_episodes(BATCH), rng, 1),
        "Minari, 16 windows from each of 16 sampled episodes": lambda: stacked(theirs.sample_episodes(16), rng, 16),
        "Minari, all episodes kept in memory": lambda: stacked(
            [in_memory[i] for i in rng.integers(0, EPISODES, BATCH)], rng, 1
        ),
    }
    medians = interleaved(functions, 15)
    print(f"\nbatches of {BATCH} windows of {LENGTH} steps, HalfCheetah's shapes, {EPISODES} episodes of {STEPS} steps")
    for name, seconds in medians.items():
        print(f"  {name:55s} {seconds * 1e6:10.0f} us   {seconds / medians['ours']:8.1f} x ours")
        benchmark.extra_info[name] = seconds / medians["ours"]
    benchmark.pedantic(sampler.sample, rounds=50)
    closest = min(seconds for name, seconds in medians.items() if name != "ours")
    assert closest >= 5 * medians["ours"]


def test_picture_windows_against_a_memory_copy(benchmark: Any, tmp_path: Any) -> None:
    with DatasetWriter(tmp_path / "pictures", CARD, split=(1, 0, 0), shard_bytes=2**25) as writer:
        for i in range(16):
            writer.add(episode(i, 500, pictures=True))
    data = Dataset(tmp_path / "pictures", verify=True)  # reading it all leaves it in the page cache
    sampler = data.windows("train", LENGTH, batch_size=32, seed=0, fields=("rgb",))
    out = sampler.sample()
    size = out["rgb"].nbytes
    source = np.random.default_rng(0).integers(0, 255, sum(s["rgb"].nbytes for s in data.shards), dtype=np.uint8)
    target = np.empty(size, dtype=np.uint8)
    rng = np.random.default_rng(1)

    def place() -> np.ndarray:
        start = int(rng.integers(0, len(source) - size))
        return source[start : start + size]

    functions: dict[str, Callable[[], Any]] = {
        "plain copy into the same memory": lambda: np.copyto(target, place()),
        "sampler into the same memory": lambda: sampler.sample(out=out),
        "plain copy into fresh memory": lambda: place().copy(),
        "sampler into fresh memory": sampler.sample,
    }
    medians = interleaved(functions, 60)
    print(
        f"\nbatches of 32 windows of 17 pictures (64, 64, 3) uint8, {size / 2**20:.1f} MiB, {len(data.shards)} shards"
    )
    for name, seconds in medians.items():
        print(f"  {name:35s} {seconds * 1e6:8.0f} us   {size / seconds / 2**30:6.2f} GiB/s")
    same = medians["sampler into the same memory"] / medians["plain copy into the same memory"]
    fresh = medians["sampler into fresh memory"] / medians["plain copy into fresh memory"]
    print(f"  sampler / copy: {same:.2f} into the same memory, {fresh:.2f} into fresh memory")
    benchmark.extra_info.update(same=same, fresh=fresh)
    benchmark.pedantic(lambda: sampler.sample(out=out), rounds=50)
    assert same <= 2
