"""From a dataset and names to every number, and from the recordings alone to the same numbers again."""

import json
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

import wmbench
from wmbench import registry
from wmbench.commands.measure import compare_with_records
from wmbench.errors import CheckpointError, DatasetError, NotRegisteredError, WmbenchError
from wmbench.main import main
from wmbench.measures import Measure, Result
from wmbench.measuring import gather_subjects, measure_all
from wmbench.measuring.everything import chosen_recorders, read_policy
from wmbench.recording import Recording
from wmbench.recording.agreement import record_agreement
from wmbench.recording.recorder import Recorder
from wmbench.recording.store import find_recordings

TASK = "Gym-Hopper"  # random episodes are short
SMALL = {"one-step": {"limit": 60}, "drift": {"windows": 4, "horizon": 10}}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everything") / "data"
    return wmbench.collect(TASK, folder, policy="random", episodes=24, seed=3, split=(0.5, 0.2, 0.3))


@pytest.fixture(scope="module")
def recorded(dataset, tmp_path_factory):
    """A folder of two recordings, and what was measured."""
    out = tmp_path_factory.mktemp("recorded")
    subjects = gather_subjects(dataset, ["ensemble"], ["random", "zero"])
    return out, measure_all(subjects, out, only=["one-step", "drift"], options=SMALL)


def test_recordings_alone_give_the_same_numbers(recorded):
    out, done = recorded
    assert [p.name for p in find_recordings(out)] == ["drift.safetensors", "one-step.safetensors"]
    for name, measured in done.items():
        again = Recording.load(out / f"{name}.safetensors").every_result()
        assert [r.to_json() for r in again] == [r.to_json() for r in measured.results]
        assert measured.results[0].measure == name


