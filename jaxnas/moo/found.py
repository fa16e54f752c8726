"""What finished searches found of several objectives; host side, NumPy in and out.

Objectives are in natural units here; ``goals`` say which direction is better.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxnas.core.errors import UserError
from jaxnas.core.types import Objective
from jaxnas.moo.hypervolume import check_number, hypervolume, hypervolume_after
from jaxnas.moo.pareto import nondominated, signs

Goals = Sequence[Objective]


def front(objectives: Float[np.ndarray, "n M"], goals: Goals) -> Bool[np.ndarray, "n"]:
    """Returns which rows no other dominates; rows that are not finite are none."""
    return nondominated(objectives * signs(goals))


def checked_reference(reference: Sequence[float | int], goals: Goals) -> np.ndarray:
    """Returns a reference point as an array.

    Raises:
        UserError: not one finite number for each objective.
    """
    point = np.asarray(reference, np.float64)
    if point.shape != (len(goals),) or not np.isfinite(point).all():
        names = ", ".join(goal.name for goal in goals)
        raise UserError(
            f"The reference needs a finite number for each of {names}, got "
            f"{', '.join(map(str, reference))}."
        )
    return point


def nadir(fronts: Sequence[np.ndarray], goals: Goals) -> np.ndarray:
    """Returns the worst value, ``[M]``, on any of some fronts, each ``[k, M]``.

    NaN where all are empty.
    """
    every = np.concatenate([np.zeros((0, len(goals))), *fronts]) * signs(goals)
    worst = every.min(axis=0) if len(every) else np.full(len(goals), np.nan)
    return worst * signs(goals)


def volume(
    objectives: Float[np.ndarray, "n M"], goals: Goals, reference: Float[np.ndarray, "M"]
) -> float:
    """Returns the hypervolume of some points; UserError for more than three objectives."""
    check_number(len(goals))
    signed = (objectives * signs(goals))[front(objectives, goals)]
    if not len(signed):
        return 0.0
    point = jnp.asarray(reference * signs(goals), jnp.float32)
    return float(hypervolume(jnp.asarray(signed, jnp.float32), point))


def volumes_after(
    objectives: Float[np.ndarray, "P Q M"],
    allowed: Bool[np.ndarray, "P Q"],
    goals: Goals,
    reference: Float[np.ndarray, "M"],
    places: Int[np.ndarray, "k"],
) -> Float[np.ndarray, "P k"]:
    """Returns the hypervolume of what each controller found in its first queries.

    Args:
        objectives: of its queries in order.
        allowed: which of them count: successful and feasible.
        goals: the objectives.
        reference: in natural units.
        places: numbers of queries.

    Raises:
        UserError: more than three objectives.
    """
    check_number(len(goals))
    args = objectives * signs(goals), reference * signs(goals)
    points, point = (jnp.asarray(a, jnp.float32) for a in args)
    places = np.asarray(places, np.int32)
    return np.asarray(_program()(points, jnp.asarray(allowed), point, jnp.asarray(places)))


@functools.cache
def _program() -> Any:
    """Returns the compiled curves, one controller after the other."""

    def curves(points: Any, allowed: Any, point: Any, places: Any) -> Any:
        one = lambda item: hypervolume_after(item[0], point, places, item[1])
        return jax.lax.map(one, (points, allowed))

    return jax.jit(curves)
