"""Image tasks: splits of real images, where they come from, and how they are scaled.

A search sees the validation split; only a report sees the test split. A source is a class
in a file of its own with the members of :class:`ImageSource`, and one line in the registry.
"""

from typing import NamedTuple, Protocol

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.formats.npz import content_checksum
from jaxnas.data.recipes import Arrays, Recipe, load
from jaxnas.data.splits import Splits, block_sums, drop_shared, first_rows


class ImageData(NamedTuple):
    """A task: images in three splits that share no image."""

    name: str
    """What it was loaded by, with ``size`` and ``limit`` where given."""
    x_train: np.ndarray
    """``float32[n, H, W, C]`` in [0, 1], channels last; rows in an order set by content."""
    y_train: np.ndarray
    """``int32[n]``, classes from 0."""
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    checksum: str
    """SHA-256 over the six arrays: names, types, shapes and values."""

    @property
    def splits(self) -> Splits:
        """The six arrays alone."""
        return Splits(*self[1:7])


class ImageSource(Protocol):
    """Where a task comes from. Made without arguments; reading waits for :meth:`read`."""

    recipe: Recipe
    """Files, checksums, licence, citation, homepage and the command that installs it."""
    classes: tuple[str, ...]
    top: int
    """The brightness that becomes 1."""
    note: str
    """How the splits came about."""

    def read(self) -> Splits:
        """Returns counts of brightness, integers in [0, top]; UserError on a bad source."""
        ...


class Packaged:
    """Images that a package ships; the arrays of the recipe are the six of the splits."""

    recipe: Recipe

    def read(self) -> Splits:
        """Returns the splits, verified; see :class:`ImageSource`."""
        return Splits(**load(self.recipe))


class Opened(NamedTuple):
    """What a name or a path stands for, before it is cut; see :class:`ImageSource`."""

    splits: Splits
    """Counts of brightness, integers or float32, in [0, top]."""
    top: float
    classes: tuple[str, ...]
    note: str
    facts: dict[str, str]
    """Source, version, licence, checksum, citation: what is known of them."""


def pack(splits: Splits) -> Arrays:
    """Returns splits as the arrays of a recipe."""
    return splits._asdict()


def finish(
    name: str, opened: Opened, size: int | None = None, limit: int | None = None
) -> ImageData:
    """Returns the task cut, reduced, divided by its top; UserError on bad size or limit."""
    splits, num_classes = opened.splits, len(opened.classes)
    if limit is not None:
        if limit < 1:
            raise UserError(f"limit={limit} must be 1 or more.")
        name += f",limit={limit}"
        splits = _limited(splits, limit, num_classes)
    if size is not None:
        name += f",size={size}"
    made = {
        split: (_scaled(x, opened.top, size), np.ascontiguousarray(y, np.int32))
        for split, (x, y) in splits.pairs().items()
    }
    splits = Splits(*(a for pair in made.values() for a in pair))
    if size is not None:  # images that differed may be equal once reduced
        splits = drop_shared(splits)
    for array in splits:
        array.setflags(write=False)
    return ImageData(name, *splits, num_classes, content_checksum(pack(splits)))


def _limited(splits: Splits, limit: int, num_classes: int) -> Splits:
    parts = []
    for name, (x, y) in splits.pairs().items():
        rows = first_rows(y, limit, num_classes, name)
        parts += [x[rows], y[rows]]
    return Splits(*parts)


def _scaled(x: np.ndarray, top: float, size: int | None) -> np.ndarray:
    if size is not None:
        x, pixels = block_sums(x, size)
        top = top * pixels
    wide = np.float32 if x.dtype == np.uint8 else np.float64  # both round once
    return np.ascontiguousarray(np.divide(x, top, dtype=wide), np.float32)
