"""A reader's own images: an ``.npz`` with X and y, or a folder of IDX files.

Whatever is not plainly usable is refused in words: nothing is guessed about axes, about
which brightness is white, or about classes that no image shows.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.files import replacing
from jaxnas.data.formats import cifar
from jaxnas.data.formats.idx import read_folder
from jaxnas.data.formats.npz import read_npz
from jaxnas.data.images.task import Opened
from jaxnas.data.splits import Pair, Splits, three

DIMMEST = 128
"""Integer images whose brightest pixel is below this must say what white is."""
SUFFIXES = {"train": ("", "_train"), "validation": ("_val",), "test": ("_test",)}


def open_path(path: Path) -> Opened:
    """Returns the images of an ``.npz`` file, of CIFAR or of a folder of IDX files.

    An ``.npz`` holds ``X`` and ``y`` (or ``X_train`` and ``y_train``), and if it has them
    ``X_val``, ``y_val``, ``X_test``, ``y_test``; case does not matter. ``top`` says which
    brightness is white; it is 255 for integers and 1 for floats and booleans.

    Raises:
        UserError: no such file, or images or labels that cannot be used.
    """
    if cifar.looks_like(path):
        found = cifar.read(path)
        pairs = {"train": (found[0], found[1]), "test": (found[2], found[3])}
        return usable(pairs, str(path))._replace(classes=found.classes)
    if path.is_dir():
        return usable(read_folder(path), str(path))
    if path.suffix != ".npz":
        raise UserError(
            f"{path} is neither a registered name nor an .npz file, an archive of CIFAR, "
            "nor a folder of pictures or IDX files; see: jaxnas data list"
        )
    try:
        return _opened(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"The file {path} cannot be read ({error.strerror}).") from error


def _opened(content: bytes, path: Path) -> Opened:
    try:
        found = read_npz(content)
    except ValueError as error:
        raise UserError(
            f"The file {path} is not a readable .npz file: {error}; save X as numbers and "
            "y as whole numbers."
        ) from error
    arrays = {name.lower(): array for name, array in found.items()}
    pairs = {}
    for split, suffixes in SUFFIXES.items():
        for suffix in suffixes:
            x, y = (arrays.get(part + suffix) for part in "xy")
            if x is not None and y is not None:
                pairs[split] = (x, y)
            elif x is not None or y is not None:
                raise UserError(f"The file {path} has only one of X{suffix} and y{suffix}.")
    if "train" not in pairs:
        raise UserError(
            f"The file {path} holds {', '.join(found) or 'nothing'}, but neither X and y "
            "nor X_train and y_train."
        )
    return usable(pairs, str(path), _top(arrays.get("top"), path))


def save_npz(opened: Opened, path: Path) -> None:
    """Writes an ``.npz`` for :func:`open_path`, read back; UserError where it differs."""
    stream, splits = io.BytesIO(), opened.splits._asdict()
    arrays = {name.replace("x_", "X_"): array for name, array in splits.items()}
    np.savez(stream, top=np.float64(opened.top), **arrays)
    back = _opened(stream.getvalue(), path)
    equal = back.top == opened.top and all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in zip(opened.splits, back.splits)
    )
    if not equal:
        raise UserError(f"What was written to {path} could not be read back the same.")
    try:
        with replacing(path) as file:
            file.write(stream.getvalue())
    except OSError as error:
        raise UserError(f"The file {path} cannot be written ({error.strerror}).") from error


def usable(pairs: Mapping[str, Pair], name: str, top: float | None = None) -> Opened:
    """Returns checked images, with the splits that are missing cut from the training rows.

    ``pairs`` hold ``train`` and, where given, ``validation`` and ``test``; ``top`` is the
    brightness that becomes 1, by the type when None.

    Raises:
        UserError: a wrong rank, shape, type or range, a number that is not finite, labels
            that are not classes from 0, or a class without a training image.
    """
    parts, white = {}, {}
    for split, (x, y) in pairs.items():
        where = f"the {split} split of {name}"
        parts[split], white[split] = _images(x, where), _white(x, where, top)
        _same_length(x, y, where)
    if len({x.shape[1:] for x in parts.values()}) > 1 or len(set(white.values())) > 1:
        raise UserError(f"The splits of {name} differ in the shape or type of images.")
    labels = {s: _labels(y, f"the {s} split of {name}") for s, (_, y) in pairs.items()}
    classes = max(int(y.max()) for y in labels.values()) + 1
    lacking = _gap(labels["train"])
    if lacking < classes or classes < 2:
        lacking = f"class {lacking} of {classes}" if lacking < classes else "a second class"
        raise UserError(
            f"The training split of {name} has no image of {lacking}; number the classes "
            "from 0 without gaps and give each some images."
        )
    given = {split: (parts[split], labels[split]) for split in parts}
    splits = three(given["train"], given.get("validation"), given.get("test"))
    if _gap(splits.y_train) < classes:
        raise UserError(
            "Without the images that its other splits hold too, the training split of "
            f"{name} has none of class {_gap(splits.y_train)}."
        )
    named, note = tuple(map(str, range(classes))), _note(given, splits)
    return Opened(splits, white["train"], named, note, {"source": name})


def _note(given: Mapping[str, Pair], splits: Splits) -> str:
    made = {
        frozenset({"train"}): "60 / 20 / 20, stratified, by content and seed 0",
        frozenset({"train", "test"}): "test as given; validation is one sixth of the "
        "training split as given, stratified, by content and seed 0",
        frozenset({"train", "validation"}): "validation as given; test is one fifth of the "
        "training split as given, stratified, by content and seed 0",
        frozenset({"train", "validation", "test"}): "as given",
    }
    before = sum(len(y) for _, y in given.values())
    dropped = before - sum(len(y) for _, y in splits.pairs().values())
    note = made[frozenset(given)]
    if dropped:
        note += f"; {dropped} images that two splits shared were dropped from one"
    return note


def _images(x: np.ndarray, where: str) -> np.ndarray:
    """Returns images as ``[n, H, W, C]``, integers as they are and floats as float32."""
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise UserError(
            f"The images of {where} have the shape {list(x.shape)}; they must be [n, H, W] "
            "or [n, H, W, C]."
        )
    if x.ndim == 4 and x.shape[3] > 4 and x.shape[1] in (1, 3, 4):
        raise UserError(
            f"The images of {where} have the shape {list(x.shape)}, channels first; "
            "use X.transpose(0, 2, 3, 1)."
        )
    x = x if x.ndim == 4 else x[..., None]
    if x.dtype == bool:
        return x.astype(np.uint8)
    return x.astype(np.float32) if np.issubdtype(x.dtype, np.floating) else x


def _white(x: np.ndarray, where: str, top: float | None) -> float:
    """Returns the brightness that becomes 1; refuses pixels outside [0, it]."""
    if x.dtype == bool:
        return 1.0
    whole = np.issubdtype(x.dtype, np.integer)
    if not whole and not np.issubdtype(x.dtype, np.floating):
        raise UserError(f"The images of {where} are {x.dtype}, not numbers.")
    if not whole and not np.isfinite(x).all():
        raise UserError(f"The images of {where} hold NaN or infinite values.")
    low, high = float(x.min()), float(x.max())
    white = top or (255.0 if whole else 1.0)
    if low < 0 or high > white:
        raise UserError(
            f"The images of {where} lie in [{low:g}, {high:g}], not in [0, {white:g}]; "
            "rescale them, or store the brightness of white as an array 'top'."
        )
    if whole and top is None and high < DIMMEST:
        raise UserError(
            f"The brightest pixel of {where} is {high:g} of 255; store the brightness of "
            "white as an array 'top', or floats in [0, 1]."
        )
    return white


def _same_length(x: np.ndarray, y: np.ndarray, where: str) -> None:
    if y.ndim != 1 or len(y) != len(x):
        raise UserError(
            f"The labels of {where} have the shape {list(y.shape)}; one for each of the "
            f"{len(x):,} images is needed."
        )


def _labels(y: np.ndarray, where: str) -> np.ndarray:
    numeric = np.issubdtype(y.dtype, np.integer) or np.issubdtype(y.dtype, np.floating)
    if not numeric or not np.isfinite(y).all() or (y != np.rint(y)).any():
        raise UserError(
            f"The labels of {where} are {y.dtype} and not all whole numbers; number the "
            "classes from 0."
        )
    if y.min() < 0 or y.max() >= 2**31:
        raise UserError(
            f"The labels of {where} lie in [{y.min():g}, {y.max():g}]; number the classes "
            "from 0 without gaps."
        )
    return y.astype(np.int32)


def _gap(y: np.ndarray) -> int:
    """Returns the lowest class without an image."""
    present = np.append(np.unique(y), -1)
    return int(np.argmax(present != np.arange(len(present))))


def _top(value: np.ndarray | None, path: Path) -> float | None:
    if value is None:
        return None
    good = value.size == 1 and np.issubdtype(value.dtype, np.number)
    if not good or not np.isfinite(value).all() or value.reshape(()) <= 0:
        raise UserError(f"The array 'top' of {path} must be one positive number.")
    return float(value.reshape(()))
