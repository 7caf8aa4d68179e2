"""Play: what it does is one of its behaviours, chosen as often as it says, row by row."""

import numpy as np
import pytest

from wmbench.errors import CheckpointError
from wmbench.evaluating import make_policy
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.registration import task_card
from wmbench_baselines.experts import Expert
from wmbench_baselines.play import Play, PlayConfig

CARD = task_card("Gym-Reacher")


def roll(policy, rows, steps, observation=None):
    """Actions (B, T, A) and behaviours (B, T) of rows."""
    keys = keys_from_seeds(rows)
    state, actions, behaviours = policy.initial(len(rows)), [], []
    x = np.zeros((len(rows), 10), np.float32) if observation is None else observation[rows]
    for t in range(steps):
        action, state = policy.act(x, state, keys=fold_in(keys, t))
        actions.append(action)
        behaviours.append(state["behaviour"])
    return np.stack(actions, 1), np.stack(behaviours, 1)


def test_behaviours_are_equally_likely_last_as_long_as_asked_and_stay_in_the_box():
    policy = Play(PlayConfig(policies=("expert",), seconds=0.2), CARD)
    x = np.random.default_rng(0).normal(size=(400, 10)).astype(np.float32)
    actions, behaviours = roll(policy, np.arange(400), 100, x)
    low, high = CARD.action_bounds()
    assert (actions >= low).all() and (actions <= high).all() and actions.dtype == np.float32
    shares = np.bincount(behaviours.ravel(), minlength=4) / behaviours.size
    np.testing.assert_allclose(shares, 0.25, atol=0.03)
    changes = (behaviours[:, 1:] != behaviours[:, :-1]).mean()
    assert changes == pytest.approx(CARD.dt / 0.2 * 3 / 4, rel=0.1)  # a switch chooses the same one in a quarter
    assert not actions[behaviours == 1].any()  # resting
    same = (behaviours[:, 1:] == 0) & (behaviours[:, :-1] == 0)
    held = (actions[:, 1:] == actions[:, :-1]).all(-1)
    assert held[same].mean() > 0.95  # switching from holding to holding draws a new action
    moving = (behaviours[:, 1:] == 2) & (behaviours[:, :-1] == 2)
    assert not held[moving].any()
    meant = Expert.for_task(CARD).act(x, None, keys=np.zeros(400, np.int64))[0]
    expert = np.broadcast_to(meant[:, None], actions.shape)[behaviours == 3]
    assert np.array_equal(actions[behaviours == 3], expert)


def test_a_row_does_not_depend_on_the_batch():
    x = np.random.default_rng(1).normal(size=(30, 10)).astype(np.float32)
    policy = Play(PlayConfig(policies=("expert",)), CARD)
    whole, _ = roll(policy, np.arange(30), 8, x)
    for rows in (np.arange(1), np.array([7]), np.array([29, 3, 3])):
        assert np.array_equal(roll(policy, rows, 8, x)[0], whole[rows])


def test_settings():
    assert make_policy("play", CARD).config == PlayConfig()
    assert make_policy("play", CARD, config={"policies": ["expert"]}).config.policies == ("expert",)
    with pytest.raises(CheckpointError, match="no expert"):
        Play(PlayConfig(policies=("expert",)), task_card("Gym-Pusher"))
    for seconds in (0.0, float("nan")):
        with pytest.raises(ValueError, match="positive"):
            PlayConfig(seconds=seconds)
