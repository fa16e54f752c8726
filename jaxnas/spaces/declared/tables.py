"""The counts of a space as arrays that a compiled program looks things up in."""

from typing import NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.spaces.declared.counting import Counts
from jaxnas.spaces.declared.decisions import Layout

LARGEST = 2**22
"""Entries of a table over all slots."""


class Tables(NamedTuple):
    """Rows of all slots, one for each way to fill the slots that it depends on.

    The row of slot ``t`` is ``first[t] + steps[t] @ tokens``; ``steps[t]`` is zero from
    ``t`` on.
    """

    first: np.ndarray  # int32 [L]
    steps: np.ndarray | None
    """int32 [L, L]; None where no slot depends on another."""
    legal: np.ndarray  # bool [rows, V]
    shares: np.ndarray  # float32 [rows, V]: of the architectures behind each token


def make_tables(layout: Layout, counts: Counts) -> Tables:
    """Returns the tables of a space.

    Raises:
        UserError: they would be too large.
    """
    slots = layout.slots
    length, vocab = len(slots), max(max(slot.size for slot in slots), 2)
    first, steps = np.zeros(length, np.int32), np.zeros((length, length), np.int32)
    rows = [bucket.counts.size // bucket.counts.shape[-1] for bucket in counts.buckets]
    if sum(rows) * vocab > LARGEST:
        raise UserError(
            f"The space needs a table of {sum(rows)} x {vocab} entries, more than "
            f"{LARGEST}; let fewer decisions depend on each other."
        )
    first[1:] = np.cumsum(rows)[:-1]
    legal = np.zeros((sum(rows), vocab), bool)
    shares = np.zeros((sum(rows), vocab), np.float32)
    for t, bucket in enumerate(counts.buckets):
        *sizes, tokens = bucket.counts.shape
        step = 1
        for parent, size in zip(bucket.parents[::-1], sizes[::-1], strict=True):
            steps[t, parent] = step
            step *= size
        table = bucket.counts.reshape(-1, tokens)
        totals = table.sum(axis=1)
        # Rows that no architecture reaches; any token will do, so that none is empty.
        table = np.where((totals > 0)[:, None], table, np.eye(1, tokens, dtype=int))
        totals = np.where(totals > 0, totals, 1)
        where = slice(first[t], first[t] + len(table)), slice(0, tokens)
        legal[where] = table > 0
        shares[where] = (table / totals[:, None]).astype(np.float64)
    return Tables(first, steps if steps.any() else None, legal, shares)
