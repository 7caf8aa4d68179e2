"""Experts that demonstrate tasks, and named ways to make any policy worse.

Policies ``expert``, ``early-stop``, ``wrong-target`` and ``pushed``; success rates stand in ``envs/README.md``.
"""

from wmbench_baselines.experts.expert import Expert, expert_tasks
from wmbench_baselines.experts.worse import EarlyStop, Pushed, WrongTarget

__all__ = ["EarlyStop", "Expert", "Pushed", "WrongTarget", "expert_tasks"]