def test_the_digits_do_not_depend_on_the_number_of_threads(tmp_path):
    rng = np.random.default_rng(0)
    o, n = 40, 5000
    truth = rng.normal(size=(n, o)).astype(np.float32)
    arrays = {
        "subject": np.array(["a"]),
        "role": np.array(["model"]),
        "dimension": np.array([f"d{i}" for i in range(o)]),
        "kind": np.array(["linear"] * o),
        "unit": np.array(["1"] * o),
        "observation": np.zeros((n, o), np.float32),
        "next_observation": truth,
        "prediction": (truth + rng.normal(size=(1, n, o))).astype(np.float32),
        "episode": np.arange(n) // 50,
        "delta_std": np.ones(o),
        "observation_low": np.full(o, -4.0),
        "observation_high": np.full(o, 4.0),
    }
    Recording("one-step", arrays).save(tmp_path / "r.safetensors")
    code = (
        "import sys, json; from wmbench.recording import Recording; "
        "print(json.dumps([r.to_json() for r in Recording.load(sys.argv[1]).every_result()]))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "r.safetensors")],
            env={**os.environ, "OMP_NUM_THREADS": str(t), "OPENBLAS_NUM_THREADS": str(t)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for t in (1, 2, 4)
    }
    assert len(texts) == 1


def test_what_is_there_is_kept_and_what_differs_is_not(recorded, dataset):
    out, done = recorded
    seen = []

    def again(options=SMALL, **changes):
        seen.clear()
        subjects = gather_subjects(dataset, ["ensemble"], ["random", "zero"], **changes)
        return measure_all(
            subjects, out, only=["one-step"], options=options, event=lambda n, what, s: seen.append(what)
        )

    kept = again()["one-step"]
    assert seen == ["start", "kept"]
    assert kept.recording.digest() == done["one-step"].recording.digest()
    again(options={"one-step": {"limit": 61}})
    assert seen == ["start", "done"]
    again(seed=1)
    assert seen == ["start", "done"]
    again()
    assert seen == ["start", "done"], "another seed's recording has taken its place"


def test_a_recording_that_lacks_what_is_read_today_is_made_anew(recorded, dataset, tmp_path):
    out, _ = recorded
    old = Recording.load(out / "drift.safetensors")
    del old.arrays["control_hz"]
    old.save(tmp_path / "drift.safetensors")
    seen = []
    subjects = gather_subjects(dataset, ["ensemble"], ["random", "zero"])
    measure_all(subjects, tmp_path, only=["drift"], options=SMALL, event=lambda n, what, s: seen.append(what))
    assert seen == ["start", "done"]


def test_subjects_without_identity_are_always_recorded_anew(dataset, tmp_path):
    import dataclasses

    subjects = dataclasses.replace(gather_subjects(dataset, ["ensemble"]), identity={})
    seen = []
    for _ in range(2):
        measure_all(subjects, tmp_path, only=["one-step"], options=SMALL, event=lambda n, what, s: seen.append(what))
    assert seen == ["start", "done", "start", "done"]


def test_policies_by_name_and_with_noise(dataset):
    subjects = gather_subjects(dataset, {"perfect": "ensemble"}, {"a": "zero", "b": "zero+noise0.5"}, expert="b")
    assert (list(subjects.models), list(subjects.policies), subjects.expert) == (["perfect"], ["a", "b"], "b")
    keys, observation = np.arange(200), np.zeros((200, len(dataset.task.observation)), np.float32)
    still, _ = subjects.policies["a"].act(observation, subjects.policies["a"].initial(200), keys=keys)
    noisy, _ = subjects.policies["b"].act(observation, subjects.policies["b"].initial(200), keys=keys)
    assert np.all(still == 0) and 0.3 < noisy.std() < 0.6, "0.5 half widths of [-1, 1], clipped"
    with pytest.raises(WmbenchError, match="expert 'c' is not among the policies: a"):
        gather_subjects(dataset, ["ensemble"], {"a": "zero"}, expert="c")
    with pytest.raises(WmbenchError, match="would be called 'zero'"):
        gather_subjects(dataset, ["ensemble"], ["zero", "zero"])
    with pytest.raises(CheckpointError, match="nobody"):
        read_policy("nobody+noise0.1", dataset.task)


def test_too_few_policies_leave_a_recording_out(dataset, tmp_path):
    subjects, notes = gather_subjects(dataset, ["ensemble"]), {}
    registry.recorders.add("needy", Recorder("needy", lambda s: 1 / 0, policies=2, full=True))
    try:
        with pytest.raises(DatasetError, match="needy needs 2 policies or more, there are 0"):
            measure_all(subjects, only=["needy"])
        chosen = [r for r in chosen_recorders() if r.policies]
        assert "needy" in [r.name for r in chosen]
        measure_all(subjects, only=["one-step"], options=SMALL, event=lambda n, what, s: notes.update({n: what}))
        assert notes == {"one-step": "done"}
    finally:
        registry.recorders.remove("needy")
    with pytest.raises(NotRegisteredError, match="one-step"):
        measure_all(subjects, only=["one-stp"])


def test_every_recorder_has_its_measure_and_every_measure_its_recording():
    measures = dict(registry.measures)
    for name, recorder in registry.recorders:
        assert recorder.name == name and name in measures
    for name, measure in measures.items():
        assert measure.name == name and measure.question.endswith("?") and measure.source and measure.needs
        assert (measure.recording or name) in measures


def test_somebody_elses_measure_is_applied(recorded, capsys):
    out, _ = recorded

    def count(arrays):
        n = len(arrays["reward"])
        return [Result("count", "steps", "all", float(n), None, None, n, 0, "steps", "none", "how many")]

    mine = Measure(
        "count", "How many steps?", "steps", "none", (0, None), ("reward",), "me", count, recording="one-step"
    )
    registry.measures.add("count", mine)
    try:
        assert main(["measure", str(out), "--only", "count"]) == 0
        text = capsys.readouterr().out
        assert "steps (steps)" in text and "60" in text and "skill" not in text
        assert main(["measure", "--list", "--only", "count"]) == 0
        text = capsys.readouterr().out
        for part in (
            "How many steps?",
            "unit steps",
            "range 0 to inf",
            "neither way",
            "'one-step': reward",
            "source: me",
        ):
            assert part in text
    finally:
        registry.measures.remove("count")


def test_the_list_names_unit_direction_range_needs_and_source_of_every_measure(capsys):
    assert main(["measure", "--list"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, measure in registry.measures:
        at = text.index(f"{name} {' '.join(measure.question.split())}"[:60])
        block = text[at : at + 2000]
        for part in (f"unit {measure.unit}", "better", "range", "needs of a recording", "source:"):
            assert part in block, name


def test_the_command_line_from_data_to_numbers_and_back(dataset, tmp_path, capsys):
    out = tmp_path / "rec"
    words = ["--dataset", str(dataset.folder), "--models", "ensemble", "--policies", "zero", "--out", str(out)]
    assert main(["record", *words, "--only", "one-step"]) == 0
    text = capsys.readouterr().out
    assert "skill" in text and "copy-last" in text and "one-step: done" in text
    assert main(["record", *words, "--only", "one-step"]) == 0
    assert "one-step: kept" in capsys.readouterr().out
    assert main(["measure", str(out), "--out", str(tmp_path / "again.json"), "--names", "skill"]) == 0
    assert "nmse" not in capsys.readouterr().out
    assert main(["measure", str(out), "--names", "no-such-number"]) == 0
    written = json.loads((tmp_path / "again.json").read_text())
    assert written[0]["results"] == json.loads((out / "results.json").read_text())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["measure"], "name a recording"),
        (["measure", "nowhere"], "nowhere does not exist"),
        (["measure", "."], "holds no recording"),
        (["measure", "x", "--only", "one-stp"], "did you mean 'one-step'"),
        (["record", "--dataset", "nowhere"], "nowhere"),
        (["record", "--dataset", "nowhere", "--models"], "at least one world model"),
    ],
)
def test_refusals(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_weights_are_no_recordings_and_damaged_recordings_are_named(recorded, tmp_path, capsys):
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(DatasetError, match="holds no recording"):
        find_recordings(tmp_path)
    whole = (recorded[0] / "drift.safetensors").read_bytes()
    (tmp_path / "recording.safetensors").write_bytes(whole[: len(whole) // 2])
    assert main(["measure", str(tmp_path)]) == 1
    assert "damaged" in capsys.readouterr().err
    assert load_file(tmp_path / "model.safetensors")["w"].shape == (3,)


def test_numbers_that_differ_from_a_runs_records_are_named(recorded, tmp_path, capsys):
    _, done = recorded
    results = [r.to_json() for r in done["drift"].results]
    (tmp_path / "records").mkdir()
    (tmp_path / "work").mkdir()
    done["drift"].recording.save(tmp_path / "work")
    record = tmp_path / "records" / "t.drift.0.json"
    record.write_text(json.dumps({"values": {"recording": "work", "results": results}}))
    assert main(["measure", str(tmp_path)]) == 0
    assert f"{len(results)} numbers equal" in " ".join(capsys.readouterr().out.split())
    results[0]["value"] += 1e-12
    record.write_text(json.dumps({"values": {"recording": "work", "results": results}}))
    assert main(["measure", str(tmp_path)]) == 1
    assert f"drift/{results[0]['name']}" in capsys.readouterr().err
    with pytest.raises(DatasetError, match="not there"):
        compare_with_records(tmp_path, {})


def test_episodes_that_several_recordings_want_are_run_once(dataset, monkeypatch):
    from wmbench.recording import recorder

    calls = []
    real = recorder.rollout
    monkeypatch.setattr(recorder, "rollout", lambda *a, **k: calls.append(k["simulator"]) or real(*a, **k))
    short = gather_subjects(dataset, ["ensemble"], {"a": "zero", "b": "zero+noise0.1", "c": "zero+noise0.2"})
    options = {"success": {"episodes": 1}, "agreement": {"episodes": 1}}
    done = measure_all(short, only=["success", "agreement"], options=options)
    assert sorted(calls, key=str) == [None] * 3 + ["ensemble"] * 3
    alone = record_agreement(short.task, short.policies, short.simulators, episodes=1, seed=0)
    assert alone.digest() == done["agreement"].recording.digest()


def test_no_recording_copies_the_dataset(dataset, monkeypatch):
    from wmbench.episodes import Dataset

    asked = []
    real = Dataset.transitions
    monkeypatch.setattr(
        Dataset,
        "transitions",
        lambda self, split, limit=None, seed=0: asked.append(limit) or real(self, split, limit, seed),
    )
    mapped = []
    episode = Dataset.episode

    def watched(self, index):
        found = episode(self, index)
        base = found.observation
        while isinstance(base, np.ndarray):
            base = base.base
        mapped.append(isinstance(base, mmap.mmap))
        return found

    monkeypatch.setattr(Dataset, "episode", watched)
    subjects = gather_subjects(Dataset(dataset.folder), ["ensemble"])
    done = measure_all(subjects, only=["one-step", "drift", "heads", "uncertainty", "constraints", "recoverability"])
    assert asked and None not in asked, "every reading of single steps has a limit"
    assert mapped and all(mapped), "episodes are views into the files"
    for measured in done.values():
        before = measured.recording.digest()
        measured.recording.every_result()
        assert measured.recording.digest() == before, "measuring changes no array"
