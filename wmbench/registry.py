"""What installed packages offer, found through entry points and loaded only when asked for."""

from __future__ import annotations

import difflib
import importlib.util
import operator
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from wmbench.errors import NotRegisteredError, WmbenchError


class Registry:
    """The names in one entry-point group.

    A third party adds an entry with one line in its own ``pyproject.toml``. Names are unique: two
    packages that offer the same one are told so, rather than one winning silently.
    """

    def __init__(self, group: str, noun: str) -> None:
        """Name the group, and what its entries are called in errors."""
        self.group = group
        self.noun = noun
        self._local: dict[str, Any] = {}

    def add(self, name: str, target: Any) -> None:
        """Register an object for this process alone (notebooks, tests).

        Raises:
            WmbenchError: The name is taken.
        """
        if name in self.names():
            raise WmbenchError(f"{self.noun} {name!r} is already registered in {self.group}")
        self._local[name] = target

    def remove(self, name: str) -> None:
        """Take back what :meth:`add` did."""
        del self._local[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self._local, *_entries(self.group)})

    def load(self, name: str) -> Any:
        """The object behind a name, importing its module now.

        Raises:
            NotRegisteredError: No package offers the name; close ones are suggested.
            WmbenchError: Two packages offer it.
        """
        if name in self._local:
            return self._local[name]
        found = _entries(self.group).get(name)
        if not found:
            close = difflib.get_close_matches(name, self.names(), n=3)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(self.names())}"
            raise NotRegisteredError(f"no {self.noun} is called {name!r}: {hint}")
        if len(found) > 1:
            both = ", ".join(f"{e.value} ({e.dist.name if e.dist else '?'})" for e in found)
            raise WmbenchError(f"{self.noun} {name!r} is offered twice: {both}; uninstall one of them")
        return _load(found[0])

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Name and loaded object of every entry."""
        for name in self.names():
            yield name, self.load(name)


def _load(entry: EntryPoint) -> Any:
    """Load an entry, also from a module that is being imported at this moment.

    A module of cards that is imported first imports this package, which registers all cards, its own
    included, before its second line has run: then a copy of it is read.
    """
    module = sys.modules.get(entry.module)
    spec = getattr(module, "__spec__", None)
    if spec is None or spec.loader is None or hasattr(module, entry.attr.split(".")[0]):
        return entry.load()
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return operator.attrgetter(entry.attr)(copy)


@cache
def _entries(group: str) -> dict[str, list[EntryPoint]]:
    """Entry points of a group by name; the same target listed twice by one installation counts once."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        same = found.setdefault(entry.name, [])
        if all(entry.value != other.value for other in same):
            same.append(entry)
    return found


envs = Registry("wmbench.envs", "task family")
"""Family name to a tuple of TaskCards (a module attribute, cheap to import)."""

world_models = Registry("wmbench.world_models", "world model")
"""Name to a class, see :class:`wmbench.protocols.Trainable`."""

policies = Registry("wmbench.policies", "policy")
"""Name to a class, see :class:`wmbench.protocols.Policy` and :class:`wmbench.protocols.Trainable`."""

inverse_models = Registry("wmbench.inverse_models", "inverse model")
"""Name to a class, see :class:`wmbench.protocols.InverseModel` and :class:`wmbench.protocols.Trainable`."""

measures = Registry("wmbench.measures", "measure")
"""Name to a :class:`wmbench.measures.Measure`."""

commands = Registry("wmbench.commands", "command")
"""Word after ``wmbench`` on the command line, to a typed function."""

checkpoints = Registry("wmbench.checkpoints", "checkpoint collection")
"""Package name to a function without arguments: (model or policy name, task id) to a shipped folder."""

recorders = Registry("wmbench.recorders", "recorder")
"""Name of a recording to a :class:`wmbench.recording.recorder.Recorder`."""

recipes = Registry("wmbench.recipes", "recipe")
"""Name to a recipe as plain data, see :mod:`wmbench.collecting.recipes`."""

frozen = Registry("wmbench.frozen", "collection of frozen test sets")
"""Package name to a function without arguments: task id to the folder of its frozen test set."""

floors = Registry("wmbench.floors", "table of floors")
"""Package name to a function without arguments: plain data, ``tasks`` being task id to its entry, see
:mod:`wmbench.floors`."""

zoos = Registry("wmbench.zoos", "zoo of policies")
"""Package name to a function without arguments: task id to the JSON file that describes its zoo, see
:mod:`wmbench.zoo`."""

formats = Registry("wmbench.formats", "exchange format")
"""Name to a :class:`wmbench.exchange.format.Format`."""
