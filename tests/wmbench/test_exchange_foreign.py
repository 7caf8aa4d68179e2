"""Datasets that wmbench did not write: adopted where they fit their task, refused by field where they do not."""

from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.exchange import ExchangeWarning, import_

pytestmark = [pytest.mark.usefixtures("unsynced"), pytest.mark.filterwarnings("ignore::UserWarning")]
STATES = "states are unknown"


def needs(*modules):
    missing = [module for module in modules if find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{missing} not installed, see docs/exchange.md")


@pytest.fixture
def collected(tmp_path, monkeypatch):
    """Function that records random episodes of a Gymnasium environment with Minari's own DataCollector."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))

    def collect(env_id, episodes=2, steps=None, **kwargs):
        from minari import DataCollector

        env = DataCollector(gym.make(env_id, max_episode_steps=steps, **kwargs))
        for seed in range(episodes):
            env.action_space.seed(seed)
            env.reset(seed=seed)
            for _ in range(10**6):
                *_, terminated, truncated, _ = env.step(env.action_space.sample())
                if terminated or truncated:
                    break
        name = f"{env_id.lower()}-v0"
        env.create_dataset(name)
        env.close()
        return tmp_path / "minari" / name

    return collect


@needs("minari", "jax")
def test_what_minari_collects(collected, tmp_path):
    import minari

    path = collected("HalfCheetah-v5")
    with pytest.warns(ExchangeWarning, match=STATES):
        data = import_(path, tmp_path / "out", "Gym-HalfCheetah", format="minari", source="gymnasium")
    card = wmbench.task_card("Gym-HalfCheetah")
    assert data.task == card and "state" not in data.fields and len(data) == 2
    assert data.manifest["counts"]["source"] == {"gymnasium": {"episodes": 2, "steps": 2000}}
    assert data.manifest["plan"]["imported"]["id"] == "halfcheetah-v5-v0"
    for i, theirs in enumerate(minari.load_dataset("halfcheetah-v5-v0").iterate_episodes()):
        ours = data.episode(i)
        assert np.array_equal(ours.observation, theirs.observations.astype(np.float32))
        assert np.array_equal(ours.action, theirs.actions) and ours.reward.tobytes() == theirs.rewards.tobytes()
        assert ours.seed == i and ours.truncated.tolist() == [False] * 999 + [True] and not ours.terminated.any()
        ended = ours.terminated | ours.truncated
        rule = card.success(ours.reward, np.cumsum(ours.reward), ours.observation[1:], ended)
        assert np.array_equal(ours.success, rule)
    # the same actions in our own simulator give the same numbers
    env = gym.make("wmbench/Gym-HalfCheetah-v0")
    ours = data.episode(1)
    observation, _ = env.reset(seed=1)
    assert np.array_equal(observation, ours.observation[0])
    for t in range(50):
        observation, reward, *_ = env.step(np.array(ours.action[t]))
        assert np.array_equal(observation, ours.observation[t + 1]) and reward == ours.reward[t]


@needs("minari", "jax")
def test_what_minari_collects_from_our_own_environments(collected, tmp_path):
    path = collected("wmbench/Gym-Hopper-v0", action_repeat=4)
    with pytest.raises(DatasetError, match=r"environment's arguments: \{'action_repeat': 4\} / \{\}"):
        import_(path, tmp_path / "out", "Gym-Hopper", format="minari")
    repeated = wmbench.task_card("Gym-Hopper").repeated(4)
    data = import_(path, tmp_path / "out", repeated, format="minari")
    assert len(data) == 2 and data.episode(0).terminated[-1]


@needs("minari", "jax")
def test_every_field_that_differs_is_named(collected, tmp_path):
    path = collected("Hopper-v5", steps=30, episodes=1, forward_reward_weight=2.0)
    with pytest.raises(DatasetError) as error:
        import_(path, tmp_path / "out", "Gym-HalfCheetah", format="minari")
    for field in ("observation shape: (11,) / (17,)", "action shape: (3,) / (6,)", "environment: Hopper-v5", "horizon"):
        assert field in str(error.value)
    with pytest.raises(DatasetError) as error:
        import_(path, tmp_path / "out", "Gym-Hopper", format="minari")
    assert "environment's arguments" in str(error.value) and "horizon: 30 / 1000" in str(error.value)
    assert "shape" not in str(error.value)
    with pytest.raises(DatasetError, match="say which task"):
        import_(path, tmp_path / "out", format="minari")
    assert not (tmp_path / "out").exists()


def steps_of(card, length=5, seed=0):
    """Plain arrays of one made-up episode that fits the card."""
    rng = np.random.default_rng(seed)
    low, high = card.action_bounds()
    ends = np.arange(length) == length - 1
    return {
        "observations": rng.normal(size=(length + 1, len(card.observation))).astype(np.float32),
        "actions": rng.uniform(low, high, (length, len(low))).astype(np.float32),
        "rewards": rng.normal(size=length),
        "terminations": np.zeros(length, dtype=bool),
        "truncations": ends,
    }


@pytest.fixture
def made(tmp_path):
    """Function that writes a Minari dataset without an environment, changed as asked."""

    def make(card, *, bounds=None, infos=None, **changes):
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage

        low, high = bounds or card.action_bounds()
        data = MinariStorage.new(
            tmp_path / "plain-v0",
            observation_space=gym.spaces.Box(-np.inf, np.inf, (len(card.observation),), np.float32),
            action_space=gym.spaces.Box(low, high, dtype=np.float32),
        )
        data.update_metadata({"dataset_id": "plain-v0", "minari_version": "0.5.4"})
        data.update_episodes([EpisodeBuffer(**steps_of(card) | changes, infos=infos)])
        return tmp_path / "plain-v0"

    return make


@needs("minari")
def test_a_rate_that_nobody_states_is_refused(made, tmp_path):
    card = wmbench.task_card("Gym-HalfCheetah")
    path = made(card)
    with pytest.raises(DatasetError, match=r"does not say its control rate.*has 20 Hz.*--control-hz"):
        import_(path, tmp_path / "out", card, format="minari")
    with pytest.raises(DatasetError, match="control_hz: 50 / 20"):
        import_(path, tmp_path / "out", card, format="minari", control_hz=50)
    with pytest.warns(ExchangeWarning, match=STATES):
        data = import_(path, tmp_path / "out", card, format="minari", control_hz=20)
    assert np.array_equal(data.episode(0).action, steps_of(card)["actions"])


@needs("minari")
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"actions": np.full((5, 6), 1.5, np.float32)}, "5 of 5 actions lie outside the bounds"),
        ({"terminations": np.arange(5) == 4}, "terminates, wmbench/Gym-HalfCheetah-v0 never does"),
        ({"truncations": np.arange(5) == 2}, "ends before its last step"),
        ({"rewards": np.full(5, np.nan)}, "reward holds NaN"),
        ({"observations": np.ones((5, 17), np.float32)}, "observation is float32"),
        ({"observations": np.ones((6, 17), np.int64)}, "observation must hold floats"),
        ({"bounds": (np.full(6, -2, np.float32), np.full(6, 2, np.float32))}, "lowest action: .*; highest action: "),
    ],
)
def test_numbers_that_do_not_fit(made, tmp_path, changes, word):
    card = wmbench.task_card("Gym-HalfCheetah")
    with pytest.raises(DatasetError, match=word):
        import_(made(card, **changes), tmp_path / "out", card, format="minari", control_hz=20)
    assert not (tmp_path / "out").exists()


@needs("minari")
def test_success_is_computed_taken_or_refused(made, tmp_path, toy_card):
    import dataclasses

    from wmbench.cards import SuccessRule

    path = made(toy_card, infos={"speed": np.zeros(6), "success": np.array([False, False, True, False, False, False])})
    plain = {"format": "minari", "control_hz": 20}
    with pytest.warns(ExchangeWarning) as notes:
        data = import_(path, tmp_path / "computed", toy_card, **plain)
    said = " ".join(str(note.message) for note in notes)
    assert "in 1 episodes the dataset says otherwise" in said and "left out" in said and "infos/speed" in said
    assert np.array_equal(data.episode(0).success, data.episode(0).reward >= 1.0)
    env_only = dataclasses.replace(toy_card, success=SuccessRule("env", source="a toy"))
    data = import_(path, tmp_path / "taken", env_only, **plain)
    assert data.episode(0).success.tolist() == [False, True, False, False, False]


@needs("minari")
def test_success_that_nobody_knows(made, tmp_path, toy_card):
    import dataclasses

    from wmbench.cards import SuccessRule

    env_only = dataclasses.replace(toy_card, success=SuccessRule("env", source="a toy"))
    with pytest.raises(DatasetError, match="only the simulator of wmbench/Toy-Point-v0 knows: it is not invented"):
        import_(made(toy_card), tmp_path / "out", env_only, format="minari", control_hz=20)


@pytest.fixture
def rlds(tmp_path):
    """Function that writes an RLDS dataset of two splits as tensorflow_datasets would, with or without rewards."""

    def make(card, *, reward=True):
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.dataset_info import DatasetIdentity

        kinds = tfds.features
        flags = dict.fromkeys(("is_first", "is_last", "is_terminal"), kinds.Scalar(np.bool_))
        vector = {
            "observation": kinds.Tensor(shape=(len(card.observation),), dtype=np.float32),
            "action": kinds.Tensor(shape=(len(card.action),), dtype=np.float32),
        }
        step = vector | flags | ({"reward": kinds.Scalar(np.float32)} if reward else {})
        identity = DatasetIdentity("plain", tfds.core.Version("1.0.0"), str(tmp_path / "rlds"), __name__)
        features = kinds.FeaturesDict({"steps": kinds.Dataset(step)})
        info = tfds.core.DatasetInfo(builder=identity, features=features, disable_shuffling=True)
        (tmp_path / "rlds").mkdir()
        writer = tfds.core.SequentialWriter(info, 10, overwrite=False, file_format="array_record")
        writer.initialize_splits(["train", "validation"])
        for seed, split in enumerate(("train", "validation", "train")):
            rows, steps = steps_of(card, seed=seed), []
            for t in range(6):
                one = {"observation": rows["observations"][t], "action": rows["actions"][min(t, 4)]}
                one |= {"is_first": t == 0, "is_last": t == 5, "is_terminal": t == 5 and seed == 2}
                steps.append(one | ({"reward": np.float32(rows["rewards"][min(t, 4)])} if reward else {}))
            writer.add_examples({split: [{"steps": steps}]})
        writer.close_all()
        return tmp_path / "rlds"

    return make


@needs("tensorflow_datasets")
def test_plain_rlds(rlds, tmp_path, toy_card):
    path = rlds(toy_card)
    with pytest.raises(DatasetError, match="does not say its control rate"):
        import_(path, tmp_path / "out", toy_card, format="rlds")
    with pytest.warns(ExchangeWarning, match=STATES):
        data = import_(path, tmp_path / "out", toy_card, format="rlds", control_hz=20)
    assert data.index["split"].tolist() == ["train", "train", "val"]
    for i, seed in enumerate((0, 2, 1)):
        rows, ours = steps_of(toy_card, seed=seed), data.episode(i)
        assert np.array_equal(ours.observation, rows["observations"]) and np.array_equal(ours.action, rows["actions"])
        assert np.array_equal(ours.reward, rows["rewards"].astype(np.float32).astype(np.float64))
        assert (ours.terminated[-1], ours.truncated[-1]) == (seed == 2, seed != 2)


@needs("tensorflow_datasets")
def test_rlds_without_rewards(rlds, tmp_path, toy_card):
    with pytest.raises(DatasetError, match=r"has no rewards.*not invented"):
        import_(rlds(toy_card, reward=False), tmp_path / "out", toy_card, format="rlds", control_hz=20)


@pytest.fixture
def lerobot(tmp_path):
    """Function that writes a LeRobot dataset as its own recording does."""

    def make(card, *, fps=20, reward=True):
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        one = {"dtype": "float32", "names": None}
        features = {
            "observation.state": one | {"shape": (len(card.observation),)},
            "action": one | {"shape": (len(card.action),)},
            "observation.images.top": {
                "dtype": "image",
                "shape": (32, 32, 3),
                "names": ["height", "width", "channels"],
            },
        }
        if reward:
            features["next.reward"] = one | {"shape": (1,)}
        data = LeRobotDataset.create("somebody/plain", fps=fps, features=features, root=tmp_path / "lerobot")
        for seed in range(2):
            rows = steps_of(card, seed=seed)
            for t in range(5):
                frame = {"observation.state": rows["observations"][t], "action": rows["actions"][t], "task": "go"}
                frame["observation.images.top"] = np.full((32, 32, 3), 40 * t, np.uint8)
                if reward:
                    frame["next.reward"] = np.array([rows["rewards"][t]], np.float32)
                data.add_frame(frame)
            data.save_episode()
        data.finalize()
        return tmp_path / "lerobot"

    return make


@needs("lerobot")
def test_plain_lerobot(lerobot, tmp_path, toy_card):
    path = lerobot(toy_card)
    with pytest.raises(DatasetError, match="observation shape"):
        import_(path, tmp_path / "out", "Gym-Hopper", format="lerobot")
    with pytest.warns(ExchangeWarning, match="lost its last frame's action"):
        data = import_(path, tmp_path / "out", toy_card, format="lerobot")
    for seed in range(2):
        rows, ours = steps_of(toy_card, seed=seed), data.episode(seed)
        assert np.array_equal(ours.observation, rows["observations"][:5])
        assert np.array_equal(ours.action, rows["actions"][:4])
        assert np.array_equal(ours.reward, rows["rewards"][:4].astype(np.float32).astype(np.float64))
        assert not ours.terminated.any() and not ours.truncated.any()
        assert ours.extra["rgb"][:, 0, 0, 0].tolist() == [0, 40, 80, 120, 160]
    assert Dataset(tmp_path / "out", task=toy_card).digest == data.digest


@needs("lerobot")
def test_lerobot_that_does_not_fit(lerobot, tmp_path, toy_card):
    with pytest.raises(DatasetError, match="control_hz: 30"):
        import_(lerobot(toy_card, fps=30, reward=False), tmp_path / "out", toy_card, format="lerobot")
    with pytest.raises(DatasetError, match=r"has no rewards.*not invented"):
        import_(tmp_path / "lerobot", tmp_path / "out", toy_card, format="lerobot", control_hz=20)
