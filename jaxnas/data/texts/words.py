"""Texts as ids: how they are cut into words or characters, and which of these are known."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxnas.core.errors import UserError, unknown_name

PADDING, UNKNOWN = 0, 1
"""Ids of what fills a text up behind its end, and of every word that is not known."""
SPECIAL = ("<padding>", "<unknown>")
MOST = {"words": 256, "characters": 1024}
"""Largest length that is chosen where none is given."""
HELD = 0.95
"""Share of the training texts that such a length holds whole."""


class Reading(NamedTuple):
    """How the rows of a source become ids; each may stand behind a path."""

    tokens: str = "words"
    """Or ``"characters"``."""
    vocabulary: int = 5000
    """Most ids: padding, unknown, and the most frequent words of the training split."""
    length: int | None = None
    """Ids of each text, longer ones are cut at the end; when None what holds 95 % of the
    training texts, at most 256 words or 1,024 characters."""
    seed: int = 0
    """Of the split."""
    text: str = ""
    """Name of the column of texts; guessed when empty."""
    label: str = ""
    """Name of the column of labels; guessed when empty."""

    def check(self) -> None:
        """Refuses what no text can be read with.

        Raises:
            UserError: a number out of range or an unknown kind of token.
        """
        if self.tokens not in CUTS:
            raise unknown_name("kind of tokens", self.tokens, CUTS)
        if self.vocabulary < 3:
            raise UserError(
                f"vocabulary={self.vocabulary} must be 3 or more: padding, unknown words "
                "and a known one."
            )
        if self.length is not None and self.length < 1:
            raise UserError(f"length={self.length} must be 1 or more.")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['\u2019]\w+)*|[^\w\s]", text.lower())


def _characters(text: str) -> list[str]:
    return list(" ".join(text.lower().split()))


CUTS: dict[str, Callable[[str], list[str]]] = {"words": _words, "characters": _characters}
"""Lower case; words keep their apostrophes and each other mark is a word of its own."""


def most_frequent(texts: Iterable[Sequence[str]], size: int) -> tuple[str, ...]:
    """Returns the word of each id: the special ones, then by falling frequency.

    Of words that are equally frequent the first in the alphabet comes first.
    """
    counts = Counter(word for words in texts for word in words)
    order = sorted(counts, key=lambda word: (-counts[word], word))
    return (*SPECIAL, *order[: size - len(SPECIAL)])


def fitting_length(texts: Sequence[Sequence[str]], tokens: str) -> int:
    """Returns the length that is used where none is given; see :class:`Reading`."""
    lengths = np.sort([len(words) for words in texts])
    held = int(lengths[int(np.ceil(HELD * len(lengths))) - 1])
    return min(held, MOST[tokens])


def encode(
    texts: Sequence[Sequence[str]], vocabulary: Sequence[str], length: int
) -> Float[np.ndarray, "n T"]:
    """Returns ids, whole numbers as float32, cut at and padded up to a length."""
    known = {word: i for i, word in enumerate(vocabulary) if i >= len(SPECIAL)}
    made = np.full((len(texts), length), PADDING, np.float32)
    for row, words in zip(made, texts, strict=True):
        ids = [known.get(word, UNKNOWN) for word in words[:length]]
        row[: len(ids)] = ids
    return made
