"""Recordings: what simulators and models are asked for, kept as plain arrays that measures read."""

from wmbench.recording.store import Recording

__all__ = ["Recording"]
