"""Recording of heads: what is asked, what the windows hold past the end, and what the measure makes of known models."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wmbench.episodes import Dataset, DatasetWriter
from wmbench.errors import DatasetError
from wmbench.measuring import measure_heads
from wmbench.protocols import Prediction
from wmbench.recording import Recording
from wmbench.recording.heads import MARGINAL, record_heads


@pytest.fixture
def dataset(tmp_path, toy_card, toy_episode):
    with DatasetWriter(tmp_path / "toy", toy_card, split=(0.5, 0.1, 0.4)) as writer:
        for seed in range(30):
            writer.add(toy_episode(seed))
    return Dataset(tmp_path / "toy", task=toy_card)


class Known:
    """Copies the observation; says the heads that it was given, and notes the actions."""

    def __init__(self, task, heads, sample=False):
        self.card = SimpleNamespace(task_ids=(task.id,), termination="sample" if sample else "threshold")
        self.heads, self.actions = heads, []

    def initial(self, start, *, keys):
        return {"o": start.observation}

    def step(self, state, action, *, uncertainty=False):
        self.actions.append(action.numpy())
        n = len(action)
        heads = {name: torch.full((n,), value, dtype=torch.float64) for name, value in self.heads.items()}
        return state, Prediction(state["o"], **heads)


def results(recording, subject):
    return {r.name: r for r in recording.results() if r.subject == subject}


def test_windows_go_on_with_the_last_action_up_to_the_time_limit(dataset):
    model = Known(dataset.task, {"terminated": 0.0})
    recording = record_heads({"known": model}, dataset, horizon=20, windows=40)
    a = recording.arrays
    assert (a["window_limit"] == np.minimum(20, dataset.task.horizon - a["window_step"])).all()
    assert (a["window_valid"].sum(1) <= a["window_limit"]).all()
    lengths = a["window_valid"].sum(1)
    w = int(np.flatnonzero(lengths < 10)[0])
    episode = dataset.episode(int(a["window_episode"][w]))
    rolled = [step for step in model.actions if len(step) == 40]  # all windows last for some steps
    last = episode.action[-1]
    assert len(episode) - a["window_step"][w] == lengths[w]
    for h, step in enumerate(rolled):
        expected = episode.action[a["window_step"][w] + h] if h < lengths[w] else last
        assert (step[w] == expected).all()
    assert len(rolled) > lengths[w]


def test_known_heads_give_known_numbers(dataset):
    test = dataset.transitions("test")
    mean = float(dataset.stats["reward"]["mean"].item())
    model = Known(dataset.task, {"reward": mean, "terminated": 1.0})
    recording = record_heads({"known": model}, dataset, horizon=10, windows=30)
    found = results(recording, "known")
    assert found["reward-r2"].value == pytest.approx(0.0, abs=1e-9)
    assert found["reward-rmse"].value == pytest.approx(np.sqrt(((test["reward"] - mean) ** 2).mean()), rel=1e-9)
    assert found["reward-rmse"].n == len(test["reward"])
    assert (found["false-continue"].value, found["false-stop"].value) == (0.0, 1.0)
    assert found["success-brier"].reason == "no head"
    a = recording.arrays
    ends = np.where(a["window_terminated"].any(1), a["window_terminated"].argmax(1) + 1, a["window_limit"])
    assert found["end-error"].value == pytest.approx((ends - 1).mean())
    # the toy's reward has both signs, so the event is a positive one
    assert a["reward_event"] == 0.0


def test_the_marginal_stands_beside_the_models(dataset):
    recording = record_heads({}, dataset, horizon=10, windows=30)
    train = dataset.transitions("train")
    a = recording.arrays
    assert a["subject"].tolist() == [MARGINAL]
    assert a["terminated_prediction"][0, 0] == pytest.approx(train["terminated"].mean(), rel=1e-12)
    assert a["success_prediction"][0, 0] == pytest.approx(train["success"].mean(), rel=1e-12)
    found = results(recording, MARGINAL)
    assert found["reward-r2"].value == pytest.approx(0.0, abs=1e-9)
    assert found["success-auroc"].value == found["termination-auroc"].value == 0.5


def test_the_same_numbers_from_the_file(dataset, tmp_path):
    model = Known(dataset.task, {"reward": 0.5, "terminated": 0.3, "success": 0.2}, sample=True)
    recording = record_heads({"known": model}, dataset, horizon=10, windows=30)
    assert recording.arrays["samples_end"].tolist() == [True, True]
    again = Recording.load(recording.save(tmp_path / "r.safetensors"))
    assert [r.to_json() for r in again.results()] == [r.to_json() for r in recording.results()]
    assert record_heads({"known": model}, dataset, horizon=10, windows=30).digest() == recording.digest()


@pytest.mark.parametrize(("rewards", "event"), [((0.0, 0.0, 1.0), 0.0), ((1.0, 1.5, 2.0), np.nan), ((1.0,), np.nan)])
def test_what_counts_as_an_event(tmp_path, toy_card, toy_episode, rewards, event):
    with DatasetWriter(tmp_path / "d", toy_card, split=(0.5, 0.1, 0.4)) as writer:
        for seed in range(20):
            episode = toy_episode(seed)
            episode.reward = np.resize(np.array(rewards), len(episode))
            episode.success = episode.reward >= 1.0
            writer.add(episode)
    recording = record_heads({}, Dataset(tmp_path / "d", task=toy_card), horizon=5, windows=10)
    assert recording.arrays["reward_event"] == pytest.approx(event, nan_ok=True)


def test_a_model_of_another_task_is_refused(dataset, toy_card):
    other = Known(SimpleNamespace(id="wmbench/Toy-Other-v0"), {})
    with pytest.raises(DatasetError, match="Toy-Other"):
        record_heads({"other": other}, dataset)


def test_in_one_call(dataset):
    assert measure_heads({}, dataset, horizon=10, windows=30).find("reward-r2", MARGINAL).value is not None
