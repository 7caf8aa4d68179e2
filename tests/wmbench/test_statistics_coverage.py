"""A quick look at what intervals cover, with a fixed seed: the whole study is python -m wmbench.statistics.coverage."""

import math
import runpy
import sys

import numpy as np
import pytest

from wmbench.statistics.coverage import MEAN_BAR, WORST_BAR, Case, Row, all_cases, covered, row_of, study, table
from wmbench.statistics.intervals import Interval

CASES = all_cases()
REPETITIONS = 60


@pytest.mark.parametrize("case", [c for c in CASES if c.where], ids=lambda c: f"{c.interval}, {c.size}")
def test_intervals_of_the_suite_cover_what_they_promise(case):
    row = study([case], REPETITIONS, seed=1)[0]
    parameters = len(case.parameters())
    # three standard errors of a simulation this short
    slack = 3 * math.sqrt(0.05 * 0.95 / (REPETITIONS * parameters)) if row.repetitions else 0.0
    assert row.mean >= MEAN_BAR - slack
    assert row.worst >= (WORST_BAR - 3.5 * math.sqrt(0.09 / REPETITIONS) if row.repetitions else WORST_BAR)


def test_the_study_sees_an_interval_that_falls_short():
    wald = next(c for c in CASES if c.interval == "Wald")
    assert not study([wald], 1)[0].passes
    percentile = next(c for c in CASES if c.interval == "worst dimension, percentile bootstrap")
    row = study([percentile], 100)[0]
    assert not row.passes
    assert row.mean < 0.8
    seeds = next(c for c in CASES if "hierarchical" in c.interval and c.size.startswith("3"))
    assert study([seeds], 100)[0].mean < 0.9


def test_coverage_of_what_is_known():
    rng = np.random.SeedSequence(0)
    assert covered(lambda rng: (Interval(0.0, 1.0), 0.5), 10, rng) == 1.0
    assert covered(lambda rng: (Interval(0.0, 0.4), 0.5), 10, rng) == 0.0
    half = covered(lambda rng: (Interval(0.0, float(rng.random())), 0.5), 4000, rng)
    assert half == pytest.approx(0.5, abs=0.03)
    # a sample without an interval counts neither way
    some = covered(lambda rng: (None if rng.random() < 0.5 else Interval(0.0, 1.0), 0.5), 100, rng)
    assert some == 1.0


def test_cases_do_not_depend_on_each_other_and_rows_are_exact_where_they_can_be():
    case = next(c for c in CASES if c.interval == "bias, Student's t")
    wilson = next(c for c in CASES if c.interval == "Wilson")
    alone, together = study([case], 5)[0], study([wilson, case], 5)[1]
    assert (alone.mean, alone.worst, alone.worst_at) == (together.mean, together.worst, together.worst_at)
    index = CASES.index(case)
    assert row_of((index, 5, 0)).mean == alone.mean
    assert study([wilson], 5)[0].repetitions == 0
    assert study([case], 5, seed=1)[0].mean != pytest.approx(alone.mean, abs=1e-12) or alone.mean == 1.0


def test_the_table_marks_what_falls_short():
    case = Case("a", "8", "x", dict)
    lines = table([Row(case, 0.95, 0.91, "p = 1", 10), Row(case, 0.95, 0.89, "p = 2", 10)]).splitlines()
    assert lines[2] == "| a | 8 | 95.0 % | 91.0 % | p = 1 | x |"
    assert lines[3] == "| a | 8 | **95.0 %** | **89.0 %** | p = 2 | x |"
    unused = table([Row(Case("a", "8", "", dict), 0.5, 0.4, "p", 0)])
    assert "| not used |" in unused


@pytest.mark.parametrize("case", [c for c in CASES if not c.where], ids=lambda c: f"{c.interval}, {c.size}")
def test_what_intervals_were_compared_with_can_be_simulated(case):
    assert 0 <= study([case], 2)[0].worst <= 1


def test_the_command_prints_the_table(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["coverage", "--only", "Clopper", "--repetitions", "1"])
    runpy.run_module("wmbench.statistics.coverage", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| interval | sizes |")
    assert len([line for line in lines if line.startswith("| Clopper-Pearson")]) == 2
