"""Recording of causes: predicates on made-up episodes, the oracle exact, actions replayed, and causes of every card."""

from dataclasses import replace

import numpy as np
import pytest

import wmbench
from wmbench.cards import Cause, TaskCard
from wmbench.episodes import EpisodeData
from wmbench.errors import CardError, DatasetError
from wmbench.evaluating import make_policy
from wmbench.recording import Recording
from wmbench.recording.failures import RECORDER, Replay, read_cause, record_failures
from wmbench.recording.recorder import Subjects
from wmbench.registration import task_cards
from wmbench.rollout import rollout

HOPPER = wmbench.task_card("Gym-Hopper")


def episode(steps=8, **changes):
    values = {
        "observation": np.zeros((steps + 1, 3), np.float32),
        "action": np.zeros((steps, 2), np.float32),
        "reward": np.ones(steps),
        "terminated": np.zeros(steps, bool),
        "truncated": np.zeros(steps, bool),
        "success": np.zeros(steps, bool),
        "seed": 1,
    }
    return EpisodeData(**(values | changes))


def test_generic_causes(toy_card):
    ends = np.arange(8) == 7
    full = toy_card.horizon
    assert read_cause(toy_card, "ends early", episode(terminated=ends), 1.0)
    assert not read_cause(toy_card, "ends early", episode(truncated=ends), 1.0)
    last = np.arange(full) == full - 1
    assert not read_cause(toy_card, "ends early", episode(full, terminated=last), 1.0)
    assert read_cause(toy_card, "runs out of time", episode(full, truncated=last), 1.0)
    assert not read_cause(toy_card, "runs out of time", episode(full, terminated=last), 1.0)
    assert not read_cause(toy_card, "runs out of time", episode(truncated=ends), 1.0)
    slower = np.repeat([1.0, 3.0, 2.0, 0.9], 2)
    assert read_cause(toy_card, "loses progress", episode(reward=slower), 2.0)
    assert not read_cause(toy_card, "loses progress", episode(reward=slower), 2.2)
    assert not read_cause(toy_card, "loses progress", episode(reward=np.sort(slower)), 1.0)
    assert not read_cause(toy_card, "loses progress", episode(3, reward=np.array([9.0, 1.0, 0.0])), 1.0)
    hard = np.zeros((8, 2), np.float32)
    hard[:, 0] = 1.0
    assert read_cause(toy_card, "actions saturate", episode(action=hard), 1.0)  # one of two, at its end
    assert not read_cause(toy_card, "actions saturate", episode(action=0.99 * hard), 1.0)
    hard[:, 0], hard[0, 0] = -1.0, 0.0
    assert not read_cause(toy_card, "actions saturate", episode(action=hard), 1.0)
    for broken in (episode(invalid="broke", terminated=ends), episode(diverged=True, terminated=ends), episode(0)):
        assert not read_cause(toy_card, "ends early", broken, 1.0)
    with pytest.raises(KeyError):
        read_cause(toy_card, "bad luck", episode(), 1.0)


def test_causes_of_cards(toy_card):
    causes = {
        "off": Cause((0,), -1.0, 1.0),
        "never in": Cause((0,), 2.0, when="never"),
        "off at the end": Cause((0,), high=1.0, when="end"),
        "turned": Cause((1,), -1.0, 1.0),
        "apart": Cause((0, 2), high=5.0, when="end", minus=(2, 0)),
    }
    card = replace(toy_card, causes=causes)

    def shown(place, turn=0.0, speed=0.0):
        observation = np.zeros((len(place), 3), np.float32)
        observation[:, 0], observation[:, 1], observation[:, 2] = place, turn, speed
        return [name for name in causes if card.shows(name, observation)]

    assert shown([0, 0.5, 1]) == ["never in"]
    assert shown([0, 1.5, 0.5]) == ["off", "never in"]
    assert shown([0, 2.5]) == ["off", "off at the end"]
    assert shown([-3.0, 0.0]) == ["off", "never in"]
    assert shown([0.0], turn=2 * np.pi + 0.5) == ["never in"]  # angles are wrapped
    assert shown([0.0], turn=np.pi) == ["never in", "turned"]
    assert shown([0.0], speed=3.0) == ["never in"]
    assert shown([0.0], speed=4.0) == ["never in", "apart"]  # the norm of (0 - 4, 4 - 0)
    assert shown([]) == []
    assert TaskCard.from_json(card.to_json()) == card
    assert card.digest() == toy_card.digest()  # what merely explains changes no task
    # the observation at the start is nobody's doing
    assert not read_cause(card, "off", episode(observation=np.r_[[[9, 0, 0]], np.zeros((8, 3))]), 1.0)


