"""What a surrogate sees of an architecture: one row of numbers, always of one length.

An encoder is a frozen, hashable function of one token vector. It codes an architecture by
itself and never by its neighbours in a batch, so a single row and a row of a batch cannot
differ. (The original coded categories by their order within the frame it was given: a frame
of one row coded every category 0, and the block type vanished from its reward.)
"""

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.rng import root_key
from jaxnas.core.space import Featured, SearchSpace
from jaxnas.core.types import Graph

KINDS = ("one-hot", "numeric", "graph")
SAMPLES = 4096
"""Architectures looked at for the operations of a space too large to enumerate."""
MAX_OPERATIONS = 16
"""Most operations of a graph encoder, whose columns are mostly pairs of them."""


@runtime_checkable
class Encoder(Protocol):
    """A frozen, hashable function from tokens to features."""

    @property
    def space(self) -> SearchSpace:
        """Whose architectures it encodes."""
        ...

    @property
    def id(self) -> str:
        """Versioned name; bump it when a feature changes."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """One name a feature, ``F`` of them."""
        ...

    def __call__(self, tokens: Int[Array, "L"]) -> Float[Array, "F"]:
        """Returns the features of one architecture."""
        ...


@dataclass(frozen=True)
class OneHot:
    """One column for each value of each token: nothing is assumed, nothing is shared."""

    space: SearchSpace
    id = "one-hot-v1"

    @property
    def names(self) -> tuple[str, ...]:
        """``token 0 = 0``, ``token 0 = 1``, ..., ``L V`` of them."""
        places = [(t, v) for t in range(self.space.length) for v in range(self.space.vocab)]
        return tuple(f"token {t} = {v}" for t, v in places)

    def __call__(self, tokens: Int[Array, "L"]) -> Float[Array, "F"]:
        """Returns 1 in the column of each token's value, 0 elsewhere."""
        return jax.nn.one_hot(tokens, self.space.vocab, dtype=jnp.float32).reshape(-1)


