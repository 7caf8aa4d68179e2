"""Runs: a step is done once, a changed input is noticed, a killed run ends with the same values."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wmbench.commands.measure import compare_with_records
from wmbench.errors import NotRegisteredError, WmbenchError
from wmbench.recording import Recording
from wmbench.recording.store import find_recordings
from wmbench.registration import task_card
from wmbench.runs.pipeline import Context, Step, run_track
from wmbench.runs.plan import Plan, commit_plan, make_plan, read_plan
from wmbench.runs.store import RecordStore


def chain(calls: list[str], first: int = 1) -> tuple[Step, ...]:
    """Three steps, each of which reads the one before; ``calls`` notes who worked."""

    def one(context: Context) -> dict[str, Any]:
        calls.append("one")
        return {"x": first + context.plan.seed}

    def two(context: Context) -> dict[str, Any]:
        calls.append("two")
        context.facts["hardware"] = "this one"
        return {"x": context.records["one"]["x"] * 10}

    def three(context: Context) -> dict[str, Any]:
        calls.append("three")
        return {"x": context.records["two"]["x"] + 1}

    return (Step("one", one), Step("two", two, ("one",), ()), Step("three", three, ("two",), ("windows",)))


def silent(*_: Any) -> None:
    """No events."""


def test_a_finished_step_is_not_repeated(tmp_path: Path) -> None:
    calls: list[str] = []
    events: list[tuple[str, str]] = []
    first = run_track(tmp_path, "t", None, chain(calls), Plan(), lambda s, what, _: events.append((s, what)))
    again = run_track(tmp_path, "t", None, chain(calls), Plan(), lambda s, what, _: events.append((s, what)))
    assert calls == ["one", "two", "three"]
    assert again == first
    assert first["three"]["values"] == {"x": 11}
    assert first["two"]["facts"]["hardware"] == "this one"
    assert events[-3:] == [("one", "kept"), ("two", "kept"), ("three", "kept")]


def test_only_what_depends_on_a_change_is_repeated(tmp_path: Path) -> None:
    calls: list[str] = []
    run_track(tmp_path, "t", None, chain(calls), Plan(), silent)
    run_track(tmp_path, "t", None, chain(calls), make_plan("quick", windows=7), silent)
    assert calls == ["one", "two", "three", "three"]
    calls.clear()
    run_track(tmp_path, "t", None, chain(calls), make_plan("quick", seed=5), silent)
    assert calls == ["one", "two", "three"]
    calls.clear()
    run_track(tmp_path, "t", task_card("Gym-Hopper"), chain(calls), Plan(), silent)
    assert calls == ["one", "two", "three"], "another task is another record"


def test_a_failing_step_leaves_the_earlier_ones_and_no_record(tmp_path: Path) -> None:
    def fail(context: Context) -> dict[str, Any]:
        raise RuntimeError("the disk is on fire")

    calls: list[str] = []
    with pytest.raises(RuntimeError, match="on fire"):
        run_track(tmp_path, "t", None, (*chain(calls)[:2], Step("three", fail, ("two",))), Plan(), silent)
    assert [r["step"] for r in RecordStore(tmp_path).all()] == ["one", "two"]
    run_track(tmp_path, "t", None, chain(calls), Plan(), silent)
    assert calls == ["one", "two", "three"]


def test_values_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    step = Step("nan", lambda context: {"x": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        run_track(tmp_path, "t", None, (step,), Plan(), silent)
    assert RecordStore(tmp_path).all() == []


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    run_track(tmp_path, "t", None, chain([]), Plan(), silent)
    path = next((tmp_path / "records").glob("t.two.*.json"))
    path.write_text(path.read_text()[:40])
    with pytest.raises(WmbenchError, match=path.name):
        run_track(tmp_path, "t", None, chain([]), Plan(), silent)


def test_plans_are_checked(tmp_path: Path) -> None:
    plan = make_plan("quick", tasks=["DMC-PendulumSwingup"], seed=3)
    assert plan.tasks == ("wmbench/DMC-PendulumSwingup-v0",)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    commit_plan(plan, tmp_path / "run")
    commit_plan(plan, tmp_path / "run")
    assert read_plan(tmp_path / "run") == plan
    with pytest.raises(WmbenchError, match=r"another run .*seed"):
        commit_plan(make_plan("quick", tasks=["DMC-PendulumSwingup"], seed=4), tmp_path / "run")
    with pytest.raises(WmbenchError, match="known are quick"):
        make_plan("slow")
    with pytest.raises(NotRegisteredError, match="DMC-PendulumSwingup"):
        make_plan("quick", tasks=["DMC-PendelumSwingup"])
    with pytest.raises(WmbenchError, match="not a run"):
        read_plan(tmp_path)


TINY = """
import sys
import wmbench
wmbench.run("quick", sys.argv[1], tasks=["Gym-Hopper"], random_episodes=3, smooth_episodes=1, noisy_episodes=8,
    demonstrations=8, demonstrator="zero", updates=30, eval_episodes=2, windows=8, horizon=20, one_step_limit=200,
    branch_starts=8, open_loops=20, zoo_noise=[0.5], latency_seconds=0.05, progress=False)
"""


def run_tiny(folder: Path, kill_at: float = float("inf")) -> bool:
    """Run the smallest quick run in a process group of its own, until so many files are there; whether it ended."""
    process = subprocess.Popen([sys.executable, "-c", TINY, str(folder)], start_new_session=True)
    while process.poll() is None:
        if files(folder) >= kill_at:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
        time.sleep(0.02)
    assert process.returncode == 0
    return True


def files(folder: Path) -> int:
    """How many files a run has left so far."""
    return sum(len(names) for _, _, names in os.walk(folder))


def values(folder: Path) -> dict[str, Any]:
    """Every record's values, timings left out."""
    return {f"{r['track']}.{r['step']}.{r['key']}": r["values"] for r in RecordStore(folder).all()}


def test_a_killed_run_ends_with_the_same_numbers(tmp_path: Path) -> None:
    assert run_tiny(tmp_path / "whole")
    for share in (0.3, 0.7):
        assert not run_tiny(tmp_path / "killed", kill_at=share * files(tmp_path / "whole"))
    assert run_tiny(tmp_path / "killed")
    assert values(tmp_path / "killed") == values(tmp_path / "whole")
    page = (tmp_path / "killed" / "report.html").read_text()
    assert "wmbench/Gym-Hopper-v0" in page
    assert page.count("<svg") >= 4
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)
    recordings = {path: Recording.load(path) for path in find_recordings(tmp_path / "whole")}
    same, differ = compare_with_records(tmp_path / "whole", recordings)
    assert differ == [] and same > 200, "recordings alone give every number of the run again"
