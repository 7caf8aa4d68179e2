"""Agreement of policy evaluation: published tables, known answers, trivial simulators, what is refused."""

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench.errors import DatasetError
from wmbench.measures.agreement import MEASURE
from wmbench.statistics import wilson
from wmbench.statistics.correlation import fisher_interval, spearman
from wmbench.statistics.permutation import permutation_p
from wmbench.statistics.ranking import MMRV_VARIANTS, mmrv

DATA = Path(__file__).parents[1] / "data" / "agreement"
CORRELATIONS = ("pearson", "spearman", "kendall")


def arrays(true, learned, *, worst=0.0, names=None, horizon=None, unit="1"):
    """Means (K,), outcomes (K, E), or those of every horizon (H, K, E); one learned simulator."""
    true, learned = (np.asarray(a, float) for a in (true, learned))
    true, learned = (a[None, :, None] if a.ndim == 1 else a[None] if a.ndim == 2 else a for a in (true, learned))
    k = true.shape[1]
    return {
        "subject": np.array(["model"]),
        "policy": np.array(names or [f"p{i}" for i in range(k)]),
        "horizon": np.array(horizon or [100]),
        "true": true,
        "learned": learned[None],
        "worst": np.array(worst),
        "unit": np.array(unit),
    }


def measured(*args, **kwargs):
    return {r.name: r for r in MEASURE(arrays(*args, **kwargs))}


def outcomes(rates, episodes=40, seed=0):
    return (np.random.default_rng(seed).random((len(rates), episodes)) < np.asarray(rates)[:, None]).astype(float)


def published():
    """Set name to its rows of (policy, true, learned)."""
    sets = defaultdict(list)
    for file in ("worldgym", "simpler", "ctrl_world_table3_success", "dreamdojo", "worldeval"):
        for row in csv.DictReader((DATA / f"{file}.csv").open()):
            name = f"simpler-{row['group']}" if file == "simpler" else f"{file}-cells"
            sets[name].append((row["policy"], row["group"], float(row["true"]), float(row["learned"])))
    for policy in ("RT-1-X", "Octo", "OpenVLA"):
        own = np.array([cells[2:] for cells in sets["worldgym-cells"] if cells[0] == policy])
        sets["worldgym-policies"].append((policy, "", *own.mean(0)))
    return sets


@pytest.mark.parametrize("row", list(csv.DictReader((DATA / "expected.csv").open())), ids=lambda row: row["set"])
def test_published_tables_to_the_printed_digits(row):
    rows = published()[row.pop("set")]
    names = [f"{policy} {group}" for policy, group, *_ in rows]
    found = measured([r[2] for r in rows], [r[3] for r in rows], names=names)
    assert len(rows) == int(row.pop("n")) == found["pearson"].n
    for name, printed in row.items():
        assert found[name].value == pytest.approx(float(printed), abs=5.0001e-5), name
    assert found["pearson"].details["evidence"] == (len(rows) >= 8)
    for name in ("mmrv", "mmrv-gt", "regret@1"):
        assert found[name].ci_low is None
        assert "two outcomes" in found[name].reason


def test_more_published_values():
    cells = [r[2:] for r in published()["worldgym-cells"]]
    true, learned = np.array(cells).T
    found = measured(true, learned)
    assert found["mmrv-lt"].value == pytest.approx(0.4020, abs=5e-5)
    coke = np.array([r[2:] for r in published()["simpler-google_robot_pick_coke_can"]]).T
    found = measured(*coke)
    assert found["regret@1"].value == pytest.approx(0.0851, abs=5e-5)
    assert found["regret@1-deep-ope"].value == pytest.approx(0.0851, abs=5e-5)
    # averaging cells first turns r = .78 into .99, with three policies and no evidence at all
    means = np.array([r[2:] for r in published()["worldgym-policies"]]).T
    found = measured(*means)["pearson"]
    assert found.value > 0.99
    assert found.details["permutation_p"] == pytest.approx(1 / 6)
    assert found.details["permutation_floor"] == pytest.approx(1 / 6)
    assert "fewer than 8" in found.reason
    assert found.ci_low is None


