"""Timing: turns and warm-up, whole ways to an action, bytes, and modes of a step that must give eager's outputs."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch

import wmbench
from wmbench import checkpoints
from wmbench.cards import ModelCard
from wmbench.keys import fold_in
from wmbench.protocols import Prediction
from wmbench.recording import Recording, memory, modes
from wmbench.recording.calls import Contestant, first_start
from wmbench.recording.latency import _take_turns, record_latency
from wmbench.recording.memory import PeakMemory, parameter_bytes, tree_bytes
from wmbench.recording.modes import Case, ModeUnavailableError, error_of, make_step, missing_for_compilation

TASK = wmbench.task_card("DMC-CartpoleSwingup")
N_A, N_O = len(TASK.action), len(TASK.observation)


class Linear(torch.nn.Module):
    """o' = o + a W: a model small enough to compile in a test. ``numb`` adds nothing for the action."""

    def __init__(self, numb=False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0, 0 if numb else 1, N_A * N_O).reshape(N_A, N_O))
        self.card = ModelCard(
            "linear-toy",
            (TASK.id,),
            frozenset({"observation", "reward"}),
            "o",
            "a",
            "tests",
            "none",
            {"terminated": "card"},
        )

    def initial(self, start, *, keys):
        return {"observation": start.observation, "key": keys}

    def step(self, state, action, *, uncertainty=False):
        observation = state["observation"] + action @ self.weight
        new = {"observation": observation, "key": state["key"] + 1}
        return new, Prediction(observation, reward=observation.sum(1).double())


def names(recording):
    return {(r.subject, r.name): r for r in recording.results()}


def contestant(name, order, calls=30):
    def build(own, stack):
        order.append(("made", name))
        stack.callback(lambda: order.append(("closed", name)))
        return lambda: order.append(("called", name)), lambda _: order.append(("between", name))

    return Contestant(name, "step", 1, calls, build)


def test_turns_are_taken_there_and_back():
    order = []
    listed = [contestant(n, order) for n in "abc"]
    _take_turns(listed, 60.0, "cpu")
    runs = [e[1] for i, e in enumerate(order) if e[0] == "called" and (i == 0 or order[i - 2] != e)]
    assert [n for i, n in enumerate(runs) if i == 0 or runs[i - 1] != n] == list("abcba")
    assert order[-3:] == [("closed", n) for n in "cba"]
    for one in listed:
        seconds, number, warm = one.arrays()
        assert (len(seconds), (~warm).sum(), warm.sum()) == (42, 30, 12)
        assert np.flatnonzero(warm).tolist() == [*range(10), 25, 26]  # 10 + 15 calls, then 2 + 15
        assert (np.diff(number) >= 0).all()
        assert number[25] == 1
        assert one.memory["peak-memory"] >= 0


def test_warm_up_of_few_calls():
    for rounds, warm in (([[1.0]], 0), ([[1.0], [1.0]], 1), ([[1.0] * 3, [1.0] * 2], 3), ([], 0)):
        one = Contestant("a", "step", 1, 9, lambda *_: None, rounds=rounds)
        assert one.arrays()[2].sum() == warm


class Counting:
    """A policy that notes the batches and dtypes that it is given."""

    def __init__(self):
        self.seen = set()

    def initial(self, batch_size):
        return {"n": np.zeros((batch_size, 3))}

    def act(self, observation, state, *, keys):
        self.seen.add((observation.dtype.name, observation.shape))
        return np.zeros((len(keys), N_A), np.float32), state


def test_policies_are_timed_to_the_action_and_weighed(tmp_path):
    policy = Counting()
    found = record_latency(TASK, {"true": None}, {"p": policy}, calls=40, resets=4, batches=(1, 4), budget_s=20)
    results = names(found)
    assert policy.seen == {("float32", (1, N_O)), ("float32", (4, N_O))}
    assert results["p", "observation-to-action-p50"].n == 40
    assert results["p", "observation-to-action-p50"].value >= results["p", "act-p50"].value / 2
    assert results["p", "observation-to-action-deadline-misses"].n == 40
    assert results["true", "step-round-drift"].value > 0
    assert results["p", "state-bytes"].value == 24.0
    assert results["p", "parameter-bytes"].value == 0.0
    assert ("true", "parameter-bytes") not in results
    assert results["p", "act-x4-peak-memory"].unit == "bytes"
    assert found.meta["memory"]
    again = Recording.load(found.save(tmp_path / "l.safetensors"))
    assert again.results() == found.results()


def test_nothing_to_time():
    assert record_latency(TASK, {}, {}).results() == []


