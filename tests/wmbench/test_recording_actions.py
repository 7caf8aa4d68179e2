"""Actions read off imagined transitions and paths: what is asked of models, simulators and the inverse model."""

import numpy as np
import pytest
import torch

import wmbench
from wmbench import checkpoints, registry
from wmbench.cards import ModelCard
from wmbench.errors import DatasetError, WmbenchError
from wmbench.protocols import Prediction
from wmbench.recording import Recording
from wmbench.recording.branching import branch_true
from wmbench.recording.executability import Plan, closed_loop, record_executability
from wmbench.recording.recorder import Subjects
from wmbench.recording.recoverability import Inverse, record_recoverability, recover, reference_inverse

CARTPOLE, HOPPER = "wmbench/DMC-CartpoleSwingup-v0", "wmbench/Gym-Hopper-v0"


def collect(folder, task, episodes):
    return wmbench.collect(task, folder, episodes=episodes, split=(0.5, 0.1, 0.4))


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("cartpole") / "d", CARTPOLE, 6)


@pytest.fixture(scope="module")
def hopper(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("hopper") / "d", HOPPER, 30)


class Changed:
    """The oracle under other actions, or with what it predicts changed."""

    def __init__(self, task, *, action=lambda a: a, observation=lambda o: o):
        cls = registry.world_models.load("oracle")
        self.inner = cls(cls.Config(live=3), wmbench.task_card(task))
        self.card, self.action, self.observation = self.inner.card, action, observation

    def initial(self, start, *, keys):
        return self.inner.initial(start, keys=keys)

    def step(self, state, action, *, uncertainty=False):
        state, answer = self.inner.step(state, self.action(action))
        return state, Prediction(observation=self.observation(answer.observation))


class Still:
    """Nothing ever moves."""

    def __init__(self, task, value=None):
        self.card = ModelCard("still", (task,), frozenset({"observation"}), "o", "none", "tests", "all")
        self.value = value

    def initial(self, start, *, keys):
        return start.observation if self.value is None else torch.full_like(start.observation, self.value)

    def step(self, state, action, *, uncertainty=False):
        return state, Prediction(observation=state)


def numbers(recording):
    return {(r.subject, r.name): r for r in recording.results()}


@pytest.mark.parametrize("name", ["cartpole", "hopper"])
def test_trivial_optima_of_recoverability(name, request, tmp_path):
    data = request.getfixturevalue(name)
    task = data.task.id
    models = {
        "oracle": Changed(task),
        "mirror": Changed(task, action=lambda a: -a),
        "blind": Changed(task, action=lambda a: 0 * a),
        "still": Still(task),
        "nan": Still(task, float("nan")),
        "huge": Still(task, 3e38),
    }
    recording = record_recoverability(models, data, starts=60)
    found = numbers(recording)
    for suffix in ("", ":recorded"):
        assert found["oracle", f"recoverability{suffix}"].value == 1.0 == found["oracle", f"fooled{suffix}"].value
        assert found["oracle", f"r2-true{suffix}"].value > 0.7
        assert found["mirror", f"recoverability{suffix}"].value < -1
        for subject in ("blind", "still", "copy-last", "nan", "huge"):
            assert found[subject, f"recoverability{suffix}"].value < 0.2
        assert found["still", f"r2-model{suffix}"].value == found["copy-last", f"r2-model{suffix}"].value
        assert found["nan", f"recoverability{suffix}"].n_invalid == 60
        assert found["nan", f"r2-model{suffix}"].value < -1 and found["nan", f"fooled{suffix}"].value > 5
    assert recording.meta["inverse_model"] == "shipped" and len(recording.meta["inverse_digest"]) == 64
    again = Recording.load(recording.save(tmp_path / "r"))
    assert again.results() == recording.results() and again.digest() == recording.digest()


def test_actions_from_elsewhere_lead_where_the_true_simulator_says(cartpole):
    arrays = record_recoverability({}, cartpole, starts=25, with_baselines=True).arrays
    assert arrays["branch"].tolist() == ["elsewhere", "recorded"] and arrays["valid"].all()
    assert sorted(arrays["action"][:, 0].tolist()) == sorted(arrays["action"][:, 1].tolist())
    assert (arrays["action"][:, 0] != arrays["action"][:, 1]).all()
    for i in (0, 7, 24):
        episode = cartpole.episode(int(arrays["episode"][i]))
        step = int(arrays["step"][i])
        true = branch_true(cartpole.task, episode.state[step][None], arrays["action"][i][None, :, None])
        assert np.array_equal(true.observation[0, :, 0], arrays["truth"][i])
        assert np.array_equal(arrays["truth"][i, 1], episode.observation[step + 1])
    assert arrays["subject"].tolist() == ["copy-last", "mean-delta", "linear"]
    sizes = {name: array.size for name, array in arrays.items()}
    assert max(sizes.values()) == sizes["recovered"], "no copy of the data, or of what every model made of it"


