"""Phase-change memory: programming noise, drift and read noise of conductances.

Pure functions over arrays of any shape; conductances in microsiemens, times in seconds.
The fits are those of Nandakumar et al., ICECS 2019, as aihwkit uses them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnas.analog.config import Device, Scalar

Cells = Float[Array, "*n"]  # a number for each cell, pair or weight
SMALLEST = 1e-7  # floor of a tile's largest weight and of a relative conductance


def to_conductance(weights: Cells, largest: Cells, device: Device) -> tuple[Cells, Cells]:
    """Returns the conductances of the pair of a normalised weight; one of the two is zero.

        k = g_max / max|w|,  g+ = clip(k w, 0, g_max),  g- = clip(-k w, 0, g_max)

    with ``largest = max|w|`` over the tile that each weight is in.
    """
    k = device.g_max / jnp.maximum(largest, SMALLEST)
    scaled = weights * k
    return jnp.clip(scaled, 0, device.g_max), jnp.clip(-scaled, 0, device.g_max)


def to_weight(plus: Cells, minus: Cells, largest: Cells, device: Device) -> Cells:
    """Returns the net weight of a pair, ``(g+ - g-) / k``."""
    return (plus - minus) * (jnp.maximum(largest, SMALLEST) / device.g_max)


def programmed_conductance(target: Cells, normal: Cells, device: Device) -> Cells:
    """Returns a conductance just after programming.

        sigma(r) = c0 + c1 r + c2 r^2,  g = max(0, g_target + sigma * N(0,1))

    with ``r = g_target / g_max``, also where the target is zero.
    """
    r = target / device.g_max
    sigma = device.c_0 + r * (device.c_1 + r * device.c_2)
    sigma = sigma * (device.programming_scale * device.g_max / device.g_reference)
    return jnp.maximum(target + sigma * normal, 0.0)


def drift_exponent(target: Cells, normal: Cells, device: Device) -> Cells:
    """Returns the drift exponent nu, drawn once when the cell is programmed.

    l = ln(max(r, 1e-7)),  mu = clip(0.0244 - 0.0155 l, 0.049, 0.1),
    sd = clip(-0.0059 - 0.0125 l, 0.008, 0.045),  nu = |mu + sd * N(0,1)|
    """
    log_r = jnp.log(jnp.maximum(target / device.g_max, SMALLEST))
    mean = jnp.clip(0.0244 - 0.0155 * log_r, 0.049, 0.1)
    spread = jnp.clip(-0.0059 - 0.0125 * log_r, 0.008, 0.045)
    return jnp.abs(mean + spread * normal) * device.drift_scale


def drifted_conductance(
    conductance: Cells, nu: Cells, seconds: Scalar, normal: Cells, device: Device
) -> Cells:
    """Returns a conductance ``seconds >= 0`` after programming, with 1/f read noise.

        T = t + t_0,  g_d = g (T / t_0)^-nu,
        Q = min(0.0088 / max(r^0.65, 1e-3), 0.2),  r = g / g_max,
        g_T = max(0, g_d + g_d Q sqrt(ln((T + t_read) / (2 t_read))) * N(0,1))

    At ``t = 0`` there is read noise and no drift. One draw of the normal numbers is frozen
    for a whole evaluation.
    """
    time = jnp.asarray(seconds, jnp.float32) + device.t_0
    drifted = conductance * jnp.exp(-nu * jnp.log(time / device.t_0))
    r = conductance / device.g_max
    # r^0.65 by logarithm; the floor of r keeps the power below its own floor of 1e-3.
    power = jnp.exp(0.65 * jnp.log(jnp.maximum(r, SMALLEST)))
    q = jnp.minimum(0.0088 / jnp.maximum(power, 1e-3), 0.2)
    spread = jnp.sqrt(jnp.log((time + device.t_read) / (2 * device.t_read)))
    sigma = drifted * q * (spread * device.read_scale)
    return jnp.maximum(drifted + sigma * normal, 0.0)


def program_weight(
    weights: Cells, largest: Cells, normal: Float[Array, "3 *n"], device: Device
) -> tuple[Cells, Cells]:
    """Returns the net weight of a programmed pair and the exponent that it will drift with.

    Of a pair only the device that carries the net weight is ever read again, because the
    model keeps net weights and maps them to conductances anew at each drift. So one
    exponent a pair is drawn, from the target of that device: the weight's own, or zero
    where the noise has turned the sign. This is the same distribution as drawing two.
    The rows of ``normal`` are for g+, g- and nu.
    """
    plus, minus = to_conductance(weights, largest, device)
    net = to_weight(
        programmed_conductance(plus, normal[0], device),
        programmed_conductance(minus, normal[1], device),
        largest,
        device,
    )
    carrier = jnp.where(net > 0, plus, minus)
    return net, drift_exponent(carrier, normal[2], device)


def drift_weight(
    programmed: Cells,
    nu: Cells,
    largest: Cells,
    seconds: Scalar,
    normal: Cells,
    device: Device,
) -> Cells:
    """Returns the net weight of a pair ``seconds >= 0`` after programming.

    The programmed net weights are mapped to conductances again, with ``k`` from the
    ``largest`` *programmed* weight of the tile, so one device of each pair is zero and
    stays zero. ``nu`` is the drift exponent of the device that carries each weight.
    """
    plus, minus = to_conductance(jnp.abs(programmed), largest, device)
    magnitude = drifted_conductance(plus, nu, seconds, normal, device)
    return jnp.sign(programmed) * to_weight(magnitude, minus, largest, device)


def tile_maximum(
    values: Float[Array, "n"], tile_of: Array, num_tiles: int
) -> Float[Array, "K"]:
    """Returns the largest magnitude in each tile; ``tile_of`` must be sorted."""
    return jax.ops.segment_max(jnp.abs(values), tile_of, num_tiles, indices_are_sorted=True)
