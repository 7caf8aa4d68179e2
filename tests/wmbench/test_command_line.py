"""Commands as a person types them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wmbench import machine
from wmbench.main import main


def test_without_words_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    for command in ("list", "info", "doctor", "collect", "inspect", "train", "evaluate", "run"):
        assert f"  {command} " in text
    assert "cannot be loaded" not in text


def test_an_unknown_command_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["colect"]) == 2
    assert "did you mean 'collect'" in capsys.readouterr().err


def test_refusals_are_one_sentence_and_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wmbench.main", "info", "DMC-CartpoleSwngup"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "did you mean DMC-CartpoleSwingup" in done.stderr
    assert "Traceback" not in done.stderr


def test_list_filters_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--suite", "gym-mujoco"]) == 0
    text = capsys.readouterr().out
    assert "10 tasks" in text
    assert main(["list", "all"]) == 0
    text = capsys.readouterr().out
    for word in ("48 tasks", "ensemble", "random", "one-step"):
        assert word in text


def test_list_filters_by_what_can_be_seen_and_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wmbench.registration import task_cards

    def names(*words: str) -> list[str]:
        assert main(["list", *words, "--names"]) == 0
        return capsys.readouterr().out.split()

    every = [card.name for card in task_cards().values()]
    maniskill = [card.name for card in task_cards().values() if card.suite == "maniskill"]
    assert names() == every
    assert names("--tag", "tool") == ["MS-PokeCube", "MS-PullCubeTool"]
    assert names("--tag", "locomotion", "fluid") == ["Gym-Swimmer"]
    assert "Gym-Hopper" in names("--model", "ensemble") and "Gym-Ant" not in names("--model", "ensemble")
    monkeypatch.setattr(machine, "find_spec", lambda module: None)
    monkeypatch.setattr(machine, "_draws", lambda how: how == "opengl")
    assert names("--runnable") == [name for name in every if name not in maniskill]
    monkeypatch.setattr(machine, "find_spec", lambda module: module)
    assert names("--runnable") == every
    assert names("--runnable", "--observation", "state+rgb") == [name for name in every if name not in maniskill]
    assert main(["list", "--suite", "maniskill", "--observation", "rgb"]) == 0
    assert "SAPIEN finds no Vulkan device" in capsys.readouterr().out
    assert main(["list", "--suite", "maniskill", "--observation", "rgb", "--runnable"]) == 0
    text = capsys.readouterr().out
    assert "0 tasks" in text
    assert f"{len(maniskill)} others cannot be run here: SAPIEN finds no Vulkan device" in text.replace("\n", " ")


def test_list_refuses_what_nobody_has(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--suite", "atari"], ["--tag", "planer"], ["--model", "ensembel"], ["--observation", "smell"]):
        assert main(["list", *words]) == 1
        assert words[1] in capsys.readouterr().err


def test_info_names_every_dimension(capsys: pytest.CaptureFixture[str]) -> None:
    from wmbench.registration import task_card

    assert main(["info", "Gym-Hopper"]) == 0
    text = capsys.readouterr().out
    for dimension in (*task_card("Gym-Hopper").observation, *task_card("Gym-Hopper").action):
        assert dimension.name[:20] in text
    assert "3800" in text


def test_doctor_finds_this_machine_well(capsys: pytest.CaptureFixture[str]) -> None:
    from wmbench.commands.doctor import diagnose

    broken = [f for f in diagnose() if f.verdict == "broken"]
    assert broken == []


def test_doctor_names_a_clashing_version(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    from wmbench.commands import doctor

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.0.0" if name == "mujoco" else real(name))
    found = {f.subject: f for f in doctor.requirements()}["mujoco"]
    assert found.verdict == "broken"
    assert "4.0.0" in found.found and "pip install 'mujoco" in found.fix and "dm_control" in found.fix


def test_doctor_says_what_maniskill_can_do_here(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    from wmbench.commands import doctor

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.0.1" if name == "mani_skill" else real(name))
    monkeypatch.setattr(machine, "runs", lambda script: False)
    (found,) = doctor.maniskill()
    assert found.verdict == "note" and "state tasks run" in found.found and "mesa-vulkan-drivers" in found.fix
    monkeypatch.setattr(machine, "runs", lambda script: "sapien" in script)
    (found,) = doctor.maniskill()
    assert found.verdict == "ok" and "3.0.1" in found.found

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    (found,) = doctor.maniskill()
    assert found.verdict == "note" and "wmbench[maniskill]" in found.fix


def test_doctor_says_when_the_chosen_gl_does_not_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    from wmbench.commands import doctor

    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr(machine, "runs", lambda script: "egl" in script)
    (found,) = doctor.opengl()
    assert found.verdict == "broken" and "MUJOCO_GL=egl" in found.fix
    monkeypatch.setattr(machine, "runs", lambda script: False)
    monkeypatch.delenv("MUJOCO_GL")
    (found,) = doctor.opengl()
    assert found.verdict == "note" and "apt-get install" in found.fix


def test_every_task_can_be_read_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wmbench.registration import task_cards

    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list"]) == 0
    words = capsys.readouterr().out.split()
    for card in task_cards().values():
        assert card.name in words


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({}, "Gym-Reacher"),
        ({"observation": "rgb"}, "Gym-Reacher-rgb"),
        ({"observation": "rgb+depth"}, "Gym-Reacher-rgb-depth"),
        ({"observation": "state+rgb", "world": "far", "action_repeat": 2}, "Gym-Reacher-x2-far-rgb"),
    ],
)
def test_a_dataset_is_named_after_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], folder: str
) -> None:
    from wmbench.commands import collect

    class Seen(Exception):
        pass

    def stop(card: Any, out: Path, **_: Any) -> None:
        raise Seen(str(out))

    monkeypatch.setattr(collect, "collect", stop)
    with pytest.raises(Seen, match=f"^datasets/{folder}$"):
        collect.main("Gym-Reacher", **options)


def test_the_line_after_training_names_the_action_repeat() -> None:
    from types import SimpleNamespace

    from wmbench.commands.train import next_line
    from wmbench.registration import task_card

    card = task_card("Gym-Reacher")
    model = SimpleNamespace(predicts=frozenset({"observation"}))
    policy = SimpleNamespace()

    def line(own: Any, repeat: int) -> str:
        return next_line(SimpleNamespace(task=card.repeated(repeat), card=own), Path("c"))

    assert line(model, 1) == 'gym.make("wmbench/Gym-Reacher-v0", simulator="c")'
    assert line(model, 2) == 'gym.make("wmbench/Gym-Reacher-v0", simulator="c", action_repeat=2)'
    assert line(policy, 1) == "wmbench evaluate Gym-Reacher --policy c"
    assert line(policy, 3) == "wmbench evaluate Gym-Reacher --policy c --action-repeat 3"
