"""Rows of a batch are strangers to each other: seeds, noise, endings, autoreset and divergence stay in the row."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import wmbench
from wmbench.cards import ModelCard
from wmbench.protocols import Prediction

HOPPER, CARTPOLE, REACHER = "wmbench/Gym-Hopper-v0", "wmbench/DMC-CartpoleSwingup-v0", "wmbench/Gym-Reacher-v0"
MODELS = ["copy-last", "mean-delta", "linear", "random-walk", "tdmpc2"]


def actions_for(task, steps, rows, seed=0):
    low, high = wmbench.task_card(task).action_bounds()
    return np.random.default_rng(seed).uniform(low, high, (steps, rows, len(low))).astype(np.float32)


def equal(a, b, path=""):
    """Same keys, kinds and bits; tensors count as the arrays they hold."""
    if isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), f"{path}: {sorted(a)} {sorted(b)}"
        for key in a:
            equal(a[key], b[key], f"{path}/{key}")
        return
    a, b = (v.numpy() if isinstance(v, torch.Tensor) else v for v in (a, b))
    assert a.dtype == b.dtype and a.shape == b.shape, (path, a.dtype, b.dtype, a.shape, b.shape)
    if a.dtype == object:
        for p, q in zip(a, b, strict=True):
            assert (p is None) == (q is None), path
            if p is not None:
                equal(p, q, path)
    else:
        assert a.tobytes() == b.tobytes(), path


@pytest.mark.parametrize("task", [HOPPER, REACHER])
@pytest.mark.parametrize("model", MODELS)
def test_a_row_equals_the_same_seed_alone(model, task, fitted):
    """Bit for bit: observations, rewards, drawn endings, resets without a seed; 64 rows against one."""
    folder, rows = fitted(task, model), 64
    batch = gym.make_vec(task, num_envs=rows, simulator=folder)
    seeds = np.random.default_rng(5).integers(2**31, size=rows).tolist()
    observation, info = batch.reset(seed=seeds)
    actions = actions_for(task, 60, rows)
    seen = [(observation, *(np.zeros(rows),) * 3, info), *(batch.step(a) for a in actions)]
    endings = 0
    for row in (0, 1, 17, 62, 63):
        single = gym.make(task, simulator=folder)
        alone, info = single.reset(seed=seeds[row])
        assert np.array_equal(alone, seen[0][0][row])
        ended = False
        for t, (observation, reward, terminated, truncated, infos) in enumerate(seen[1:]):
            if ended:
                alone, info = single.reset()
                assert (reward[row], terminated[row], truncated[row]) == (0.0, False, False)
                assert infos["_episode_seed"][row] and infos["episode_seed"][row] == info["episode_seed"]
                ended = False
            else:
                alone, *rest, info = single.step(actions[t, row])
                assert rest == [reward[row], terminated[row], truncated[row]]
                assert "episode_seed" not in infos or not infos["_episode_seed"][row]
                ended = rest[1] or rest[2]
            endings += ended
            assert alone.tobytes() == observation[row].tobytes()
            for key in ("success", "is_success", "diverged"):
                assert infos[f"_{key}"][row] and infos[key][row] == info[key]
    assert endings or model == "tdmpc2"  # which ends where an end is likely, and is too small here to foresee one


@pytest.mark.parametrize("array", ["numpy", "torch"])
@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("task", [HOPPER, REACHER])
def test_results_are_laid_out_as_gymnasium_lays_them_out(task, mode, array, fitted):
    """The batched twin against Gymnasium's own vector environment over single twins: every value and every mask."""
    folder, rows = fitted(task, "linear"), 5
    ours = gym.make_vec(task, num_envs=rows, simulator=folder, autoreset_mode=mode.value, array=array)
    theirs = SyncVectorEnv([lambda: gym.make(task, simulator=folder)] * rows, autoreset_mode=mode)

    def compare(a, b):
        *a, i = a
        *b, j = b
        for p, q in zip(a, b, strict=True):
            equal(p, q)
            assert isinstance(p, torch.Tensor) == (array == "torch")
        if array == "torch" and "final_obs" in i:
            mask = j["_final_obs"]
            dense = i.pop("final_obs").numpy()
            equal(dense[mask], np.stack([o for o in j.pop("final_obs") if o is not None]))
            equal(dense[~mask], a[0].numpy()[~mask])
        equal(i, j)
        assert ours.np_random_seed == theirs.np_random_seed

    ended = 0
    for seed in (3, [8, None, 2, None, 4], None, 6):
        compare(ours.reset(seed=seed), theirs.reset(seed=seed))
        for action in actions_for(task, 70, rows):
            result = ours.step(torch.from_numpy(action) if array == "torch" else action)
            expected = theirs.step(action)
            compare(result, expected)
            over = expected[2] | expected[3]
            ended += over.sum()
            if mode is AutoresetMode.DISABLED and over.any():
                seeds = [None, 77, None, 78, None]
                masks = [{"reset_mask": over.copy()} for _ in range(2)]
                compare(*(e.reset(seed=seeds, options=o) for e, o in zip((ours, theirs), masks, strict=True)))
    assert ended >= 3 * rows


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_rows_may_be_reset_in_the_middle(mode, fitted):
    folder = fitted(HOPPER, "linear")
    ours = gym.make_vec(HOPPER, num_envs=4, simulator=folder, autoreset_mode=mode.value)
    theirs = SyncVectorEnv([lambda: gym.make(HOPPER, simulator=folder)] * 4, autoreset_mode=mode)
    ours.reset(seed=0), theirs.reset(seed=0)
    mask = np.array([True, False, True, False])
    over = np.zeros(4, bool)
    for t, action in enumerate(actions_for(HOPPER, 40, 4)):
        if t % 7 == 3 or (mode is AutoresetMode.DISABLED and over.any()):
            for a, b in zip(*(e.reset(options={"reset_mask": mask | over}) for e in (ours, theirs)), strict=True):
                equal(a, b)
        a, b = ours.step(action), theirs.step(action)
        for p, q in zip(a, b, strict=True):
            equal(p, q)
        over = b[2] | b[3] if mode is AutoresetMode.DISABLED else over


