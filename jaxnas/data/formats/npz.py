"""Arrays in npz files without pickle, alone or with a JSON header that describes them."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.files import replacing

HEADER = "header"
"""The entry that holds the header, UTF-8 JSON as bytes."""
_BROKEN = (
    ValueError, EOFError, KeyError, TypeError, AttributeError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy raises on files that are not what they should be."""


def read_npz(source: Path | bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of a file, or of its content.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no npz file, is damaged, or holds Python objects; in our words.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _BROKEN as error:
        objects = "Object arrays" in str(error)
        why = "it holds Python objects, not numbers" if objects else "it is damaged"
        raise ValueError(why) from error


def content_checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 of names, types, shapes and values; not of a file layout."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def named_leaves(tree: PyTree) -> dict[str, np.ndarray]:
    """Returns the leaves of a tree by their paths as text."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(place): np.asarray(leaf) for place, leaf in found}


class FileKind(NamedTuple):
    """A kind of file: arrays, and a header with its format and their checksum."""

    noun: str
    """What a file is, for errors."""
    format: str
    """Name and version, ``name-v1``; bump it when the meaning of an entry changes."""
    mend: str
    """How to get a file that can be read, to the end of the sentence."""

    def write(
        self, path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> None:
        """Writes a file whole or not at all, its folder too; UserError if it cannot."""
        head = {"format": self.format, "checksum": content_checksum(arrays), **header}
        text = np.frombuffer(json.dumps(head).encode(), np.uint8)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                np.savez_compressed(file, **cast(Any, {HEADER: text, **arrays}))
        except OSError as error:
            raise UserError(
                f"The {self.noun} cannot be written to {path} ({error.strerror}); choose "
                "another place."
            ) from error

    def read(
        self, source: Path | bytes, name: str = ""
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns the header and the arrays of a file, or of its bytes, called ``name``.

        Raises:
            UserError: no such file, not of this kind, damaged, or of another version.
        """
        name = name or str(source)
        if isinstance(source, Path) and not source.is_file():
            raise UserError(f"There is no {self.noun} at {name}; {self.mend}")
        try:
            arrays = read_npz(source)
            header = json.loads(arrays.pop(HEADER).tobytes())
            found = str(header["format"])
            if "version" in header:  # files up to 0.1 have the version apart
                found += f"-v{header['version']}"
            if found.rpartition("-v")[0] != self.format.rpartition("-v")[0]:
                raise ValueError(found)
            if found == self.format and header["checksum"] != content_checksum(arrays):
                raise ValueError("checksum")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self.damaged(name) from error
        if found != self.format:
            raise UserError(
                f"{name} has the format {found!r} and this jaxnas reads {self.format!r}; "
                f"{self.mend}"
            )
        return header, arrays

    def damaged(self, name: str | Path) -> UserError:
        """Returns the error for a file that is not what it should be."""
        return UserError(f"{name} is no intact {self.noun}; {self.mend}")

    def fill(
        self,
        name: str | Path,
        like: PyTree,
        arrays: Mapping[str, np.ndarray],
        prefix: str = "",
    ) -> PyTree:
        """Returns named leaves as a tree like ``like``; UserError on another shape."""
        places, structure = jax.tree_util.tree_flatten_with_path(like)
        leaves = []
        for place, leaf in places:
            found = arrays.get(prefix + jax.tree_util.keystr(place))
            if found is None or found.shape != leaf.shape:
                raise UserError(
                    f"{name} does not fit its space and configuration at "
                    f"{jax.tree_util.keystr(place)}; {self.mend}"
                )
            leaves.append(jnp.asarray(found, leaf.dtype))
        return jax.tree.unflatten(structure, leaves)
