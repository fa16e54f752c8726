"""Evaluations that cost something, stored for good in one SQLite file: none is made twice.

A row is keyed by (oracle id, architecture digest, fidelity, seed, data checksum), which is
all that a measurement may depend on. One process writes, any number read (write-ahead log,
every acknowledged row on the disk before :meth:`Store.put` returns); the writer is told
apart by a lock file beside the store. SQLite's log needs a local disk, not a network one.
"""

import contextlib
import dataclasses
import io
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from jaxnas.core.errors import UserError
from jaxnas.core.files import lock as lock_file
from jaxnas.core.files import replacing
from jaxnas.data.store import rows as rw
from jaxnas.data.store.rows import Key, Merged, Query, Record
from jaxnas.data.store.sentences import Words, damaged, explained

__all__ = ["Key", "Merged", "Query", "Record", "Store"]

FORMAT = 1
"""Version of the file; any other is refused."""
APPLICATION = 0x6A6E6173
"""Marks a SQLite file as one of these ("jnas")."""
WAIT_S = 5.0
"""Time to wait for a program that reads or writes the file without our lock."""

WORDS = Words(
    "The evaluation store", "an evaluation", "move it away and name another with --store"
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS evaluations (
  oracle TEXT NOT NULL, digest TEXT NOT NULL, fidelity INTEGER NOT NULL,
  seed INTEGER NOT NULL, checksum TEXT NOT NULL, tokens TEXT NOT NULL,
  metrics TEXT NOT NULL, curves TEXT NOT NULL, seconds REAL, status INTEGER NOT NULL,
  message TEXT NOT NULL, made TEXT NOT NULL, version TEXT NOT NULL,
  PRIMARY KEY (oracle, digest, fidelity, seed, checksum))
"""
_BY_KEY = "oracle = ? AND digest = ? AND fidelity = ? AND seed = ? AND checksum = ?"


class Store:
    """The evaluations of one file.

    Args:
        path: the file; made when absent and ``write``.
        write: take the writer's lock. False opens the file read-only, also while
            another process writes.

    Raises:
        UserError: another writer is at it, the file is no store, damaged, of another
            format, absent (reading) or not writable (writing).
        DiskFullError: a new store did not fit.
    """

    def __init__(self, path: str | Path, *, write: bool = True) -> None:
        self.path = Path(path)
        self.write = write
        self._lock = _take_lock(self.path) if write else None
        try:
            if not write and not self.path.is_file():
                raise UserError(f"There is no evaluation store at {path}; check the path.")
            with self._sentences():
                self._db = _connect(self.path, write)
                self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Checks whose file this is, and makes the table of a new one."""
        counted = "(SELECT count(*) FROM sqlite_master)"
        application, version, tables = (
            self._db.execute(f"SELECT * FROM {source}").fetchone()[0]
            for source in ("pragma_application_id", "pragma_user_version", counted)
        )
        if (application, version, tables) == (0, 0, 0) and self.write:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(f"PRAGMA application_id = {APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            self._db.execute(_SCHEMA)
            self._db.execute("COMMIT")
        elif application != APPLICATION:
            raise UserError(
                f"{self.path} is not an evaluation store; name another file with --store."
            )
        elif version != FORMAT:
            raise UserError(
                f"{self.path} has format {version} and this jaxnas knows format {FORMAT}; "
                "use the jaxnas that made it, or name another file with --store."
            )
        if self.write:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            # Proves that rows can be written, before an evaluation is paid for.
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            self._db.execute("COMMIT")
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise damaged(self.path, WORDS)

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turns SQLite's errors into one sentence, and undoes a half-done transaction."""
        try:
            yield
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error, AttributeError):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise explained(self.path, error, WORDS) from error

    def close(self) -> None:
        """Gives file and lock back."""
        with contextlib.suppress(AttributeError):
            self._db.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        with self._sentences():
            return self._db.execute("SELECT count(*) FROM evaluations").fetchone()[0]

    def get(self, key: Key) -> Record | None:
        """Returns what is stored for a key, or None; UserError if damaged or locked."""
        with self._sentences():
            row = self._db.execute(
                f"SELECT {rw.COLUMNS} FROM evaluations WHERE {_BY_KEY}", rw.plain_key(key)
            ).fetchone()
        return None if row is None else rw.from_row(row)

    def put(self, record: Record) -> Literal["stored", "known", "conflict"]:
        """Stores an evaluation; it is on the disk when this returns.

        Returns:
            ``"stored"``; ``"known"`` where the same was there; ``"conflict"`` where another
            status, metric or curve was there, which stays.

        Raises:
            DiskFullError: it did not fit; what was stored before is untouched.
            UserError: the store was opened for reading, or cannot be written any more.
        """
        if not self.write:
            raise UserError(f"{self.path} was opened for reading; open it with write=True.")
        marks = ", ".join("?" * 13)
        with self._sentences():
            done = self._db.execute(
                f"INSERT INTO evaluations ({rw.COLUMNS}) VALUES ({marks}) "
                "ON CONFLICT DO NOTHING",
                rw.to_row(record),
            )
        if done.rowcount:
            return "stored"
        here = self.get(record.key)
        return "known" if here is not None and rw.same_result(here, record) else "conflict"

    def rows(self, query: Query | None = None) -> Iterator[Record]:
        """Yields the rows of a query; UserError if the file is damaged or locked."""
        text, values = rw.select(query or Query())
        with self._sentences():
            for row in self._db.execute(text, values):
                yield rw.from_row(row)

    def top(
        self, metric: str, k: int, *, maximise: bool = True, query: Query | None = None
    ) -> list[Record]:
        """Returns the ``k`` succeeded rows that are best in a metric, best first."""
        asked = dataclasses.replace(
            query or Query(), order=metric, maximise=maximise, limit=k, failed=False
        )
        return list(self.rows(asked))

    def metric_names(self) -> list[str]:
        """Returns every metric that some row has, sorted."""
        text = "SELECT DISTINCT each.key FROM evaluations, json_each(metrics) AS each"
        with self._sentences():
            return sorted(name for (name,) in self._db.execute(text))

    def merge(self, other: "Store | str | Path") -> Merged:
        """Takes over the rows of another store; on a conflict the own row stays.

        All of them or, where it fails, none.

        Raises:
            UserError: the other file is this one, or cannot be read.
            DiskFullError: they did not fit.
        """
        source = other if isinstance(other, Store) else Store(other, write=False)
        try:
            if source.path.resolve() == self.path.resolve():
                raise UserError(f"{self.path} cannot be merged with itself; name another.")
            counts = {"stored": 0, "known": 0, "conflict": 0}
            with self._sentences():
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    for record in source.rows():
                        counts[self.put(record)] += 1
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
        finally:
            if source is not other:
                source.close()
        return Merged(counts["stored"], counts["known"], counts["conflict"])

    def export(self, path: str | Path, query: Query | None = None) -> int:
        """Writes rows as ``.csv`` (a column a metric) or ``.json``; returns how many.

        A number that is not finite is written as ``NaN``, ``Infinity`` or ``-Infinity``,
        in JSON as that text, so that every JSON reader can read the file.

        Raises:
            UserError: another ending, or a file that cannot be written.
        """
        path = Path(path)
        if path.suffix not in (".csv", ".json"):
            raise UserError(f"Cannot export to {path}; use a name ending in .csv or .json.")
        records = list(self.rows(query))
        write = rw.write_csv if path.suffix == ".csv" else rw.write_json
        try:
            with replacing(path) as file:
                text = io.TextIOWrapper(file, encoding="utf-8", newline="")
                write(text, records)
                text.detach()
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}); name another file."
            ) from error
        return len(records)


def _take_lock(path: Path) -> Any:
    """Returns the held lock file of the one writer, who is named in it."""
    where = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(where, "a+")  # noqa: SIM115 (held as long as the store is open)
    except OSError as error:
        raise UserError(
            f"The evaluation store {path} cannot be written ({error.strerror}); name a "
            "writable file with --store."
        ) from error
    try:
        lock_file(lock)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        raise UserError(
            f"{path} is being written by {holder}; wait for it to end, or name another "
            "file with --store."
        ) from error
    with contextlib.suppress(OSError):  # on a full disk the lock holds, only unnamed
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
    return lock


def _connect(path: Path, write: bool) -> sqlite3.Connection:
    """Returns a connection that can read one metric of a row by name."""
    place = path.absolute().as_uri()
    db = _open(f"{place}?mode={'rwc' if write else 'ro'}")
    if not write:
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            # In a read-only folder the log's files cannot be made; nobody writes there.
            db.close()
            if path.with_name(f"{path.name}-wal").exists():
                raise
            db = _open(f"{place}?mode=ro&immutable=1")
    db.create_function("metric", 2, rw.read_metric, deterministic=True)
    return db


def _open(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, timeout=WAIT_S, isolation_level=None)
