"""A stranger's whole journey by the command line: freeze policies, look at them, judge a simulator, and repeat it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wmbench.main import main

TASK = "Gym-InvertedPendulum"
POLICIES = ("random", "zero", "expert+noise1.5", "expert+noise2.5")


def test_the_whole_journey(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: str) -> str:
        assert main([*words]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    made = run("zoo", TASK, "--policies", *POLICIES, "--episodes", "4", "--out", "mine.json", "--no-progress")
    shown = run("zoo", TASK, "--zoo", "mine.json")
    assert shown == made and all(name in shown for name in POLICIES) and "4 true episodes each" in shown
    cards = json.loads(run("zoo", TASK, "--zoo", "mine.json", "--json"))["policies"]
    assert {card["name"] for card in cards} == set(POLICIES) and all(card["episodes"] == 4 for card in cards)
    assert main(["zoo", TASK, "--policies", "zero", "--out", "mine.json"]) == 1, "a zoo is never overwritten"
    capsys.readouterr()

    words = ["transfer", TASK, "--zoo", "mine.json", "--model", "oracle", "--episodes", "4", "--no-progress"]
    said = run(*words)
    assert "Over 4 policies the rank correlation is" in said and "robustly correct" in said
    folder = Path("runs/transfer") / TASK
    assert f"{folder / 'index.html'} shows every policy" in said
    page = (folder / "index.html").read_text()
    assert "<svg" in page and all(name in page for name in POLICIES)
    record = json.loads((folder / "transfer.json").read_text())
    assert record["facts"]["kept"] == [] and record["zoo"]["policies"] == list(POLICIES)

    assert "Over 4 policies" in run(*words)
    again = json.loads((folder / "transfer.json").read_text())
    assert again["facts"]["kept"] == ["oracle"] and again["results"] == record["results"]
    assert "spearman" in run("measure", str(folder))
