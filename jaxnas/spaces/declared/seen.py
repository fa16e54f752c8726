"""What predictors see of a document: numeric columns, and its choices as a graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxnas.spaces.declared.decisions import Layout
from jaxnas.spaces.declared.skips import skips

Column = tuple[str, int, tuple[float, ...]]
"""Name, slot, and value of each token."""


def columns(layout: Layout, vocab: int) -> list[Column]:
    """Returns numeric decisions as they are, and one column a choice of the others.

    A decision that can be without a value has a column for whether it has one.
    """
    found: list[Column] = []
    for place, slot in enumerate(layout.slots):
        pad = (0.0,) * (vocab - len(slot.choices))
        if all(isinstance(choice, int | float) for choice in slot.choices):
            numbers = tuple(float(choice) for choice in slot.choices)
            found.append((slot.name, place, numbers + pad))
        else:
            for i, choice in enumerate(slot.choices):
                one = tuple(float(i == j) for j in range(len(slot.choices)))
                found.append((f"{slot.name} = {choice}", place, one + pad))
        if slot.absent:
            there = (1.0,) * len(slot.choices) + pad
            found.append((f"{slot.name} present", place, there))
    return found


def nodes(
    layout: Layout, vocab: int
) -> tuple[Int[np.ndarray, "L V"], Int[np.ndarray, "E 4"]]:
    """Returns the operation id of each token of each slot, and the skips that can be drawn.

    An edge is (slot, token, from, to): there where the slot has the token.
    """
    edges = np.array(list(skips(layout.items)), np.int32).reshape(-1, 4)
    drawn = {int(slot) for slot in edges[:, 0]}
    known: dict[tuple[str, Any], int] = {}
    ids = np.zeros((len(layout.slots), vocab), np.int32)
    for place, slot in enumerate(layout.slots):
        for token, choice in enumerate(slot.choices if place not in drawn else ()):
            key = (slot.kind, repr(choice))
            ids[place, token] = known.setdefault(key, len(known) + 3)
    return ids, edges


def unreached(layout: Layout, counts: Sequence[Sequence[int]]) -> list[str]:
    """Returns a sentence for each decision or choice that no architecture has.

    Args:
        layout: the decisions.
        counts: of each slot, how many architectures have each choice.
    """
    kinds: dict[str, dict[str, int]] = {}
    for slot, row in zip(layout.slots, counts, strict=True):
        found = kinds.setdefault(slot.kind, {})
        for choice, n in zip(slot.choices, row):
            found[str(choice)] = found.get(str(choice), 0) + n
    texts = []
    for kind, row in kinds.items():
        never = [choice for choice, n in row.items() if n == 0]
        if len(never) == len(row):
            texts.append(f"The decision {kind!r} can never be reached.")
        else:
            texts += [f"{kind!r} can never be {choice!r}." for choice in never]
    return texts
