"""Statistics that every measure shares: intervals, survival, aggregates; nothing here knows about tasks or models."""

from wmbench.statistics.aggregate import iqm, optimality_gap, probability_of_improvement
from wmbench.statistics.bootstrap import bootstrap, bootstrap_interval, resample_weights
from wmbench.statistics.comparison import (
    hierarchical_bootstrap,
    holm,
    interval_over_seeds,
    mcnemar,
    paired_difference,
    t_interval,
)
from wmbench.statistics.intervals import (
    Interval,
    agresti_caffo,
    clopper_pearson,
    needed_for_quantile,
    quantile_interval,
    wilson,
)
from wmbench.statistics.sequential import compare_sequentially, confidence_sequence, log_e_proportion
from wmbench.statistics.stratified import improvement, iqm_rows, stratified_interval, welch_interval
from wmbench.statistics.survival import mean_survival, median_survival, survival_curve

__all__ = [
    "Interval",
    "agresti_caffo",
    "bootstrap",
    "bootstrap_interval",
    "clopper_pearson",
    "compare_sequentially",
    "confidence_sequence",
    "hierarchical_bootstrap",
    "holm",
    "improvement",
    "interval_over_seeds",
    "iqm",
    "iqm_rows",
    "log_e_proportion",
    "mcnemar",
    "mean_survival",
    "median_survival",
    "needed_for_quantile",
    "optimality_gap",
    "paired_difference",
    "probability_of_improvement",
    "quantile_interval",
    "resample_weights",
    "stratified_interval",
    "survival_curve",
    "t_interval",
    "welch_interval",
    "wilson",
]
