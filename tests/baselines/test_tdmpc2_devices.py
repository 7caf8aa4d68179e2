"""TD-MPC2 elsewhere than on a CPU: nothing leaves its device or waits for it, and what is recorded is the same.

What needs a GPU is marked so; the rest runs on the ``meta`` device, which has no numbers to look at, and with a
stand-in for CUDA's graphs.
"""

import copy
import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import wmbench
from wmbench.errors import WmbenchError
from wmbench.protocols import Start
from wmbench_baselines.tdmpc2 import TDMPC2, TDMPC2Config
from wmbench_baselines.tdmpc2 import compiled as compiling
from wmbench_baselines.tdmpc2.act import Pilot
from wmbench_baselines.tdmpc2.compiled import Captured
from wmbench_baselines.tdmpc2.model import LatentModel
from wmbench_baselines.tdmpc2.online import OnlineTraining
from wmbench_baselines.tdmpc2.planner import Planner, PlanNoise
from wmbench_baselines.tdmpc2.replay import Replay
from wmbench_baselines.tdmpc2.update import Batch, Learner, UpdateNoise, model_losses, policy_values, targets

SIZES = {"enc_dim": 32, "mlp_dim": 32, "latent_dim": 16, "num_q": 3, "batch_size": 6, "task_dim": 8}
TINY = TDMPC2Config(**SIZES, samples=16, elites=8, prior_samples=4, iterations=2)
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def generator(seed):
    return torch.Generator().manual_seed(seed)


class Case:
    """A model, and what one plan and one update of it take in, on a device."""

    def __init__(self, several, device, config=TINY, seed=0):
        actions, n, b = ([2, 1] if several else [2]), 4, config.batch_size
        plain = LatentModel(config, 3, actions, episodic=True, seed=0)
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter += torch.randn(parameter.shape, generator=generator(1)) * 0.2
        self.model, self.device = plain.to(device), device
        self.discount = torch.tensor([0.9, 0.95] if several else 0.9).to(device)
        self.task = (torch.arange(n) % 2).to(device) if several else None
        self.observation = torch.randn(n, 3, generator=generator(seed)).to(device)
        self.previous = torch.zeros(n, config.horizon, 2).to(device)
        self.plan_noise = self.there(PlanNoise.draw(config, n, 2, generator(seed), explore=True))
        self.noise = self.there(UpdateNoise.draw(config, b, 2, generator(seed)))
        shapes = ((4, b, 3), (3, b, 2), (3, b), (3, b))
        drawn = [torch.rand(shape, generator=generator(seed + i)) for i, shape in enumerate(shapes)]
        drawn[3] = (drawn[3] < 0.2).float()
        self.batch = self.there(Batch(*drawn, task=torch.arange(b) % 2 if several else None))

    def there(self, made):
        return tree_map(lambda x: x.to(self.device) if isinstance(x, torch.Tensor) else x, made)

    def plan(self, planner):
        discount = self.discount if self.task is None else self.discount[self.task]
        return planner.plan_at(self.observation, self.previous, discount, self.plan_noise, self.task)


class OnlyOn(TorchDispatchMode):
    """Refuses every operation that reads or makes a tensor of another device."""

    def __init__(self, device):
        super().__init__()
        self.device, self.count = device, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        found = {x.device.type for x in tree_leaves((args, kwargs, made)) if isinstance(x, torch.Tensor)}
        assert found <= {self.device}, f"{func} has to do with {found}"
        self.count += 1
        return made


@pytest.mark.parametrize("several", [False, True])
def test_nothing_leaves_the_device_or_waits_for_it(several):
    """Where there are no numbers, ``item()``, a test of a tensor and a copy to NumPy fail."""
    case = Case(several, "meta")
    learner, planner = Learner(case.model, case.discount), Planner(case.model)
    for adam in (learner.optimiser, learner.policy_optimiser):  # whose kernel has no form without numbers
        adam.step = lambda: None
    with OnlyOn("meta") as watch:
        plan = case.plan(planner)
        losses = learner.update(case.batch, case.noise)
    assert watch.count > 300
    assert all(x.device.type == "meta" for x in [*plan, *losses.values()])


def test_the_simulator_and_the_noise_of_keys_stay_on_the_device():
    task = wmbench.task_card("Gym-Hopper")
    model = TDMPC2(TINY, task).to("meta")
    keys = torch.zeros(5, dtype=torch.int64, device="meta")
    with OnlyOn("meta") as watch:
        noise = PlanNoise.of_keys(TINY, keys, 3)
        state = model.initial(Start(torch.zeros(5, len(task.observation), device="meta")), keys=keys)
        state, said = model.step(state, torch.zeros(5, len(task.action), device="meta"))
    assert watch.count > 100 and {x.device.type for x in noise} == {"meta"}
    assert said.observation.shape == (5, 11) and said.terminated.shape == said.reward.shape == (5,)


