"""A zoo of frozen policies is ranked in learned simulators: known answers, refusals, and the command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import wmbench.transferring.asking as asking
import wmbench.zoo
from wmbench.episodes import EpisodeData
from wmbench.errors import CheckpointError, DatasetError, NotRegisteredError
from wmbench.main import main
from wmbench.registration import task_card
from wmbench.transferring import freeze_zoo, transfer
from wmbench.transferring.pairs import distinct_pairs, places
from wmbench.transferring.words import sentences
from wmbench.zoo import Member, Zoo, load_zoo, read_zoo

CARD = task_card("Gym-InvertedPendulum")
EPISODES = 6
MEMBERS = [
    Member("expert", "expert", "scripted", "LQR"),
    Member("noisy", "expert+noise0.3", "scripted"),
    Member("noisier", "expert+noise0.9", "scripted"),
    Member("zero", "zero", "scripted"),
    Member("random", "random", "random"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    freeze_zoo(CARD, MEMBERS, folder / "zoo.json", episodes=EPISODES, work=folder / "work", show_progress=False)
    return folder / "zoo.json"


@pytest.fixture
def zoo(made: Path, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    monkeypatch.setattr(wmbench.zoo, "shipped_zoos", lambda: {CARD.id: made})
    return load_zoo(CARD)


def test_the_truth_is_what_an_evaluation_finds(zoo: Zoo) -> None:
    from wmbench import evaluate

    for name, row in (("zero", 3), ("expert", 0)):
        found = evaluate(CARD, name, episodes=EPISODES)
        assert found.seeds == zoo.seed.tolist()
        np.testing.assert_array_equal([e["returns"] for e in found.episodes], zoo.returns[-1, row])
        np.testing.assert_array_equal([e["length"] for e in found.episodes], zoo.length[row])
        np.testing.assert_array_equal([e["once"] for e in found.episodes], zoo.success[-1, row])
    assert zoo.horizon == (250, 500, 750, 1000)
    assert (np.diff(zoo.returns, axis=0) >= 0).all()  # every step is worth something here


def test_the_oracle_agrees_in_everything(zoo: Zoo) -> None:
    found = transfer(CARD, ["oracle"], episodes=EPISODES)
    np.testing.assert_array_equal(found.recording.arrays["learned"][0], zoo.returns)
    for name, value in {"spearman": 1.0, "pearson": 1.0, "regret@1": 0.0, "bias": 0.0, "mmrv": 0.0}.items():
        assert found.find(name, "oracle").value == pytest.approx(value, abs=1e-12), name
    assert found.find("winners", "oracle").details["verdict"] == "robustly correct"


def test_success_can_be_compared_instead(zoo: Zoo) -> None:
    found = transfer(CARD, ["oracle"], episodes=EPISODES, outcome="success", policies=["random", "expert"])
    np.testing.assert_array_equal(found.recording.arrays["true"], zoo.success[:, [4, 0]].astype(float))
    assert found.find("bias", "oracle").unit == "1"


def test_freezing_goes_on_where_it_stopped(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wmbench.transferring.freeze as freeze

    played: list[str] = []
    evaluate = freeze._evaluate

    def counted(task, member, seeds, horizon):  # type: ignore[no-untyped-def]
        played.append(member.name)
        if len(played) == 3:
            raise KeyboardInterrupt
        return evaluate(task, member, seeds, horizon)

    monkeypatch.setattr(freeze, "_evaluate", counted)
    options = {"episodes": EPISODES, "work": tmp_path / "work", "show_progress": False}
    with pytest.raises(KeyboardInterrupt):
        freeze_zoo(CARD, MEMBERS, tmp_path / "zoo.json", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "zoo.json").exists()
    again = freeze_zoo(CARD, MEMBERS, tmp_path / "zoo.json", **options)  # type: ignore[arg-type]
    assert played == ["expert", "noisy", "noisier", "noisier", "zero", "random"]
    assert again.digest == read_zoo(made, CARD).digest


def test_what_is_no_longer_as_it_was_written_is_refused(made: Path, tmp_path: Path) -> None:
    arrays = made.with_suffix(".safetensors").read_bytes()
    path = tmp_path / "zoo.json"
    path.with_suffix(".safetensors").write_bytes(arrays[:-1] + bytes([arrays[-1] ^ 1]))
    path.write_text(made.read_text())
    with pytest.raises(CheckpointError, match="its digest says"):
        read_zoo(path, CARD)
    with pytest.raises(CheckpointError, match="Gym-Hopper"):
        read_zoo(made, task_card("Gym-Hopper"))
    path.write_text(json.dumps({**json.loads(made.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        read_zoo(path, CARD)
    path.write_text("{}")
    with pytest.raises(CheckpointError, match="not a zoo"):
        read_zoo(path, CARD)


def test_bad_questions_are_refused_before_anything_runs(zoo: Zoo) -> None:
    with pytest.raises(NotRegisteredError, match=r"no 'expart': there are expert, noisy"):
        transfer(CARD, ["oracle"], policies=["expart"])
    with pytest.raises(NotRegisteredError, match=r"no zoo .*Gym-Hopper.*Gym-InvertedPendulum"):
        transfer("Gym-Hopper", ["oracle"])
    with pytest.raises(DatasetError, match="6 episodes of the zoo are frozen, asked for 7"):
        transfer(CARD, ["oracle"], episodes=7)
    with pytest.raises(DatasetError, match="each once"):
        transfer(CARD, ["oracle", "oracle"], episodes=1)
    with pytest.raises(CheckpointError, match="ensemble"):
        transfer(CARD, ["ensemble"], episodes=1)
    with pytest.raises(ValueError, match="unknown outcome"):
        transfer(CARD, ["oracle"], outcome="score")


def test_a_zoo_needs_names_that_differ(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="each name once"):
        freeze_zoo(CARD, [MEMBERS[0], MEMBERS[0]], tmp_path / "zoo.json", episodes=1, work=tmp_path)


def episode(
    reward: list[float], doubt: list[float], *, terminated: bool = False, diverged: bool = False
) -> EpisodeData:
    steps = len(reward)
    ends = np.zeros(steps, bool)
    ends[-1] = terminated
    return EpisodeData(
        observation=np.zeros((steps + 1, 1), np.float32),
        action=np.zeros((steps, 1), np.float32),
        reward=np.array(reward),
        terminated=ends,
        truncated=np.zeros(steps, bool),
        success=np.zeros(steps, bool),
        extra={"doubt": np.array(doubt, np.float32)},
        diverged=diverged,
    )


def test_halting_in_doubt_goes_on_at_the_mean_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "SURE", 2)
    rows = [
        [episode([1, 2, 3, 4], [0, 0, 0, 0]), episode([1, 3, 9, 9], [0, 0, 5, 5])],
        [episode([2, 2], [0, 1], terminated=True), episode([4, 4, 4], [0, 0, np.inf], diverged=True)],
        [episode([7, 8, np.nan], [0, 0, 0], diverged=True), episode([1, 1, 1, 1], [0, 0, 1, 0])],
    ]
    found = asking.halted(rows, [2, 4])
    limit = np.quantile([0] * 11 + [1], 0.95)
    assert 0 < limit < 1
    np.testing.assert_allclose(found[:, 0], [[3, 4], [10, 8]])  # undisturbed; stopped after two steps of mean 2
    np.testing.assert_allclose(found[:, 1], [[4, 8], [8, 16]])  # stopped at the second step; stopped before it broke
    np.testing.assert_allclose(found[:, 2], [[np.nan, 2], [np.nan, 4]])  # broke without a doubt


def test_pairs_are_those_that_the_truth_tells_apart() -> None:
    table = {
        "policy": ["a", "b", "c", "d"],
        "true": [10.0, 9.5, 5.0, 0.0],
        "true_interval": [[9.4, 10.6], [9.0, 10.0], [4.0, 6.0], None],
        "learned": [1.0, 3.0, 2.0, None],
    }
    found = distinct_pairs(table)
    assert [(p.better, p.worse, p.gap, p.right) for p in found] == [("a", "c", 0.5, False), ("b", "c", 0.45, True)]
    table["true_interval"][3] = [0.0, 0.1]  # type: ignore[index]
    assert [p.right for p in distinct_pairs(table) if p.worse == "d"] == [True] * 3  # no estimate ranks last
    assert places([10.0, 12.0, 10.0, None]) == [2, 1, 2, 4]


def test_sentences_follow_the_numbers(zoo: Zoo) -> None:
    found = transfer(CARD, ["oracle"], episodes=EPISODES)
    said = " ".join(sentences(found, "oracle"))
    assert "rank correlation is 1.00 (-1.00 to 1.00)" in said and "better than chance" in said
    assert "Caution: 5 policies, and fewer than 8 are no evidence" in said
    counted = int(said.split("Of ")[1].split(" pairs")[0])
    assert f"puts the better first in {counted}" in said
    assert "not shown to be off in one direction" in said and "robustly correct" in said
    worse = next(r for r in found.results if r.name == "spearman")
    reversed_ = dataclasses.replace(worse, value=-0.5, ci_low=-0.9, ci_high=0.2)
    other = dataclasses.replace(found, results=[reversed_, *(r for r in found.results if r.name != "spearman")])
    assert "is not shown to order them better than chance" in sentences(other, "oracle")[0]


def test_the_command_writes_a_page_with_every_policy(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["transfer", CARD.name, "--model", "oracle", "--episodes", "4", "--out", str(tmp_path), "--no-progress"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "Over 5 policies the rank correlation is" in said and "robustly correct" in said
    page = (tmp_path / "index.html").read_text()
    assert all(member.name in page for member in MEMBERS) and "<svg" in page
    record = json.loads((tmp_path / "transfer.json").read_text())
    assert record["zoo"]["digest"] == zoo.digest
    assert main(["measure", str(tmp_path)]) == 0
    assert "spearman" in capsys.readouterr().out
