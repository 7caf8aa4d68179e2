"""Collecting datasets from the true simulator: by policies, or by recipes of behaviour."""

from wmbench.collecting.collector import collect
from wmbench.collecting.recipes import Recipe, load_recipe
from wmbench.collecting.sources import NoisyPolicy, Source

__all__ = ["NoisyPolicy", "Recipe", "Source", "collect", "load_recipe"]
