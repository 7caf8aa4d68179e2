"""Policies that make others worse: what they change, what they leave alone, and that pushes can be told afterwards."""

import numpy as np
import pytest

from wmbench import registry
from wmbench.collecting import collect
from wmbench.errors import CheckpointError
from wmbench.evaluating import evaluate, make_policy
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Policy
from wmbench.registration import task_card
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds
from wmbench.trees import gather
from wmbench_baselines.experts import EarlyStop, Expert, Pushed, WrongTarget
from wmbench_baselines.experts.arms import GYM_ARM
from wmbench_baselines.experts.worse import EarlyStopConfig, PushedConfig
from wmbench_baselines.simple import RandomConfig, RandomPolicy

CARD = task_card("Gym-Reacher")
SEEDS = episode_seeds(3, CARD.id, "eval", 6)


def episodes(policy, n=3):
    return rollout(CARD, policy, SEEDS, num_envs=n)


def expert():
    return Expert.for_task(CARD)


def random(task=CARD):
    return RandomPolicy(RandomConfig(smoothness=0.8), task)  # a policy with memory, and with chance


@pytest.mark.parametrize("name", ["early-stop", "wrong-target", "pushed"])
def test_they_are_registered_and_named_by_reference(name):
    policy = make_policy(name, CARD)
    assert isinstance(policy, Policy) and type(policy) is registry.policies.load(name)
    assert policy.card["name"] == name


def test_early_stop_acts_like_the_policy_and_then_not_at_all():
    plain = episodes(expert())
    for stopped, whole in zip(episodes(EarlyStop(EarlyStopConfig(step=7), CARD)), plain, strict=True):
        assert np.array_equal(stopped.action[:7], whole.action[:7])
        assert np.array_equal(stopped.observation[:8], whole.observation[:8])
        assert not stopped.action[7:].any() and whole.action[7:].any()
    for stopped, whole in zip(episodes(EarlyStop(EarlyStopConfig(step=CARD.horizon), CARD)), plain, strict=True):
        assert np.array_equal(stopped.action, whole.action)
    assert EarlyStop.for_task(CARD).step == CARD.horizon // 2
    with pytest.raises(ValueError, match="step"):
        EarlyStopConfig(step=-1)


def test_early_stop_at_random_is_log_uniform_and_kept_for_the_episode():
    stopped = EarlyStop(EarlyStopConfig(step=40, random=True), CARD, RandomPolicy(RandomConfig(), CARD))
    keys = fold_in(keys_from_seeds(range(2000))[:, None], np.arange(50))
    state, acting = stopped.initial(2000), []
    for t in range(50):
        action, state = stopped.act(np.zeros((2000, 10), np.float32), state, keys=keys[:, t])
        acting.append(action.any(1))
    acting = np.stack(acting, 1)  # (B, T)
    steps = acting.sum(1)
    assert np.array_equal(acting, np.arange(50) < steps[:, None])
    assert steps.min() == 1 and steps.max() == 40
    for below in (2, 5, 20):
        assert (steps < below).mean() == pytest.approx(np.log(below) / np.log(41), abs=0.05)


def test_pushes_can_be_given_in_seconds():
    assert Pushed(PushedConfig(seconds=0.3), CARD).length == 15  # at 50 Hz
    assert Pushed(PushedConfig(seconds=1e-3), CARD).length == 1
    for seconds in (0.0, float("nan")):
        with pytest.raises(ValueError, match="seconds"):
            PushedConfig(seconds=seconds)


def test_early_stop_through_settings_lowers_the_return():
    settings = {"policy": "expert", "step": 2}
    stopped = evaluate(CARD, "early-stop", policy_config=settings, seeds=SEEDS)
    assert stopped.find("return").value < evaluate(CARD, "expert", seeds=SEEDS).find("return").value
    with pytest.raises(CheckpointError, match="step"):
        make_policy("early-stop", CARD, config={"step": "soon"})


def test_wrong_target_ends_at_the_mirror_image():
    right, wrong = [], []
    for reached, mistaken in zip(episodes(expert()), episodes(WrongTarget.for_task(CARD)), strict=True):
        right.append(np.linalg.norm(reached.observation[-1, 8:10]))
        cosine, cosine2, sine, sine2, x, y = mistaken.observation[-1, :6]
        tip = GYM_ARM.tip(np.arctan2(sine, cosine), np.arctan2(sine2, cosine2))
        wrong.append(np.hypot(tip[0] + x, tip[1] + y))
    assert np.median(right) < 0.02 and np.median(wrong) < 0.02
    with pytest.raises(CheckpointError, match=r"DMC-CartpoleSwingup.*no target.*DMC-ReacherEasy"):
        make_policy("wrong-target", task_card("DMC-CartpoleSwingup"))


