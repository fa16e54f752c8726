"""A folder of pictures with a folder for each class.

::

    photos/cat/1.jpg                 or    photos/train/cat/1.jpg
    photos/dog/a.png                       photos/test/cat/7.jpg
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from PIL import Image, UnidentifiedImageError

from jaxnas.core.errors import UserError
from jaxnas.data.images.files import usable
from jaxnas.data.images.task import Opened
from jaxnas.data.splits import Pair

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
GREY = ("1", "L", "LA", "I", "I;16", "F")
SHARE = 0.5
"""Share of the free memory that pictures may take, as bytes and as 32-bit floats."""


def looks_like(path: Path) -> bool:
    """Returns whether a folder has folders with pictures in it."""
    inner = _folders(path)
    return any(_files(folder) for folder in inner) or any(
        _files(folder)
        for split in _split_folders(path).values()
        for folder in _folders(split)
    )


def open_folder(path: Path, size: int | None = None) -> Opened:
    """Returns the pictures of a folder, classes in the order of their names.

    All are grey, or all become RGB; transparency is dropped. With a size they are cut to
    their middle square and reduced to it (mean over areas); without one they must have one
    size.

    Args:
        path: the folder.
        size: pixels a side.

    Raises:
        UserError: one class, a class without pictures, a picture that cannot be read,
            several sizes, or more than the memory holds; the text names the file.
    """
    found = _split_folders(path) or {"train": path}
    listed = {split: _classes(folder) for split, folder in found.items()}
    names = list(listed.get("train", next(iter(listed.values()))))
    for split, classes in listed.items():
        strange = [name for name in classes if name not in names]
        if strange:
            raise UserError(
                f"The {split} split of {path} has a class {strange[0]!r} that its training "
                "split has not."
            )
    if len(names) < 2:
        raise UserError(
            f"{path} has one class, {names[0]!r}; a folder for each of two classes or more "
            "is needed."
        )
    files = [
        f for classes in listed.values() for several in classes.values() for f in several
    ]
    grey, first = _headers(files)
    shape = _shape(first, size)
    _check_memory(path, len(files), shape, 1 if grey else 3)
    pairs = {split: _read(classes, names, grey, size) for split, classes in listed.items()}
    opened = usable(pairs, str(path))
    facts = {**opened.facts, "pictures": f"{len(files):,} files"}
    return opened._replace(classes=tuple(names), facts=facts)


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir()
        if p.suffix.lower() in PICTURES and not p.name.startswith(".") and p.is_file()
    )  # fmt: skip


def _split_folders(path: Path) -> dict[str, Path]:
    """Returns the folders of the splits, where a folder has one for training."""
    inner = {p.name.lower(): p for p in _folders(path)}
    found = {
        split: inner[name]
        for split, names in SPLITS.items()
        for name in names
        if name in inner and not _files(inner[name])
    }
    return found if "train" in found else {}


def _classes(folder: Path) -> dict[str, list[Path]]:
    found = {inner.name: _files(inner) for inner in _folders(folder)}
    for name, files in found.items():
        if not files:
            raise UserError(
                f"The class folder {folder / name} has no pictures "
                f"({', '.join(PICTURES)}); fill it or remove it."
            )
    if not found:
        raise UserError(f"{folder} has no folders of pictures, one for each class.")
    return found


def _open(file: Path) -> Image.Image:
    """Returns a picture whose header was read; UserError with its name otherwise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(file)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Warning) as error:
        raise _broken(file) from error


def _broken(file: Path) -> UserError:
    return UserError(f"The picture {file} is damaged or no picture; mend it or remove it.")


def _headers(files: Sequence[Path]) -> tuple[bool, dict[tuple[int, int], Path]]:
    """Returns whether all pictures are grey, and one of each height and width."""
    grey, first = True, {}
    for file in files:
        with _open(file) as picture:
            grey = grey and picture.mode in GREY
            first.setdefault((picture.height, picture.width), file)
    return grey, first


def _shape(first: dict[tuple[int, int], Path], size: int | None) -> tuple[int, int]:
    """Returns height and width that all pictures will have."""
    if size is not None:
        small = min(first, key=min)
        if size < 1 or min(small) < size:
            raise UserError(
                f"size={size} is not between 1 and {min(small)}, the shortest side of "
                f"{first[small]}; pictures are only ever reduced."
            )
        return size, size
    if len(first) > 1:
        (a, b), *_ = zip(first, list(first)[1:])
        raise UserError(
            f"The pictures have {len(first)} sizes: {first[a]} is {a[0]} x {a[1]} and "
            f"{first[b]} is {b[0]} x {b[1]}. Give a size to cut and reduce them to, "
            f"such as size={min(min(one) for one in first)}."
        )
    return next(iter(first))


def _check_memory(path: Path, count: int, shape: tuple[int, int], channels: int) -> None:
    need = count * shape[0] * shape[1] * channels * (1 + 4)
    free = psutil.virtual_memory().available
    if need > SHARE * free:
        raise UserError(
            f"The {count:,} pictures of {path}, {shape[0]} x {shape[1]} x {channels}, need "
            f"{need / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; give a smaller "
            "size, or a folder of fewer."
        )


def _read(
    classes: dict[str, list[Path]], names: Sequence[str], grey: bool, size: int | None
) -> Pair:
    images, labels = [], []
    for name, files in classes.items():
        for file in files:
            images.append(_pixels(file, grey, size))
            labels.append(names.index(name))
    return np.stack(images), np.array(labels, np.int32)


def _pixels(file: Path, grey: bool, size: int | None) -> np.ndarray:
    """Returns ``uint8[H, W, C]`` of one picture."""
    try:
        with _open(file) as picture:
            picture.load()
            plain = picture
            if picture.mode in ("I", "I;16", "F"):  # 16 bits and more: to 8
                values = np.asarray(picture, np.float64)
                top = 65535.0 if picture.mode != "F" else max(1.0, float(values.max()))
                plain = Image.fromarray(np.uint8(np.clip(values / top, 0, 1) * 255))
            plain = plain.convert("L" if grey else "RGB")
            if size is not None:
                side = min(plain.size)
                left, upper = (plain.width - side) // 2, (plain.height - side) // 2
                plain = plain.crop((left, upper, left + side, upper + side))
                plain = plain.resize((size, size), Image.Resampling.BOX)
    except UserError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise _broken(file) from error
    pixels = np.asarray(plain, np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]
