"""The transfer study's steps: nested data, starts that nothing is trained on, records kept or made anew."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import wmbench
import wmbench.zoo
from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.registration import task_card
from wmbench.transferring import freeze_zoo
from wmbench.zoo import Member

SCRIPTS = Path(__file__).parents[2] / "baselines" / "scripts"
CARD = task_card("Gym-InvertedPendulum")


@pytest.fixture(scope="module")
def scripts() -> ModuleType:
    sys.path.insert(0, str(SCRIPTS))
    yield importlib  # type: ignore[misc]
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("study") / CARD.name / "data"
    return wmbench.collect(CARD, folder, policy=["random", "expert"], episodes=[30, 10], noise=[0.0, 1.0], seed=1)


def test_smaller_data_are_parts_of_larger_ones(scripts: ModuleType, data: Dataset, tmp_path: Path) -> None:
    models = scripts.import_module("make_transfer_models")
    parts = [models.subset(data, share, tmp_path / f"{share}", seed=1) for share in (0.1, 0.5, 1.0)]
    test = sorted(data.index["seed"][data.episodes("test")].tolist())
    for split in ("train", "val"):
        seeds = [set(part.index["seed"][part.episodes(split)].tolist()) for part in parts]
        assert seeds[0] <= seeds[1] <= seeds[2] == set(data.index["seed"][data.episodes(split)].tolist())
        assert seeds[0]
    for share, part in zip((0.1, 0.5, 1.0), parts, strict=True):
        assert sorted(part.index["seed"][part.episodes("test")].tolist()) == test
        steps = [int(d.index["length"][d.episodes("train")].sum()) for d in (part, data)]
        longest = int(data.index["length"].max())
        assert abs(steps[0] - share * steps[1]) <= longest
        assert part.manifest["plan"]["part_of"] == data.digest
    half = parts[1].index["source"][parts[1].episodes("train")]
    assert [int((half == s).sum()) for s in np.unique(half)] == pytest.approx([4, 12], abs=2)  # every source
    assert models.subset(data, 0.5, tmp_path / "0.5", seed=1).digest == parts[1].digest
    with pytest.raises(DatasetError, match="wanted is"):
        models.subset(data, 0.4, tmp_path / "0.5", seed=1)


def test_no_data_begin_where_a_zoo_is_judged(
    scripts: ModuleType, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = scripts.import_module("make_transfer_models")
    monkeypatch.setattr(wmbench, "collect", lambda *_, **__: data)
    assert models.collect(CARD, data.folder, 1, {}) is data
    monkeypatch.setattr(models, "episode_seeds", lambda *_: [3, int(data.index["seed"][7])])
    with pytest.raises(DatasetError, match="is judged on the start"):
        models.collect(CARD, data.folder, 1, {})


def test_a_record_is_kept_until_zoo_or_model_change(
    scripts: ModuleType, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = scripts.import_module("run_transfer_study")
    members = [Member("expert", "expert", "scripted"), Member("noisy", "expert+noise0.9", "scripted")]
    members += [Member("zero", "zero", "scripted"), Member("random", "random", "random")]
    zoo = tmp_path / "zoo.json"
    freeze_zoo(CARD, members, zoo, episodes=12, work=tmp_path / "work", show_progress=False)
    monkeypatch.setattr(wmbench.zoo, "shipped_zoos", lambda: {CARD.id: zoo})
    monkeypatch.setattr(study, "shipped_zoos", lambda: {CARD.id: zoo})
    monkeypatch.setattr(study, "FEWER", {"oracle": 2})
    wmbench.train("linear", CARD, data, data.folder.parent / "linear")
    asked: list[str] = []
    transfer = study.transfer

    def spied(card: TaskCard, models: list[str], **how: Any) -> Any:
        asked.append(models[0])
        return transfer(card, models, **how)

    monkeypatch.setattr(study, "transfer", spied)

    def run(episodes: int = 4) -> dict[str, dict]:
        asked.clear()
        work = data.folder.parents[1]
        study.main((CARD.name,), work, tmp_path / "out", model=(f"mine={work}/{{task}}/linear",), episodes=episodes)
        return {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out" / CARD.name).glob("*.json")}

    first = run()
    assert sorted(first) == ["linear", "mine", "oracle", "truth-again"]
    assert [Path(name).name for name in asked] == ["linear", "linear", "oracle"]
    by = {name: {r["name"]: r for r in record["results"] if r["subject"] == name} for name, record in first.items()}
    assert by["oracle"]["spearman"]["value"] == 1.0 and first["oracle"]["episodes"] == 2
    assert by["mine"]["bias"]["value"] == by["linear"]["bias"]["value"] != 0.0
    assert by["truth-again"]["bias"]["details"]["table"]["policy"] == [member.name for member in members]
    truth = wmbench.zoo.load_zoo(CARD).returns[-1]
    np.testing.assert_allclose(by["truth-again"]["bias"]["value"], truth[:, 8:].mean() - truth[:, :8].mean(), rtol=1e-4)
    assert first["linear"]["quality"]["skill"][0] > 0.9 and first["linear"]["data"]["digest"] == data.digest
    run()
    assert asked == []  # everything was there
    (tmp_path / "out" / CARD.name / "linear.json").unlink()
    run()
    assert [Path(name).name for name in asked] == ["linear"]
    run(episodes=5)
    assert [Path(name).name for name in asked] == ["linear", "linear"]  # the oracle keeps its two
