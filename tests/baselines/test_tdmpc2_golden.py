"""Our TD-MPC2 against numbers that its authors' classes computed: functions, plans and updates, in double precision.

Weights, inputs and normal numbers come from :func:`draw`, a recipe that needs no file; the files hold what the authors'
code (e9f5932, see docs/tdmpc2-parity.md) made of them, and the heads and dropped units it drew.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from wmbench_baselines.tdmpc2 import maths, planner, update
from wmbench_baselines.tdmpc2.config import TDMPC2Config
from wmbench_baselines.tdmpc2.model import LatentModel

DATA = Path(__file__).parents[1] / "data/tdmpc2"
OBS, A, B, N, H = 5, 3, 8, 6, 3
DISCOUNT = {"single": [0.95], "episodic": [0.95], "multi": [0.95, 0.995]}
CONFIG = TDMPC2Config(
    enc_dim=16,
    mlp_dim=16,
    latent_dim=16,
    num_q=3,
    num_bins=21,
    dropout=0.2,
    task_dim=4,
    samples=32,
    elites=6,
    prior_samples=5,
    iterations=3,
    batch_size=B,
    entropy="gaussian",
)
PARTS = {
    "encoder": "encoder",
    "dynamics": "dynamics",
    "reward_head": "reward",
    "termination_head": "termination",
    "policy": "policy",
    "q_functions": "q",
    "target_q_functions": "slow_q",
}


def draw(name: str, *shape: int) -> torch.Tensor:
    """Numbers in [-1, 1) that depend on a name and their place, exactly the same on every machine."""
    i = np.arange(1, int(np.prod(shape)) + 1, dtype=np.float64)
    x = i * (i + 1) / 2 * 0.6180339887498949 + zlib.crc32(name.encode()) / 2**32
    return torch.from_numpy((2 * (x - np.floor(x)) - 1).reshape(shape))


def normal(name: str, *shape: int) -> torch.Tensor:
    return draw(name, *shape) * 1.7320508075688772


def tensors(model: LatentModel) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """Name in the recipe, tensor in the authors' layout (a view of ours), and whether it is a norm's factor."""
    for name, p in model.named_parameters():
        part, *rest = name.split(".")
        if part == "task_embedding":
            yield part, p.data, False
        elif part.endswith("q_functions"):
            kind, layer = rest
            suffix = {"weights": "weight", "biases": "bias", "norm_weights": "norm_weight", "norm_biases": "norm_bias"}
            view = p.data.transpose(1, 2) if kind == "weights" else p.data.squeeze(1)
            yield f"{PARTS[part]}/{layer}/{suffix[kind]}", view, kind == "norm_weights"
        else:
            kind = "_".join(rest[2:])
            yield f"{PARTS[part]}/{rest[1]}/{kind}", p.data, kind == "norm_weight"


def build(kind: str) -> LatentModel:
    model = LatentModel(CONFIG, OBS, [3, 2] if kind == "multi" else [A], episodic=kind == "episodic").double()
    for name, tensor, factor in tensors(model):
        x = draw(f"weight/{name}", *tensor.shape)
        if name == "task_embedding":
            tensor.copy_(x * torch.tensor([[0.4], [2.0]], dtype=torch.float64))  # the second is longer than is allowed
        else:
            tensor.copy_(1 + 0.2 * x if factor else 0.1 * x if name.endswith("bias") else 0.4 * x)
    model.renorm()
    return model


@pytest.fixture(scope="module", params=["single", "episodic", "multi"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def known(kind: str) -> Mapping[str, np.ndarray]:
    with np.load(DATA / f"golden-{kind}.npz") as file:
        return dict(file)


def same(ours: torch.Tensor, theirs: np.ndarray, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=tolerance, atol=tolerance)


def action(name: str, *lead: int, model: LatentModel, task: torch.Tensor | None) -> torch.Tensor:
    a = draw(name, *lead, A)
    return a if task is None else a * model.action_mask[task]


@torch.no_grad()
def test_functions(kind: str, known: Mapping[str, np.ndarray]) -> None:
    model = build(kind)
    task = torch.arange(N) % 2 if kind == "multi" else None
    a = action("functions/action", N, model=model, task=task)
    z = model.encode(3 * draw("functions/observation", N, OBS), task)
    same(z, known["encode"])
    same(model.next(z, a, task), known["next"])
    same(model.reward(z, a, task), known["reward_logits"])
    same(model.values(model.reward(z, a, task)), known["reward"])
    same(model.Q(z, a, None, task), known["q_logits"])
    if kind == "episodic":
        same(model.termination(z).sigmoid(), known["termination"])
    prior = model.pi(z, normal("functions/normal0", N, A), task)
    same(prior.action, known["pi_action"])
    same(prior.mean, known["pi_mean"])
    same(prior.log_std, known["pi_log_std"])
    same(model.entropy(prior, task), known["pi_entropy"], 1e-7)  # theirs divides by a number plus 1e-8


@torch.no_grad()
def test_maths(known: Mapping[str, np.ndarray]) -> None:
    bins = maths.Bins(-10, 10, 21)
    x = torch.tensor(
        [-1e6, -22025.4657948, -3, -np.e + 1, -1e-3, 0, 0.5, np.e - 1, np.e**2 - 1, 22025.4657948, 3e4],
        dtype=torch.float64,
    )
    logits = 3 * draw("two_hot/logits", 11, 21)
    same(maths.two_hot(x, bins), known["two_hot"])
    same(maths.two_hot_inverse(logits, bins), known["two_hot_inverse"])
    same(maths.soft_cross_entropy(logits, x, bins), known["cross_entropy"])
    scale, seen = maths.RunningScale(0.01).double(), []
    for i, n in enumerate((50, 7, 1)):
        scale.update(20 * draw(f"scale/{i}", n))
        seen.append(scale.value.clone())
    same(torch.stack(seen), known["scale"])


def test_plans(kind: str, known: Mapping[str, np.ndarray]) -> None:
    """At an episode's begin with exploration, then one step later without."""
    model = build(kind)
    task = torch.tensor([1]) if kind == "multi" else None
    discount = torch.tensor(DISCOUNT[kind][-1], dtype=torch.float64)
    kept, rounds, sampled = CONFIG.prior_samples, CONFIG.iterations, CONFIG.samples - CONFIG.prior_samples
    previous = torch.zeros(1, H, A, dtype=torch.float64)
    for i in range(2):
        name = f"plan{i}"
        prior = [normal(f"{name}/normal{t}", kept, A) for t in range(H)]
        samples = [normal(f"{name}/normal{H + 2 * r}", H, sampled, A) for r in range(rounds)]
        value = [normal(f"{name}/normal{H + 2 * r + 1}", CONFIG.samples, A) for r in range(rounds)]
        explore = normal(f"{name}/normal{H + 2 * rounds}", 1, A)
        noise = planner.PlanNoise(
            prior=torch.stack(prior)[:, None],
            samples=torch.stack(samples)[:, :, None],
            value=torch.stack(value)[:, None],
            heads=torch.from_numpy(known[f"{name}/heads"])[:, None],
            choice=-torch.log((draw(f"{name}/exponential", 1, CONFIG.elites) + 1) / 2),
            action=torch.zeros_like(explore) if i else explore,
        )
        with torch.no_grad():
            z = model.encode(3 * draw(f"{name}/observation", 1, OBS), task)
        plan = planner.Planner(model).plan(z, previous, discount, noise, task)
        same(plan.action[0], known[f"{name}/action"], 1e-7)
        same(plan.mean[0], known[f"{name}/mean"][-1], 1e-7)
        same(plan.std[0], known[f"{name}/std"][-1], 1e-7)
        values = known[f"{name}/values"][-1]
        same(plan.elite_value[0], np.sort(values.ravel())[::-1][: CONFIG.elites], 1e-7)
        previous = planner.moved_on(plan.mean)


