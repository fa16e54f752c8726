"""Token vectors looked up in a set of them: a table of steps from prefix to prefix."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxnas.core.errors import UserError

LARGEST = 2**26
"""Entries of a table of steps: 256 MiB."""


class Trie(NamedTuple):
    """Prefixes of sorted, distinct rows; prefix 0 is the empty one, the last are rows."""

    steps: Int[Array | np.ndarray, "S V"]
    """Prefix that a token leads to, -1 where no row goes on like that."""
    first: int | Int[Array, ""]
    """Prefix of row 0."""


def build(rows: Int[np.ndarray, "n L"], vocab: int) -> Trie:
    """Returns the prefixes of rows in lexicographic order, all different; host side.

    Raises:
        UserError: too many rows and positions to hold.
    """
    n, length = rows.shape
    at = np.zeros(n, np.int64)
    tables, offset = [], 1
    for t in range(length):
        parents = int(at.max()) + 1
        pairs, at = np.unique(at * vocab + rows[:, t], return_inverse=True)
        steps = np.full((parents, vocab), -1, np.int32)
        steps[pairs // vocab, pairs % vocab] = offset + np.arange(len(pairs))
        tables.append(steps)
        offset += len(pairs)
        if offset * vocab > LARGEST:
            raise UserError(
                f"{n} rows of {length} decisions are too many to look up; at most "
                f"{LARGEST // vocab} beginnings of rows can be held."
            )
    return Trie(np.concatenate(tables), offset - n)


def walk(trie: Trie, tokens: Int[Array, "L"], t: Int[Array, ""] | int) -> Int[Array, ""]:
    """Returns the prefix that ``tokens[:t]`` is, -1 where no row begins like that."""

    def step(at: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
        place, token = item
        known = (at >= 0) & (token >= 0) & (token < steps.shape[1])
        found = jnp.where(known, steps[jnp.maximum(at, 0), token], -1)
        return jnp.where(place < t, found, at), None

    steps = jnp.asarray(trie.steps)
    places = jnp.arange(tokens.shape[0], dtype=jnp.int32)
    at, _ = jax.lax.scan(step, jnp.int32(0), (places, tokens), unroll=8)
    return at


def find(trie: Trie, tokens: Int[Array, "L"]) -> Int[Array, ""]:
    """Returns the number of a row, -1 where it is none."""
    at = walk(trie, tokens, tokens.shape[0])
    return jnp.where(at >= 0, at - trie.first, -1)
