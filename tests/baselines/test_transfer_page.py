"""docs/transfer.md says what the committed records say, and its figures can be drawn from them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from wmbench import checkpoints
from wmbench.episodes.storage import file_hash
from wmbench.registration import shipped_checkpoints, task_card
from wmbench.zoo import load_zoo

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "transfer.md"


@pytest.fixture(scope="module")
def plot() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "baselines" / "scripts"))
    yield import_module("plot_transfer_study")
    sys.path.remove(str(ROOT / "baselines" / "scripts"))


def test_the_tables_are_those_of_the_records(plot: ModuleType) -> None:
    text, found = PAGE.read_text(), plot.tables(plot.read())
    assert plot.insert(text, found) == text, "run: python baselines/scripts/plot_transfer_study.py"
    assert all(len(table.splitlines()) > 2 for table in found.values())
    with pytest.raises(ValueError, match="lacks <!-- ranks -->"):
        plot.insert("an empty page", {"ranks": ""})


def test_records_are_of_the_zoos_and_models_that_ship(plot: ModuleType) -> None:
    study = plot.read()
    assert study
    for task, models in study.items():
        zoo = load_zoo(task_card(task))
        if "ensemble" in models:
            weights = shipped_checkpoints()["ensemble", zoo.task.id] / checkpoints.WEIGHTS
            assert models["ensemble"].data["weights"] == file_hash(weights), f"{task}: another ensemble is shipped now"
        for name, record in models.items():
            assert record.data["zoo"] == zoo.digest, (
                f"{task}/{name} is of another zoo: run run_transfer_study.py {task}"
            )
            assert record.table()["policy"] == [member.name for member in zoo.members]
            assert record.data["command"].startswith("python baselines/scripts/run_transfer_study.py")
            if name != "truth-again":
                assert record.table()["true"] == pytest.approx(zoo.returns[-1].mean(1).tolist(), rel=1e-5)
        if "oracle" in models:
            assert models["oracle"].find("spearman").value > 0.9  # the machinery's own check


def test_every_figure_is_drawn_from_the_records(plot: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE.read_text())
    plot.main(page=tmp_path / "page.md", images=tmp_path / "images")
    for name in plot.FIGURES:
        assert (tmp_path / "images" / f"transfer-{name}.png").stat().st_size < 150_000
        assert (ROOT / "docs" / "images" / f"transfer-{name}.png").exists()
        assert f"(images/transfer-{name}.png)" in PAGE.read_text()
