"""What the other format cannot hold is said aloud: one kind of warning for all formats."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class ExchangeWarning(UserWarning):
    """Something does not come along, or comes along changed; the sentence names it."""


def note(sentence: str) -> None:
    """Warn whoever called the exchange."""
    warnings.warn(sentence, ExchangeWarning, stacklevel=4)


@contextmanager
def shown(console: Console) -> Iterator[None]:
    """Print this module's warnings as lines of their own, and leave all others as they are."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExchangeWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, ExchangeWarning):
            console.print(f"[yellow]note:[/] {warning.message}", highlight=False, soft_wrap=True)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
