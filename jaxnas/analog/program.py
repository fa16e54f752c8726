"""Programming a network's tiles, and what they hold some time later."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxnas.analog import noise
from jaxnas.analog.config import Hyper, Scalar
from jaxnas.analog.device import drift_weight, program_weight, tile_maximum
from jaxnas.analog.layers import TileValues
from jaxnas.analog.plan import Plan
from jaxnas.analog.tile import read_weights
from jaxnas.analog.variables import check_converted, normalised, positive_range

SMALLEST_READOUT = 1e-4


class Programmed(NamedTuple):
    """A network's tiles right after programming: one chip."""

    weights: Float[Array, "P"]  # normalised net weights, tile after tile
    nu: Float[Array, "P"]  # drift exponent of the device that carries each weight
    largest: Float[Array, "K"]  # largest magnitude on each tile
    baseline: Float[Array, "K"]  # readout ``m_0`` that drift is compensated against


class Drifted(NamedTuple):
    """A network's tiles at one time after programming."""

    weights: Float[Array, "P"]
    alpha: Float[Array, "K"]  # global drift compensation of each tile


def program(
    key: Key[Array, ""],
    variables: PyTree,
    plan: Plan,
    hyper: Hyper,
    *,
    source: str = "counter",
) -> Programmed:
    """Returns one chip: programming noise, drift exponents and the readout baseline.

    The key decides all of it; normal numbers come from ``source``, ``"counter"`` or
    ``"threefry"``. Neither the variables nor a later call change.

    Raises:
        UserError: the variables are those of a digital network.
    """
    check_converted(variables)
    weights = normalised(plan, variables)
    tile_of = jnp.asarray(plan.tile_of)
    streams = noise.streams(key, 2)
    largest = tile_maximum(weights, tile_of, plan.num_tiles)
    draw = noise.normal(streams[0], (3, plan.num_weights), source)
    net, nu = program_weight(weights, largest[tile_of], draw, hyper.device)
    return Programmed(
        net,
        nu,
        tile_maximum(net, tile_of, plan.num_tiles),
        _readout(streams[1], net, plan, hyper, source),
    )


def drift(
    key: Key[Array, ""],
    programmed: Programmed,
    seconds: Scalar,
    plan: Plan,
    hyper: Hyper,
    *,
    source: str = "counter",
) -> Drifted:
    """Returns the chip ``seconds >= 0`` after programming, with its drift compensation.

        alpha = m_0 / m(t),  m = max(mean |noisy unit-vector readout|, 1e-4) over a tile

    Each time starts from the programmed state, not from the time before. The read noise is
    one draw, frozen for the whole evaluation. The source is that of :func:`program`.
    """
    tile_of = jnp.asarray(plan.tile_of)
    streams = noise.streams(key, 2)
    draw = noise.normal(streams[0], (plan.num_weights,), source)
    largest = programmed.largest[tile_of]
    weights = drift_weight(
        programmed.weights, programmed.nu, largest, seconds, draw, hyper.device
    )
    if plan.structure.compensation == "none":
        return Drifted(weights, jnp.ones(plan.num_tiles, jnp.float32))
    readout = _readout(streams[1], weights, plan, hyper, source)
    return Drifted(weights, programmed.baseline / readout)


def ideal(variables: PyTree, plan: Plan) -> Drifted:
    """Returns tiles that hold the network's weights exactly."""
    check_converted(variables)
    return Drifted(normalised(plan, variables), jnp.ones(plan.num_tiles, jnp.float32))


def tile_values(variables: PyTree, drifted: Drifted) -> TileValues:
    """Returns what a forward pass needs to know of the tiles."""
    learned = variables["analog"]
    return TileValues(
        drifted.weights,
        variables["tiles"].scale,
        drifted.alpha,
        positive_range(learned.input_range),
        learned.out_scale,
    )


def _readout(
    stream: Array, weights: Float[Array, "P"], plan: Plan, hyper: Hyper, source: str
) -> Float[Array, "K"]:
    """Returns the mean magnitude of each tile's noisy unit-vector readout."""
    normal = functools.partial(noise.normal, source=source)
    read = read_weights(weights, stream, normal, hyper.periphery)
    tile_of = jnp.asarray(plan.tile_of)
    sums = jax.ops.segment_sum(read, tile_of, plan.num_tiles, indices_are_sorted=True)
    sizes = jnp.asarray([t.rows * t.columns for t in plan.tiles], jnp.float32)
    return jnp.maximum(sums / sizes, SMALLEST_READOUT)
