"""TD-MPC2 (https://arxiv.org/abs/2310.16828): a latent world model learned for, and used by, planning."""

from wmbench_baselines.tdmpc2.config import PRESETS, SIZES, TDMPC2Config
from wmbench_baselines.tdmpc2.policy import TDMPC2Policy, TDMPC2PolicyConfig
from wmbench_baselines.tdmpc2.simulator import TDMPC2

__all__ = ["PRESETS", "SIZES", "TDMPC2", "TDMPC2Config", "TDMPC2Policy", "TDMPC2PolicyConfig"]
