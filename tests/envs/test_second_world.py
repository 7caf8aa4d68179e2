"""Other worlds in the true simulators: every perturbation acts, leaves no trace, is restored, and is what it says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest

import wmbench
from wmbench.cards import TaskCard
from wmbench.errors import CardError, StateError, WorldError
from wmbench.worlds import PERTURBATIONS, parse_world, supported
from wmbench_envs.mujoco_world import ModelWorld
from wmbench_envs.true_branch import HEADER
from wmbench_envs.true_env import TrueEnv

CARDS = [pytest.param(card, id=card.name) for card in wmbench.task_cards().values()]
FAR = {"mass": 2.0, "friction": 0.15, "damping": 0.2, "gain": 0.4, "gravity": 0.5}
MODELS = [
    "DMC-FingerSpin",
    "Gym-Hopper",
    "Gym-Humanoid",
    "Gym-Ant",
    "DMC-CheetahRun",
    "DMC-BallInCupCatch",
    "DMC-ReacherEasy",
]


def actions(card: TaskCard, seed: int, n: int) -> np.ndarray:
    """Random actions, held so that bodies move and touch: the ends of the box or, for odd seeds, anything inside."""
    rng = np.random.default_rng(seed)
    low, high = card.action_bounds()
    held = 8 if seed % 2 else 20
    drawn = rng.random((n // held + 1, len(low)))
    drawn = drawn if seed % 2 else np.round(drawn)
    return np.repeat((low + drawn * (high - low)).astype(np.float32), held, axis=0)[:n]


def rollout(env: Any, chosen: np.ndarray) -> list[tuple]:
    steps = []
    for action in chosen:
        observation, *rest, info = env.step(action)
        steps.append((observation, *rest, info["success"]))
        if rest[1] or rest[2]:
            break
    return steps


def equal(a: list[tuple], b: list[tuple]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x[0], y[0]) and x[1:] == y[1:] for x, y in zip(a, b, strict=True))


def data_of(env: TrueEnv) -> tuple[Any, Any]:
    backend = env._backend
    return (
        (backend._env.model, backend._env.data) if env.card.suite == "gym-mujoco" else (backend._model, backend._data)
    )


def episode(env: Any, card: TaskCard, seed: int, most: int) -> Iterator[tuple]:
    """What is seen from the reset on, step by step."""
    yield env.reset(seed=seed)[0], 0.0
    for action in actions(card, seed, most):
        observation, reward, terminated, truncated, _ = env.step(action)
        yield observation, reward
        if terminated or truncated:
            return


def same(a: Iterable[tuple], b: Iterable[tuple]) -> bool:
    """Whether two episodes are equal bit for bit, looked at up to the first difference."""
    return all(np.array_equal(x[0], y[0]) and x[1] == y[1] for x, y in zip(a, b, strict=False))


@pytest.mark.parametrize("card", CARDS)
def test_every_perturbation_acts_and_the_nominal_value_does_not(card: TaskCard) -> None:
    plain = gym.make(card.id).unwrapped
    other = gym.make(card.id, world={"mass": 1.0}).unwrapped
    idle = [name for name in card.perturbations if PERTURBATIONS[name].part == "physics"]
    steps = 20 if card.suite == "maniskill" else 100  # whose steps take milliseconds
    for seed in range(4):
        expected = list(episode(plain, card, seed, steps))
        for name in idle[:]:
            other._backend._world = parse_world(card, {name: FAR[name]})  # as if made with it, but sooner
            if not same(episode(other, card, seed, steps), expected):
                idle.remove(name)
        if not idle:
            break
    assert not idle, "these change nothing"
    other._backend._world = parse_world(card, {name: PERTURBATIONS[name].nominal for name in supported(card)})
    assert same(episode(other, card, seed, steps), expected)


@pytest.mark.parametrize("card", CARDS)
def test_states_restore_the_world_in_other_environments(card: TaskCard) -> None:
    few = card.suite == "maniskill"
    env, other = (gym.make(card.id, world=world).unwrapped for world in ("far", "near"))
    other.reset(seed=77)  # in another world, and of an environment that never draws this one
    chosen = actions(card, 0, 14 if few else 60)
    _, info = env.reset(seed=5)
    assert list(info["world"]) == list(supported(card))
    assert all(PERTURBATIONS[name].where(value) == "far" for name, value in info["world"].items())
    steps, states = [], []
    for action in chosen:
        states.append(env.get_state())
        steps += rollout(env, action[None])
        if steps[-1][2] or steps[-1][3]:
            break
    for i in [k for k in ((4,) if few else (0, 7, 33)) if k < len(steps)]:
        other.reset(seed=78)
        seen = other.set_state(states[i])
        assert i == 0 or np.array_equal(seen, steps[i - 1][0])
        assert np.array_equal(other.get_state(), states[i])
        assert equal(rollout(other, chosen[i:]), steps[i:])
    assert other.reset(seed=78)[1]["world"] == parse_world(card, "near").draw(78)


@pytest.mark.parametrize("name", MODELS)
def test_worlds_leave_no_trace_in_the_model(name: str) -> None:
    card = wmbench.task_card(name)
    env = TrueEnv(card)
    env.reset(seed=0)
    model, _ = data_of(env)
    before = saved(model)
    world = ModelWorld(model)
    for values in ({"mass": 2.0, "friction": 0.2}, {"gravity": 0.3, "damping": 0.1, "gain": 2.0}, {"mass": 0.5}, {}):
        world.apply(values)
        assert (saved(model) == before) == (not values)
    world.apply({"mass": 2.0})
    twice = saved(model)
    world.apply({"mass": 0.7, "gain": 0.5})
    world.apply({"mass": 2.0})
    assert saved(model) == twice  # relative to the nominal model, not to the world before


def saved(model: Any) -> bytes:
    """All numbers of a model."""
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def test_a_heavier_model_is_the_one_that_mujoco_compiles() -> None:
    text = """<mujoco><option gravity="0 0 -9.81"/><worldbody><geom type="plane" size="9 9 1" mass="0"/>
      <body name="a" pos="0 0 1"><freejoint/><geom type="capsule" size=".1 .2" mass="{0}"/>
        <body pos="0 0 .4"><joint name="j" type="hinge" axis="0 1 0" armature=".1"/>
          <geom type="box" size=".1 .1 .2" mass="{1}"/></body></body></worldbody>
      <actuator><motor joint="j"/></actuator></mujoco>"""
    light, heavy = (mujoco.MjModel.from_xml_string(text.format(f * 2.0, f * 3.0)) for f in (1.0, 2.5))
    ModelWorld(light).apply({"mass": 2.5})
    for field in dir(heavy):
        value = getattr(heavy, field)
        if isinstance(value, np.ndarray) and value.dtype == np.float64:
            assert np.allclose(getattr(light, field), value, rtol=1e-12, atol=1e-14), field
    assert light.stat.extent == heavy.stat.extent
    assert light.stat.meanmass == pytest.approx(heavy.stat.meanmass, rel=1e-12)
    assert light.stat.meaninertia == pytest.approx(heavy.stat.meaninertia, rel=1e-12)


def test_a_free_fall_under_changed_gravity_is_exact() -> None:
    env = gym.make("wmbench/Gym-Ant-v0", world={"gravity": 0.25, "mass": 3.0}).unwrapped
    env.reset(seed=0)
    model, data = data_of(env)
    data.qpos[7:] = model.jnt_range[1:].mean(1)  # no joint at its limit
    data.qpos[2] = 5.0  # metres above the ground; the task itself would end here
    data.qvel[:] = 0.0
    mujoco.mj_forward(model, data)
    for k in range(1, 6):
        env._backend.step(np.zeros(8, np.float32))
        t = k * env.card.dt
        assert data.qvel[2] == pytest.approx(-0.25 * 9.81 * t, rel=1e-9)
        assert data.qpos[2] == pytest.approx(5.0 - 0.25 * 9.81 * t * t / 2, rel=1e-9)


def test_a_pendulum_swings_as_fast_as_gravity_says() -> None:
    card = wmbench.task_card("DMC-PendulumSwingup")
    periods = {}
    for gravity in (1.0, 4.0):
        env = gym.make(card.id, world={"gravity": gravity, "damping": 0.0}).unwrapped
        env.reset(seed=0)
        model, data = data_of(env)
        data.qpos[:], data.qvel[:] = np.pi - 0.05, 0.0  # almost hanging; zero is upright
        mujoco.mj_forward(model, data)
        speed = [env.step(np.zeros(1, np.float32))[0][2] for _ in range(900)]
        turns = np.flatnonzero(np.diff(np.sign(speed)))
        periods[gravity] = 2 * np.diff(turns).mean() * card.dt
    assert periods[1.0] / periods[4.0] == pytest.approx(2.0, rel=0.01)


def test_twice_the_gain_on_twice_the_mass_moves_alike() -> None:
    card = wmbench.task_card("Gym-InvertedPendulum")  # no friction; damping and gravity scale with the masses here
    plain = gym.make(card.id).unwrapped
    other = gym.make(card.id, world={"mass": 2.0, "gain": 2.0, "damping": 2.0}).unwrapped
    model, _ = data_of(plain)
    model.dof_armature[:] = 0.0
    data_of(other)[0].dof_armature[:] = 0.0
    plain.reset(seed=0), other.reset(seed=0)
    for action in actions(card, 1, 20):
        a, b = plain.step(action), other.step(action)
        assert np.allclose(a[0], b[0], rtol=1e-4, atol=1e-5)
        if a[2]:
            break


@pytest.mark.parametrize("name", ["DMC-CartpoleSwingup", "Gym-HalfCheetah", "MS-PickCube"])
def test_a_delayed_task_is_the_task_under_shifted_actions(name: str) -> None:
    card = wmbench.task_card(name)
    plain, late = gym.make(card.id).unwrapped, gym.make(card.id, world={"delay": 3}).unwrapped
    chosen = actions(card, 1, 20)
    first = np.clip(np.zeros((3, len(card.action)), np.float32), *card.action_bounds())
    plain.reset(seed=2), late.reset(seed=2)
    assert equal(rollout(late, chosen), rollout(plain, np.concatenate([first, chosen])[:20]))


def test_an_action_on_its_way_is_a_copy_inside_the_bounds() -> None:
    env, same = (gym.make("wmbench/DMC-CartpoleSwingup-v0", world={"delay": 2}).unwrapped for _ in range(2))
    env.reset(seed=0), same.reset(seed=0)
    action = np.array([3.0], np.float32)
    for _ in range(5):
        a = env.step(action)[0]
        action[:] = 3.0 - action  # what is done to the array afterwards is nobody's business
        b = same.step(np.clip(3.0 - action, -1, 1))[0]
        assert np.array_equal(a, b)


def test_noise_is_on_what_is_seen_and_not_on_what_counts() -> None:
    card = wmbench.task_card("DMC-ReacherEasy")  # whose success is read off the observation
    share = 0.2
    plain, noisy = gym.make(card.id).unwrapped, gym.make(card.id, world={"noise": share}).unwrapped
    gaps = []
    for seed in range(8):
        a, _ = plain.reset(seed=seed)
        b, _ = noisy.reset(seed=seed)
        gaps.append(b - a)
        for action in actions(card, seed, 60):
            a, *exact, info = plain.step(action)
            b, *found, seen = noisy.step(action)
            assert exact == found
            assert info["success"] == seen["success"]
            gaps.append(b - a)
    scale = np.std(gaps, axis=0) / (share * np.array(card.typical_std))
    assert np.allclose(scale, 1.0, rtol=0.12)
    assert noisy.observation_space.contains(b)
    again = gym.make(card.id, world={"noise": share}).unwrapped
    assert np.array_equal(again.reset(seed=0)[0] - plain.reset(seed=0)[0], gaps[0])


def test_branches_of_a_late_world_equal_stepping(monkeypatch: pytest.MonkeyPatch) -> None:
    card = wmbench.task_card("Gym-HalfCheetah")
    env = gym.make(card.id, world={"mass": 1.7, "delay": 2}).unwrapped
    env.reset(seed=0)
    states = []
    for action in actions(card, 1, 12):
        env.step(action)
        states.append(env.get_state())
    chosen = np.stack([actions(card, seed, 6) for seed in range(len(states))])
    found = env.branch(np.array(states), chosen, np.full(len(states), 6))
    assert found is not None
    for r, state in enumerate(states):
        env.set_state(state)
        steps = rollout(env, chosen[r])
        assert np.array_equal(found[0][r], [s[0] for s in steps])
        assert np.array_equal(found[1][r], [s[1] for s in steps])
    noisy = gym.make(card.id, world={"noise": 0.1}).unwrapped
    noisy.reset(seed=0)
    assert noisy.branch(noisy.get_state()[None], chosen[:1], np.array([6])) is None
    near = gym.make(card.id, world={"mass": "near"}).unwrapped
    both = np.array([near.get_state() for seed in (1, 2) if near.reset(seed=seed)])
    assert near.branch(both, chosen[:2], np.array([6, 6])) is None  # two worlds at once


def test_states_of_worlds_are_checked() -> None:
    plain, other = (gym.make("wmbench/Gym-Hopper-v0", world=w).unwrapped for w in (None, {"mass": 2.0}))
    plain.reset(seed=0), other.reset(seed=0)
    state = other.get_state()
    with pytest.raises(StateError, match=r"floats, got shape .* of the nominal world and of others differ in size"):
        plain.set_state(state)
    with pytest.raises(StateError, match="of the nominal world and of others differ in size"):
        other.set_state(plain.get_state())
    for at, value, fault in (
        (HEADER + 2, -1.0, "mass is -1"),
        (HEADER, 0.5, "seed 0.5"),
        (HEADER + 1, -1.0, "-1 steps"),
    ):
        bad = state.copy()
        bad[at] = value
        with pytest.raises(StateError, match=fault):
            other.set_state(bad)
    assert np.array_equal(other.get_state(), state)


def test_worlds_are_options_of_make() -> None:
    env = gym.make("wmbench/DMC-CartpoleSwingup-v0", world={"mass": 1.5})
    assert json.loads(env.spec.to_json())["kwargs"]["world"] == {"mass": 1.5}
    assert "world" not in gym.make("wmbench/DMC-CartpoleSwingup-v0").reset(seed=0)[1]
    assert "world" not in gym.make("wmbench/DMC-CartpoleSwingup-v0", world="nominal").reset(seed=0)[1]
    with pytest.raises(WorldError, match=r"DMC-CartpoleSwingup-v0: friction cannot be varied"):
        gym.make("wmbench/DMC-CartpoleSwingup-v0", world={"friction": 0.5})
    with pytest.raises(WorldError, match="a learned simulator has the world of the data it was trained on"):
        gym.make("wmbench/DMC-CartpoleSwingup-v0", simulator="ensemble", world="far")
    with pytest.raises(WorldError, match="a learned simulator"):
        gym.make_vec("wmbench/DMC-CartpoleSwingup-v0", num_envs=2, simulator="ensemble", world={"mass": 2.0})


def test_the_gpu_simulation_of_maniskill_has_one_world() -> None:
    with pytest.raises(WorldError, match="MS-PickCube-v0: the GPU simulation has the nominal world alone"):
        gym.make_vec("wmbench/MS-PickCube-v0", num_envs=2, device="cuda", world="far")


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_rows_draw_their_own_worlds(vectorization: str) -> None:
    card = wmbench.task_card("DMC-PendulumSwingup")
    rows = gym.make_vec(card.id, num_envs=3, world="far", vectorization=vectorization)
    observation, infos = rows.reset(seed=[4, 5, 6])
    one = gym.make(card.id, world="far")
    for i, seed in enumerate((4, 5, 6)):
        seen, info = one.reset(seed=seed)
        assert np.array_equal(seen, observation[i])
        assert {name: infos["world"][name][i] for name in info["world"]} == info["world"]
    rows.close()


def test_a_backend_that_cannot_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from wmbench_envs.dm_control import DmControl

    monkeypatch.delattr(DmControl, "perturb")
    with pytest.raises(CardError, match=r"lists perturbations, but DmControl has no perturb\(\)"):
        gym.make("wmbench/DMC-CartpoleSwingup-v0", world="near")


def test_what_a_reset_sets_in_the_model_is_varied_too() -> None:
    """dm_control's finger sets the damping of its spinner at every reset."""
    card = wmbench.task_card("DMC-FingerSpin")
    plain, other = gym.make(card.id).unwrapped, gym.make(card.id, world={"damping": 2.0}).unwrapped
    for seed in range(3):
        plain.reset(seed=seed), other.reset(seed=seed)
        assert np.array_equal(data_of(other)[0].dof_damping, 2.0 * data_of(plain)[0].dof_damping)
