"""What SQLite's errors mean, in a sentence each."""

import sqlite3
from pathlib import Path
from typing import NamedTuple, cast

from jaxnas.core.errors import DiskFullError, JaxnasError, UserError


class Words(NamedTuple):
    """How a file is called and what to do about it."""

    what: str
    """Such as ``"The evaluation store"``."""
    kept: str
    """What a full disk could not keep, such as ``"an evaluation"``."""
    mend: str
    """How to go on without it, such as ``"name another file with --store"``."""


def damaged(path: Path | None, words: Words) -> UserError:
    """Returns the error of a file that cannot be read as what it should be."""
    return UserError(f"{words.what} {path} is damaged; restore a copy, or {words.mend}.")


def explained(path: Path | None, error: sqlite3.Error, words: Words) -> JaxnasError:
    """Returns an error of SQLite as one of ours."""
    code = cast(int, getattr(error, "sqlite_errorcode", 0)) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, words)
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(
            f"The disk is full: {path} could not store {words.kept}; free some space."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UserError(
            f"{path} is locked by another program; close that, or {words.mend}."
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return UserError(
            f"{words.what} {path} cannot be opened or written; check its permissions, or "
            f"{words.mend}."
        )
    return JaxnasError(f"{words.what} {path} failed; check the disk and its permissions.")
