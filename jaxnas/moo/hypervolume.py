"""Exact hypervolume for up to three objectives, inside jit and with static shapes.

The hypervolume of a set is the volume that it dominates above a reference point; every
coordinate is better when larger. Points that do not exceed the reference in every
coordinate, or that are masked out or not finite, add nothing. Float32: relative errors are
about 1e-6.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnas.core.errors import UserError
from jaxnas.moo.pareto import present

MOST = 3
"""Objectives up to which the volume is exact."""


def check_number(objectives: int, most: int = MOST) -> None:
    """Raises a UserError for more objectives than a function here can do."""
    if not 1 <= objectives <= most:
        raise UserError(
            f"The hypervolume is computed for up to {most} objectives, got {objectives}; "
            "give the two or three that matter."
        )


def hypervolume(
    points: Float[Array, "n M"],
    reference: Float[Array, "M"],
    mask: Bool[Array, "n"] | None = None,
) -> Float[Array, ""]:
    """Returns the volume that the points dominate above the reference.

    Two objectives take O(n log n), three O(n^2) as a sum of slabs along the last one.

    Raises:
        UserError: more than three objectives.
    """
    check_number(points.shape[-1])
    above = _above(points, reference, mask)
    if points.shape[-1] == 1:
        return jnp.max(above, initial=0.0)
    if points.shape[-1] == 2:
        return _areas(above, jnp.zeros_like(above[:, 0]), jnp.zeros(1, above.dtype))[0]
    level = -jnp.sort(-above[:, 2])
    depth = level - jnp.append(level[1:], 0.0)
    return jnp.sum(_areas(above, above[:, 2], level) * depth)


def hypervolume_after(
    points: Float[Array, "n M"],
    reference: Float[Array, "M"],
    places: Int[Array, "k"],
    mask: Bool[Array, "n"] | None = None,
) -> Float[Array, "k"]:
    """Returns the hypervolume of the first ``places`` points, for each of them.

    Raises:
        UserError: more than three objectives.
    """
    check_number(points.shape[-1])
    order = jnp.arange(points.shape[0], dtype=jnp.int32)
    if points.shape[-1] == 2:
        above = _above(points, reference, mask)
        return _areas(above, -order, 1 - places)
    there = present(points, None, mask)
    one = lambda place: hypervolume(points, reference, there & (order < place))
    return jax.lax.map(one, places)


def contributions(
    points: Float[Array, "n M"],
    reference: Float[Array, "M"],
    mask: Bool[Array, "n"] | None = None,
) -> Float[Array, "n"]:
    """Returns what the hypervolume of the front loses without each of its points.

    Dominated points have 0 and are not counted when a front point is taken away; of equal
    points neither is missed.

    Raises:
        UserError: another number of objectives than two.
    """
    _check_two(points)
    above = _above(points, reference, mask)
    order = jnp.lexsort((-above[:, 1], -above[:, 0]))
    x, y = above[order].T
    before = jnp.concatenate([jnp.zeros(1, y.dtype), jax.lax.cummax(y)[:-1]])
    front = y > before
    after = jax.lax.cummax(jnp.where(front, x, 0.0), reverse=True)
    following = jnp.append(after[1:], 0.0)
    same = (x[1:] == x[:-1]) & (y[1:] == y[:-1])
    edge = jnp.zeros(1, bool)
    twin = jnp.concatenate([edge, same]) | jnp.concatenate([same, edge])
    alone = jnp.where(front & ~twin, (x - following) * (y - before), 0.0)
    return jnp.zeros_like(alone).at[order].set(alone)


class Strips(NamedTuple):
    """What two objectives leave undominated above a reference: disjoint vertical strips.

    Strip ``k`` is ``low <= x < high``, ``y > height``, from the last (``high`` infinite)
    to the first; strips of no width fill the shape.
    """

    low: Float[Array, "s"]
    high: Float[Array, "s"]
    height: Float[Array, "s"]


def strips(
    points: Float[Array, "n M"],
    reference: Float[Array, "M"],
    mask: Bool[Array, "n"] | None = None,
) -> Strips:
    """Returns the ``n + 1`` strips above the reference that no point dominates.

    Sums over them of one-dimensional integrals are exact improvements, of points
    (:func:`improvements`) or in expectation under independent normals.

    Raises:
        UserError: another number of objectives than two.
    """
    _check_two(points)
    above = _above(points, reference, mask)
    x, y = above[jnp.argsort(-above[:, 0])].T
    zero, endless = jnp.zeros(1, x.dtype), jnp.full(1, jnp.inf, x.dtype)
    low, high = jnp.concatenate([x, zero]), jnp.concatenate([endless, x])
    height = jnp.concatenate([zero, jax.lax.cummax(y)])
    return Strips(low + reference[0], high + reference[0], height + reference[1])


def improvements(candidates: Float[Array, "m 2"], left: Strips) -> Float[Array, "m"]:
    """Returns how much hypervolume each candidate alone would add to a set.

    Args:
        candidates: points; NaN adds nothing.
        left: what the set leaves, as :func:`strips` gives it.
    """
    x, y = candidates[:, :1], candidates[:, 1:]
    width = jnp.maximum(jnp.minimum(x, left.high) - left.low, 0.0)
    added = jnp.sum(width * jnp.maximum(y - left.height, 0.0), axis=1)
    return jnp.where(present(candidates), added, 0.0)


def _check_two(points: Float[Array, "n M"]) -> None:
    if points.shape[-1] != 2:
        raise UserError(
            "Contributions to a hypervolume are computed for two objectives, got "
            f"{points.shape[-1]}."
        )


def _above(
    points: Float[Array, "n M"],
    reference: Float[Array, "M"],
    mask: Bool[Array, "n"] | None,
) -> Float[Array, "n M"]:
    """Returns how far points exceed the reference; 0 everywhere unless in all of them."""
    there = present(points, None, mask)
    height = jnp.where(there[:, None], points - reference, 0.0)
    return jnp.where(jnp.all(height > 0, axis=1, keepdims=True), height, 0.0)


def _areas(above: Float[Array, "n M"], level: Array, at: Array) -> Float[Array, "k"]:
    """Returns, for each number of ``at``, the area of the points of at least that level."""
    order = jnp.argsort(-above[:, 0])
    x, y, level = above[order, 0], above[order, 1], level[order]
    width = x - jnp.append(x[1:], 0.0)
    height = jnp.where(level >= at[:, None], y, 0.0)
    return jnp.sum(jax.lax.cummax(height, axis=1) * width, axis=1)
