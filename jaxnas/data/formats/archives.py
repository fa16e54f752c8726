"""Named files out of a gzipped tar archive that a stranger made; nothing is unpacked."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import PurePosixPath

from jaxnas.core.errors import UserError


def read_members(
    content: bytes, names: Sequence[str], file: str, largest: int
) -> dict[str, bytes]:
    """Returns the content of the files of an archive that have these names, no others.

    Args:
        content: of the ``.tar.gz``.
        names: paths inside the archive.
        file: what to call the archive in messages.
        largest: most bytes that the whole archive may unpack to; no more are read.

    Raises:
        UserError: a damaged archive, one that unpacks to more, one with a path that leads
            out of it, or a name that is missing, there twice, or no plain file (a link).
    """
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            plain = stream.read(largest + 1)
        if len(plain) > largest:
            raise UserError(
                f"{file} unpacks to more than {largest / 2**20:,.0f} MiB and was not read; "
                "fetch it again."
            )
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            found = _chosen(archive, names, file)
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{file} is damaged or no .tar.gz archive; fetch it again."
        ) from error
    for name in names:
        if name not in found:
            raise UserError(f"{file} lacks the file {name!r}; fetch it again.")
    return found


def _chosen(archive: tarfile.TarFile, names: Sequence[str], file: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for member in archive:
        place = PurePosixPath(member.name)
        if place.is_absolute() or ".." in place.parts:
            raise UserError(
                f"{file} has a file {member.name!r}, which leads out of the archive; it "
                "was not read. Fetch the archive again."
            )
        if member.name not in names:
            continue
        stream = archive.extractfile(member) if member.isreg() else None
        if stream is None or member.name in found:
            raise UserError(
                f"{file} has {member.name!r} as a link or twice, not as one plain file; it "
                "was not read. Fetch the archive again."
            )
        found[member.name] = stream.read()
    return found
