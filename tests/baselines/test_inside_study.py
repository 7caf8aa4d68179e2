"""The study of training inside: its list of jobs, that jobs resume and die alone, the command, and what is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from wmbench import checkpoints
from wmbench.episodes.storage import file_hash
from wmbench.errors import MissingHeadError, WmbenchError
from wmbench.main import main as wmbench
from wmbench.registration import shipped_checkpoints, task_card
from wmbench_baselines.ensemble import Ensemble, EnsembleConfig
from wmbench_baselines.inside import InsideConfig, analysis, train_inside
from wmbench_baselines.inside.records import read_records

SCRIPTS = Path(__file__).parents[2] / "baselines" / "scripts"
CARD = task_card("DMC-PendulumSwingup")
TINY: dict[str, Any] = {"num_envs": 2, "steps": 4, "evaluate_every": 4, "episodes": 1, "hidden": (8,)}


def script(name: str) -> Any:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def study() -> Any:
    return script("run_inside_study")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations that are made up: an episode of this task lasts a thousand steps."""
    import wmbench_baselines.inside.train as train

    def made_up(actor: Any, config: InsideConfig, card: Any) -> Any:
        episode = {"seed": 0, "once": False, "at_end": False, "valid": True, "fault": "", "length": 5}
        return {side: [episode | {"returns": float(config.seed + len(side))}] for side in ("true", "learned")}

    monkeypatch.setattr(train, "evaluate", made_up)


def test_jobs_differ_only_in_what_they_ask(study: Any, tmp_path: Path) -> None:
    jobs = study.jobs(tmp_path)
    assert len({job.name for job in jobs}) == len(jobs)
    assert len({job.config.key for job in jobs}) == len(jobs)
    records = [{"task": j.config.task, "arm": j.arm, "config": checkpoints.plain(j.config), "curve": []} for j in jobs]
    arms = analysis.arms(records)
    assert all(len(group) >= 3 for group in arms.values())
    for (task, arm), group in arms.items():
        algorithm = arm.split()[0]
        analysis.comparable(group, arms[task, f"{algorithm} true"])  # steps, rows, updates per step and the rest agree
        assert group[0]["config"]["algorithm"] == algorithm
    assert sum((task, "SAC true") in arms and (task, "SAC learned") in arms for task, _ in arms) >= 5
    assert {penalty for job in jobs if (penalty := job.config.penalty) != "none"} == {*study.PENALTY_WEIGHTS}
    assert any(job.config.branch for job in jobs)
    assert any(job.config.reward_noise for job in jobs)


