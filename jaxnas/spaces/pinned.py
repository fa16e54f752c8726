"""A space with some decisions fixed to one value, the meaning of its tokens unchanged."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.naming import decision_names, decision_values, token_of
from jaxnas.core.space import SearchSpace, Value
from jaxnas.core.types import Graph, Spec
from jaxnas.spaces.declare import Declared
from jaxnas.spaces.listed import Listed, listed


@dataclass(frozen=True)
class Pinned:
    """The architectures of a space that have the pinned values; see :func:`pinned`.

    Args:
        base: whose tokens, networks and names it has.
        rows: what is left of it.
    """

    base: SearchSpace
    rows: Listed

    @property
    def id(self) -> str:
        """The base's: the same tokens are the same architectures."""
        return self.base.id

    @property
    def length(self) -> int:
        """Number of decisions."""
        return self.base.length

    @property
    def vocab(self) -> int:
        """Most values of a decision of the base."""
        return self.base.vocab

    @property
    def decision_names(self) -> tuple[str, ...]:
        """Names of the base."""
        return decision_names(self.base)

    @property
    def decision_values(self) -> tuple[tuple[Value, ...], ...]:
        """Values of the base."""
        return decision_values(self.base)

    @property
    def has_network(self) -> bool:
        """As the base."""
        return getattr(self.base, "has_network", True)

    def count(self) -> int:
        """Returns the number of architectures that are left."""
        return self.rows.count()

    def mask(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Bool[Array, "V"]:
        """Returns the tokens of what is left after ``tokens[:t]``."""
        return self.rows.mask(tokens, t)

    def completions(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Float[Array, "V"]:
        """Returns the share of what is left behind each token."""
        return self.rows.completions(tokens, t)

    def canonical(self, tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        """Returns the tokens: the base's form may have other values at the pins."""
        return tokens

    def to_graph(self, tokens: Int[Array, "L"]) -> Graph:
        """Returns the base's graph."""
        return self.base.to_graph(tokens)

    def to_spec(self, tokens: np.ndarray) -> Spec:
        """Returns the base's network."""
        return self.base.to_spec(tokens)

    def from_spec(self, spec: Spec) -> Int[np.ndarray, "L"]:
        """Returns the tokens of a network.

        Raises:
            UserError: not a spec of the base, or not with the pinned values.
        """
        tokens = np.asarray(self.base.from_spec(spec), np.int32)
        if not (self.rows.rows == tokens).all(axis=1).any():
            raise UserError("This network does not have the pinned values.")
        return tokens


def pinned(space: SearchSpace, pins: Mapping[str, Any]) -> SearchSpace:
    """Returns a space in which some decisions have one value.

    Args:
        space: a declared space of any size, or another one that can be listed.
        pins: values by the names of decisions, such as ``{"edge12": "nor_conv_3x3"}``.

    Raises:
        UserError: an unknown name or value, nothing left, or a space too large to list.
    """
    if not pins:
        return space
    if isinstance(space, Declared):
        every = {**dict(space.pins), **pins}
        return dataclasses.replace(space, pins=tuple(sorted(every.items())))
    size = tk.count(space)
    if size is None or size > tk.ENUMERABLE:
        raise UserError(
            f"The decisions of {space.id!r} cannot be pinned: it has more than "
            f"{tk.ENUMERABLE:,} architectures; use the options that restrict it."
        )
    names, values = decision_names(space), decision_values(space)
    members = tk.enumerate_space(space)
    for name, value in pins.items():
        if name not in names:
            raise unknown_name("decision", name, names)
        place = names.index(name)
        members = members[members[:, place] == token_of(name, values[place], value)]
    if len(members) < 2:
        raise UserError(
            f"With {dict(pins)} the space {space.id!r} has {len(members)} architectures; "
            "two are needed."
        )
    widest = max(len(choices) for choices in values)
    if widest < space.vocab:  # rows are looked up in the base's vocabulary
        values = ((*values[0], *(None,) * (space.vocab - len(values[0]))), *values[1:])
    decisions = tuple(zip(names, values, strict=True))
    return Pinned(space, listed("pinned", decisions, members))