@pytest.mark.parametrize("array", ["numpy", "torch"])
def test_a_time_limit_is_the_cards_and_a_truncation(array, fitted):
    horizon = wmbench.task_card(REACHER).horizon
    env = gym.make_vec(REACHER, num_envs=3, simulator=fitted(REACHER, "copy-last"), array=array)
    env.reset(seed=0)
    for t in range(1, horizon + 1):
        _, _, terminated, truncated, _ = env.step(actions_for(REACHER, 1, 3)[0])
        assert not terminated.any() and bool(truncated.all()) == (t == horizon) == bool(truncated.any())


class Fragile:
    """Counts rows' steps; the prediction of a row whose first action is above a half is spoilt."""

    def __init__(self, task, device, spoil=None, **card):
        self.task, self.spoil = task, spoil
        fields = {
            "name": "fragile",
            "task_ids": (task.id,),
            "predicts": frozenset({"observation", "reward", "terminated"}),
            **dict.fromkeys(("inputs", "condition", "consumer", "risk"), "test"),
        }
        self.card = ModelCard(**(fields | card))
        self.seen = []

    def initial(self, start, *, keys):
        return {"x": start.observation, "step": torch.zeros_like(keys)}

    def step(self, state, action, *, uncertainty=False):
        self.seen.append(state["x"])
        step = state["step"] + 1
        x = state["x"] + 1.0
        p = Prediction(x.clone(), reward=step.double(), terminated=torch.zeros(len(x)))
        bad = action[:, 0] > 0.5
        if uncertainty:
            p.uncertainty = {"doubt": torch.where(bad, torch.nan, step.float()), "age": step.float()}
        if self.spoil is not None:
            p = self.spoil(p, bad)
        return {"x": p.observation.float(), "step": step}, p


def put(head, value):
    def spoil(p, bad):
        old = getattr(p, head)
        mask = bad[:, None] if old.ndim == 2 else bad
        return dataclasses.replace(p, **{head: torch.where(mask, torch.full_like(old, value), old)})

    return spoil


