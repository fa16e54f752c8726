"""An oracle over a user's own table of results: a file with a row for each experiment."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.core import trie as tr
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.naming import decision_names, decision_values
from jaxnas.core.oracle import Enumerated, Spreading
from jaxnas.core.space import SearchSpace, Value
from jaxnas.core.types import Evaluation, Objective
from jaxnas.data.tables.user_file import Cell, Columns, read_columns
from jaxnas.oracles.metrics import UNIT, Tokens, choose, described, measured
from jaxnas.spaces.listed import listed

MISSING = ("exclude", "failure", "refuse")
MANY = 64
"""Different numbers from which a column of a space that is read off the file is doubted."""


class Rows(NamedTuple):
    """A file in the tokens of a space: distinct architectures in lexicographic order."""

    tokens: Int[np.ndarray, "n L"]
    means: Float[np.ndarray, "n K"]
    spread: Float[np.ndarray, "n K"]
    """Standard deviation over the rows of one architecture, 0 where there is one."""
    repeats: Int[np.ndarray, "n"]


class UserTableParams(NamedTuple):
    """The chosen columns and how tokens lead to their rows."""

    scores: Float[Array, "n M"]
    spread: Float[Array, "n M"]
    seconds: Float[Array, "n"]
    steps: Int[Array, "S V"]
    first: Int[Array, ""]


@dataclass(frozen=True)
class UserTable:
    """Looks architectures up in a file; use :func:`table`.

    Args:
        space: of the rows.
        file: path of the table.
        checksum: SHA-256 of the file, which the numbers belong to.
        metrics: all metrics of the file.
        chosen: those that are objectives.
        minimise: metrics of which less is better.
        seconds: metric that says what an evaluation costs, or empty.
    """

    space: SearchSpace
    file: str
    checksum: str
    metrics: tuple[str, ...]
    chosen: tuple[str, ...]
    minimise: tuple[str, ...] = ()
    seconds: str = ""
    traced = True

    @property
    def id(self) -> str:
        """Name of the file and digest of what it holds."""
        stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(self.file).stem)
        return f"table-{stem}-v1-{self.checksum[:8]}"

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The chosen metrics."""
        return tuple(map(self._objective, self.chosen))

    def _objective(self, name: str) -> Objective:
        meaning = f"column {name} of {Path(self.file).name}"
        return Objective(name, UNIT, name not in self.minimise, meaning)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """All metrics of the file."""
        return self.metrics

    def select(self, objective: str | Sequence[str]) -> "UserTable":
        """Returns the same table with other objectives."""
        return dataclasses.replace(self, chosen=choose(self.id, objective, self.metrics))

    @property
    def _rows(self) -> Rows:
        columns = read_columns(self.file)
        if columns.checksum != self.checksum:
            raise UserError(
                f"{self.file} has changed since this oracle was made; make it again."
            )
        return _rows(self.space, self.file, self.checksum, self.metrics)

    def params(self) -> UserTableParams:
        """Returns the chosen columns; switching objectives changes values, never shapes."""
        rows = self._rows
        places = [self.metrics.index(name) for name in self.chosen]
        seconds = np.zeros(len(rows.tokens))
        if self.seconds:
            seconds = np.nan_to_num(rows.means[:, self.metrics.index(self.seconds)])
        trie = tr.build(rows.tokens, self.space.vocab)
        return UserTableParams(
            jnp.asarray(rows.means[:, places], jnp.float32),
            jnp.asarray(rows.spread[:, places], jnp.float32),
            jnp.asarray(seconds, jnp.float32),
            jnp.asarray(trie.steps),
            jnp.int32(trie.first),
        )

    def init(self, key: Key[Array, ""], params: UserTableParams) -> tuple[()]:
        """Returns nothing: a table remembers nothing about who asks."""
        return ()

    def evaluate(
        self,
        key: Key[Array, ""],
        params: UserTableParams,
        state: tuple[()],
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[tuple[()], Evaluation]:
        """Returns the means of the rows; FAILED where there is no row or no number."""
        row = _find(params, tokens)
        scores = _taken(params.scores, row, jnp.nan)
        return state, measured(scores, _taken(params.seconds, row, 0.0), active)

    def truth(self, params: UserTableParams, tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the means of the rows, NaN where there is none."""
        return _taken(params.scores, _find(params, jnp.asarray(tokens)), jnp.nan)

    def spread(self, params: UserTableParams, tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the standard deviation over the rows of one architecture."""
        return _taken(params.spread, _find(params, jnp.asarray(tokens)), 0.0)

    def capability(self, kind: type) -> Any:
        """Returns itself where it has a capability; a whole table only of a small space."""
        if kind in (Enumerated, Spreading) and not _enumerable(self.space):
            return None
        return self if isinstance(self, kind) else None

    def columns(self) -> dict[str, np.ndarray]:
        """Returns every metric in the order of ``enumerate_space``, NaN where missing."""
        return self._listed(self._rows.means, np.nan)

    def spreads(self) -> dict[str, np.ndarray]:
        """Returns the spread of every metric, 0 where there is one row or none."""
        return self._listed(self._rows.spread, 0.0)

    def _listed(self, values: Float[np.ndarray, "n K"], fill: float) -> dict[str, Any]:
        members, rows = tk.enumerate_space(self.space), self._rows
        known = {row.tobytes(): i for i, row in enumerate(rows.tokens)}
        at = np.array([known.get(row.tobytes(), -1) for row in members])
        full = np.where((at >= 0)[:, None], values[at], fill)
        return {name: full[:, i] for i, name in enumerate(self.metrics)}

    def info(self) -> dict[str, Any]:
        """Returns size, metrics with range and optimum, repeats and the checksum."""
        rows, facts = self._rows, {}
        for i, name in enumerate(self.metrics):
            objective, column = self._objective(name), rows.means[:, i]
            best = (np.nanargmax if objective.maximise else np.nanargmin)(column)
            facts[name] = {
                **described(objective),
                "min": float(np.nanmin(column)),
                "max": float(np.nanmax(column)),
                "optimum": tuple(int(token) for token in rows.tokens[best]),
            }
        return {
            "id": self.id,
            "space": self.space.id,
            "size": len(rows.tokens),
            "repeated": int(np.sum(rows.repeats > 1)),
            "metrics": facts,
            "source": f"{Path(self.file).name}, a table of the user's",
            "checksum": self.checksum,
        }


def _find(params: UserTableParams, tokens: Int[Array, "B L"]) -> Int[Array, "B"]:
    trie = tr.Trie(params.steps, params.first)
    return jax.vmap(lambda row: tr.find(trie, row))(tokens)


def _taken(values: Array, row: Int[Array, "B"], fill: float) -> Array:
    found = values[jnp.maximum(row, 0)]
    there = row >= 0
    return jnp.where(there[:, None] if found.ndim > 1 else there, found, fill)


def _enumerable(space: SearchSpace) -> bool:
    size = tk.count(space)
    return size is not None and size <= tk.ENUMERABLE


def table(
    file: str,
    space: SearchSpace | None = None,
    objective: str | Sequence[str] = "",
    metrics: str | Sequence[str] = "",
    minimise: str | Sequence[str] = "",
    missing: str = "",
    seconds: str = "",
) -> UserTable:
    """A table of yours: CSV, npz or parquet with one column a decision and one a metric.

    Rows of one architecture are averaged, and their standard deviation is its measurement
    noise. Without a space the rows are the space: decisions are the columns that are no
    metrics.

    Args:
        file: path of the table.
        space: of its architectures; its decisions must be columns.
        objective: metric to optimise, several with commas; the first one when empty.
        metrics: columns that are metrics; when empty, with a space all that are no
            decisions, without one the objective.
        minimise: metrics of which less is better.
        missing: what an architecture without a row is: ``"failure"`` (the default with a
            space), ``"refuse"`` for an error, ``"exclude"`` (the default without one).
        seconds: the column that says how long an experiment took.

    Raises:
        UserError: unknown columns or choices, text in a metric, or missing rows where they
            are refused; the text names line and column.
    """
    columns = read_columns(file)
    wanted, chosen, less = map(_split, (metrics, objective, minimise))
    names = list(columns.cells)
    for name in (*wanted, *chosen, *less, *_split(seconds)):
        if name not in names:
            raise unknown_name(f"column of {Path(file).name}:", name, names)
    if missing and missing not in MISSING:
        raise unknown_name("way to treat missing rows:", missing, MISSING)
    if space is None:
        wanted = list(dict.fromkeys([*wanted, *chosen, *less, *_split(seconds)]))
        space = _space_of(file, columns, wanted, missing)
    else:
        wanted = wanted or _left_over(file, columns, space)
        wanted += [n for n in (*chosen, *less, *_split(seconds)) if n not in wanted]
        if missing == "exclude":
            raise UserError(
                "missing=exclude leaves only the rows of the file, so it cannot go with a "
                "space; leave the space out, or choose failure or refuse."
            )
    known = (columns.checksum, tuple(wanted))
    rows = _rows(space, file, *known)
    size = tk.count(space)
    if missing == "refuse" and size != len(rows.tokens):
        raise UserError(
            f"{Path(file).name} has {len(rows.tokens):,} of the "
            f"{'unknown' if size is None else f'{size:,}'} architectures of {space.id!r}; "
            "choose missing=failure to search it all the same."
        )
    first = choose(Path(file).name, chosen or wanted[:1], wanted)
    return UserTable(space, file, *known, first, tuple(less), seconds)


def _split(names: str | Sequence[str]) -> list[str]:
    parts = names.split(",") if isinstance(names, str) else names
    return [part.strip() for part in parts if part.strip()]


def _left_over(file: str, columns: Columns, space: SearchSpace) -> list[str]:
    """Returns the columns that are no decisions of a space; all must be numbers."""
    decisions = decision_names(space)
    lacking = [name for name in decisions if name not in columns.cells]
    if lacking:
        wrong = unknown_name("column", lacking[0], columns.cells)
        raise UserError(
            f"{Path(file).name} lacks {len(lacking)} decisions of {space.id!r}: {wrong}"
        )
    rest = [name for name in columns.cells if name not in decisions]
    for name in rest:
        for cell, line in zip(columns.cells[name], columns.lines, strict=True):
            if isinstance(cell, str):
                raise UserError(
                    f"{Path(file).name}, line {line}: the column {name!r} holds the text "
                    f"{cell!r}, and {space.id!r} has no such decision; name the metrics "
                    "(metrics=a,b) or another space."
                )
    if not rest:
        raise UserError(f"{Path(file).name} has no column beside the decisions.")
    return rest


def _space_of(
    file: str, columns: Columns, metrics: Iterable[str], missing: str
) -> SearchSpace:
    """Returns the space that the rows of a file are."""
    name = Path(file).name
    metrics = list(metrics)
    if not metrics:
        raise UserError(
            f"Which columns of {name} are metrics? Name one as the objective, or several "
            f"(metrics=a,b), or give the space; its columns are {', '.join(columns.cells)}."
        )
    if missing in ("failure", "refuse"):
        raise UserError(
            f"missing={missing} needs a space that says which rows could be there; give "
            "one, or leave missing out."
        )
    decisions = [column for column in columns.cells if column not in metrics]
    if not decisions:
        raise UserError(f"{name} has no column beside the metrics.")
    found: list[tuple[str, tuple[Value, ...]]] = []
    for column in decisions:
        values = set(columns.cells[column])
        numbers = all(isinstance(v, float) for v in values - {None})
        if numbers and len(values) > MANY and len(values) > len(columns.lines) / 2:
            raise UserError(
                f"The column {column!r} of {name} has {len(values)} different numbers in "
                f"{len(columns.lines)} rows; is it a metric? Then add it: metrics=..."
            )
        order = sorted(values - {None}, key=lambda v: (isinstance(v, str), v))
        plain = [_whole(v) for v in order] + [None] * (None in values)
        found.append((column, tuple(plain)))
    tokens = _tokens(name, columns, [c for c, _ in found], [v for _, v in found])
    return listed(Path(file).stem, tuple(found), tokens)


def _whole(value: Cell) -> Value:
    if isinstance(value, float) and abs(value) < 2**53 and value == int(value):
        return int(value)
    return value


@functools.lru_cache(maxsize=16)
def _rows(space: SearchSpace, file: str, checksum: str, metrics: tuple[str, ...]) -> Rows:
    columns, name = read_columns(file), Path(file).name
    tokens = _tokens(name, columns, decision_names(space), decision_values(space))
    _check_legal(name, columns, space, tokens)
    values = np.array([_numbers(name, columns, metric) for metric in metrics]).T
    distinct, of, repeats = np.unique(
        tokens, axis=0, return_inverse=True, return_counts=True
    )
    of = of.reshape(-1)
    sums, squares, there = (np.zeros((len(distinct), len(metrics))) for _ in range(3))
    finite = np.isfinite(values)
    np.add.at(sums, of, np.where(finite, values, 0.0))
    np.add.at(there, of, finite)
    means = np.where(there > 0, sums / np.maximum(there, 1), np.nan)
    np.add.at(squares, of, np.where(finite, values - means[of], 0.0) ** 2)
    spread = np.sqrt(squares / np.maximum(there - 1, 1))
    for i, metric in enumerate(metrics):
        if np.isnan(means[:, i]).all():
            raise UserError(f"The column {metric!r} of {name} holds no number.")
    return Rows(distinct, means, spread, repeats)


def _tokens(
    file: str,
    columns: Columns,
    names: Sequence[str],
    values: Sequence[Sequence[Value]],
) -> Int[np.ndarray, "n L"]:
    """Returns the tokens of all rows.

    Raises:
        UserError: a value that its decision does not have, with line and column.
    """
    lacking = [name for name in names if name not in columns.cells]
    if lacking:
        raise unknown_name(f"column of {file}:", lacking[0], columns.cells)
    made = np.zeros((len(columns.lines), len(names)), np.int32)
    for place, (name, choices) in enumerate(zip(names, values, strict=True)):
        known = {_key(choice): token for token, choice in enumerate(choices)}
        for i, cell in enumerate(columns.cells[name]):
            token = known.get(_key(cell))
            if token is None:
                shown = "nothing" if cell is None else str(_whole(cell))
                what = unknown_name(f"value of {name!r}:", shown, map(str, choices))
                raise UserError(f"{file}, line {columns.lines[i]}: {what}")
            made[i, place] = token
    return made


def _key(value: Cell | Value) -> Any:
    """Returns what makes a cell and a choice the same: numbers by value, text as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return float(value)
    return value.lower() if value in ("True", "False", "TRUE", "FALSE") else value


def _check_legal(
    file: str, columns: Columns, space: SearchSpace, tokens: Int[np.ndarray, "n L"]
) -> None:
    legal = np.asarray(
        jax.jit(jax.vmap(lambda row: tk.is_valid(space, row)))(jnp.asarray(tokens))
    )
    if not legal.all():
        line = columns.lines[int(np.argmin(legal))]
        raise UserError(f"{file}, line {line} is no architecture of {space.id!r}.")


def _numbers(file: str, columns: Columns, metric: str) -> Float[np.ndarray, "n"]:
    found = []
    for cell, line in zip(columns.cells[metric], columns.lines, strict=True):
        if isinstance(cell, str):
            raise UserError(
                f"{file}, line {line}: the metric {metric!r} is {cell!r}, which is no "
                "number; leave it blank where an experiment failed."
            )
        number = math.nan if cell is None else float(cell)
        found.append(number if math.isfinite(number) else math.nan)
    return np.array(found)
