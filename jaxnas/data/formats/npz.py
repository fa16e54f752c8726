"""Arrays from an npz file, without pickle: whole, or one kind of error."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

_BROKEN = (
    ValueError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError,
    RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy raises on files that are not what they should be."""


def read_npz(source: Path | bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of a file, or of its content.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no npz file, is damaged, or holds pickled objects.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _BROKEN as error:
        raise ValueError(str(error) or type(error).__name__) from error