def test_interventions_are_recomputed_from_stored_episodes(tmp_path):
    pushed = Pushed(PushedConfig(pushes=3, length=4, quiet=0.4), CARD)
    dataset = collect(CARD, tmp_path / "data", policy=pushed, episodes=8, seed=1)
    stored = [dataset.episode(i) for i in range(len(dataset))]
    flags = pushed.interventions([e.seed for e in stored], CARD.horizon)
    assert flags.shape == (8, CARD.horizon) and flags.any() and not flags.all()
    quiet = CARD.horizon - round(0.4 * CARD.horizon) + pushed.config.length - 1
    assert not flags[:, quiet:].any()
    policy = expert()
    for episode, pushes in zip(stored, flags, strict=True):
        meant = policy.act(episode.observation[:-1], None, keys=np.zeros(CARD.horizon, np.int64))[0]
        assert np.array_equal((episode.action != meant).any(1), pushes)  # float32 draws do not agree by chance
    assert all(e.source == "pushed(pushes=3,length=4,quiet=0.4)" for e in stored)


def test_a_push_holds_one_action_of_the_box_for_its_length():
    pushed = Pushed(PushedConfig(pushes=2, length=5, quiet=0.0), CARD, random())
    keys = fold_in(keys_from_seeds(range(200))[:, None], np.arange(50))
    state, actions = pushed.initial(200), []
    for t in range(50):
        action, state = pushed.act(np.zeros((200, 10), np.float32), state, keys=keys[:, t])
        actions.append(action)
    actions = np.stack(actions, 1)  # (B, T, A)
    low, high = CARD.action_bounds()
    assert (actions >= low).all() and (actions <= high).all()
    flags = pushed.interventions(range(200), 50)
    held = (actions[:, 1:] == actions[:, :-1]).all(-1)
    assert not (held & ~(flags[:, 1:] & flags[:, :-1])).any()  # only pushes hold
    starts = flags & ~np.pad(flags, ((0, 0), (1, 0)))[:, :-1]
    whole = starts[:, :46].nonzero()
    for row, t in zip(*whole, strict=True):
        assert flags[row, t : t + 5].all()
    began = (flags[:, 1:] & flags[:, :-1] & ~held).sum() + starts.sum()  # a push within a push changes the action
    assert began / 200 == pytest.approx(2, abs=5 * np.sqrt(2 / 200))


def test_no_pushes_is_the_policy_itself_and_certain_pushes_leave_nothing_of_it():
    for pushed, whole in zip(episodes(Pushed(PushedConfig(pushes=0), CARD)), episodes(expert()), strict=True):
        assert np.array_equal(pushed.action, whole.action)
    always = Pushed(PushedConfig(pushes=1e9, quiet=0.0), CARD)
    assert always.interventions(SEEDS, 50).all()


@pytest.mark.parametrize("settings", [{"pushes": -1}, {"length": 0}, {"quiet": 1.0}, {"pushes": float("nan")}])
def test_impossible_pushes_are_refused(settings):
    with pytest.raises(ValueError, match="pushes"):
        PushedConfig(**settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStop(EarlyStopConfig(step=2), CARD, random()),
        lambda: Pushed(PushedConfig(pushes=20, length=2), CARD, random()),
        lambda: WrongTarget.for_task(CARD),
    ],
)
def test_a_row_does_not_depend_on_the_batch(make):
    keys = keys_from_seeds(range(40))
    x = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)

    def roll(rows):
        policy = make()
        state, actions = policy.initial(len(rows)), []
        for t in range(5):
            action, state = policy.act(x[rows], state, keys=fold_in(keys[rows], t))
            actions.append(action)
            state = gather(state, np.arange(len(rows)))
        return np.stack(actions)

    whole = roll(np.arange(40))
    for rows in (*(np.arange(n) for n in range(1, 20)), np.array([30, 3, 3, 17])):
        assert np.array_equal(roll(rows), whole[:, rows])


def test_the_wrapped_policys_name_is_kept():
    assert EarlyStop(EarlyStopConfig(), CARD, random()).card["name"] == "random+early-stop"
