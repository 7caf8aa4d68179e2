"""What records of training inside say, on curves made by hand whose answers are known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmbench.errors import DatasetError
from wmbench_baselines.inside import InsideConfig
from wmbench_baselines.inside import analysis as a
from wmbench_baselines.inside.records import read_records, record_of, write_record


def made(arm: str, seed: int, true: list[float], learned: list[float], *, pace: float = 1.0, **config: Any) -> Any:
    """A record with two episodes per evaluation, one above and one below the value asked for."""
    curve = [
        {
            "step": 100 * (i + 1),
            "seconds": pace * (i + 1),
            "simulator_seconds": 0.05 * pace * (i + 1),
            **{
                side: {"returns": [v - 1, v + 1], "success": [0, 1], "length": [5, 5], "faults": []}
                for side, v in (("true", true[i]), ("learned", learned[i]))
            },
        }
        for i in range(len(true))
    ]
    where = "true" if "true" in arm else "learned"
    settings = {"seed": seed, "where": where, "steps": 100 * len(true), "updates": 1.0} | config
    name = f"T.{arm.replace(' ', '-')}.{seed}"
    return {
        "format": 1,
        "name": name,
        "task": "T",
        "arm": arm,
        "note": "",
        "config": settings,
        "weights": "",
        "curve": curve,
        "provenance": {},
    }


EXPLOITED = [
    made("SAC learned", 0, [1, 10, 4, 2], [1, 10, 20, 30]),
    made("SAC learned", 1, [1, 11, 5, 1], [1, 11, 22, 33]),
    made("SAC learned", 2, [1, 12, 3, 3], [1, 12, 24, 36]),
]
PLAIN = [made("SAC true", s, [2, 6, 9, 12 + s], [2, 6, 9, 10], pace=2.0) for s in range(3)]


def test_the_table_holds_means_over_seeds_with_students_interval() -> None:
    table = a.two_by_two(EXPLOITED, PLAIN)
    assert [table[k].value for k in (("learned", "true"), ("learned", "learned"))] == [2.0, 33.0]
    assert [table[k].value for k in (("true", "true"), ("true", "learned"))] == [13.0, 10.0]
    half = 4.302652729911275 * 1.0 / np.sqrt(3)  # t(0.975, 2 degrees), deviation 1 over three seeds
    cell = table["true", "true"]
    assert (cell.low, cell.high, cell.n) == (pytest.approx(13 - half), pytest.approx(13 + half), 3)


def test_the_gap_is_taken_seed_by_seed() -> None:
    gap = a.gap_by_step(EXPLOITED)
    assert [g.value for g in gap] == pytest.approx([0, 0, 18, 31])
    assert (gap[0].low, gap[0].high) == (0, 0)
    assert gap[3].above_zero


def test_exploitation_is_a_rise_in_imagination_and_a_fall_in_truth() -> None:
    found = a.exploitation(EXPLOITED)
    assert (found.peak, found.trough) == (200, 400)
    assert (found.true.value, found.learned.value, found.gap.value) == (-9.0, 22.0, 31.0)
    assert found.shown
    assert not a.exploitation(PLAIN).shown
    falling = [made("SAC learned", s, [1, 10 + s, 4, 2], [1, 10 + s, 4, 2]) for s in range(3)]
    assert a.exploitation(falling).true.below_zero
    assert not a.exploitation(falling).shown


def test_luck_alone_is_no_exploitation() -> None:
    """True returns that are noise around a constant: on average nothing falls from a peak that others chose."""
    rng = np.random.default_rng(0)
    falls, own = [], []
    for _ in range(200):
        noise = rng.normal(size=(3, 6))
        group = [made("SAC learned", s, noise[s].tolist(), list(range(6))) for s in range(3)]
        falls.append(a.exploitation(group).true.value)
        own.extend(a.exploitation([one]).true.value for one in group)
    assert abs(np.mean(falls)) < 4 * np.std(falls) / np.sqrt(len(falls))
    assert np.mean(own) < -1  # as it is where each curve chooses its own peak and trough


def test_a_fall_that_is_made_good_again_is_a_fall() -> None:
    back = [made("SAC learned", s, [5, -9 - s, 4], [0, 20, 30 + s]) for s in range(3)]
    found = a.exploitation(back)
    assert (found.peak, found.trough, found.true.value, found.learned.value) == (100, 200, -15.0, 20.0)
    assert found.shown


def test_one_seed_has_no_interval() -> None:
    found = a.exploitation(EXPLOITED[:1])
    assert (found.peak, found.true.value, found.true.low, found.shown) == (200, -8.0, None, False)
    assert a.final(EXPLOITED[:1], "true").high is None


def test_equal_time_ends_with_the_faster_arm() -> None:
    time, learned, true = a.at_equal_time(EXPLOITED, PLAIN)
    assert (time, learned.value, true.value) == (4.0, 2.0, 6.0)
    halfway = [made("SAC true", s, [2, 6, 9, 12], [0] * 4, pace=4 / 3) for s in range(3)]
    assert a.at_equal_time(EXPLOITED, halfway)[2].value == pytest.approx(9.0)
    between = [made("SAC true", s, [2, 6, 9, 12], [0] * 4, pace=1.6) for s in range(3)]
    assert a.at_equal_time(EXPLOITED, between)[2].value == pytest.approx(7.5)


def test_remedies_are_compared_by_welchs_interval() -> None:
    remedied = [made("SAC rwm-u", s, [1, 8, 9, 10 + s], [1, 9, 10, 12], penalty="rwm-u") for s in range(3)]
    assert a.difference(remedied, EXPLOITED, "true").value == 9.0
    assert a.difference(remedied, EXPLOITED, "true").above_zero
    assert a.difference(remedied, EXPLOITED, "gap").value == -30.0
    assert a.difference(remedied, EXPLOITED, "gap").below_zero
    over = a.difference(remedied, EXPLOITED, "gap", "throughout")
    assert over.value == pytest.approx(np.mean([0, 1, 1, 1]) - np.mean([0, 0, 18, 31]))
    assert over.below_zero
    assert a.difference(remedied, EXPLOITED, "true", 300).value == 9 - 4
    assert a.simulator_share(EXPLOITED) == pytest.approx(0.05)
    assert a.faults(EXPLOITED) == 0


def test_what_cannot_stand_side_by_side_is_refused() -> None:
    other = [made("SAC true", s, [1, 2], [1, 2], updates=0.5) for s in range(2)]
    with pytest.raises(DatasetError, match=r"steps 400 and 200, updates 1\.0 and 0\.5"):
        a.two_by_two(EXPLOITED, other)
    with pytest.raises(DatasetError, match="two trainings of one seed"):
        a.arms([EXPLOITED[0], copy.deepcopy(EXPLOITED[0])])
    with pytest.raises(DatasetError, match=r"penalty None and 'rwm-u'"):
        a.arms([EXPLOITED[0], made("SAC learned", 1, [1] * 4, [1] * 4, penalty="rwm-u")])
    late = copy.deepcopy(EXPLOITED[1])
    late["curve"][0]["step"] = 7
    with pytest.raises(DatasetError, match="different steps"):
        a.arms([EXPLOITED[0], late])


def test_a_record_is_written_and_read_back(tmp_path: Path) -> None:
    episode = {"returns": 1.23456789, "once": True, "length": 7, "valid": False, "fault": "it broke"}
    curve = [{"step": 30, "seconds": 1.23456, "simulator_seconds": 0.1, "true": [episode], "learned": [episode]}]
    config = InsideConfig("DMC-PendulumSwingup", model="ensemble")
    record = record_of("one", "SAC learned", config, curve)
    assert len(record["weights"]) == 64
    path = write_record(record, tmp_path)
    assert read_records([path]) == [record]
    point = record["curve"][0]
    assert point["true"] == {"returns": [1.234568], "success": [1], "length": [7], "faults": ["it broke"]}
    assert a.faults([record]) == 2
    path.write_text("{}")
    with pytest.raises(DatasetError, match="lacks format, name"):
        read_records([path])
    path.write_text("{")
    with pytest.raises(DatasetError, match="no JSON"):
        read_records([path])
