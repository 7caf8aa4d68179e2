"""Causes of failure: tables that can be counted by hand, and predictors that know nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench.errors import DatasetError
from wmbench.measures.failures import MEASURE
from wmbench.statistics.clustered import proportion_interval


def arrays(true, predicted, *, true_failed=None, failed=None, valid=None, seed=None, true_valid=None):
    """One model; (P, E, C) each."""
    true, predicted = np.asarray(true, bool), np.asarray(predicted, bool)
    yes = np.ones(true.shape[:2], bool)
    return {
        "subject": np.array(["m"]),
        "role": np.array(["model"]),
        "cause": np.array(["falls", "stalls"][: true.shape[2]]),
        "true": true,
        "true_failed": yes if true_failed is None else np.asarray(true_failed, bool),
        "true_valid": yes if true_valid is None else np.asarray(true_valid, bool),
        "predicted": predicted[None],
        "predicted_failed": (yes if failed is None else np.asarray(failed, bool))[None],
        "predicted_valid": (yes if valid is None else np.asarray(valid, bool))[None],
        "seed": np.arange(true.shape[1]) if seed is None else np.asarray(seed),
    }


def by_name(data, subject="m"):
    return {r.name: r for r in MEASURE(data) if r.subject == subject}


TRUE = [[[1, 0], [1, 1], [0, 0], [0, 1]]]
GUESS = [[[1, 0], [1, 0], [1, 0], [0, 1]]]


def test_counted_by_hand():
    found = by_name(arrays(TRUE, GUESS))
    assert found["precision"].value == 3 / 4
    assert found["recall"].value == 3 / 4
    assert found["f1"].value == 6 / 8
    assert found["exact"].value == 2 / 4
    assert found["cause-precision:falls"].value == 2 / 3
    assert found["cause-recall:falls"].value == 1.0
    assert found["cause-precision:stalls"].value == 1.0
    assert found["cause-recall:stalls"].value == 1 / 2
    assert found["precision"].details["causes"]["falls"] == {"true": 2, "predicted": 3, "both": 2}
    assert found["cause-precision:falls"].details["counted"] == 3
    expected = proportion_interval(np.array([1, 1, 0, 1]), np.array([1, 1, 1, 1]))
    assert (found["precision"].ci_low, found["precision"].ci_high) == expected


def test_the_oracle_is_right_about_everything():
    found = by_name(arrays(TRUE, TRUE))
    for name in ("precision", "recall", "f1", "exact", "cause-precision:falls", "cause-recall:stalls"):
        assert found[name].value == 1.0
        assert 0 < found[name].ci_low < 1
        assert found[name].ci_high == 1.0


def test_trivial_predictors():
    always, elsewhere = (by_name(arrays(TRUE, GUESS), s) for s in ("always", "elsewhere"))
    assert (always["recall"].value, always["precision"].value) == (1.0, 4 / 8)
    # the causes of the start before: [0 1], [1 0], [1 1], [0 0]
    assert (elsewhere["recall"].value, elsewhere["precision"].value) == (1 / 4, 1 / 4)
    assert always["precision"].details["role"] == "baseline"
    blind = by_name(arrays(TRUE, np.zeros((1, 4, 2))))
    assert blind["recall"].value == 0.0
    assert blind["precision"].value is None
    assert blind["precision"].reason == "no cause is ever predicted"
    assert blind["cause-precision:falls"].reason == "the cause is never predicted"


def test_causes_count_only_where_the_episode_failed():
    solved = by_name(arrays(TRUE, GUESS, true_failed=[[0, 1, 1, 1]]))
    assert solved["precision"].value == 2 / 4
    assert solved["recall"].value == 2 / 3
    imagined = by_name(arrays(TRUE, GUESS, failed=[[0, 1, 1, 1]]))
    assert (imagined["precision"].value, imagined["recall"].value) == (2 / 3, 2 / 4)


def test_invalid_imagination_is_wrong_about_every_cause():
    found = by_name(arrays(TRUE, GUESS, valid=[[0, 1, 1, 1]]))
    assert (found["precision"].value, found["recall"].value) == (2 / 5, 2 / 4)  # it predicts both causes, falsely
    assert (found["f1"].value, found["exact"].value) == (4 / 9, 1 / 4)
    assert found["cause-precision:falls"].value == 1 / 3
    assert found["cause-precision:stalls"].value == 1 / 2
    assert {(r.n, r.n_invalid, r.details["invalid_imagined"]) for r in found.values()} == {(4, 1, 1)}
    nothing = by_name(arrays(TRUE, TRUE, valid=np.zeros((1, 4))))
    assert [nothing[k].value for k in ("precision", "recall", "f1", "exact")] == [0.0] * 4
    assert nothing["recall"].n_invalid == 4
    silent = by_name(arrays(np.zeros((1, 3, 1)), np.zeros((1, 3, 1)), valid=[[1, 0, 1]]))
    assert silent["exact"].value == 2 / 3  # to have no cause is not to be right by breaking


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 0.9))
def test_no_number_improves_when_an_episode_becomes_invalid(seed, rate):
    rng = np.random.default_rng(seed)
    true, guess = rng.random((2, 5, 2)) < rate, rng.random((2, 5, 2)) < rate
    valid = rng.random((2, 5)) < 0.7
    failed, worse = rng.random((2, 5)) < 0.8, valid.copy()
    worse[rng.integers(2), rng.integers(5)] = False
    before, after = (by_name(arrays(true, guess, failed=failed, valid=v)) for v in (valid, worse))
    for name, result in before.items():
        if result.value is not None:
            assert after[name].value <= result.value + 1e-12, name


def test_invalid_true_episodes_are_left_out_and_counted():
    known = [[0, 1, 1, 1]]
    found = by_name(arrays(TRUE, GUESS, true_valid=known, valid=[[0, 1, 1, 1]]))
    rest = by_name(arrays([TRUE[0][1:]], [GUESS[0][1:]]))
    for name, result in rest.items():
        assert (found[name].value, found[name].ci_low) == (result.value, result.ci_low)
        assert (found[name].n, found[name].n_invalid) == (4, 1)
        assert (found[name].details["invalid_true"], found[name].details["invalid_imagined"]) == (1, 0)
    elsewhere = by_name(arrays(TRUE, GUESS, true_valid=[[1, 0, 1, 1]]), "elsewhere")
    assert elsewhere["recall"].value == 0.0  # of [1 0], [0 0], [0 1] the one before, going round
    with pytest.raises(DatasetError, match="no episode in the true simulator is valid"):
        MEASURE(arrays(TRUE, GUESS, true_valid=np.zeros((1, 4))))


def test_what_never_happens_has_no_share():
    none = by_name(arrays(np.zeros((1, 3, 1)), np.zeros((1, 3, 1))))
    assert none["recall"].reason == "no episode failed of any of these causes"
    assert none["f1"].reason == "no cause occurs, and none is predicted"
    assert none["cause-recall:falls"].reason == "the cause never occurs"
    assert none["exact"].value == 1.0
    for empty in (np.zeros((1, 0, 2)), np.zeros((1, 3, 0))):
        with pytest.raises(DatasetError, match="no episodes, or no causes"):
            MEASURE(arrays(empty, empty))


def test_starts_are_what_is_independent():
    """Two policies on the same starts are not twice as many starts."""
    rng = np.random.default_rng(0)
    true, guess = rng.random((1, 12, 2)) < 0.5, rng.random((1, 12, 2)) < 0.5
    one, two = by_name(arrays(true, guess)), by_name(arrays(np.tile(true, (2, 1, 1)), np.tile(guess, (2, 1, 1))))
    for name in ("precision", "recall", "f1", "exact"):
        assert two[name].value == pytest.approx(one[name].value)
        assert two[name].ci_low == pytest.approx(one[name].ci_low, abs=0.02)
    assert two["precision"].n == 24


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_order_does_not_matter_and_swapping_roles_swaps_the_shares(seed):
    rng = np.random.default_rng(seed)
    true, guess = rng.random((2, 7, 2)) < 0.5, rng.random((2, 7, 2)) < 0.5
    plain, swapped = by_name(arrays(true, guess)), by_name(arrays(guess, true))
    assert plain["precision"].value == swapped["recall"].value
    assert plain["f1"].value == swapped["f1"].value
    order = rng.permutation(7)
    shuffled = by_name(arrays(true[::-1][:, order], guess[::-1][:, order], seed=order))
    for name, result in plain.items():
        assert shuffled[name].value == result.value
    p, r, f = (plain[k].value for k in ("precision", "recall", "f1"))
    if p and r:
        assert f == pytest.approx(2 / (1 / p + 1 / r))
