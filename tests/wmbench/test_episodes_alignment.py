"""The alignment check: finds actions moved by a step, and admits when it cannot know."""

import functools

import numpy as np
import pytest

from wmbench import task_card
from wmbench.episodes import Dataset, DatasetWriter, EpisodeData
from wmbench.episodes.alignment import check_alignment, compare_shifts
from wmbench.errors import DatasetError
from wmbench.rollout import rollout
from wmbench_baselines.simple import RandomConfig, RandomPolicy

EPISODES = {"DMC-CartpoleSwingup": 2, "Gym-HalfCheetah": 2, "Gym-Hopper": 40}


@functools.cache
def recorded(task, smoothness=0.0):
    card = task_card(task)
    policy = RandomPolicy(RandomConfig(smoothness), card)
    return [(e.observation, e.action) for e in rollout(card, policy, range(EPISODES[task]))]


def moved(episodes, steps):
    """The same episodes recorded wrongly: row t holds the action of row t - steps."""
    if steps > 0:
        return [(o[steps:], a[:-steps]) for o, a in episodes]
    return [(o[:steps], a[-steps:]) for o, a in episodes] if steps < 0 else episodes


@pytest.mark.parametrize(
    ("task", "smoothness"), [*((task, 0.0) for task in EPISODES), ("Gym-HalfCheetah", 0.8), ("Gym-Hopper", 0.8)]
)
@pytest.mark.parametrize("steps", [0, 1, -1])
def test_random_data(task, smoothness, steps):
    result = compare_shifts(moved(recorded(task, smoothness), steps), task_card(task), open_loop=True)
    assert result.best == steps, result
    assert result.verdict == ("shifted" if steps else "aligned"), result
    assert result.errors[steps] == min(result.errors.values()) < result.without_action


def test_the_first_and_last_shift_is_seen_too():
    for steps in (2, -2):
        result = compare_shifts(moved(recorded("Gym-HalfCheetah"), steps), task_card("Gym-HalfCheetah"), open_loop=True)
        assert (result.verdict, result.best) == ("shifted", steps)


def toy(policy, act, *, episodes=12, steps=60, seed=0):
    """Episodes of a noisy linear system with three observed numbers."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(episodes):
        o, observations, actions = rng.normal(size=3), [], []
        for _ in range(steps):
            a = policy(o, rng)
            observations.append(o)
            actions.append(a)
            o = 0.9 * o + act * np.array([a[0], a[1], a[0] - a[1]]) + 0.1 * rng.normal(size=3)
        found.append((np.array([*observations, o], dtype=np.float32), np.array(actions, dtype=np.float32)))
    return found


def uniform(o, rng):
    return rng.uniform(-1, 1, 2)


def feedback(o, rng):
    return -0.5 * o[:2] + 0.05 * rng.normal(size=2)


@pytest.mark.parametrize("seed", range(5))
def test_actions_without_effect(toy_card, seed):
    result = compare_shifts(toy(uniform, 0.0, seed=seed), toy_card, open_loop=True)
    assert result.verdict == "cannot tell" and "no action explains" in result.reason


def test_actions_with_effect(toy_card):
    for steps in (0, 1, -1):
        result = compare_shifts(moved(toy(uniform, 0.3), steps), toy_card, open_loop=False)
        assert (result.verdict, result.best) == ("shifted" if steps else "aligned", steps)


@pytest.mark.parametrize("steps", [0, 1, -1])
def test_feedback_is_not_mistaken_for_cause(toy_card, steps):
    """A later action gives its observation away; the check then says nothing rather than something wrong."""
    result = compare_shifts(moved(toy(feedback, 0.3), steps), toy_card, open_loop=False)
    right = ("shifted" if steps else "aligned", steps)
    assert result.verdict == "cannot tell" or (result.verdict, result.best) == right
    if steps == 0:
        assert result.best == 1 and "give" in result.reason  # it would have been fooled


def test_constant_actions(toy_card):
    result = compare_shifts(toy(lambda o, rng: np.zeros(2), 0.3), toy_card, open_loop=True)
    assert result.verdict == "cannot tell"


def test_one_long_episode_is_enough(toy_card):
    result = compare_shifts(toy(uniform, 0.3, episodes=1, steps=400), toy_card, open_loop=True)
    assert result.verdict == "aligned" and result.episodes == 1


def test_too_short(toy_card):
    with pytest.raises(DatasetError, match="at least 10 steps"):
        compare_shifts(toy(uniform, 0.3, steps=9), toy_card, open_loop=True)


def write(folder, card, sources):
    with DatasetWriter(folder, card) as writer:
        for source, episodes in sources.items():
            for observation, action in episodes:
                steps = len(action)
                flags = np.zeros(steps, dtype=bool)
                reward = np.zeros(steps)
                writer.add(EpisodeData(observation, action, reward, flags, flags, flags, seed=0, source=source))
    return Dataset(folder)


def test_a_dataset_is_judged_by_its_random_episodes(tmp_path, toy_card):
    mixed = {"bc": toy(feedback, 0.3), "random(smoothness=0.9)": toy(uniform, 0.3)}
    result = check_alignment(write(tmp_path / "mixed", toy_card, mixed))
    assert result.verdict == "aligned" and result.sources == ("random(smoothness=0.9)",)
    wrong = {"bc": toy(feedback, 0.3), "random": moved(toy(uniform, 0.3), 1)}
    result = check_alignment(write(tmp_path / "wrong", toy_card, wrong))
    assert result.verdict == "shifted" and result.best == 1 and "1 step(s) earlier" in result.reason
    result = check_alignment(write(tmp_path / "alone", toy_card, {"randomised-bc": toy(feedback, 0.3)}))
    assert result.verdict == "cannot tell" and result.sources == ("randomised-bc",)
