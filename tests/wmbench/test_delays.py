"""Late answers: no delay is no change, a delayed linear loop has its closed form, and rows stay independent."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import wmbench
from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench.commands.evaluate import main
from wmbench.delays import FixedDelay, LatencyTrace, TraceDelay, default_action, delayed
from wmbench.errors import DatasetError, InvalidActionError, WmbenchError
from wmbench.evaluating import evaluate
from wmbench.keys import fold_in, keys_from_seeds, uniform
from wmbench.protocols import Policy
from wmbench.rollout import rollout

HOPPER = wmbench.task_card("Gym-Hopper")
CARTPOLE = wmbench.task_card("DMC-CartpoleSwingup")
MPC = {"model": "ensemble", "samples": 8, "elites": 2, "iterations": 1, "horizon": 4, "replan": 2}
LINE = TaskCard(
    id="wmbench/Toy-Line-v0",
    suite="toy",
    backend_id="line",
    simulator="nowhere:Nothing",
    observation=(Dimension("x"),),
    action=(Dimension("u", low=-1e6, high=1e6),),
    control_hz=10.0,
    horizon=60,
    terminates=False,
    success=SuccessRule("return", 0.0, "a toy"),
    action_convention="velocity",
)


class Proportional:
    """u = -gain x; its chunk holds that action, scaled by 1/2, 1/4 and 1/8. Counts its decisions."""

    def __init__(self, gain):
        self.gain = gain

    def initial(self, batch_size):
        return {"u": np.zeros((batch_size, 1), np.float32), "n": np.zeros(batch_size, np.int64)}

    def act(self, observation, state, *, keys):
        action = (-self.gain * observation).astype(np.float32)
        return action, {"u": action, "n": state["n"] + 1}

    def chunk(self, state):
        return state["u"][:, None] * np.float32([0.5, 0.25, 0.125])[:, None]


class Keyed:
    """Says which key and observation it was given, and how often it was asked."""

    def initial(self, batch_size):
        return np.zeros(batch_size, np.int64)

    def act(self, observation, state, *, keys):
        return uniform(keys, 1) + 10 * observation + 1000 * state[:, None].astype(np.float32), state + 1


def line(policy, steps, start=1.0):
    """x' = x + u in float64, observed in float32: states (steps + 1,) and actions (steps,)."""
    x, xs, us = start, [start], []
    memory = policy.initial(1)
    for t in range(steps):
        action, memory = policy.act(np.float32([[x]]), memory, keys=fold_in(keys_from_seeds([3]), t))
        us.append(float(action[0, 0]))
        x += us[-1]
        xs.append(x)
    return np.array(xs), np.array(us)


def closed_form(gain, delay, steps):
    """x_t = sum_j (-gain)^j C(t - j delay, j): the discrete delayed exponential (Khusainov and Diblik 2006)."""
    return np.array(
        [
            sum((-gain) ** j * math.comb(t - j * delay, j) for j in range(t + 1) if t - j * delay >= j)
            for t in range(steps + 1)
        ]
    )


@pytest.mark.parametrize("delay", [0, 1, 2, 4, 8])
@pytest.mark.parametrize("gain", [0.125, 0.25])
def test_a_delayed_proportional_controller_has_its_closed_form(delay, gain):
    found, _ = line(FixedDelay(Proportional(gain), LINE, delay), 40)
    assert found == pytest.approx(closed_form(gain, delay, 40), rel=1e-5, abs=1e-6)
    assert closed_form(gain, 0, 40) == pytest.approx((1 - gain) ** np.arange(41))


@pytest.mark.parametrize("delay", [1, 3])
def test_it_turns_unstable_where_theory_says(delay):
    critical = 2 * math.sin(math.pi / (2 * (2 * delay + 1)))  # Levin and May 1976
    calm, _ = line(FixedDelay(Proportional(0.9 * critical), LINE, delay), 300)
    wild, _ = line(FixedDelay(Proportional(1.1 * critical), LINE, delay), 300)
    assert np.abs(calm[-20:]).max() < 0.1
    assert np.abs(wild[-20:]).max() > 10


def test_keys_and_observations_are_those_of_the_decision():
    xs, us = line(FixedDelay(Keyed(), replace(LINE, action=(Dimension("u", low=-1e9, high=1e9),)), 2), 5)
    keys = [fold_in(keys_from_seeds([3]), t) for t in range(5)]
    assert us[:2].tolist() == [0, 0]
    for t in range(2, 5):
        assert us[t] == np.float32(uniform(keys[t - 2], 1)[0, 0]) + np.float32(10 * xs[t - 2]) + 1000 * (t - 2)


def test_a_trace_of_one_step_is_the_fixed_delay_of_one_step():
    for policy in (Proportional(0.3), Keyed()):
        fixed, trace = FixedDelay(policy, LINE, 1), TraceDelay(policy, LINE, LatencyTrace([0.1, 0.05]))
        assert line(fixed, 20)[1].tolist() == line(trace, 20)[1].tolist()


