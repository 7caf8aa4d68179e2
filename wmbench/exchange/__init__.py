"""Exchange with other libraries' datasets: one module per format, found by name, imported when used."""

from __future__ import annotations

from wmbench.exchange.api import export, import_
from wmbench.exchange.notes import ExchangeWarning

__all__ = ["ExchangeWarning", "export", "import_"]
