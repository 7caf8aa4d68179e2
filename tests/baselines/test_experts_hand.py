"""Scripted hands: rotations against another implementation, phases, worse hands, and recoveries."""

import gymnasium as gym
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wmbench.errors import CheckpointError
from wmbench.evaluating import make_policy
from wmbench.registration import task_card
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds
from wmbench_baselines.experts import Expert, Pushed, WrongTarget, poses
from wmbench_baselines.experts.expert import CANDIDATES, SCRIPTED, ExpertConfig
from wmbench_baselines.experts.hand import STEP, Hand, Phase, Scene, advance
from wmbench_baselines.experts.worse import PushedConfig

HANDS = sorted(task for task, (made, _) in (SCRIPTED | CANDIDATES).items() if issubclass(made, Hand))
RNG = np.random.default_rng(0)


def turns(n):
    """Random rotations, as (4, n) with w first and as SciPy's."""
    found = Rotation.random(n, rng=np.random.default_rng(n))
    return np.roll(found.as_quat(), 1, axis=1).T.copy(), found


def test_rotations_are_scipys():
    (a, one), (b, other) = turns(50), turns(51)
    b, other = b[:, :50], other[:50]
    v = RNG.normal(size=(3, 50))
    assert np.allclose(poses.rotate(a, v), one.apply(v.T).T)
    assert np.allclose(poses.rotate(poses.multiply(a, b), v), (one * other).apply(v.T).T)
    assert np.allclose(poses.rotate(poses.inverse(a), poses.rotate(a, v)), v)
    assert np.allclose(poses.rotation_vector(a), one.as_rotvec().T)
    assert np.allclose(poses.rotation_vector(-a), one.as_rotvec().T)
    assert np.allclose(poses.rotate(poses.turn_by(poses.rotation_vector(a)), v), one.apply(v.T).T)
    assert np.allclose(poses.turn_by(np.zeros((3, 1))), [[1], [0], [0], [0]])
    x = poses.rotate(a, poses.vectors(1.0, 0.0, 0.0))
    assert np.allclose(poses.heading(a), np.arctan2(x[1], x[0]))
    y = poses.rotate(b, poses.vectors(1.0, 0.0, 0.0))
    assert np.allclose(poses.rotate(poses.between(x, y), x), y)
    for axis in range(3):
        assert np.allclose(poses.rotation_vector(poses.about(axis, 0.3))[:, 0], 0.3 * np.eye(3)[axis])


def test_a_hand_that_points_down_points_down():
    angle = np.linspace(-3, 3, 7)
    turn = poses.down(angle)
    assert np.allclose(poses.rotate(turn, poses.vectors(0.0, 0.0, 1.0)).T, [0, 0, -1])
    assert np.allclose(poses.heading(turn), angle)
    assert np.allclose(
        poses.nearest(np.array([3.0, -0.1]), np.array([0.0, 3.0]), np.pi / 2), [-0.14159, 3.0416], atol=1e-4
    )


def phase(done, **rest):
    return Phase(np.zeros((3, len(done))), np.array(done), **rest)


def test_phases_follow_each_other_row_by_row():
    phases = [
        phase([True, True, False, False, False]),
        phase([True, False, False, True, True], least=2, most=9),
        phase([True] * 5, lost=np.array([False, False, False, False, True])),
    ]
    number, steps = advance(phases, np.array([0, 1, 0, 1, 2]), np.array([5, 9, 3, 1, 4]))
    assert number.tolist() == [1, 2, 0, 1, 0]  # at most as far as `least` lets it; timed out; not done; too early; lost
    assert steps.tolist() == [0, 0, 3, 1, 0]
    hasty = phase([False, False], least=9, skip=np.array([True, False]))
    assert advance([hasty, phase([False] * 2)], np.zeros(2, np.int64), np.zeros(2, np.int64))[0].tolist() == [1, 0]
    assert advance([phase([True]), phase([True]), phase([True])], np.array([0]), np.array([0]))[0] == 2  # through


