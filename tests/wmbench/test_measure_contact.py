"""Contact phases: labels by hand, errors where they were put, and an impact that a model does not know."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wmbench
from wmbench import registry
from wmbench.errors import DatasetError
from wmbench.measures.contact import MEASURE, PHASES, phases
from wmbench.recording import Recording
from wmbench.recording.contact import RECORDER, record_contacts
from wmbench.recording.recorder import Subjects

W, H, D = 10, 12, 2
STD = np.array([2.0, 20.0])
PATTERN = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0], bool)  # a landing at step 3, a take-off at step 9


def arrays(taught, opened=None, *, touching=None, valid=None, **more):
    """Windows whose one-step and open-loop NRMSE are given, (H,) or (W, H)."""
    truth = np.random.default_rng(0).normal(size=(W, H + 1, D)) * STD
    touching = np.broadcast_to(PATTERN[:, None], (W, H + 1, 1)) if touching is None else touching
    each = [np.broadcast_to(e, (W, H))[..., None] * STD for e in (taught, taught if opened is None else opened)]
    return {
        "subject": np.array(["m"]),
        "role": np.array(["model"]),
        "dimension": np.array(["x", "y"]),
        "kind": np.array(["linear"] * D),
        "unit": np.array(["m"] * D),
        "truth": truth,
        "valid": np.ones((W, H), bool) if valid is None else valid,
        "teacher": (truth[:, 1:] + each[0] / 10)[None],
        "prediction": (truth[:, 1:] + each[1])[None],
        "episode": np.arange(W) // 2,
        "pair": np.array([f"p{i}" for i in range(touching.shape[-1])]),
        "touching": touching,
        "contacts_known": np.array(True),
        "delta_std": STD / 10,
        "observation_std": STD,
        "observation_low": -4 * STD,
        "observation_high": 4 * STD,
        "floor_steps": np.array(np.nan),
        **more,
    }


def by_name(data):
    return {r.name: r for r in MEASURE(data)}


def test_phases_of_a_landing_and_a_take_off():
    found = phases(PATTERN[None, :, None], np.ones((1, H), bool))
    steps = {name: (np.flatnonzero(here[0]) + 1).tolist() for name, here in found.items()}
    assert steps == {
        "free": [1, 2, 10, 11, 12],
        "making": [3],
        "in-contact": [4, 5, 6, 7, 8],
        "breaking": [9],
        "after-making": [3, 4, 5, 6, 7],
    }


def test_making_goes_before_breaking_and_what_always_touches_does_not_count():
    left, right, table = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]], bool)
    found = phases(np.stack([left, right, table], -1)[None], np.ones((1, 3), bool))
    assert found["making"][0].tolist() == [False, True, False]
    assert not found["breaking"].any()
    alone = phases(table[None, :, None], np.ones((1, 3), bool))
    assert alone["free"].all()


def test_errors_are_found_where_they_were_put():
    error = np.full(H, 0.1)
    error[2], error[8], error[3:8] = 0.7, 0.4, 0.2
    found = by_name(arrays(error, 0.5 * error))
    assert found["one-step:free"].value == pytest.approx(0.1)
    assert found["one-step:making"].value == pytest.approx(0.7)
    assert found["one-step:in-contact"].value == pytest.approx(0.2)
    assert found["one-step:breaking"].value == pytest.approx(0.4)
    assert found["one-step:after-making"].value == pytest.approx((0.7 + 4 * 0.2) / 5)
    assert found["open:making"].value == pytest.approx(0.35)
    assert found["making-ratio"].value == pytest.approx(7.0)
    assert found["after-ratio"].value == pytest.approx(3.0)
    assert found["making-ratio"].details["steps"] == W
    assert found["making-ratio"].details["free_steps"] == 5 * W
    assert (found["making-ratio"].ci_low, found["making-ratio"].ci_high) == (pytest.approx(7), pytest.approx(7))
    assert set(found) == {"making-ratio", "after-ratio", *(f"{k}:{p}" for k in ("one-step", "open") for p in PHASES)}


def test_equal_errors_everywhere_have_ratio_one():
    found = by_name(arrays(np.full(H, 0.3)))
    assert found["making-ratio"].value == pytest.approx(1.0)
    assert found["after-ratio"].value == pytest.approx(1.0)


def test_the_floor_ends_the_open_loop_but_not_the_one_step_errors():
    error = np.where(np.arange(H) < 6, 0.1, 1.0)
    found = by_name(arrays(error, floor_steps=np.array(6.0)))
    assert found["open:in-contact"].value == pytest.approx(0.1)
    assert found["open:breaking"].value is None
    assert found["one-step:breaking"].value == pytest.approx(1.0)
    assert by_name(arrays(error, floor_steps=np.array(np.inf)))["open:breaking"].value == pytest.approx(1.0)


def test_lost_predictions_count_as_worst():
    error = np.full((W, H), 0.1)
    error[0, 2] = np.nan
    found = by_name(arrays(error))
    assert found["one-step:making"].value == pytest.approx((1000 + 9 * 0.1) / 10)
    assert found["open:making"].value == pytest.approx((2 + 9 * 0.1) / 10)
    assert found["making-ratio"].n_invalid == found["open:free"].n_invalid == 1


def test_what_cannot_be_told_has_a_reason():
    error = np.full(H, 0.1)
    never = np.zeros((W, H + 1, 0), bool)
    assert "no contact" in by_name(arrays(error, touching=never))["making-ratio"].reason
    assert "does not say" in by_name(arrays(error, contacts_known=np.array(False)))["making-ratio"].reason
    assert "constant" in by_name(arrays(error, observation_std=np.zeros(D)))["making-ratio"].reason
    assert "no valid" in by_name(arrays(error, valid=np.zeros((W, H), bool)))["making-ratio"].reason
    exact = by_name(arrays(np.zeros(H)))
    assert "no error" in exact["making-ratio"].reason
    assert exact["one-step:making"].value == 0.0
    knows_flight = by_name(arrays(np.where(np.arange(H) == 2, 0.1, 0.0)))
    assert "while nothing touches" in knows_flight["making-ratio"].reason
    leaves = np.broadcast_to(~np.maximum.accumulate(~PATTERN[3:])[None, :, None], (W, H - 2, 1))
    leaves = np.concatenate([np.ones((W, 3, 1), bool), leaves], 1)  # touches from the start, leaves, never again
    assert "never made" in by_name(arrays(error, touching=leaves))["making-ratio"].reason
    hops = np.broadcast_to(np.stack([np.arange(H + 1) % 2 == i for i in (0, 1)], -1), (W, H + 1, 2))
    found = by_name(arrays(error, touching=hops))
    assert "always touches" in found["after-ratio"].reason
    assert found["one-step:free"].value is None


def test_resamples_without_a_phase_do_not_break_the_interval():
    touching = np.zeros((W, H + 1, 1), bool)
    touching[0] = PATTERN[:, None]
    found = by_name(arrays(np.random.default_rng(0).uniform(0.1, 0.2, (W, H)), touching=touching))
    one = found["making-ratio"]
    assert one.ci_low <= one.value <= one.ci_high
    assert found["one-step:making"].ci_low is None  # one episode


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_four_phases_make_up_all_valid_steps_and_the_order_of_pairs_is_none(seed, pairs):
    rng = np.random.default_rng(seed)
    touching = rng.random((W, H + 1, pairs)) < 0.3
    valid = np.arange(H) < rng.integers(0, H + 1, (W, 1))
    found = phases(touching, valid)
    assert (sum(found[p].astype(int) for p in PHASES[:4]) == valid).all()
    assert (found["after-making"] >= found["making"]).all()
    other = phases(touching[..., rng.permutation(pairs)], valid)
    assert all((found[p] == other[p]).all() for p in PHASES)


TASK = "wmbench/Gym-HalfCheetah-v0"


def oracle():
    cls = registry.world_models.load("oracle")
    return cls(cls.Config(live=3), wmbench.task_card(TASK))


def without_contacts():
    """The true simulator in which nothing collides."""
    model = oracle()
    idle = model._idle

    def switched_off():
        slot = idle()
        model._pool[slot].env._backend._env.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        return slot

    model._idle = switched_off
    return model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return wmbench.collect(TASK, tmp_path_factory.mktemp("cheetah") / "d", episodes=4, split=(0.5, 0.0, 0.5))


def test_a_model_without_contacts_is_worst_where_they_begin(data, tmp_path):
    recording = record_contacts({"bodiless": without_contacts(), "oracle": oracle()}, data, windows=6, horizon=20)
    assert {p.split("-")[0] for p in recording.arrays["pair"]} & {"bfoot", "ffoot"}
    found = {(r.subject, r.name): r for r in recording.results()}
    assert found["bodiless", "making-ratio"].value > 3
    assert found["bodiless", "making-ratio"].ci_low > 1
    assert found["linear", "making-ratio"].value < 3
    assert found["oracle", "one-step:making"].value == found["oracle", "open:making"].value == 0.0
    assert Recording.load(recording.save(tmp_path / "r.safetensors")).results() == recording.results()


def test_touching_follows_the_recorded_states_and_other_simulators_may_not_know(data):
    class Knows:
        def __init__(self, found):
            self.found, self.seen = found, []

        def set_state(self, state):
            self.seen.append(state)

        def contacts(self):
            return None if self.found is None else self.found(len(self.seen) - 1)

    # the only window: 5 steps, 6 states, of which the third touches twice
    known = Knows(lambda i: frozenset({"a-b", "b-c"} if i == 2 else set()))
    arrays = record_contacts({}, data, windows=1, horizon=5, simulator=known).arrays
    assert arrays["pair"].tolist() == ["a-b", "b-c"]
    assert arrays["touching"][0].any(1).tolist() == [False, False, True, False, False, False]
    state = data.episode(int(arrays["episode"][0])).state
    assert np.array_equal(known.seen, state[arrays["step"][0] : arrays["step"][0] + 6])
    nothing = record_contacts({}, data, windows=1, horizon=5, simulator=Knows(None))
    assert {r.reason for r in nothing.results()} == {"the true simulator does not say what touches"}


def test_without_states_there_is_an_error_and_without_contacts_a_reason(tmp_path, monkeypatch):
    task = "wmbench/Gym-Reacher-v0"
    plain = wmbench.collect(task, tmp_path / "d", episodes=4, split=(0.5, 0.0, 0.5))
    recording = RECORDER(Subjects(plain, {}, {}), windows=2, horizon=3)
    assert {r.reason for r in recording.results()} == {"no contact begins or ends in these windows"}
    loaded = Recording.load(recording.save(tmp_path / "r.safetensors"))
    assert loaded.results() == recording.results()
    monkeypatch.setattr("wmbench.recording.contact.window_states", lambda *_: None)
    with pytest.raises(DatasetError, match="states"):
        record_contacts({}, plain)
