"""Recording of real time: the same starts everywhere, no delay as evaluated, traces measured once and kept."""

import numpy as np
import pytest

import wmbench
from wmbench.delays import LatencyTrace
from wmbench.errors import DatasetError
from wmbench.evaluating import evaluate, make_policy
from wmbench.recording import Recording
from wmbench.recording.realtime import decision, measure_trace, record_realtime
from wmbench.seeding import episode_seeds

HOPPER = wmbench.task_card("Gym-Hopper")


@pytest.fixture(scope="module")
def recording():
    smooth = make_policy("random", HOPPER, config={"smoothness": 0.9})
    traces = {"smooth": LatencyTrace([0.001, 0.02, 0.009], {"cpu": "x"})}
    return record_realtime(
        HOPPER, {"smooth": smooth}, {"true": None, "oracle": "oracle"}, delays=(2, 0), traces=traces, episodes=4
    )


def test_episodes_are_those_of_the_evaluation(recording):
    arrays = recording.arrays
    assert arrays["condition"].tolist() == ["0", "2", "trace", "random"]
    assert arrays["subject"].tolist() == ["smooth in true", "smooth in oracle"]
    assert arrays["seed"].tolist() == episode_seeds(0, HOPPER.id, "eval", 4)
    config = {"smoothness": 0.9}
    trace = LatencyTrace(arrays["trace_seconds"][arrays["trace_subject"] == 0])
    asked = [{}, {"delay": 2}, {"latency_trace": trace}]
    for c, options in enumerate(asked):
        own = evaluate(HOPPER, "random", policy_config=config, episodes=4, **options)
        assert arrays["returns"][0, c].tolist() == [e["returns"] for e in own.episodes]
        assert arrays["length"][0, c].tolist() == [e["length"] for e in own.episodes]
    floor = evaluate(HOPPER, "random", episodes=4)
    assert arrays["returns"][0, 3].tolist() == [e["returns"] for e in floor.episodes]


def test_the_oracle_loses_as_much(recording):
    for name in ("solved", "returns", "valid", "length"):
        assert np.array_equal(recording.arrays[name][0], recording.arrays[name][1])
    true, learned = (r for r in recording.results() if r.name == "latency-adjusted-return")
    assert (true.value, true.ci_low) == (learned.value, learned.ci_low)
    assert true.details["mean_delay"] == pytest.approx((1 + 3 + 2) / 3)  # at 125 Hz


def test_a_recording_gives_the_same_numbers_again(recording, tmp_path):
    again = Recording.load(recording.save(tmp_path / "r.safetensors"))
    assert again.results() == recording.results()
    assert again.meta["traces"]["smooth"]["digest"] == LatencyTrace([0.001, 0.02, 0.009]).digest()
    assert again.meta["traces"]["smooth"]["hardware"] == {"cpu": "x"}


class Slow:
    """Notes what it is given; takes its time at its first call only."""

    def __init__(self):
        self.seen = []

    def initial(self, batch_size):
        return np.zeros(batch_size)

    def act(self, observation, state, *, keys):
        self.seen.append((observation.dtype, observation.shape, int(keys[0])))
        return np.full((len(keys), 3), 5.0, np.float32), state + 1


def test_a_trace_is_measured_where_the_policy_acts():
    policy = Slow()
    trace = measure_trace(HOPPER, policy, calls=20, budget_s=60)
    assert len(trace.seconds) == 20
    assert (trace.seconds > 0).all()
    assert trace.hardware["warmup"] == 10
    assert trace.hardware["cpu"]
    assert len(policy.seen) == 30
    assert {s[:2] for s in policy.seen} == {(np.dtype(np.float32), (1, 11))}
    assert len({s[2] for s in policy.seen}) == 30
    short = measure_trace(HOPPER, policy, calls=1000, budget_s=0.0)
    assert len(short.seconds) == 1
    action, _ = decision(HOPPER, policy)(np.zeros(11), policy.initial(1), 0, 0)
    assert action.tolist() == [1.0, 1.0, 1.0]  # clipped into the box, as the simulator would


def test_traces_are_measured_where_none_is_given_or_left_out():
    found = record_realtime(HOPPER, {"slow": Slow()}, delays=(0,), episodes=1)
    assert "trace" in found.arrays["condition"]
    assert found.meta["traces"]["slow"]["hardware"]["cpu"]
    without = record_realtime(HOPPER, {"slow": Slow()}, delays=(0,), episodes=1, measure=False, random=Slow())
    assert without.arrays["condition"].tolist() == ["0", "random"]
    assert len(without.arrays["trace_seconds"]) == 0
    assert {r.reason for r in without.results() if r.name.startswith("latency")} == {"no latency trace was replayed"}


def test_what_makes_no_sense_is_refused():
    for policies, options, message in (
        ({}, {}, "needs policies"),
        ({"a": Slow()}, {"episodes": 0}, "needs policies"),
        ({"a": Slow()}, {"simulators": {}}, "needs policies"),
        ({"a": Slow()}, {"delays": (1, 2)}, "0 among them"),
        ({"a": Slow()}, {"delays": (0, 1, 1)}, "0 among them"),
        ({"a": Slow()}, {"traces": {"b": LatencyTrace([0.1])}}, r"traces of \['b'\]"),
        ({"a": Slow(), "b": Slow()}, {"traces": {"b": LatencyTrace([0.1])}, "measure": False}, "every policy needs"),
    ):
        with pytest.raises(DatasetError, match=message):
            record_realtime(HOPPER, policies, **options)