def overflow(p, bad):
    """A float64 observation that no float32 can hold."""
    return dataclasses.replace(p, observation=p.observation.double() + bad.double()[:, None] * 1e300)


def all_at_once(p, bad):
    """NaN where the model also says that the task ends: nobody knows, so it is a truncation."""
    p = put("observation", torch.nan)(p, bad)
    return dataclasses.replace(p, terminated=bad.float())


SPOILT = {
    "NaN at an ending": all_at_once,
    "observation NaN": put("observation", torch.nan),
    "observation infinite": put("observation", -torch.inf),
    "observation overflow": overflow,
    "reward NaN": put("reward", torch.nan),
    "reward infinite": put("reward", torch.inf),
    "reward overflow": put("reward", -1e39),
    "terminated NaN": put("terminated", torch.nan),
}


@pytest.mark.parametrize("array", ["numpy", "torch"])
@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("spoil", SPOILT)
def test_a_diverged_row_is_truncated_counted_and_alone(spoil, mode, array, world_model):
    name = world_model("fragile", lambda task, device: Fragile(task, device, SPOILT[spoil]))
    env = gym.make_vec(HOPPER, num_envs=4, simulator=name, autoreset_mode=mode.value, array=array)
    first = np.asarray(env.reset(seed=0)[0])
    good = np.zeros((4, 3), np.float32)
    bad = good.copy()
    bad[2, 0] = 1.0
    env.step(good)
    observation, reward, terminated, truncated, info = env.step(bad)
    alone = np.array([False, False, True, False])
    assert np.array_equal(np.asarray(truncated), alone) and not terminated.any()
    assert np.array_equal(np.asarray(reward), [2.0, 2.0, 0.0, 2.0])
    if mode is AutoresetMode.SAME_STEP:
        last = np.asarray(info["final_obs"][2])
        final = info["final_info"]
        assert bool(final["diverged"][2]) and not bool(final["success"][2]) and not bool(info["diverged"][2])
    else:
        last = np.asarray(observation[2])
        assert np.array_equal(np.asarray(info["diverged"]), alone) and np.asarray(info["_diverged"]).all()
    assert np.array_equal(last, (first + 1)[2]), "the last finite observation"
    assert np.array_equal(np.asarray(observation)[~alone], (first + 1 + 1)[~alone])
    assert env.unwrapped.diverged_count == 1
    if mode is AutoresetMode.DISABLED:
        env.reset(options={"reset_mask": alone})
    for _ in range(3):
        observation, reward, *_, info = env.step(good)
        assert np.isfinite(np.asarray(observation)).all() and not np.asarray(info["diverged"]).any()
    assert np.array_equal(np.asarray(observation)[~alone], (first + 1 + 1 + 1 + 1 + 1)[~alone])
    assert all(torch.isfinite(x).all() for x in env.unwrapped.model.seen), "no spoilt state was used again"
    assert env.unwrapped.diverged_count == 1


def test_a_single_twin_diverges_alike(world_model):
    name = world_model("fragile", lambda task, device: Fragile(task, device, SPOILT["observation NaN"]))
    env = gym.make(HOPPER, simulator=name)
    first, info = env.reset(seed=0)
    assert info["diverged"] is False
    observation, reward, terminated, truncated, info = env.step(np.array([1, 0, 0], np.float32))
    assert np.array_equal(observation, first) and (reward, terminated, truncated) == (0.0, False, True)
    assert info == {"success": False, "is_success": False, "diverged": True}
    assert env.unwrapped.diverged_count == 1


def test_a_diverged_episode_is_no_success(world_model):
    """Its return is far above the threshold, but nobody knows what happened."""
    name = world_model("fragile", lambda task, device: Fragile(task, device, put("observation", torch.nan)))
    env = gym.make(HOPPER, simulator=name)
    env.reset(seed=0)
    threshold = env.unwrapped.card.success.threshold
    total = 0.0
    while total < threshold:
        _, reward, *_, info = env.step(np.zeros(3, np.float32))
        total += reward
        assert info["success"] is False, "not before the end"
    *_, truncated, info = env.step(np.array([1, 0, 0], np.float32))
    assert truncated and info["diverged"] and not info["success"]


