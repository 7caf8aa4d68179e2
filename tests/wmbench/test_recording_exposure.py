"""Recording exposure: one question asked twice at the first step, true inputs at every other, and a policy inside."""

import numpy as np
import pytest
import torch

import wmbench
from wmbench import registry
from wmbench.cards import ModelCard
from wmbench.keys import fold_in, normal
from wmbench.measures.exposure import AGAIN
from wmbench.protocols import Prediction
from wmbench.recording import Recording
from wmbench.recording.drift import cut_windows, imagine
from wmbench.recording.exposure import RECORDER, record_exposure, teach, window_states
from wmbench.recording.recorder import Subjects

TASK = "wmbench/Gym-Reacher-v0"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return wmbench.collect(TASK, tmp_path_factory.mktemp("reacher") / "d", episodes=8, split=(0.5, 0.0, 0.5))


class Noisy:
    """Copies the observation and adds noise from the row's key."""

    def __init__(self):
        self.card = ModelCard("noisy", (TASK,), frozenset({"observation"}), "o", "none", "tests", "all")

    def initial(self, start, *, keys):
        return {"o": start.observation, "keys": keys}

    def step(self, state, action, *, uncertainty=False):
        keys = fold_in(state["keys"], 1)
        after = state["o"] + 0.1 * normal(keys, state["o"].shape[1])
        return {"o": after, "keys": keys}, Prediction(observation=after)


def oracle():
    cls = registry.world_models.load("oracle")
    return cls(cls.Config(live=4), wmbench.task_card(TASK))


@pytest.fixture
def random_policy():
    return registry.policies.load("random").for_task(wmbench.task_card(TASK))


def by_name(recording, subject):
    return {r.name: r for r in recording.results() if r.subject == subject}


def test_the_first_step_is_the_same_question_and_the_others_start_from_the_truth(data):
    cut = cut_windows(data, "test", 6, 12, 0)
    model = Noisy()
    opened, taught = imagine(model, cut, 3)["observation"], teach(model, cut, window_states(data, cut), 3)
    assert np.array_equal(opened[:, 0], taught[:, 0])
    assert not np.allclose(opened[:, 1], taught[:, 1])
    assert (np.abs(taught - cut.truth[:, :-1]) < 1).all()  # 0.1 sigma of noise, from the true observation each time
    assert len({row.tobytes() for row in (taught - cut.truth[:, :-1]).reshape(-1, 10)}) == 6 * 12


def test_windows_past_an_episodes_end_hold_nothing(data):
    cut = cut_windows(data, "test", 4, 60, 0)  # the task lasts 50 steps
    taught = teach(Noisy(), cut, window_states(data, cut), 0)
    assert (taught[:, 50:] == 0).all()
    states = window_states(data, cut)
    for found, episode in zip(states, cut.episode, strict=True):
        state = data.episode(int(episode)).state
        assert np.array_equal(found[:51], state)
        assert (found[51:] == state[-1]).all()


def test_the_oracle_is_exact_in_all_three(data, random_policy, tmp_path):
    recording = record_exposure(
        {"oracle": oracle(), "noisy": Noisy()},
        data,
        policy=random_policy,
        simulators={"oracle": "oracle"},
        windows=4,
        horizon=10,
        episodes=3,
    )
    found = by_name(recording, "oracle")
    assert found["teacher"].value == found["open"].value == 0.0
    assert "no teacher-forced error" in found["gap"].reason
    assert found["closed-w1"].value == found["closed-energy"].value == found["closed-return"].value == 0.0
    assert by_name(recording, AGAIN)["closed-w1"].value > 0.05
    assert "no simulator" in by_name(recording, "noisy")["closed-w1"].reason
    assert by_name(recording, "noisy")["gap"].value > 1.5
    assert by_name(recording, "noisy")["gap"].details["curve"]["gap"][0] == 1.0
    assert by_name(recording, "copy-last")["open"].value > 0
    assert recording.arrays["closed_step"].tolist() == [1, 2, 5, 10, 20, 50]
    again = Recording.load(recording.save(tmp_path / "r.safetensors"))
    assert again.results() == recording.results()


def test_without_a_policy_the_closed_loop_is_left_out(data):
    recording = record_exposure({"noisy": Noisy()}, data, windows=4, horizon=10, with_baselines=False)
    assert "closed" not in recording.arrays
    assert recording.arrays["subject"].tolist() == ["noisy"]
    assert "no policy" in by_name(recording, "noisy")["closed-w1"].reason


def test_a_simulator_that_fails_is_as_far_away_as_anything(data, random_policy, world_model):
    class Dies(Noisy):
        def __init__(self):
            self.card = ModelCard(
                "dies",
                (TASK,),
                frozenset({"observation", "reward"}),
                "o",
                "none",
                "tests",
                "all",
                {"terminated": "card"},
            )

        def step(self, state, action, *, uncertainty=False):
            state, answer = super().step(state, action)
            lost = torch.full_like(answer.observation, torch.nan)
            reward = torch.zeros(len(lost), dtype=torch.float64)
            return {**state, "o": lost}, Prediction(observation=lost, reward=reward)

    name = world_model("dies", lambda task, device: Dies())
    recording = record_exposure(
        {"dies": Dies()}, data, policy=random_policy, simulators={"dies": name}, windows=4, horizon=5, episodes=2
    )
    found = by_name(recording, "dies")
    assert found["closed-w1"].value > 900
    assert found["closed-w1"].n_invalid == 2
    assert found["open"].value == found["teacher"].value == 2.0


def test_the_recorder_lets_the_expert_act_on_kept_episodes(data, random_policy):
    zero = registry.policies.load("zero").for_task(data.task)
    subjects = Subjects(
        data, {"oracle": oracle()}, {"oracle": "oracle"}, {"random": random_policy, "zero": zero}, "zero"
    )
    small = {"windows": 3, "horizon": 5, "episodes": 2}
    recording = RECORDER(subjects, **small)
    direct = record_exposure(
        subjects.models, data, policy=zero, simulators=subjects.simulators, **small, with_baselines=True
    )
    assert recording.digest() == direct.digest()
    assert "closed" not in RECORDER(Subjects(data, {"oracle": oracle()}, {}), **small).arrays
