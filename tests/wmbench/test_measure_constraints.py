"""Constraint violations: shares counted by hand, laws broken one at a time, and real states that break none."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import wmbench
from wmbench import registry
from wmbench.cards import ModelCard
from wmbench.measures.constraints import LAWS, MEASURE, SLACK
from wmbench.protocols import Prediction
from wmbench.recording import Recording
from wmbench.recording.constraints import RECORDER, record_constraints
from wmbench.recording.recorder import Subjects
from wmbench.registration import task_cards

W, H, N = 8, 10, 50


def arrays(**more):
    """A point on a line that moves at 1 m/s, at 10 Hz, and one subject that does the same."""
    time = np.arange(H + 1) / 10
    path = np.stack([np.tile(time, (W, 1)), np.ones((W, H + 1))], -1)  # (W, H + 1, 2)
    before = np.stack([np.linspace(0, 1, N), np.ones(N)], -1)
    data = {
        "subject": np.array(["m"]),
        "role": np.array(["model"]),
        "dimension": np.array(["x_position", "x_velocity"]),
        "kind": np.array(["linear", "linear"]),
        "unit": np.array(["m", "m/s"]),
        "start": path[:, 0],
        "valid": np.ones((W, H), bool),
        "prediction": path[None, :, 1:].copy(),
        "episode": np.arange(W) // 2,
        "has_pose": np.array(True),
        "posed": np.array(["penetration"]),
        "posed_value": np.zeros((1, W, H, 1)),
        "posed_start": np.zeros((W, 1)),
        "posed_before": np.zeros((N, 1)),
        "posed_after": np.full((N, 1), 0.01),
        "step_limit": np.array([0.1, np.nan]),
        "moving_position": np.array([0]),
        "moving_velocity": np.array([1]),
        "before": before,
        "after": before + np.array([0.101, 0.0]),  # real data have a residual of a millimetre
        "control_hz": np.array(10.0),
    }
    return data | more


def by_name(data, subject="m"):
    return {r.name: r for r in MEASURE(data) if r.subject == subject}


def test_possible_motion_breaks_nothing():
    found = by_name(arrays())
    for law in ("penetration", "teleport", "consistency"):
        assert found[f"violation:{law}"].value == 0.0
        assert found[f"violation:{law}"].ci_low == 0.0
        assert 0 < found[f"violation:{law}"].ci_high < 1
    assert found["violations"].value == 0.0
    assert found["violations"].details["laws"] == ["consistency", "penetration", "teleport"]
    assert found["violations"].details["states"] == W * H
    assert {n for n, r in found.items() if r.value is None} == {
        f"violation:{law}" for law in LAWS if law not in ("penetration", "teleport", "consistency")
    }


def test_a_share_is_what_was_put_in():
    data = arrays()
    data["posed_value"][0, :, 7:, 0] = 0.02  # the train split shows a centimetre
    data["posed_value"][0, :, 3, 0] = 0.0109  # within the slack
    found = by_name(data)
    assert found["violation:penetration"].value == pytest.approx(0.3)
    assert found["violation:penetration"].details["limit"] == pytest.approx(SLACK * 0.01)
    assert found["violation:penetration"].details["worst"] == 0.02
    assert found["violations"].value == pytest.approx(0.3)
    assert found["violations"].details["curve"] == [0.0] * 7 + [1.0] * 3


def test_breaches_below_the_tolerance_never_count():
    data = arrays(posed_after=np.zeros((N, 1)))
    data["posed_value"][0, :, :5, 0] = 0.0009
    data["posed_value"][0, :, 5, 0] = 0.0011
    assert by_name(data)["violation:penetration"].value == pytest.approx(0.1)


def test_a_jump_is_a_teleport_and_is_not_explained_by_the_velocity():
    data = arrays()
    data["prediction"][0, :4, 6:, 0] += 5.0  # one jump in half of the windows
    found = by_name(data)
    assert found["violation:teleport"].value == pytest.approx(4 / (W * H))
    assert found["violation:consistency"].value == pytest.approx(4 / (W * H))
    still = arrays()
    still["prediction"][0, :, :, 0] = 0.0  # stands still while it says that it moves
    found = by_name(still)
    assert found["violation:teleport"].value == 0.0
    assert found["violation:consistency"].value == 1.0
    first = arrays()
    first["prediction"][0, ..., 0] += 5.0  # away from the start at once
    assert by_name(first)["violation:teleport"].value == pytest.approx(1 / H)


def test_angles_do_not_jump_at_pi():
    data = arrays(kind=np.array(["angle", "linear"]), unit=np.array(["rad", "rad/s"]))
    data["prediction"][0, ..., 0] = (data["prediction"][0, ..., 0] + np.pi + 2.5) % (2 * np.pi) - np.pi
    data["start"] = data["start"] + [2.5, 0.0]
    found = by_name(data)
    assert found["violation:teleport"].value == found["violation:consistency"].value == 0.0


def test_energy_may_change_as_much_as_it_really_does():
    data = arrays(posed=np.array(["energy"]), posed_after=np.full((N, 1), 2.0))  # two joules in a step, at most
    data["posed_value"][0, ..., 0] = 2.0 * np.arange(1, H + 1)
    assert by_name(data)["violation:energy-jump"].value == 0.0
    data["posed_value"][0, :, 5:, 0] += 1.0
    found = by_name(data)
    assert found["violation:energy-jump"].value == pytest.approx(1 / H)
    assert found["violation:energy-jump"].details["limit"] == pytest.approx(2.2)
    assert "nothing in this task can touch" in found["violation:penetration"].reason


def test_quaternions_have_unit_norm():
    q = np.zeros((1, W, H, 4))
    q[..., 0] = 1.0
    q[0, :, 4] *= 1.2
    q[0, :, 5] *= -0.99
    more = {
        "dimension": np.array(list("wxyz")),
        "kind": np.array(["quaternion"] * 4),
        "unit": np.array(["1"] * 4),
        "prediction": q,
        "start": q[0, :, 0],
        "before": np.tile(q[0, 0, 0], (N, 1)),
        "after": np.tile(q[0, 0, 0], (N, 1)),
        "step_limit": np.array([0.1]),
        "moving_position": np.zeros(0, np.int64),
        "moving_velocity": np.zeros(0, np.int64),
    }
    found = by_name(arrays(**more))
    assert found["violation:quaternion"].value == pytest.approx(1 / H)
    assert found["violation:teleport"].value == 0.0  # q and -q are the same rotation
    assert "together with its velocity" in found["violation:consistency"].reason


def test_what_is_not_finite_breaks_every_law():
    data = arrays()
    data["prediction"][0, 0] = np.nan
    data["prediction"][0, 1, 5:] = np.inf
    data["posed_value"][0, 1, 5:] = np.inf
    found = by_name(data)
    expected = (H + H / 2) / (W * H)
    for name in ("violations", "violation:penetration", "violation:teleport", "violation:consistency"):
        assert found[name].value == pytest.approx(expected)
        assert found[name].n_invalid == 2
    assert found["violation:penetration"].details["worst"] is None


def test_steps_past_a_windows_end_count_nowhere():
    data = arrays()
    data["valid"][:, 6:] = False
    data["prediction"][0, :, 6:] = np.nan
    found = by_name(data)
    assert found["violations"].value == 0.0
    assert found["violations"].n_invalid == 0
    assert found["violations"].details["curve"][6:] == [None] * 4
    data["valid"][:] = False
    assert "no valid steps" in by_name(data)["violations"].reason


def test_without_a_pose_only_the_laws_that_need_none_are_checked():
    nothing = {"posed": np.array([], dtype=np.str_), "posed_value": np.zeros((1, W, H, 0)), "has_pose": np.array(False)}
    nothing |= {"posed_start": np.zeros((W, 0)), "posed_before": np.zeros((N, 0)), "posed_after": np.zeros((N, 0))}
    found = by_name(arrays(**nothing))
    assert found["violations"].value == 0.0
    for law in ("penetration", "joint-limit", "energy-jump"):
        assert "poses the bodies" in found[f"violation:{law}"].reason
    none = {"moving_position": np.zeros(0, np.int64), "step_limit": np.full(2, np.nan)}
    found = by_name(arrays(**nothing, **none, moving_velocity=np.zeros(0, np.int64)))
    assert found["violations"].reason == "no law can be checked in this task"


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(W)), st.floats(0.01, 100), st.floats(-10, 10))
def test_order_of_windows_units_and_origin_do_not_matter(order, scale, shift):
    rng = np.random.default_rng(0)
    data = arrays()
    data["prediction"] = data["prediction"] + 0.02 * rng.normal(size=data["prediction"].shape)
    plain = by_name(data)
    for name in ("prediction", "start", "before", "after"):
        data[name] = data[name] * scale + np.array([shift, 0.0])
    data["step_limit"] = data["step_limit"] * scale
    data["prediction"], data["start"], data["episode"] = (
        data["prediction"][:, order],
        data["start"][order],
        data["episode"][order],
    )
    other = by_name(data)
    for name in ("violations", "violation:teleport", "violation:consistency"):
        assert 0 < other[name].value == pytest.approx(plain[name].value, abs=1e-12)


TASK = "wmbench/Gym-HalfCheetah-v0"


class Sinking:
    """Everything stays as it is, but the body sinks, twitches, or is lost."""

    def __init__(self, change, task=TASK):
        self.card = ModelCard("sinking", (task,), frozenset({"observation"}), "o", "none", "tests", "gravity")
        self.change = change

    def initial(self, start, *, keys):
        return start.observation

    def step(self, state, action, *, uncertainty=False):
        after = self.change(state.clone())
        return after, Prediction(observation=after)


def sink(x):
    x[:, 0] -= 0.05
    return x


def lose(x):
    return torch.full_like(x, torch.nan)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return wmbench.collect(TASK, tmp_path_factory.mktemp("cheetah") / "d", episodes=8, split=(0.5, 0.0, 0.5))


def test_real_states_break_no_law_and_a_sinking_body_does(data, tmp_path):
    cls = registry.world_models.load("oracle")
    models = {"oracle": cls(cls.Config(live=3), data.task), "sinking": Sinking(sink), "lost": Sinking(lose)}
    recording = record_constraints(models, data, windows=12, horizon=40)
    found = {(r.subject, r.name): r for r in recording.results()}
    assert found["true", "violations"].value < 0.01
    assert found["true", "violations"].details["role"] == "true"
    for name in {name for _, name in found}:
        assert found["oracle", name].value == found["true", name].value
    assert found["sinking", "violation:penetration"].value > 0.5
    assert found["sinking", "violation:joint-limit"].value < 0.05
    assert found["lost", "violations"].value == found["lost", "violation:penetration"].value == 1.0
    assert found["lost", "violations"].n_invalid == 12
    assert "no angle" in found["true", "violation:sine-cosine"].reason
    again = Recording.load(recording.save(tmp_path / "r.safetensors"))
    assert again.results() == recording.results()


def test_a_simulator_that_knows_no_laws_leaves_those_that_need_none(data):
    class Ignorant:
        def violations(self, observations):
            return {}

    recording = record_constraints({}, data, windows=3, horizon=5, simulator=Ignorant())
    found = {(r.subject, r.name): r for r in recording.results()}
    assert found["true", "violations"].details["laws"] == ["consistency", "teleport"]


@pytest.mark.parametrize("task", [c.id for c in task_cards().values() if c.name in ("Gym-Ant", "DMC-WalkerWalk")])
def test_rotations_and_angles_by_sine_and_cosine(task, tmp_path):
    recording = RECORDER(
        Subjects(wmbench.collect(task, tmp_path / "d", episodes=4, split=(0.5, 0.0, 0.5)), {}, {}),
        windows=4,
        horizon=10,
    )
    found = {(r.subject, r.name): r for r in recording.results()}
    assert found["true", "violations"].value < 0.1
    law = "quaternion" if "Ant" in task else "sine-cosine"
    assert found["true", f"violation:{law}"].value == 0.0
    assert found["true", "violation:energy-jump"].value is not None
    if "Ant" in task:  # the height of the free root and its vertical velocity are recognised as belonging together
        names = recording.arrays["dimension"]
        assert names[recording.arrays["moving_position"][0]] == "root_z"
        assert names[recording.arrays["moving_velocity"][0]] == "root_velocity_z"