class Zero:
    """An inverse model that always says zero."""

    def __init__(self, task):
        self.task = wmbench.task_card(task)

    def recover(self, observation, following):
        return np.zeros((2, len(observation), len(self.task.action)), np.float32)


class Stateless:
    """An episode without simulator states."""

    state = None

    def __init__(self, episode):
        self.episode = episode

    def __len__(self):
        return len(self.episode)

    def __getattr__(self, name):
        return getattr(self.episode, name)


def test_without_states_only_recorded_actions_and_no_replay(cartpole, monkeypatch):
    real = cartpole.episode
    monkeypatch.setattr(cartpole, "episode", lambda i: Stateless(real(i)))
    found = numbers(record_recoverability({"still": Still(CARTPOLE)}, cartpole, starts=40))
    assert found["still", "recoverability"].value is None
    assert found["still", "recoverability:recorded"].value < 0.2
    with pytest.raises(DatasetError, match="simulator states"):
        record_executability({}, cartpole, starts=5)


def test_which_inverse_model_judges(cartpole, tmp_path, monkeypatch):
    shipped = reference_inverse(cartpole)
    assert shipped.source == "shipped" and shipped.digest == checkpoints.digest(shipped.model)
    assert reference_inverse(cartpole, shipped) is shipped
    given = reference_inverse(cartpole, Zero(CARTPOLE))
    assert given.source == "given" and given.digest == ""
    assert reference_inverse(cartpole, shipped.model).digest == shipped.digest
    for wrong in (Zero(HOPPER), Inverse(Zero(HOPPER), "given", "")):
        with pytest.raises(DatasetError, match="Gym-Hopper"):
            reference_inverse(cartpole, wrong)
    cls = registry.inverse_models.load("inverse")
    monkeypatch.setattr(cls, "PRESETS", {"quick": cls.Config(updates=60)})
    other = collect(tmp_path / "d", "DMC-PointMassEasy", 2)
    fitted = reference_inverse(other, seed=3)
    assert fitted.source == "fitted" and fitted.digest == reference_inverse(other, seed=3).digest
    assert fitted.meta() == {"inverse_model": "fitted", "inverse_digest": fitted.digest}
    assert reference_inverse(other, seed=4).digest != fitted.digest


def test_pairs_that_are_not_finite_are_marked_and_kept_from_the_inverse_model():
    class Strict(Zero):
        def recover(self, observation, following):
            assert np.isfinite(observation).all() and np.isfinite(following).all()
            return super().recover(observation, following) + 0.5

    now = np.zeros((4, 3, 5), np.float64)
    then = now.copy()
    then[1, 2, 0], now[3, 0, 4] = np.nan, np.inf
    found = recover(Strict(CARTPOLE), now, then)
    assert found.shape == (2, 4, 3, 1) and found.dtype == np.float32
    assert np.argwhere(np.isnan(found[0, :, :, 0])).tolist() == [[1, 2], [3, 0]]
    assert (found[np.isfinite(found)] == 0.5).all()


@pytest.mark.parametrize("name", ["cartpole", "hopper"])
def test_trivial_optima_of_executability(name, request, tmp_path):
    data = request.getfixturevalue(name)
    task = data.task.id
    late = {"n": 0}

    def breaks(observation):
        late["n"] += 1
        return observation if late["n"] < 4 else observation * torch.nan

    models = {
        "oracle": Changed(task),
        "mirror": Changed(task, action=lambda a: -a),
        "still": Still(task),
        "nan": Changed(task, observation=breaks),
    }
    policies = {"random": checkpoints.resolve("random", data.task, kind="policy")}
    recording = record_executability(models, data, policies=policies, starts=24, steps=8)
    found = numbers(recording)
    for subject in ("oracle", "oracle | random"):
        assert found[subject, "path-error-ratio"].value == 1.0
        assert found[subject, "cascade-gap"].value == found[subject, "cascade-gap-true"].value < 0.5
        assert found[subject, "executable"].value == found[subject, "executable-true"].value
        assert found[subject, "skill"].value == 1.0
    assert [found[s, "skill"].value for s in ("still", "copy-last")] == [0.0, 0.0]
    assert found["nan", "skill"].value < -1
    assert found["oracle", "path-error-true"].value < 0.2 and found["oracle", "executable-true"].value > 0.8
    # A path of other actions than those that were said can be executed all the same; the gap shows it.
    assert found["mirror", "cascade-gap"].value > 2 * found["mirror", "cascade-gap-true"].value
    assert found["mirror", "path-error"].value < 0.5
    assert found["still", "path-error"].value > found["oracle", "path-error"].value
    assert found["still", "cascade-gap"].value == found["copy-last", "cascade-gap"].value
    assert found["nan", "executable"].value < 0.2 and found["nan", "executable"].n_invalid > 15
    arrays = recording.arrays
    assert arrays["subject"].tolist()[:3] == ["oracle", "oracle | random", "mirror"]
    assert set(arrays["role"]) == {"model", "closed-loop", "baseline"}
    oracle = arrays["imagined"][0][arrays["valid"][0]]
    assert np.array_equal(oracle, arrays["truth"][0][arrays["valid"][0]])
    again = Recording.load(recording.save(tmp_path / "r"))
    assert again.results() == recording.results()


