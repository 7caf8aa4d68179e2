"""TD-MPC2 through the command line, as a user goes: train, evaluate, make, run, and what is refused on the way."""

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
import torch

from wmbench import checkpoints
from wmbench.banks import bank_of_resets
from wmbench.errors import CheckpointError, WmbenchError
from wmbench.main import main
from wmbench.registration import task_card
from wmbench.runs import plan
from wmbench.runs.places import check_extras, extra_models, extra_policies
from wmbench_baselines.tdmpc2 import TDMPC2, TDMPC2Config, TDMPC2Policy

REACHER, HOPPER = "Gym-Reacher", "Gym-Hopper"
SMALL = {
    **{"enc_dim": 32, "mlp_dim": 32, "latent_dim": 16, "num_q": 2, "batch_size": 8, "head_updates": 30},
    **{"samples": 16, "elites": 8, "prior_samples": 8, "iterations": 2},
}
TINY = {
    **{"random_episodes": 3, "smooth_episodes": 2, "noisy_episodes": 6, "demonstrations": 6, "demonstrator": "zero"},
    **{"updates": 30, "eval_episodes": 2, "windows": 8, "horizon": 20, "one_step_limit": 200, "branch_starts": 8},
    **{"open_loops": 20, "zoo_noise": (0.5,), "latency_seconds": 0.05},
}


def flags(settings):
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def untrained(folder, task=REACHER, repeat=1):
    """A checkpoint with the weights that training starts from."""
    card = task_card(task).repeated(repeat)
    model = TDMPC2(TDMPC2Config(**SMALL, action_repeat=repeat), card)
    return checkpoints.save(model, folder, kind="world_model", name="tdmpc2", bank=bank_of_resets(card, 8))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What ``wmbench train`` made of 170 control steps."""
    folder = tmp_path_factory.mktemp("journey") / "learned"
    online = {"action_repeat": 1, "frames": 170, "seed_steps": 100, "eval_every": 150, "eval_episodes": 1}
    assert main(["train", "tdmpc2", "--task", REACHER, "--out", str(folder), *flags(SMALL | online)]) == 0
    return folder


def test_a_checkpoint_evaluates_and_makes_an_environment(trained, tmp_path, capsys):
    for more in ([], ["--simulator", str(trained)]):
        out = ["--episodes", "2", "--out", str(tmp_path / "record.json")]
        assert main(["evaluate", REACHER, "--policy", str(trained), *out, *more]) == 0
        assert len(json.loads((tmp_path / "record.json").read_text())["episodes"]) == 2
    assert "invalid," not in capsys.readouterr().out
    env = gym.make(f"wmbench/{REACHER}-v0", simulator=str(trained))
    observation, _ = env.reset(seed=0)
    for _ in range(50):
        observation, reward, _, truncated, _ = env.step(env.action_space.sample())
        assert np.isfinite(observation).all() and np.isfinite(reward)
    assert truncated


def test_a_run_takes_it_as_a_world_model_and_as_a_policy(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(plan.PLANS, "quick", dataclasses.replace(plan.Plan(), **TINY))
    asked = ["--tasks", REACHER, "--models", str(trained), "--policies", str(trained)]
    assert main(["run", "quick", *asked, "--out", str(tmp_path / "run")]) == 0
    records = {}
    for path in (tmp_path / "run" / "records").glob("*.json"):
        record = json.loads(path.read_text())
        records[record["step"]] = record["values"]
    for step in ("one-step", "drift", "counterfactual", "heads", "success", "agreement"):
        assert any("learned" in r["subject"] for r in records[step]["results"]), step
    assert "learned" in records["success"]["policies"] and "learned" in records["success"]["simulators"]
    for where in ("true", "ensemble", "learned"):
        assert all(e["valid"] for e in records["success"]["episodes"][f"learned in {where}"])
    assert "learned" in (tmp_path / "run" / "report.html").read_text()


def test_what_a_run_cannot_use_is_refused_before_it_works(tmp_path, capsys):
    twice = untrained(tmp_path / "twice", repeat=2)
    for kind in ("--models", "--policies"):
        assert main(["run", "quick", "--tasks", REACHER, kind, str(twice), "--out", str(tmp_path / "run")]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "action_repeat=2" in said and "--action-repeat 1" in said and "wmbench collect" in said
    assert not (tmp_path / "run").exists()
    once = untrained(tmp_path / "once")
    both = plan.make_plan("quick", tasks=[REACHER, HOPPER], models=[str(once)], policies=[str(once)])
    check_extras(both)  # it joins the task it was made for
    assert extra_models(both, task_card(REACHER)) == extra_policies(both, task_card(REACHER)) == {"once": str(once)}
    assert extra_models(both, task_card(HOPPER)) == {} == extra_policies(both, task_card(HOPPER))
    with pytest.raises(CheckpointError, match="none of this run's tasks"):
        check_extras(plan.make_plan("quick", tasks=[HOPPER], models=[str(once)]))
    with pytest.raises(CheckpointError, match="neither a checkpoint folder nor a registered"):
        check_extras(plan.make_plan("quick", models=["tdmcp2"]))
    other = untrained(tmp_path / "elsewhere" / "once")
    for labels in ([str(once), str(other)], [str(untrained(tmp_path / "ensemble"))]):
        with pytest.raises(WmbenchError, match="rename"):
            check_extras(plan.make_plan("quick", tasks=[REACHER], models=labels))


def test_a_run_begun_before_there_were_policies_goes_on(tmp_path):
    mine = plan.make_plan("quick", tasks=[REACHER])
    plan.commit_plan(mine, tmp_path)
    older = json.loads((tmp_path / "plan.json").read_text())
    del older["policies"]
    (tmp_path / "plan.json").write_text(json.dumps(older))
    plan.commit_plan(mine, tmp_path)
    with pytest.raises(WmbenchError, match=r"another run .*policies"):
        plan.commit_plan(dataclasses.replace(mine, policies=("random",)), tmp_path)


def test_repeated_actions_are_measured_on_repeated_data(tmp_path):
    """What the refusal advises."""
    model, data = untrained(tmp_path / "twice", repeat=2), tmp_path / "data"
    words = ["--episodes", "8", "--action-repeat", "2", "--out", str(data)]
    assert main(["collect", REACHER, "--policy", "random", *words]) == 0
    out = tmp_path / "found"
    asked = ["--models", str(model), "--policies", str(model), "--only", "one-step", "success", "--out", str(out)]
    assert main(["record", "--dataset", str(data), *asked]) == 0
    found = json.loads((out / "results.json").read_text())
    assert {"one-step", "success"} <= {r["measure"] for r in found}
    env = gym.make(f"wmbench/{REACHER}-v0", simulator=str(model), action_repeat=2)
    assert env.reset(seed=0)[0].shape == env.observation_space.shape
    with pytest.raises(CheckpointError, match="action_repeat"):
        gym.make(f"wmbench/{REACHER}-v0", simulator=str(model))


def test_the_policy_of_a_checkpoint(trained):
    assert isinstance(checkpoints.load(trained, kind="policy"), TDMPC2Policy)


def test_it_learns_online_in_maniskill(tmp_path):
    """MS-PushCube: success comes from the simulator, so the model learns a head for it."""
    folder, task = tmp_path / "push", "MS-PushCube"
    online = {"action_repeat": 2, "frames": 104, "seed_steps": 26, "eval_every": 100, "eval_episodes": 1}
    assert main(["train", "tdmpc2", "--task", task, "--out", str(folder), *flags(SMALL | online)]) == 0
    log = [json.loads(line) for line in (folder / "training" / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in log] == ["episode", "episode", "evaluation", "episode"]
    assert all(0 <= line["success"] <= 1 and np.isfinite(line["return"]) for line in log)
    env = gym.make(f"wmbench/{task}-v0", simulator=str(folder), action_repeat=2)
    assert "success" in env.unwrapped.model_card.predicts
    env.reset(seed=0)
    observation, reward, _, _, info = env.step(env.action_space.sample())
    assert np.isfinite(observation).all() and np.isfinite(reward) and isinstance(info["success"], bool)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A dataset folder of each of two tasks."""
    folders = {task: tmp_path_factory.mktemp("pair") / task for task in (REACHER, HOPPER)}
    for task, folder in folders.items():
        assert main(["collect", task, "--policy", "random", "--episodes", "8", "--out", str(folder)]) == 0
    return folders


