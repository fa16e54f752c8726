"""Records of what was done with the best architectures: JSON files, whole or not at all."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxnas.core.errors import DiskFullError, UserError
from jaxnas.core.files import replacing


def read_record(
    path: Path,
    form: str,
    mend: str,
    check: Callable[[Mapping[str, Any]], None] = lambda record: None,
) -> dict[str, Any] | None:
    """Returns a record, or None where there is no file.

    Args:
        path: of the file.
        form: its ``format``.
        mend: what to do where it cannot be used, the end of a sentence.
        check: looks at what a reader relies on; a KeyError or TypeError of it is damage.

    Raises:
        UserError: it is damaged or of another version.
    """
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if record["format"] != form:
            raise UserError(f"{path} has the format {record['format']!r}; {mend}")
        check(record)
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged or cannot be read; {mend}") from error
    return record


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all; makes its folder.

    Raises:
        UserError: there is no such place, or it may not be written.
        DiskFullError: the write failed; what was there stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(text.encode())
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); name another folder with --out."
        ) from error
    except OSError as error:
        raise DiskFullError(f"{path} could not be written ({error.strerror}).") from error
