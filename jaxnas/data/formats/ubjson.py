"""Universal Binary JSON, draft 12: bytes in, plain Python values and NumPy vectors out.

Nothing in a file is trusted: every length is checked against the bytes that are left
before anything of that length is made, and containers may nest ``DEPTH`` deep.

Reference: https://ubjson.org/type-reference and https://ubjson.org/type-reference/container-types.
"""

import struct
from typing import Any

import numpy as np

from jaxnas.core.errors import UserError

DEPTH = 64
"""How deep containers may nest; the files of XGBoost need eight levels."""
_NUMBERS = {
    b"i": np.dtype(">i1"),
    b"U": np.dtype(">u1"),
    b"I": np.dtype(">i2"),
    b"l": np.dtype(">i4"),
    b"L": np.dtype(">i8"),
    b"d": np.dtype(">f4"),
    b"D": np.dtype(">f8"),
}
_FORMATS = {
    marker: struct.Struct(f">{code}")
    for marker, code in zip(_NUMBERS, "bBhiqfd", strict=True)
}
_LENGTHS = b"iUIlL"
_CONSTANTS: dict[bytes, Any] = {b"Z": None, b"T": True, b"F": False}


class _MalformedError(Exception):
    """The bytes are not UBJSON; the text says what was met where."""


class _Reader:
    """A position in the bytes, and one method for each thing that can stand there."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def whole(self) -> Any:
        """Returns the one value that the bytes hold."""
        value = self._value(self._marker(), 0)
        while self._at < len(self._content) and self._peek() == b"N":
            self._at += 1
        if self._at != len(self._content):
            raise self._error("more bytes after the end")
        return value

    def _error(self, what: str) -> _MalformedError:
        return _MalformedError(f"{what} at byte {self._at:,}")

    def _take(self, count: int) -> bytes:
        if count < 0 or count > len(self._content) - self._at:
            raise self._error(f"{count:,} bytes announced and fewer left")
        self._at += count
        return self._content[self._at - count : self._at]

    def _peek(self) -> bytes:
        return self._content[self._at : self._at + 1]

    def _marker(self) -> bytes:
        """Returns the next marker that is not the no-operation."""
        while (marker := self._take(1)) == b"N":
            pass
        return marker

    def _length(self) -> int:
        marker = self._take(1)
        if marker not in _LENGTHS:
            raise self._error(f"{marker!r} where a length should be")
        return self._number(marker)

    def _number(self, marker: bytes) -> Any:
        form = _FORMATS[marker]
        return form.unpack(self._take(form.size))[0]

    def _text(self) -> str:
        return self._take(self._length()).decode("utf-8")

    def _value(self, marker: bytes, depth: int) -> Any:
        if depth > DEPTH:
            raise self._error(f"containers nested more than {DEPTH} deep")
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in _FORMATS:
            return self._number(marker)
        if marker in (b"S", b"H"):
            return self._text()
        if marker == b"C":
            return self._take(1).decode("ascii")
        if marker == b"[":
            return self._array(depth)
        if marker == b"{":
            return self._object(depth)
        raise self._error(f"unknown marker {marker!r}")

    def _head(self) -> tuple[bytes | None, int | None]:
        """Returns the type that all elements share and their number, where announced."""
        kind = count = None
        if self._peek() == b"$":
            self._at += 1
            kind = self._take(1)
            if kind not in _FORMATS and kind not in (b"S", b"C", b"[", b"{"):
                raise self._error(f"a container of {kind!r}")
        if self._peek() == b"#":
            self._at += 1
            count = self._length()
            smallest = _FORMATS[kind].size if kind in _FORMATS else 1
            if count < 0 or count * smallest > len(self._content) - self._at:
                raise self._error(f"{count:,} elements announced and fewer bytes left")
        elif kind is not None:
            raise self._error("a typed container without a count")
        return kind, count

    def _array(self, depth: int) -> Any:
        kind, count = self._head()
        if kind in _NUMBERS and count is not None:
            form = _NUMBERS[kind]
            vector = np.frombuffer(self._take(count * form.itemsize), form)
            return vector.astype(form.newbyteorder("="))
        items: list[Any] = []
        while count is None or len(items) < count:
            marker = kind or self._marker()
            if count is None and marker == b"]":
                break
            items.append(self._value(marker, depth + 1))
        return items

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._head()
        items: dict[str, Any] = {}
        met = 0
        while count is None or met < count:
            if count is None and self._peek() == b"}":
                self._at += 1
                break
            name = self._text()
            items[name] = self._value(kind or self._marker(), depth + 1)
            met += 1
        return items


def loads(content: bytes, name: str) -> Any:
    """Returns the value in ``content``; arrays of one numeric type are NumPy vectors.

    Args:
        content: a whole file.
        name: what to call it in an error.

    Raises:
        UserError: the bytes are not UBJSON, or announce more than they hold.
    """
    try:
        return _Reader(content).whole()
    except (_MalformedError, UnicodeDecodeError) as error:
        raise UserError(
            f"The file {name} is damaged or cut short ({error}); copy it again from "
            "where it was saved."
        ) from error
