"""A table of strings and its three forms: terminal, Markdown, HTML. All text is escaped."""

import html
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

PROSE = 40
"""Characters above which a cell of a terminal table may be broken over lines."""


class Table(NamedTuple):
    """Cells as text; the first column names the row, the others are right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    rule_before: int = -1
    """Index of a row that a rule is drawn above; -1 for none."""
    strong: int = -1
    """Index of a row to be set in bold; -1 for none."""
    left: tuple[int, ...] = (0,)
    """Columns that are aligned left."""
    breakable: bool = False
    """Whether numbers may be broken over two lines on the page, to save width."""


_MARKDOWN = str.maketrans(
    {c: f"\\{c}" for c in "\\|*`[]~$"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "}
)
_EDGE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""An underscore that is not inside a word, where Markdown would take it for emphasis."""


def escape_markdown(text: str) -> str:
    """Returns text that Markdown shows as it is, on one line."""
    text = _EDGE.sub(r"\\_", text.translate(_MARKDOWN)).strip()
    if re.match(r"[#+=-]", text):
        return "\\" + text
    return re.sub(r"^(\d+)([.)])(?=\s)", r"\1\\\2", text)


def to_rich(table: Table) -> RichTable:
    """Returns the table for a terminal."""
    out = RichTable(
        title=Text(table.title) if table.title else None,
        title_justify="left",
        title_style="bold",
        caption=Text(table.note) if table.note else None,
        caption_justify="left",
        caption_style="dim",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for i, name in enumerate(table.columns):
        widest = max((len(row[i]) for row in table.rows), default=0)
        room = max([widest, 8, *map(len, name.split())])
        prose = widest > PROSE
        out.add_column(
            Text(name if prose else "\n".join(textwrap.wrap(name, room))),
            justify="left" if i in table.left else "right",
            overflow="fold",
            ratio=1 if prose else None,
        )
    for i, row in enumerate(table.rows):
        if i == table.rule_before:
            out.add_section()
        out.add_row(*map(Text, row), style="bold" if i == table.strong else "")
    return out


def to_markdown(table: Table) -> str:
    """Returns the table as GitHub-flavoured Markdown, with its title as a bold line."""
    lines = [f"**{escape_markdown(table.title)}**", ""] if table.title else []
    lines.append(_markdown_row(table.columns))
    marks = [":--" if i in table.left else "--:" for i in range(len(table.columns))]
    lines.append("| " + " | ".join(marks) + " |")
    for i, row in enumerate(table.rows):
        cells = [escape_markdown(cell) for cell in row]
        if i == table.strong:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append("| " + " | ".join(cells) + " |")
    if table.note:
        lines.extend(["", escape_markdown(table.note)])
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape_markdown(cell) for cell in cells) + " |"


def to_html(table: Table) -> str:
    """Returns the table as HTML in a box that scrolls sideways on a narrow screen."""
    esc = html.escape
    kind = [' class="l"' if i in table.left else "" for i in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{k}>{esc(name)}</th>' for k, name in zip(kind, table.columns)
    )
    body = []
    for i, row in enumerate(table.rows):
        first, *rest = row
        cells = f'<th scope="row"{kind[0]}>{esc(first)}</th>' + "".join(
            f"<td{k}>{esc(cell)}</td>" for k, cell in zip(kind[1:], rest)
        )
        names = ["rule"] * (i == table.rule_before) + ["strong"] * (i == table.strong)
        body.append(
            f'<tr class="{" ".join(names)}">{cells}</tr>' if names else f"<tr>{cells}</tr>"
        )
    title = f"<h3>{esc(table.title)}</h3>" if table.title else ""
    note = f'<p class="note">{esc(table.note)}</p>' if table.note else ""
    kind_of_table = ' class="breakable"' if table.breakable else ""
    label = esc(table.title or table.columns[0], quote=True)
    return (
        f'{title}<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table{kind_of_table}>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{note}"
    )
