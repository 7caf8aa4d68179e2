"""Colours and type of the report's figures."""

from __future__ import annotations

from typing import Any

from wmbench.report.view import LEARNED

INK, MUTED, BLUE, ORANGE, GREEN = "#1f2933", "#9aa5b1", "#1f6feb", "#d9730d", "#2e7d4f"
COLOURS = {LEARNED: BLUE, "linear": ORANGE, "copy-last": "#7b61a8", "mean-delta": GREEN, "random-walk": "#b5838d"}
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "path",
}
