"""TD-MPC2's planner: on a model whose optimum is known, against the formulas written out, and row by row."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from wmbench.keys import keys_from_seeds
from wmbench_baselines.tdmpc2.config import TDMPC2Config
from wmbench_baselines.tdmpc2.model import LatentModel, Prior
from wmbench_baselines.tdmpc2.planner import Planner, PlanNoise, estimate_value, moved_on

TINY = TDMPC2Config(
    enc_dim=32, mlp_dim=32, latent_dim=16, num_q=3, samples=40, elites=8, prior_samples=8, iterations=3, task_dim=8
)
KEYS = torch.from_numpy(keys_from_seeds(range(5)))


def opinionated(config=TINY, actions=(2,), episodic=False):
    model = LatentModel(config, 3, list(actions), episodic=episodic, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.2
    return model


class Quadratic:
    """Reward -(a - best)^2, where the latent state is the time and each time has its own best action."""

    termination_head = None
    actions = 2

    def __init__(self, config, best):
        self.config, self.best = config, best  # (H, A)

    def reward(self, z, action, task):
        best = self.best[z[..., 0].long()]
        return -((action - best) ** 2).sum(-1)

    def next(self, z, action, task):
        return (z + 1).expand(*action.shape[:-1], 1)

    def pi(self, z, noise, task):
        return Prior(noise.tanh(), noise.tanh(), noise, noise)

    def values(self, logits):
        return logits

    def Q(self, z, action, heads, task):
        return torch.zeros(self.config.num_q if heads is None else 2, *z.shape[:-1])


@pytest.mark.parametrize("best", [0.3, -0.7])
def test_mppi_finds_the_optimum_of_a_quadratic(best):
    wanted = torch.tensor([[best, -best], [0.0, 0.5], [0.9, -0.9]])
    config = dataclasses.replace(TINY, samples=512, elites=64, prior_samples=24, iterations=8, temperature=20.0)
    model = Quadratic(config, wanted)
    noise = PlanNoise.of_keys(config, KEYS[:2], 2)
    plan = Planner(model).plan(torch.zeros(2, 1), torch.zeros(2, 3, 2), torch.tensor(0.99), noise)
    assert torch.allclose(plan.mean, wanted.expand(2, 3, 2), atol=0.15)
    assert (plan.std < 0.3).all() and (plan.std >= config.min_std).all()
    assert torch.allclose(plan.action, wanted[0].expand(2, 2), atol=0.3)  # one elite, not the mean


def test_more_rounds_come_nearer():
    wanted = torch.full((3, 2), 0.6)
    gaps = []
    for rounds in (1, 3, 8):
        config = dataclasses.replace(TINY, samples=128, elites=16, iterations=rounds, temperature=10.0)
        noise = PlanNoise.of_keys(config, KEYS, 2)
        plan = Planner(Quadratic(config, wanted)).plan(
            torch.zeros(5, 1), torch.zeros(5, 3, 2), torch.tensor(1.0), noise
        )
        gaps.append(float((plan.mean - wanted).abs().mean()))
    assert gaps[0] > gaps[1] > gaps[2]


@pytest.mark.parametrize("episodic", [False, True])
def test_value_of_a_sequence_is_the_formula(episodic):
    model = opinionated(episodic=episodic)
    z, actions = torch.softmax(torch.randn(2, 16), -1), torch.rand(3, 2, 6, 2) * 2 - 1
    noise, heads = torch.randn(2, 6, 2), torch.tensor([[0, 2], [2, 1]])
    model.requires_grad_(False)
    got = estimate_value(model, z, actions, torch.tensor(0.9), noise, heads)
    ended = 0
    for n in range(2):
        for s in range(6):
            at, total, factor, alive = z[n], 0.0, 1.0, 1.0
            for t in range(3):
                total += factor * alive * model.values(model.reward(at, actions[t, n, s]))
                at = model.next(at, actions[t, n, s])
                factor *= 0.9
                if episodic and model.termination(at).sigmoid() > 0.5:
                    alive, ended = 0.0, ended + 1
            action = model.pi(at, noise[n, s]).action
            q = model.values(model.Q(at[None], action[None]))[:, 0]
            total += factor * alive * q[heads[n]].mean()
            assert got[n, s].item() == pytest.approx(float(total), rel=1e-3, abs=1e-4)
    assert bool(ended) == episodic


def plan_by_the_book(model, config, z, previous, discount, noise):
    """One episode's plan, as Algorithm 1 of the paper and the public code have it, without any sharing."""
    H, P = config.horizon, config.prior_samples
    prior, at = [], z.expand(P, -1)
    for t in range(H):
        prior.append(model.pi(at, noise.prior[t, 0]).action)
        at = model.next(at, prior[t])
    mean, std = previous.clone(), torch.full((H, 2), config.max_std)
    for r in range(config.iterations):
        drawn = (mean[:, None] + std[:, None] * noise.samples[r, :, 0]).clamp(-1, 1)
        actions = torch.cat((torch.stack(prior), drawn), 1)  # (H, S, A)
        value = estimate_value(model, z, actions[:, None], torch.tensor(discount), noise.value[r], noise.heads[r])[0]
        best = value.topk(config.elites).indices
        score = torch.exp(config.temperature * (value[best] - value[best].max()))
        score = score / score.sum()
        elites = actions[:, best]
        mean = (score[None, :, None] * elites).sum(1)
        std = (score[None, :, None] * (elites - mean[:, None]) ** 2).sum(1).sqrt().clamp(config.min_std, config.max_std)
    chosen = (score.log() - noise.choice[0].log()).argmax()
    return elites[:, chosen], mean, std


