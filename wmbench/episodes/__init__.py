"""Episodes on disk: memory-mapped shards written whole, read as views, sampled as windows."""

from __future__ import annotations

from wmbench.episodes.data import EpisodeData
from wmbench.episodes.dataset import Dataset
from wmbench.episodes.windows import WindowSampler
from wmbench.episodes.writer import DatasetWriter

__all__ = ["Dataset", "DatasetWriter", "EpisodeData", "WindowSampler"]
