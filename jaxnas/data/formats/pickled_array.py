"""One numpy array out of a pickle, without letting the pickle call numpy."""

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
    # made anew for each file, so that no file can change what another one gets
    array = type("Array", (_Bag,), {})
    kind = type("Kind", (_Bag,), {})
    stand_ins = {
        (f"numpy.{core}.multiarray", "_reconstruct"): array for core in ("core", "_core")
    } | {("numpy", "ndarray"): array, ("numpy", "dtype"): kind}
    found = loads_with(content, name, stand_ins)
    want = np.dtype(dtype)
    broken = UserError(f"The file {name} does not hold an array {want.str}{list(shape)}.")
    if not (type(found) is array and type(found.state) is tuple and len(found.state) == 5):
        raise broken
    _, stored, code, fortran, data = found.state
    named = isinstance(code, kind) and code.arguments[:1] == (dtype.lstrip("<|"),)
    little = named and type(code.state) is tuple and code.state[1:2] in (("<",), ("|",))
    if not (little and stored == shape and fortran is False and type(data) is bytes):
        raise broken
    if len(data) != want.itemsize * int(np.prod(shape)):
        raise broken
    return np.frombuffer(data, want).reshape(shape)
