"""Training inside a learned simulator, and the same training in the true one beside it."""

from __future__ import annotations

from wmbench_baselines.inside.config import PENALTIES, InsideConfig
from wmbench_baselines.inside.rows import InsideRows
from wmbench_baselines.inside.train import train_inside

__all__ = ["PENALTIES", "InsideConfig", "InsideRows", "train_inside"]