def test_uncertainty_is_named_and_never_nan(world_model):
    heads = frozenset({"observation", "reward", "terminated", "uncertainty"})
    card = {"predicts": heads, "uncertainty": ("doubt", "age")}
    name = world_model("unsure", lambda task, device: Fragile(task, device, **card))
    action = np.zeros((3, 3), np.float32)
    action[1, 0] = 1.0
    for array in ("numpy", "torch"):
        env = gym.make_vec(HOPPER, num_envs=3, simulator=name, uncertainty=True, array=array)
        env.reset(seed=0)
        info = env.step(action)[-1]
        assert np.asarray(info["_uncertainty"]).all() and np.asarray(info["uncertainty"]["_doubt"]).all()
        assert np.array_equal(np.asarray(info["uncertainty"]["doubt"]), [1, np.inf, 1])
        assert np.array_equal(np.asarray(info["uncertainty"]["age"]), [1, 1, 1])
    single = gym.make(HOPPER, simulator=name, uncertainty=True)
    single.reset(seed=0)
    assert single.step(action[1])[-1]["uncertainty"] == {"doubt": np.inf, "age": 1.0}
    quiet = gym.make(HOPPER, simulator=name)
    quiet.reset(seed=0)
    assert "uncertainty" not in quiet.step(action[0])[-1]


def test_resets_of_one_row_leave_the_keys_of_others(fitted):
    """The same noise in row 0 whether or not row 1 begins anew in between."""
    env = gym.make_vec(CARTPOLE, num_envs=2, simulator=fitted(CARTPOLE, "random-walk"), autoreset_mode="Disabled")

    def run(disturb):
        env.reset(seed=[1, 2])
        out = []
        for t in range(6):
            if disturb and t % 2 == 0:
                env.reset(seed=[0, 50 + t], options={"reset_mask": np.array([False, True])})
            out.append(env.step(np.zeros((2, 1), np.float32))[0][0])
        return np.array(out)

    assert np.array_equal(run(False), run(True))


def test_a_kept_model_state_is_a_value(fitted):
    """What the environment does next does not reach into a state that somebody has kept to branch from."""
    env = gym.make_vec(CARTPOLE, num_envs=2, simulator=fitted(CARTPOLE, "random-walk"))
    env.reset(seed=0)
    kept = env.unwrapped.model_state
    copy = {k: v.clone() for k, v in kept.items()}
    env.reset(seed=9, options={"reset_mask": np.array([False, True])})
    env.step(np.zeros((2, 1), np.float32))
    assert all(torch.equal(kept[k], copy[k]) for k in copy)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", [m.value for m in AutoresetMode if m is not AutoresetMode.DISABLED])
@pytest.mark.parametrize("model", MODELS)
def test_on_a_gpu_everything_stays_there_and_agrees_to_a_tolerance(model, mode, fitted):
    """The same seeds and actions; rows whose drawn ending falls on another side by rounding are not expected here."""
    kwargs = {"num_envs": 64, "simulator": fitted(REACHER, model), "autoreset_mode": mode, "array": "torch"}
    cpu, gpu = gym.make_vec(REACHER, **kwargs), gym.make_vec(REACHER, device="cuda", **kwargs)
    a, b = cpu.reset(seed=0)[0], gpu.reset(seed=0)[0]
    assert b.is_cuda and torch.equal(a, b.cpu())
    for action in torch.from_numpy(actions_for(REACHER, 60, 64)):
        x, y = cpu.step(action), gpu.step(action.cuda())
        for p, q in zip(x[:4], y[:4], strict=True):
            assert q.is_cuda and p.dtype == q.dtype
            torch.testing.assert_close(p, q.cpu(), rtol=1e-4, atol=1e-4)
        assert x[4].keys() == y[4].keys() and all(v.is_cuda for v in y[4].values() if isinstance(v, torch.Tensor))
