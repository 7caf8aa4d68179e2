"""The probabilistic ensemble of PETS and MBPO: world model, presets and training."""

from __future__ import annotations

from wmbench_baselines.ensemble.config import PAPER, PRESETS, QUICK, SMALL, EnsembleConfig
from wmbench_baselines.ensemble.model import Ensemble

__all__ = ["PAPER", "PRESETS", "QUICK", "SMALL", "Ensemble", "EnsembleConfig"]
