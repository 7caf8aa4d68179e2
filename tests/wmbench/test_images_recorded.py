"""Pictures through rollouts, datasets and windows; policies that act on what they declare."""

import dataclasses
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench.collecting.sources import NoisyPolicy
from wmbench.commands.collect import main as collect_command
from wmbench.commands.inspect import main as inspect_command
from wmbench.delays import FixedDelay
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError, RenderError, ViewError
from wmbench.evaluating import make_policy
from wmbench.registration import task_card
from wmbench.rollout import rollout
from wmbench.views import View, wanted_by

TASK = "Gym-InvertedPendulum"  # whose episodes are short
VIEW = View.parse("rgb+depth", image_size=(12, 16))


@pytest.fixture(autouse=True, scope="module")
def opengl() -> None:
    """Skip where no picture can be made at all."""
    env = gym.make(task_card(TASK).id, observation="rgb", image_size=8)
    try:
        env.reset(seed=0)
    except RenderError as error:
        pytest.skip(str(error))
    finally:
        env.close()


class Pixels:
    """Pushes by the mean difference of the last two pictures: a function of what is seen alone."""

    observation = "rgb"
    image_size = (12, 16)
    frame_stack = 2

    def __init__(self, config=None, task=None) -> None:
        self.card = {"name": "pixels"}
        self.shapes: set[tuple[int, ...]] = set()

    def initial(self, batch_size):
        return None

    def act(self, observation, state, *, keys):
        assert observation.dtype == np.uint8
        self.shapes.add(observation.shape[1:])
        change = observation[:, 1].astype(np.float32) - observation[:, 0]  # (B, H, W, 3)
        place = np.linspace(-1, 1, 16, dtype=np.float32)[:, None]
        return np.clip(0.5 + (change * place).mean((1, 2, 3))[:, None], -3, 3).astype(np.float32), state


class Both(Pixels):
    """Acts on the state and looks at a depth image beside it."""

    observation = "state+depth"
    frame_stack = 1

    def act(self, observation, state, *, keys):
        assert observation["depth"].shape[1:] == (12, 16, 1)
        return np.clip(observation["state"][:, 1:2] * 5, -3, 3) + 0 * observation["depth"].mean((1, 2)), state


def same(a, b) -> bool:
    return (
        all(np.array_equal(v, b.fields()[k]) for k, v in a.fields().items()) and a.fields().keys() == b.fields().keys()
    )


def test_an_episode_holds_what_the_environment_showed() -> None:
    random = make_policy("random", task_card(TASK))
    plain = rollout(TASK, random, [1, 2], record_state=True)
    seen = rollout(TASK, random, [1, 2], record_state=True, view=VIEW)
    env = gym.make(task_card(TASK).id, observation="rgb+depth", image_size=(12, 16))
    for a, b in zip(plain, seen, strict=True):
        extra, b.extra = b.extra, {}
        assert same(a, b)
        expected = [env.reset(seed=a.seed)[0], *(env.step(action)[0] for action in a.action)]
        for name in ("rgb", "depth"):
            assert np.array_equal(extra[name], [one[name] for one in expected])
        assert (extra["rgb"].dtype, extra["depth"].dtype) == (np.uint8, np.float32)


@pytest.mark.parametrize("policy", [Pixels, Both])
def test_policies_act_on_what_they_declare_the_same_in_any_batch(policy: type) -> None:
    seeds = [3, 4, 5, 6, 7]
    alone = rollout(TASK, policy(), seeds, view=VIEW)
    together = rollout(TASK, policy(), seeds, num_envs=3, view=VIEW)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert alone[0].extra["rgb"].shape == (len(alone[0]) + 1, 12, 16, 3)  # one picture per state, however many it sees
    nothing = rollout(TASK, policy(), seeds)
    assert all(np.array_equal(a.action, b.action) and not b.extra for a, b in zip(alone, nothing, strict=True))
    if policy is Pixels:
        processes = rollout(TASK, policy(), seeds, num_envs=2, vectorization="async", view=VIEW)
        assert all(same(a, b) for a, b in zip(alone, processes, strict=True))
        one = policy()
        rollout(TASK, one, [3])
        assert one.shapes == {(2, 12, 16, 3)}
        env = gym.make(task_card(TASK).id, observation="rgb", image_size=(12, 16), frame_stack=2)
        observation, _ = env.reset(seed=3)
        for action in alone[0].action:
            assert np.array_equal(one.act(observation[None], None, keys=None)[0][0], action)
            observation = env.step(action)[0]
    found = wmbench.evaluate(TASK, policy(), episodes=3, num_envs=2)
    assert all(o["valid"] for o in found.episodes)


def test_what_a_policy_wants_is_found_in_its_wrappings() -> None:
    card = task_card(TASK)
    assert wanted_by(NoisyPolicy(FixedDelay(Pixels(), card, 1), card, 0.1)) == View.parse(
        "rgb", image_size=(12, 16), frame_stack=2
    )
    assert wanted_by(make_policy("random", card)) == View()
    assert wanted_by(SimpleNamespace(policies=[Pixels(), Pixels()])).frame_stack == 2
    with pytest.raises(ViewError, match="side by side"):
        wanted_by(SimpleNamespace(policies=[Pixels(), Both()]))
    with pytest.raises(ViewError, match="recorded with height 20, and the policy acts on 12"):
        rollout(TASK, Pixels(), [1], view=View.parse("rgb", image_size=20))