def test_plan_and_update_can_be_traced_whole():
    """What is compiled for a GPU has no breaks, each of which would be a wait for the interpreter."""
    torch._dynamo.reset()

    def whole(function):
        return torch.compile(function, fullgraph=True, backend="eager")

    case = Case(True, "cpu")
    planner = Planner(case.model)
    plain = case.plan(planner)
    planner._plan_at = whole(planner._plan_at)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(plain, case.plan(planner), strict=True))
    reached, td = whole(targets)(case.model, case.batch, case.noise, case.discount[case.batch.task])
    losses = whole(model_losses)(case.model, case.batch, case.noise, reached, td)
    q, _ = whole(policy_values)(case.model, losses.zs.detach(), case.noise, case.batch.task)
    losses.total.backward()
    assert torch.isfinite(q).all()


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    case = Case(False, "cpu", dataclasses.replace(TINY, compile=True))
    for make in (lambda: Planner(case.model), lambda: Learner(case.model, case.discount)):
        with pytest.raises(WmbenchError, match=r"no-such-compiler.*--no-compile"):
            make()
    monkeypatch.setenv("CXX", "python3 -c")  # whatever it is, it is there
    Planner(case.model)


@pytest.fixture
def standing_in(monkeypatch):
    """Recording without a GPU: it carries nothing out, and a replay reads and writes the same memory every time."""
    recorded = []

    def record(function, inputs):
        recorded.append(inputs)
        held = []

        def replay():
            made = function(*inputs)
            if not held:
                held.append(tree_map(torch.clone, made))
            tree_map(lambda mine, new: mine.copy_(new), held[0], made)
            return held[0]

        return replay

    monkeypatch.setattr(compiling, "record", record)
    monkeypatch.setattr(compiling, "beside", lambda function, inputs: function(*inputs))
    return recorded


def test_what_is_replayed_is_what_would_have_been_called(standing_in):
    called = Captured(lambda x, more: {"sum": x + more[0], "none": x * 0}, torch.nn.Linear(2, 2))
    inputs = [(torch.randn(3), (torch.randn(3), None)) for _ in range(8)]
    results = [called(*each) for each in inputs]
    assert len(standing_in) == 1  # the fourth call
    for (x, (y, _)), result in zip(inputs, results, strict=True):  # none was overwritten by a later one
        assert torch.equal(result["sum"], x + y)
    x, (y, _) = inputs[0]
    before = x.clone()
    found = called(x, (y, None))
    x.zero_()
    assert torch.equal(found["sum"], before + y)


def test_other_shapes_are_recorded_apart_and_not_without_end(standing_in):
    layer = torch.nn.Linear(2, 2)
    called = Captured(lambda x: x + 1, layer)
    for size in range(1, compiling.KEPT + 4):
        for i in range(6):
            x = torch.full((size,), float(i))
            assert torch.equal(called(x), x + 1)
    assert len(standing_in) == compiling.KEPT


def test_moved_weights_are_recorded_anew(standing_in):
    layer = torch.nn.Linear(1, 1)
    called = Captured(lambda x: x * layer.weight[0], layer)
    for _ in range(6):
        called(torch.ones(1))
    assert len(standing_in) == 1
    layer.weight.data = torch.full((1, 1), 5.0)
    for _ in range(6):
        assert called(torch.ones(1)).item() == 5.0
    assert len(standing_in) == 2
    called.forget()
    for _ in range(6):
        called(torch.ones(1))
    assert len(standing_in) == 3


@pytest.mark.parametrize("several", [False, True])
def test_recorded_updates_and_plans_are_the_plain_ones(standing_in, several):
    plain, other = Case(several, "cpu"), Case(several, "cpu")
    learners = [Learner(case.model, case.discount) for case in (plain, other)]
    learners[1]._captured = Captured(learners[1]._step, other.model)
    planners = [Planner(case.model) for case in (plain, other)]
    planners[1]._plan_at = Captured(planners[1]._plan_at, other.model)
    for i in range(6):
        now = Case(several, "cpu", seed=i)
        losses = [learner.update(now.batch, now.noise) for learner in learners]
        assert all(torch.equal(losses[0][k], losses[1][k]) for k in losses[0])
        plans = []
        for case, planner in zip((plain, other), planners, strict=True):
            case.observation, case.plan_noise = now.observation, now.plan_noise
            plans.append(case.plan(planner))
        assert all(torch.equal(a, b) for a, b in zip(*plans, strict=True))
    assert len(standing_in) == 2
    state = other.model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in plain.model.state_dict().items())