def test_a_job_that_dies_loses_itself_and_is_tried_again(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: None
) -> None:
    good, other = (InsideConfig(CARD.name, where="true", seed=s, **TINY) for s in (0, 1))
    bad = InsideConfig(CARD.name, "no-such-model", **TINY)
    configs = {"a.0": bad, "b.0": good, "b.1": other}
    jobs = [study.Job(name, name[0], config) for name, config in configs.items()]
    monkeypatch.setattr(study, "jobs", lambda work: jobs)
    with pytest.raises(SystemExit):
        study.main(tmp_path / "work", tmp_path / "out")
    assert [r["name"] for r in read_records((tmp_path / "out").glob("*.json"))] == ["b.0", "b.1"]
    assert "no-such-model" in (tmp_path / "work" / "a.0" / "error.txt").read_text()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    jobs[0] = study.Job("a.0", "a", InsideConfig(CARD.name, **TINY))
    study.main(tmp_path / "work", tmp_path / "out", workers=2)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*before, "a.0.json"}
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == at for name, at in before.items())


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A world model in a folder, which names one kind of doubt."""
    folder = tmp_path / "somewhere" / "mine"
    model = Ensemble(EnsembleConfig(hidden=(8, 8), weight_decay=(0.0,) * 3), CARD)
    model.card = dataclasses.replace(model.card, uncertainty=("disagreement",))
    checkpoints.save(model, folder, kind="world_model", name="ensemble")
    shipped = checkpoints.find("ensemble", CARD, kind="world_model")
    assert shipped is not None
    shutil.copy(shipped / "bank.safetensors", folder)
    return folder


def test_a_record_names_no_folder(study: Any, tmp_path: Path, mine: Path, short: None) -> None:
    job = study.Job("c.0", "c", InsideConfig(CARD.name, str(mine), **TINY))
    study.carry_out(job, tmp_path / "work", tmp_path / "out")
    text = (tmp_path / "out" / "c.0.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["config"]["model"] == "mine"


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], short: None) -> None:
    words = ["train-inside", CARD.name, "--steps", "8", "--num-envs", "2", "--evaluations", "2", "--episodes", "1"]
    words += ["--seeds", "0", "1", "--out", str(tmp_path), "--no-progress"]
    assert wmbench(words) == 0
    said = capsys.readouterr().out
    assert "the learned simulator" in said
    assert "0.5 updates per environment step, on both sides" in said
    assert len(read_records((tmp_path / "records").glob("*.json"))) == 4
    assert "4.50 (" in said  # true returns of the seeds 0 and 1 are 4 and 5
    assert wmbench([*words, "--learning-rate", "0.5"]) == 1
    assert "learning_rate 0.001 there, 0.5 asked for" in " ".join(capsys.readouterr().err.split())


def test_a_model_that_lacks_what_the_penalty_needs_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(MissingHeadError, match="'uncertainty' head"):
        train_inside(InsideConfig(CARD.name, "oracle", penalty="rwm-u", **TINY), tmp_path)
    with pytest.raises(WmbenchError, match="no-such-model"):
        train_inside(InsideConfig(CARD.name, "no-such-model", where="true", **TINY), tmp_path)
    other = checkpoints.find("ensemble", task_card("Gym-Hopper"), kind="world_model")
    with pytest.raises(WmbenchError, match=r"Gym-Hopper.*DMC-PendulumSwingup|DMC-PendulumSwingup.*Gym-Hopper"):
        train_inside(InsideConfig(CARD.name, str(other), **TINY), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_whose_doubt_has_another_name_is_refused(tmp_path: Path, mine: Path) -> None:
    config = InsideConfig(CARD.name, str(mine), penalty="mopo-deviation", **TINY)
    with pytest.raises(MissingHeadError, match=r"'mopo-deviation' multiplies .*'max_deviation'.*names disagreement"):
        train_inside(config, tmp_path / "work")


def test_the_command_refuses_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["train-inside", CARD.name, "--no-progress", "--out", str(tmp_path)]
    assert wmbench([*base, "--branch", "5"]) == 1
    assert "branch needs the dataset" in " ".join(capsys.readouterr().err.split())
    assert wmbench([*base, "--seeds", "1", "1"]) == 1
    assert "each once" in capsys.readouterr().err
    assert wmbench([*base, "--penalty", "rwm-u", "--model", "oracle"]) == 1
    assert "uncertainty" in capsys.readouterr().err


def test_the_page_says_what_the_records_say() -> None:
    plot = script("plot_inside_study")
    arms = plot.complete(analysis.arms(read_records(plot.RESULTS.glob("*.json"))))
    page = (SCRIPTS.parents[1] / "docs" / "transfer.md").read_text()
    assert plot.section(arms) in page
    for task, algorithm, learned, true in plot.pairs(arms):
        assert {r["config"]["algorithm"] for r in (*learned, *true)} == {algorithm}
        assert algorithm == "PPO" or analysis.simulator_share(learned) < 0.1, task  # PPO learns in far less time
    found = analysis.exploitation(arms[plot.few(arms), plot.EXPLOITED])
    assert found.shown


def test_records_are_of_jobs_of_the_study(study: Any, tmp_path: Path) -> None:
    """Nothing was changed between a record and the list of jobs but the folders of models and data."""
    jobs = {job.name: job for job in study.jobs(tmp_path)}
    for record in read_records(study.RESULTS.glob("*.json")):
        job = jobs[record["name"]]
        asked = checkpoints.plain(job.config)
        asked |= {name: Path(asked[name]).name for name in ("model", "dataset")}
        assert (record["arm"], record["config"]) == (job.arm, asked)
        assert record["curve"][-1]["step"] >= job.config.steps
        assert len(record["weights"]) == 64
        if asked["model"] == "ensemble" and not record["note"]:  # else the note says which model that was
            folder = shipped_checkpoints()["ensemble", task_card(asked["task"]).id]
            assert record["weights"] == file_hash(folder / checkpoints.WEIGHTS), f"{record['name']} is of another model"
