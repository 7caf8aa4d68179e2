"""The report's questions, in order: what each asks, how to read its answer, its figures and its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from wmbench.report import plots
from wmbench.report import plots_trust as trust
from wmbench.report.view import TaskView

Draw = Callable[[TaskView, Path], Figure | None]


@dataclass(frozen=True)
class Section:
    """One question.

    Attributes:
        question: As a reader would ask it.
        reading: How to read the answer.
        figures: (caption, function that draws it, or gives None where there are no data).
        measure: Whose results the table shows.
        columns: Name of a result to the heading of its column.
        rows: What the table's lines are.
        skip: Subjects that are left out of the table.
    """

    question: str
    reading: str
    figures: tuple[tuple[str, Draw], ...]
    measure: str
    columns: Mapping[str, str]
    rows: str = "model"
    skip: tuple[str, ...] = ()


def _of(draw: Callable[[TaskView], Figure | None]) -> Draw:
    """A drawing that needs no files."""
    return lambda view, folder: draw(view)


SECTIONS = (
    Section(
        "How wrong is one step?",
        "Skill is 1 - error / error of predicting no change: 1 is perfect, 0 no better than standing still. "
        "Linear is a least-squares fit to the same data.",
        (("Skill of every dimension; a mean would hide one broken joint.", _of(plots.skill)),),
        "one-step",
        {"skill": "skill", "skill-linear": "against linear", "skill-median": "median dim", "skill-worst": "worst dim"},
    ),
    Section(
        "How far do imagined rollouts drift?",
        "Both simulators get the recorded actions. The error is in standard deviations of the data (sigma); two "
        "unrelated states lie about 1.4 apart. true+1e-06 is the true simulator itself, started a millionth of a "
        "sigma aside: past the step where that one is lost, no model can be told from another.",
        (
            (
                "Median over test windows; band from the 10 % to the 90 % quantile. Dotted: the true simulator "
                "against itself.",
                _of(plots.drift),
            ),
            (
                "One rollout of the same actions. Top: the true simulator. Below: the learned one, drawn by "
                "posing the simulator from the predicted state. Lines: some dimensions over time.",
                plots.rollout,
            ),
        ),
        "drift",
        {"auc": "mean error", "mean-steps-to-0.5": "steps to 0.5 sigma", "mean-steps-to-1": "steps to 1 sigma"},
    ),
    Section(
        "Does it know what another action would have done?",
        "From the same state both simulators are left under two sequences of actions; the error is that of the "
        "difference, as a share of the true difference. 0 is perfect, 1 is a model that ignores the action. The "
        "shuffle ratio is the one-step error with somebody else's actions over that with the right ones.",
        (("Error of an action's effect after some steps, by how the action differs.", _of(trust.counterfactual)),),
        "counterfactual",
        {"cfe": "error of effect", "cosine": "direction", "magnitude": "size ratio", "shuffle-ratio": "shuffle ratio"},
        skip=("mean-delta",),
    ),
    Section(
        "Are its rewards and endings right?",
        "Marginal always predicts the data's mean: a head that does not beat it is worth nothing. R2 is one step "
        "ahead; the sum runs over an imagined rollout. False stop: ends where the true episode goes on; false "
        "continue: the other way.",
        (("Error of the summed reward by step of an imagined rollout.", _of(trust.heads)),),
        "heads",
        {
            "reward-r2": "reward R2",
            "reward-sum-error": "error of summed reward",
            "false-stop": "false stop",
            "false-continue": "false continue",
        },
    ),
    Section(
        "Does it know when it is wrong?",
        "Left: a 90 % interval should hold the truth in 90 % of all cases. Right: how well a signal tells the "
        "largest tenth of errors from the rest. Grey signals cost nothing to have; only a gain over the best of "
        "them is news.",
        (("Calibration, and detection of large errors.", _of(trust.uncertainty)),),
        "uncertainty",
        {
            "auroc": "AUROC of large errors",
            "auroc-gain": "gain over the best trivial signal",
            "coverage-90": "held by 90 % intervals",
            "ratio-far": "doubt far from the data, ratio",
        },
    ),
    Section(
        "Does a policy fare the same in both?",
        "The same policies from the same starts. An episode that breaks counts as a failure.",
        (
            ("Filled: true simulator. Open: learned. Lines are 95 % intervals.", _of(plots.success)),
            (
                "Left: mean return of every policy of a zoo, learned against true; on the dashed line both agree."
                " Right: correlation over policies if only so many steps counted.",
                _of(trust.agreement),
            ),
        ),
        "success",
        {"success": "success rate", "return": "return", "length": "length"},
        rows="policy in simulator",
    ),
    Section(
        "Would one choose the same policy?",
        "Correlations over the zoo; regret is what choosing by the learned simulator costs, as a share of the "
        "range of true returns.",
        (),
        "agreement",
        {
            "spearman": "Spearman",
            "pearson": "Pearson",
            "mmrv": "MMRV",
            "regret@1": "regret of the best",
            "bias": "bias of returns",
        },
    ),
)
