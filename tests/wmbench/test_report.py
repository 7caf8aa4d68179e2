"""The page, the tables and the figures say what the results say, and leave out what was not measured."""

import dataclasses
import html

import pytest

import wmbench
from wmbench.measures import Result
from wmbench.measuring import gather_subjects, measure_all
from wmbench.report import build_report
from wmbench.report.figures import LINES, OWN, figure_of, forest, save_figures
from wmbench.report.sections import SECTIONS
from wmbench.report.tables import task_tables
from wmbench.report.verdict import verdict
from wmbench.report.view import TaskView, number, views, with_interval

TASK = "Gym-Hopper"  # ends early under random actions, so episodes are short
SMALL = {
    "one-step": {"limit": 200},
    "drift": {"windows": 6, "horizon": 20},
    "counterfactual": {"starts": 12},
    "heads": {"limit": 200, "windows": 6, "horizon": 10},
    "uncertainty": {"windows": 20, "horizon": 3},
    "success": {"episodes": 2},
    "agreement": {"episodes": 2},
    "exposure": {"windows": 6, "horizon": 6, "episodes": 2},
    "ranking": {"starts": 3, "candidates": 6, "steps": 5, "planner_starts": 1, "planner_steps": 2, "replans": (1,)},
    "filter": {"starts": 24, "candidates": 6, "steps": 10, "loop_starts": 1, "loop_steps": 2},
    "exploitation": {
        "starts": 3,
        "candidates": 16,
        "steps": 3,
        "drives": 1,
        "drive_steps": 2,
        "replan": 2,
        "pressures": ((8, 1),),
    },
    "real-time": {"episodes": 2, "delays": (0, 1), "measure": False},
}
POLICIES = ["random", "zero", "zero+noise0.3"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Every result of the shipped ensemble, measured on very little."""
    folder = tmp_path_factory.mktemp("report") / "data"
    data = wmbench.collect(TASK, folder, policy="random", episodes=24, seed=1, split=(0.5, 0.2, 0.3))
    subjects = gather_subjects(data, ["ensemble"], POLICIES)
    return measure_all(subjects, only=list(SMALL), options=SMALL)


@pytest.fixture(scope="module")
def records(measured):
    """As a run leaves them."""
    steps = {
        name: {"values": {"results": [r.to_json() for r in m.results]}, "facts": {"seconds": 1.0}}
        for name, m in measured.items()
    }
    steps["success"]["values"] |= {"policies": POLICIES, "simulators": ["true", "ensemble"]}
    steps["collect"] = {
        "values": {"episodes": 24, "steps": 600, "sources": {"random": 24}, "digest": "d" * 64},
        "facts": {"seconds": 1.0},
    }
    return {TASK: steps}


@pytest.fixture
def view(records):
    (found,) = views(records)
    return found


def test_every_question_that_was_measured_is_a_section_with_its_figures_and_numbers(records, tmp_path):
    page = build_report(tmp_path, {"name": "quick", "seed": 0}, records).read_text()
    for section in SECTIONS:
        assert section.question in page
        for caption, _ in section.figures:
            assert (html.escape(caption).replace("&#x27;", "&#39;") in page) == ("One rollout" not in caption), (
                "nobody recorded a rollout here"
            )
    (view,) = views(records)
    skill = view.find("one-step", "skill", "ensemble")
    assert f"<td>{with_interval(skill)}</td>" in page
    for sentence in verdict(view):
        assert sentence.replace("'", "&#39;") in page


def test_what_was_not_measured_is_left_out(records, tmp_path):
    some = {TASK: {k: v for k, v in records[TASK].items() if k in ("collect", "one-step")}}
    page = build_report(tmp_path, {"name": "quick", "seed": 0}, some).read_text()
    asked = [s.question for s in SECTIONS if s.question in page]
    assert asked == ["How wrong is one step?"]


def test_tables_have_a_line_per_subject(view):
    tables = task_tables(view)
    titles = [t.title for t in tables]
    assert titles == [s.question for s in SECTIONS if s.measure != "success"] + ["Success"]
    (steps,) = (t for t in tables if t.title == SECTIONS[0].question)
    assert list(steps.columns[0].cells) == view.subjects("one-step")


def test_sentences_follow_the_numbers(view):
    def say(**changes):
        found = []
        for r in view.results:
            new = changes.get(f"{r.measure}/{r.name}".replace("-", "_").replace("/", "__"))
            found.append(dataclasses.replace(r, **new) if new and r.subject == "ensemble" else r)
        return " ".join(verdict(dataclasses.replace(view, results=tuple(found))))

    known = {"value": 0.3, "ci_low": 0.2, "ci_high": 0.4}
    assert "off by 30 % of its size after one step" in say(counterfactual__cfe=known)
    assert "not shown to use the action" not in say(counterfactual__cfe=known)
    assert "not shown to use the action" in say(counterfactual__cfe={**known, "ci_high": 1.1})
    auroc = {"value": 0.8, "ci_low": 0.7, "ci_high": 0.9, "reason": None}
    for gain, words in (
        ({"value": 0.1, "ci_low": 0.05, "ci_high": 0.2}, "0.100 above the best signal"),
        ({"value": -0.1, "ci_low": -0.2, "ci_high": -0.05}, "0.100 below a signal"),
        ({"value": 0.1, "ci_low": -0.05, "ci_high": 0.2}, "not shown to beat"),
    ):
        text = say(uncertainty__auroc=auroc, uncertainty__auroc_gain={**gain, "reason": None})
        assert "AUROC of 0.800" in text and words in text
    rank = {"value": 0.9, "ci_low": 0.5, "ci_high": 1.0, "reason": None}
    text = say(agreement__spearman=rank, **{"agreement__regret@1": {"value": 0.25, "reason": None}})
    assert "correlate at 0.900 (0.500 to 1.00)" in text and "gives away 25 %" in text and "no evidence" in text


@pytest.mark.parametrize("measure", sorted({*OWN} - {"latency", "images"}))
def test_measures_with_a_drawing_of_their_own_use_it(measure, measured, view):
    results = [r for m in measured.values() for r in m.results]
    drawn = figure_of(measure, results, view.card)
    assert drawn is not None and len(drawn.axes) >= 1
    general = forest([r for r in results if r.measure == measure])
    assert [a.get_title(loc="left") for a in drawn.axes] != [a.get_title(loc="left") for a in general.axes]


def test_any_other_measure_is_drawn_as_values_with_intervals(tmp_path):
    def result(name, subject, value, low=None, high=None):
        reason = None if value is not None else "nothing to say"
        return Result("mine", name, subject, value, low, high, 3, 0, "m", "lower", "so", reason)

    results = [result("a", "x", 1.0, 0.5, 2.0), result("a", "y", 3.0), result("b", "x", None)]
    figure = forest(results)
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "a (m), lower is better"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["x", "y"]
    ends = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert ends == [(0.5, 2.0), (3.0, 3.0)], "no interval, no line"
    assert forest([results[-1]]) is None
    many = [result(f"n{i}", f"s{j}", float(j)) for i in range(9) for j in range(10)]
    assert len(forest(many).axes) == LINES // 10
    (path,) = save_figures(results, None, tmp_path / "figures")
    assert path.name == "mine.png" and path.stat().st_size > 1000


def test_numbers_as_a_person_reads_them():
    assert [number(x) for x in (None, 0.0, 1e-17, -1e-17, 0.12345, 12.345, 1234.5, 3e-7, 2e8)] == [
        *("-", "0.000", "0.000", "0.000", "0.123", "12.3", "1,234", "3.00e-07", "2.00e+08")
    ]  # fmt: skip


def test_a_view_without_a_card_of_the_task_is_left_out():
    assert views({"Nobody-Knows": {"one-step": {"values": {}, "facts": {}}}}) == []
    assert TaskView.find(TaskView(None, {}, {}, ()), "a", "b", "c") is None
