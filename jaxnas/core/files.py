"""Files: replaced whole or not at all, locked for one writer, named safely."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from jaxnas.core.errors import UserError

LATENT = "latent.npz"
"""A search's own copy of its latent model, in its directory."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside ``path`` that takes its place when the block ends well.

    The bytes are on the disk before the name changes. When the block fails or is
    interrupted, ``path`` is as it was and nothing is left behind. Writers of the same path
    do not meet: the last one to end wins. The folder must exist.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def lock(file: IO[Any]) -> None:
    """Locks an open file for this process, until it is closed.

    Raises:
        BlockingIOError: another process has locked it.
        UserError: this system has no such locks.
    """
    try:
        import fcntl
    except ImportError as error:
        raise UserError(
            "This system cannot lock files, which keeps two runs out of one folder; run "
            "searches on Linux or macOS, or on Windows in WSL."
        ) from error
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_name(option: str, name: str) -> str:
    """Returns a name that is one component of a path, whatever the system.

    Raises:
        UserError: other than letters, digits, dots, underscores and hyphens, or a dot or a
            hyphen first; the text names the ``option``.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", name):
        raise UserError(
            f"{option} must be letters, digits, '.', '_' and '-', at most 200 and not "
            f"beginning with '.' or '-', got {name!r}."
        )
    return name
