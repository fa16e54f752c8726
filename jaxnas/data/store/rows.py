"""Rows of the evaluation store as plain data: keys, records, queries, and their text."""

import csv
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from jaxnas.core.errors import UserError

Limit = tuple[str, Literal["<=", ">="], float]
"""Metric, direction and bound, in the metric's unit; NaN satisfies none."""


class Key(NamedTuple):
    """What a measurement is a function of."""

    oracle: str
    digest: str
    """SHA-256 of space and tokens."""
    fidelity: int
    seed: int
    checksum: str
    """SHA-256 of the data and of their splits."""


class Record(NamedTuple):
    """One stored evaluation."""

    key: Key
    tokens: tuple[int, ...]
    metrics: dict[str, float]
    """Every metric, in its own unit; NaN and infinities come back as they went in."""
    curves: dict[str, list[float]]
    seconds: float
    """Wall time that it took."""
    status: int
    """0 where it succeeded."""
    message: str = ""
    made: str = ""
    """When, ISO 8601 in UTC; the time of storing where empty."""
    version: str = ""


class Merged(NamedTuple):
    """What :meth:`Store.merge` did: rows that were new, known, and known otherwise."""

    added: int
    known: int
    conflicts: int


@dataclass(frozen=True)
class Query:
    """Which rows, in which order; everything empty means all, oldest first."""

    oracle: str = ""
    """Part of the oracle's id."""
    digest: str = ""
    """First letters of the architecture's digest."""
    fidelity: int | None = None
    seed: int | None = None
    checksum: str = ""
    """First letters of the data's checksum."""
    failed: bool | None = None
    """Only failed, or only succeeded ones."""
    limits: tuple[Limit, ...] = ()
    order: str = ""
    """Metric to sort by; rows without a number there are left out."""
    maximise: bool = True
    limit: int | None = None


COLUMNS = (
    "oracle, digest, fidelity, seed, checksum, tokens, metrics, curves, seconds, status, "
    "message, made, version"
)


def as_dict(record: Record) -> dict[str, Any]:
    """Returns a row as JSON-able data; numbers that are not finite become text."""
    plain = {**record.key._asdict(), **record._asdict()}
    del plain["key"]
    plain["metrics"] = {n: _shown(v) for n, v in record.metrics.items()}
    plain["curves"] = {n: [_shown(v) for v in c] for n, c in record.curves.items()}
    return {**plain, "tokens": list(record.tokens), "seconds": _shown(record.seconds)}


def read_metric(metrics: str, name: str) -> float | None:
    """Returns one metric out of its JSON text, None where there is no number."""
    value = json.loads(metrics).get(name)
    return None if value is None or math.isnan(float(value)) else float(value)


def select(query: Query) -> tuple[str, list[Any]]:
    """Returns a SELECT and its values; no value ever becomes part of the text."""
    parts: list[tuple[str, tuple[Any, ...]]] = []
    if query.oracle:
        parts.append(("instr(oracle, ?) > 0", (query.oracle,)))
    for name in ("digest", "checksum"):
        start = getattr(query, name)
        if start:
            parts.append((f"substr({name}, 1, length(?)) = ?", (start, start)))
    for name in ("fidelity", "seed"):
        if getattr(query, name) is not None:
            parts.append((f"{name} = ?", (getattr(query, name),)))
    if query.failed is not None:
        parts.append(("(status <> 0) = ?", (int(query.failed),)))
    for metric, sign, bound in query.limits:
        if sign not in ("<=", ">="):
            raise UserError(f"The limit on {metric!r} needs '<=' or '>=', got {sign!r}.")
        parts.append((f"metric(metrics, ?) {sign} ?", (metric, float(bound))))
    if query.order:
        parts.append(("metric(metrics, ?) IS NOT NULL", (query.order,)))
    text = f"SELECT {COLUMNS} FROM evaluations"
    values = [value for _, several in parts for value in several]
    if parts:
        text += " WHERE " + " AND ".join(condition for condition, _ in parts)
    if query.order:
        text += f" ORDER BY metric(metrics, ?) {'DESC' if query.maximise else 'ASC'}, rowid"
        values.append(query.order)
    else:
        text += " ORDER BY rowid"
    if query.limit is not None:
        if query.limit < 1:
            raise UserError(f"At least one row must be asked for, got {query.limit}.")
        text, values = text + " LIMIT ?", [*values, query.limit]
    return text, values


def _shown(value: float) -> float | str:
    """Returns a finite number as it is, any other as the text that JSON lacks."""
    value = float(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _json(value: Mapping[str, Any]) -> str:
    """Returns metrics or curves as JSON text, in one form for equal content."""
    plain = {
        str(name): [_shown(x) for x in v] if isinstance(v, Sequence) else _shown(v)
        for name, v in value.items()
    }
    return json.dumps(plain, sort_keys=True, allow_nan=False)


def plain_key(key: Key) -> tuple[str, str, int, int, str]:
    """Returns a key as SQLite's own types, whatever kind of integer it came with."""
    return (
        str(key.oracle), str(key.digest), int(key.fidelity), int(key.seed),
        str(key.checksum),
    )  # fmt: skip


def to_row(record: Record) -> tuple[Any, ...]:
    """Returns a record as the values of a row."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return (
        *plain_key(record.key),
        " ".join(str(int(token)) for token in record.tokens),
        _json(record.metrics),
        _json(record.curves),
        float(record.seconds),
        int(record.status),
        str(record.message),
        record.made or now,
        record.version,
    )


def from_row(row: Sequence[Any]) -> Record:
    """Returns the record of a row."""
    tokens, metrics, curves, seconds, *rest = row[5:]
    return Record(
        Key(*row[:5]),
        tuple(int(token) for token in tokens.split()),
        {n: float(v) for n, v in json.loads(metrics).items()},
        {n: [float(x) for x in c] for n, c in json.loads(curves).items()},
        math.nan if seconds is None else seconds,
        *rest,
    )


def same_result(a: Record, b: Record) -> bool:
    """Returns whether two records measured the same; NaN equals NaN."""
    return (a.status, _json(a.metrics), _json(a.curves)) == (
        b.status, _json(b.metrics), _json(b.curves),
    )  # fmt: skip


def write_csv(handle: Any, records: Sequence[Record]) -> None:
    """Writes a column for each field and each metric; empty where a row lacks it."""
    metrics = sorted({name for record in records for name in record.metrics})
    fields = [name for name in as_dict(_EMPTY) if name not in ("metrics", "curves")]
    table = csv.writer(handle)
    table.writerow([*fields, *metrics, "curves"])
    for record in records:
        plain = as_dict(record)
        plain["tokens"] = " ".join(map(str, record.tokens))
        row = [plain[name] for name in fields]
        row += [plain["metrics"].get(name, "") for name in metrics]
        table.writerow([*row, json.dumps(plain["curves"])])


_EMPTY = Record(Key("", "", 0, 0, ""), (), {}, {}, 0.0, 0)


def write_json(handle: Any, records: Sequence[Record]) -> None:
    """Writes a list of objects."""
    json.dump([as_dict(record) for record in records], handle, indent=1)
