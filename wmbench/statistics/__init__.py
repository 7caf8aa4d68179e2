"""Statistics that every measure shares: intervals, survival, aggregates; nothing here knows about tasks or models."""

from wmbench.statistics.aggregate import iqm, optimality_gap, probability_of_improvement
from wmbench.statistics.bootstrap import bootstrap, bootstrap_interval, resample_weights
from wmbench.statistics.intervals import (
    Interval,
    agresti_caffo,
    clopper_pearson,
    needed_for_quantile,
    quantile_interval,
    wilson,
)
from wmbench.statistics.survival import mean_survival, median_survival, survival_curve

__all__ = [
    "Interval",
    "agresti_caffo",
    "bootstrap",
    "bootstrap_interval",
    "clopper_pearson",
    "iqm",
    "mean_survival",
    "median_survival",
    "needed_for_quantile",
    "optimality_gap",
    "probability_of_improvement",
    "quantile_interval",
    "resample_weights",
    "survival_curve",
    "wilson",
]