def test_a_replayed_trace_step_by_step():
    """Two steps per decision: the observation of every second step decides, and its action is held for two."""
    trace = LatencyTrace([0.2, 0.11, 0.15])
    assert trace.steps(10.0).tolist() == [2, 2, 2]
    xs, us = line(TraceDelay(Proportional(0.25), LINE, trace), 8)
    expected = [0, 0, -xs[0] / 4, -xs[0] / 4, -xs[2] / 4, -xs[2] / 4, -xs[4] / 4, -xs[4] / 4]
    assert us.tolist() == pytest.approx(expected, rel=1e-6)
    xs, us = line(TraceDelay(Proportional(0.25), LINE, trace, on_miss="zero"), 6)
    assert us.tolist() == pytest.approx([0, 0, -xs[0] / 4, 0, -xs[2] / 4, 0], rel=1e-6)
    # a chunk goes on while the next one is computed, each action at the step it was planned for
    xs, us = line(TraceDelay(Proportional(0.25), LINE, trace, on_miss="chunk"), 6)
    expected = [0, 0, *(-x / 4 * f for x in (xs[0], xs[2]) for f in (0.25, 0.125))]
    assert us.tolist() == pytest.approx(expected, rel=1e-6)
    slow = LatencyTrace([0.6])
    xs, us = line(TraceDelay(Proportional(0.25), LINE, slow, on_miss="chunk", first="mid"), 12)
    assert us[6:].tolist() == pytest.approx([-1 / 32] * 6)  # the chunk is used up, and its last action held


