"""Does a policy mean the same in the learned and in the true simulator? A zoo of frozen policies is asked in both."""

from __future__ import annotations

from wmbench.transferring.evaluation import Transfer, transfer
from wmbench.transferring.freeze import freeze_zoo

__all__ = ["Transfer", "freeze_zoo", "transfer"]
