"""Filtering of actions: known answers, trivial optima, what is not finite, the filter in the loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench.measures.filtering import MEASURE, RANDOM, badly
from wmbench.recording import Recording

N, B = 20, 10


def arrays(scores, *, failed=None, doubt=None, **more):
    """``scores`` map (failed, rng) to (N, B); episodes of two starts."""
    rng = np.random.default_rng(0)
    failed = rng.random((N, B)) < 0.2 if failed is None else failed
    m = len(scores)
    found = np.stack([np.asarray(f(failed, rng), dtype=float) for f in scores.values()])
    return {
        "subject": np.array(list(scores)),
        "role": np.array(["model"] * m),
        "terminates": np.array(True),
        "quantile": np.array(0.2),
        "failed": failed,
        "true": np.where(failed, 0.0, 1.0),
        "score": found,
        "doubt": found if doubt is None else doubt,
        "has_score": np.ones(m, bool),
        "has_doubt": np.full(m, doubt is not None),
        "episode": np.arange(len(failed)) // 2,
        "arm": np.array(["unfiltered", "filtered", "random", "reject-all"]),
        "threshold": np.zeros(m),
        **{k: np.zeros((m, 4, 0)) for k in ("loop_return", "loop_success", "loop_failed")},
        **{k: np.zeros((m, 4, 0), np.int64) for k in ("loop_steps", "loop_interventions")},
        "loop_episode": np.zeros(0, np.int64),
        "success_rule": np.array("as the card says"),
        **more,
    }


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


def test_known_answer_of_augrc():
    """Scores .1 to .5 with bad ends 0, 0, 1, 0, 1: .16."""
    failed = np.array([[0, 0, 1, 0, 1]], bool)
    found = by_name(arrays({"m": lambda f, g: np.array([[0.1, 0.2, 0.3, 0.4, 0.5]])}, failed=failed))
    assert found["m", "augrc"].value == pytest.approx(0.16, rel=1e-12)
    assert found[RANDOM, "augrc"].value == pytest.approx(0.4 * 6 / 10, rel=1e-12)
    assert found["m", "augrc-skill"].value == pytest.approx(1 - 0.16 / 0.24, rel=1e-12)
    assert found["m", "coverage-at-risk-5"].value == pytest.approx(0.4, rel=1e-12)
    assert found["m", "false-reject-5"].value == pytest.approx(1 / 3, rel=1e-12)
    assert found["m", "augrc"].details["base_risk"] == 0.4


def test_trivial_optima():
    data = arrays(
        {
            "perfect": lambda f, g: f + 1e-3 * g.random(f.shape),
            "mirror": lambda f, g: -f.astype(float),
            "accept-all": lambda f, g: np.zeros(f.shape),
            "lost": lambda f, g: np.full(f.shape, np.nan),
        }
    )
    found, bad = by_name(data), int(data["failed"].sum())
    n, base = N * B, bad / (N * B)
    assert found["perfect", "augrc"].value == pytest.approx(bad * (bad + 1) / 2 / n**2, rel=1e-12)
    allowed = int(0.05 * (n - bad) / 0.95)
    assert found["perfect", "coverage-at-risk-5"].value == pytest.approx((n - bad + allowed) / n, rel=1e-12)
    assert found["perfect", "false-reject-5"].value == 0.0 == found["perfect", "false-reject-1"].value
    for who in ("accept-all", RANDOM):
        assert found[who, "augrc"].value == pytest.approx(base * (n + 1) / (2 * n), rel=1e-12)
        assert found[who, "augrc-skill"].value == pytest.approx(0.0, abs=1e-12)
        assert found[who, "coverage-at-risk-5"].value == 0.0
        assert found[who, "false-reject-5"].value == 1.0
    for who in ("mirror", "lost"):
        assert found[who, "augrc-skill"].value == pytest.approx(-(1 - base), abs=0.02)
        assert found[who, "coverage-at-risk-1"].value == 0.0
    assert found["lost", "augrc"].n_invalid == n
    assert found["perfect", "augrc"].details["reject_all"] == {"coverage": 0.0, "risk": 0.0, "false_reject": 1.0}
    assert found["perfect", "false-reject-5"].ci_low >= 0.0
    assert found["perfect", "augrc-skill"].ci_low > 0.5


def test_intervals_hold_the_value_and_say_what_they_should():
    data = arrays({"m": lambda f, g: f + 0.5 * g.normal(size=f.shape)})
    found = by_name(data)
    for name in ("augrc", "augrc-skill", "coverage-at-risk-5", "false-reject-5"):
        one = found["m", name]
        assert one.ci_low <= one.value <= one.ci_high
        assert one.ci_low < one.ci_high
    assert 0 < found["m", "false-reject-5"].value < 1
    assert found["m", "false-reject-5"].ci_low < 0.2


def test_where_nothing_terminates_low_returns_are_bad_ends():
    data = arrays({"m": lambda f, g: np.zeros(f.shape)})
    data["terminates"] = np.array(False)
    data["true"] = np.arange(N * B, dtype=float).reshape(N, B)
    assert badly(data).sum() == 0.2 * N * B
    assert badly(data).ravel()[:40].all()
    data["score"] = -data["true"][None]
    found = by_name(data)
    assert found["m", "false-reject-1"].value == 0.0
    assert found["m", "coverage-at-risk-1"].value == pytest.approx(161 / 200)
    data["true"][:] = 1.0
    assert "no candidate" in by_name(data)["m", "augrc"].reason


def test_nothing_to_tell_apart_and_nothing_to_judge_by():
    data = arrays({"m": lambda f, g: np.zeros(f.shape)}, failed=np.ones((N, B), bool))
    assert "every candidate" in by_name(data)["m", "augrc"].reason
    data = arrays({"m": lambda f, g: np.zeros(f.shape)})
    data["has_score"][:] = False
    found = by_name(data)
    assert "predicts neither" in found["m", "augrc"].reason
    assert found["m", "intervention-rate"].value is None
    assert "no policy" in by_name(arrays({"m": lambda f, g: f}))["m", "loop-return-gain"].reason


def test_uncertainty_stands_beside():
    rng = np.random.default_rng(1)
    data = arrays({"m": lambda f, g: f}, doubt=rng.random((1, N, B)))
    found = by_name(data)
    assert found["m", "augrc:uncertainty"].value > found["m", "augrc"].value
    assert abs(found["m", "augrc-skill:uncertainty"].value) < 0.3


def loop(**changes):
    data = arrays({"m": lambda f, g: f})
    e = 4
    data |= {
        "loop_return": np.tile(np.array([1.0, 3.0, 0.0, 2.0])[None, :, None], (1, 1, e)),
        "loop_success": np.array([[[0, 0, 0, 1], [1, 1, 1, 1], [0] * 4, [0] * 4]], bool),
        "loop_failed": np.array([[[1, 1, 1, 0], [0] * 4, [1] * 4, [0] * 4]], bool),
        "loop_steps": np.tile(np.array([5, 10, 5, 10])[None, :, None], (1, 1, e)),
        "loop_interventions": np.tile(np.array([0, 2, 1, 10])[None, :, None], (1, 1, e)),
        "loop_episode": np.arange(e),
        **changes,
    }
    return data


def test_the_loop():
    found = by_name(loop())
    assert found["m", "loop-return-gain"].value == 2.0
    assert found["m", "loop-return-gain:random"].value == -1.0
    assert found["m", "loop-return-gain:reject-all"].value == 1.0
    assert found["m", "loop-success-gain"].value == 0.75
    assert found["m", "loop-failure-gain"].value == -0.75
    # Bonett and Price: (0 + 1) / (4 + 2) and (3 + 1) / (4 + 2)
    p, q = 4 / 6, 1 / 6
    half = 1.959963984540054 * np.sqrt((p + q - (p - q) ** 2) / 6)
    assert found["m", "loop-success-gain"].ci_low == pytest.approx(p - q - half, rel=1e-9)
    assert found["m", "intervention-rate"].value == pytest.approx(0.2)
    assert found["m", "intervention-rate:random"].value == pytest.approx(0.2)
    assert found["m", "intervention-rate:reject-all"].value == 1.0
    assert found["m", "loop-return-gain"].details["means"] == {"with_filter": 3.0, "without": 1.0}
    found = by_name(loop(terminates=np.array(False), threshold=np.array([-np.inf])))
    assert "never terminates" in found["m", "loop-failure-gain"].reason
    assert found["m", "loop-return-gain"].details["threshold"] is None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5))
def test_invariances(seed, scale, shift):
    rng = np.random.default_rng(seed)
    data = arrays({"m": lambda f, g: f + rng.normal(size=f.shape)})
    before = by_name(data)
    rows = rng.permutation(N)
    moved = {k: data[k][rows] for k in ("failed", "true", "episode")}
    moved["score"] = np.arctan(data["score"][:, rows] * scale + shift)
    for key, result in by_name({**data, **moved}).items():
        assert result.value == (None if before[key].value is None else pytest.approx(before[key].value, abs=1e-9))


def test_the_same_from_a_file(tmp_path):
    recording = Recording("filter", loop())
    again = Recording.load(recording.save(tmp_path / "r.safetensors"))
    assert [r.to_json() for r in again.results()] == [r.to_json() for r in recording.results()]
