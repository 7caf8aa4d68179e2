"""Judges, the shared planner, and the recordings of exploitation, ranking and filtering that use them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import wmbench
from wmbench.cards import ModelCard
from wmbench.collecting import collect
from wmbench.errors import DatasetError
from wmbench.evaluating import make_policy
from wmbench.keys import fold_in, keys_from_seeds, normal
from wmbench.measures.filtering import badly
from wmbench.protocols import Prediction
from wmbench.recording import Recording
from wmbench.recording.candidates import cut_states, perturbed, policy_actions, uniform_actions
from wmbench.recording.exploitation import NoisyJudge, record_exploitation
from wmbench.recording.filter_loop import ARMS, Screen, run_arms
from wmbench.recording.filtering import danger, record_filter, threshold
from wmbench.recording.judging import ModelJudge, TrueJudge, imagined_returns
from wmbench.recording.planning import Budget, Drive, drive, plan_and_drive, search, solved
from wmbench.recording.ranking import record_ranking
from wmbench.recording.recorder import Subjects
from wmbench.registry import recorders, world_models
from wmbench.statistics.selection import ErrorModel

HOPPER, CARTPOLE = "wmbench/Gym-Hopper-v0", "wmbench/DMC-CartpoleSwingup-v0"
SMALL = Budget(samples=8, iterations=2, elites=3, lookahead=5)


@pytest.fixture(scope="module")
def hopper(tmp_path_factory):
    """Episodes of random actions, which end after some twenty steps."""
    return collect(HOPPER, tmp_path_factory.mktemp("hopper") / "d", episodes=12, split=(0.4, 0.2, 0.4))


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    return collect(CARTPOLE, tmp_path_factory.mktemp("cartpole") / "d", episodes=3, split=(0.34, 0.33, 0.33))


def oracle(task):
    cls = world_models.load("oracle")
    return cls(cls.Config(live=3), wmbench.task_card(task))


class Toy:
    """Copies the observation; reward, ending and doubt are functions of the action."""

    def __init__(self, task, reward=None, ends=None, *, noise=0.0, fault=1.0):
        heads = {"observation", *(("reward",) if reward else ()), *(("terminated",) if ends else ())}
        doubt = ("u",) if reward else ()
        self.card = ModelCard("toy", (task,), frozenset(heads), "o", "none", "tests", "all", uncertainty=doubt)
        self.reward, self.ends, self.noise, self.fault = reward, ends, noise, fault

    def initial(self, start, *, keys):
        return {"o": start.observation, "keys": keys}

    def step(self, state, action, *, uncertainty=False):
        keys = fold_in(state["keys"], 1)
        draw = self.noise * normal(keys, 1)[:, 0].double()
        answer = Prediction(observation=state["o"] * self.fault)
        if self.reward:
            answer.reward = self.reward(action.double()) + draw
        if self.ends:
            answer.terminated = self.ends(action)
        if uncertainty:
            answer.uncertainty = {"u": action.abs().sum(1)}
        return {"o": answer.observation, "keys": keys}, answer


def starts(dataset, n=3, steps=5):
    cut = cut_states(dataset, "test", n, steps, 0)
    return cut.truth[:, 0], cut.state


CARD = SimpleNamespace(reward_range=(-1.0, 2.0), terminates=True)
TWIN = SimpleNamespace(reward_range=(None, None), terminates=False)


def heads(reward, ends=None, seen=None):
    shape = np.shape(reward)
    found = {"reward": np.array(reward, float), "observation": np.zeros((*shape, 2)) if seen is None else seen}
    return found if ends is None else {**found, "terminated": np.array(ends, float)}


def test_imagined_returns_known_answers():
    reward = [[[1.0, 3.0, -5.0, 1.0]]]
    assert imagined_returns(CARD, heads(reward)).tolist() == [[[1.0, 3.0, 2.0, 3.0]]]  # rewards inside [-1, 2]
    unbounded = SimpleNamespace(reward_range=(None, None))
    assert imagined_returns(unbounded, heads(reward))[0, 0].tolist() == [1.0, 4.0, -1.0, 0.0]
    ended = imagined_returns(CARD, heads(reward, [[[0.49, 0.5, 0.0, 0.0]]]))
    assert ended[0, 0].tolist() == [1.0, 3.0, 3.0, 3.0]
    after = imagined_returns(CARD, heads([[[1.0, 1.0, np.nan, np.inf]]], [[[0.0, 1.0, np.nan, 0.0]]]))
    assert after[0, 0].tolist() == [1.0, 2.0, 2.0, 2.0]  # what comes after the end does not matter


@pytest.mark.parametrize("part", ["reward", "terminated", "observation"])
def test_what_is_not_finite_loses_the_rest(part):
    answers = heads([[[1.0, 1.0, 1.0]]], [[[0.0, 0.0, 0.0]]])
    answers[part][0, 0, 1] = np.nan
    assert np.isnan(imagined_returns(CARD, answers)[0, 0]).tolist() == [False, True, True]
    assert np.isnan(danger(CARD, answers)[0, 0]) == (part != "reward")


def test_danger_known_answers():
    ends = [[[0.1, 0.2, 0.0], [0.0, 0.0, 0.0], [0.1, 0.9, 0.3], [1.5, 0.0, 0.0]]]
    found = danger(CARD, heads(np.zeros((1, 4, 3)), ends))[0]
    assert found == pytest.approx([1 - 0.9 * 0.8, 0.0, 1 - 0.9 * 0.1, 1.0], rel=1e-12)
    endless = SimpleNamespace(reward_range=(None, None), terminates=False)
    assert danger(endless, heads([[[1.0, 2.0]]])).tolist() == [[-3.0]]


def test_an_end_on_success_is_no_danger():
    ends = [[[0.1, 0.2, 0.0], [0.1, 0.2, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]
    answers = heads(np.zeros((1, 4, 3)), ends)
    answers["success"] = np.array([[[1.0, 0.5, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 1.0, 1.0]]])
    assert danger(CARD, answers)[0] == pytest.approx([0.2 * 0.5, 1 - 0.9 * 0.8, 0.0, 1.0], rel=1e-12)
    answers["success"][0, :, 1] = np.nan  # the last one has ended before
    assert np.isnan(danger(CARD, answers)[0]).tolist() == [True, True, True, False]


def test_the_true_judge_equals_its_model(hopper):
    first, state = starts(hopper)
    action = uniform_actions(hopper.task, (3, 4, 12), 0)
    with TrueJudge(hopper.task) as truth:
        true = truth(first, state, action)
    assert np.array_equal(true, ModelJudge(oracle(HOPPER), hopper.task)(first, state, action))


def test_a_model_that_draws_is_averaged_and_one_that_does_not_is_asked_once(hopper):
    first, state = starts(hopper)
    action = uniform_actions(hopper.task, (3, 4, 5), 0)
    rows = []

    class Counting(Toy):
        def initial(self, start, *, keys):
            rows.append(len(keys))
            return super().initial(start, keys=keys)

    plain = ModelJudge(Counting(HOPPER, lambda a: a.sum(1)), hopper.task, draws=16)
    expected = np.cumsum(action.astype(float).sum(-1), -1)
    assert plain(first, state, action) == pytest.approx(expected, abs=1e-5)
    assert rows == [3, 6, 12]
    drawing = ModelJudge(Counting(HOPPER, lambda a: a.sum(1), noise=1.0), hopper.task, draws=400)
    found = drawing(first, state, action)
    assert rows[3:] == [3, 6, 4800]
    error = found[..., -1] - expected[..., -1]
    assert error.std(1) == pytest.approx(0.0, abs=1e-5)  # candidates of a start share their random numbers
    assert 0 < np.abs(error).max() < 5 * np.sqrt(5 / 400)
    assert np.isnan(ModelJudge(Toy(HOPPER), hopper.task)(first, state, action)).all()


def target_judge(goal, calls=None):
    """Returns that are largest for one action at every step."""

    def judge(observation, state, action):
        if calls is not None:
            calls.append(action)
        return -np.cumsum(((action - goal) ** 2).sum(-1), -1)

    return judge


def test_search_finds_the_best_and_shows_every_judge_the_same(hopper):
    task, keys = hopper.task, keys_from_seeds(np.arange(2))
    first, state = starts(hopper, 2)
    budget = Budget(samples=64, iterations=6, elites=8, lookahead=3)
    ours, theirs = [], []
    found = search(target_judge(0.4, ours), task, first, state, budget, keys)
    search(target_judge(-0.9, theirs), task, first, state, budget, keys)
    assert np.array_equal(ours[0], theirs[0])
    assert not np.array_equal(ours[1], theirs[1])
    assert (ours[0][:, 0] == 0).all()  # the middle of the box
    assert found.action[-1] == pytest.approx(0.4, abs=0.3)
    assert (np.diff(found.score, axis=0) >= 0).all()
    assert found.population.shape == (2, 64, 3, 3)
    values = target_judge(0.4)(first, state, found.population)[..., -1]
    assert (np.diff(values, axis=1) <= 0).all()
    assert np.array_equal(found.score[0], target_judge(0.4)(first, state, ours[0])[..., -1].max(1))
    alone = search(target_judge(0.4), task, first[1:], state[1:], budget, keys[1:])
    assert np.array_equal(alone.action[:, 0], found.action[:, 1])


def test_search_never_takes_what_is_not_finite(hopper):
    first, state = starts(hopper, 2)
    keys = keys_from_seeds(np.arange(2))

    def half(observation, state, action):
        value = action.sum((-1, -2), keepdims=True)[..., 0]
        return np.where(value > 0, np.nan, value)

    found = search(half, hopper.task, first, state, SMALL, keys)
    assert (found.action.sum((-1, -2)) <= 0).all()
    none = search(lambda o, s, a: np.full(a.shape[:3], np.nan), hopper.task, first, state, SMALL, keys)
    assert (none.action == 0).all()
    assert np.isneginf(none.score).all()


def test_plans_are_carried_out_as_they_were_judged(hopper):
    first, state = starts(hopper)
    with TrueJudge(hopper.task) as truth:
        keys = fold_in(fold_in(keys_from_seeds(np.arange(3)), 7), 0)
        plan = search(truth, hopper.task, first, state, SMALL, keys)
        driven = plan_and_drive(
            truth, hopper.task, truth.simulator, first, state, steps=5, replan=5, budget=SMALL, seed=7
        )
        assert driven.reward.sum(1) == pytest.approx(plan.score[-1], rel=1e-12)
        blind = plan_and_drive(
            lambda o, s, a: np.full(a.shape[:3], np.nan),
            hopper.task,
            truth.simulator,
            first,
            state,
            steps=3,
            replan=2,
            budget=SMALL,
        )
        assert blind.planless.all()
        assert not driven.planless.any()
        long = drive(truth.simulator, first, state, 60, lambda rows, o, s, t: np.ones((len(rows), 7, 3), np.float32))
        assert long.terminated.any(1).all()
        assert np.array_equal(long.valid.sum(1) - 1, long.terminated.argmax(1))
        assert (long.reward[~long.valid] == 0).all()


def test_success_of_a_stretch():
    nothing = np.zeros((2, 3), bool)
    driven = Drive(np.ones((2, 3)), np.array([[0, 1, 0], [0, 0, 0]], bool), nothing, ~nothing, nothing[:, 0])
    rule = SimpleNamespace(success=SimpleNamespace(kind="return"))
    assert solved(rule, driven, np.array([3.0, 3.1])).tolist() == [True, False]
    rule.success.kind = "reward"
    assert solved(rule, driven, np.zeros(2)).tolist() == [True, False]


def test_candidates(hopper):
    low, high = hopper.task.action_bounds()
    action = uniform_actions(hopper.task, (50, 4, 3), 0)
    assert ((action >= low) & (action <= high)).all()
    nominal = action[:, 0]
    near = perturbed(hopper.task, nominal, 6, 0.1, 0)
    assert np.array_equal(near[:, 0], nominal)
    assert 0.05 < np.abs(near[:, 1:] - nominal[:, None]).mean() < 0.1
    first, state = starts(hopper)
    policy = make_policy("random", hopper.task)
    with TrueJudge(hopper.task) as truth:
        taken = policy_actions(policy, truth.simulator, first, state, 60, 3)
        again = policy_actions(policy, truth.simulator, first[:1], state[:1], 60, 3)
        steps = truth.branch(state, taken[:, None]).valid[:, 0].sum(1)
    assert np.array_equal(taken[:1], again)
    for actions, length in zip(taken, steps, strict=True):
        assert (actions[length:] == actions[length - 1]).all()
        assert not (actions[1:length] == actions[0]).any()


def exploit(dataset, models, **options):
    sizes = {"starts": 4, "candidates": 16, "steps": 5, "drives": 3, "drive_steps": 4, "replan": 2}
    return record_exploitation(models, dataset, budget=SMALL, pressures=((4, 1), (6, 2)), **{**sizes, **options})


def found(recording):
    return {(r.subject, r.name): r for r in recording.results()}


def test_the_oracle_is_not_exploited(hopper):
    models = {
        "oracle": oracle(HOPPER),
        "fooled": Toy(HOPPER, lambda a: 5 * a.sum(1)),
        "lost": Toy(HOPPER, lambda a: a.sum(1), fault=np.inf),
        "mute": Toy(HOPPER),
    }
    recording = exploit(hopper, models)
    results = found(recording)
    for name in ("systematic", "gap", "curse", "ordinal", "over-optimisation", "cpg", "cpg-return", "cpg-return:4"):
        assert results["oracle", name].value == 0.0
    for name in ("systematic-iterated", "gap-iterated", "curse-iterated"):
        assert results["oracle", name].value == 0.0
    assert results["oracle", "true-gain"].value == 1.0 == results["oracle", "true-gain-iterated"].value
    assert results["fooled", "gap"].value > 1.0
    assert results["fooled", "gap-iterated"].value > results["fooled", "gap"].value * 0.5
    assert results["lost", "gap"].n_invalid == 4
    assert results["lost", "cpg"].n_invalid == 3
    assert results["mute", "cpg"].value is None
    assert recording.arrays["drive_success"].dtype == bool
    assert "recorded behaviour" in str(recording.arrays["success_rule"])
    again = exploit(hopper, {"oracle": oracle(HOPPER)})
    assert np.array_equal(again.arrays["cem_true"][0], recording.arrays["cem_true"][0])


def test_noise_stands_in_for_errors(hopper):
    first, state = starts(hopper, 3)
    action = uniform_actions(hopper.task, (3, 2000, 2), 0)
    errors = ErrorModel(*(np.array(x, float) for x in ([0, 1, 2], [1, 0, 0], [0, 0.5, 0], [0, 0, 2])))
    base = target_judge(0.0)
    noisy = NoisyJudge(base, errors, 0)
    one, two = noisy(first, state, action), noisy(first, state, action)
    true = base(first, state, action)
    assert one[0] == pytest.approx(true[0] + 1)
    assert one[1] == pytest.approx(true[1] + 0.5 * (true[1, :, -1:] - 1))
    error = (one - true)[2, :, -1]
    assert (error.mean(), error.std()) == (pytest.approx(0, abs=0.15), pytest.approx(2, rel=0.1))
    assert not np.array_equal(one[2], two[2])
    assert np.array_equal(NoisyJudge(base, errors, 0)(first, state, action), one)


def test_the_oracle_ranks_perfectly(cartpole):
    models = {"oracle": oracle(CARTPOLE), "flat": Toy(CARTPOLE, lambda a: 0 * a[:, 0]), "mute": Toy(CARTPOLE)}
    sizes = {"starts": 3, "candidates": 6, "steps": 5, "planner_starts": 2, "planner_steps": 3, "replans": (1, 3)}
    options = {"planner": Budget(8, 2, 3, 3), "budget": Budget(8, 2, 3, 5), **sizes}
    policy = make_policy("random", cartpole.task)
    recording = record_ranking(models, cartpole, policy=policy, **options)
    results = found(recording)
    for suffix in ("", ":uniform-1", ":policy-5", ":elite-3"):
        assert results["oracle", f"spearman{suffix}"].value == 1.0
        assert results["oracle", f"regret-1{suffix}"].value == 0.0
        assert results["oracle", f"hit-3{suffix}"].value == 1.0
        assert results["flat", f"spearman{suffix}"].value == 0.0
        assert results["flat", f"regret-1{suffix}"].value == pytest.approx(1.0)
    # a flat model leads to the middle of the box, which the oracle looks at, too
    assert results["oracle", "planner-return:3"].value >= results["flat", "planner-return:3"].value
    assert results["mute", "spearman"].value is None
    arrays = recording.arrays
    assert arrays["true"].shape == (3, 3, 3, 6, 5)
    assert np.array_equal(arrays["true"][0, :2], arrays["true"][1, :2])
    assert not np.array_equal(arrays["true"][0, 2], arrays["true"][1, 2])
    assert (arrays["imagined"][0] == arrays["true"][0]).all()
    plain = record_ranking({}, cartpole, **{**options, "planner_starts": 0})
    assert plain.arrays["source"].tolist() == ["uniform", "recorded", "elite"]
    again = record_ranking(models, cartpole, policy=policy, **options)
    assert again.digest() == recording.digest()
    assert record_ranking(models, cartpole, policy=policy, seed=1, **options).digest() != recording.digest()


def test_the_oracle_filters_perfectly(hopper):
    models = {
        "oracle": oracle(HOPPER),
        "blind": Toy(HOPPER, lambda a: a[:, 0], lambda a: 0 * a[:, 0]),
        "mute": Toy(HOPPER),
    }
    sizes = {"starts": 6, "candidates": 6, "steps": 12, "loop_starts": 2, "loop_steps": 8, "fallbacks": 4}
    recording = record_filter(models, hopper, policy=make_policy("random", hopper.task), draws=2, **sizes)
    results, arrays = found(recording), recording.arrays
    bad = arrays["failed"]
    assert 0 < bad.mean() < 1
    assert np.array_equal(arrays["score"][0] > 0.5, bad)
    assert results["oracle", "false-reject-1"].value == 0.0
    assert results["oracle", "coverage-at-risk-1"].value == pytest.approx(1 - bad.mean())
    assert results["blind", "augrc-skill"].value == pytest.approx(0.0, abs=1e-12)
    assert results["mute", "augrc"].value is None
    assert arrays["threshold"][0] == 0.0
    assert np.isneginf(arrays["threshold"][1:]).all()
    assert arrays["has_doubt"].tolist() == [False, True, False]
    assert np.isfinite(arrays["doubt"][1]).all()
    loop = {arm: arrays["loop_failed"][0, a].mean() for a, arm in enumerate(ARMS)}
    assert loop["filtered"] <= loop["unfiltered"]
    steps, rejected = arrays["loop_steps"], arrays["loop_interventions"]
    assert (rejected[:, 0] == 0).all()
    assert np.array_equal(rejected[:2, 3], steps[:2, 3])
    assert np.array_equal(rejected[1, 1], steps[1, 1])  # no threshold keeps its risk: everything is rejected
    assert np.array_equal(arrays["loop_return"][0, 0], arrays["loop_return"][1, 0])
    assert (arrays["loop_steps"][2] == 0).all()


def test_filtering_where_nothing_terminates(cartpole):
    sizes = {"starts": 3, "candidates": 5, "steps": 4, "loop_starts": 2, "loop_steps": 3, "fallbacks": 3}
    lost = Toy(CARTPOLE, lambda a: a[:, 0], fault=np.nan)
    models = {"oracle": oracle(CARTPOLE), "lost": lost}
    recording = record_filter(models, cartpole, policy=make_policy("random", cartpole.task), **sizes)
    arrays, results = recording.arrays, found(recording)
    assert arrays["score"][0] == pytest.approx(-arrays["true"], rel=1e-12)
    assert badly(arrays).sum() == 3
    assert results["oracle", "false-reject-1"].value == 0.0
    assert results["lost", "augrc"].n_invalid == 15
    assert np.isneginf(threshold(arrays, 1, 0.05))
    assert np.array_equal(arrays["loop_interventions"][1, 1], arrays["loop_steps"][1, 1])
    quiet = record_filter(models, cartpole, **sizes)
    assert quiet.arrays["loop_return"].shape == (2, 4, 0)
    assert quiet.meta["source"] == "recorded"


def test_the_threshold_is_set_on_episodes_that_are_not_scored(cartpole, tmp_path):
    sizes = {"starts": 4, "candidates": 4, "steps": 3, "loop_starts": 3, "loop_steps": 2, "fallbacks": 2, "draws": 1}
    options, models = {"policy": make_policy("random", cartpole.task), **sizes}, {"m": Toy(CARTPOLE, lambda a: a[:, 0])}
    none = wmbench.collect(CARTPOLE, tmp_path / "none", episodes=6, split=(0.5, 0.0, 0.5))
    one = wmbench.collect(CARTPOLE, tmp_path / "one", episodes=4, split=(0.5, 0.25, 0.25))
    for data, split, where in ((one, "test", "val"), (none, "test", "test")):
        arrays = record_filter(models, data, split=split, **options).arrays
        held, loop = (set(arrays[k].tolist()) for k in ("threshold_episode", "loop_episode"))
        assert held and loop and not held & loop
        assert str(arrays["threshold_split"]) == where
        assert held <= set(data.episodes(where).tolist())
        assert loop <= set(data.episodes(split).tolist())
    with pytest.raises(DatasetError, match="threshold needs episodes of its own"):
        record_filter(models, one, split="val", **options)
    assert record_filter(models, one, split="val", **{**options, "loop_starts": 0}).arrays["loop_episode"].size == 0


def test_the_same_from_files_and_what_is_refused(hopper, cartpole, tmp_path, monkeypatch):
    for recording in (
        exploit(hopper, {"m": Toy(HOPPER, lambda a: a.sum(1))}, drives=0),
        record_ranking(
            {"m": Toy(HOPPER, lambda a: a.sum(1))}, hopper, starts=2, candidates=3, steps=3, planner_starts=0
        ),
        record_filter({"m": Toy(HOPPER, None, lambda a: a[:, 0].abs())}, hopper, starts=3, steps=12),
    ):
        again = Recording.load(recording.save(tmp_path / f"{recording.measure}.safetensors"))
        assert [r.to_json() for r in again.results()] == [r.to_json() for r in recording.results()]
    with pytest.raises(ValueError, match="1 to 5 steps"):
        exploit(hopper, {}, replan=6)
    with pytest.raises(ValueError, match="1 to 10 steps"):
        record_ranking({}, hopper, replans=(11,))
    with pytest.raises(ValueError, match="search for elites"):
        record_ranking({}, hopper, budget=Budget(lookahead=3))
    for record in (exploit, lambda d, m: record_ranking(m, d), lambda d, m: record_filter(m, d)):
        with pytest.raises(DatasetError, match="Cartpole"):
            record(hopper, {"m": oracle(CARTPOLE)})
    import wmbench.recording.candidates as candidates

    cut = candidates.cut_windows
    monkeypatch.setattr(candidates, "cut_windows", lambda *a: SimpleNamespace(**{**vars(cut(*a)), "state": None}))
    with pytest.raises(DatasetError, match="simulator states"):
        exploit(hopper, {})


@pytest.mark.parametrize("draws", [1, 3])
def test_devices_and_draws_do_not_change_shapes(hopper, draws):
    first, state = starts(hopper)
    judge = ModelJudge(Toy(HOPPER, lambda a: a.sum(1), noise=1.0), hopper.task, draws=draws)
    assert judge(first, state, torch.zeros((3, 2, 4, 3)).numpy()).shape == (3, 2, 4)


def test_the_recorders_of_a_full_measurement(cartpole):
    policy = make_policy("random", cartpole.task)
    subjects = Subjects(cartpole, {"m": Toy(CARTPOLE, lambda a: a[:, 0])}, {}, {"p": policy}, "p")
    ranked = recorders.load("ranking")(subjects, starts=2, candidates=3, planner_starts=0)
    assert ranked.arrays["source"].tolist() == ["uniform", "policy", "elite"]
    filtered = recorders.load("filter")(subjects, starts=2, loop_starts=1, loop_steps=2)
    assert filtered.arrays["loop_steps"].sum() > 0
    alone = Subjects(cartpole, {}, {})
    assert recorders.load("filter")(alone, starts=2).meta["source"] == "recorded"
    assert not recorders.load("exploitation").full
    options = {"starts": 1, "candidates": 2, "steps": 2, "replan": 1, "drives": 0, "seed": 3}
    assert recorders.load("exploitation")(alone, **options).meta["seed"] == 3


class Plain:
    """A simulator that notes what is done to it, and never ends."""

    def __init__(self):
        self.taken = []

    def set_state(self, state):
        return state

    def get_state(self):
        return np.zeros(1)

    def step(self, action):
        self.taken.append(action)
        return np.zeros(11, np.float32), 0.0, False, False, {"success": False}


def test_danger_in_the_loop_is_averaged_as_offline(cartpole):
    """Of a model that draws: a quarter of the variance with four draws. Of one that does not: the same bits."""
    policy, n = make_policy("zero", cartpole.task), 600
    rng = np.random.default_rng(0)
    seen, states = np.zeros((n, 5), np.float32), np.zeros((n, 1))
    actions = rng.uniform(-1, 1, (n, 2, 1)).astype(np.float32)
    keys = keys_from_seeds(np.arange(n))

    def judged(noise, draws):
        model = Toy(CARTPOLE, lambda a: a[:, 0], noise=noise)
        screen = Screen(model, TWIN, policy, danger, 3, 0.0, 2, 0.1, 0, draws)
        return screen.judge(seen, states, actions, None, keys)

    plain = judged(0.0, 1)
    assert np.array_equal(plain, judged(0.0, 4))
    assert plain == pytest.approx(-actions[..., 0].astype(np.float64))
    one, four = (judged(0.1, draws) - plain for draws in (1, 4))
    assert one[:, 0] == pytest.approx(one[:, 1])  # a row's actions share their random numbers
    assert np.var(four) / np.var(one) == pytest.approx(0.25, abs=0.06)
    assert np.abs(four.mean()) < 0.02


@pytest.mark.parametrize("limit", [-np.inf, 0.35, np.inf])
def test_the_safest_variation_is_taken(hopper, limit):
    """Danger is the first action's first number; the policy always does the same."""

    class Steady:
        def initial(self, n):
            return None

        def act(self, observation, state, *, keys):
            return np.full((len(observation), 3), 0.4, np.float32), state

    model = Toy(HOPPER, None, lambda a: a[:, 0].clamp(0, 1))
    screen = Screen(model, hopper.task, Steady(), danger, 1, limit, 20, 0.2, 0)
    simulator = Plain()
    arms = run_arms(screen, simulator, np.zeros((2, 11), np.float32), np.zeros((2, 1)), 3)
    taken = dict(zip(ARMS, np.array(simulator.taken).reshape(4, 3, 2, 3).swapaxes(1, 2), strict=True))
    counts = {arm: int(rejected.sum()) for arm, (_, rejected) in zip(ARMS, arms, strict=True)}
    assert (taken["unfiltered"] == np.float32(0.4)).all()
    assert (taken["reject-all"][..., 0] < 0.2).all()  # the least of twenty draws around 0.4
    assert counts["unfiltered"] == 0
    assert counts["reject-all"] == 6
    if limit == np.inf:
        assert np.array_equal(taken["filtered"], taken["unfiltered"])
        assert counts["filtered"] == 0 == counts["random"]
    else:
        assert np.array_equal(taken["filtered"], taken["reject-all"])
        assert counts["filtered"] == 6 == counts["random"]
        assert 0.2 < taken["random"][..., 0].mean() < 0.6