def test_known_answers_of_four_policies():
    found = measured([0.9, 0.7, 0.4, 0.1], [0.8, 0.85, 0.3, 0.2])
    expected = {
        "mmrv": 0.1, "mmrv-lt": 0.1, "mmrv-gt": 0.1, "mmrv-product": 0.1, "mmrv-sim-gap": 0.025,
        "spearman": 0.8, "kendall": 2 / 3, "bias": 0.0125, "mae": 0.1125, "regret@1": 0.25,
        "regret@1-worst": 0.25, "regret@1-raw": 0.2, "regret@3": 0.0, "regret@3-top-k-mean": 0.0,
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-12, abs=1e-15), name
    assert found["pearson"].value == pytest.approx(0.92723, abs=5e-6)
    assert (found["pearson"].ci_low, found["pearson"].ci_high) == fisher_interval(found["pearson"].value, 4)
    assert measured([0.0, 1.0, 3.0], [1.0, 3.0, 7.0])["slope"].value == pytest.approx(2.0, rel=1e-12)


def test_the_oracle_agrees_exactly():
    true = outcomes(np.linspace(0.05, 0.95, 10))
    found = measured(true, true)
    for name in CORRELATIONS:
        assert found[name].value == pytest.approx(1.0, rel=1e-12)
        assert found[name].ci_high == 1.0
        assert found[name].details["permutation_p"] == found[name].details["permutation_floor"] == 1e-4
        assert found[name].details["evidence"]
    for name in ("mmrv", "regret@1", "regret@3", "bias", "mae"):
        assert found[name].value == 0.0, name
        assert found[name].ci_low == 0.0
    assert found["mmrv"].ci_high == 0.0
    assert found["slope"].value == pytest.approx(1.0, rel=1e-12)
    assert found["winners"].value == 1.0
    assert found["winners"].details["verdict"] == "robustly correct"


def test_a_constant_simulator_ranks_nothing():
    true = outcomes(np.linspace(0.05, 0.95, 10))
    found = measured(true, np.zeros((10, 40)))
    for name in CORRELATIONS:
        assert found[name].value is None
        assert "same learned value" in found[name].reason
        assert not found[name].details["evidence"]
    assert found["regret@1-worst"].value == 1.0
    assert 0.3 < found["regret@1"].value < 0.7
    assert found["mmrv"].value > found["mmrv-gt"].value > found["mmrv-product"].value == 0
    assert found["slope"].value == 0.0
    assert found["winners"].details["verdict"] == "possibly correct"
    other = measured(np.ones(8), np.linspace(0, 1, 8))
    assert "same true value" in other["pearson"].reason
    assert "no choice is worse" in other["regret@1"].reason
    assert "same true value" in other["slope"].reason
    assert other["regret@1-raw"].value == 0.0


def test_reversed_and_marginal_simulators():
    true = outcomes(np.linspace(0.05, 0.95, 10))
    found = measured(true, true[::-1])
    assert found["spearman"].value < -0.95
    assert found["spearman"].details["permutation_p"] > 0.99
    assert found["regret@1"].value > 0.9
    assert found["winners"].details["verdict"] == "wrong"
    assert found["winners"].value == 0.0
    assert found["bias"].value == pytest.approx(0, abs=1e-15)
    # everybody scores the average: no bias, no skill
    marginal = measured(true.mean(1), np.full(10, true.mean()))
    assert marginal["bias"].value == pytest.approx(0, abs=1e-12)
    assert marginal["pearson"].value is None


def test_missing_estimates_rank_last_and_are_counted():
    true = np.linspace(0.9, 0.1, 9)[:, None].repeat(3, 1)
    learned = true.copy()
    learned[0, 1], learned[4, 0] = np.nan, np.inf
    found = measured(true, learned, worst=np.nan)
    for name in ("pearson", "bias", "mae", "slope", "mmrv-sim-gap"):
        assert found[name].value is None
        assert "p0, p4" in found[name].reason
    expected = spearman(np.array([0, 8, 7, 6, 0, 5, 4, 3, 2]), true.mean(1))[0]
    assert found["spearman"].value == pytest.approx(expected, rel=1e-12)
    assert found["regret@1-raw"].value == pytest.approx(0.1)
    assert found["mmrv"].value > 0.3
    assert all(r.n_invalid == 2 for r in found.values())
    assert found["bias"].details["table"]["learned"][0] is None
    assert found["bias"].details["table"]["invalid"] == [1, 0, 0, 0, 1, 0, 0, 0, 0]
    # where an invalid episode has a worth, everything is defined
    known = measured(true, learned, worst=0.0)
    assert known["pearson"].value is not None
    assert known["bias"].value == pytest.approx(-(0.9 + 0.5) / 3 / 9)
    assert all(r.n_invalid == 2 for r in known.values())
    nobody = measured(true, np.full_like(true, np.nan), worst=np.nan)
    assert "same learned value" in nobody["spearman"].reason
    assert nobody["regret@1-worst"].value == 1.0
    assert nobody["winners"].details["verdict"] == "possibly correct"


