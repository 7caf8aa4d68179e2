"""Runs: named plans of steps, each writing one record, so that a killed run goes on where it stopped."""

from wmbench.runs.api import run

__all__ = ["run"]
