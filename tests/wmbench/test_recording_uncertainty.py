"""Recording of uncertainty: the trivial signals' known answers, how distributions are asked for, and the same again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wmbench.episodes import Dataset, DatasetWriter
from wmbench.errors import DatasetError, MissingHeadError
from wmbench.keys import normal
from wmbench.measuring import measure_uncertainty
from wmbench.protocols import Prediction
from wmbench.recording import Recording
from wmbench.recording.trivial import Trivial
from wmbench.recording.uncertainty import GROUPS, MARGINAL, record_uncertainty

CUT = {"horizon": 6, "windows": 30}


def write(folder, card, episodes):
    with DatasetWriter(folder, card, split=(0.5, 0.1, 0.4)) as writer:
        for episode in episodes:
            writer.add(episode)
    return Dataset(folder, task=card)


@pytest.fixture
def dataset(tmp_path, toy_card, toy_episode):
    return write(tmp_path / "toy", toy_card, [toy_episode(seed) for seed in range(30)])


class Toy:
    """Copies the observation, with noise, a standard deviation and signals as a test wants them."""

    def __init__(self, task, *, noise=0.0, std=None, signals=(), given=None):
        self.card = SimpleNamespace(name="toy", task_ids=(task.id,), uncertainty=tuple(signals))
        self.noise, self.std, self.given = noise, std, signals if given is None else given
        self.asked = 0

    def initial(self, start, *, keys):
        return {"o": start.observation, "k": keys}

    def step(self, state, action, *, uncertainty=False):
        o = state["o"] + self.noise * normal(state["k"], state["o"].shape[1])
        self.asked += uncertainty
        far = o.abs().sum(1)
        return {"o": o, "k": state["k"]}, Prediction(
            o,
            observation_std=None if self.std is None or not uncertainty else torch.full_like(o, self.std),
            uncertainty={name: far + i for i, name in enumerate(self.given)} if uncertainty else None,
        )


def results(recording, subject):
    return {r.name: r for r in recording.results() if r.subject == subject}


def test_a_deterministic_model_with_a_deviation_is_a_gaussian(dataset):
    recording = record_uncertainty({"toy": Toy(dataset.task, std=0.5, signals=("b", "a"))}, dataset, **CUT)
    a = recording.arrays
    assert a["draws"].tolist() == [0, 0]
    assert a["has_std"].tolist() == [True, True]
    assert (a["prediction_std"][0] == 0.5).all()
    own = a["signal_role"] == "own"
    assert a["signal"][own].tolist() == ["b", "a", "std"]  # as the card prefers them
    found = results(recording, "toy")
    relative = 0.5 / dataset.stats["delta"]["std"]
    assert found["sharpness"].value == pytest.approx(np.sqrt((relative**2).mean()), rel=1e-6)
    assert found["auroc"].details["signal"] == "b"
    # the signal is the size of the state, so moving states far raises it
    assert found["ratio-far"].value > 2 * found["ratio-near"].value > 1.0
    assert found["separation-far"].value > 0.9
    assert found["spearman:std"].value is None
    assert {n.partition(":")[2] for n in found if n.startswith("auroc:")} == {
        "a",
        "std",
        "constant",
        "motion",
        "nearest",
        "linear-spread",
    }


def test_a_model_that_draws_is_asked_for_draws(dataset):
    recording = record_uncertainty({"toy": Toy(dataset.task, noise=0.7)}, dataset, draws=9, **CUT)
    a = recording.arrays
    assert a["draws"].tolist() == [9, 0]
    draws = a["draw"][0] - a["truth"][None, :, 0]
    assert draws.std() == pytest.approx(0.7, rel=0.1)
    assert len(np.unique(draws[:, 0, 0])) == 9
    found = results(recording, "toy")
    assert found["crps-draws"].value > 0
    assert "no uncertainty" in found["auroc"].reason
    assert found["auroc:nearest"].value is not None
    assert not a["group_asked"].any()


def test_a_plain_model_and_the_marginal(dataset):
    recording = record_uncertainty({"plain": Toy(dataset.task)}, dataset, **CUT)
    found = results(recording, "plain")
    assert "neither" in found["ece"].reason
    found = results(recording, MARGINAL)
    assert found["sharpness"].value == pytest.approx(1.0, rel=1e-6)
    assert found["ece"].value < 0.2
    assert found["auroc"].reason == "the model gives no uncertainty"
    alone = record_uncertainty({}, dataset, **CUT)
    assert alone.arrays["signal_value"].shape == (0, 30, 6)
    assert {r.subject for r in alone.results()} == {MARGINAL}


def test_groups_are_as_far_from_the_data_as_they_say(dataset):
    seen = []

    class Watcher(Toy):
        def initial(self, start, *, keys):
            seen.append(start.observation.numpy())
            return super().initial(start, keys=keys)

    recording = record_uncertainty({"toy": Watcher(dataset.task, signals=("u",))}, dataset, horizon=6, windows=200)
    truth = recording.arrays["truth"][:, 0]
    std = dataset.stats["observation"]["std"]
    sizes = [float(((o - truth) / std).std()) for o in seen if len(o) == 200]
    for distance in GROUPS.values():
        assert sum(size == pytest.approx(distance, rel=0.1) for size in sizes) == 1
    assert recording.arrays["group"].tolist() == ["nominal"] * 200 + ["near"] * 200 + ["far"] * 200


def test_trivial_signals_known_answers(dataset):
    trivial = Trivial(dataset)
    train = dataset.transitions("train")
    o, action, nxt = train["observation"], train["action"], train["next_observation"]
    found = trivial(o, action, nxt)
    assert set(found) == {"constant", "motion", "nearest", "linear-spread"}
    assert (found["constant"] == 1).all()
    assert found["nearest"] == pytest.approx(0.0, abs=1e-5)
    std = dataset.stats["delta"]["std"]
    delta = nxt.astype(float) - o
    delta[:, 1] = (delta[:, 1] + np.pi) % (2 * np.pi) - np.pi  # the heading
    assert found["motion"] == pytest.approx(np.linalg.norm(delta / std, axis=1), rel=1e-6)
    assert trivial(o, action, o)["motion"] == pytest.approx(0.0)
    turned = o + np.array([0, 2 * np.pi, 0], np.float32)
    assert trivial(turned, action, nxt)["nearest"] == pytest.approx(0.0, abs=1e-5)
    away = o + np.array([100.0, 0, 0], np.float32)
    far = trivial(away, action, nxt)
    assert (far["nearest"] > 50).all()
    assert np.median(far["linear-spread"]) > 5 * np.median(found["linear-spread"])
    lost = o.copy()
    lost[0, 2] = np.nan
    assert all(np.isnan(v[0]) and np.isfinite(v[1:]).all() for v in trivial(lost, action, nxt).values())


def test_linear_models_agree_where_the_change_is_linear(tmp_path, toy_card, toy_episode):
    def linear(seed):
        episode = toy_episode(seed, steps=30)
        for t in range(30):
            o, a = episode.observation[t].astype(float), episode.action[t].astype(float)
            episode.observation[t + 1] = 0.5 * o + np.array([a[0], 0.1 * a[1], a[0] - a[1]])
        return episode

    dataset = write(tmp_path / "linear", toy_card, [linear(seed) for seed in range(20)])
    steps = dataset.transitions("test")
    found = Trivial(dataset)(steps["observation"], steps["action"], steps["next_observation"])
    assert (found["linear-spread"] < 1e-3).all()


def test_the_same_numbers_from_the_file(dataset, tmp_path):
    models = {"toy": Toy(dataset.task, noise=0.3, std=0.3, signals=("u",)), "plain": Toy(dataset.task)}
    recording = record_uncertainty(models, dataset, draws=5, **CUT)
    again = Recording.load(recording.save(tmp_path / "r.safetensors"))
    assert [r.to_json() for r in again.results()] == [r.to_json() for r in recording.results()]
    assert record_uncertainty(models, dataset, draws=5, **CUT).digest() == recording.digest()
    assert record_uncertainty(models, dataset, draws=5, seed=1, **CUT).digest() != recording.digest()


def test_a_promised_signal_that_is_not_given_and_a_model_of_another_task(dataset):
    with pytest.raises(MissingHeadError, match=r"'toy'.*'u'"):
        record_uncertainty({"toy": Toy(dataset.task, signals=("u",), given=("v",))}, dataset, **CUT)
    with pytest.raises(DatasetError, match="Toy-Other"):
        record_uncertainty({"toy": Toy(SimpleNamespace(id="wmbench/Toy-Other-v0"))}, dataset, **CUT)


def test_in_one_call(dataset):
    assert measure_uncertainty({}, dataset, **CUT).find("ece", MARGINAL).value is not None