def test_no_failure_pays():
    # a simulator that fails on a policy never looks better for it than one that is merely wrong about it
    true = outcomes(np.linspace(0.1, 0.9, 9))
    for i in range(9):
        wrong, failed = true.copy(), true.copy()
        wrong[i] = 0.0
        failed[i] = np.nan
        a, b = measured(true, wrong), measured(true, failed, worst=np.nan)
        assert b["mmrv"].value >= a["mmrv"].value - 1e-12
        assert b["regret@1"].value >= a["regret@1"].value - 1e-12
        assert b["spearman"].value <= a["spearman"].value + 1e-12


def test_what_cannot_be_compared_is_refused():
    good = arrays(np.linspace(0, 1, 4), np.linspace(0, 1, 4))
    for change, words in (
        ({"policy": np.array(["a", "b", "a", "c"])}, r"\['a'\] are there more than once"),
        ({"true": np.zeros((1, 3, 1))}, "must be"),
        ({"true": np.zeros((4, 1))}, "must be"),
        ({"learned": np.zeros((2, 1, 4, 1))}, "must be"),
        ({"policy": np.array([], dtype=str)}, "no policies"),
        ({"true": np.zeros((1, 4, 0))}, "no policies"),
        ({"true": np.full((1, 4, 1), np.nan), "worst": np.array(np.nan)}, r"\['p0', 'p1', 'p2', 'p3'\] are not finite"),
    ):
        with pytest.raises(DatasetError, match=words):
            MEASURE(good | change)


def test_few_policies_are_no_evidence_and_say_so():
    for k in (1, 2, 3, 4, 7, 8):
        found = measured(np.arange(k), np.arange(k) ** 2)
        for name in CORRELATIONS:
            assert found[name].details["evidence"] == (k >= 8)
            assert found[name].reason if k < 8 else found[name].value
        assert ("regret@3" in found) == (k >= 3)
    assert "two policies" in measured([1.0], [1.0])["pearson"].reason
    two = measured([0.0, 1.0], [0.0, 2.0])
    assert two["slope"].value == 2.0
    assert "three policies" in two["slope"].reason


def test_one_policy_that_carries_the_correlation_is_named():
    rng = np.random.default_rng(3)
    true, learned = rng.normal(0, 0.05, size=(2, 10))
    true[7] = learned[7] = 1.0
    found = measured(true, learned, names=list("abcdefghij"))["pearson"]
    assert found.value > 0.9
    assert list(found.details["leverage"]) == ["h"]
    assert found.details["leverage"]["h"] < -0.5
    assert "it rests on h" in found.reason
    assert found.details["near_ties"] >= 5


def test_a_set_without_near_ties_is_called_out():
    spread = measured(np.arange(8), np.arange(8))["pearson"]
    assert "no two policies are close" in spread.reason
    close = measured(np.r_[np.arange(8), 7.05], np.r_[np.arange(8), 7.05])["pearson"]
    assert close.reason is None
    assert close.details["near_ties"] == 1


def test_winner_sets():
    rates = [0.95, 0.9, 0.5, 0.1]
    true = outcomes(rates, 100)
    found = measured(true, outcomes([0.5, 0.9, 0.2, 0.1], 100, seed=1))["winners"]
    assert found.details == {"horizon": 100, "verdict": "robustly correct", "learned": ["p1"], "true": ["p0", "p1"]}
    possible = measured(true, outcomes([0.9, 0.2, 0.9, 0.1], 100, seed=1))["winners"]
    assert possible.details["verdict"] == "possibly correct"
    assert possible.value == 0.5
    assert measured(true, true[:, :1])["winners"].value is None
    # the sets are those whose intervals overlap the best one's
    best = wilson(int(true[0].sum()), 100)
    assert best.low < wilson(int(true[1].sum()), 100).high