def test_one_model_of_two_tasks(pair, tmp_path, capsys):
    out = tmp_path / "both"
    asked = ["--task", *pair, "--dataset", *map(str, pair.values()), "--out", str(out)]
    words = ["train", "tdmpc2", *asked, *flags(SMALL | {"updates": 20})]
    assert main(words) == 0
    assert str(out / REACHER) in "".join(capsys.readouterr().out.split())
    models = [checkpoints.load(out / task, kind="world_model", task=task_card(task)) for task in pair]
    assert [model.number for model in models] == [0, 1]
    first, second = (model.latent.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for task in pair:
        kept = checkpoints.read_config(out / task)["provenance"]
        assert f"--task {REACHER} {HOPPER} --dataset {REACHER} {HOPPER}" in kept["command"]
        env = gym.make(f"wmbench/{task}-v0", simulator=str(out / task))
        assert env.reset(seed=0)[0].shape == env.observation_space.shape
        assert np.isfinite(env.step(env.action_space.sample())[1])
    assert main(["evaluate", HOPPER, "--policy", str(out / HOPPER), "--episodes", "1"]) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert main(words) == 0
    assert "already trained" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert main([*words, "--seed", "1"]) == 1
    assert "holds another training (it differs in seed)" in " ".join(capsys.readouterr().err.split())


def test_tasks_and_datasets_that_do_not_go_together(pair, tmp_path, capsys):
    reacher, hopper = map(str, pair.values())
    both = ["--task", REACHER, HOPPER]
    for name, asked, expected in (
        ("tdmpc2", both, "2 tasks and 0 datasets"),
        ("tdmpc2", [*both, "--dataset", reacher], "2 tasks and 1 datasets"),
        ("tdmpc2", [*both, "--dataset", hopper, reacher], f"a dataset of {HOPPER}, where one of {REACHER}"),
        ("tdmpc2", ["--task", REACHER, "--dataset", reacher, reacher], "wmbench merge"),
        ("tdmpc2", ["--task", REACHER, REACHER, "--dataset", reacher, reacher], "wmbench merge"),
        ("tdmpc2", ["--task"], "--task TASK"),
        ("ensemble", [*both, "--dataset", reacher, hopper], "learns one task at a time"),
    ):
        assert main(["train", name, *asked, "--out", str(tmp_path / "out")]) == 1, asked
        assert expected in " ".join(capsys.readouterr().err.split()), asked
    assert not (tmp_path / "out").exists()
