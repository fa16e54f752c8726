"""What a kernel compares of two architectures: tokens, paths through the graph, summaries.

Every view is a row of numbers of one length, from the tokens alone or from the graph, so
that any space has all three.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxnas.core import tokens as tk
from jaxnas.core.rng import root_key
from jaxnas.core.space import Passing, SearchSpace
from jaxnas.surrogates.features import operations_inside, roles

COLUMNS = 128
"""Most columns of path counts; they decide how long the sequences are."""
SAMPLES = 2048
"""Architectures looked at for the scales of a space's summaries."""


class View(NamedTuple):
    """The three views of an architecture, or of many."""

    tokens: Float[Array, "*b T"]
    """One-hot tokens, ``L V`` columns."""
    paths: Float[Array, "*b S"]
    """Square roots of how often each sequence of operations leads from input to output."""
    summary: Float[Array, "*b Z"]
    """Counts of operations, of paths and their lengths; standardised over the space."""


@dataclass(frozen=True)
class Views:
    """A frozen, hashable function from tokens to :class:`View`.

    A sequence is that of the last operations of a path, at most as many as give
    ``COLUMNS`` columns, operations that pass their input on unchanged left out; a path
    through a missing edge is none. Path encodings: White, Neiswanger and Savani 2021,
    "BANANAS"; without the passing operations two networks of which one only has a skip
    more in a row look alike.

    Args:
        space: whose architectures they are.
    """

    space: SearchSpace

    def __call__(self, tokens: Int[Array, "L"]) -> View:
        """Returns the views of one architecture."""
        operations, mean, scale = _facts(self.space)
        hot = jax.nn.one_hot(tokens, self.space.vocab, dtype=jnp.float32).reshape(-1)
        paths, summary = _raw(self.space, operations, tokens)
        return View(hot, jnp.sqrt(paths), (summary - mean) / scale)

    def all(self) -> View:
        """Returns the views of every member of an enumerable space, in its order."""
        return View(*map(jnp.asarray, _all(self.space)))


def _raw(
    space: SearchSpace, operations: tuple[int, ...], tokens: Int[Array, "L"]
) -> tuple[Float[Array, "S"], Float[Array, "Z"]]:
    """Returns counts of sequences, and summaries before they are standardised."""
    graph = space.to_graph(tokens)
    passing = _passing(space)
    real = tuple(op for op in operations if op not in passing)
    order, columns = _sequences(len(real))
    slots = jnp.asarray(operations, jnp.int32)
    source, inner, sink = roles(graph)
    counts = jnp.sum((graph.ops[:, None] == slots) & inner[:, None], 0, dtype=jnp.float32)
    # Taking an operation in moves each sequence's count to that of the longer one: a
    # product with a matrix of the operation.
    taking = jax.nn.one_hot(_taking(len(real), order), columns, dtype=jnp.float32)
    kinds = jnp.asarray(real, jnp.int32)
    wired = graph.adjacency & graph.present[:, None] & graph.present[None]
    begin = jnp.zeros(columns, jnp.float32).at[0].set(1.0)

    def visit(carry: tuple[Array, Array], node: Int[Array, ""]) -> tuple:
        reached, depth = carry
        before = wired[:, node].astype(jnp.float32)
        arriving = before @ reached
        arriving = jnp.where(source[node], begin, arriving)
        is_kind = ((kinds == graph.ops[node]) & inner[node]).astype(jnp.float32)
        taken = jnp.einsum("k,s,kst->t", is_kind, arriving, taking)
        real_op = jnp.sum(is_kind)
        leaving = taken + (1 - real_op) * arriving
        longest = jnp.max(jnp.where(before > 0, depth, 0.0)) + real_op
        return (reached.at[node].set(leaving), depth.at[node].set(longest)), None

    n = graph.ops.shape[0]
    start = (jnp.zeros((n, columns), jnp.float32), jnp.zeros(n, jnp.float32))
    nodes = jnp.arange(n, dtype=jnp.int32)
    (reached, depth), _ = jax.lax.scan(visit, start, nodes)
    paths = jnp.sum(jnp.where(sink[:, None], reached, 0.0), axis=0)
    deep = jnp.max(jnp.where(sink, depth, 0.0))
    total = jnp.sum(paths)
    more = jnp.stack([jnp.log1p(total), deep, (paths[0] > 0).astype(jnp.float32)])
    return paths, jnp.concatenate([counts, more])


def _passing(space: SearchSpace) -> tuple[int, ...]:
    return cast(Passing, space).passing_ops if isinstance(space, Passing) else ()


def _sequences(kinds: int) -> tuple[int, int]:
    """Returns the length of the longest sequences and how many sequences there are."""
    order = 1
    size = lambda n: sum(kinds**i for i in range(n + 1))
    while kinds > 1 and order < 4 and size(order + 1) <= COLUMNS:
        order += 1
    return order, size(order)


def _taking(kinds: int, order: int) -> Int[np.ndarray, "K S"]:
    """Returns the sequence that each becomes when an operation is put behind it."""
    of_length = lambda n: itertools.product(range(kinds), repeat=n)
    every = [row for n in range(order + 1) for row in of_length(n)]
    number = {row: i for i, row in enumerate(every)}
    rows = [[number[(*row, kind)[-order:]] for row in every] for kind in range(kinds)]
    return np.array(rows, np.int32).reshape(kinds, len(every))


@functools.lru_cache(maxsize=32)
def _facts(space: SearchSpace) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Returns the operations of a space, and mean and scale of its summaries."""
    with jax.ensure_compile_time_eval():
        rows = tk.draw(space, jax.random.split(root_key(0), SAMPLES))
        operations, _ = operations_inside(space)
        raw = jax.jit(jax.vmap(functools.partial(_raw, space, operations)))(rows)[1]
        raw = np.asarray(raw)
    scale = np.where(raw.std(0) > 0, raw.std(0), 1.0)
    return operations, raw.mean(0), scale.astype(np.float32)


@functools.lru_cache(maxsize=8)
def _all(space: SearchSpace) -> tuple[np.ndarray, ...]:
    """Returns the views of every member, computed outside the program that asks."""
    with jax.ensure_compile_time_eval():
        members = jnp.asarray(tk.enumerate_space(space))
        found = jax.jit(jax.vmap(Views(space)))(members)
        return tuple(np.asarray(view) for view in found)
