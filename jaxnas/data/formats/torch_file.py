"""Reading torch checkpoints without torch, and without running what they say.

A checkpoint is a zip archive: one pickle that describes tensors, and one file of raw
numbers for each storage. The pickle may name exactly what a dictionary of tensors needs;
every other global is refused before anything is called, and the pickle's claims about
shape and stride are checked against the storage that they point into.
"""

import math
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.formats import unpickle

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_AGAIN = "get the checkpoint again"
MAX_BYTES = 2**30
"""Largest archive member that is read."""


def read(path: str | Path) -> Any:
    """Returns what a checkpoint holds: a tensor, or containers of them, as numpy arrays.

    Args:
        path: a file that ``torch.save`` wrote in its zip format (torch 1.6 and later).

    Raises:
        UserError: no such file, not a checkpoint, damaged, or one that wants to run code.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            pickles = [n for n in members if n.endswith("/data.pkl") and n.count("/") == 1]
            if len(pickles) != 1:
                raise _not_a_checkpoint(path, "it holds no data.pkl")
            folder = pickles[0].partition("/")[0]
            order = f"{folder}/byteorder"
            if order in members and archive.read(order).strip() != b"little":
                raise _not_a_checkpoint(path, "its numbers are big-endian")
            if max(info.file_size for info in members.values()) > MAX_BYTES:
                raise _not_a_checkpoint(path, "a member is larger than 1 GiB")
            content = archive.read(pickles[0])
            fetch = lambda key: archive.read(f"{folder}/data/{key}")
            storages = _Storages(fetch)
            return unpickle.loads_with(content, str(path), _GLOBALS, storages, _AGAIN)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except zipfile.BadZipFile as error:
        raise _not_a_checkpoint(path, "it is no zip archive, or a damaged one") from error


def _not_a_checkpoint(path: Path, why: str) -> UserError:
    """Returns the error for a file of another kind."""
    return UserError(
        f"{path} is not a torch checkpoint that can be read here: {why}; save it again "
        "with torch.save(model.state_dict(), path)."
    )


class _StorageKind(NamedTuple):
    """Stands for a storage class of torch: only a number format, and immutable."""

    dtype: str


class _Storages:
    """Turns the pickle's references to storages into flat arrays.

    Args:
        fetch: gives the bytes of a storage by its key.
    """

    def __init__(self, fetch: Any) -> None:
        self._fetch = fetch
        self._read: dict[str, np.ndarray] = {}

    def __call__(self, reference: Any) -> np.ndarray:
        """Returns the storage of ``("storage", kind, key, device, count)``."""
        tag, kind, key, _, count = reference
        if tag != "storage" or not isinstance(kind, _StorageKind) or not key.isalnum():
            raise ValueError("a reference that is no storage")
        if key not in self._read:
            flat = np.frombuffer(self._fetch(key), np.dtype(kind.dtype))
            if flat.size != count:
                raise ValueError(f"storage {key} holds {flat.size} numbers, not {count}")
            self._read[key] = flat
        return self._read[key]


class _Tensor:
    """Rebuilds a tensor; without slots, so that a pickle cannot alter it either."""

    __slots__ = ()

    def __call__(
        self,
        storage: Any,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        *unused: Any,
    ) -> np.ndarray:
        """Returns a copy of the numbers, after checking that they lie in the storage."""
        if not isinstance(storage, np.ndarray) or len(shape) != len(stride):
            raise ValueError("a tensor without a storage")
        if min((offset, *shape, *stride)) < 0:
            raise ValueError("a tensor with a negative offset, size or stride")
        count = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        if count > storage.size or (count and last >= storage.size):
            raise ValueError("a tensor that reaches beyond its storage")
        where = np.full(shape, offset)
        for axis, (size, step) in enumerate(zip(shape, stride, strict=True)):
            tail = (1,) * (len(shape) - axis - 1)
            where = where + (step * np.arange(size)).reshape(size, *tail)
        return np.asarray(storage[where])  # a scalar is one too


class _Parameter:
    """Rebuilds a parameter from its tensor."""

    __slots__ = ()

    def __call__(self, data: np.ndarray, *unused: Any) -> np.ndarray:
        """Returns the numbers."""
        return data


_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
    **{("torch", name): _StorageKind(dtype) for name, dtype in _STORAGES.items()},
}