def test_agreement_as_a_function_of_the_horizon():
    rates = np.linspace(0.05, 0.95, 9)
    true = np.stack([outcomes(rates, seed=0), outcomes(rates, seed=1)])
    learned = np.stack([true[0], outcomes(rates[::-1], seed=2)])
    found = measured(true, learned, horizon=[50, 200])
    for name in ("pearson", "spearman", "kendall", "mmrv", "regret@1"):
        curve = found[name].details["curve"]
        assert curve["horizon"] == [50, 200]
        assert curve["value"][1] == found[name].value
        assert curve["low"][1] == found[name].ci_low
        assert found[name].details["horizon"] == 200
    assert found["pearson"].details["curve"]["value"][0] == pytest.approx(1.0)
    assert found["pearson"].value < -0.8
    assert found["regret@1"].details["curve"]["value"][0] == 0.0
    assert "curve" not in measured(true[0], learned[0])["pearson"].details


def test_results_are_plain_json_and_measure_by_measure_named():
    results = MEASURE(arrays(outcomes(np.linspace(0, 1, 8)), outcomes(np.linspace(0, 1, 8), seed=1), unit="reward"))
    assert json.loads(json.dumps([r.to_json() for r in results]))
    assert [r.name for r in results][:3] == list(CORRELATIONS)
    assert len({r.name for r in results}) == len(results)
    assert {r.unit for r in results if r.name in ("bias", "mae", "mmrv", "regret@1-raw")} == {"reward"}
    assert {r.unit for r in results if r.name in ("pearson", "regret@1", "slope")} == {"1"}


means = st.lists(st.integers(0, 8), min_size=4, max_size=7)


@settings(max_examples=15, deadline=None)
@given(means, st.data())
def test_order_units_and_duplicated_episodes_change_nothing(true, data):
    learned = data.draw(st.lists(st.integers(0, 8), min_size=len(true), max_size=len(true)))
    order = data.draw(st.permutations(range(len(true))))
    true, learned = np.array(true, float), np.array(learned, float)
    names = [f"p{i}" for i in range(len(true))]
    plain = measured(true, learned, names=names)
    shuffled = measured(true[order], learned[order], names=[names[i] for i in order])
    scaled = measured(4 * true + 1, 4 * learned + 1)
    twice = measured(true[:, None].repeat(3, 1), learned[:, None].repeat(3, 1))
    for name, result in plain.items():
        unit = (
            4
            if (result.unit == "1" and name.startswith(("mmrv", "bias", "mae"))) or name.endswith(("raw", "mean"))
            else 1
        )
        for other, factor in ((shuffled, 1), (scaled, unit), (twice, 1)):
            if result.value is None:
                assert other[name].value is None or name == "winners"
            else:
                assert other[name].value == pytest.approx(factor * result.value, rel=1e-9, abs=1e-9), name
    for variant in MMRV_VARIANTS:
        assert plain["mmrv" if variant == "sym" else f"mmrv-{variant}"].value == mmrv(learned, true, variant)


def test_equal_means_tie_whatever_the_order_of_their_episodes():
    # .1 + .2 + .3 is not .3 + .2 + .1 to a computer
    true = [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.7, 0.8, 0.9]]
    found = measured(true, [[0.1] * 3, [0.2] * 3, [0.3] * 3])
    assert found["kendall"].value == pytest.approx(2 / np.sqrt(6), rel=1e-12)


def test_stages_that_disagree_are_detected_in_95_of_100_seeds():
    # fault: right about every policy, but the two halves of the set are swapped; threshold p = .02 for agreement
    rates = np.linspace(0.05, 0.95, 10)
    caught = alarms = 0
    for seed in range(100):
        true, good, bad = (outcomes(r, 30, seed=3 * seed + i) for i, r in enumerate((rates, rates, np.roll(rates, 5))))
        p = [permutation_p(learned.mean(1), true.mean(1), "spearman")[0] for learned in (good, bad)]
        alarms += p[0] > 0.02
        caught += p[1] > 0.02
    assert caught >= 95
    assert alarms <= 2
    assert measured(true, bad)["spearman"].details["permutation_p"] == p[1]
