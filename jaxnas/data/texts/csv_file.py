"""A reader's own texts: a CSV with a column of texts and a column of labels."""

from collections.abc import Sequence
from pathlib import Path

import psutil

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.data.formats.csv_table import CsvTable, read_table
from jaxnas.data.texts.task import OpenedTexts, opened
from jaxnas.data.texts.words import Reading

SUFFIXES = (".csv", ".tsv")
TEXT = ("text", "texts", "review", "sentence", "comment", "content", "message", "tweet")
LABEL = ("label", "labels", "class", "category", "sentiment", "target", "topic", "y")
"""Names, in any case, of the columns that need not be named, the first that is there."""
WEIGHT = 12
"""Bytes that are needed for each byte of the file: cells, words and ids, roughly."""


def open_csv(path: Path, reading: Reading) -> OpenedTexts:
    """Returns the texts and classes of a file, classes in the order of their names.

    Raises:
        UserError: no such file, one that is too large, not UTF-8 or without rows; no column
            of texts or labels; an empty text or label; or labels that cannot be learned.
    """
    try:
        size, free = path.stat().st_size, psutil.virtual_memory().available
        if WEIGHT * size > free:
            raise UserError(
                f"{path} has {size / 2**20:,.0f} MiB, which needs about "
                f"{WEIGHT * size / 2**30:.1f} GiB of memory; {free / 2**30:.1f} are free."
            )
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    table = read_table(content, str(path))
    if not table.rows:
        raise UserError(
            f"{path} has no rows; a header and one row for each text are needed."
        )
    texts = _column(table, path, "text", reading.text, TEXT)
    labels = _column(table, path, "label", reading.label, LABEL)
    return opened(texts, labels, str(path), {"source": str(path)})


def _column(
    table: CsvTable, path: Path, what: str, asked: str, usual: Sequence[str]
) -> list[str]:
    """Returns the cells of a column, none of them empty."""
    if asked and asked not in table.header:
        raise unknown_name(f"column of {path}:", asked, table.header)
    lower = [name.lower() for name in table.header]
    names = (
        [asked] if asked else [table.header[lower.index(n)] for n in usual if n in lower]
    )
    if not names:
        raise UserError(
            f"{path} has the columns {', '.join(map(repr, table.header))}; say which holds "
            f"the {what}s, as in {path},{what}={table.header[-1]}."
        )
    name = names[0]
    if table.header.count(name) > 1:
        raise UserError(f"{path} has the column {name!r} twice; rename one.")
    place = table.header.index(name)
    cells = [row[place] for row in table.rows]
    for cell, line in zip(cells, table.lines, strict=True):
        if not cell:
            raise UserError(
                f"{path}, line {line}: the {what} is empty; fill it or remove the row."
            )
    return cells
