"""Copies of channels that leave a network's function as it is: Net2WiderNet.

Every new channel copies a random old one, and the weights that read a channel are divided
among its copies. Reference: Chen, Goodfellow and Shlens, Net2Net, ICLR 2016. There the
copies read equal shares and noise is added to tell them apart, which changes the function
a little; here the shares themselves are random and sum to one, so the function is exact up
to rounding and the copies still receive different gradients.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

NOISE = 0.5
"""How far the shares of two copies differ: each is drawn from 1 +- NOISE, then divided by
the sum."""


def origins(
    drawn: Float[Array, "n"], width: int | Array, wanted: int | Array
) -> Int[Array, "n"]:
    """Returns the channel that each of ``n`` channels copies.

    Channels below ``width`` and from ``wanted`` on are their own; those between copy one
    below ``width``: ``drawn``, uniform in [0, 1), says which. The widths may be traced.
    """
    place = jnp.arange(drawn.shape[0], dtype=jnp.int32)
    copy = jnp.minimum((drawn * width).astype(jnp.int32), width - 1)
    return jnp.where((place >= width) & (place < wanted), copy, place).astype(jnp.int32)


def shares(
    drawn: Float[Array, "n outputs"], origin: Int[Array, "n"]
) -> Float[Array, "n outputs"]:
    """Returns the share of a weight that each copy takes; those of one origin sum to one.

    Exactly one where an origin has one copy; ``drawn`` is uniform in [0, 1).
    """
    weight = 1.0 + NOISE * (2.0 * drawn - 1.0)
    total = jnp.zeros_like(weight).at[origin].add(weight)
    return weight / total[origin]


def copied(
    layer: Mapping[str, Array | np.ndarray], goes: Int[Array, "n"]
) -> dict[str, Array]:
    """Returns a layer that treats each channel by itself, its channels copied.

    Args:
        layer: arrays whose last axis is the channels, such as those of batch norm.
        goes: channel that each new one copies.
    """
    return {leaf: jnp.asarray(value)[..., goes] for leaf, value in layer.items()}


def mixed(
    drawn: Float[Array, "n m"],
    layer: Mapping[str, Array | np.ndarray],
    came: Int[Array, "n"],
    goes: Int[Array, "m"],
) -> dict[str, Array]:
    """Returns a convolution or a dense layer whose inputs and outputs were copied.

    Args:
        drawn: uniform in [0, 1), of the shares.
        layer: ``kernel`` ``[..., in, out]`` and, where there is one, ``bias`` ``[out]``.
        came: channel that each new input copies.
        goes: channel that each new output copies.
    """
    kernel = jnp.asarray(layer["kernel"])[..., came, :][..., goes] * shares(drawn, came)
    rest = {leaf: value for leaf, value in layer.items() if leaf != "kernel"}
    return {"kernel": kernel, **copied(rest, goes)}