@dataclass(frozen=True)
class Numeric:
    """The space's own features, in its own units.

    Args:
        space: with features of its own.
        start: subtracted from each feature, for models that count categories from 0;
            nothing when empty.

    Raises:
        UserError: the space has none.
    """

    space: SearchSpace
    start: tuple[float, ...] = ()
    id = "numeric-v1"

    def __post_init__(self) -> None:
        if not isinstance(self.space, Featured):
            raise UserError(
                f"The space {self.space.id!r} has no numeric features of its own; use "
                "--features graph or one-hot."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The space's names."""
        return cast(Featured, self.space).feature_names

    def __call__(self, tokens: Int[Array, "L"]) -> Float[Array, "F"]:
        """Returns the space's features as 32-bit floats."""
        numbers = cast(Featured, self.space).features(tokens).astype(jnp.float32)
        return numbers - jnp.asarray(self.start, jnp.float32) if self.start else numbers


@dataclass(frozen=True)
class GraphCounts:
    """Counts over the graph of the canonical architecture: equal for isomorphic ones.

    With ``a`` and ``b`` operations of nodes that have something before and behind them:

        count a       nodes of operation a
        first a       those that the input feeds;  last a  those that feed the output
        pair a>b      edges from an a to a b
        path a        paths input-a-output;  path a>b  paths input-a-b-output
        paths         log(1 + number of paths from input to output)
        depth         nodes on the longest path
        connected     1 where there is a path

    On nb201 these 51 numbers tell all 5,390 isomorphism classes apart. Use
    :func:`make_encoder`, which finds the operations.

    Args:
        space: whose graphs they are.
        operations: operation ids with a column of their own.
        rest: whether one more column pools all other operations.

    Raises:
        UserError: too many operations for counts of their pairs.
    """

    space: SearchSpace
    operations: tuple[int, ...]
    rest: bool = False
    id = "graph-v1"

    def __post_init__(self) -> None:
        if len(self.operations) + self.rest > MAX_OPERATIONS:
            raise UserError(
                f"Graphs of {self.space.id!r} have {len(self.operations)} operations and "
                f"graph features are for at most {MAX_OPERATIONS}; use --features numeric "
                "or one-hot."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns; operations by their id in the graph."""
        ops = [str(op) for op in self.operations] + ["rest"] * self.rest
        two = [f"{a}>{b}" for a in ops for b in ops]
        single = [f"{kind} {op}" for kind in ("count", "first", "last") for op in ops]
        double = [f"pair {ab}" for ab in two]
        whole = [f"path {op}" for op in ops] + [f"path {ab}" for ab in two]
        return (*single, *double, *whole, "paths", "depth", "connected")

    def __call__(self, tokens: Int[Array, "L"]) -> Float[Array, "F"]:
        """Returns the counts of one architecture."""
        graph = self.space.to_graph(self.space.canonical(tokens))
        wired = graph.adjacency.astype(jnp.float32)
        source, inner, sink = roles(graph)
        op = self._columns(graph, inner)
        first = (source.astype(jnp.float32) @ wired)[:, None] * op
        last = (wired @ sink.astype(jnp.float32))[:, None] * op
        paths, depth = _paths(wired, source, sink)
        parts = (
            op.sum(0),
            first.sum(0),
            last.sum(0),
            (op.T @ wired @ op).reshape(-1),
            jnp.sum(first * last, axis=0),
            (first.T @ wired @ last).reshape(-1),
            jnp.stack([jnp.log1p(paths), depth, (paths > 0).astype(jnp.float32)]),
        )
        return jnp.concatenate(parts)

    def _columns(self, graph: Graph, inner: Bool[Array, "N"]) -> Float[Array, "N O"]:
        is_op = graph.ops[:, None] == jnp.asarray(self.operations, jnp.int32)
        if self.rest:
            is_op = jnp.concatenate([is_op, ~is_op.any(1, keepdims=True)], axis=1)
        return (is_op & inner[:, None]).astype(jnp.float32)


def make_encoder(kind: str, space: SearchSpace) -> Encoder:
    """Returns an encoder of a space by kind, one of :data:`KINDS`.

    Raises:
        UserError: an unknown kind, or numeric features of a space that has none.
    """
    if kind not in KINDS:
        raise unknown_name("features", kind, KINDS)
    if kind == "one-hot":
        return OneHot(space)
    return (
        Numeric(space)
        if kind == "numeric"
        else GraphCounts(space, *operations_inside(space))
    )


def operations_inside(space: SearchSpace) -> tuple[tuple[int, ...], bool]:
    """Returns the operations of nodes inside a graph, and whether there may be more."""
    size = tk.count(space)
    whole = size is not None and size <= tk.ENUMERABLE
    if whole:
        rows = jnp.asarray(tk.enumerate_space(space))
    else:
        keys = jax.random.split(root_key(0), SAMPLES)
        rows = jax.jit(jax.vmap(lambda key: tk.sample(key, space)))(keys)

    def inside(row: Int[Array, "L"]) -> Int[Array, "N"]:
        graph = space.to_graph(space.canonical(row))
        return jnp.where(roles(graph)[1], graph.ops, 0)

    found = np.unique(jax.jit(jax.vmap(inside))(rows))
    return tuple(int(op) for op in found if op != 0), not whole


def roles(graph: Graph) -> tuple[Bool[Array, "N"], Bool[Array, "N"], Bool[Array, "N"]]:
    """Returns which nodes only feed (input), do both, and are only fed (output)."""
    fed = jnp.any(graph.adjacency, axis=0) & graph.present
    feeds = jnp.any(graph.adjacency, axis=1) & graph.present
    return feeds & ~fed, feeds & fed, fed & ~feeds


def _paths(
    wired: Float[Array, "N N"], source: Bool[Array, "N"], sink: Bool[Array, "N"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the number of paths and the inner nodes of the longest; nodes are sorted."""
    start = source.astype(jnp.float32)

    def visit(carry: PyTree, node: Int[Array, ""]) -> tuple[PyTree, None]:
        paths, longest = carry
        before = wired[:, node] * (paths > 0)
        paths = paths.at[node].add(before @ paths)
        step = jnp.max(jnp.where(before > 0, longest + 1, 0.0))
        return (paths, longest.at[node].max(step)), None

    nodes = jnp.arange(wired.shape[0], dtype=jnp.int32)
    (paths, longest), _ = jax.lax.scan(visit, (start, jnp.zeros_like(start)), nodes)
    depth = jnp.max(jnp.where(sink & (paths > 0), longest - 1, 0.0))
    return jnp.sum(jnp.where(sink, paths, 0.0)), depth