def test_causes_that_are_none(toy_card):
    for bad in ({"dims": ()}, {"dims": (0, 1), "minus": (1,), "high": 1.0}):
        with pytest.raises(CardError, match="indices"):
            Cause(**bad)
    for low, high in ((None, None), (1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(CardError, match="range"):
            Cause((0,), low, high)
    with pytest.raises(CardError, match="the cause 'x' reads observation 3 of 3"):
        replace(toy_card, causes={"x": Cause((3,), high=1.0)})
    with pytest.raises(CardError, match="reads observation 7"):
        replace(toy_card, causes={"x": Cause((0,), high=1.0, minus=(7,))})


def test_every_cause_names_its_source():
    causes = [(card.id, name, c) for card in task_cards().values() for name, c in card.causes.items()]
    assert len(causes) > 20
    for _, _, cause in causes:
        assert cause.source
    assert task_cards()["wmbench/Gym-Hopper-v0"].causes["leans too far"].high == 0.2


def test_health_rules_are_those_of_the_simulator():
    """Where the only way to end is the health rule, an episode ends early if and only if one of its causes shows."""
    for task in ("Gym-Hopper", "Gym-Walker2d", "Gym-Ant", "Gym-Humanoid", "Gym-InvertedPendulum"):
        card = wmbench.task_card(task)
        for e in rollout(card, make_policy("random", card), range(3)):
            seen = [card.shows(cause, e.observation[1:]) for cause in card.causes]
            assert any(seen) == bool(e.terminated[-1]), task
            before = [card.shows(cause, e.observation[1:-1]) for cause in card.causes]
            assert not any(before), task


@pytest.fixture(scope="module")
def policies():
    return {
        "random": make_policy("random", HOPPER),
        "smooth": make_policy("random", HOPPER, config={"smoothness": 0.9}),
    }


@pytest.mark.parametrize("mode", ["policy", "actions"])
def test_the_oracle_sees_every_cause(policies, mode, tmp_path):
    simulators = {"oracle": "oracle", "ensemble": "ensemble"}
    recording = record_failures(HOPPER, policies, simulators, episodes=4, mode=mode)
    arrays = recording.arrays
    assert arrays["predicted"].shape == (2, 2, 4, 6)
    for name in ("", "_failed", "_valid"):
        assert np.array_equal(arrays[f"predicted{name}"][0], arrays[f"true{name}"])
    found = {r.name: r for r in recording.results() if r.subject == "oracle"}
    for name in ("precision", "recall", "f1", "exact", "cause-precision:ends early", "cause-recall:ends early"):
        assert found[name].value == 1.0
    assert {r.subject for r in recording.results()} == {"oracle", "ensemble", "always", "elsewhere"}
    again = Recording.load(recording.save(tmp_path / "f.safetensors"))
    assert again.results() == recording.results()


def test_replayed_actions_are_those_of_the_episodes(policies):
    seeds = [3, 8, 5]
    true = rollout(HOPPER, policies["smooth"], seeds)
    again = rollout(HOPPER, Replay(HOPPER, seeds, true), seeds, num_envs=2)
    for a, b in zip(true, again, strict=True):
        assert np.array_equal(a.action, b.action)
        assert np.array_equal(a.observation, b.observation)
    longer = Replay(HOPPER, seeds, [replace(e, action=e.action[:2]) for e in true])
    shown = rollout(HOPPER, longer, seeds)[1].action
    assert np.array_equal(shown[2:], np.repeat(true[1].action[1:2], len(shown) - 2, 0))
    empty = Replay(HOPPER, [3], [replace(true[0], reward=true[0].reward[:0])])
    assert (rollout(HOPPER, empty, [3])[0].action == 0).all()


class Faulty:
    """Always fails."""

    def initial(self, batch_size):
        return None

    def act(self, observation, state, *, keys):
        raise ZeroDivisionError("no")


def test_it_is_found_by_name_and_shares_episodes(policies):
    asked = []

    class Asked(Subjects):
        def episodes(self, policy, simulator, seeds):
            asked.append((policy, simulator, len(seeds)))
            return super().episodes(policy, simulator, seeds)

        @property
        def task(self):
            return HOPPER

    found = RECORDER(Asked(None, {}, {"oracle": "oracle"}, policies), episodes=2)
    assert found.measure == "failures"
    assert asked == [(p, s, 2) for s in (None, "oracle") for p in policies]


def test_what_makes_no_sense_is_refused(policies):
    for arguments, options, message in (
        (({}, {"oracle": "oracle"}), {}, "needs policies"),
        ((policies, {}), {}, "needs policies"),
        ((policies, {"oracle": "oracle"}), {"episodes": 0}, "needs policies"),
        ((policies, {"oracle": "oracle"}), {"mode": "dreams"}, "mode must be"),
        (({"f": Faulty()}, {"oracle": "oracle"}), {"episodes": 1}, "no episode in the true simulator is valid: Zero"),
    ):
        with pytest.raises(DatasetError, match=message):
            record_failures(HOPPER, *arguments, **options)
