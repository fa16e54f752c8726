"""The 1,200-row table that circulates with the AnalogNAS ResNet space, for parity tests.

Its numbers do not look measured: 789 and 411 rows lie in two tiers without overlap in any
target, the tier is the rule "some widening factor is 4, or M >= 4" in every row, nothing
predicts a target inside a tier, and 462 of the networks would have over 10^9 parameters. No
claim may rest on it.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.core.errors import UserError

FEATURES = (
    "out_channel0",
    "M",
    *(f"R{i}" for i in range(1, 6)),
    *(f"{name}{i}" for i in range(1, 6) for name in ("convblock", "widenfact", "B")),
)
"""The 22 columns of an architecture, in the order of every published model."""
TARGETS = ("1_day_accuracy", "1_day_accuracy_std", "AVM")
"""Accuracy one day after programming and its spread as fractions; AVM in % points."""
TYPES = {"0": "0", "A": "1", "B": "2", "C": "3", "D": "4"}
"""Number of a convolution type in the models fitted on this table; 0 is no group."""
NOTICE = (
    "This table shows every sign of being generated rather than measured (two tiers that "
    "one rule of the configuration separates exactly); it is for parity tests only."
)
"""What a caller prints before it uses the numbers."""


class Rows(NamedTuple):
    """The table as numbers."""

    features: np.ndarray
    """``float64[n, 22]``; types A to D are 1 to 4."""
    targets: dict[str, np.ndarray]
    """``float64[n]`` by name."""
    notice: str
    """Why no claim may rest on these numbers; to be printed."""


def read(path: str | Path) -> Rows:
    """Returns the rows of a table in this form; the caller prints ``notice``.

    Raises:
        UserError: no such file, no table, a missing column, no row, or a value that is no
            finite number; the text names line and column.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        lines = list(csv.reader(text.splitlines(), strict=True))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The file {path} is not a CSV table in UTF-8.") from error
    header = [name.strip() for name in lines[0]] if lines else []
    for name in (*FEATURES, *TARGETS):
        if header.count(name) != 1:
            raise UserError(
                f"The table {path} needs one column {name!r} and has {header.count(name)}; "
                f"the columns are {', '.join((*FEATURES, *TARGETS))}."
            )
    rows = [(i, row) for i, row in enumerate(lines[1:], start=2) if row]
    if not rows:
        raise UserError(f"The table {path} has a header and no rows.")
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"Line {line} of {path} has {len(row)} values for {len(header)} columns."
            )
    columns = {
        name: np.array([_number(path, line, name, row[place]) for line, row in rows])
        for place, name in enumerate(header)
        if name in FEATURES or name in TARGETS
    }
    features = np.stack([columns[name] for name in FEATURES], axis=1)
    return Rows(features, {name: columns[name] for name in TARGETS}, NOTICE)


def _number(path: str | Path, line: int, name: str, text: str) -> float:
    """Returns one value; convolution types are letters, everything else a number."""
    text = text.strip()
    known = TYPES.get(text) if name.startswith("convblock") else text
    if known is None:
        raise UserError(
            f"Line {line} of {path} has the {name} {text!r}, which is none of "
            f"{', '.join(TYPES)}."
        )
    try:
        number = float(known)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise UserError(
            f"Line {line} of {path} has {name} = {text!r}, which is not a finite number; "
            "remove the row or correct it."
        )
    return number
