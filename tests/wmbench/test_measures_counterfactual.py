"""Counterfactuals: known answers, trivial optima, faults; and branches of a real simulator."""

import numpy as np
import pytest

from wmbench.measures.counterfactual import MEASURE
from wmbench.measures.geometry import CAP

N, K, D = 40, 10, 2
BRANCHES = ("recorded", "near", "data", "corner")


def arrays(models, *, seed=0, effect=1.0):
    """States to which every branch adds its own action at every step; ``models`` map the truth to predictions."""
    rng = np.random.default_rng(seed)
    push = rng.normal(size=(N, 4, 1, D)) * effect
    truth = rng.normal(size=(N, 1, 1, D)) + np.cumsum(np.broadcast_to(push, (N, 4, K, D)), axis=2)
    return {
        "subject": np.array(list(models)),
        "dimension": np.array(["x", "y"]),
        "kind": np.array(["linear"] * D),
        "unit": np.array(["m"] * D),
        "branch": np.array(BRANCHES),
        "truth": truth,
        "valid": np.ones((N, 4, K), bool),
        "prediction": np.stack([f(truth) for f in models.values()]),
        "episode": np.arange(N) // 4,
        "delta_std": np.ones(D),
        "observation_low": np.full(D, -3.0),
        "observation_high": np.full(D, 3.0),
    }


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


def scaled(factor):
    """A model whose effects are ``factor`` times too large, and right under the recorded actions."""
    return lambda t: t[:, :1] + factor * (t - t[:, :1])


def blind(truth):
    return np.repeat(truth[:, :1], 4, axis=1) + 0.3


def test_known_answers():
    found = by_name(
        arrays(
            {"oracle": lambda t: t, "blind": blind, "double": scaled(2.0), "mirror": scaled(-1.0), "half": scaled(0.5)}
        )
    )
    expected = {
        "oracle": (0, 1, 1, 1),
        "blind": (1, 0, 0, 0),
        "double": (1, 1, 1, 2),
        "mirror": (2, -1, 0, 1),
        "half": (0.5, 1, 1, 0.5),
    }
    for subject, values in expected.items():
        for name, value in zip(("cfe", "cosine", "sign-agreement", "magnitude"), values, strict=True):
            assert found[subject, name].value == pytest.approx(value, abs=1e-12)
        for branch in BRANCHES[1:]:
            for k in (1, 5, 10):
                if (branch, k) != ("data", 1):
                    assert found[subject, f"cfe-{branch}-{k}"].value == pytest.approx(values[0], abs=1e-12)
    assert found["oracle", "shuffle-ratio"].value is None
    assert "no error" in found["oracle", "shuffle-ratio"].reason
    assert found["blind", "shuffle-ratio"].value == pytest.approx(1.0)


def test_the_shuffle_ratio_of_a_model_that_uses_its_actions():
    found = by_name(arrays({"m": lambda t: t + 0.1}))
    # right actions: 0.01 per dimension; wrong ones: 2 for the difference of two unit normals, plus 0.01
    assert found["m", "shuffle-ratio"].value == pytest.approx(2.01 / 0.01, rel=0.3)
    assert found["m", "shuffle-ratio"].ci_low > 50
    assert found["m", "cfe"].value == pytest.approx(0.0, abs=1e-12)  # a constant error cancels


def test_predictions_that_are_not_finite_are_the_worst():
    def breaks(truth):
        out = truth.copy()
        out[:8, 2] = np.nan
        return out

    data = arrays({"breaks": breaks, "all": lambda t: t * np.nan, "mirror": scaled(-1.0)})
    found = by_name(data)
    effect = np.abs(data["truth"][:, 2, 0] - data["truth"][:, 0, 0])
    assert found["all", "cfe"].value == pytest.approx(np.sqrt(((CAP + effect) ** 2).sum() / (effect**2).sum()))
    assert found["breaks", "cfe"].n_invalid == 8
    assert found["breaks", "cfe"].value > 100 > found["mirror", "cfe"].value
    assert found["breaks", "cosine"].value == pytest.approx((32 - 8) / 40)
    assert found["breaks", "sign-agreement"].value <= 32 / 40
    assert found["all", "cosine"].value == -1.0
    assert found["all", "sign-agreement"].value == 0.0
    assert found["all", "shuffle-ratio"].value == 1.0
    assert found["all", "shuffle-ratio"].n_invalid == N


def test_pairs_without_an_effect_are_skipped_and_counted():
    data = arrays({"m": scaled(0.5)})
    data["truth"][:10, 2] = data["truth"][:10, 0]
    found = by_name(data)["m", "cfe"]
    assert found.n == 30
    assert found.details["skipped"] == 10
    nothing = by_name(arrays({"m": scaled(0.5)}, effect=1e-9))["m", "cfe"]
    assert nothing.value is None
    assert nothing.n == N
    assert "no change of action" in nothing.reason


def test_ended_branches_do_not_count():
    data = arrays({"m": scaled(0.5)})
    data["valid"][5:, 2, 3:] = False
    data["prediction"][:, 5:, 2, 3:] = np.nan
    found = by_name(data)
    assert found["m", "cfe"].n == N
    assert found["m", "cfe-data-5"].n == 5
    assert found["m", "cfe-data-5"].n_invalid == 0
    assert found["m", "cfe-data-5"].value == pytest.approx(0.5)
    short = {k: v[:, :, :3] if k in ("truth", "valid") else v for k, v in data.items()}
    short["prediction"] = data["prediction"][:, :, :, :3]
    assert not any("5" in r.name for r in MEASURE(short))


def test_constant_dimensions_do_not_count():
    data = arrays({"m": scaled(1.0)})
    data["prediction"][..., 1] = 7.0
    data["delta_std"] = np.array([1.0, 0.0])
    assert by_name(data)["m", "cfe"].value == 0.0
    data["delta_std"] = np.zeros(2)
    assert "constant" in by_name(data)["m", "cfe"].reason


def test_units_do_not_matter():
    data = arrays({"m": scaled(0.7), "n": blind})
    before = {k: r.value for k, r in by_name(data).items()}
    for key in ("truth", "prediction", "delta_std", "observation_low", "observation_high"):
        data[key] = data[key] * [100.0, 0.01]
    for key, result in by_name(data).items():
        assert result.value == (None if before[key] is None else pytest.approx(before[key], rel=1e-9, abs=1e-9))


def test_an_ignored_and_a_swapped_action_are_detected():
    """Threshold for 2 % false alarms from models that are a little wrong; 100 seeds of each fault."""

    def noisy(truth, seed):
        return truth + 0.3 * np.random.default_rng(seed).normal(size=truth.shape)

    def score(model, seed):
        return by_name(arrays({"m": model}, seed=seed))["m", "cfe"].value

    good = np.array([score(lambda t, s=s: noisy(t, s), s) for s in range(50)])
    threshold = np.quantile(good, 0.98)
    ignored = [score(lambda t, s=s: noisy(blind(t), s), s) for s in range(50, 100)]
    swapped = [score(lambda t, s=s: noisy(scaled(-1.0)(t), s), s) for s in range(50, 100)]
    assert np.mean(np.array(ignored) > threshold) >= 0.95
    assert np.mean(np.array(swapped) > threshold) >= 0.95
