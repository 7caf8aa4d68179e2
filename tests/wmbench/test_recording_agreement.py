"""Recording of agreement: the same starts everywhere, every horizon, invalid episodes, the oracle."""

from dataclasses import replace

import numpy as np
import pytest

from wmbench.errors import DatasetError
from wmbench.measures.agreement import MEASURE
from wmbench.measuring import measure_agreement
from wmbench.recording import Recording
from wmbench.recording.agreement import record_agreement, scores_at, worst_at
from wmbench.registration import task_card
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds

TASK = task_card("wmbench/Gym-Hopper-v0")


class Constant:
    """Always the same action; its state is the number of steps, and it fails at one of them if told so."""

    def __init__(self, value, dies_at=None):
        self.value, self.dies_at = value, dies_at

    def initial(self, batch_size):
        return np.zeros(batch_size, dtype=np.int64)

    def act(self, observation, state, *, keys):
        action = np.full((len(observation), 3), self.value, dtype=np.float32)
        if self.dies_at is not None:
            action[state == self.dies_at] = np.nan
        return action, state + 1


@pytest.fixture(scope="module")
def recording():
    policies = {f"push {v:.1f}": Constant(v) for v in (-1.0, -0.5, -0.2, 0.0, 0.1, 0.4, 0.7, 1.0)}
    return record_agreement(TASK, policies, {"oracle": "oracle"}, episodes=4, num_envs=4, horizons=[5, 20, 1000])


def test_the_oracle_agrees_exactly(recording):
    arrays = recording.arrays
    assert arrays["true"].shape == (3, 8, 4)
    assert np.array_equal(arrays["learned"][0], arrays["true"])
    found = {r.name: r for r in recording.results()}
    for name in ("pearson", "spearman", "kendall"):
        assert found[name].value == pytest.approx(1.0)
        assert found[name].details["curve"]["value"] == pytest.approx([1.0] * 3)
        assert found[name].details["curve"]["horizon"] == [5, 20, 1000]
    for name in ("mmrv", "regret@1", "bias", "mae"):
        assert found[name].value == 0.0
    assert found["bias"].unit == "reward"
    assert found["winners"].details["verdict"] == "robustly correct"


def test_outcomes_are_those_of_the_evaluation(recording):
    from wmbench.evaluating import evaluate

    seeds = episode_seeds(0, TASK.id, "eval", 4)
    assert recording.meta["seeds"] == seeds
    own = evaluate(TASK, Constant(0.4), seeds=seeds, name="push")
    returns = [e["returns"] for e in own.episodes]
    assert recording.arrays["true"][-1, 5] == pytest.approx(returns)
    first = rollout(TASK, Constant(0.4), seeds)
    assert recording.arrays["true"][0, 5] == pytest.approx([e.reward[:5].sum() for e in first])


def test_a_recording_gives_the_same_numbers_again(recording, tmp_path):
    again = Recording.load(recording.save(tmp_path / "agreement.safetensors"))
    assert again.results() == recording.results()


def test_invalid_episodes_are_worth_the_least_and_counted():
    policies = {"good": Constant(0.0), "better": Constant(0.1), "fails": Constant(0.1, dies_at=3)}
    found = record_agreement(TASK, policies, {"oracle": "oracle"}, episodes=3, horizons=[2, 10])
    arrays = found.arrays
    assert np.isfinite(arrays["true"][0]).all()  # it had not failed yet
    assert np.isnan(arrays["true"][1, 2]).all()
    assert np.isfinite(arrays["true"][1, :2]).all()
    assert (arrays["worst"] <= np.nanmin(arrays["true"], axis=(1, 2))).all()
    results = {r.name: r for r in MEASURE(arrays)}
    assert results["bias"].n_invalid == 1
    assert results["bias"].details["table"]["invalid"] == [0, 0, 6]
    assert results["bias"].details["table"]["true"][2] == arrays["worst"][1]


def test_policies_that_always_fail_are_no_recording():
    with pytest.raises(DatasetError, match=r"no episode in the true simulator is valid, the first because .*NaN"):
        record_agreement(TASK, {"a": Constant(np.nan)}, {"oracle": "oracle"}, episodes=2)


def test_success_up_to_a_horizon(toy_card, toy_episode):
    episodes = [toy_episode(s, steps=10) for s in range(5)]
    for when in ("once", "at_end"):
        card = replace(toy_card, success=replace(toy_card.success, when=when))
        found = scores_at(card, episodes, [3, 10, 40], "success")
        for e, episode in enumerate(episodes):
            expected = [episode.success[:h].any() if when == "once" else episode.success[:h][-1] for h in (3, 10, 40)]
            assert found[:, e].tolist() == expected
    assert worst_at(toy_card, found[None], [3, 10, 40], "success").tolist() == [0, 0, 0]
    bounded = replace(toy_card, reward_range=(-2.0, 1.0))
    assert worst_at(bounded, found[None], [3, 10, 40], "return").tolist() == [-6, -20, -80]
    assert np.isnan(worst_at(toy_card, np.full((1, 2, 1, 1), np.nan), [1, 2], "return")).all()
    broken = replace(episodes[0], invalid="fault")
    assert np.isnan(scores_at(toy_card, [broken], [11], "success")).all()


def test_it_is_one_call():
    policies = {"a": Constant(0.0), "b": Constant(1.0)}
    found = measure_agreement(TASK.id, policies, {"oracle": "oracle"}, episodes=2, horizons=[5], outcome="success")
    assert found.find("bias", "oracle").value == 0.0
    assert found.find("bias", "oracle").unit == "1"
    assert found.recording.meta["outcome"] == "success"


def test_what_makes_no_sense_is_refused():
    policy, oracle = {"a": Constant(0.0)}, {"oracle": "oracle"}
    for arguments, options in (
        (({}, oracle), {}),
        ((policy, {}), {}),
        ((policy, oracle), {"episodes": 0}),
        ((policy, oracle), {"horizons": [0, 5]}),
        ((policy, oracle), {"horizons": [5000]}),
    ):
        with pytest.raises(DatasetError, match=r"agreement needs|horizons must"):
            record_agreement(TASK, *arguments, **options)
    with pytest.raises(ValueError, match="unknown outcome"):
        record_agreement(TASK, policy, oracle, outcome="score")
