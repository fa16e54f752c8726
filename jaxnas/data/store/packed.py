"""A run as one archive with checksums, for another machine to report on.

A zip file of the run's directory and ``manifest.json``: format, version and the SHA-256 of
every file. Checkpoints, locks and unfinished waves are left out.
"""

import errno
import hashlib
import json
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from jaxnas.core.errors import DiskFullError, UserError
from jaxnas.core.files import replacing
from jaxnas.core.version import VERSION

FORMAT = "jaxnas-pack-1"
MANIFEST = "manifest.json"
LEFT_OUT = {"checkpoints", "waves", "raising"}
"""Folders of a run that are there while it, or a longer one in its place, is made."""
BAD_ZIP = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What ``zipfile`` raises on damage; the last two on a method or a password it lacks."""
LARGEST = 2**33
"""Bytes that an archive may unpack to."""


def pack(folder: Path, file: Path) -> dict[str, int]:
    """Writes a run's directory, or one that holds several, as an archive.

    Args:
        folder: with ``config.json``, or above directories that have it.
        file: the archive; its name ends in ``.zip``.

    Returns:
        Sizes in bytes by the names of the files.

    Raises:
        UserError: no run, no finished one, or a file that cannot be read or written.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no directory of a run.")
    runs = [p.parent for p in folder.rglob("config.json") if _belongs(p, folder)]
    if not runs:
        raise UserError(f"{folder} holds no run: no config.json was found in it or below.")
    unfinished = [run for run in runs if not (run / "results.npz").exists()]
    if unfinished:
        raise UserError(
            f"{unfinished[0]} is not finished; run its search to the end before packing it."
        )
    chosen = sorted(path for path in folder.rglob("*") if _belongs(path, folder))
    sizes: dict[str, int] = {}
    sums: dict[str, str] = {}
    try:
        with (
            replacing(file) as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as z,
        ):
            for path in chosen:
                name, content = path.relative_to(folder).as_posix(), path.read_bytes()
                sizes[name] = len(content)
                sums[name] = hashlib.sha256(content).hexdigest()
                z.writestr(name, content)
            manifest = {"format": FORMAT, "version": VERSION, "files": sums}
            z.writestr(MANIFEST, json.dumps(manifest, indent=1))
    except OSError as error:
        kind = DiskFullError if error.errno == errno.ENOSPC else UserError
        raise kind(f"{file} cannot be written: {error.strerror}.") from error
    return sizes


def _belongs(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    hidden = any(part.startswith(".") for part in parts)
    return (
        path.is_file()
        and not path.is_symlink()
        and not hidden
        and not (LEFT_OUT & set(parts))
    )


def unpack(file: Path, folder: Path) -> list[str]:
    """Unpacks an archive into a folder, every file checked first, and returns the names.

    Raises:
        UserError: no archive of a run, a newer format, a path that leads out of the folder,
            or a file that is missing, left over or altered; nothing is written then.
    """
    try:
        with zipfile.ZipFile(file) as z:
            sizes = {item.filename: item.file_size for item in z.infolist()}
            if sum(sizes.values()) > LARGEST:
                raise UserError(
                    f"{file} would unpack to more than {LARGEST / 2**30:g} GiB."
                )
            if MANIFEST not in sizes:
                raise UserError(f"{file} is no packed run: it has no {MANIFEST}.")
            sums = _sums(z.read(MANIFEST), file)
            strange = (set(sizes) - {MANIFEST}) ^ set(sums)
            if strange:
                raise UserError(
                    f"{file} has other files than its manifest, such as {min(strange)!r}; "
                    "pack the run again."
                )
            contents = {name: z.read(name) for name in sums}
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except BAD_ZIP as error:
        raise UserError(f"{file} is damaged or no zip file; fetch it again.") from error
    for name, content in contents.items():
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name:
            raise UserError(
                f"{file} has a file {name!r}, which leads out of it; it was not unpacked."
            )
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise UserError(
                f"{name} in {file} is not what was packed; fetch the archive again."
            )
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return list(contents)


def _sums(content: bytes, file: Path) -> dict[str, str]:
    try:
        manifest: Any = json.loads(content)
        form, sums = manifest["format"], manifest["files"]
        good = isinstance(sums, dict) and all(isinstance(s, str) for s in sums.values())
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"The manifest of {file} cannot be read.") from error
    if form != FORMAT:
        raise UserError(
            f"{file} has the format {form!r}, and this jaxnas knows {FORMAT!r}; upgrade "
            "jaxnas."
        )
    if not good:
        raise UserError(f"The manifest of {file} cannot be read.")
    return sums
