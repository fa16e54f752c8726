"""Text tasks: three splits of labelled texts as ids, and where they come from.

A search sees the validation split; only a report sees the test split. Words are known by
the training split alone. Rows are ordered and cut by content as images are
(:mod:`jaxnas.data.splits`): equal texts fall on one side.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import psutil

from jaxnas.core.errors import UserError
from jaxnas.data.formats.npz import content_checksum
from jaxnas.data.recipes import Recipe
from jaxnas.data.splits import FRACTIONS, Splits, first_rows, split
from jaxnas.data.texts.words import (
    CUTS,
    UNKNOWN,
    Reading,
    encode,
    fitting_length,
    most_frequent,
)

NAMES = ("train", "validation", "test")


class TextData(NamedTuple):
    """A task: texts as ids in three splits that share no text."""

    name: str
    """What it was loaded by, with its options and ``limit`` where given."""
    x_train: np.ndarray
    """``float32[n, T]``: ids of words, 0 behind the end of a text, 1 for unknown ones."""
    y_train: np.ndarray
    """``int32[n]``, classes from 0."""
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    checksum: str
    """SHA-256 over the six arrays and the vocabulary."""
    vocabulary: tuple[str, ...]
    """The word of each id."""
    texts: Mapping[str, tuple[str, ...]]
    """The texts of each split, ``"train"``, ``"validation"`` and ``"test"``, by row."""

    @property
    def splits(self) -> Splits:
        """The six arrays alone."""
        return Splits(*self[1:7])


class OpenedTexts(NamedTuple):
    """What a name or a path stands for, before it is split and read."""

    texts: Sequence[str]
    labels: np.ndarray
    """``int32[n]``, classes from 0."""
    classes: tuple[str, ...]
    facts: dict[str, str]
    """Source, licence, citation: what is known of them."""


class TextSource(Protocol):
    """Where a task comes from. Made without arguments; reading waits for :meth:`read`."""

    recipe: Recipe
    """Files, checksums, licence, citation, homepage and the command that fetches it."""

    def read(self) -> tuple[Sequence[str], Sequence[str]]:
        """Returns texts and the label of each; UserError on a bad source."""
        ...


def opened(
    texts: Sequence[str], labels: Sequence[str], name: str, facts: dict[str, str]
) -> OpenedTexts:
    """Returns texts with classes numbered in the order of their names.

    Raises:
        UserError: one class, or one with fewer distinct texts than there are splits.
    """
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise UserError(
            f"{name} has one label, {classes[0]!r}; two or more are needed to learn from."
        )
    distinct = Counter(label for _, label in set(zip(texts, labels, strict=True)))
    for label, count in distinct.items():
        if count < len(NAMES):
            raise UserError(
                f"The label {label!r} of {name} has {count} distinct "
                f"text{'s' * (count > 1)}, and training, validation and test need one "
                "each; add some or leave the label out."
            )
    number = {label: i for i, label in enumerate(classes)}
    rows = np.array([number[label] for label in labels], np.int32)
    return OpenedTexts(texts, rows, tuple(classes), facts)


def finish(
    name: str, source: OpenedTexts, reading: Reading, limit: int | None = None
) -> TextData:
    """Returns the task split, limited and as ids.

    Raises:
        UserError: a bad limit or reading, or more ids than the memory holds.
    """
    reading.check()
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit} must be 1 or more.")
    num_classes = len(source.classes)
    parts = _split(source, reading.seed)
    if limit is not None:
        name += f",limit={limit}"
        for part, (texts, y) in parts.items():
            rows = first_rows(y, limit, num_classes, part, "text")
            parts[part] = ([texts[row] for row in rows], y[rows])
    cut = {
        part: list(map(CUTS[reading.tokens], texts)) for part, (texts, _) in parts.items()
    }
    length = reading.length or fitting_length(cut["train"], reading.tokens)
    _check_memory(sum(map(len, cut.values())), length)
    vocabulary = most_frequent(cut["train"], reading.vocabulary)
    arrays: list[np.ndarray] = []
    for part, (_, y) in parts.items():
        arrays += [encode(cut[part], vocabulary, length), y]
    for array in arrays:
        array.setflags(write=False)
    splits = Splits(*arrays)
    words = np.frombuffer("\n".join(vocabulary).encode(), np.uint8)
    checksum = content_checksum({**splits._asdict(), "vocabulary": words})
    plain = {part: tuple(texts) for part, (texts, _) in parts.items()}
    return TextData(name, *splits, num_classes, checksum, vocabulary, plain)


def coverage(data: TextData) -> dict[str, float]:
    """Returns the share of the ids of each split that are words of the vocabulary."""
    found = {}
    for part, (x, _) in data.splits.pairs().items():
        there = np.count_nonzero(x)
        found[part] = 1.0 - np.count_nonzero(x == UNKNOWN) / there
    return found


def _split(source: OpenedTexts, seed: int) -> dict[str, tuple[list[str], np.ndarray]]:
    """Returns texts and labels of each split, stratified, by content and a seed."""
    digests = [hashlib.sha256(text.encode()).digest() for text in source.texts]
    texts = dict(zip(digests, source.texts, strict=True))
    keys = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1)
    cut = split(keys, source.labels, FRACTIONS, seed, "text")
    return {
        part: ([texts[key.tobytes()] for key in rows], y)
        for part, (rows, y) in zip(NAMES, cut, strict=True)
    }


def _check_memory(count: int, length: int) -> None:
    need, free = 2 * 4 * count * length, psutil.virtual_memory().available
    if need > free / 2:
        raise UserError(
            f"{count:,} texts of {length:,} ids need {need / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free; use a smaller length or limit."
        )
