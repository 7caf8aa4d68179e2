"""Learning curves from files: the formats that are documented, our scripts' own, and what is refused."""

import json
from importlib.resources import files

import pytest

from wmbench.errors import CheckpointError, DatasetError
from wmbench.recording import Recording
from wmbench.recording.sparing import CurvePoint, read_checkpoint_curve, read_curves, read_log, record_sparing

POINTS = [
    CurvePoint("sim", "T", 0, 100.0, 1.0),
    CurvePoint("sim", "T", 0, 200.0, 2.0),
    CurvePoint("wm", "T", 0, 100.0, None),
    CurvePoint("wm", "T", 0, 150.0, 2.5),
]


def rows(points=POINTS):
    return [vars(p) for p in points]


def csv(points=POINTS):
    cells = [["" if v is None else str(v) for v in row.values()] for row in rows(points)]
    return "\n".join(",".join(line) for line in [list(rows()[0]), *cells])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", csv()),
        ("a.json", json.dumps(rows())),
        ("a.jsonl", "\n\n".join(json.dumps(row | {"note": "ignored"}) for row in rows())),
    ],
)
def test_tables_are_read_alike(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_curves(tmp_path / name) == POINTS


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "are read from"),
        ("a.json", "{", "not JSON"),
        ("a.json", "{}", "list of evaluations"),
        ("a.json", "[]", "list of evaluations"),
        ("a.json", "[1]", "expected an object"),
        ("a.jsonl", "{}", "subject, task, train_seed, real_steps, score missing"),
        ("a.jsonl", json.dumps(rows()[0] | {"train_seed": None}), "train_seed missing"),
        ("a.csv", csv().replace("200.0", "many"), "evaluation 2: could not convert"),
        ("a.csv", csv().replace("sim,T,0", "sim,T,"), "train_seed missing"),
        ("a.jsonl", '{"a": 1}\n{', "line 2 is not JSON"),
    ],
)
def test_a_bad_table_is_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=words) as caught:
        read_curves(tmp_path / name)
    assert name in str(caught.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no\.csv cannot be read"):
        read_curves(tmp_path / "no.csv")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_curves(tmp_path / "bytes.json")


def test_the_log_of_our_training_scripts(tmp_path):
    lines = [{"step": 5000 * i, "at": 1, "episodes": 5, "return_mean": 10.0 * i, "success_rate": 0.0} for i in (1, 2)]
    (tmp_path / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    same = {"subject": "sac", "task": "wmbench/Gym-Hopper-v0", "train_seed": 3}
    found = read_log(tmp_path, **same)
    assert found == [CurvePoint("sac", "wmbench/Gym-Hopper-v0", 3, 5000.0 * i, 10.0 * i) for i in (1, 2)]
    assert read_log(tmp_path / "curve.jsonl", **same, score="success_rate")[1].score == 0.0
    with pytest.raises(DatasetError, match="line 1: expected an object with 'step' and 'speed'"):
        read_log(tmp_path, **same, score="speed")


def test_the_curve_in_a_shipped_checkpoint():
    folder = files("wmbench_baselines") / "checkpoints" / "actor" / "Gym-Hopper-v0"
    found = read_checkpoint_curve(folder)
    assert {(p.subject.split(",")[0], p.task, p.train_seed) for p in found} == {("PPO", "wmbench/Gym-Hopper-v0", 0)}
    assert found[0].real_steps < found[-1].real_steps
    results = record_sparing(found + read_checkpoint_curve(folder, subject="again"), reference="again").results()
    assert {r.name: r.value for r in results if r.subject != "again"}["ratio"] == 1.0


def test_a_checkpoint_without_a_curve_is_refused(tmp_path):
    with pytest.raises(CheckpointError):
        read_checkpoint_curve(tmp_path)
    source = files("wmbench_baselines") / "checkpoints" / "actor" / "Gym-Hopper-v0" / "config.json"
    config = json.loads(source.read_text())
    del config["provenance"]["curve"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DatasetError, match="no learning curve"):
        read_checkpoint_curve(tmp_path)


def test_a_recording_gives_the_same_numbers_again(tmp_path):
    points = [
        CurvePoint(who, "T", s, 100.0 * i * k, 10.0 * i)
        for who, k in (("sim", 1), ("wm", 0.4))
        for s in (0, 1)
        for i in range(1, 9)
    ]
    recording = record_sparing(points, reference="sim")
    again = Recording.load(recording.save(tmp_path / "sparing.safetensors"))
    assert again.results() == recording.results()
    assert recording.results()[0].reason is None


def test_a_missing_reference_or_base_is_named():
    with pytest.raises(DatasetError, match=r"'nobody' has no learning curve; there are \['sim', 'wm'\]"):
        record_sparing(POINTS, reference="nobody")
    with pytest.raises(DatasetError, match=r"\['T'\] have no base score"):
        record_sparing(POINTS, reference="sim", base={"U": 0.0})
