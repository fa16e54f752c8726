"""The best trade-offs seen so far, as arrays of fixed size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnas.moo.pareto import crowding, dominates, present


class Archive(NamedTuple):
    """Architectures of which none dominates another, in no order."""

    tokens: Int[Array, "C L"]
    objectives: Float[Array, "C M"]
    """Greater is better; NaN where the slot is empty."""
    violation: Float[Array, "C"]
    filled: Bool[Array, "C"]


def empty(capacity: int, length: int, num_objectives: int) -> Archive:
    """Returns an archive with room for ``capacity`` architectures of ``length`` tokens."""
    return Archive(
        jnp.zeros((capacity, length), jnp.int32),
        jnp.full((capacity, num_objectives), jnp.nan, jnp.float32),
        jnp.zeros(capacity, jnp.float32),
        jnp.zeros(capacity, bool),
    )


def insert(
    archive: Archive,
    tokens: Int[Array, "B L"],
    objectives: Float[Array, "B M"],
    violation: Float[Array, "B"],
    mask: Bool[Array, "B"],
) -> Archive:
    """Returns the archive with what a batch adds to it.

    What is dominated leaves (:func:`jaxnas.moo.pareto.dominates` with violations: until
    something is feasible the least infeasible is kept). An architecture that is there
    already, or earlier in the batch, stays as it is. Beyond the capacity the most crowded
    leaves, one after the other.

    Args:
        archive: what was there.
        tokens: architectures.
        objectives: greater is better; a row that is not finite is ignored.
        violation: 0 where every constraint holds.
        mask: which lanes count.
    """
    joined = Archive(
        jnp.concatenate([archive.tokens, tokens.astype(jnp.int32)]),
        jnp.concatenate([archive.objectives, objectives]),
        jnp.concatenate([archive.violation, violation]),
        jnp.concatenate([archive.filled, mask]),
    )
    there = present(joined.objectives, joined.violation, joined.filled)
    there &= ~_repeated(joined.tokens, there)
    beaten = dominates(joined.objectives, joined.violation, there)
    keep = there & ~jnp.any(beaten, axis=0)
    capacity = archive.filled.shape[0]

    def thin(keep: Bool[Array, "n"]) -> Bool[Array, "n"]:
        rank = jnp.where(keep, 0, keep.shape[0])
        room = crowding(joined.objectives, rank)
        crowded = keep & (room == jnp.min(jnp.where(keep, room, jnp.inf)))
        last = keep.shape[0] - 1 - jnp.argmax(crowded[::-1])  # of equals the latest leaves
        return keep.at[last].set(False)

    keep = jax.lax.while_loop(lambda k: jnp.sum(k) > capacity, thin, keep)
    order = jnp.argsort(~keep, stable=True)[:capacity]
    found = jax.tree.map(lambda leaf: leaf[order], joined)
    kept = keep[order]
    return Archive(
        found.tokens,
        jnp.where(kept[:, None], found.objectives, jnp.nan),
        jnp.where(kept, found.violation, 0.0),
        kept,
    )


def _repeated(tokens: Int[Array, "n L"], there: Bool[Array, "n"]) -> Bool[Array, "n"]:
    """Returns which rows equal an earlier one that is there."""
    order = jnp.arange(tokens.shape[0], dtype=jnp.int32)
    same = jnp.all(tokens[:, None] == tokens[None], axis=-1)
    return jnp.any(same & there[None] & (order[None] < order[:, None]), axis=1)
