"""Recordings: what is asked of models and simulators, what is kept, and that it gives the same numbers again."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import wmbench
from wmbench.cards import ModelCard
from wmbench.episodes import Dataset, DatasetWriter, EpisodeData
from wmbench.errors import DatasetError
from wmbench.keys import fold_in, normal
from wmbench.measuring import measure_counterfactual, measure_drift, measure_latency, measure_one_step
from wmbench.protocols import Prediction
from wmbench.recording import Recording
from wmbench.recording.drift import cut_windows
from wmbench.recording.floor import record_floor
from wmbench.recording.subjects import AffineDelta, baselines, device_of
from wmbench.registry import world_models

TASK = "wmbench/DMC-CartpoleSwingup-v0"


def collect(folder, task, episodes, steps, *, state=True):
    """Random episodes of the true simulator, cut after ``steps``."""
    card = wmbench.task_card(task)
    env = gym.make(task).unwrapped
    low, high = card.action_bounds()
    rng = np.random.default_rng(0)
    with DatasetWriter(folder, card, split=(0.6, 0.2, 0.2)) as writer:
        for seed in range(episodes):
            rows = {k: [] for k in ("observation", "action", "reward", "terminated", "truncated", "success", "state")}
            rows["observation"].append(env.reset(seed=seed)[0])
            rows["state"].append(env.get_state())
            for _ in range(steps):
                action = (low + (high - low) * rng.random(len(low))).astype(np.float32)
                observation, reward, terminated, truncated, info = env.step(action)
                for key, value in (
                    ("observation", observation),
                    ("action", action),
                    ("reward", reward),
                    ("terminated", terminated),
                    ("truncated", truncated),
                    ("success", info["success"]),
                    ("state", env.get_state()),
                ):
                    rows[key].append(value)
                if terminated or truncated:
                    break
            arrays = {k: np.array(v) for k, v in rows.items()}
            if not state:
                del arrays["state"]
            writer.add(EpisodeData(**arrays, seed=seed, source="random"))
    env.close()
    return Dataset(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("cartpole") / "d", TASK, 15, 60)


@pytest.fixture(scope="module")
def hopper(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("hopper") / "d", "wmbench/Gym-Hopper-v0", 15, 60)


class Toy:
    """A world model of copied observations plus whatever a test wants of it."""

    def __init__(self, task=TASK, *, noise=0.0, fault=None, reward=False):
        self.card = ModelCard("toy", (task,), frozenset({"observation"}), "o", "none", "tests", "all")
        self.noise, self.fault, self.reward = noise, fault, reward
        self.batches = []

    def initial(self, start, *, keys):
        self.batches.append(len(keys))
        return {"o": start.observation, "keys": keys}

    def step(self, state, action, *, uncertainty=False):
        keys = fold_in(state["keys"], 1)
        now = state["o"]
        after = now + self.noise * normal(keys, now.shape[1])
        if self.fault is not None:
            after = self.fault(after)
        reward = torch.ones(len(now), dtype=torch.float64) if self.reward else None
        return {"o": after, "keys": keys}, Prediction(observation=after, reward=reward)


def oracle(task):
    cls = world_models.load("oracle")
    return cls(cls.Config(live=3), wmbench.task_card(task))


@pytest.mark.parametrize("name", ["dataset", "hopper"])
def test_the_oracle_is_perfect_and_copy_last_is_not(name, request):
    data = request.getfixturevalue(name)
    models = {"oracle": oracle(data.task.id), "copy": Toy(data.task.id)}
    step = measure_one_step(models, data, limit=100)
    assert step.find("skill", "oracle").value == 1.0
    assert step.find("skill", "copy").value == 0.0 == step.find("skill", "copy-last").value
    assert step.find("skill", "linear").value > 0.3
    drift = measure_drift(models, data, horizon=25, windows=9)
    assert drift.find("auc", "oracle").value == 0.0
    assert drift.find("auc", "copy").value == drift.find("auc", "copy-last").value > 0
    for scale in (1e-9, 1e-6, 1e-3):
        assert drift.find("auc", f"true+{scale:g}").value > 0
    assert drift.find("auc", "true+1e-09").value < drift.find("auc", "true+0.001").value
    assert drift.find("auc", "true+0.001").value < drift.find("auc", "copy-last").value


@pytest.mark.parametrize("task", ["Gym-Ant", "DMC-FingerSpin", "DMC-PointMassEasy"])
def test_the_oracle_is_perfect_where_states_are_intricate(task, tmp_path):
    """Quaternions and stale contact forces; dimensions that never vary; a goal in the model."""
    data = collect(tmp_path / "d", wmbench.task_card(task).id, 8, 15)
    models = {"oracle": oracle(data.task.id)}
    assert measure_one_step(models, data, limit=8).find("skill-worst", "oracle").value == 1.0
    drift = measure_drift(models, data, horizon=12, windows=3)
    assert drift.find("auc", "oracle").value == 0.0
    assert 0 < drift.find("auc", "true+0.001").value < 2.0
    assert drift.find("auc", "true+1e-09").value < 1e-3


def test_a_recording_gives_the_same_numbers_again(dataset, tmp_path):
    for number, found in enumerate(
        (
            measure_one_step({"toy": Toy(noise=0.1, reward=True)}, dataset, limit=50),
            measure_drift({"toy": Toy(noise=0.1)}, dataset, horizon=10, windows=4, floor=False),
        )
    ):
        path = found.recording.save(tmp_path / f"{number}.safetensors")
        again = Recording.load(path)
        assert again.results() == found.results
        assert again.digest() == found.recording.digest()
        assert again.meta == found.recording.meta
        assert again.meta["dataset"] == dataset.digest


def test_the_same_seed_gives_the_same_recording(dataset):
    def once(seed):
        return measure_drift({"toy": Toy(noise=0.1)}, dataset, horizon=10, windows=4, seed=seed).recording.digest()

    assert once(0) == once(0) != once(1)


def test_damage_and_strangers_are_refused(tmp_path, dataset):
    path = tmp_path / "r.safetensors"
    Recording("one-step", {"x": np.arange(6.0), "name": np.array(["a"])}, {"k": 1}).save(path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="hashes"):
        Recording.load(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match="damaged"):
        Recording.load(path)
    with pytest.raises(DatasetError, match="does not exist"):
        Recording.load(tmp_path / "nothing.safetensors")
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(DatasetError, match="no recording"):
        Recording.load(path)
    with pytest.raises(ValueError, match="neither numbers nor text"):
        Recording("m", {"x": np.array([None])}).save(path)
    with pytest.raises(ValueError, match="JSON"):
        Recording("m", {}, {"x": float("nan")}).save(path)


def test_a_folder_is_given_a_file(tmp_path):
    recording = Recording("m", {"x": np.zeros(2)})
    assert recording.save(tmp_path / "Gym-Hopper.drift.0a1") == tmp_path / "Gym-Hopper.drift.0a1/recording.safetensors"
    assert Recording.load(tmp_path / "Gym-Hopper.drift.0a1").digest() == recording.digest()


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("wmbench.recording.store.FORMAT", 99)
    path = Recording("m", {"x": np.zeros(2)}).save(tmp_path / "r.safetensors")
    monkeypatch.undo()
    with pytest.raises(DatasetError, match="format 99"):
        Recording.load(path)


def test_an_empty_split_is_refused(tmp_path):
    few = collect(tmp_path / "few", TASK, 1, 10)
    for call in (measure_one_step, measure_drift):
        with pytest.raises(DatasetError, match="'test' is empty"):
            call({"toy": Toy()}, few)


def test_rows_leave_the_batch_when_their_window_ends(hopper):
    model = Toy("wmbench/Gym-Hopper-v0")
    sizes = []
    step = model.step
    model.step = lambda state, action, **k: sizes.append(len(action)) or step(state, action, **k)
    found = measure_drift({"toy": model}, hopper, horizon=60, windows=6, floor=False).recording.arrays
    assert sizes == [n for n in found["valid"].sum(0).tolist() if n]
    assert sizes[-1] < sizes[0] == 6
    assert (found["prediction"][0][~found["valid"]] == 0).all()


def test_a_models_weights_say_where_it_lives():
    assert device_of(Toy()) == torch.device("cpu")
    assert device_of(torch.nn.Linear(1, 1)) == torch.device("cpu")
    assert device_of(torch.nn.Linear(1, 1, device="meta")) == torch.device("meta")
    assert device_of(torch.nn.Identity()) == torch.device("cpu")


def test_a_model_that_draws_is_scored_by_the_mean_of_its_draws(dataset):
    noisy, still = Toy(noise=0.1), Toy()
    found = measure_one_step({"noisy": noisy, "still": still}, dataset, limit=50)
    arrays = found.recording.arrays
    assert arrays["draws"][:2].tolist() == [16, 2]
    assert arrays["prediction_std"][0].mean() == pytest.approx(0.1, rel=0.05)
    assert (arrays["prediction_std"][1] == 0).all()
    assert np.abs(arrays["prediction"][0] - arrays["prediction"][1]).std() < 0.1 / np.sqrt(16) * 1.2


def test_heads_are_kept_where_they_exist(dataset):
    found = measure_one_step({"with": Toy(reward=True), "without": Toy()}, dataset, limit=20).recording.arrays
    assert found["has_reward"][:2].tolist() == [True, False]
    assert (found["reward_prediction"][0] == 1).all()
    drift = measure_drift({"with": Toy(reward=True)}, dataset, horizon=5, windows=3, floor=False).recording.arrays
    assert (drift["reward_prediction"][0] == 1).all()
    assert not drift["has_terminated"].any()


def test_a_model_that_breaks_is_counted(dataset):
    def nan(observation):
        out = observation.clone()
        out[::2] = float("nan")
        return out

    with np.errstate(all="raise", under="ignore"):
        found = measure_one_step({"nan": Toy(fault=nan)}, dataset, limit=50)
        drift = measure_drift({"nan": Toy(fault=nan)}, dataset, horizon=5, windows=4, floor=False)
    assert found.find("skill", "nan").n_invalid == 25
    assert found.find("skill", "nan").value < -1000
    assert drift.find("auc", "nan").n_invalid == 2
    assert drift.find("auc", "nan").value >= 1.0


def test_windows_stay_inside_episodes(hopper):
    cut = cut_windows(hopper, "test", 12, 25, 0)
    assert set(cut.episode) <= set(hopper.episodes("test"))
    assert len(set(cut.episode)) == len(hopper.episodes("test"))
    for w in range(12):
        episode = hopper.episode(int(cut.episode[w]))
        steps = int(cut.valid[w].sum())
        assert steps == min(25, len(episode) - cut.step[w])
        assert cut.valid[w, :steps].all()
        start = int(cut.step[w])
        assert np.array_equal(cut.truth[w, : steps + 1], episode.observation[start : start + steps + 1])
        assert np.array_equal(cut.action[w, :steps], episode.action[start : start + steps])
        assert np.array_equal(cut.state[w], episode.state[start])
    assert not cut.valid.all()  # hopper falls early: some windows are shorter


def test_an_undisturbed_floor_is_the_truth(dataset, hopper):
    for data in (dataset, hopper):
        cut = cut_windows(data, "test", 4, 30, 0)
        found, why = record_floor(data, cut.state, cut.action, cut.valid, 0, scales=(0.0,))
        assert why == ""
        assert np.array_equal(found[0.0][cut.valid], cut.truth[:, 1:][cut.valid])


def test_no_floor_says_why(tmp_path, dataset):
    bare = collect(tmp_path / "bare", TASK, 8, 20, state=False)
    found = measure_drift({"toy": Toy()}, bare, horizon=5, windows=2)
    assert "no simulator states" in found.recording.meta["floor"]
    assert "floor" not in found.recording.arrays["role"]

    class Closed:
        pass

    cut = cut_windows(dataset, "test", 2, 5, 0)
    _, why = record_floor(dataset, cut.state, cut.action, cut.valid, 0, simulator=Closed())
    assert "does not say" in why


def test_a_model_of_another_task_is_refused(dataset, hopper):
    for call in (measure_one_step, measure_drift):
        with pytest.raises(DatasetError, match=r"'toy' was made for .*Cartpole.* is wmbench/Gym-Hopper-v0"):
            call({"toy": Toy()}, hopper)


def test_baselines_are_what_they_say(dataset):
    fitted = baselines(dataset)
    data = dataset.transitions("train")
    now, action = data["observation"].astype(float), data["action"].astype(float)
    delta = data["next_observation"].astype(float) - now
    assert np.array_equal(fitted["copy-last"](now, action), now)
    assert fitted["mean-delta"](now, action) - now == pytest.approx(np.tile(delta.mean(0), (len(now), 1)), abs=1e-12)
    inputs = np.concatenate([now, action, np.ones((len(now), 1))], 1)
    best = inputs @ np.linalg.lstsq(inputs, delta, rcond=None)[0]
    assert fitted["linear"](now, action) - now == pytest.approx(best, abs=1e-6)
    assert isinstance(fitted["linear"], AffineDelta)


def test_given_models_are_not_doubled(dataset):
    found = measure_one_step({"linear": Toy()}, dataset, limit=10).recording.arrays
    assert found["subject"].tolist() == ["linear", "copy-last", "mean-delta"]
    alone = measure_one_step({"toy": Toy()}, dataset, limit=10, with_baselines=False).recording.arrays
    assert alone["subject"].tolist() == ["toy"]


def test_latency_counts_calls_and_keeps_warm_up_apart():
    class Slow:
        def initial(self, batch_size):
            return np.zeros(batch_size)

        def act(self, observation, state, *, keys):
            assert len(observation) == len(state) == len(keys)
            return np.zeros((len(keys), 1), np.float32), state + 1

    found = measure_latency(TASK, {"true": None}, {"slow": Slow()}, calls=50, resets=5, batches=(1, 8), budget_s=20)
    assert found.find("step-p50", "true").n == 50
    assert found.find("reset-p50", "true").n == 8  # 15 calls in all, fewer than twice the warm-up: half are warm-up
    assert found.find("act-x8-p50", "slow").n == 50
    assert found.find("step-throughput", "true").value > 0
    assert found.find("step-first-call", "true").value > 0
    assert "calls" in found.find("step-p99", "true").reason
    assert found.recording.meta["provenance"]["cpu"]
    few = measure_latency(TASK, {"true": None}, calls=10_000, resets=3, budget_s=0.05)
    assert few.find("step-p50", "true").n < 10_000


def test_latency_of_a_learned_simulator_is_batched():
    found = measure_latency(TASK, {"oracle": "oracle"}, calls=12, resets=3, batches=(1, 4), budget_s=20, seed=1)
    assert found.find("step-p50", "oracle").n == 12
    assert found.find("step-x4-throughput", "oracle").details["batch"] == 4


@pytest.mark.parametrize("name", ["dataset", "hopper"])
def test_branches_of_the_true_simulator(name, request):
    data = request.getfixturevalue(name)
    models = {"oracle": oracle(data.task.id), "noisy": Toy(data.task.id, noise=0.1)}
    found = measure_counterfactual(models, data, starts=12, steps=5)
    assert found.find("cfe", "oracle").value == 0.0
    assert found.find("cosine", "oracle").value == pytest.approx(1.0)
    for subject in ("noisy", "copy-last", "mean-delta"):  # blind to the action; the noise is common to all branches
        assert found.find("cfe", subject).value == pytest.approx(1.0, abs=1e-5)
        assert found.find("cfe-corner-5", subject).value == pytest.approx(1.0, abs=1e-5)
    assert found.find("cfe", "linear").value < 0.9
    arrays = found.recording.arrays
    low, high = data.task.action_bounds()
    assert ((arrays["action"] >= low) & (arrays["action"] <= high)).all()
    offset = (arrays["action"][:, 1] - arrays["action"][:, 0]) / ((high - low) / 2)
    there = arrays["valid"][:, 0]
    assert np.linalg.norm(offset, axis=-1)[there] == pytest.approx(0.1, rel=1e-3)
    assert (arrays["action"][:, 2] == arrays["action"][:, 0]).all((1, 2)).sum() <= 2  # the same window drawn twice
    # the recorded branch is what was recorded
    for i in range(12):
        episode, step = data.episode(int(arrays["episode"][i])), int(arrays["step"][i])
        steps = int(there[i].sum())
        assert np.array_equal(arrays["truth"][i, 0, :steps], episode.observation[step + 1 : step + 1 + steps])


def test_branching_needs_states(tmp_path):
    bare = collect(tmp_path / "bare", TASK, 8, 20, state=False)
    with pytest.raises(DatasetError, match="branching needs simulator states"):
        measure_counterfactual({"toy": Toy()}, bare)


def test_a_timing_that_runs_out_of_time_leaves_its_episode_begun():
    from wmbench.recording.latency import _timing

    ended = False

    def step():
        nonlocal ended
        assert not ended, "a step after the end of the episode"
        ended = True

    def begin_again(_):
        nonlocal ended
        ended = False

    for _ in range(2):  # two rounds, each stopped by its budget after one call
        assert len(_timing(step, begin_again, 10, 0.0, lambda: None)) == 1
