"""One-step error: known answers, trivial optima, geometry, invariances and faults."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench.measures.geometry import CAP, Geometry, normalised
from wmbench.measures.one_step import MEASURE


def arrays(predictions, *, n=400, o=3, kinds=None, seed=0, **changes):
    """A linear system seen n times in 20 episodes; ``predictions`` maps names to functions of (now, next)."""
    rng = np.random.default_rng(seed)
    now = rng.normal(size=(n, o))
    after = now + 0.1 * rng.normal(size=(n, o)) * np.arange(1, o + 1)
    out = {
        "subject": np.array(list(predictions)),
        "dimension": np.array([f"x{i}" for i in range(o)]),
        "kind": np.array(kinds or ["linear"] * o),
        "unit": np.array(["m"] * o),
        "observation": now,
        "next_observation": after,
        "episode": np.arange(n) // 20,
        "delta_std": (after - now).std(0),
        "observation_low": now.min(0),
        "observation_high": now.max(0),
    } | changes
    out["prediction"] = np.stack([f(out["observation"], out["next_observation"]) for f in predictions.values()])
    return out


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


def half(now, after):
    return now + 0.5 * (after - now)


def test_known_answers():
    found = by_name(
        arrays(
            {"oracle": lambda s, t: t, "copy-last": lambda s, t: s, "half": half, "reversed": lambda s, t: 2 * s - t}
        )
    )
    assert found["oracle", "skill"].value == 1.0
    assert found["oracle", "nmse"].value == 0.0
    assert found["copy-last", "skill"].value == 0.0
    for suffix in ("", "-median", "-worst"):
        assert found["half", f"skill{suffix}"].value == pytest.approx(0.75, rel=1e-12)
        assert found["reversed", f"skill{suffix}"].value == pytest.approx(-3.0, rel=1e-12)
    assert found["copy-last", "nmse"].value == pytest.approx(1.0, abs=0.05)  # var 1 plus the squared mean change
    assert found["half", "nmse"].value == pytest.approx(found["copy-last", "nmse"].value / 4, rel=1e-12)
    table = found["half", "skill"].details["table"]
    assert table["dimension"] == ["x0", "x1", "x2"]
    assert table["skill"] == pytest.approx([0.75] * 3)


def test_the_marginal_is_as_bad_as_its_variance():
    found = by_name(arrays({"marginal": lambda s, t: np.broadcast_to(t.mean(0), t.shape)}))
    # predicting the mean observation misses the whole spread of observations, far more than one step's change
    assert found["marginal", "skill"].value < -5


def test_references_that_are_there_are_compared_with():
    data = arrays({"half": half, "linear": lambda s, t: s + 0.2 * (t - s), "mean-delta": lambda s, t: s})
    found = by_name(data)
    assert found["half", "skill-linear"].value == pytest.approx(1 - 0.25 / 0.64)
    assert found["half", "skill-mean-delta"].value == pytest.approx(0.75)
    assert ("half", "skill-linear") not in by_name(arrays({"half": half}))


def test_one_broken_dimension_shows():
    def broken(now, after):
        out = after.copy()
        out[:, 1] = 2 * now[:, 1] - after[:, 1]
        return out

    found = by_name(arrays({"m": broken}))
    assert found["m", "skill-median"].value == 1.0
    assert found["m", "skill-worst"].value == pytest.approx(-3.0)
    assert found["m", "nmse-worst"].value > 3 * found["m", "nmse"].value / 1.001


def test_non_finite_predictions_are_the_worst_there_is():
    def with_nan(now, after):
        out = after.copy()
        out[3, 1] = np.nan
        out[7] = np.inf
        return out

    found = by_name(
        arrays({"nan": with_nan, "all": lambda s, t: np.full(t.shape, np.nan), "far": lambda s, t: t + 1e30})
    )
    assert found["nan", "skill"].n_invalid == 2
    assert found["nan", "nmse"].value == pytest.approx(4 * CAP**2 / (400 * 3))
    assert found["all", "nmse"].value == CAP**2 == found["far", "nmse"].value
    assert found["all", "skill"].n_invalid == 400
    assert found["far", "skill"].n_invalid == 0
    assert all(np.isfinite([r.value, r.ci_low, r.ci_high]).all() for r in found.values())


def test_constant_dimensions_are_masked_and_listed():
    data = arrays({"m": lambda s, t: t + 1.0, "copy-last": lambda s, t: s}, o=3)
    data["delta_std"] = data["delta_std"] * [1, 0, 1]
    result = by_name(data)["m", "skill"]
    assert result.details["masked"] == ["x1"]
    assert result.details["table"]["dimension"] == ["x0", "x2"]
    data["delta_std"] = np.full(3, 1e-9)
    for result in MEASURE(data):
        assert result.value is None
        assert "constant" in result.reason


def test_no_transitions_give_a_reason():
    data = arrays({"m": half}, n=20)
    for key in ("observation", "next_observation", "episode"):
        data[key] = data[key][:0]
    data["prediction"] = data["prediction"][:, :0]
    (result,) = MEASURE(data)
    assert result.value is None
    assert "no transitions" in result.reason


def test_a_reference_without_error_leaves_no_skill():
    still = arrays({"m": lambda s, t: s + 1e-3, "copy-last": lambda s, t: s})
    still["next_observation"] = still["observation"]
    found = by_name(still)
    assert found["m", "skill"].value is None
    assert "no error" in found["m", "skill"].reason
    assert found["copy-last", "skill"].value == 1.0  # exact, like its reference


def test_intervals_resample_episodes():
    def noisy(now, after):
        rng = np.random.default_rng(1)
        return after + 0.05 * np.repeat(rng.exponential(size=20), 20)[:, None]

    data = arrays({"m": noisy})
    wide = by_name(data)["m", "nmse"]
    assert wide.ci_low < wide.value < wide.ci_high
    data["episode"] = np.arange(400)
    narrow = by_name(data)["m", "nmse"]
    assert narrow.ci_high - narrow.ci_low < 0.5 * (wide.ci_high - wide.ci_low)
    data["episode"] = np.zeros(400, int)
    alone = by_name(data)["m", "nmse"]
    assert alone.ci_low is None is alone.ci_high


@settings(max_examples=15, deadline=None)
@given(
    scale=st.floats(0.01, 100), shift=st.floats(-100, 100), order=st.permutations(range(400)), copies=st.integers(1, 3)
)
def test_units_order_and_copies_do_not_matter(scale, shift, order, copies):
    data = arrays({"m": half, "copy-last": lambda s, t: s, "worse": lambda s, t: s + 0.9 * (t - s) + 0.01})
    before = by_name(data)
    rows = np.tile(np.array(order), copies)
    for key in ("observation", "next_observation", "episode"):
        data[key] = data[key][rows]
    data["prediction"] = data["prediction"][:, rows]
    for key in ("observation", "next_observation", "prediction", "observation_low", "observation_high"):
        data[key] = data[key] * scale + shift
    data["delta_std"] = data["delta_std"] * scale
    after = by_name(data)
    for key, result in before.items():
        assert after[key].value == pytest.approx(result.value, rel=1e-6, abs=1e-9)


def test_angles_are_wrapped():
    data = arrays({"m": lambda s, t: t + 2 * np.pi, "copy-last": lambda s, t: s}, kinds=["angle"] * 3)
    found = by_name(data)
    assert found["m", "skill"].value == pytest.approx(1.0, abs=1e-12)
    linear = by_name(arrays({"m": lambda s, t: t + 2 * np.pi}))
    assert linear["m", "skill"].value < -100


def test_quaternions_are_rotations():
    geometry = Geometry.of(
        np.array(["x", "qw", "qx", "qy", "qz"]), np.array(["linear"] + ["quaternion"] * 4), np.array(["m"] + ["1"] * 4)
    )
    assert geometry.names == ("x", "qw")
    assert geometry.units == ("m", "rad")
    angle = np.array([0.0, 1e-6, 0.3, 3.0, np.pi])
    turned = np.stack([np.ones(5), np.cos(angle / 2), np.sin(angle / 2), 0 * angle, 0 * angle], 1)
    still = np.tile([0.0, 1.0, 0.0, 0.0, 0.0], (5, 1))
    found = geometry.difference(turned, still)
    assert found[:, 0] == pytest.approx(1.0)
    assert found[:, 1] == pytest.approx(angle, rel=1e-9, abs=1e-12)
    assert geometry.difference(-turned, still)[:, 1] == pytest.approx(angle, rel=1e-9, abs=1e-12)
    assert geometry.difference(turned * 3, still)[:, 1] == pytest.approx(angle, rel=1e-9, abs=1e-12)
    # small random rotations: the declared spread is that of their angle
    rng = np.random.default_rng(0)
    small = rng.normal(size=(20000, 3)) * 0.01
    q = np.concatenate([np.sqrt(1 - (small**2).sum(1, keepdims=True)), small], 1)
    rows = np.concatenate([np.zeros((20000, 1)), q], 1)
    angles = geometry.difference(rows, np.tile([0.0, 1.0, 0.0, 0.0, 0.0], (20000, 1)))[:, 1]
    assert geometry.scale(rows.std(0))[1] == pytest.approx(np.sqrt((angles**2).mean()), rel=0.01)
    assert np.isnan(geometry.difference(np.zeros((1, 5)), still[:1])[0, 1])  # no rotation at all: counts as CAP


def test_bad_geometry_is_refused():
    def of(*kinds):
        return Geometry.of(np.array(["a"] * len(kinds)), np.array(kinds), np.array(["1"] * len(kinds)))

    with pytest.raises(ValueError, match="four components"):
        of("linear", "quaternion", "quaternion")
    with pytest.raises(ValueError, match="four components"):
        of("quaternion", "quaternion", "quaternion", "linear")
    with pytest.raises(ValueError, match="unknown kind"):
        of("sphere")


def test_rounding_noise_counts_as_constant():
    geometry = Geometry.of(np.array(["a", "b"]), np.array(["linear"] * 2), np.array(["m"] * 2))
    keep = geometry.varies(np.array([1e-6, 1e-6]), np.array([0.0, 100.0]), np.array([1.0, 100.0]))
    assert keep.tolist() == [True, False]
    assert normalised(np.array([[np.nan, 1e300, 2.0]]), np.array([1.0, 1e-300, 1.0])).tolist() == [[CAP, CAP, 2.0]]
