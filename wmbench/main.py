"""The command line: ``wmbench COMMAND ...``, each command found through an entry point and imported alone."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmbench import registry
from wmbench.errors import WmbenchError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    A command is a typed function, whose parameters become flags. One with a true attribute
    ``takes_argv`` parses its words itself and is given them as a list.

    Args:
        argv: Words after ``wmbench``; None takes those of the process.

    Returns:
        Exit status: 0 done, 1 refused with a sentence, 2 no such command, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(stderr=True)
    if not words or words[0] in ("-h", "--help", "help"):
        _overview(Console())
        return 0
    if words[0] in ("--version", "-V"):
        from wmbench import __version__

        Console().print(f"wmbench {__version__}", highlight=False)
        return 0
    name, rest = words[0], words[1:]
    try:
        command = registry.commands.load(name)
    except WmbenchError as error:
        console.print(f"[red]wmbench:[/] {escape(str(error))}", soft_wrap=True)
        return 2
    try:
        if getattr(command, "takes_argv", False):
            command(rest)
        else:
            tyro.cli(command, prog=f"wmbench {name}", args=rest)
    except WmbenchError as error:
        console.print(f"[red]wmbench {escape(name)}:[/] {escape(str(error))}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print(f"wmbench {escape(name)}: interrupted; the same command goes on where it stopped")
        return 130
    return 0


def _overview(console: Console) -> None:
    """Print every installed command with the first sentence of its docstring."""
    console.print("[bold]wmbench[/]: can a learned world model stand in for the simulator?\n", highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name in registry.commands.names():
        try:
            summary = (inspect.getdoc(registry.commands.load(name)) or "").split("\n")[0]
        except Exception as error:  # somebody's broken plug-in must not hide the other commands
            summary = f"cannot be loaded: {error}"
        table.add_row(f"[bold]{escape(name)}[/]", escape(summary))
    console.print(table)
    console.print("\n`wmbench COMMAND --help` shows the flags of one.", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
