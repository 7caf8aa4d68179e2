"""TD-MPC2's update against its formulas written out, and its replay."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, mse_loss

from wmbench.errors import WmbenchError
from wmbench_baselines.tdmpc2.config import TDMPC2Config
from wmbench_baselines.tdmpc2.maths import two_hot, two_hot_inverse
from wmbench_baselines.tdmpc2.model import LatentModel
from wmbench_baselines.tdmpc2.replay import Episode, Replay
from wmbench_baselines.tdmpc2.update import Batch, Learner, UpdateNoise, model_losses, policy_values, targets

TINY = TDMPC2Config(enc_dim=32, mlp_dim=32, latent_dim=16, num_q=3, batch_size=6, task_dim=8)
DISCOUNT = torch.tensor(0.9)


def opinionated(config=TINY, actions=(2,), episodic=True):
    model = LatentModel(config, 3, list(actions), episodic=episodic, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.2
    return model


def a_batch(tasks=None, actions=2):
    generator = torch.Generator().manual_seed(2)
    draw = torch.Generator().manual_seed(3)
    terminated = (torch.rand(3, 6, generator=draw) < 0.3).float()
    action = torch.rand(3, 6, actions, generator=generator) * 2 - 1
    return Batch(torch.randn(4, 6, 3, generator=generator), action, torch.rand(3, 6, generator=draw), terminated, tasks)


def the_noise(actions=2, seed=4):
    return UpdateNoise.draw(TINY, 6, actions, torch.Generator().manual_seed(seed))


def number(logits):
    return two_hot_inverse(logits, opinionated().bins)


def test_targets_take_the_lower_of_two_slow_q_functions():
    model, batch, noise = opinionated(), a_batch(), the_noise()
    for heads in ([0, 2], [2, 1]):
        reached, td = targets(model, batch, noise._replace(target_heads=torch.tensor(heads)), DISCOUNT)
        with torch.no_grad():
            z = model.encode(batch.observation[1:])
        assert torch.equal(reached, z) and not reached.requires_grad
        q = number(model.Q(z, model.pi(z, noise.target).action, target=True))[heads]
        expected = batch.reward + 0.9 * (1 - batch.terminated) * torch.minimum(q[0], q[1])
        assert torch.allclose(td, expected, atol=1e-5)
        assert torch.equal(td[batch.terminated == 1], batch.reward[batch.terminated == 1])


def test_a_time_limit_bootstraps_and_an_end_does_not():
    """The replay keeps only what the task itself ended: the last step of a truncated episode is like any other."""
    rows = {"observation": np.ones((5, 3)), "action": np.zeros((4, 2)), "reward": np.ones(4), "success": np.zeros(4)}
    rows = {k: v.astype(np.float32) for k, v in rows.items()}
    values = {}
    for ended in (0.0, 1.0):
        replay = Replay(100, 3)
        replay.add(Episode(**rows, terminated=np.array([0, 0, 0, ended], np.float32)))
        batch = replay.sample(6, np.random.default_rng(0))
        td = targets(opinionated(), batch, the_noise(), DISCOUNT)[1]
        values[ended] = (td - batch.reward)[batch.terminated == 1], (td - batch.reward)[batch.terminated == 0]
    assert len(values[0.0][0]) == 0 and (values[0.0][1] != 0).all()
    assert len(values[1.0][0]) > 0 and (values[1.0][0] == 0).all() and (values[1.0][1] != 0).all()


@pytest.mark.parametrize("episodic", [False, True])
def test_model_losses_are_the_formulas(episodic):
    model, batch, noise = opinionated(episodic=episodic), a_batch(), the_noise()
    reached, td = targets(model, batch, noise, DISCOUNT)
    got = model_losses(model, batch, noise, reached, td)
    z, zs = model.encode(batch.observation[0]), []
    consistency = reward = value = 0.0

    def cross_entropy(logits, x):
        return -(two_hot(x, model.bins) * log_softmax(logits, -1)).sum(-1).mean()

    for t in range(3):
        r = model.reward(z, batch.action[t])
        dropout = noise.dropout.unflatten(1, (3, 6))[:, t]
        q = model.Q(z, batch.action[t], dropout=dropout)
        z = model.next(z, batch.action[t])
        zs.append(z)
        consistency = consistency + 0.5**t * mse_loss(z, reached[t]) / 3
        reward = reward + 0.5**t * cross_entropy(r, batch.reward[t]) / 3
        value = value + sum(0.5**t * cross_entropy(head, td[t]) for head in q) / (3 * 3)
    assert got.consistency.item() == pytest.approx(consistency.item(), rel=1e-4)
    assert got.reward.item() == pytest.approx(reward.item(), rel=1e-4)
    assert got.value.item() == pytest.approx(value.item(), rel=1e-4)
    termination = 0.0
    if episodic:  # a plain mean, without rho
        logits = torch.stack([model.termination(z) for z in zs])
        termination = binary_cross_entropy_with_logits(logits, batch.terminated).item()
    assert got.termination.item() == pytest.approx(termination, rel=1e-4)
    expected = 20 * consistency + 0.1 * reward + 0.1 * value + termination
    assert got.total.item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.equal(got.zs[1:], torch.stack(zs)) or torch.allclose(got.zs[1:], torch.stack(zs), atol=1e-6)


def test_policy_loss_is_for_the_policy_alone():
    model, noise = opinionated(), the_noise()
    zs = torch.softmax(torch.randn(4, 6, 16), -1)
    q, entropy = policy_values(model, zs, noise, None)
    (q.sum() + entropy.sum()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("policy."), name
    chosen = number(model.Q(zs, model.pi(zs, noise.policy).action, noise.policy_heads, dropout=noise.policy_dropout))
    assert torch.allclose(q, chosen.mean(0), atol=1e-5)


def test_update_moves_everything_by_its_own_rate():
    """Adam's first step is the learning rate in every direction: that of the encoder is 0.3 of the others'."""
    model = opinionated()
    before = copy.deepcopy(model.state_dict())
    learner = Learner(model, DISCOUNT)
    found = learner.update(a_batch(), the_noise())
    assert all(torch.isfinite(v) for v in found.values())
    moved = {k: (v - before[k]).abs().max().item() for k, v in model.state_dict().items()}
    for name, distance in moved.items():
        if name.startswith("target_"):
            own = name.removeprefix("target_")
            expected = before[name] + 0.01 * (model.state_dict()[own] - before[name])
            assert torch.allclose(model.state_dict()[name], expected, atol=1e-7)
        else:
            assert distance == pytest.approx(9e-5 if name.startswith("encoder.") else 3e-4, rel=0.1), name
    assert learner.scale.value > 1.0 or learner.scale.value == 1.0
    assert all(p.grad is None for p in model.parameters())


def test_scale_divides_after_it_was_updated():
    model, batch, noise = opinionated(), a_batch(), the_noise()
    learner = Learner(copy.deepcopy(model), DISCOUNT)
    learner.scale.value.fill_(7.0)
    found = learner.update(batch, noise)
    reached, td = targets(model, batch, noise, DISCOUNT)
    zs = model_losses(model, batch, noise, reached, td).zs.detach()
    after = learner.model
    q, entropy = None, None
    fresh = copy.deepcopy(after)
    fresh.policy.load_state_dict(model.policy.state_dict())  # its step comes after its loss
    q, entropy = policy_values(fresh, zs, noise, None)
    low, high = np.percentile(q[0].detach().numpy(), [5, 95])
    scale = 7.0 + 0.01 * (max(high - low, 1.0) - 7.0)
    assert found["scale"].item() == pytest.approx(scale, rel=1e-5)
    weight = 0.5 ** torch.arange(4.0)
    loss = -((1e-4 * entropy + q / scale).mean(1) * weight).mean()  # a mean over H + 1 steps, not a sum
    assert found["policy_loss"].item() == pytest.approx(loss.item(), rel=1e-3)


def test_gradients_are_clipped_together():
    config = TDMPC2Config(**{**TINY.__dict__, "grad_clip": 1e-4})
    learner = Learner(opinionated(config), DISCOUNT)
    seen = {}
    step = learner.optimiser.step
    learner.optimiser.step = lambda: (
        seen.update(norm=torch.stack([p.grad.norm() for p in learner.trained if p.grad is not None]).norm()),
        step(),
    )
    assert learner.update(a_batch(), the_noise())["gradient"] > 1e-3
    assert seen["norm"].item() == pytest.approx(1e-4, rel=1e-2)


def test_several_tasks_have_discounts_of_their_own_and_no_gradient_from_the_policy():
    model = opinionated(actions=(1, 2))
    tasks = torch.tensor([0, 1, 0, 1, 0, 1])
    learner = Learner(model, torch.tensor([0.9, 0.99]))
    batch, noise = a_batch(tasks), the_noise()
    td = targets(model, batch, noise, learner.discount[tasks])[1]
    z = model.encode(batch.observation[1:], tasks)
    q = number(model.Q(z, model.pi(z, noise.target, tasks).action, noise.target_heads, tasks, target=True)).amin(0)
    expected = batch.reward + learner.discount[tasks] * (1 - batch.terminated) * q
    assert torch.allclose(td, expected, atol=1e-5)
    learner.update(batch, noise)
    assert model.task_embedding.weight.grad is None
    assert (model.task_embedding.weight.norm(dim=1) <= 1 + 1e-6).all()


def episode(steps, value, task=0):
    column = np.full(steps, value, np.float32)
    seen = np.stack([np.full(steps + 1, value), np.arange(steps + 1), np.zeros(steps + 1)], 1).astype(np.float32)
    acted = np.stack([column, np.arange(steps)], 1).astype(np.float32)
    return Episode(seen, acted, np.arange(steps, dtype=np.float32), 0 * column, 0 * column, task)


def test_windows_never_leave_their_episode_and_line_up():
    replay = Replay(200, 3)
    for i, steps in enumerate((10, 3, 2, 30, 7)):
        replay.add(episode(steps, i))
    assert len(replay) == 52
    batch = replay.sample(4000, np.random.default_rng(0))
    assert (batch.observation[..., 0] == batch.observation[:1, :, 0]).all()
    assert (batch.observation[1:, :, 1] == batch.observation[:1, :, 1] + torch.tensor([[1.0], [2.0], [3.0]])).all()
    assert (batch.action[..., 0] == batch.observation[:-1, :, 0]).all()
    assert (batch.action[..., 1] == batch.observation[:-1, :, 1]).all() and (batch.reward == batch.action[..., 1]).all()
    which = batch.observation[0, :, 0].long().bincount(minlength=5)
    assert which[2] == 0  # shorter than a window
    assert (which[[0, 1, 3, 4]] / 4000 - 0.25).abs().max() < 0.03  # an episode first, then a place in it
    begins = batch.observation[0, :, 1][batch.observation[0, :, 0] == 0].long().bincount(minlength=8)
    assert (begins[:8] > 60).all() and len(begins) == 8  # 0 to T - H


def test_the_oldest_episodes_make_room():
    replay = Replay(25, 3)
    for i in range(6):
        replay.add(episode(9, i))
        held = set(replay.sample(300, np.random.default_rng(i)).observation[0, :, 0].long().tolist())
        assert held == set(range(max(0, i - 1), i + 1)), i
        batch = replay.sample(300, np.random.default_rng(i))
        assert (batch.observation[..., 0] == batch.observation[:1, :, 0]).all()
    with pytest.raises(WmbenchError, match="does not fit"):
        replay.add(episode(26, 0))


def test_replay_comes_back_from_its_files(tmp_path):
    whole = Replay(200, 3, folder=tmp_path)
    for i in range(4):
        whole.add(episode(5 + i, i))
    again = Replay(200, 3, folder=tmp_path)
    again.restore(3)
    assert again.seen == 3
    again.add(episode(8, 3))
    first, second = (r.sample(50, np.random.default_rng(0)) for r in (whole, again))
    assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))


def test_a_window_of_one_task_only_and_what_is_refused():
    replay = Replay(200, 3)
    with pytest.raises(WmbenchError, match="no episode yet of the 3"):
        replay.sample(1, np.random.default_rng(0))
    for i in range(4):
        replay.add(episode(6, i, task=i % 2))
    batch = replay.sample(40, np.random.default_rng(0), tasks=True, only=1)
    assert set(batch.observation[0, :, 0].tolist()) == {1.0, 3.0} and (batch.task == 1).all()
    assert replay.column("observation", 1).shape == (14, 3) and replay.column("reward", 0).shape == (12,)
    bad = episode(6, 0)
    bad.reward[2] = np.nan
    with pytest.raises(WmbenchError, match="reward"):
        replay.add(bad)


def test_embeddings_of_tasks_keep_a_norm_of_at_most_one():
    model = opinionated(actions=(2, 1))
    with torch.no_grad():
        model.task_embedding.weight.mul_(50.0)
    batch = a_batch(torch.tensor([0, 1, 0, 1, 0, 1]))
    Learner(model, torch.tensor([0.9, 0.9])).update(batch, the_noise())
    assert (model.task_embedding.weight.norm(dim=1) <= 1 + 1e-6).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_agrees_with_the_cpu():
    from wmbench_baselines.tdmpc2.planner import Planner, PlanNoise

    config = TDMPC2Config(**{**TINY.__dict__, "samples": 64, "prior_samples": 8})
    plan_noise = PlanNoise.draw(config, 4, 2, torch.Generator().manual_seed(0), explore=True)
    z, found = torch.softmax(torch.randn(4, 16, generator=torch.Generator().manual_seed(1)), -1), {}
    for device in ("cpu", "cuda"):
        model = opinionated(config).to(device)
        there = PlanNoise(*(x.to(device) for x in plan_noise))
        plan = Planner(model).plan(z.to(device), torch.zeros(4, 3, 2, device=device), DISCOUNT.to(device), there)
        batch = Batch(*(None if x is None else x.to(device) for x in a_batch()))
        noise = UpdateNoise(*(None if x is None else x.to(device) for x in the_noise()))
        losses = Learner(model, DISCOUNT).update(batch, noise)
        found[device] = plan.mean.cpu(), torch.stack([v.cpu() for v in losses.values()])
    assert torch.allclose(found["cpu"][0], found["cuda"][0], atol=1e-3)
    assert torch.allclose(found["cpu"][1], found["cuda"][1], rtol=1e-3, atol=1e-4)
