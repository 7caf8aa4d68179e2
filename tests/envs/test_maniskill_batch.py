"""ManiSkill's scenes as a batch: Gymnasium's contract over a stand-in, over one real scene, and on a GPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import wmbench
from wmbench.errors import InvalidActionError, LifecycleError, StateError
from wmbench_envs.batched_vector import BatchedVectorEnv

CARD = wmbench.task_card("MS-CartpoleBalance")  # ends on a fail; success by return
GRASP = wmbench.task_card("MS-PickCube")  # success that the environment alone knows


class Rng:
    """In place of ManiSkill's batch of generators."""

    def __init__(self, seeds: list[int]) -> None:
        self._rows = [np.random.RandomState(seed) for seed in seeds]

    def __getitem__(self, row: int) -> Any:
        return self._rows[row]


class Standin:
    """ManiSkill's interface over numbers that move by their action: x in the first column, noise in the second."""

    def __init__(self, card: Any, num_envs: int, device: torch.device) -> None:
        self.card, self.num_envs, self.device = card, num_envs, device
        self.x, self.noise = torch.zeros(num_envs), torch.zeros(num_envs)
        self.steps, self.built, self.closed = torch.zeros(num_envs, dtype=torch.int32), 0, False

    def reset(self, seed: list[int], options: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
        assert len(seed) == self.num_envs
        self.built += options.get("reconfigure", False)
        rows = options.get("env_idx", torch.arange(self.num_envs))
        self._batched_episode_rng = Rng(seed)
        self._episode_rng = self._batched_episode_rng[0]
        with torch.random.fork_rng():
            torch.manual_seed(seed[0])
            self._initialize_episode(rows, options)
        self.steps[rows] = 0
        return self.seen(), {}

    def _initialize_episode(self, rows: torch.Tensor, options: dict[str, Any]) -> None:
        with torch.device(self.device):
            self.x[rows] = torch.rand((len(rows), 1))[:, 0]
        self.noise[rows] = torch.from_numpy(self._episode_rng.normal(0, 1, (len(rows), 1))[:, 0]).float()

    def seen(self) -> torch.Tensor:
        observation = torch.zeros(self.num_envs, len(self.card.observation))
        observation[:, 0], observation[:, 1], observation[:, 2] = self.x, self.noise, self.steps
        return observation

    def step(self, action: torch.Tensor) -> tuple[Any, ...]:
        self.x = self.x + action[:, 0]
        self.steps += 1
        reward = torch.where(self.x > 1e6, torch.nan, self.x.clamp(0, 1))
        info = {"fail": self.x < -1, "success": self.x > 1, "elapsed_steps": self.steps}
        return self.seen(), reward, info["fail"] | info["success"], torch.zeros(self.num_envs, dtype=torch.bool), info

    def close(self) -> None:
        self.closed = True


def make(card: Any = CARD, n: int = 3, mode: str = "NextStep", array: str = "numpy", horizon: int = 4) -> Any:
    from wmbench_envs.maniskill_batch import Scenes

    card = dataclasses.replace(card, horizon=horizon)
    core = Scenes(card, n, device=torch.device("cpu"), array=array, make=Standin)
    return BatchedVectorEnv(core, array=array, autoreset_mode=AutoresetMode(mode))


def push(env: Any, *rows: float) -> Any:
    action = np.zeros((env.num_envs, env.single_action_space.shape[0]), np.float32)
    action[:, 0] = rows
    return env.step(action)


def start(seed: int) -> tuple[float, float]:
    """What a row of this seed draws alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.rand((1, 1)).item(), np.float32(np.random.RandomState(seed).normal(0, 1, (1, 1))[0, 0])


def test_rows_draw_their_starts_from_their_own_seeds() -> None:
    env = make()
    first, info = env.reset(seed=[5, 2, 9])
    assert env.observation_space.contains(first) and env._core._env.built == 1
    assert info["episode_seed"].tolist() == [5, 2, 9] and not info["success"].any()
    for row, seed in enumerate((5, 2, 9)):
        assert tuple(first[row, :2]) == pytest.approx(start(seed), abs=0)
    push(env, 0.5, 0.5, 0.5)
    mask = np.array([False, True, True])
    second, info = env.reset(seed=[0, 7, 5], options={"reset_mask": mask})
    assert tuple(second[1, :2]) == start(7) and tuple(second[2, :2]) == start(5)
    assert second[0, 0] == first[0, 0] + np.float32(0.5) and env._core._env.built == 1
    assert info["_episode_seed"].tolist() == mask.tolist()
    again, _ = env.reset(seed=[5, 2, 9])
    assert np.array_equal(again, first) and again is not first


@pytest.mark.parametrize("array", ["numpy", "torch"])
def test_next_step_begins_anew_one_step_later(array: str) -> None:
    env = make(array=array)
    env.reset(seed=0)
    push(env, -1, 0, 0)
    seen, reward, terminated, truncated, info = push(env, -1, 0, 0)
    assert terminated.tolist() == [True, False, False] and not truncated.any()
    assert str(reward.dtype).endswith("float64") and str(seen.dtype).endswith("float32")
    seen, reward, terminated, truncated, info = push(env, 1, 0, 0)
    assert seen[0, 2] == 0 and seen[1, 2] == 3 and reward[0] == 0 and not terminated.any()
    assert info["_episode_seed"].tolist() == [True, False, False]
    assert float(seen[0, 0]) == start(int(info["episode_seed"][0]))[0]
    *_, truncated, info = push(env, 0, 0, 0)
    assert truncated.tolist() == [False, True, True]  # the card's time limit, four steps
    assert isinstance(info["success"], np.ndarray if array == "numpy" else torch.Tensor)
    push(env, 0, 0, 0)
    *_, truncated, _ = push(env, 0, 0, 0)
    assert not truncated.any()
    *_, truncated, _ = push(env, 0, 0, 0)
    assert truncated[0]


@pytest.mark.parametrize("array", ["numpy", "torch"])
def test_same_step_keeps_the_last_observation_and_info(array: str) -> None:
    env = make(GRASP, mode="SameStep", array=array, horizon=2)
    env.reset(seed=[1, 2, 3])
    push(env, 0, 0, 0)
    env.reset(seed=[1, 2, 4], options={"reset_mask": np.array([False, False, True])})
    seen, _, terminated, truncated, info = push(env, 1, 0, 0)
    assert truncated.tolist() == [True, True, False] and not terminated.any()
    assert info["_final_obs"].tolist() == info["_final_info"].tolist() == [True, True, False]
    assert float(info["final_obs"][0][0]) == np.float32(start(1)[0]) + 1 and seen[0, 2] == 0
    assert info["final_info"]["success"].tolist()[:2] == [True, False]
    assert info["success"].tolist() == [False, False, False]
    assert "final_observation" not in info
    assert info["episode_seed"][0] != 1 and float(seen[0, 0]) == start(int(info["episode_seed"][0]))[0]


def test_disabled_waits_for_a_mask_and_everything_has_its_error() -> None:
    env = make(mode="Disabled")
    with pytest.raises(LifecycleError, match="call reset"):
        push(env, 0, 0, 0)
    env.reset(seed=0)
    with pytest.raises(InvalidActionError, match="NaN"):
        push(env, 0, np.nan, 0)
    push(env, -1, 0, 0)
    push(env, -1, 0, 0)
    with pytest.raises(LifecycleError, match="row 0 has ended"):
        push(env, 0, 0, 0)
    env.reset(options={"reset_mask": np.array([True, False, False])})
    seen, *_ = push(env, 9, 0, 0)  # clipped to 1 by the card
    assert seen[:, 2].tolist() == [1, 3, 3] and 1 <= seen[0, 0] < 2
    scenes = env._core._env
    env.close()
    env.close()
    assert scenes.closed
    with pytest.raises(LifecycleError, match="closed"):
        push(env, 0, 0, 0)


def test_a_row_that_breaks_down_is_cut_off_alone() -> None:
    env = make()
    env.reset(seed=0)
    env._core._env.x[1] = 2e6
    seen, reward, terminated, truncated, info = push(env, 0.1, 0.1, 0.1)
    assert truncated.tolist() == info["diverged"].tolist() == [False, True, False] and not terminated.any()
    assert np.isfinite(seen).all() and reward[1] == 0 and seen[1, 0] == np.float32(start(1)[0])
    assert env.diverged_count == 1


def test_success_by_return_is_counted_by_row() -> None:
    rule = dataclasses.replace(CARD.success, threshold=2.0)
    env = make(dataclasses.replace(CARD, success=rule), horizon=3)
    env.reset(seed=[1, 2, 3])
    for _ in range(3):
        *_, info = push(env, 1, -0.3, 0)
    returns = env._core._returns
    assert info["success"].tolist() == (returns >= 2).tolist() == [True, False, False]


def test_one_real_scene_begins_and_moves_as_the_simulation_on_the_cpu() -> None:
    from wmbench_envs.maniskill_batch import Scenes

    for name in ("MS-PickCube", "MS-TwoRobotPickCube"):
        card = dataclasses.replace(wmbench.task_card(name), horizon=4)
        batch = BatchedVectorEnv(Scenes(card, 1, device=torch.device("cpu")))
        env = gym.make(card.id).unwrapped
        a, b = batch.reset(seed=4)[0], env.reset(seed=4)[0]
        assert np.array_equal(a[0], b)
        rng = np.random.default_rng(0)
        for i in range(4):
            action = rng.uniform(-1, 1, (1, len(card.action))).astype(np.float32)
            a, b = batch.step(action), env.step(action[0])
            assert np.array_equal(a[0][0], b[0]) and a[1][0] == b[1] and a[4]["success"][0] == b[4]["success"]
            assert a[3][0] == (i == 3)
        a, *_, info = batch.step(action)  # begins anew, in the scenes that there are
        b, _ = env.reset(seed=int(info["episode_seed"][0]))
        np.testing.assert_allclose(a[0], b, atol=1e-6)
        batch.close()


def test_draws_for_all_rows_are_those_of_each() -> None:
    from wmbench_envs.row_random import RowDraws

    def draw(n: int) -> list[torch.Tensor]:
        with torch.device("cpu"):
            a = torch.rand((n, 2)), torch.rand(n, 3), torch.randn(size=(n, 20)), torch.randint(0, 9, (n,))
            return [*a, torch.normal(0, 0.5, (n, 3)), torch.rand(n), torch.randint(9, (n, 2))]

    with RowDraws([3, 1, 4]):
        together = draw(3)
        alone = torch.rand(7)
    for row, seed in enumerate((3, 1, 4)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            assert all(torch.equal(a[row], b[0]) for a, b in zip(together, draw(1), strict=True))
            if row == 0:
                assert torch.equal(alone, torch.rand(7))
    assert together[0].dtype == torch.float32 and together[3].dtype == torch.int64


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_cuda_it_is_said_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"MS-PickCube-v0: device 'cuda' cannot be used here: .*CUDA"):
        gym.make_vec("wmbench/MS-PickCube-v0", num_envs=2, device="cuda")
    with pytest.raises(ValueError, match="need device='cpu'"):
        gym.make_vec("wmbench/MS-PickCube-v0", num_envs=2, device="cuda", observation="rgb")


def test_its_card_is_another_and_no_state_is_promised() -> None:
    from wmbench_envs.maniskill_batch import cuda_card
    from wmbench_envs.maniskill_vector import ManiSkillVectorEnv

    card = cuda_card(CARD)
    assert card.physics == "physx-cuda" != CARD.physics and card.id == CARD.id
    env = ManiSkillVectorEnv.__new__(ManiSkillVectorEnv)
    env.card = card
    for call in (env.get_state, lambda: env.set_state(None), lambda: env.call("branch")):
        with pytest.raises(StateError, match="device='cpu'"):
            call()
    with pytest.raises(AttributeError, match="'fly'"):
        env.call("fly")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["MS-PickCube", "MS-CartpoleBalance", "MS-TwoRobotPickCube"])
@pytest.mark.parametrize("array", ["numpy", "torch"])
def test_on_a_gpu(name: str, array: str) -> None:
    env = gym.make_vec(f"wmbench/{name}-v0", num_envs=16, device="cuda", array=array, autoreset_mode="SameStep")
    assert env.card.physics == env.metadata["physics"] == "physx-cuda"
    seeds = list(range(16))
    first, info = env.reset(seed=seeds)
    host = first if array == "numpy" else first.cpu().numpy()
    alone = gym.make(env.card.id).unwrapped
    for seed in (0, 7, 15):
        np.testing.assert_allclose(host[seed], alone.reset(seed=seed)[0], atol=1e-3)
    if array == "torch":
        assert first.is_cuda and info["episode_seed"].is_cuda
    ended = 0
    for action in np.random.default_rng(0).uniform(-1, 1, (env.card.horizon + 3, 16, len(env.card.action))):
        given = action.astype(np.float32) if array == "numpy" else torch.from_numpy(action).float().cuda()
        seen, reward, terminated, truncated, info = env.step(given)
        assert seen.shape == first.shape and bool((reward == reward).all())
        ended += int((terminated | truncated).sum())
        assert ("final_obs" in info) == bool((terminated | truncated).any())
        if ended >= 16:
            break
    assert ended >= 16
    env.close()
