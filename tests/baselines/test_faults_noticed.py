"""Every injected fault is noticed by its measure in 95 of 100 seeds, at thresholds of 2 % false alarms."""

import numpy as np
import pytest
from scipy import stats

from wmbench_baselines.faults import __main__ as command
from wmbench_baselines.faults.study import (
    ALARMS,
    FALSE_ALARMS,
    FAULTS,
    Fault,
    Rates,
    Sizes,
    badness,
    study,
    table,
    threshold,
)

SIZES = Sizes(calibration=99, held_out=100, faulty=100)
MEASURES = sorted({f.alarm.partition("/")[0] for f in FAULTS})


@pytest.mark.parametrize("measure", MEASURES)
def test_faults_are_noticed_and_healthy_models_left_alone(measure):
    rates = study([f for f in FAULTS if f.alarm.startswith(f"{measure}/")], sizes=SIZES)
    k = round(FALSE_ALARMS * (SIZES.calibration + 1))
    most = stats.betabinom.ppf(0.999, SIZES.held_out, k, SIZES.calibration + 1 - k)  # the threshold is random, too
    for alarm, rate in rates.healthy.items():
        assert rate * SIZES.held_out <= most, f"{alarm}: false alarms"
    for fault, found in rates.faulty.items():
        for alarm, rate in found.items():
            assert rate >= 0.95, f"{fault} by {alarm}"


def test_the_threshold_is_exceeded_as_often_as_it_should_be():
    assert threshold(np.arange(99.0)) == 97.0  # of a hundred ranks the two highest lie above it
    assert threshold(np.arange(9.0), 0.5) == 4.0
    for n, rate in ((100, 0.02), (48, 0.02), (20, 0.02)):
        with pytest.raises(ValueError, match="healthy models give no threshold"):
            threshold(np.zeros(n), rate)
    rng = np.random.default_rng(0)
    alarms = [rng.normal(size=200) > threshold(rng.normal(size=99)) for _ in range(200)]
    assert np.mean(alarms) == pytest.approx(FALSE_ALARMS, abs=0.003)


def test_the_numbers_do_not_depend_on_company():
    """A seed gives the same model whoever else is looked at, and no fault touches the healthy one."""
    alone = badness(None, 7, ["counterfactual/cfe"])
    assert (
        badness(None, 7, ["one-step/skill", "counterfactual/cfe"])["counterfactual/cfe"] == alone["counterfactual/cfe"]
    )
    none = Fault("nothing", "one-step/skill", lambda m: m)
    assert badness(none, 7, ["one-step/skill"]) == badness(None, 7, ["one-step/skill"])


def test_a_missing_number_is_an_alarm():
    class Silent:
        def __init__(self, model):
            self.card, self.initial, self.model = model.card, model.initial, model

        def step(self, state, action, *, uncertainty=False):
            state, answer = self.model.step(state, action)
            answer.observation_std = None
            return state, answer

    assert badness(Fault("x", "uncertainty/ece", Silent), 0, ["uncertainty/ece"]) == {"uncertainty/ece": np.inf}


def test_the_command_prints_the_table(capsys, monkeypatch):
    monkeypatch.setattr(command, "ALARMS", {"one-step/skill": ALARMS["one-step/skill"]})
    monkeypatch.setattr(command, "FAULTS", FAULTS[:2])
    command.main(["--calibration", "49", "--held-out", "2", "--faulty", "2"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"- **A**: {FAULTS[0].name}"
    assert printed[-1].startswith("| one-step/skill | ")
    assert len(printed) == 6


def test_the_table():
    faults = (Fault("a", "one-step/skill", lambda m: m), Fault("b", "drift/auc", lambda m: m))
    rates = Rates(
        SIZES, {"one-step/skill": 0.02, "drift/auc": 0.0}, {"a": {"one-step/skill": 1.0}, "b": {"drift/auc": 0.5}}
    )
    assert table(rates, faults).splitlines() == [
        "- **A**: a",
        "- **B**: b",
        "",
        "| | healthy | A | B |",
        "|---|---|---|---|",
        "| one-step/skill | 2 | **100** |  |",
        "| drift/auc | 0 |  | **50** |",
    ]
    every = study(FAULTS[:1], list(ALARMS)[:2], Sizes(49, 1, 1))
    assert set(every.faulty[FAULTS[0].name]) == set(list(ALARMS)[:2])