def test_two_of_three_q_functions_of_each_episode(standing_in):
    """Episodes planned together ask Q-functions of their own."""
    case = Case(False, "cpu")
    together = case.plan(Planner(case.model))
    for i in range(4):
        alone = copy.copy(case)
        alone.observation, alone.previous = case.observation[i : i + 1], case.previous[i : i + 1]
        axes = {"prior": 1, "samples": 2, "value": 1, "heads": 1, "choice": 0, "action": 0}
        alone.plan_noise = PlanNoise(**{k: getattr(case.plan_noise, k).narrow(a, i, 1) for k, a in axes.items()})
        assert torch.allclose(alone.plan(Planner(case.model)).elite_value[0], together.elite_value[i], atol=1e-4)


class OnGpu:
    pytestmark = gpu


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("several", [False, True])
class TestOnGpu(OnGpu):
    def test_plans_and_updates_are_those_of_the_cpu(self, several, compiled):
        config = dataclasses.replace(TINY, compile=compiled)
        there, here = Case(several, "cuda", config), Case(several, "cpu")
        learners = [Learner(case.model, case.discount) for case in (there, here)]
        planners = [Planner(case.model) for case in (there, here)]
        for i in range(8):  # compiled, the last ones are replayed; products in TF32 are right to a thousandth
            now = Case(several, "cpu", seed=i)
            for case in (there, here):
                case.observation, case.plan_noise = now.observation.to(case.device), case.there(now.plan_noise)
            plans = [case.plan(planner) for case, planner in zip((there, here), planners, strict=True)]
            assert plans[0].action.is_cuda
            assert torch.allclose(plans[0].elite_value.cpu(), plans[1].elite_value, rtol=2e-2, atol=2e-2), i
            losses = [
                learner.update(case.there(now.batch), case.there(now.noise))
                for case, learner in zip((there, here), learners, strict=True)
            ]
            for name, value in losses[0].items():
                assert value.is_cuda
                assert value.item() == pytest.approx(losses[1][name].item(), rel=5e-2, abs=1e-2), (i, name)
        if compiled:
            assert len(learners[0]._captured._recorded) == len(planners[0]._captured._recorded) == 1


class TestTrainingOnGpu(OnGpu):
    @pytest.mark.parametrize("compiled", [False, True])
    def test_it_resumes_to_the_same_weights(self, tmp_path, compiled):
        task = wmbench.task_card("DMC-CartpoleBalance")
        config = dataclasses.replace(
            TINY, compile=compiled, action_repeat=20, frames=3000, seed_steps=50, eval_every=1000, eval_episodes=2
        )
        states = []
        for name, parts in (("whole", (3000,)), ("parts", (1000, 3000))):
            for frames in parts:
                run = OnlineTraining(
                    dataclasses.replace(config, frames=frames), task, folder=tmp_path / name, seed=3, device="cuda"
                )
                run.run(progress=False)
            assert next(run.model.parameters()).is_cuda and run.replay._rows["reward"].is_cuda
            states.append(run.model.state_dict())
        assert run.noise.device.type == "cuda"
        for name, tensor in states[0].items():
            assert torch.allclose(tensor, states[1][name], atol=1e-4 if compiled else 0.0), name

    def test_what_is_replayed_is_what_is_called(self):
        """The same kernels: the same weights after replays as without any, but for sums in another order."""
        config, found = dataclasses.replace(TINY, compile=True), []
        for replayed in (True, False):
            case = Case(False, "cuda", config)
            learner = Learner(case.model, case.discount)
            if not replayed:
                learner._captured = lambda *inputs, step=learner._step: compiling.beside(step, inputs)
            for i in range(12):
                now = Case(False, "cuda", config, seed=i)
                learner.update(now.batch, now.noise)
            found.append({k: v.clone() for k, v in case.model.state_dict().items()})
        assert all(torch.allclose(found[0][k], found[1][k], atol=1e-5) for k in found[0])

    def test_episodes_are_planned_together(self):
        case = Case(False, "cuda")
        pilot = Pilot(Planner(case.model), case.discount, 4)
        action = pilot.act(case.observation, torch.Generator("cuda").manual_seed(0), explore=False)
        assert action.shape == (4, 2) and action.is_cuda and pilot.mean.abs().sum() > 0

    def test_a_replay_that_does_not_fit_stays_in_main_memory(self, monkeypatch):
        import numpy as np

        from wmbench_baselines.tdmpc2.replay import Episode

        zeros = [np.zeros(shape, np.float32) for shape in ((9, 3), (8, 2), 8, 8, 8)]
        batches = []
        for free in (10**12, 1):
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
            replay = Replay(100, 3, device="cuda")
            replay.add(Episode(*zeros))
            assert replay._rows["reward"].is_cuda is (free > 1)
            batches.append(replay.sample(5, np.random.default_rng(0)))
        assert all(torch.equal(a, b) and a.is_cuda for a, b in zip(batches[0][:4], batches[1][:4], strict=True))
