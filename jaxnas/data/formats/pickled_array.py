"""Numpy arrays out of a pickle, without letting the pickle call numpy."""

from typing import Any

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.formats.unpickle import loads_with


class _Bag:
    """Keeps what the pickle says of an array or of a type, and does nothing with it."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _stand_ins() -> tuple[type, type, dict[tuple[str, str], Any]]:
    """Returns what stands for arrays and for types, and for which names of numpy.

    Made anew for each file, so that no file can change what another one gets.
    """
    array = type("Array", (_Bag,), {})
    kind = type("Kind", (_Bag,), {})
    names = {
        (f"numpy.{core}.multiarray", "_reconstruct"): array for core in ("core", "_core")
    } | {("numpy", "ndarray"): array, ("numpy", "dtype"): kind}
    return array, kind, names


def read_array(content: bytes, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the array in a pickle that must be of the stated type and shape.

    Args:
        content: the pickle.
        name: what to call the file in an error.
        dtype: little-endian or single-byte type, such as ``"u1"`` or ``"<i8"``.
        shape: of the array.

    Raises:
        UserError: the pickle uses anything but numpy's array and type, or holds another
            array than that.
    """
    array, kind, names = _stand_ins()
    found = _values(loads_with(content, name, names), array, kind)
    want = np.dtype(dtype)
    if found is None or found.dtype != want or found.shape != shape:
        raise UserError(f"The file {name} does not hold an array {want.str}{list(shape)}.")
    return found


def read_dict(content: bytes, name: str) -> dict[str, Any]:
    """Returns a pickled dict of plain values and arrays, as Python 2 wrote them.

    Raises:
        UserError: the pickle uses anything but numpy's array and type, or is no dict.
    """
    array, kind, names = _stand_ins()
    found = loads_with(content, name, names, encoding="bytes")
    if not isinstance(found, dict):
        raise UserError(f"The file {name} does not hold a dict.")
    return {_text(key): _plain(value, array, kind) for key, value in found.items()}


def _plain(value: Any, array: type, kind: type) -> Any:
    if isinstance(value, list):
        return [_text(item) if isinstance(item, bytes) else item for item in value]
    return _values(value, array, kind) if type(value) is array else value


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _values(found: Any, array: type, kind: type) -> np.ndarray | None:
    """Returns what a stand-in says of an array, None where that makes none."""
    if not (type(found) is array and type(found.state) is tuple and len(found.state) == 5):
        return None
    _, shape, code, fortran, data = found.state
    if not isinstance(code, kind) or type(code.state) is not tuple:
        return None
    name, order = _text((*code.arguments, "")[0]), _text((*code.state, "", "")[1])
    sizes = type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape)
    plain = len(name) == 2 and name[0] in "uif" and name[1] in "1248"
    if not (sizes and plain and order in ("<", "|") and fortran is False):
        return None
    want = np.dtype(f"<{name}")
    size = want.itemsize * int(np.prod(shape, dtype=np.int64))
    if type(data) is not bytes or len(data) != size:
        return None
    return np.frombuffer(data, want).reshape(shape)
