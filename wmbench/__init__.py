"""wmbench: can a learned world model stand in for the simulator it was learned from?

Importing this package registers every task with Gymnasium and imports neither torch nor a simulator.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wmbench.registration import register_all, task_card, task_cards

if TYPE_CHECKING:
    from wmbench.collecting import collect as collect
    from wmbench.evaluating import evaluate as evaluate
    from wmbench.frozen_sets import frozen as frozen
    from wmbench.merging import merge as merge
    from wmbench.runs import run as run
    from wmbench.training import train as train
    from wmbench.training import train_several as train_several
    from wmbench.transferring import transfer as transfer

__version__ = "0.1.0"
__all__ = [
    "collect",
    "evaluate",
    "frozen",
    "merge",
    "run",
    "task_card",
    "task_cards",
    "train",
    "train_several",
    "transfer",
]

_LAZY = {
    "collect": "wmbench.collecting",
    "evaluate": "wmbench.evaluating",
    "frozen": "wmbench.frozen_sets",
    "merge": "wmbench.merging",
    "run": "wmbench.runs",
    "train": "wmbench.training",
    "train_several": "wmbench.training",
    "transfer": "wmbench.transferring",
}


def __getattr__(name: str) -> Any:
    """Import the Python siblings of the commands only when they are used."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'wmbench' has no attribute {name!r}")


register_all()