def test_a_step_moves_and_turns_the_hand_as_the_scripts_assume():
    with gym.make("wmbench/MS-PickCube-v0") as env:
        card = env.unwrapped.card

        def steps(action, n):
            for _ in range(n):
                observation, *_ = env.step(action)
            scene = Scene(card, observation[:, None].astype(np.float64))
            return scene.place("tcp"), scene.turn("tcp")

        for number in range(6):
            env.reset(seed=0)
            action = np.zeros(7, np.float32)
            action[number] = 0.5
            place, turn = steps(action, 3)  # after which it has got going
            moved, turned = steps(action, 1)
            if number < 3:
                step = (moved - place)[number, 0]
            else:  # ManiSkill turns the other way
                step = -poses.rotation_vector(poses.multiply(turned, poses.inverse(turn)))[number - 3, 0]
            assert step == pytest.approx(0.5 * STEP, rel=0.2), number


@pytest.mark.parametrize("task_id", HANDS)
def test_memory_goes_with_the_row(task_id):
    policy = Expert(ExpertConfig(candidates=True), task_card(task_id))
    n = 12
    shape = (6, n, len(policy.task.observation))
    seen = np.random.default_rng(1).normal(scale=0.1, size=shape).astype(np.float32)

    def play(rows):
        memory, actions = policy.initial(len(rows)), []
        for observation in seen:
            action, memory = policy.act(observation[rows], memory, keys=np.zeros(len(rows), np.int64))
            actions.append(action)
        return np.stack(actions), memory

    whole, memory = play(np.arange(n))
    assert np.isfinite(whole).all() and memory["phase"].shape == (n,)
    for rows in (np.array([3]), np.array([7, 1]), np.arange(n)[::-1]):
        assert np.array_equal(play(rows)[0], whole[:, rows])


def last(task_id, policy, seed=0):
    """The last observation of an episode, and the episode."""
    card = task_card(task_id)
    episode = rollout(card, policy, episode_seeds(seed, card.id, "eval", 1))[0]
    return Scene(card, episode.observation[-1:].T.astype(np.float64)), episode


@pytest.mark.parametrize(
    "task_id", [task for task in sorted(SCRIPTED) if "MS-PickCube" in task or "MS-StackCube" in task]
)
def test_a_wrong_target_is_reached_as_well(task_id):
    scene, episode = last(task_id, WrongTarget.for_task(task_card(task_id)))
    assert not episode.success.any()
    if "StackCube" in task_id:
        offset = scene.place("cube_b") - scene.place("cube_a")
        assert abs(offset[2, 0] - 0.04) < 0.005 and poses.level(offset)[0] < 0.02
    else:
        off = scene.place("cube") - scene.place("goal")
        assert abs(off[1, 0]) == pytest.approx(0.15, abs=0.02) and abs(off[2, 0]) < 0.02


def test_a_task_without_another_target_says_so():
    with pytest.raises(CheckpointError, match=r"CartpoleBalance.*no target.*MS-PickCube"):
        make_policy("wrong-target", task_card("DMC-CartpoleBalance"))


def test_a_pushed_hand_takes_over_again():
    card = task_card("MS-PickCube")
    pushed = Pushed(PushedConfig(pushes=2, length=4, quiet=0.5), card)
    seeds = [s for s in episode_seeds(0, card.id, "eval", 12) if pushed.interventions([s], card.horizon)[0].any()][:3]
    flags = pushed.interventions(seeds, card.horizon)
    recovered = [
        bool(episode.success[row.nonzero()[0][-1] :].any())
        for episode, row in zip(rollout(card, pushed, seeds), flags, strict=True)
    ]
    assert len(recovered) == 3 and sum(recovered) >= 2


def test_scenes_are_read_by_name():
    card = task_card("MS-StackCube")
    names = [d.name for d in card.observation]
    scene = Scene(card, np.arange(len(names), dtype=np.float64)[:, None])
    assert scene.place("cube_b")[2, 0] == names.index("cube_b_z")
    swapped = scene.renamed({"cube_a": "cube_b", "cube_b": "cube_a"})
    assert np.array_equal(swapped.place("cube_a"), scene.place("cube_b"))
    assert np.array_equal(swapped.turn("cube_b"), scene.turn("cube_a"))
    moved = swapped.moved(cube_a=np.zeros((3, 1)))
    assert not moved.place("cube_a").any() and np.array_equal(moved.place("cube_b"), swapped.place("cube_b"))
