"""Reports: tables for the terminal and one self-contained page, from records alone."""

from wmbench.report.page import build_report
from wmbench.report.tables import print_report

__all__ = ["build_report", "print_report"]