def test_paths_end_where_the_true_episode_does(hopper):
    arrays = record_executability({}, hopper, starts=12, steps=60, inverse=Zero(HOPPER)).arrays
    lengths = np.array([len(hopper.episode(int(e))) for e in arrays["episode"]]) - arrays["step"]
    assert arrays["valid"][0].sum(1).tolist() == np.minimum(lengths, 60).tolist()
    assert (lengths < 60).any()
    assert not (arrays["replay_valid"] & ~arrays["valid"]).any()


def test_a_cascade_whose_stages_disagree_shows(cartpole):
    """The first stage imagines one sequence of actions, the second says it, or says the same a step late."""

    def cascade(lag):
        def plan(observation, states, steps):
            rng = np.random.default_rng(0)
            action = rng.uniform(-1, 1, (len(states), steps, 1)).astype(np.float32)
            seen = branch_true(cartpole.task, states, action[:, None]).observation[:, 0]
            return Plan(seen, np.roll(action, lag, axis=1))

        return plan

    planners = {"agrees": cascade(0), "lags": cascade(1)}
    found = numbers(record_executability({}, cartpole, planners=planners, starts=30, with_baselines=False))
    assert all(found[s, "executable"].details["role"] == "planner" for s in planners)
    assert found["agrees", "cascade-gap"].value == found["agrees", "cascade-gap-true"].value < 0.3
    assert found["lags", "cascade-gap"].ci_low > found["lags", "cascade-gap-true"].ci_high
    assert found["agrees", "executable"].value == found["lags", "executable"].value > 0.9


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (Plan(np.zeros((5, 3, 4)), np.zeros((5, 3, 1), np.float32)), "observation must be"),
        (Plan(np.zeros((5, 3, 5)), np.zeros((5, 2, 1), np.float32)), "action must be"),
        (Plan(np.zeros((5, 3, 5)), np.full((5, 3, 1), np.nan, np.float32)), "not finite"),
    ],
)
def test_plans_that_fit_nothing_are_refused(cartpole, plan, why):
    with pytest.raises(WmbenchError, match=f"'odd'.*{why}"):
        record_executability({}, cartpole, planners={"odd": lambda *_: plan}, starts=5, steps=3)


def test_models_of_other_tasks_are_refused(cartpole):
    for record in (record_recoverability, record_executability):
        with pytest.raises(DatasetError, match="was made for"):
            record({"still": Still(HOPPER)}, cartpole, starts=5)


def test_a_closed_loop_goes_on_beside_rows_that_are_lost():
    class Follow:
        """Acts by the first number it sees, and remembers how often it was asked."""

        def initial(self, n):
            return np.zeros(n)

        def act(self, observation, state, *, keys):
            assert np.isfinite(observation).all() and len(set(keys)) == len(keys)
            return np.clip(observation[:, :1], -1, 1), state + 1

    class Walk(Still):
        def step(self, state, action, *, uncertainty=False):
            after = state + action
            return after, Prediction(observation=torch.where(after > 3, torch.nan, after))

    first = np.array([[0.5], [1.0]], np.float32)
    found = closed_loop(Walk(CARTPOLE), Follow(), first, np.zeros((2, 3)), 4, 0)
    assert found.observation[0, :, 0].tolist() == [1.0, 2.0, 3.0, pytest.approx(np.nan, nan_ok=True)]
    assert found.action[0, :, 0].tolist() == [0.5, 1.0, 1.0, 1.0]
    assert found.observation[1, :2, 0].tolist() == [2.0, 3.0] and np.isnan(found.observation[1, 2:]).all()
    assert found.action[1, :, 0].tolist() == [1.0, 1.0, 1.0, 0.0]


def test_recorders(cartpole):
    policies = {"random": checkpoints.resolve("random", cartpole.task, kind="policy")}
    subjects = Subjects(cartpole, {"still": Still(CARTPOLE)}, {}, policies, "random", seed=5)
    for name, sizes in (("recoverability", {}), ("executability", {"steps": 3})):
        recording = registry.recorders.load(name)(subjects, starts=6, **sizes)
        assert recording.measure == name and recording.meta["seed"] == 5 and recording.results()
    assert "still | random" in recording.arrays["subject"]
    nobody = Subjects(cartpole, {"still": Still(CARTPOLE)}, {}, seed=5)
    assert "still | random" not in registry.recorders.load("executability")(nobody, starts=6).arrays["subject"]
