"""Gzipped comma-separated rows of pixels and a label, as two packages ship them."""

import gzip
import io

import numpy as np

from jaxnas.core.errors import UserError


def read_rows(content: bytes, file: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images ``uint8[n, side, side, 1]`` and labels ``int32[n]``.

    Raises:
        UserError: it does not hold side^2 + 1 whole numbers in [0, 255] a row.
    """
    wanted = side * side + 1
    broken = UserError(f"The file {file} does not hold rows of {wanted} whole numbers.")
    try:
        text = gzip.decompress(content).decode()
        rows = np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise broken from error
    known = rows.shape[1] == wanted and (rows == np.clip(np.rint(rows), 0, 255)).all()
    if not known:
        raise broken
    x = rows[:, :-1].reshape(-1, side, side, 1).astype(np.uint8)
    return x, rows[:, -1].astype(np.int32)
