"""Initial weights that compile fast and never hang: orthogonal without LAPACK, normal.

XLA's CPU backend runs a batched QR (what ``flax.linen.initializers.orthogonal`` becomes
under ``vmap``) by blocking one of its pool threads until other pool threads have done the
parts. When every pool thread is such a blocked one, as with one device a core, nobody is
left to do them, and the program hangs for ever. Gram-Schmidt in plain array operations has
no such call.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


def normals(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Returns standard normal draws; the values of ``jax.random.normal(key, shape)``.

    Drawn as one flat vector: XLA's CPU backend takes ten times longer to compile the
    counters of a draw that has more than one axis (5 s against 0.5 s).
    """
    return jax.random.normal(key, (math.prod(shape),), dtype=jnp.float32).reshape(shape)


def fan_in(
    key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Float[Array, "n m"]:
    """Returns normal weights of variance one over the number of inputs, ``shape[0]``.

    Reference: LeCun et al., 1998, section 4.6.
    """
    return (normals(key, shape) / math.sqrt(shape[0])).astype(dtype)


def unit_rows(
    key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Float[Array, "n m"]:
    """Returns random rows of about unit length, for tables that are looked up."""
    return (normals(key, shape) / math.sqrt(shape[-1])).astype(dtype)


def orthogonal(
    scale: float = 1.0,
) -> Callable[[Key[Array, ""], tuple[int, int]], Float[Array, "n m"]]:
    """Returns an initialiser of matrices with orthogonal rows or columns, Haar distributed.

    Gram-Schmidt on a Gaussian matrix, each column projected twice, which is enough for
    float32 (Giraud, Langou and Rozloznik 2005). Saxe, McClelland and Ganguli 2014 is the
    reason to start this way.

    Args:
        scale: length of every row (or column, where there are fewer columns).
    """

    def init(key: Key[Array, ""], shape: tuple[int, int], dtype: Any = jnp.float32) -> Any:
        tall = (max(shape), min(shape))
        gaussian = normals(key, tall).astype(dtype)

        def column(k: Int[Array, ""], q: Float[Array, "n m"]) -> Float[Array, "n m"]:
            v = gaussian[:, k]
            for _ in range(2):
                v = v - q @ (q.T @ v)
            return q.at[:, k].set(v / jnp.linalg.norm(v))

        q = jax.lax.fori_loop(0, tall[1], column, jnp.zeros(tall, dtype))
        return scale * (q if shape[0] >= shape[1] else q.T)

    return init
