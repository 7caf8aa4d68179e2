"""Measures: one file per question, each a pure function of recorded arrays."""

from wmbench.measures.result import Measure, Result

__all__ = ["Measure", "Result"]