def test_learned_simulators_are_weighed(world_model):
    name = world_model("weighed-toy", lambda task, device: Linear())
    found = names(record_latency(TASK, {name: name}, {}, calls=5, resets=2, batches=(1, 4), budget_s=20))
    assert found[name, "step-x4-throughput"].value > 0
    assert found[name, "parameter-bytes"].value == 4 * N_A * N_O
    assert found[name, "state-bytes"].value == 4 * N_O + 8
    oracle = names(record_latency(TASK, {"oracle": "oracle"}, {}, calls=2, resets=1, batches=(1,), budget_s=20))
    assert oracle["oracle", "state-bytes"].value > 0


def test_memory_sees_what_is_touched():
    watch = PeakMemory()
    block = np.ones(50_000_000)  # 400 MB; what else the process gives back or takes is some 30
    assert 300e6 < watch.growth()["peak-memory"] < 500e6
    del block
    nothing = PeakMemory()
    assert nothing.growth()["peak-memory"] < 100e6
    assert "VmHWM" in memory.method() or "ru_maxrss" in memory.method()


def test_memory_where_the_kernel_keeps_its_mark(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "absent" / "clear_refs")
    watch = PeakMemory()
    assert watch.growth()["peak-memory"] >= 0
    assert "ru_maxrss" in memory.method()
    kilobytes = memory._largest()
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory._largest() * 1024 >= kilobytes


def test_bytes_of_trees_and_modules():
    tree = {"a": np.zeros((2, 3)), "b": [torch.zeros(4, dtype=torch.float32), None]}
    assert tree_bytes(tree) == 2 * 3 * 8 + 4 * 4
    assert tree_bytes(None) == 0
    assert parameter_bytes(Linear()) == 4 * N_A * N_O
    assert parameter_bytes(object()) == 0


@pytest.fixture
def case():
    model = Linear()
    return model, Case.of(TASK, model, first_start(TASK, 0), 16, 0)


def test_eager_rows_are_those_of_single_rows(case):
    model, given = case
    assert error_of(model, make_step(model, "eager", given), given, alone=True) < 1e-6
    assert given.action.shape == given.other.shape == (16, N_A)
    assert not torch.equal(given.action, given.other)

    def shuffled(state, action):
        state, prediction = model.step(state, action)
        return state, Prediction(prediction.observation.flip(0), reward=prediction.reward)

    assert error_of(model, shuffled, given, alone=True) > 1e-3


@pytest.mark.parametrize("fault", ["action", "state", "nan", "key", "shape"])
def test_outputs_that_differ_are_found(case, fault):
    model, given = case
    stale = model.step(given.state, given.action)

    def step(state, action):
        if fault == "action":
            return model.step(state, given.action)
        if fault == "state":
            return stale
        new, prediction = model.step(state, action)
        if fault == "nan":
            prediction.reward[3] = float("nan")
        if fault == "key":
            new["key"] = fold_in(new["key"], 1)
        if fault == "shape":
            prediction.reward = prediction.reward[:-1]
        return new, prediction

    assert error_of(model, step, given, alone=False) > (1e-2 if fault in ("action", "state") else 1e300)
    assert error_of(model, model.step, given, alone=False) == 0.0


def test_equal_nan_is_equal():
    assert modes._apart(np.array([np.nan, np.inf]), np.array([np.nan, np.inf])) == 0.0
    assert modes._apart(np.array([np.inf]), np.array([-np.inf])) == np.inf
    assert modes._apart(np.array([3.0]), np.array([1.0])) == 1.0


def test_modes_that_cannot_be_had_say_what_is_missing(case, monkeypatch):
    model, given = case
    with pytest.raises(ModeUnavailableError, match="CUDA device, this one is on the CPU"):
        make_step(model, "captured", given)
    with pytest.raises(ValueError, match="unknown mode"):
        make_step(model, "folded", given)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "g++ or clang++" in missing_for_compilation("cpu")
    with pytest.raises(ModeUnavailableError, match="needs a C\\+\\+ compiler"):
        make_step(model, "compiled", given)
    monkeypatch.setattr(modes.importlib.util, "find_spec", lambda name: None)
    assert "triton" in missing_for_compilation("cuda")


def test_compilers_that_fail_or_lie_are_in_the_results(monkeypatch):
    def failing(function, **options):
        def call(*arguments):
            raise OverflowError("\n-7046 too big\nand pages more")

        return call

    def lying(function, **options):
        def call(state, action):
            new, prediction = function(state, action)
            return new, Prediction(prediction.observation + 1, reward=prediction.reward)

        return call

    monkeypatch.setattr(modes, "missing_for_compilation", lambda device: "")
    for compiler, words in (
        (failing, "torch.compile failed: OverflowError: -7046 too big"),
        (lying, "invalid: its outp"),
    ):
        monkeypatch.setattr(torch, "compile", compiler)
        found = names(record_latency(TASK, {}, {}, models={"m": Linear()}, calls=40, mode_batches=(8,), budget_s=20))
        assert found["m", "step-eager-x8-p50"].n == 40
        assert found["m", "step-compiled-x8-p50"].value is None
        assert found["m", "step-compiled-x8-speedup"].reason.startswith(words)
        assert "CUDA" in found["m", "step-captured-x8-p50"].reason


