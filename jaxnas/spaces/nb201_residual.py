"""Residual NAS-Bench-201 cells: input and output always joined by a skip.

The 3,125 cells of :mod:`jaxnas.spaces.nb201` whose edge 1->4 is a skip, written with the
other five tokens (edges 1->2, 1->3, 2->3, 2->4, 3->4; operations as there). No cell is
disconnected, and they are 1,218 different networks: few enough to train all of them, which
is what the tables ``digits-cells`` and ``fashion-cells`` hold.
"""

import functools
import itertools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxnas.core.errors import UserError
from jaxnas.core.types import Graph, Spec
from jaxnas.spaces import nb201

SHORTCUT = nb201.EDGES.index((1, 4))
"""Place of the fixed edge among the six tokens of nb201."""
CONVOLUTIONS = (2, 3)  # tokens of operations that have weights


@dataclass(frozen=True)
class NB201Residual(nb201.NB201):
    """The NAS-Bench-201 cells with a shortcut from input to output: 3,125 architectures.

    Raises:
        UserError: a size that no network has.
    """

    @property
    def id(self) -> str:
        """Versioned name."""
        return "nb201-residual-v1"

    @property
    def length(self) -> int:
        """Number of searched edges."""
        return len(nb201.EDGES) - 1

    @property
    def decision_names(self) -> tuple[str, ...]:
        """Edges by their ends, the fixed one left out."""
        every = super().decision_names
        return every[:SHORTCUT] + every[SHORTCUT + 1 :]

    def classes(self) -> Int[np.ndarray, "3125"]:
        """Returns the network of every cell in lexicographic order: see :func:`classes`."""
        return classes()

    def to_graph(self, tokens: Int[Array, "L"]) -> Graph:
        """Returns the graph of the whole cell, as nb201 does."""
        return super().to_graph(jnp.insert(tokens, SHORTCUT, nb201.SKIP))

    def to_spec(self, tokens: np.ndarray) -> Spec:
        """Returns the whole network, as nb201 does."""
        return super().to_spec(whole(np.asarray(tokens)))

    def from_spec(self, spec: Spec) -> np.ndarray:
        """Returns the tokens that ``to_spec`` was given.

        Raises:
            UserError: not a spec of this space.
        """
        tokens = super().from_spec(spec)
        if tokens[SHORTCUT] != nb201.SKIP:
            raise UserError(
                f"The edge 1->4 of this spec is no skip, which {self.id} has there; use "
                "the space nb201."
            )
        return np.delete(tokens, SHORTCUT)


def whole(tokens: Int[np.ndarray, "*b 5"]) -> Int[np.ndarray, "*b 6"]:
    """Returns the six tokens of nb201."""
    return np.insert(tokens, SHORTCUT, nb201.SKIP, axis=-1)


@functools.cache
def classes() -> Int[np.ndarray, "3125"]:
    """Returns the number of each cell's network, by first appearance: 1,218 networks.

    Two cells are one network when some renaming of the convolutions that reach the output
    makes node 4 the same sum of the same terms. This is finer than
    :func:`jaxnas.spaces.nb201.equal_functions` (1,166 here), where a convolution that is
    used twice and two convolutions with weights of their own read the same.
    """
    at, fixed = SHORTCUT, (nb201.SKIP,)
    return nb201.numbered(lambda row: _network(row[:at] + fixed + row[at:]), length=5)


def _network(tokens: tuple[int, ...]) -> str:
    """Returns the first of all texts that renaming convolutions gives."""
    own = {place: f"#{place}" for place in range(len(tokens))}
    text = _text(tokens, own)
    used = [p for p, name in own.items() if tokens[p] in CONVOLUTIONS and name in text]
    orders = itertools.permutations(f"#{i}" for i in range(len(used)))
    return min(_text(tokens, dict(zip(used, order, strict=True))) for order in orders)


def _text(tokens: tuple[int, ...], names: dict[int, str]) -> str:
    """Returns node 4 as a sorted sum of terms, each convolution under its name."""
    terms: dict[int, tuple[str, ...]] = {1: ("0",)}
    for node in (2, 3, 4):
        found: list[str] = []
        for place, (source, target) in enumerate(nb201.EDGES):
            op, signal = tokens[place], terms.get(source, ())
            if target != node or op == nb201.NONE:
                continue
            if op == nb201.SKIP:
                found += signal
            elif signal:
                name = names.get(place, "") if op in CONVOLUTIONS else ""
                found.append(f"({'+'.join(signal)})@{op}{name}")
        terms[node] = tuple(sorted(found))
    return "+".join(terms[4])