def test_a_fault_stays_in_its_row() -> None:
    class Breaks(Pixels):
        def act(self, observation, state, *, keys):
            if len(observation) > 1 or observation.sum() % 5 == 0:
                raise RuntimeError("looked away")
            return super().act(observation, state, keys=keys)

    found = rollout(TASK, Breaks(), range(6), num_envs=3, on_error="record", view=VIEW)
    alone = rollout(TASK, Breaks(), range(6), on_error="record", view=VIEW)
    assert [f.invalid for f in found] == [a.invalid for a in alone]
    assert all(same(a, b) for a, b in zip(alone, found, strict=True))
    assert any(f.invalid for f in found)


@pytest.mark.usefixtures("unsynced")
def test_a_dataset_keeps_its_view(tmp_path) -> None:
    options = {"policy": Pixels(), "observation": "state+rgb", "image_size": [12, 16]}
    data = wmbench.collect(TASK, tmp_path / "a", episodes=4, **options)
    again = wmbench.collect(TASK, tmp_path / "b", episodes=2, **options)
    assert again.digest != data.digest
    assert wmbench.collect(TASK, tmp_path / "b", episodes=4, **options).digest == data.digest
    assert data.view == View.parse("state+rgb", image_size=(12, 16)).of(data.task)
    manifest = data.manifest["view"]
    assert (manifest["camera"], manifest["preset"], manifest["action_repeat"]) == ("free", "fast", 1)
    assert set(manifest["units"]) == {"rgb", "height", "width", "frame_stack", "action_repeat"}
    episode = data.episode(0)
    env = gym.make(data.task.id, observation="rgb", image_size=(12, 16)).unwrapped
    env.reset(seed=0)
    for t in (0, len(episode) // 2, len(episode)):
        assert np.array_equal(episode.extra["rgb"][t], env.set_state(episode.state[t]))
    for changed, fault in (
        ({"image_size": [16, 16]}, r"view.height 12, asked for 16"),
        ({"render_preset": "full"}, r"view.preset fast, asked for full"),
        ({"observation": "state"}, r"view \{.*asked for None"),
        ({"action_repeat": 2}, r"action_repeat=1, wanted for action_repeat=2"),
    ):
        with pytest.raises(DatasetError, match=fault):
            wmbench.collect(TASK, tmp_path / "a", episodes=4, **{**options, **changed})
    workers = wmbench.collect(TASK, tmp_path / "c", episodes=4, workers=2, **{**options, "policy": "random"})
    one = wmbench.collect(TASK, tmp_path / "d", episodes=4, **{**options, "policy": "random"})
    assert workers.digest == one.digest


@pytest.mark.usefixtures("unsynced")
def test_windows_of_pictures_and_their_stacks(tmp_path) -> None:
    data = wmbench.collect(TASK, tmp_path, episodes=6, observation="state+rgb", image_size=8)
    plain = data.windows("train", 3, batch_size=32, seed=1, fields=("observation", "rgb"))
    stacked = data.windows("train", 3, batch_size=32, seed=1, fields=("observation", "rgb"), frame_stack=4)
    batch, deep = plain.sample(), stacked.sample()
    assert (batch["rgb"].shape, batch["rgb"].dtype) == ((32, 4, 8, 8, 3), np.uint8)
    assert deep["rgb"].shape == (32, 4, 4, 8, 8, 3)
    assert np.array_equal(batch["observation"], deep["observation"])
    assert np.array_equal(batch["rgb"], deep["rgb"][:, :, -1])
    assert batch["step"].min() == 0
    for row, (number, step) in enumerate(zip(deep["episode"], deep["step"], strict=True)):
        pictures = data.episode(int(number)).extra["rgb"]
        for t in range(4):
            places = np.maximum(np.arange(step + t - 3, step + t + 1), 0)
            assert np.array_equal(deep["rgb"][row, t], pictures[places])
    reused = stacked.sample(out=deep)
    assert reused["rgb"] is deep["rgb"]
    with pytest.raises(DatasetError, match="frame_stack"):
        data.windows("train", 3, batch_size=2, seed=0, frame_stack=0)


@pytest.mark.usefixtures("unsynced")
def test_the_commands(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    collect_command(
        TASK, episodes=(8,), observation="state+rgb", image_size=(10,), action_repeat=2, camera="free", progress=False
    )
    data = Dataset(tmp_path / "datasets" / "Gym-InvertedPendulum-x2-rgb")
    assert data.task.action_repeat == data.manifest["view"]["action_repeat"] == 2
    assert dataclasses.replace(data.view, height=64, width=64) == View.parse("state+rgb").of(data.task)
    capsys.readouterr()
    inspect_command(data.folder, alignment=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "10 x 10 pixels, camera free, preset fast" in shown
    assert "every action for 2 control steps" in shown