@pytest.mark.skipif(bool(missing_for_compilation("cpu")), reason="no C++ compiler")
def test_a_compiled_step_gives_the_same_outputs():
    found = names(
        record_latency(TASK, {}, {}, models={"m": Linear()}, modes=("eager", "compiled"), calls=40, mode_batches=(8,))
    )
    assert found["m", "step-compiled-x8-output-error"].value <= modes.TOLERANCE
    assert found["m", "step-compiled-x8-p50"].n == 40
    assert found["m", "step-compiled-x8-first-call"].value > 10 * found["m", "step-compiled-x8-p50"].value
    assert found["m", "step-compiled-x8-speedup"].value > 0


def gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cuda"


@pytest.mark.gpu
def test_a_captured_step_replays_on_new_inputs():
    model = Linear().to(gpu())
    given = Case.of(TASK, model, first_start(TASK, 0), 64, 0)
    step = make_step(model, "captured", given)
    assert error_of(model, step, given, alone=False) <= modes.TOLERANCE
    with torch.no_grad():
        for action in (given.action, given.other, torch.zeros_like(given.action)):
            assert torch.allclose(
                step(given.state, action)[1].observation, model.step(given.state, action)[1].observation
            )


@pytest.mark.gpu
def test_what_synchronises_cannot_be_captured_and_says_so():
    class Host(Linear):
        def step(self, state, action, *, uncertainty=False):
            scale = float(action.sum().item() * 0 + 1)  # a copy to the host: no graph may hold one
            return super().step(state, scale * action)

    model = Host().to(gpu())
    given = Case.of(TASK, model, first_start(TASK, 0), 8, 0)
    with pytest.raises(ModeUnavailableError, match="CUDA graph capture failed"):
        make_step(model, "captured", given)
    assert torch.ones(3, device="cuda").sum().item() == 3  # and the device goes on
    later = Linear().to("cuda")
    assert error_of(later, make_step(later, "captured", given), given, alone=False) <= modes.TOLERANCE


@pytest.mark.gpu
def test_all_modes_and_memory_on_a_gpu():
    model = Linear().to(gpu())
    found = names(
        record_latency(
            TASK,
            {},
            {"p": Counting()},
            models={"m": model},
            calls=400,
            mode_batches=(1, 4096),
            device="cuda",
            budget_s=20,
        )
    )
    for prefix in ("step-eager-", "step-captured-", "step-eager-x4096-", "step-captured-x4096-"):
        assert found["m", f"{prefix}output-error"].value <= modes.TOLERANCE
        assert found["m", f"{prefix}p50"].value > 0
        assert found["m", f"{prefix}cuda-allocated"].value >= 0
        assert found["m", f"{prefix}cuda-reserved"].value >= 0
    assert found["m", "step-captured-x4096-cuda-allocated"].value >= 4096 * N_O * 4
    compiled = found["m", "step-compiled-x4096-p50"]
    assert compiled.value is not None or compiled.reason  # with triton, or without


@pytest.mark.gpu
def test_the_ensemble_on_a_gpu():
    model = checkpoints.resolve("ensemble", TASK, kind="world_model", device=gpu())
    found = names(
        record_latency(
            TASK,
            {"ensemble": "ensemble"},
            {},
            models={"bare": model},
            modes=("eager", "captured"),
            calls=50,
            resets=5,
            batches=(1, 256),
            mode_batches=(256,),
            device="cuda",
            budget_s=20,
        )
    )
    assert found["ensemble", "step-x256-p50"].n == 50
    assert found["ensemble", "step-x256-cuda-allocated"].value > 0
    assert found["bare", "step-eager-x256-p50"].n == 50
    captured = found["bare", "step-captured-x256-p50"]  # rows are grouped by member on the host, unless they are not
    assert captured.value is not None or "capture failed" in captured.reason


@pytest.mark.gpu
def test_memory_on_a_gpu_is_what_was_asked_for():
    watch = PeakMemory(gpu())
    block = torch.zeros(32 * 2**20, dtype=torch.uint8, device="cuda")
    del block
    growth = watch.growth()
    assert growth["cuda-allocated"] == 32 * 2**20
    assert growth["cuda-reserved"] >= 32 * 2**20


def test_a_stack_closes_what_was_opened():
    order = []
    with ExitStack() as stack:
        contestant("x", order).build(contestant("x", order), stack)
    assert order == [("made", "x"), ("closed", "x")]
