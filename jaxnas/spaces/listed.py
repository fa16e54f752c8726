"""A space whose architectures are the rows of a list, and nothing else."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxnas.core import trie as tr
from jaxnas.core.errors import UserError
from jaxnas.core.naming import flat_dict, flat_tokens
from jaxnas.core.space import Value
from jaxnas.core.types import Graph, Spec
from jaxnas.spaces import spec as sp


@dataclass(frozen=True)
class Listed:
    """Exactly the architectures of a list, such as the rows of a table of results.

    Args:
        name: of the space.
        decisions: name and values of each.
        data: tokens of all rows, ``int16[n, L]`` as bytes, in lexicographic order, all
            different; use :func:`listed`.
    """

    name: str
    decisions: tuple[tuple[str, tuple[Value, ...]], ...]
    data: bytes

    @property
    def id(self) -> str:
        """Name and a digest of names, values and rows: another list, another space."""
        return f"{self.name}-v1-{_digest(self)}"

    @property
    def length(self) -> int:
        """Number of decisions."""
        return len(self.decisions)

    @property
    def vocab(self) -> int:
        """Most values of a decision."""
        return max(2, *(len(values) for _, values in self.decisions))

    @property
    def decision_names(self) -> tuple[str, ...]:
        """Name of each decision."""
        return tuple(name for name, _ in self.decisions)

    @property
    def decision_values(self) -> tuple[tuple[Value, ...], ...]:
        """What each token of each decision stands for."""
        return tuple(values for _, values in self.decisions)

    @property
    def has_network(self) -> bool:
        """Nothing is known of networks."""
        return False

    @property
    def rows(self) -> Int[np.ndarray, "n L"]:
        """All architectures in lexicographic order."""
        flat = np.frombuffer(self.data, np.int16).astype(np.int32)
        return flat.reshape(-1, self.length)

    def count(self) -> int:
        """Returns the number of rows."""
        return len(self.data) // (2 * self.length)

    def mask(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Bool[Array, "V"]:
        """Returns the tokens that some row has after ``tokens[:t]``."""
        trie, _ = _prefixes(self)
        at = tr.walk(trie, tokens, t)
        # After what is no row's beginning any token will do, so that none is left without.
        return (jnp.asarray(trie.steps)[jnp.maximum(at, 0)] >= 0) | (at < 0)

    def completions(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Float[Array, "V"]:
        """Returns the share of the rows after ``tokens[:t]`` behind each token."""
        trie, shares = _prefixes(self)
        return jnp.asarray(shares)[jnp.maximum(tr.walk(trie, tokens, t), 0)]

    def canonical(self, tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        """Returns the tokens: nothing is known of equal rows."""
        return jnp.asarray(tokens, jnp.int32)

    def to_graph(self, tokens: Int[Array, "L"]) -> Graph:
        """Returns the decisions as a chain, ``N = L + 2``: input (1), choices, output (2).

        Each value of each decision has an operation id of its own.
        """
        places = jnp.arange(self.length, dtype=jnp.int32)
        ends = jnp.ones(1, jnp.int32)
        ops = jnp.concatenate([ends, 3 + places * self.vocab + tokens, 2 * ends])
        adjacency = jnp.eye(self.length + 2, k=1, dtype=bool)
        present = jnp.ones(self.length + 2, bool)
        return Graph(ops.astype(jnp.int32), adjacency, present)

    def to_dict(self, tokens: np.ndarray) -> dict[str, Any]:
        """Returns the value of each decision by name; those without one are left out."""
        return flat_dict(self, tokens)

    def from_dict(self, values: Mapping[str, Any]) -> Int[np.ndarray, "L"]:
        """Returns the tokens of a dict that ``to_dict`` could have given.

        Raises:
            UserError: unknown names or values, or no row.
        """
        return flat_tokens(self, values)

    def to_spec(self, tokens: np.ndarray) -> Spec:
        """Returns what was decided, of a format that nothing can build."""
        return sp.choices(self, self.to_dict(tokens))

    def from_spec(self, spec: Spec) -> Int[np.ndarray, "L"]:
        """Returns the tokens that ``to_spec`` was given.

        Raises:
            UserError: not a spec of this space.
        """
        if spec.get("space") != self.id or spec.get("format") != sp.CHOICES:
            raise UserError(
                f"This spec is of space {spec.get('space')!r}, not of {self.id!r}."
            )
        return self.from_dict(spec.get("choices", {}))


def listed(
    name: str,
    decisions: tuple[tuple[str, tuple[Value, ...]], ...],
    rows: Int[np.ndarray, "n L"],
) -> Listed:
    """Returns the space of some rows, in any order, repeated or not.

    Raises:
        UserError: no rows, or a single one.
    """
    distinct = np.unique(np.asarray(rows, np.int16), axis=0)
    if len(distinct) < 2:
        raise UserError(f"The space {name!r} has {len(distinct)} rows; two are needed.")
    return Listed(name, decisions, np.ascontiguousarray(distinct).tobytes())


@functools.lru_cache(maxsize=16)
def _digest(space: Listed) -> str:
    text = repr((space.name, space.decisions)).encode() + space.data
    return hashlib.sha256(text).hexdigest()[:8]


@functools.lru_cache(maxsize=16)
def _prefixes(space: Listed) -> tuple[tr.Trie, Float[np.ndarray, "S V"]]:
    """Returns the prefixes of the rows and the share of rows behind each step."""
    rows = space.rows
    trie = tr.build(rows, space.vocab)
    counts = np.zeros(trie.first + len(rows), np.int64)
    at = np.zeros(len(rows), np.int64)
    for t in range(space.length):
        np.add.at(counts, at, 1)
        at = trie.steps[at, rows[:, t]]
    counts[trie.first :] = 1
    behind = np.where(trie.steps >= 0, counts[trie.steps], 0)
    shares = behind / behind.sum(axis=1, keepdims=True)
    return trie, shares.astype(np.float32)
