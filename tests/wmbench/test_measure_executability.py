"""Executability: known answers, trivial optima, paths that end or break, invariances, disagreeing stages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench.errors import DatasetError
from wmbench.measures.executability import DEFINITIONS, MEASURE, TOLERANCE

N, K, D, A = 40, 5, 2, 2
STD = np.array([2.0, 0.5])
HALF = np.array([1.0, 4.0])


def arrays(models=(0.0,), *, gaps=None, true=0.1, true_gap=0.0, still=0.6, seed=0):
    """Replays that are ``models`` standard deviations away from random paths, and as far as ``true`` from true ones.

    Standing still is ``still`` away. ``gaps`` and ``true_gap`` are the distances between said and shown actions, in
    half widths.
    """
    rng = np.random.default_rng(seed)
    m = len(models)
    far = np.array([np.broadcast_to(f, (N, K)) for f in models])[..., None] * STD  # (M, N, K, D)
    truth = np.broadcast_to(rng.normal(size=(N, K, D)) * STD, (m, N, K, D))
    imagined = rng.normal(size=(m, N, K, D)) * STD
    said = np.broadcast_to(rng.uniform(-1, 1, (N, K, A)) * HALF, (m, N, K, A))
    apart = np.reshape(gaps if gaps is not None else [0.0] * m, (m, 1, 1, 1))
    yes = np.ones((m, N, K), bool)
    return {
        "subject": np.array([f"m{i}" for i in range(m)]),
        "role": np.array(["model"] * m),
        "dimension": np.array(["x", "y"]),
        "kind": np.array(["linear", "linear"]),
        "unit": np.array(["m", "m"]),
        "observation": truth[0, :, 0] + STD,
        "still_replay": np.repeat(truth[0, :, :1] + STD, K, axis=1) + still * STD,
        "still_replay_valid": yes[0].copy(),
        "imagined": imagined,
        "replay": imagined + far,
        "truth": truth,
        "truth_replay": truth - true * STD,
        "said": said,
        "recovered": said + apart * HALF,
        "truth_recovered": said - true_gap * HALF,
        "valid": yes.copy(),
        "replay_valid": yes.copy(),
        "truth_replay_valid": yes.copy(),
        "replay_success": np.zeros((m, N, K), bool),
        "truth_success": np.zeros((m, N, K), bool),
        "action_low": -HALF,
        "action_high": HALF,
        "success_kind": np.array("reward"),
        "success_when": np.array("once"),
        "episode": np.arange(N) // 4,
        "observation_std": STD,
        "observation_low": -4 * STD,
        "observation_high": 4 * STD,
    }


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


def test_known_answers():
    ramp = np.linspace(0.2, 0.6, K)  # past the tolerance at the last step only
    half = np.where(np.arange(N) % 2, 0.4, 3.0)[:, None]
    found = by_name(arrays([0.0, 0.1, ramp, half, 1e6], gaps=[0.0, 0.25, 0.5, 1.0, 0.1], true_gap=0.2))
    expected = {
        "m0": (1.0, 0.0, 0.0, 0.0),
        "m1": (1.0, 0.1, 1.0, 0.25),
        "m2": (0.0, 0.4, 4.0, 0.5),
        "m3": (0.5, (0.4 + 2.0) / 2, 12.0, 1.0),
        "m4": (0.0, 2.0, 20.0, 0.1),
    }
    for subject, values in expected.items():
        for name, value in zip(("executable", "path-error", "path-error-ratio", "cascade-gap"), values, strict=True):
            result = found[subject, name]
            assert result.value == pytest.approx(value, rel=1e-12, abs=1e-9), (subject, name)
            assert result.ci_low <= result.value + 1e-12 and result.value <= result.ci_high + 1e-12
            assert (result.n, result.n_invalid) == (N, 0)
        assert found[subject, "path-error-true"].value == pytest.approx(0.1, rel=1e-9)
        assert found[subject, "cascade-gap-true"].value == pytest.approx(0.2, rel=1e-12)
        assert found[subject, "executable-true"].value == 1.0
    assert {n for s, n in found if s == "m0"} == set(DEFINITIONS)
    assert found["m2", "path-error"].details["median_by_step"] == pytest.approx(list(ramp))
    assert found["m2", "executable"].details["other_tolerances"] == {"0.1": 0.0, "0.25": 0.0, "1": 1.0}
    assert found["m3", "executable"].details["n_episodes"] == 10


def test_skill_is_one_for_the_truth_and_none_for_standing_still():
    half = np.where(np.arange(N) % 2, 0.35, 0.1)[:, None]
    found = by_name(arrays([0.0, 0.1, 0.35, half, 0.6, 5.0], true=0.1, still=0.6))
    for subject, value in zip(range(6), (1.0, 1.0, 0.5, 0.75, 0.0, 1 - 1.9 / 0.5), strict=True):
        result = found[f"m{subject}", "skill"]
        assert result.value == pytest.approx(value, abs=1e-9)
        assert result.ci_low - 1e-9 <= result.value <= result.ci_high + 1e-9 <= 1 + 2e-9
    assert found["m0", "path-error-ratio"].value < 0.01  # easier than the truth, which is worth nothing in skill
    assert MEASURE(arrays())[0].name == "skill"

    data = arrays(true=0.3)
    data |= {"imagined": data["truth"], "replay": data["truth_replay"]}
    result = by_name(data)["m0", "skill"]
    assert result.value == result.ci_low == result.ci_high == 1.0
    data |= {"imagined": np.repeat(data["observation"][None, :, None], K, axis=2), "replay": data["still_replay"][None]}
    data["still_replay_valid"][: N // 2, 2:] = data["replay_valid"][:, : N // 2, 2:] = False
    result = by_name(data)["m0", "skill"]
    assert result.value == result.ci_low == result.ci_high == 0.0
    easy = by_name(arrays([0.1], true=0.3, still=0.3 - 1e-6))["m0", "skill"]
    assert easy.value is None and "no floor" in easy.reason


def test_the_truth_itself_has_a_ratio_of_exactly_one():
    data = arrays(true=0.123)
    data |= {"imagined": data["truth"], "replay": data["truth_replay"], "recovered": data["truth_recovered"]}
    found = by_name(data)
    result = found["m0", "path-error-ratio"]
    assert result.value == result.ci_low == result.ci_high == 1.0
    data["truth_replay"] = data["truth"]
    result = by_name(data)["m0", "path-error-ratio"]
    assert result.value is None and "exact" in result.reason


def test_what_ends_early_or_is_not_finite_is_the_worst_from_there_on():
    data = arrays([0.0, 0.0, 0.0])
    data["replay_valid"][0, :, 3:] = False
    data["imagined"][1, : N // 2, 2:] = np.nan
    data["recovered"][1, : N // 2, 2:] = np.nan
    data["imagined"][2, 0, 4, 1] = np.inf
    data["said"] = np.broadcast_to(0.5 * HALF, data["said"].shape)
    data["recovered"] = np.where(np.isfinite(data["recovered"]), data["said"], np.nan)
    found = by_name(data)
    assert found["m0", "executable"].value == 0.0
    assert found["m0", "path-error"].value == pytest.approx(2.0 * 2 / K)
    assert found["m0", "executable"].n_invalid == 0
    assert found["m1", "executable"].value == 0.5
    assert found["m1", "path-error"].value == pytest.approx(2.0 * 3 / K / 2)
    assert found["m1", "executable"].n_invalid == N // 2
    assert found["m1", "cascade-gap"].value == pytest.approx(np.sqrt(1.5**2 * 3 / K / 2))  # to the far end of the box
    assert found["m2", "executable"].value == 1 - 1 / N and found["m2", "executable"].n_invalid == 1


def test_nothing_is_scored_after_the_true_end():
    ramp = np.where(np.arange(K) < 3, 0.2, 9.0)
    data = arrays([ramp], gaps=[0.3])
    data["valid"][:, :, 3:] = False
    data["imagined"][:, :, 3:] = np.nan
    data["recovered"][:, :, 3:] = np.nan
    data["valid"][:, -4:] = False  # four paths of no length at all
    found = by_name(data)
    for name, value in (("executable", 1.0), ("path-error", 0.2), ("cascade-gap", 0.3)):
        assert found["m0", name].value == pytest.approx(value)
        assert (found["m0", name].n, found["m0", name].n_invalid) == (N - 4, 0)
    assert found["m0", "path-error"].details["median_by_step"][3:] == [None, None]
    data["valid"][:] = False
    assert all(r.value is None and "no valid" in r.reason for r in MEASURE(data))


def test_constant_dimensions_are_masked_and_angles_wrapped():
    data = arrays([0.2])
    data["observation_std"] = np.array([2.0, 0.0])
    data["replay"][..., 1] += 7.0
    result = by_name(data)["m0", "path-error"]
    assert result.value == pytest.approx(0.2) and result.details["masked"] == ["y"]
    data["observation_std"] = np.zeros(2)
    assert all(r.value is None and "constant" in r.reason for r in MEASURE(data))
    data = arrays([0.2])
    data["kind"] = np.array(["linear", "angle"])
    data["replay"][..., 1] += 2 * np.pi
    assert by_name(data)["m0", "path-error"].value == pytest.approx(0.2)


def test_success_where_the_task_tells_a_path_apart():
    data = arrays()
    data["replay_success"][0, :10, 1] = True
    data["replay_success"][0, :4, K - 1] = True
    data["truth_success"][0, :20, K - 1] = True
    found = by_name(data)
    assert found["m0", "replay-success"].value == 0.25 and found["m0", "true-success"].value == 0.5
    data["success_when"] = np.array("end")
    found = by_name(data)
    assert found["m0", "replay-success"].value == 0.1 and found["m0", "true-success"].value == 0.5
    assert found["m0", "replay-success"].ci_low <= 0.1 <= found["m0", "replay-success"].ci_high
    data["valid"][0, :, 2:] = False  # the last step is now the second
    assert by_name(data)["m0", "replay-success"].value == 0.25
    data["success_kind"] = np.array("return")
    found = by_name(data)
    assert found["m0", "replay-success"].value is None and "return" in found["m0", "true-success"].reason
    with pytest.raises(DatasetError, match="truth_replay"):
        MEASURE({k: v for k, v in data.items() if k != "truth_replay"})


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-50, 50))
def test_units_order_and_duplicates_do_not_matter(seed, scale, shift):
    rng = np.random.default_rng(seed)
    far = rng.uniform(0, 1, (N, K))
    data = arrays([far], gaps=[0.3], seed=seed)
    before = by_name(data)
    units = dict(data)
    for name in ("observation", "still_replay", "imagined", "replay", "truth", "truth_replay"):
        units[name] = data[name] * scale + shift
    for name in ("observation_std", "observation_low", "observation_high"):
        units[name] = data[name] * scale
    for name in ("said", "recovered", "truth_recovered", "action_low", "action_high"):
        units[name] = data[name] * scale
    order = rng.permutation(N)
    per_path = [k for k, v in data.items() if v.shape[:2] == (1, N)]
    per_start = ("episode", "observation", "still_replay", "still_replay_valid")
    shuffled = {**data, **{k: data[k][order] for k in per_start}, **{k: data[k][:, order] for k in per_path}}
    twice = {**data, **{k: np.concatenate([data[k]] * 2) for k in per_start}}
    twice |= {k: np.concatenate([data[k]] * 2, axis=1) for k in per_path}
    for changed in (units, shuffled, twice):
        found = by_name(changed)
        for key, result in before.items():
            assert found[key].value == pytest.approx(result.value, rel=1e-6, abs=1e-9)
            if "executable" not in key[1] and "success" not in key[1]:  # whose intervals also count paths
                assert found[key].ci_low == pytest.approx(result.ci_low, rel=1e-6, abs=1e-6)
    share = float((far <= TOLERANCE).all(1).mean())
    assert before["m0", "executable"].value == pytest.approx(share)


def test_stages_that_disagree_are_found():
    """The threshold is the 2 % quantile of agreeing stages; a second stage that lags by a step is always above it."""

    def gap(seed, lag):
        rng = np.random.default_rng(seed)
        data = arrays(seed=seed)
        shown = np.roll(data["said"], lag, axis=2) + rng.normal(size=data["said"].shape) * 0.2 * HALF
        return by_name({**data, "recovered": shown, "episode": np.zeros(N, int)})["m0", "cascade-gap"].value

    threshold = np.quantile([gap(seed, 0) for seed in range(100)], 0.98)
    assert sum(gap(1000 + seed, 1) > threshold for seed in range(100)) >= 95


def test_every_number_says_by_itself_what_it_is():
    variants = [definition.variant for definition in DEFINITIONS.values()]
    assert len(set(variants)) == len(variants)
    assert not any(variant.startswith("the same") for variant in variants)
