"""The table of floors: every task has one, it is made again by the same code, and recordings fall back on it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

import wmbench
from wmbench import floors as reader
from wmbench.measures.drift import MEASURE as DRIFT
from wmbench.recording.drift import record_drift
from wmbench.registration import task_cards
from wmbench_envs.floors import BEGIN, END, SETTINGS, disturbable, floors, markdown, measure_floor, page

PAGE = Path(__file__).parents[2] / "docs" / "measures" / "floor.md"
OURS = [c for c in task_cards().values() if c.physics == "mujoco-cpu"]


@pytest.mark.parametrize("card", OURS, ids=lambda c: c.name)
def test_every_task_ships_a_floor_of_this_version(card: wmbench.TaskCard) -> None:
    entry = floors()["tasks"][card.id]
    assert entry["task_digest"] == card.digest()
    assert [r["disturbance"] for r in entry["floors"]] == [1e-9, 1e-6, 1e-3]
    for row in entry["floors"]:
        assert (row["steps"] is None) == (row["censored"] > 0.5) or row["censored"] >= 0.3
        assert 1 <= row["mean_steps"] <= entry["horizon"] <= card.horizon
    mean = [row["mean_steps"] for row in entry["floors"]]
    assert mean[0] >= mean[1] >= mean[2]  # a larger disturbance is lost sooner
    floor = reader.shipped_floor(card)
    assert floor is not None
    assert floor.steps == (entry["floors"][1]["steps"] or math.inf)


def test_maniskill_has_none() -> None:
    replayed = [c for c in task_cards().values() if c.suite == "maniskill"]
    assert not floors()["tasks"].keys() & {c.id for c in replayed}
    assert all(reader.shipped_floor(c) is None for c in replayed)
    assert disturbable(wmbench.task_card("DMC-ReacherEasy")) and not disturbable(wmbench.task_card("MS-PushCube"))


def test_the_table_is_what_measuring_anew_gives(tmp_path: Path) -> None:
    """To the digit where the machine rounds alike; elsewhere chaos moves single windows, but hardly the medians."""
    assert floors()["settings"] == SETTINGS
    for name in ("Gym-InvertedPendulum", "Gym-Walker2d"):
        card = wmbench.task_card(name)
        again, stored = measure_floor(card, tmp_path / name), floors()["tasks"][card.id]
        assert {k: again[k] for k in ("task_digest", "control_hz", "masked")} == {
            k: stored[k] for k in ("task_digest", "control_hz", "masked")
        }
        for new, old in zip(again["floors"], stored["floors"], strict=True):
            assert new["censored"] == pytest.approx(old["censored"], abs=0.05)
            assert new["mean_steps"] == pytest.approx(old["mean_steps"], rel=0.05)


def test_a_table_of_another_version_is_none() -> None:
    card = wmbench.task_card("Gym-HalfCheetah")
    other = dataclasses.replace(card, horizon=card.horizon - 1)
    assert reader.shipped_floor(other) is None
    assert {k: bool(np.isnan(v)) for k, v in reader.floor_arrays(other).items()} == {
        "floor_steps": True,
        "floor_rate": True,
    }
    assert 30 < reader.floor_arrays(card)["floor_steps"] < 150  # measured elsewhere: about 77
    assert 0.1 < reader.floor_arrays(card)["floor_rate"] < 0.4
    pendulum = reader.floor_arrays(wmbench.task_card("DMC-PendulumSwingup"))
    assert np.isinf(pendulum["floor_steps"])


def test_the_page_shows_the_table() -> None:
    text = PAGE.read_text()
    assert page(text, floors()) == text
    assert len([line for line in markdown(floors()).splitlines() if line.startswith("| `")]) == len(floors()["tasks"])
    with pytest.raises(ValueError, match="unpack"):
        page(text.replace(BEGIN, ""), floors())
    with pytest.raises(ValueError, match="unpack"):
        page(text.replace(END, ""), floors())


def test_a_recording_without_a_floor_of_its_own_is_capped_by_the_shipped_one(tmp_path: Path) -> None:
    data = wmbench.collect("Gym-HalfCheetah", tmp_path / "d", episodes=4, split=(0.5, 0.0, 0.5))
    shipped = reader.shipped_floor(data.task)
    assert shipped is not None
    own, borrowed = (record_drift({}, data, horizon=100, windows=4, floor=floor) for floor in (True, False))
    assert "floor_steps" not in own.arrays
    found = {(r.subject, r.name): r for r in DRIFT(borrowed.arrays)}
    assert found["linear", "auc-to-floor"].details["horizon"] == shipped.steps < 100
    assert borrowed.arrays["floor_rate"] == shipped.rate
