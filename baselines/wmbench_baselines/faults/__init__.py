"""Known faults to put into any world model, and a study of which measure notices which.

``python -m wmbench_baselines.faults`` prints the table of ``docs/measures/faults.md``.
"""

from wmbench_baselines.faults.models import (
    DisagreeingStages,
    Exploitable,
    IgnoredAction,
    MistakenAction,
    Overconfident,
    ShiftedAction,
    StaleObservation,
)

__all__ = [
    "DisagreeingStages",
    "Exploitable",
    "IgnoredAction",
    "MistakenAction",
    "Overconfident",
    "ShiftedAction",
    "StaleObservation",
]
