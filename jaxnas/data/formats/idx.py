"""IDX files, the format of MNIST and of what is made like it; gzipped or plain.

A file is two zero bytes, a type code, the number of axes, the axes as big-endian 32-bit
integers, and the values, big-endian.
Reference: LeCun, Cortes and Burges, The MNIST database, "File formats".
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from jaxnas.core.errors import UserError

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""Type codes of the format."""
SPLITS = {"train": ("train",), "validation": ("val",), "test": ("t10k", "test")}
"""What a file name holds that tells its split."""


def parse(content: bytes, name: str) -> np.ndarray:
    """Returns the array of an IDX file, in the machine's byte order.

    Raises:
        UserError: a damaged gzip stream, another format, or another number of values than
            the header says.
    """
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(
                f"The file {name} is a damaged or truncated gzip file; fetch it again."
            ) from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise UserError(
            f"The file {name} is no IDX file: it begins with {content[:4].hex() or None}, "
            "not with 0000 and a type code."
        )
    dtype, rank = np.dtype(TYPES[content[2]]), content[3]
    start = 4 + 4 * rank
    if rank == 0 or len(content) < start:
        raise UserError(f"The header of the IDX file {name} is truncated.")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", rank, 4))
    want = dtype.itemsize
    for side in shape:
        want *= side
    if len(content) - start != want:
        raise UserError(
            f"The IDX file {name} has {len(content) - start:,} bytes of values where its "
            f"header says {want:,}; it is truncated or damaged."
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def read_folder(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns images and labels of each split that a folder of IDX files holds.

    A file belongs to a split by its name: ``train``, ``val``, and ``t10k`` or ``test``; it
    holds images or labels by ``images`` or ``labels`` in the name.

    Raises:
        UserError: no training files, a file without its partner, two files for one part,
            or a file that is not IDX.
    """
    files: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        part = next((p for p in ("images", "labels") if p in path.name), None)
        found = [s for s, marks in SPLITS.items() if any(m in path.name for m in marks)]
        if part is None or not found or "idx" not in path.name:
            continue
        if (found[0], part) in files:
            raise UserError(
                f"The folder {folder} holds two files of {found[0]} {part}: "
                f"{files[found[0], part].name} and {path.name}; leave one."
            )
        files[found[0], part] = path
    if ("train", "images") not in files:
        raise UserError(
            f"The folder {folder} holds no IDX files; they are expected under names such "
            "as train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz."
        )
    arrays = {}
    for split in SPLITS:
        parts = [files.get((split, part)) for part in ("images", "labels")]
        if not any(parts):
            continue
        for part, path in zip(("images", "labels"), parts):
            if path is None:
                raise UserError(f"The folder {folder} has no {part} of its {split} split.")
        arrays[split] = tuple(parse(_read(p), p.name) for p in parts if p is not None)
    return arrays


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"The file {path} cannot be read ({error.strerror}).") from error
