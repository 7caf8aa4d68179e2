"""Every error wmbench raises on purpose: each names the id or file at fault and says what to do."""

from __future__ import annotations


class WmbenchError(Exception):
    """Base of all errors raised on purpose; catching it catches nothing else."""


class InvalidActionError(WmbenchError, ValueError):
    """An action that no simulator may accept: NaN, infinite, wrong shape, wrong type, or refused."""


class LifecycleError(WmbenchError, RuntimeError):
    """A call at the wrong moment: before reset, after the episode's end, or after close."""


class StateError(WmbenchError, ValueError):
    """A simulator state of the wrong size, or one that belongs to another task."""


class SimulationError(WmbenchError, ArithmeticError):
    """A true simulator whose numbers are no longer finite: its physics has become unstable."""


class WorldError(WmbenchError, ValueError):
    """A world that a task does not have, with those that it has."""


class RenderError(WmbenchError, RuntimeError):
    """A picture that cannot be made here, with what would make it possible."""


class ViewError(WmbenchError, ValueError):
    """An observation, image size, camera or render preset that does not exist; says which do."""


class DeviceError(WmbenchError, ValueError):
    """A torch device that does not exist here, with the reason that torch gives."""


class MissingHeadError(WmbenchError, ValueError):
    """A world model lacks a prediction that the task needs and declares no source for it."""


class CheckpointError(WmbenchError, ValueError):
    """A checkpoint that is unreadable, unsafe, corrupt, or made for another task."""


class DatasetError(WmbenchError, ValueError):
    """A dataset that is unreadable, corrupt, or does not fit what is asked of it."""


class RecipeError(DatasetError):
    """A recipe for a dataset that is malformed, or that this task cannot meet."""


class CardError(WmbenchError, ValueError):
    """A task or model card that contradicts itself or its simulator."""


class NotRegisteredError(WmbenchError, KeyError):
    """A name that no installed package has registered."""

    def __str__(self) -> str:
        """Print the sentence itself; KeyError would print its repr."""
        return str(self.args[0]) if self.args else ""


class MissingExtraError(WmbenchError, ImportError):
    """An optional dependency is absent; the message is the line that installs it."""


def require(module: str, extra: str) -> None:
    """Raise unless an optional module is importable, naming the line that installs it.

    Args:
        module: Import name, for example ``"stable_baselines3"``.
        extra: The extra of this distribution that brings it, for example ``"sb3"``.

    Raises:
        MissingExtraError: The module is not installed.
    """
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise MissingExtraError(f"{module} is not installed: run  pip install 'wmbench[{extra}]'")
