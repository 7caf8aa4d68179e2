"""From models, policies and a dataset to results: one measure by a call of its own, or all of them."""

from wmbench.measuring.calls import (
    Measured,
    measure_agreement,
    measure_comparison,
    measure_counterfactual,
    measure_drift,
    measure_heads,
    measure_images,
    measure_latency,
    measure_one_step,
    measure_success,
    measure_uncertainty,
)
from wmbench.measuring.everything import gather_subjects, measure_all

__all__ = [
    "Measured",
    "gather_subjects",
    "measure_agreement",
    "measure_all",
    "measure_comparison",
    "measure_counterfactual",
    "measure_drift",
    "measure_heads",
    "measure_images",
    "measure_latency",
    "measure_one_step",
    "measure_success",
    "measure_uncertainty",
]
