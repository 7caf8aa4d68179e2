"""Six models whose place is known go through every measure: none may look good by doing nothing, or by failing."""

import functools
import math

import pytest
import torch

from wmbench import registry
from wmbench.protocols import Prediction
from wmbench_baselines.faults import IgnoredAction
from wmbench_baselines.faults.puck import TASK, PuckData, PuckModel, register
from wmbench_baselines.faults.study import RECORDERS, SUBJECT, Case

DATA = PuckData(0)
STD = torch.from_numpy(DATA.stats["delta"]["std"]).float()
MEAN = torch.from_numpy(DATA.stats["delta"]["mean"]).float()
REWARD = float(DATA.stats["reward"]["mean"])


class Trivial:
    """A rule for the next observation, the train split's mean reward, and one standard deviation for all."""

    def __init__(self, rule, reward=REWARD, std=STD):
        self.rule, self.reward, self.std = rule, reward, std
        self.card = PuckModel(0, DATA.stats["delta"]["std"]).card

    def initial(self, start, *, keys):
        return {"o": start.observation}

    def step(self, state, action, *, uncertainty=False):
        after = self.rule(state["o"])
        reward = torch.full((len(after),), self.reward, dtype=torch.float64)
        return {"o": after}, Prediction(
            after, self.std.expand_as(after), reward, uncertainty={"scale": torch.ones(len(after))}
        )


ORACLE = PuckModel(0, DATA.stats["delta"]["std"], size=0.0)
MODELS = {
    "oracle": ORACLE,
    "action-blind": IgnoredAction(ORACLE, TASK),
    "constant": Trivial(torch.zeros_like),
    "copy": Trivial(torch.clone),
    "marginal": Trivial(lambda o: o + MEAN),
    "nan": Trivial(lambda o: o * math.nan, math.nan, STD * math.nan),
}
BLIND = ("action-blind", "constant", "copy", "marginal")


@functools.cache
def numbers(measure, model):
    register()
    recording = RECORDERS[measure](Case(MODELS[model], DATA, 0, lambda planner: planner))
    return {r.name: r for r in registry.measures.load(measure)(recording.arrays) if r.subject == SUBJECT}


def value(measure, number, model):
    return numbers(measure, model)[number].value


@pytest.mark.parametrize(
    ("measure", "number", "best"),
    [
        ("one-step", "skill", 1.0),
        ("one-step", "skill-worst", 1.0),
        ("one-step", "nmse", 0.0),
        ("drift", "auc", 0.0),
        ("drift", "mean-steps-to-0.5", 20.0),
        ("counterfactual", "cfe", 0.0),
        ("counterfactual", "cosine", 1.0),
        ("counterfactual", "sign-agreement", 1.0),
        ("heads", "reward-r2", 1.0),
        ("heads", "reward-sum-error", 0.0),
        ("exploitation", "true-gain", 1.0),
        ("agreement", "pearson", 1.0),
        ("agreement", "spearman", 1.0),
        ("agreement", "mmrv", 0.0),
        ("agreement", "regret@1", 0.0),
        ("agreement", "mae", 0.0),
        ("ranking", "spearman", 1.0),
        ("ranking", "regret-1", 0.0),
        ("recoverability", "recoverability", 1.0),
        ("executability", "skill", 1.0),
        ("executability", "path-error-ratio", 1.0),
    ],
)
def test_the_oracle_is_best_and_failing_is_worst(measure, number, best):
    """The exact model has the best value there is, and a model of nothing but NaN no better one than any other."""
    assert value(measure, number, "oracle") == pytest.approx(best, abs=1e-4)
    direction = 1 if numbers(measure, "oracle")[number].direction == "higher" else -1
    failed = value(measure, number, "nan")
    if failed is None:  # then it says why, and who has no value is ranked behind whoever has one
        assert numbers(measure, "nan")[number].reason
        return
    others = [v for model in MODELS if (v := value(measure, number, model)) is not None]
    assert direction * failed <= min(direction * v for v in others) + 1e-9


def test_what_ignores_the_action_is_told_from_what_does_not():
    for model in BLIND:
        assert value("counterfactual", "cfe", model) == 1.0
        assert value("counterfactual", "cosine", model) == 0.0
        assert value("counterfactual", "magnitude", model) == 0.0
        assert value("counterfactual", "shuffle-ratio", model) == 1.0
        assert value("recoverability", "recoverability", model) < 0.1
        assert value("ranking", "spearman", model) == 0.0
        assert value("ranking", "regret-1", model) == pytest.approx(1.0)  # of best less mean, that of a random pick
        assert value("exploitation", "true-gain", model) == pytest.approx(0.0, abs=1e-12)
        assert value("agreement", "spearman", model) is None  # nothing it imagines depends on the policy
        assert value("agreement", "regret@1-worst", model) == 1.0
    assert value("counterfactual", "shuffle-ratio", "oracle") > 1e6
    assert value("one-step", "skill", "action-blind") > 0.8  # and by its errors alone it would look good


def test_copying_and_the_mean_change_have_no_skill():
    assert value("one-step", "skill", "copy") == 0.0
    assert value("one-step", "skill", "marginal") == pytest.approx(0.0, abs=0.02)
    assert value("one-step", "skill", "constant") < -10
    for model in ("constant", "copy", "marginal"):
        assert value("heads", "reward-r2", model) == pytest.approx(0.0, abs=1e-9)
        assert value("drift", "auc", model) > 0.8
        assert value("executability", "path-error-ratio", model) > 5
        assert value("executability", "skill", model) < 0.1
    assert value("executability", "skill", "copy") == 0.0


def test_the_marginal_is_calibrated_at_the_price_of_sharpness():
    assert value("uncertainty", "coverage-90", "marginal") == pytest.approx(0.9, abs=0.03)
    assert value("uncertainty", "sharpness", "marginal") == pytest.approx(1.0, rel=1e-6)
    assert value("uncertainty", "crps", "marginal") > 100 * value("uncertainty", "crps", "oracle")
    assert value("uncertainty", "coverage-90", "nan") == 0.0
    assert value("uncertainty", "crps", "nan") == 1000.0


def test_noise_free_optimisation_in_the_truth_exploits_nothing():
    for number in ("systematic", "gap", "curse", "over-optimisation"):
        assert value("exploitation", number, "oracle") == pytest.approx(0.0, abs=1e-4)
    assert value("exploitation", "systematic", "nan") > 1.0
    assert value("exploitation", "true-gain", "nan") < -0.5


def test_lost_predictions_are_counted():
    for measure in RECORDERS:
        main = next(iter(numbers(measure, "nan").values()))
        assert main.n_invalid > 0 or main.value is None, measure
        assert next(iter(numbers(measure, "oracle").values())).n_invalid == 0