def test_updates(kind: str, known: Mapping[str, np.ndarray]) -> None:
    """Three updates: losses, gradients' norms, running scale, and then every weight."""
    model = build(kind)
    rate = torch.tensor(DISCOUNT[kind], dtype=torch.float64)
    learner = update.Learner(model, rate if kind == "multi" else rate[0])
    learner.scale.double()
    for i in range(3):
        name = f"update{i}"
        task = (torch.arange(B) + i) % 2 if kind == "multi" else None
        heads = torch.from_numpy(known[f"{name}/heads"])
        kept, policy_kept = (
            torch.from_numpy(np.unpackbits(known[f"{name}/dropout{j}"])[: 3 * rows * 16]).reshape(3, rows, 16) / 0.8
            for j, rows in enumerate((H * B, (H + 1) * B))
        )
        batch = update.Batch(
            observation=3 * draw(f"{name}/observation", H + 1, B, OBS),
            action=action(f"{name}/action", H, B, model=model, task=task),
            reward=5 * draw(f"{name}/reward", H, B),
            terminated=(draw(f"{name}/terminated", H, B) > 0.4).double() * (kind == "episodic"),
            task=task,
        )
        noise = update.UpdateNoise(
            target=normal(f"{name}/normal0", H, B, A),
            target_heads=heads[0],
            policy=normal(f"{name}/normal1", H + 1, B, A),
            policy_heads=heads[1],
            dropout=kept.double(),
            policy_dropout=policy_kept[heads[1]].double(),
        )
        got = learner.update(batch, noise)
        for ours, theirs in LOSSES.items():
            same(got[ours], known[f"{name}/{theirs}"], 1e-7)
    for label, tensor, _ in tensors(model):
        moved = [(tensor * draw(f"projection/{j}", *tensor.shape)).sum() for j in range(3)]
        same(torch.stack(moved), known[f"after/{label}"], 1e-8)


LOSSES = {
    "loss": "total_loss",
    "consistency_loss": "consistency_loss",
    "reward_loss": "reward_loss",
    "value_loss": "value_loss",
    "termination_loss": "termination_loss",
    "policy_loss": "pi_loss",
    "gradient": "grad_norm",
    "policy_gradient": "pi_grad_norm",
    "entropy": "pi_scaled_entropy",
    "scale": "pi_scale",
}
