"""TD-MPC2 from pictures: it trains, resumes, and its checkpoint acts; as a simulator it is refused with a reason."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

from wmbench import checkpoints
from wmbench.errors import MissingHeadError, RenderError, WmbenchError
from wmbench.evaluating import evaluate
from wmbench.keys import keys_from_seeds
from wmbench.main import main
from wmbench.protocols import Start
from wmbench.registration import task_card
from wmbench.training import train
from wmbench.views import View, wanted_by
from wmbench_baselines.tdmpc2 import TDMPC2, TDMPC2Config, TDMPC2Policy, TDMPC2PolicyConfig
from wmbench_baselines.tdmpc2 import run as running
from wmbench_baselines.tdmpc2.act import planes
from wmbench_baselines.tdmpc2.online import OnlineTraining

TASK = "wmbench/Gym-Reacher-v0"
TINY = TDMPC2Config(
    **{"enc_dim": 16, "mlp_dim": 16, "latent_dim": 64, "channels": 4, "num_q": 2, "batch_size": 4},
    **{"samples": 8, "elites": 4, "prior_samples": 4, "iterations": 1, "action_repeat": 5},
    **{"frames": 150, "eval_every": 100, "eval_episodes": 1, "seed_steps": 12, "head_updates": 3},
    observation="rgb",
)


@pytest.fixture(autouse=True, scope="module")
def opengl():
    """Skip where no picture can be made at all."""
    env = gym.make(TASK, observation="rgb", image_size=8)
    try:
        env.reset(seed=0)
    except RenderError as error:
        pytest.skip(str(error))
    finally:
        env.close()


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """A run of three episodes of ten actions, and its checkpoint."""
    return train("tdmpc2", TASK, None, tmp_path_factory.mktemp("seeing") / "whole", config=TINY, progress=False)


def test_planes_are_the_stacked_colours():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)  # (B, k, H, W, 3)
    x = planes(pictures, 1)
    assert x.shape == (2, 9, 4, 5) and x.dtype == np.uint8
    assert np.array_equal(x[1, 3 * 2 + 1], pictures[1, 2, :, :, 1])
    assert np.array_equal(planes(pictures[1]), x[1])
    assert np.array_equal(planes(pictures[:, 0], 1), x[:, :3])  # a single frame has no axis for it


def test_a_killed_run_goes_on_to_the_same_weights(seeing, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "SAVE_SECONDS", 0.0)
    first = OnlineTraining(TINY, task_card(TASK), folder=tmp_path, seed=0)
    real, lived = first.episode, []

    def episode(advance):
        if len(lived) == 2:
            raise InterruptedError
        lived.append(1)
        return real(advance)

    monkeypatch.setattr(first, "episode", episode)
    with pytest.raises(InterruptedError):
        first.run(progress=False)
    second = OnlineTraining(TINY, task_card(TASK), folder=tmp_path, seed=0)
    second.run(progress=False)
    assert second.replay._rows["observation"].shape[1:] == (9, 64, 64)
    assert second.replay._rows["observation"].dtype == torch.uint8
    for name, tensor in second.model.state_dict().items():
        assert torch.equal(tensor, seeing.model.latent.state_dict()[name]), name
    started = OnlineTraining(TINY, task_card(TASK), folder=tmp_path / "new", seed=0).model
    assert not torch.equal(started.encoder.layers[0].weight, second.model.encoder.layers[0].weight)


@pytest.mark.parametrize("mode", ["plan", "prior", "best"])
def test_its_checkpoint_acts_on_pictures(seeing, mode):
    config = TDMPC2PolicyConfig(model=str(seeing.folder), mode=mode, candidates=4)
    policy = TDMPC2Policy(config, seeing.model.task)
    assert wanted_by(policy) == View.parse("rgb", image_size=64, frame_stack=3)
    pictures = np.random.default_rng(0).integers(0, 256, (17, 3, 64, 64, 3), dtype=np.uint8)
    keys = keys_from_seeds(range(17))
    whole, _ = policy.act(pictures, policy.initial(17), keys=keys)
    assert whole.shape == (17, 2) and (np.abs(whole) <= 1).all() and np.ptp(whole) > 0
    for n in (1, 2, 9):
        some, _ = policy.act(pictures[-n:], policy.initial(n), keys=keys[-n:])
        assert np.array_equal(some, whole[-n:]), n
    with pytest.raises(WmbenchError, match=r"\(B, 3, 64, 64, 3\)"):
        policy.act(np.zeros((2, 10), np.float32), policy.initial(2), keys=keys[:2])


def test_it_is_evaluated_on_what_it_sees(seeing):
    two = [evaluate(TASK, str(seeing.folder), episodes=2, action_repeat=5, num_envs=n).episodes for n in (1, 2)]
    assert two[0] == two[1] and all(e["valid"] for e in two[0])


def test_it_is_no_simulator_and_says_so(seeing, tmp_path, capsys):
    with pytest.raises(MissingHeadError, match="no 'observation' head"):
        gym.make(TASK, simulator=str(seeing.folder), action_repeat=5)
    loaded = checkpoints.load(seeing.folder, kind="world_model")
    assert isinstance(loaded, TDMPC2) and "no simulator" in loaded.card.consumer
    with pytest.raises(WmbenchError, match="use it as a policy"):
        loaded.initial(Start(torch.zeros(1, 10)), keys=torch.zeros(1, dtype=torch.int64))
    data = tmp_path / "data"
    assert main(["collect", "Gym-Reacher", "--policy", "random", "--episodes", "8", "--out", str(data)]) == 0
    more = ["--observation", "rgb", "--out", str(tmp_path / "offline")]
    assert main(["train", "tdmpc2", "--task", "Gym-Reacher", "--dataset", str(data), *more]) == 1
    assert "from pictures online only" in capsys.readouterr().err


def test_sizes_that_do_not_fit_images_are_refused():
    with pytest.raises(ValueError, match="set channels to 8"):
        dataclasses.replace(TINY, latent_dim=128)
