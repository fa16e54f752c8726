"""Domination, fronts and crowding of points whose every coordinate is better when larger.

Everything but :func:`nondominated` is pure and works under ``jit`` and ``vmap``. A point
that is masked out, or has a coordinate that is not finite, is *absent*: it dominates
nothing, nothing dominates it, and its rank is the number of points.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxnas.core.types import Objective


def signs(objectives: Sequence[Objective]) -> Float[np.ndarray, "M"]:
    """Returns +1 for each objective that is maximised, -1 for each that is minimised."""
    return np.array([1.0 if o.maximise else -1.0 for o in objectives], np.float32)


def present(
    points: Float[Array, "n M"],
    violation: Float[Array, "n"] | None = None,
    mask: Bool[Array, "n"] | None = None,
) -> Bool[Array, "n"]:
    """Returns which points take part: all coordinates and the violation are finite."""
    there = jnp.all(jnp.isfinite(points), axis=-1)
    if violation is not None:
        there &= jnp.isfinite(violation)
    return there if mask is None else there & mask


def dominates(
    points: Float[Array, "n M"],
    violation: Float[Array, "n"] | None = None,
    mask: Bool[Array, "n"] | None = None,
) -> Bool[Array, "n n"]:
    """Returns whether the point of a row dominates the point of a column.

    A point dominates another when it is at least as good in every coordinate and better in
    one; equal points do not dominate each other. With a ``violation`` (0 where every
    constraint holds) less violation comes first, and coordinates decide between feasible
    points only (Deb et al. 2002, definition 1).

    Args:
        points: greater is better.
        violation: how far constraints are broken; all hold when None.
        mask: which points there are; all when None.
    """
    there = present(points, violation, mask)
    left, right = points[:, None], points[None]
    better = jnp.all(left >= right, axis=-1) & jnp.any(left > right, axis=-1)
    if violation is not None:
        broken = jnp.maximum(violation, 0.0)
        met = broken == 0
        less = broken[:, None] < broken[None]
        better = less | (met[:, None] & met[None] & better)
    return better & there[:, None] & there[None]


def ranks(dominated: Bool[Array, "n n"], there: Bool[Array, "n"]) -> Int[Array, "n"]:
    """Returns the front of each point: 0 the non-dominated, 1 those of the rest, ...

    Args:
        dominated: what :func:`dominates` returned.
        there: what :func:`present` returned; the others have rank ``n``.
    """
    size = there.shape[0]

    def peel(
        carry: tuple[Int[Array, "n"], Bool[Array, "n"], Int[Array, ""]],
    ) -> tuple[Int[Array, "n"], Bool[Array, "n"], Int[Array, ""]]:
        rank, left, level = carry
        front = left & ~jnp.any(dominated & left[:, None], axis=0)
        return jnp.where(front, level, rank), left & ~front, level + 1

    start = (jnp.full(size, size, jnp.int32), there, jnp.int32(0))
    return jax.lax.while_loop(lambda carry: jnp.any(carry[1]), peel, start)[0]


def crowding(points: Float[Array, "n M"], rank: Int[Array, "n"]) -> Float[Array, "n"]:
    """Returns the crowding distance of each point within its front (Deb et al. 2002).

    The sum over coordinates of the gap between a point's neighbours, as a share of the
    front's range: infinite at the ends of a coordinate. A coordinate in which a whole front
    is equal counts for nothing, and absent points (rank ``n``) have 0.
    """
    size = points.shape[0]
    there = rank < size
    safe = jnp.where(there[:, None], points, 0.0)

    def along(value: Float[Array, "n"]) -> Float[Array, "n"]:
        order = jnp.lexsort((value, rank))
        level, sorted_ = rank[order], value[order]
        same = level[1:] == level[:-1]
        edge = jnp.zeros(1, bool)
        inner = jnp.concatenate([edge, same]) & jnp.concatenate([same, edge])
        gap = jnp.roll(sorted_, -1) - jnp.roll(sorted_, 1)
        most = jax.ops.segment_max(value, rank, size + 1)[rank]
        least = jax.ops.segment_min(value, rank, size + 1)[rank]
        span = (most - least)[order]
        share = jnp.where(inner, gap / jnp.where(span > 0, span, 1.0), jnp.inf)
        return jnp.zeros_like(value).at[order].set(jnp.where(span > 0, share, 0.0))

    total = jnp.sum(jax.vmap(along, in_axes=1)(safe), axis=0)
    return jnp.where(there, total, 0.0)


def nondominated(table: Float[np.ndarray, "n M"]) -> Bool[np.ndarray, "n"]:
    """Returns which rows no other dominates, on the host; equal rows stay together.

    Rows that are not finite are on no front. The rows left after a front point is taken
    are looked at once for each front point, so the work is O(n k) for a front of k.
    """
    keep = np.zeros(len(table), bool)
    left = np.flatnonzero(np.isfinite(table).all(axis=1))
    left = left[np.lexsort(-table[left].T[::-1])]
    while len(left):
        best, rest = table[left[0]], table[left]
        equal = (rest == best).all(axis=1)
        keep[left[equal]] = True
        left = left[(rest > best).any(axis=1)]
    return keep
