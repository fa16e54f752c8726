"""One tile: DAC, product, noise, ADC (the "one pass" forward of aihwkit).

Two routes give the same numbers. The *folded* one keeps the framework's own convolution:
the image is converted once and the output is converted once. The *unfolded* one has each
input vector by itself, which abs-max noise management, bound management, read noise and
voltage drop need.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from jaxnas.analog.config import Periphery, Scalar, Structure

LINE_RATIO = 0.35 * 5e-6
"""Resistance of a line segment times the largest conductance: 0.35 ohm x 5 microsiemens."""
LARGEST_REDUCTION = 1000.0
"""Bound management gives up past this reduction of the input, or past the next one."""
LARGEST_LOSS = 0.25
"""Share of the input range that one DAC step may become before it gives up."""

Draw = Callable[[tuple[int, ...], int | Array], Float[Array, "..."]]
"""Standard normal numbers of a shape; the second argument tells draws of one call apart."""


class Converter(NamedTuple):
    """A DAC or ADC in units of its own steps."""

    step: Float[Array, ""]
    limit: Float[Array, ""]  # bound in steps
    exact: Bool[Array, ""]  # true where there is no rounding


def converter(res: Scalar, bound: Scalar) -> Converter:
    """Returns the converter of a resolution: ``step = 2 bound res``.

    ``res`` is the step over the whole range; above 1 it is the number of steps, and 0 or
    less does not round. ``bound`` is the largest magnitude.
    """
    res = jnp.asarray(res, jnp.float32)
    res = jnp.where(res > 1, 1 / jnp.maximum(res, 1), res)
    exact = res <= 0
    step = jnp.where(exact, 1.0, 2 * bound * res)
    return Converter(step, bound / step, exact)


def rounded(
    x: Float[Array, "..."], limit: Float[Array, ""], exact: Bool[Array, ""], straight: bool
) -> Float[Array, "..."]:
    """Returns ``clip(round(x), -limit, limit)`` in steps, half to even; unrounded if exact.

    Where ``straight``, the gradient passes as if nothing had been done.
    """
    done = jnp.clip(jnp.where(exact, x, jnp.round(x)), -limit, limit)
    return x + jax.lax.stop_gradient(done - x) if straight else done


def input_limit(dac: Converter, ranged: bool) -> Float[Array, ""]:
    """Returns the largest DAC output in steps; an input range also clips at 1 before it."""
    if not ranged:
        return dac.limit
    full = 1 / dac.step
    return jnp.minimum(dac.limit, jnp.where(dac.exact, full, jnp.round(full)))


def folded(
    x: Float[Array, "..."],
    weights: Float[Array, "O I"],
    product: Callable[[Array, Array], Array],
    b: Scalar,
    gain: Float[Array, "*O"],
    draw: Draw,
    periphery: Periphery,
    structure: Structure,
    straight: bool,
) -> Float[Array, "..."]:
    """Returns a tile's digital output for a whole image or batch of vectors.

        n = clip(round(x / (b D_in))),  m = clip(round((D_in/D_out) w n + noise / D_out)),
        output = m * D_out * b * gain

    ``product`` is the linear map of (input, normalised weights), ``b`` the input range and
    ``gain`` the digital scale times compensation, one number or one a column. Gradients
    pass the converters where ``straight``.
    """
    dac = converter(periphery.inp_res, periphery.inp_bound)
    adc = converter(periphery.out_res, periphery.out_bound)
    limit = input_limit(dac, structure.input_range)
    n = rounded(x * (1 / (b * dac.step)), limit, dac.exact, straight)
    y = product(n, weights * (dac.step / adc.step))
    y = y + draw(y.shape, 0) * (periphery.out_noise / adc.step)
    m = rounded(y, adc.limit, adc.exact, straight)
    return m * (adc.step * b * gain)


def unfolded(
    vectors: Float[Array, "*b I"],
    weights: Float[Array, "O I"],
    b: Scalar,
    gain: Float[Array, "*O"],
    draw: Draw,
    periphery: Periphery,
    structure: Structure,
    straight: bool,
) -> Float[Array, "*b O"]:
    """Returns a tile's digital output for input vectors; arguments as :func:`folded`.

    With abs-max noise management a vector is divided by its largest magnitude before the
    DAC and the output multiplied back. With iterative bound management each vector whose
    output clips is repeated at half the input (the toolkit's torch tile repeats the whole
    batch, its compiled tile each vector).
    """
    u = vectors / b
    if structure.input_range:
        clipped = jnp.clip(u, -1, 1)
        u = u + jax.lax.stop_gradient(clipped - u) if straight else clipped
    linear = u @ weights.T
    peak = jnp.ones((*u.shape[:-1], 1), jnp.float32)
    if structure.noise_management == "abs-max":
        peak = jnp.max(jnp.abs(u), axis=-1, keepdims=True)
        peak = jnp.where(peak > 0, peak, 1.0)
    y = _managed(u / peak, weights, draw, periphery, structure) * peak
    if straight:
        y = linear + jax.lax.stop_gradient(y - linear)
    return y * (b * gain)


def _managed(
    u: Float[Array, "*b I"],
    weights: Float[Array, "O I"],
    draw: Draw,
    periphery: Periphery,
    structure: Structure,
) -> Float[Array, "*b O"]:
    """Returns outputs, repeating at half the input where they clip if so asked."""
    y, clips = one_product(u, weights, draw, 0, periphery, structure)
    if structure.bound_management == "none":
        return y
    dac = converter(periphery.inp_res, periphery.inp_bound)
    loss = jnp.where(dac.exact, jnp.inf, LARGEST_LOSS / dac.step)
    last = jnp.minimum(LARGEST_REDUCTION, loss)

    def again(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        reduction, count, y, clips = carry
        reduction, count = 2 * reduction, count + 1
        fresh, still = one_product(
            u / reduction, weights, draw, count, periphery, structure
        )
        y = jnp.where(clips, fresh * reduction, y)
        return reduction, count, y, clips & still

    def unfinished(carry: tuple[Array, ...]) -> Array:
        reduction, _, _, clips = carry
        return jnp.any(clips) & (reduction <= last)

    start = (jnp.float32(1), jnp.int32(0), y, clips)
    return jax.lax.while_loop(unfinished, again, start)[2]


def one_product(
    u: Float[Array, "*b I"],
    weights: Float[Array, "O I"],
    draw: Draw,
    repeat: int | Array,
    periphery: Periphery,
    structure: Structure,
) -> tuple[Float[Array, "*b O"], Bool[Array, "*b 1"]]:
    """Returns the ADC's output for inputs in [-1, 1], and whether a vector's clips.

    Short-term read noise adds ``sigma_w sqrt(sum_j |w_ij| u_j^2) N(0,1)``; voltage drop
    subtracts ``ir c_i sum_j w_ij u_j (1 - (1 - j/n)^2)`` with ``c = a (0.5 - 0.2 a +
    0.05 a^2)``, ``a_i = n 0.35 5e-6 sum_j |w_ij| |u_j|``.
    """
    dac = converter(periphery.inp_res, periphery.inp_bound)
    adc = converter(periphery.out_res, periphery.out_bound)
    u = rounded(u / dac.step, dac.limit, dac.exact, False) * dac.step
    y = u @ weights.T
    size = weights.shape[1]
    if structure.ir_drop:
        a = (size * LINE_RATIO) * (jnp.abs(u) @ jnp.abs(weights).T)
        depth = 1 - (1 - jnp.arange(size, dtype=jnp.int32) / size) ** 2
        c = a * (0.5 - 0.2 * a + 0.05 * a**2)
        y = y - periphery.ir_drop * c * ((u * depth) @ weights.T)
    sigma = periphery.out_noise
    if structure.weight_noise:
        # Two independent normal numbers added are one of the summed variance.
        power = (u**2) @ jnp.abs(weights).T
        sigma = jnp.sqrt(sigma**2 + periphery.weight_noise**2 * power)
    y = y + sigma * draw(y.shape, repeat)
    steps = jnp.where(adc.exact, y / adc.step, jnp.round(y / adc.step))
    clips = jnp.any(jnp.abs(steps) > adc.limit, axis=-1, keepdims=True)
    return jnp.clip(steps, -adc.limit, adc.limit) * adc.step, clips


def read_weights(
    weights: Float[Array, "P"],
    stream: UInt32[Array, "2"],
    normal: Callable[[Array, tuple[int, ...]], Array],
    periphery: Periphery,
) -> Float[Array, "P"]:
    """Returns ``|output|`` for unit-vector inputs: each weight read once, with noise.

    No input range and no scales; each read is one weight, so it is elementwise.
    """
    dac = converter(periphery.inp_res, periphery.inp_bound)
    adc = converter(periphery.out_res, periphery.out_bound)
    unit = rounded(1 / dac.step, dac.limit, dac.exact, False) * dac.step
    y = weights * unit + periphery.out_noise * normal(stream, weights.shape)
    return jnp.abs(rounded(y / adc.step, adc.limit, adc.exact, False)) * adc.step
