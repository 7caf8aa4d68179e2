"""Collecting datasets from the true simulator."""

from wmbench.collecting.collector import collect
from wmbench.collecting.sources import NoisyPolicy, Source

__all__ = ["NoisyPolicy", "Source", "collect"]
