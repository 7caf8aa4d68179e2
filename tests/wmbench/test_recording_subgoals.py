"""Recording of subgoals: the oracle reaches all of its own, and a recording gives the same numbers again."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wmbench
from wmbench import checkpoints
from wmbench.errors import DatasetError
from wmbench.protocols import Prediction
from wmbench.recording import Recording
from wmbench.recording.recorder import Subjects
from wmbench.recording.subgoals import RECORDER, record_subgoals

HOPPER = wmbench.task_card("Gym-Hopper")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return wmbench.collect(HOPPER, tmp_path_factory.mktemp("hopper"), episodes=12, seed=0, split=(0.5, 0.1, 0.4))


class Broken:
    """Predicts what is not finite; without a reward head if told so."""

    def __init__(self, reward=True):
        from wmbench.cards import ModelCard

        heads = frozenset({"observation", "reward"} if reward else {"observation"})
        self.card = ModelCard("broken", (HOPPER.id,), heads, "o", "a", "tests", "all", {"terminated": "card"})

    def initial(self, start, *, keys):
        return {"observation": start.observation}

    def step(self, state, action, *, uncertainty=False):
        observation = state["observation"] * float("nan")
        reward = observation[:, 0].double() if "reward" in self.card.predicts else None
        return state, Prediction(observation, reward=reward)


@pytest.fixture(scope="module")
def recording(dataset):
    models = {
        "oracle": checkpoints.resolve("oracle", HOPPER, kind="world_model"),
        "ensemble": checkpoints.resolve("ensemble", HOPPER, kind="world_model"),
        "broken": Broken(),
        "mute": Broken(reward=False),
    }
    return record_subgoals(models, dataset, starts=12, candidates=6, steps=5, within=8)


def test_the_oracle_reaches_what_it_proposes(recording):
    found = {(r.subject, r.name): r for r in recording.results()}
    for subject in ("oracle", "true"):
        assert found[subject, "reach-rate"].value == found[subject, "oracle-reach-rate"].value == 1.0
        assert found[subject, "distance"].value == found[subject, "missed-rate"].value == 0.0
        assert found[subject, "progress"].value == 1.0
    assert found["broken", "reach-rate"].value == found["broken", "oracle-reach-rate"].value == 0.0
    assert found["broken", "reach-rate"].n_invalid == 12
    assert found["broken", "progress"].value < found["stay", "progress"].value <= 0.0
    assert found["stay", "reach-rate"].value == 0.0
    assert found["stay", "idle-rate"].value == 1.0
    assert max(found["elsewhere", k].value for k in ("progress", "reach-rate")) < 0.5
    assert found["ensemble", "distance"].value < found["elsewhere", "distance"].value
    assert recording.meta["without_reward"] == ["mute"]
    assert recording.arrays["role"].tolist() == ["model"] * 4 + ["oracle", "baseline", "baseline"]


def test_arrays_are_what_they_say(recording):
    arrays = recording.arrays
    assert arrays["truth"].shape == (12, 6, 8, 11)
    assert (arrays["chosen"][3] == 0).all()
    own = arrays["subject"].tolist().index("true")
    reward = np.where(arrays["valid"], arrays["reward"], 0.0)[:, :, :5].sum(2)
    assert np.array_equal(arrays["chosen"][own], reward.argmax(1))
    for n, b in enumerate(arrays["chosen"][own]):
        last = min(5, int(arrays["valid"][n, b].sum())) - 1
        assert np.array_equal(arrays["subgoal"][own, n], arrays["truth"][n, b, last])
    assert not np.array_equal(arrays["subgoal"][-1], arrays["subgoal"][own])
    assert np.array_equal(np.sort(arrays["subgoal"][-1], 0), np.sort(arrays["subgoal"][own], 0))


def test_an_imagined_end_comes_before_the_last_step():
    from wmbench.recording.subgoals import _imagined_best, _imagined_end

    found = {"observation": np.zeros((1, 3, 4, 1)), "reward": np.ones((1, 3, 4))}
    assert _imagined_end(found).tolist() == [[3, 3, 3]]
    found["terminated"] = np.array([[[0, 1, 0, 1], [0, 0, 0, 0], [0.4, 0.4, 0.4, 0.5]]], dtype=np.float64)
    assert _imagined_end(found).tolist() == [[1, 3, 3]]
    assert _imagined_best(HOPPER, found).tolist() == [1]  # rewards after an end do not count
    found["reward"][0, 1, 2] = np.nan
    assert _imagined_best(HOPPER, found).tolist() == [2]
    found["observation"][0, 2, 0] = np.inf
    assert _imagined_best(HOPPER, found).tolist() == [0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_imagined_returns_are_those_of_the_other_measures(seed, bounded):
    from wmbench.recording.judging import imagined_returns
    from wmbench.recording.subgoals import _imagined_best

    rng = np.random.default_rng(seed)
    card = replace(HOPPER, reward_range=(-0.5, 0.5)) if bounded else HOPPER
    found = {"observation": rng.normal(size=(3, 6, 5, 2)), "reward": rng.normal(size=(3, 6, 5))}
    found["terminated"] = rng.uniform(0, 0.7, (3, 6, 5))
    for values in found.values():
        values[rng.random(values.shape) < 0.03] = np.nan
    total = imagined_returns(card, found)[..., -1]
    for row, best in zip(total, _imagined_best(card, found), strict=True):
        assert np.isnan(row).all() or row[best] == np.nanmax(row)


def test_a_recording_gives_the_same_numbers_again(recording, tmp_path):
    again = Recording.load(recording.save(tmp_path / "s.safetensors"))
    assert again.results() == recording.results()


def test_it_is_found_by_name(dataset):
    found = RECORDER(Subjects(dataset, {}, {}), starts=4, candidates=2, steps=2, within=3)
    assert found.measure == "subgoals"
    assert found.arrays["subject"].tolist() == ["true", "stay", "elsewhere"]


def test_what_makes_no_sense_is_refused(dataset):
    for options in (
        {"starts": 1},
        {"candidates": 3},
        {"candidates": 0},
        {"steps": 0},
        {"steps": 9, "within": 8},
        {"tolerance": 0.0},
    ):
        with pytest.raises(DatasetError, match="subgoals need"):
            record_subgoals({}, dataset, **options)
