"""Puts every installed task into Gymnasium's registry, from cards alone: no simulator, no torch."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

import gymnasium as gym

from wmbench import registry
from wmbench.cards import TaskCard
from wmbench.errors import CardError, NotRegisteredError

MAKE = "wmbench_envs.make:make_env"
MAKE_VEC = "wmbench_envs.make:make_vec"
REFERENCE_MODEL = "ensemble"
"""The shipped model behind ``-Learned`` ids."""


@cache
def task_cards() -> dict[str, TaskCard]:
    """Every installed task by id, in registration order.

    Raises:
        CardError: Two families define the same id.
    """
    cards: dict[str, TaskCard] = {}
    for family, entries in registry.envs:
        for card in entries:
            if card.id in cards:
                raise CardError(f"{card.id} is defined twice, the second time in family {family!r}")
            cards[card.id] = card
    return cards


def task_card(task: str) -> TaskCard:
    """The card of a task, by id or by short name.

    Args:
        task: ``"wmbench/DMC-CartpoleSwingup-v0"`` or ``"DMC-CartpoleSwingup"``.

    Raises:
        NotRegisteredError: No installed package has the task; close names are suggested.
    """
    cards = task_cards()
    if task in cards:
        return cards[task]
    short = {card.name: card for card in cards.values()}
    if task in short:
        return short[task]
    close = difflib.get_close_matches(task.removeprefix("wmbench/").rsplit("-v", 1)[0], short, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "`wmbench list` shows all"
    raise NotRegisteredError(f"no task is called {task!r}: {hint}")


@cache
def shipped_checkpoints() -> dict[tuple[str, str], Path]:
    """(model or policy name, task id) to the folder of every checkpoint that an installed package ships."""
    found: dict[tuple[str, str], Path] = {}
    for _, listing in registry.checkpoints:
        found.update(listing())
    return found


def learned_id(card: TaskCard) -> str:
    """The id under which the task's shipped reference model is an environment by itself."""
    return f"wmbench/{card.name}-Learned-v{card.version}"


def register_all() -> None:
    """Register every task, and the learned twin of each that ships a reference model. Idempotent."""
    shipped = shipped_checkpoints()
    for card in task_cards().values():
        _register(card.id, {"task": card.id})
        if (REFERENCE_MODEL, card.id) in shipped:
            _register(learned_id(card), {"task": card.id, "simulator": REFERENCE_MODEL})


def _register(env_id: str, kwargs: dict[str, str]) -> None:
    if env_id in gym.registry:
        return
    gym.register(
        id=env_id,
        entry_point=MAKE,
        vector_entry_point=MAKE_VEC,
        order_enforce=False,  # the environments check the order of calls, and more, themselves
        disable_env_checker=True,
        kwargs=kwargs,
    )
