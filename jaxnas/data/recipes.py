"""Installed file -> verified -> converted -> one cached npz, the same way for every source.

Nothing is downloaded: the source is a file of an installed package, found through its
metadata without importing it, or an archive that the user's package client fetched. Two
checksums are pinned in the code: that of the source file, checked before it is read, and
that of the converted arrays, checked whenever the cache is read, so that a damaged or
edited cache is rebuilt and never used.
"""

import hashlib
import importlib.metadata
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.files import replacing
from jaxnas.data.formats.npz import content_checksum, read_npz

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Recipe:
    """Where a table comes from and how it becomes arrays.

    Args:
        name: name of the table and of its cache file.
        distribution: name of the package on PyPI.
        release: the release that the checksums belong to.
        files: path inside the installation -> SHA-256 of the file, as pairs.
        content_sha256: :func:`content_checksum` of what ``convert`` returns.
        convert: turns the verified bytes of the files into arrays.
        install: the command that provides the package.
        licence: of the data.
        citation: whom to cite.
        homepage: where the data are described.
        folder: where a system package keeps the files; a Python package's own when empty.
        variable: environment variable that names another folder of the same files.
        fetched: whether ``install`` only fetches the files, into the current folder.
    """

    name: str
    distribution: str
    release: str
    files: tuple[tuple[str, str], ...]
    content_sha256: str
    convert: Callable[[Mapping[str, bytes]], Arrays]
    install: str
    licence: str
    citation: str
    homepage: str
    folder: str = ""
    variable: str = ""
    fetched: bool = False

    def facts(self) -> dict[str, str]:
        """Returns source, version, licence, checksum and citation, for people."""
        index = "Debian" if self.folder and not self.fetched else "PyPI"
        return {
            "source": f"{index} {self.distribution}",
            "version": self.release,
            "licence": self.licence,
            "citation": self.citation,
            "homepage": self.homepage,
            "source checksum": ", ".join(f"{p}: sha256 {sha}" for p, sha in self.files),
            "checksum": f"sha256 {self.content_sha256}",
        }


def cache_dir() -> Path:
    """Returns where tables are cached: JAXNAS_CACHE, else the user's cache directory."""
    if own := os.environ.get("JAXNAS_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jaxnas"


def cache_path(recipe: Recipe) -> Path:
    """Returns where the converted arrays of a recipe are cached."""
    return cache_dir() / f"{recipe.name}-{recipe.content_sha256[:12]}.npz"


def load(recipe: Recipe) -> Arrays:
    """Returns the arrays of a recipe; UserError on a missing or altered package."""
    path = cache_path(recipe)
    arrays = _read(path)
    if arrays is None or content_checksum(arrays) != recipe.content_sha256:
        arrays = recipe.convert(source_bytes(recipe))
        if content_checksum(arrays) != recipe.content_sha256:
            raise UserError(
                f"Converting {recipe.distribution} {recipe.release} gave other numbers "
                "than recorded; please report this with the output of 'jaxnas doctor'."
            )
        _write(path, arrays)
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def source_bytes(recipe: Recipe) -> dict[str, bytes]:
    """Returns the source files, SHA-256 verified; UserError on one missing or altered."""
    place = _place(recipe)
    contents = {}
    for file, sha256 in recipe.files:
        try:
            content = place(file).read_bytes()
        except OSError as error:
            if recipe.fetched:
                raise UserError(
                    f"The data of {recipe.name!r} are read once from {file}, which is not "
                    f"in {place(file).parent.resolve()}; run there, or set "
                    f"{recipe.variable} to the folder that has it: {recipe.install}"
                ) from error
            raise UserError(
                f"The file {file} of {recipe.distribution} cannot be read "
                f"({error.strerror}); {_reinstall(recipe)}"
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise UserError(
                f"The file {file} of {recipe.distribution} has SHA-256 {found[:12]}... "
                f"instead of {sha256[:12]}..., so it is damaged, altered or of another "
                f"release; {_reinstall(recipe)}"
            )
        contents[file] = content
    return contents


def _place(recipe: Recipe) -> Callable[[str], Path]:
    """Returns what finds a file here; UserError where the package is missing."""
    missing = UserError(
        f"The data of {recipe.name!r} come with the package {recipe.distribution}, "
        f"which is not installed; run: {recipe.install}"
    )
    if recipe.folder:
        own = os.environ.get(recipe.variable) if recipe.variable else None
        folder = Path(own or recipe.folder)
        if not folder.is_dir():
            if own:
                raise UserError(f"The folder {own} of {recipe.variable} does not exist.")
            raise missing
        return lambda file: folder / file
    try:
        package = importlib.metadata.distribution(recipe.distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise missing from error
    return lambda file: Path(str(package.locate_file(file)))


def installed(recipe: Recipe) -> bool:
    """Returns whether every file of a recipe is on this machine; reads none."""
    try:
        place = _place(recipe)
    except UserError:
        return False
    return all(place(file).is_file() for file, _ in recipe.files)


def _reinstall(recipe: Recipe) -> str:
    if recipe.fetched:
        return f"run: {recipe.install}"
    if recipe.folder:
        return f"run: apt-get install --reinstall {recipe.distribution}"
    pinned = f"{recipe.distribution}=={recipe.release}"
    return f"run: pip install --force-reinstall --no-deps {pinned}"


def _read(path: Path) -> Arrays | None:
    """Returns the arrays of a cache file, or None where there is no readable one."""
    try:
        return read_npz(path)
    except (OSError, ValueError):
        return None  # absent or damaged: the caller converts the source again


def _write(path: Path, arrays: Arrays) -> None:
    """Writes a cache file whole or not at all; warns where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    except OSError as error:
        warnings.warn(
            f"The cache {path.parent} cannot be written ({error.strerror}), so tables are "
            "converted anew in every process; set JAXNAS_CACHE to a writable directory.",
            stacklevel=2,
        )