def test_plan_is_the_published_one():
    model = opinionated()
    generator = torch.Generator().manual_seed(0)
    noise = PlanNoise.draw(TINY, 1, 2, generator, explore=True)
    z, previous = torch.softmax(torch.randn(1, 16), -1), torch.rand(1, 3, 2) - 0.5
    plan = Planner(model).plan(z, previous, torch.tensor(0.9), noise)
    with torch.no_grad():
        sequence, mean, std = plan_by_the_book(model, TINY, z, previous[0], 0.9, noise)
    assert torch.allclose(plan.sequence[0], sequence, atol=1e-5)
    assert torch.allclose(plan.mean[0], mean, atol=1e-4) and torch.allclose(plan.std[0], std, atol=1e-4)
    explored = (sequence[0] + std[0] * noise.action[0]).clamp(-1, 1)
    assert torch.allclose(plan.action[0], explored, atol=1e-4)
    still = Planner(model).plan(z, previous, torch.tensor(0.9), noise._replace(action=torch.zeros(1, 2)))
    assert torch.equal(still.action, still.sequence[:, 0])


def test_episodes_planned_together_are_those_planned_alone():
    model = opinionated()
    z, previous = torch.softmax(torch.randn(5, 16), -1), torch.rand(5, 3, 2) - 0.5
    together = Planner(model).plan(z, previous, torch.tensor(0.9), PlanNoise.of_keys(TINY, KEYS, 2))
    for i in range(5):
        noise = PlanNoise.of_keys(TINY, KEYS[i : i + 1], 2)
        alone = Planner(model).plan(z[i : i + 1], previous[i : i + 1], torch.tensor(0.9), noise)
        assert torch.allclose(together.mean[i], alone.mean[0], atol=1e-4)
        assert torch.allclose(together.sequence[i], alone.sequence[0], atol=1e-4)


def test_noise_has_the_laws_it_claims():
    config = dataclasses.replace(TINY, samples=512, prior_samples=24, elites=64)
    for noise in (
        PlanNoise.of_keys(config, torch.from_numpy(keys_from_seeds(range(40))), 2),
        PlanNoise.draw(config, 40, 2, torch.Generator().manual_seed(0), explore=False),
    ):
        shapes = {name: tuple(getattr(noise, name).shape) for name in noise._fields}
        assert shapes == PlanNoise.shapes(config, 40, 2)
        for name in ("prior", "samples", "value"):
            assert getattr(noise, name).mean().abs() < 0.03 and abs(getattr(noise, name).std() - 1) < 0.03
        assert noise.choice.mean() == pytest.approx(1.0, abs=0.06) and (noise.choice > 0).all()
        assert (noise.heads[..., 0] != noise.heads[..., 1]).all()
        assert noise.heads.flatten().bincount(minlength=3).float().std() < 30
        assert (noise.action == 0).all()


def test_tasks_with_fewer_actions_leave_the_rest_at_zero():
    model = opinionated(actions=(1, 3))
    z, task = torch.softmax(torch.randn(2, 16), -1), torch.tensor([0, 1])
    noise = PlanNoise.of_keys(TINY, KEYS[:2], 3)
    plan = Planner(model).plan(z, torch.zeros(2, 3, 3), torch.tensor([0.9, 0.99]), noise, task)
    assert (plan.sequence[0, :, 1:] == 0).all() and (plan.mean[0, :, 1:] == 0).all()
    assert (plan.sequence[1] != 0).any(0).all()


def test_a_value_that_is_no_number_counts_as_zero():
    model = Quadratic(dataclasses.replace(TINY, prior_samples=0), torch.zeros(3, 2))
    model.values = lambda logits: torch.full(logits.shape, torch.nan)
    noise = PlanNoise.of_keys(model.config, KEYS[:1], 2)
    plan = Planner(model).plan(torch.zeros(1, 1), torch.zeros(1, 3, 2), torch.tensor(0.9), noise)
    assert (plan.elite_value == 0).all() and torch.isfinite(plan.action).all()


def test_a_plan_moves_on_by_its_steps():
    mean = torch.arange(6.0).view(1, 3, 2)
    assert moved_on(mean).tolist() == [[[2, 3], [4, 5], [0, 0]]]
    assert moved_on(mean, 2).tolist() == [[[4, 5], [0, 0], [0, 0]]]


def test_rounds_grow_with_the_action_and_only_there():
    few, many = (PlanNoise.shapes(TINY, 1, a)["samples"][0] for a in (19, 20))
    assert (few, many) == (3, 5)
    assert SimpleNamespace(**dataclasses.asdict(TINY)).iterations == 3
