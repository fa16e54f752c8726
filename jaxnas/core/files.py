"""Writing files so that a reader sees the whole new one or the old one."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside ``path`` that takes its place when the block ends well.

    The bytes are on the disk before the name changes. When the block fails or is
    interrupted, ``path`` is as it was and nothing is left behind. Writers of the same path
    do not meet: the last one to end wins.

    Args:
        path: in a folder that exists.

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
