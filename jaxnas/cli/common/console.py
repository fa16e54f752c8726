"""What the commands print tables with."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

PLAIN_WIDTH = 120
"""Columns where the output is not a terminal."""


def console() -> Console:
    """Returns a console that is wide where the output is not a terminal."""
    made = Console()
    return made if made.is_terminal else Console(width=PLAIN_WIDTH)


def headed(title: str | None, columns: Sequence[str], *, right: bool = False) -> Table:
    """Returns an empty table; ``right`` aligns all columns but the first."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i and right else "left")
    return table


def pairs(facts: Mapping[str, str], **column: Any) -> Table:
    """Returns facts as a table of two columns; ``column`` are settings of the second."""
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(**column)
    for name, value in facts.items():
        table.add_row(name, value)
    return table
