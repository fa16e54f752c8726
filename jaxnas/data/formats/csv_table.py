"""Comma-separated text as rows of cells, each with its line in the file."""

import csv
import io
from typing import NamedTuple

from jaxnas.core.errors import UserError


class CsvTable(NamedTuple):
    """What a file holds; cells are stripped, and rows of blank cells are left out."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """As many cells each as the header has."""
    lines: tuple[int, ...]
    """Line in the file in which each row ends, from 1."""


def read_table(data: bytes, name: str) -> CsvTable:
    """Returns the rows of a file in UTF-8 with commas, semicolons or tabs.

    The mark is the one that the first line has most of.

    Raises:
        UserError: other text, quotes that do not close, or a row of another length; the
            text has the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not text in UTF-8.") from error
    first = text.partition("\n")[0]
    counts = {mark: first.count(mark) for mark in ",;\t"}
    mark = max(counts, key=lambda m: counts[m])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if row and any(cell.strip() for cell in row):
                rows.append(tuple(cell.strip() for cell in row))
                lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: {error}.") from error
    if not rows:
        return CsvTable((), (), ())
    header, *body = rows
    for row, line in zip(body, lines[1:], strict=True):
        if len(row) != len(header):
            raise UserError(
                f"{name}, line {line}: {len(row)} values under {len(header)} columns."
            )
    return CsvTable(header, tuple(body), tuple(lines[1:]))
