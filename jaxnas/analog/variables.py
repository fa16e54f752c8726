"""What a network has besides its weights once it is on tiles, and how it gets there.

Variables of an analog network are flax variables with two collections more:

* ``analog``: what training learns besides ``params`` (:class:`Learned`);
* ``tiles``: what it keeps (:class:`TileState`).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnas.analog.config import Scalar
from jaxnas.analog.plan import Plan, flatten, largest_scale
from jaxnas.core.errors import UserError

FIRST_RANGE = 3.0  # input range of a tile before anything has set it


class Learned(NamedTuple):
    """Learned beside ``params``."""

    input_range: Float[Array, "K"]  # input range ``b`` of each tile
    out_scale: Float[Array, "C"]
    """Factor of each column of each tile; 1 unless ``Structure.out_scale``."""


class TileState(NamedTuple):
    """State of the tiles, not learned."""

    scale: Float[Array, "S"]  # digital scales ``s``: ``W = s w``
    seen: Float[Array, "K"]  # batches that each tile's input range was estimated from


def convert(
    plan: Plan, variables: PyTree, omega: Scalar = 1.0, input_range: Scalar = FIRST_RANGE
) -> dict[str, Any]:
    """Returns the variables of a trained digital network with those of its tiles.

    ``omega`` is the largest weight of a tile after scaling. The input range 3.0 is the
    toolkit's for a network that was never trained on tiles; ``calibrate`` sets better ones.
    """
    flat = flatten(plan, variables["params"])
    learned = Learned(
        jnp.full(plan.num_tiles, input_range, jnp.float32),
        jnp.ones(plan.num_columns, jnp.float32),
    )
    state = TileState(
        largest_scale(plan, flat, omega), jnp.zeros(plan.num_tiles, jnp.float32)
    )
    return {**variables, "analog": learned, "tiles": state}


def check_converted(variables: PyTree) -> None:
    """Raises ``UserError`` unless the variables carry those of tiles."""
    if "analog" not in variables or "tiles" not in variables:
        raise UserError(
            "These variables are those of a digital network; put it on tiles with "
            "convert(plan, variables) first."
        )


def flax_variables(variables: PyTree) -> dict[str, Any]:
    """Returns only what the flax module itself knows."""
    return {k: v for k, v in variables.items() if k not in ("analog", "tiles")}


def normalised(plan: Plan, variables: PyTree) -> Float[Array, "P"]:
    """Returns the tile weights ``w = W / s``, tile after tile."""
    scale = variables["tiles"].scale
    return flatten(plan, variables["params"]) / scale[jnp.asarray(plan.scale_of)]


def positive_range(b: Float[Array, "K"]) -> Float[Array, "K"]:
    """Returns usable input ranges: magnitudes, at least 1e-7."""
    return jnp.maximum(jnp.abs(b), 1e-7)
