"""A study in one SQLite file: what was asked, by whom, and what was told.

Every change is one transaction that takes the writer's lock first (``BEGIN IMMEDIATE``), so
any number of processes may ask and tell, and one that is killed leaves nothing half done.
"""

import contextlib
import json
import math
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from jaxnas.core.errors import UserError
from jaxnas.data.store.sentences import Words, explained

FORMAT = 1
APPLICATION = 0x6A6E7374
"""Marks a SQLite file as one of these ("jnst")."""
WAIT_S = 120.0
"""Time to wait for other processes; one of them may be compiling."""

WORDS = Words("The study", "what was told", "name another file")

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trials (
  id INTEGER PRIMARY KEY, tokens TEXT NOT NULL UNIQUE, origin TEXT NOT NULL,
  state TEXT NOT NULL, metrics TEXT, host TEXT, pid INTEGER, started REAL,
  asked REAL, told REAL);
CREATE TABLE events (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, batch INTEGER NOT NULL);
CREATE TABLE lanes (
  batch INTEGER NOT NULL, lane INTEGER NOT NULL, trial INTEGER NOT NULL,
  PRIMARY KEY (batch, lane));
"""


class Row(NamedTuple):
    """One trial."""

    id: int
    tokens: tuple[int, ...]
    origin: str
    """``algorithm``, ``enqueued``, ``told`` or ``random``."""
    state: str
    metrics: dict[str, float]
    """Empty before it was told."""


class Event(NamedTuple):
    """A step of the algorithm: it proposed a batch (``ask``), or learnt from it."""

    id: int
    kind: str
    batch: int


class StudyFile:
    """The tables of one study.

    Args:
        path: the file, made when absent; None keeps everything in memory.

    Raises:
        UserError: no study, damaged, of another format, or not writable.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = Path(path) if path is not None else None
        self._open(None)

    def _open(self, held: bytes | None) -> None:
        self._lock = threading.RLock()
        with self._sentences():
            place = ":memory:" if self.path is None else str(self.path)
            self._db = sqlite3.connect(
                place, timeout=WAIT_S, isolation_level=None, check_same_thread=False
            )
            if held is not None:
                self._db.deserialize(held)
            self._prepare()

    def __getstate__(self) -> tuple[Path | None, bytes | None]:
        return self.path, self._db.serialize() if self.path is None else None

    def __setstate__(self, state: tuple[Path | None, bytes | None]) -> None:
        self.path, held = state
        self._open(held)

    def _prepare(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        one = lambda text: self._db.execute(text).fetchone()[0]
        application, version = one("PRAGMA application_id"), one("PRAGMA user_version")
        tables = one("SELECT count(*) FROM sqlite_master")
        if (application, version, tables) == (0, 0, 0):
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
        elif application != APPLICATION:
            self._db.execute("ROLLBACK")
            raise UserError(f"{self.path} is no study; name another file.")
        elif version != FORMAT:
            self._db.execute("ROLLBACK")
            raise UserError(
                f"{self.path} has format {version} and this jaxnas knows format {FORMAT}; "
                "use the jaxnas that made it."
            )
        self._db.execute("COMMIT")
        self._db.execute("PRAGMA synchronous = FULL")

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """One transaction, with the writer's lock; undone where anything is raised."""
        with self._lock, self._sentences():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explained(self.path, error, WORDS) from error

    def close(self) -> None:
        """Gives the file back."""
        with self._lock:
            self._db.close()

    def settings(self) -> dict[str, Any] | None:
        """Returns what the study was made with, or None of a new file."""
        rows = self._all("SELECT name, value FROM settings")
        return {name: json.loads(value) for name, value in rows} or None

    def set_settings(self, values: Mapping[str, Any]) -> None:
        """Writes what the study is; inside :meth:`change`."""
        rows = [(name, json.dumps(value)) for name, value in values.items()]
        self._db.executemany("INSERT INTO settings VALUES (?, ?)", rows)

    def _all(self, text: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, self._sentences():
            return self._db.execute(text, values).fetchall()

    def trials(self, *states: str, limit: int = -1) -> list[Row]:
        """Returns trials in the order of their ids, those of some states or all."""
        where = f"WHERE state IN ({','.join('?' * len(states))})" if states else ""
        text = f"SELECT id, tokens, origin, state, metrics FROM trials {where}"
        rows = self._all(f"{text} ORDER BY id LIMIT ?", (*states, limit))
        return [_row(row) for row in rows]

    def count(self) -> int:
        """Returns the number of trials."""
        return self._all("SELECT count(*) FROM trials")[0][0]

    def find(self, tokens: Sequence[int]) -> Row | None:
        """Returns the trial of an architecture, or None."""
        text = "SELECT id, tokens, origin, state, metrics FROM trials WHERE tokens = ?"
        rows = self._all(text, (_plain(tokens),))
        return _row(rows[0]) if rows else None

    def trial(self, number: int) -> Row | None:
        """Returns a trial by its id, or None."""
        text = "SELECT id, tokens, origin, state, metrics FROM trials WHERE id = ?"
        rows = self._all(text, (number,))
        return _row(rows[0]) if rows else None

    def add(self, tokens: Sequence[int], origin: str) -> Row:
        """Returns the trial of an architecture, a queued one where it is new."""
        found = self.find(tokens)
        if found is not None:
            return found
        values = (_plain(tokens), origin, QUEUED)
        self._db.execute(
            "INSERT INTO trials (tokens, origin, state) VALUES (?, ?, ?)", values
        )
        made = self.find(tokens)
        assert made is not None
        return made

    def hand_out(self, number: int) -> None:
        """Marks a trial as running in this process."""
        host, pid = socket.gethostname(), os.getpid()
        self._db.execute(
            "UPDATE trials SET state = ?, host = ?, pid = ?, started = ?, asked = ? "
            "WHERE id = ?",
            (RUNNING, host, pid, _started(pid), time.time(), number),
        )

    def abandoned(self, after: float | None) -> list[Row]:
        """Returns running trials whose process on this machine is gone.

        ``after`` counts those as well, of any machine, that were asked so many seconds ago.
        """
        text = (
            "SELECT id, tokens, origin, state, metrics, host, pid, started, asked "
            "FROM trials WHERE state = ? ORDER BY id"
        )
        found, here, now = [], socket.gethostname(), time.time()
        for *row, host, pid, started, asked in self._all(text, (RUNNING,)):
            gone = host == here and _started(pid) != started
            if gone or (after is not None and now - asked > after):
                found.append(_row(row))
        return found

    def answer(self, number: int, metrics: Mapping[str, float], failed: bool) -> None:
        """Writes what a trial gave."""
        plain = {n: None if math.isnan(v) else v for n, v in metrics.items()}
        self._db.execute(
            "UPDATE trials SET state = ?, metrics = ?, told = ? WHERE id = ?",
            (FAILED if failed else DONE, json.dumps(plain), time.time(), number),
        )

    def events(self, after: int = 0) -> list[Event]:
        """Returns the steps of the algorithm after an id, in order."""
        text = "SELECT id, kind, batch FROM events WHERE id > ? ORDER BY id"
        return [Event(*row) for row in self._all(text, (after,))]

    def add_event(self, kind: str, batch: int) -> None:
        """Appends a step."""
        self._db.execute("INSERT INTO events (kind, batch) VALUES (?, ?)", (kind, batch))

    def add_lanes(self, batch: int, trials: Sequence[int]) -> None:
        """Writes which trial each lane of a batch is."""
        rows = [(batch, lane, trial) for lane, trial in enumerate(trials)]
        self._db.executemany("INSERT INTO lanes VALUES (?, ?, ?)", rows)

    def lanes(self, batch: int) -> list[Row]:
        """Returns the trial of each lane of a batch."""
        text = (
            "SELECT t.id, t.tokens, t.origin, t.state, t.metrics FROM lanes l "
            "JOIN trials t ON t.id = l.trial WHERE l.batch = ? ORDER BY l.lane"
        )
        return [_row(row) for row in self._all(text, (batch,))]

    def batches(self) -> int:
        """Returns the number of batches."""
        return self._all("SELECT count(*) FROM events WHERE kind = 'ask'")[0][0]

    def open_batches(self) -> list[int]:
        """Returns batches that were asked for and not learnt from, in order."""
        text = (
            "SELECT batch FROM events WHERE kind = 'ask' AND batch NOT IN "
            "(SELECT batch FROM events WHERE kind = 'learn') ORDER BY batch"
        )
        return [batch for (batch,) in self._all(text)]


def _plain(tokens: Sequence[int]) -> str:
    return " ".join(str(int(token)) for token in tokens)


def _row(row: Sequence[Any]) -> Row:
    number, tokens, origin, state, metrics = row
    found = json.loads(metrics) if metrics else {}
    values = {n: math.nan if v is None else float(v) for n, v in found.items()}
    return Row(number, tuple(map(int, tokens.split())), origin, state, values)


def _started(pid: int) -> float | None:
    """Returns when a process of this machine began, or None where there is none."""
    try:
        return round(psutil.Process(pid).create_time(), 2)
    except psutil.Error:
        return None