def test_delays_of_a_trace_that_change():
    trace = LatencyTrace([0.0, 0.3])  # an answer at once and one after three steps, in turns
    for place, expected in ((0, [0, 0, 0, 0, 2, 2, 2, 2, 4]), (1, [0, 0, 0, 1, 1, 1, 1, 3, 3])):
        seed = next(s for s in range(20) if _place(s) == place)
        policy, us = TraceDelay(Keyed(), LINE, trace), []
        memory = policy.initial(1)
        for t in range(9):
            action, memory = policy.act(np.zeros((1, 1), np.float32), memory, keys=fold_in(keys_from_seeds([seed]), t))
            us.append(int(action[0, 0]) // 1000)
        assert us == expected


def _place(seed):
    """Where in a trace of two an episode begins."""
    from wmbench.delays import TRACE_PLACE
    from wmbench.keys import randint

    return int(randint(fold_in(fold_in(keys_from_seeds([seed]), 0), TRACE_PLACE), 2)[0])


def policies(card):
    """One without memory or chance, one drawn, one drawn with memory, a network, and one that plans."""
    make = wmbench.evaluating.make_policy
    yield from (make("zero", card), make("random", card), make("random", card, config={"smoothness": 0.9}))
    yield make("actor", card)
    yield make("mpc", card, config=MPC)


def same(left, right):
    for a, b in zip(left, right, strict=True):
        for name in ("observation", "action", "reward", "terminated", "truncated", "success", "seed"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert a.invalid == b.invalid


@pytest.mark.parametrize("simulator", [None, "ensemble"])
def test_no_delay_is_the_synchronous_evaluation_bit_for_bit(simulator):
    card = HOPPER
    for policy in policies(card):
        options = {"simulator": simulator, "num_envs": 3}
        seeds = {"Actor": [1], "MPC": [1]}.get(type(policy).__name__, [1, 2, 3, 4, 5])
        plain = rollout(card, policy, seeds, **options)
        for wrapped in (FixedDelay(policy, card, 0), TraceDelay(policy, card, LatencyTrace([0.0]))):
            assert isinstance(wrapped, Policy)
            same(rollout(card, wrapped, seeds, **options), plain)


def test_no_delay_changes_nothing_of_a_chunking_planner():
    policy = wmbench.evaluating.make_policy("mpc", HOPPER, config=MPC)
    plain = rollout(HOPPER, policy, [1, 2])
    same(rollout(HOPPER, TraceDelay(policy, HOPPER, LatencyTrace([0.0]), on_miss="chunk"), [1, 2]), plain)
    assert policy.chunk(policy.initial(3)).shape == (3, 3, 3)


@pytest.mark.parametrize("simulator", [None, "ensemble"])
def test_late_answers_do_not_depend_on_the_number_of_environments(simulator):
    trace = LatencyTrace(np.random.default_rng(0).uniform(0, 0.05, 17))
    mpc = wmbench.evaluating.make_policy("mpc", HOPPER, config=MPC)
    smooth = wmbench.evaluating.make_policy("random", HOPPER, config={"smoothness": 0.9})
    late = [FixedDelay(smooth, HOPPER, 3), TraceDelay(smooth, HOPPER, trace), FixedDelay(mpc, HOPPER, 2)]
    for policy in (*late, TraceDelay(mpc, HOPPER, trace, on_miss="chunk")):
        one = rollout(HOPPER, policy, range(3), num_envs=1, simulator=simulator)
        same(rollout(HOPPER, policy, range(3), num_envs=2, simulator=simulator), one)


def test_the_open_loop_comes_late_by_the_delay():
    """Random actions do not look: a delay of d shifts them by d steps, each with the key of its own decision."""
    policy = wmbench.evaluating.make_policy("random", CARTPOLE)
    (plain,), (late,) = (rollout(CARTPOLE, p, [7]) for p in (policy, FixedDelay(policy, CARTPOLE, 4)))
    assert (late.action[:4] == 0).all()
    assert np.array_equal(late.action[4:], plain.action[:-4])


def test_evaluations_store_what_delayed_them(tmp_path):
    plain = evaluate(HOPPER, "random", episodes=3)
    assert "delayed" not in plain.settings
    assert evaluate(HOPPER, "random", episodes=3, delay=0).episodes == plain.episodes
    late = evaluate(HOPPER, "random", episodes=3, delay=2, first="mid")
    assert late.settings["delayed"] == {"delay": 2, "first": "mid"}
    assert late.episodes != plain.episodes
    trace = LatencyTrace([0.004, 0.02, 0.011], {"cpu": "some"})
    path = trace.save(tmp_path / "deep" / "trace.json")
    found = evaluate(HOPPER, "random", episodes=3, latency_trace=path, on_miss="zero")
    stored = json.loads(json.dumps(found.settings["delayed"]))
    assert stored["trace"] == trace.digest()
    again = LatencyTrace(stored["seconds"], stored["hardware"])
    assert again.digest() == trace.digest()
    repeated = evaluate(HOPPER, "random", episodes=3, latency_trace=again, on_miss=stored["on_miss"], num_envs=2)
    assert repeated.episodes == found.episodes


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.json").write_text("[0.05, 0.1]")
    main("Gym-Hopper", episodes=1, delay=1)
    main("Gym-Hopper", episodes=1, latency_trace=tmp_path / "slow.json")
    capsys.readouterr()
    names = sorted(p.name for p in (tmp_path / "runs/evaluate").iterdir())
    assert names == ["Gym-Hopper-random-true-s0-d1.json", "Gym-Hopper-random-true-s0-slow-hold.json"]
    record = json.loads((tmp_path / "runs/evaluate" / names[1]).read_text())
    assert record["settings"]["delayed"]["seconds"] == [0.05, 0.1]


def test_traces_on_disk(tmp_path):
    trace = LatencyTrace([0.001, 0.25], {"gpu": None})
    path = trace.save(tmp_path / "t.json")
    again = LatencyTrace.load(path)
    assert (again.seconds.tolist(), again.hardware, again.digest()) == ([0.001, 0.25], {"gpu": None}, trace.digest())
    path.write_text(path.read_text().replace("0.25", "0.26"))
    with pytest.raises(DatasetError, match="is damaged"):
        LatencyTrace.load(path)
    for text in ("nonsense", "{}", '{"format": 2, "seconds": [1]}', "[]", "[-1]", '["x"]', "[[1]]", "[NaN]", "3"):
        path.write_text(text)
        with pytest.raises(DatasetError, match=r"t\.json"):
            LatencyTrace.load(path)
    with pytest.raises(DatasetError, match="no latency trace"):
        LatencyTrace.load(tmp_path / "absent.json")


def test_whole_numbers_of_steps_are_not_rounded_up():
    steps = np.arange(1, 200)
    for hz in (10, 20, 40, 125):
        assert LatencyTrace(steps / hz).steps(hz).tolist() == steps.tolist()
    assert LatencyTrace([0.07, 0.29, 0.55]).steps(100).tolist() == [7, 29, 55]  # 0.07 * 100 is more than 7
    assert LatencyTrace([0.0, 1e-6, 0.05, 0.0501]).steps(20).tolist() == [0, 1, 1, 2]


def test_what_makes_no_sense_is_refused():
    policy = Proportional(1.0)
    for delay in (-1, 1.5, True):
        with pytest.raises(WmbenchError, match="whole number"):
            FixedDelay(policy, LINE, delay)
    trace = LatencyTrace([0.1])
    with pytest.raises(WmbenchError, match="not both"):
        delayed(policy, LINE, delay=1, trace=trace)
    with pytest.raises(WmbenchError, match="on_miss must be"):
        TraceDelay(policy, LINE, trace, on_miss="panic")
    with pytest.raises(WmbenchError, match=r"with chunk\(state\).*Keyed has none"):
        TraceDelay(Keyed(), LINE, trace, on_miss="chunk")
    with pytest.raises(WmbenchError, match="first must be"):
        FixedDelay(policy, LINE, 1, first="last")
    assert delayed(policy, LINE) == (policy, {})


def test_a_bad_decision_fails_when_it_is_taken():
    for wrapped in (
        FixedDelay(Proportional(np.nan), LINE, 3),
        TraceDelay(Proportional(np.nan), LINE, LatencyTrace([9])),
    ):
        with pytest.raises(InvalidActionError, match="NaN"):
            wrapped.act(np.ones((1, 1), np.float32), wrapped.initial(1), keys=keys_from_seeds([0]))


def test_default_actions_lie_in_the_box():
    shifted = replace(LINE, action=(Dimension("u", low=1.0, high=3.0),))
    assert default_action(shifted, "zero").tolist() == [1.0]
    assert default_action(shifted, "mid").tolist() == [2.0]
    assert default_action(LINE, "zero").tolist() == [0.0]
