"""Train, validation and test rows, decided by what the images hold and a written seed.

Rows are ordered by the SHA-256 of seed and pixels, so the order of a file decides nothing,
and equal images stand together: they always fall on one side. Inside a class the ordered
images are cut at fixed fractions (stratified).
"""

import hashlib
from typing import NamedTuple

import numpy as np

from jaxnas.core.errors import UserError

SEED = 0
"""Part of every key; another seed is another split, and another checksum."""
FRACTIONS = (0.6, 0.2, 0.2)
"""Train, validation and test where a source names none of them."""


Pair = tuple[np.ndarray, np.ndarray]
"""Images ``[n, H, W, C]`` and their classes ``int32[n]``."""


class Splits(NamedTuple):
    """Images and labels of the three splits."""

    x_train: np.ndarray
    """``[n, H, W, C]``, of one dtype in all splits: counts of brightness or float32."""
    y_train: np.ndarray
    """``int32[n]``, classes from 0."""
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    def pairs(self) -> dict[str, Pair]:
        """Returns images and labels by the name of the split."""
        return {
            "train": (self.x_train, self.y_train),
            "validation": (self.x_val, self.y_val),
            "test": (self.x_test, self.y_test),
        }


def keys(x: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Returns ``S64[n]``: the SHA-256 in hexadecimal of seed, type, shape and pixels."""
    x = np.ascontiguousarray(x)
    start = hashlib.sha256(f"{seed}|{x.dtype.str}|{x.shape[1:]}|".encode())
    found = []
    for image in x:
        digest = start.copy()
        digest.update(image.tobytes())
        found.append(digest.hexdigest())
    return np.array(found, "S64")


def split(
    x: np.ndarray,
    y: np.ndarray,
    fractions: tuple[float, ...] = FRACTIONS,
    seed: int = SEED,
    noun: str = "image",
) -> list[Pair]:
    """Returns the rows in as many stratified parts as there are fractions, which sum to 1.

    Equal images count once and stay together; where their labels differ, the lowest
    decides in which class they are counted. In each class of m distinct images a part but
    the first gets ``max(1, round(m * fraction))``, and the first what is left. ``noun`` is
    what they are called in messages.

    Raises:
        UserError: a class with fewer distinct images than parts.
    """
    key = keys(x, seed)
    distinct, group = np.unique(key, return_inverse=True)
    label = np.full(len(distinct), np.iinfo(np.int64).max)
    np.minimum.at(label, group, y)
    side = np.zeros(len(distinct), np.int64)
    for value in np.unique(label):
        members = np.flatnonzero(label == value)
        counts = [max(1, round(len(members) * f)) for f in fractions[1:]]
        first = len(members) - sum(counts)
        if first < 1:
            raise UserError(
                f"Class {value} has {len(members)} distinct {noun}s, but each of the "
                f"{len(fractions)} splits needs at least one; add {noun}s of this class or "
                "leave the class out."
            )
        side[members] = np.repeat(np.arange(len(fractions)), [first, *counts])
    order = np.lexsort((y, key))
    of_row = side[group][order]
    return [
        (x[order[of_row == part]], y[order[of_row == part]].astype(np.int32))
        for part in range(len(fractions))
    ]


def three(train: Pair, validation: Pair | None = None, test: Pair | None = None) -> Splits:
    """Returns three splits from what a source gives, cutting those that it does not.

    With neither validation nor test the rows are cut 60 / 20 / 20. A test split that is
    given stays as it is; a missing validation split is then one sixth of the training rows
    without the test images, and a missing test split one fifth.

    Raises:
        UserError: a class with too few images to be cut.
    """
    if validation is None and test is None:
        return Splits(*(a for part in split(*train) for a in part))
    if test is None:
        assert validation is not None
        train, test = split(*without(*train, validation[0]), (0.8, 0.2))
    elif validation is None:
        train, validation = split(*without(*train, test[0]), (5 / 6, 1 / 6))
    assert validation is not None
    parts = [_ordered(*part) for part in (train, validation, test)]
    return drop_shared(Splits(*(a for part in parts for a in part)))


def _ordered(x: np.ndarray, y: np.ndarray) -> Pair:
    order = np.lexsort((y, keys(x)))
    return x[order], y[order].astype(np.int32)


def without(x: np.ndarray, y: np.ndarray, others: np.ndarray) -> Pair:
    """Returns the rows whose image is not among others."""
    unique = ~np.isin(keys(x), keys(others))
    return x[unique], y[unique]


def drop_shared(splits: Splits) -> Splits:
    """Returns splits without an image in common: test keeps it, then validation."""
    validation = without(splits.x_val, splits.y_val, splits.x_test)
    seen = np.concatenate([validation[0], splits.x_test])
    train = without(splits.x_train, splits.y_train, seen)
    return Splits(*train, *validation, splits.x_test, splits.y_test)


def shared(splits: Splits) -> dict[str, int]:
    """Returns how many rows of one split show an image of another, by pair of names."""
    key = {name: keys(x) for name, (x, _) in splits.pairs().items()}
    names = list(key)
    return {
        f"{a} in {b}": int(np.isin(key[a], key[b]).sum())
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }


def first_rows(
    y: np.ndarray, limit: int, num_classes: int, name: str, noun: str = "image"
) -> np.ndarray:
    """Returns the places of at most ``limit`` rows with the class shares of all.

    Row r of the m rows of its class has the rank (r + 1/2) / m, and the lowest ranks are
    taken: a larger limit holds every row of a smaller one.

    Raises:
        UserError: so few rows that some class would be missing.
    """
    rank, counts = np.empty(len(y)), np.bincount(y, minlength=num_classes)
    for value in range(num_classes):
        members = np.flatnonzero(y == value)
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    order = np.argsort(rank, kind="stable")
    taken = np.sort(order[:limit])
    missing = np.setdiff1d(np.flatnonzero(counts), y[taken])
    if len(missing):
        place = {int(v): int(np.argmax(y[order] == v)) for v in missing}
        raise UserError(
            f"limit={limit} leaves no {noun} of class {missing[0]} in the {name} split; "
            f"use limit={max(place.values()) + 1} or more."
        )
    return taken


def block_sums(x: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Returns images ``[n, S, S, C]`` of side ``size``, and how many pixels each sum holds.

    An axis of H pixels is padded with zeros, evenly (the odd one at the end), to the next
    multiple of ``size``, and cut into blocks: 28 to 8 is 32 in blocks of 4. Integers stay
    integers, floats become float64.

    Raises:
        UserError: a size that is not between 1 and the images' own.
    """
    n, height, width, channels = x.shape
    if not 1 <= size <= min(height, width):
        raise UserError(
            f"size={size} must be between 1 and {min(height, width)}, as the images are "
            f"{height} x {width} and are only ever reduced."
        )
    wide = np.int64 if np.issubdtype(x.dtype, np.integer) else np.float64
    factors = [-(-side // size) for side in (height, width)]
    extra = [f * size - side for f, side in zip(factors, (height, width))]
    pads = [(0, 0), *((e // 2, e - e // 2) for e in extra), (0, 0)]
    blocks = np.pad(x, pads).reshape(n, size, factors[0], size, factors[1], channels)
    return blocks.sum(axis=(2, 4), dtype=wide), factors[0] * factors[1]
