"""CIFAR-10 and CIFAR-100 as their authors ship them: binary or python, archive or folder.

Binary: records of one label byte (CIFAR-100: coarse, then fine) and 3,072 pixel bytes, red,
green and blue planes of 32 rows. Python: pickled dicts of ``data`` and ``labels``
(CIFAR-100: ``fine_labels``), whose arrays are read as data; no code of the pickle runs.
Reference: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.formats.pickled_array import read_dict

PIXELS = 3 * 32 * 32
ENDINGS = (".tar.gz", ".tgz", ".tar")
LARGEST = 2**29
"""Bytes of one file of an archive; the real ones have up to 155 MB."""
TRAIN = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
NAMES = {*TRAIN, "test_batch", "batches.meta", "train", "test", "meta"}
"""Names of the files in all forms, ``.bin`` and ``.txt`` left out."""


class Cifar(NamedTuple):
    """What an archive holds."""

    x_train: np.ndarray  # uint8 [n, 32, 32, 3]
    y_train: np.ndarray  # int32 [n]
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]


def looks_like(path: Path) -> bool:
    """Returns whether a path is an archive, or a folder of CIFAR's batches."""
    if path.is_dir():
        here = {entry.name.split(".")[0] for entry in path.iterdir()}
        return bool({"data_batch_1", "test_batch"} & here) or {"train", "meta"} <= {
            entry.name for entry in path.iterdir() if entry.is_file()
        }
    return path.name.endswith(ENDINGS)


def read(path: Path) -> Cifar:
    """Returns the images of an archive or of the folder that it unpacks to.

    Raises:
        UserError: a damaged archive, one with paths that lead out of it, or other files
            than CIFAR's.
    """
    files = _folder(path) if path.is_dir() else _archive(path)
    stems = {name.removesuffix(".bin").removesuffix(".txt"): name for name in files}
    fine = "train" in stems
    wanted = ("train", "test") if fine else (*TRAIN, "test_batch")
    lacking = [name for name in wanted if name not in stems]
    # A folder of some of the batches is of use, an archive without any is not.
    if ("test_batch" not in stems and "test" not in stems) or set(lacking) >= set(
        wanted[:-1]
    ):
        raise UserError(
            f"{path} does not hold CIFAR's batches: {', '.join(lacking)} are missing; use "
            "cifar-10-binary.tar.gz, cifar-10-python.tar.gz or what they unpack to."
        )
    parts = {
        stem: _batch(files[stems[stem]], stems[stem], fine)
        for stem in wanted
        if stem in stems
    }
    *trains, test = [parts[name] for name in wanted if name in parts]
    x, y = (np.concatenate([part[i] for part in trains]) for i in (0, 1))
    most = int(max(y.max(), test[1].max())) + 1
    return Cifar(x, y, *test, _classes(files, stems, most))


def _folder(path: Path) -> dict[str, bytes]:
    found = {}
    for entry in sorted(path.iterdir()):
        if entry.name.removesuffix(".bin").removesuffix(".txt") in NAMES:
            try:
                found[entry.name] = entry.read_bytes()
            except OSError as error:
                raise UserError(f"{entry} cannot be read: {error.strerror}.") from error
    return found


def _archive(path: Path) -> dict[str, bytes]:
    """Returns the files of an archive by their last names; nothing is unpacked."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                place = PurePosixPath(member.name)
                if place.is_absolute() or ".." in place.parts:
                    raise UserError(
                        f"{path.name} has a file {member.name!r}, which leads out of the "
                        "archive; it was not read. Fetch the archive again."
                    )
                stem = place.name.removesuffix(".bin").removesuffix(".txt")
                if not member.isfile() or stem not in NAMES:
                    continue
                if member.size > LARGEST:
                    raise UserError(f"{member.name} in {path.name} is too large for CIFAR.")
                content = archive.extractfile(member)
                assert content is not None
                found[place.name] = content.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is damaged or no archive"
        raise UserError(f"{path} cannot be read: {reason}; fetch it again.") from error
    return found


def _batch(content: bytes, name: str, fine: bool) -> tuple[np.ndarray, np.ndarray]:
    if name.endswith(".bin"):
        labels = 2 if fine else 1
        if not content or len(content) % (labels + PIXELS):
            raise UserError(
                f"{name} has {len(content):,} bytes, no multiple of {labels + PIXELS:,}; "
                "it is truncated or damaged."
            )
        rows = np.frombuffer(content, np.uint8).reshape(-1, labels + PIXELS)
        return _upright(rows[:, labels:]), rows[:, labels - 1].astype(np.int32)
    found = read_dict(content, name)
    data: Any = found.get("data")
    labels: Any = found.get("fine_labels" if fine else "labels")
    good = isinstance(data, np.ndarray) and data.dtype == np.uint8
    if not good or data.ndim != 2 or data.shape[1] != PIXELS or not _whole(labels):
        raise UserError(f"{name} holds no CIFAR batch: data and labels are missing.")
    if len(labels) != len(data):
        raise UserError(f"{name} has {len(labels)} labels for {len(data)} images.")
    return _upright(data), np.array(labels, np.int32)


def _whole(labels: Any) -> bool:
    return isinstance(labels, list) and all(type(y) is int and 0 <= y < 256 for y in labels)


def _upright(rows: np.ndarray) -> np.ndarray:
    """Returns planes of colour as ``uint8[n, 32, 32, 3]``."""
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _classes(
    files: Mapping[str, bytes], stems: Mapping[str, str], most: int
) -> tuple[str, ...]:
    """Returns the names of the classes, numbers where the archive does not have them."""
    names: list[str] = []
    for stem in ("batches.meta", "meta"):
        name = stems.get(stem)
        if name is None:
            continue
        if name.endswith(".txt"):
            names = files[name].decode("utf-8", "replace").split()
        else:
            found = read_dict(files[name], name)
            key = "label_names" if stem == "batches.meta" else "fine_label_names"
            listed = found.get(key, [])
            names = [str(n) for n in listed] if isinstance(listed, list) else []
    return tuple(names) if len(names) >= most else tuple(map(str, range(most)))
