"""From a manipulation task to its twin by commands alone: a mixture with pictures, described, learned, replaced."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wmbench.episodes import Dataset
from wmbench.machine import obstacle
from wmbench.main import main
from wmbench.registration import task_card

TASK = "MS-PushCube"
CARD = task_card(TASK)
SMALL = ["--members", "2", "--elites", "1", "--max-updates", "30", "--batch-size", "32"]


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """The dataset and the checkpoint, and whether there are pictures: only where something can draw them."""
    pytest.importorskip("mani_skill")
    folder = tmp_path_factory.mktemp("journey")
    seen = "state+rgb" if obstacle(CARD, "state+rgb") is None else "state"
    data, model = str(folder / "data"), str(folder / "model")
    recipe = ["--recipe", "mixed", "--episodes", "6", "--observation", seen, "--no-progress"]
    assert main(["collect", TASK, *recipe, "--out", data]) == 0
    assert main(["train", "ensemble", "--task", TASK, "--dataset", data, "--out", model, *SMALL]) == 0
    return data, model, seen


def test_the_mixture_is_described(journey, capsys, monkeypatch):
    folder, _, seen = journey
    monkeypatch.setenv("COLUMNS", "120")
    data = Dataset(folder, verify=True)
    assert {kind: entry["episodes"] for kind, entry in data.manifest["recipe"]["kinds"].items()} == {
        "random": 2,
        "success": 1,
        "failure": 2,
        "recovery": 1,
    }
    assert data.manifest["starts"]["disjoint"] and data.manifest["recipe"]["complete"]
    capsys.readouterr()
    assert main(["inspect", folder, "--no-alignment"]) == 0
    out = capsys.readouterr().out
    for word in ("recipe mixed", "recovery", "histogram", "coverage", "first observations", "intervention"):
        assert word in out, word
    if seen == "state+rgb":
        pictures = data.arrays(0)["rgb"]
        assert pictures.shape == (CARD.horizon + 1, 64, 64, 3) and pictures.dtype == np.uint8
        assert "rgb" in out and len(np.unique(pictures[0])) > 10


def test_the_twin_stands_in(journey):
    _, model, _ = journey
    twin = gym.make(CARD.id, simulator=model)
    check_env(twin.unwrapped, skip_render_check=True)
    true = gym.make(CARD.id)
    assert twin.observation_space == true.observation_space and twin.action_space == true.action_space
    assert np.array_equal(gym.make(CARD.id, simulator=model, init="true").reset(seed=3)[0], true.reset(seed=3)[0])
    many = gym.make_vec(CARD.id, num_envs=3, simulator=model, autoreset_mode="Disabled")
    actions = np.random.default_rng(0).uniform(-1, 1, (3, CARD.horizon, 7)).astype(np.float32)
    rows, _ = many.reset(seed=[5, 6, 7])
    alone = [twin.reset(seed=5)[0]]
    assert np.array_equal(rows[0], alone[0])
    for t in range(CARD.horizon):
        after, reward, terminated, truncated, info = many.step(actions[:, t])
        one = twin.step(actions[0, t])
        assert np.array_equal(after[0], one[0]) and reward[0] == one[1]
        assert (bool(terminated[0]), bool(truncated[0]), bool(info["success"][0])) == (
            one[2],
            one[3],
            one[4]["success"],
        )
    assert truncated.all()
