"""A user's table of results: CSV, npz or parquet, one column a decision or a metric."""

import functools
import hashlib
import io
import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.formats.csv_table import read_table

SUFFIXES = (".csv", ".tsv", ".npz", ".parquet")
Cell = str | float | bool | None
"""A number where it reads as one, else text; None where it is blank."""


class Columns(NamedTuple):
    """What a file holds."""

    cells: dict[str, tuple[Cell, ...]]
    """All rows of each column, by its name."""
    lines: tuple[int, ...]
    """Line of each row in the file, from 1; its number where a file has no lines."""
    checksum: str


def read_columns(path: str | Path) -> Columns:
    """Returns the columns of a file, read once for each content.

    Raises:
        UserError: no such file, another format, rows of different lengths, two columns of
            one name, or no rows.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is no table; its name must end in {', '.join(SUFFIXES)}.")
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    return _read(path.resolve(), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=8)
def _read(path: Path, _time: int, _size: int) -> Columns:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    parse = {".npz": _npz, ".parquet": _parquet}.get(path.suffix, _csv)
    cells, lines = parse(data, path)
    if not lines or not cells:
        raise UserError(
            f"{path.name} has no rows; a header and one row a result is needed."
        )
    return Columns(cells, lines, hashlib.sha256(data).hexdigest())


def _csv(data: bytes, path: Path) -> tuple[dict[str, tuple[Cell, ...]], tuple[int, ...]]:
    header, body, lines = read_table(data, path.name)
    for name in header:
        if not name or header.count(name) > 1:
            raise UserError(
                f"{path.name}: the header has "
                + (f"{name!r} twice." if name else "a column without a name.")
            )
    columns = zip(header, zip(*body, strict=True) if body else [()] * len(header))
    return {name: tuple(map(_cell, column)) for name, column in columns}, lines


def _cell(text: str) -> Cell:
    if text == "":
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return None if math.isnan(number) else number


def _npz(data: bytes, path: Path) -> tuple[dict[str, tuple[Cell, ...]], tuple[int, ...]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"{path.name} is damaged, no npz file, or holds Python objects, which are not "
            "read."
        ) from error
    sizes = {name: array.shape for name, array in arrays.items()}
    if len(set(sizes.values())) > 1 or any(len(shape) != 1 for shape in sizes.values()):
        raise UserError(
            f"The arrays of {path.name} must be one-dimensional and equally long, got "
            f"{sizes}."
        )
    rows = next(iter(sizes.values()), (0,))[0]
    return {n: tuple(map(_plain, a.tolist())) for n, a in arrays.items()}, (
        *range(1, rows + 1),
    )


def _parquet(
    data: bytes, path: Path
) -> tuple[dict[str, tuple[Cell, ...]], tuple[int, ...]]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError(
            "Parquet files need pyarrow; install it (pip install pyarrow), or write CSV."
        ) from error
    try:
        table = pq.read_table(io.BytesIO(data))
    except Exception as error:  # pyarrow has several, and ArrowInvalid is a ValueError
        raise UserError(f"{path.name} is damaged or no parquet file.") from error
    cells = {n: tuple(map(_plain, table[n].to_pylist())) for n in table.column_names}
    return cells, (*range(1, table.num_rows + 1),)


def _plain(value: Any) -> Cell:
    """Returns a typed value as what a CSV cell would be."""
    if isinstance(value, bool | str):
        return value or (None if value == "" else value)
    if isinstance(value, int | float):
        return None if math.isnan(value) else float(value)
    return None if value is None else str(value)
