"""Orthogonal initial weights without LAPACK.

XLA's CPU backend runs a batched QR (what ``flax.linen.initializers.orthogonal`` becomes
under ``vmap``) by blocking one of its pool threads until other pool threads have done the
parts. When every pool thread is such a blocked one, as with one device a core, nobody is
left to do them, and the program hangs for ever. Gram-Schmidt in plain array operations has
no such call.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


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
        gaussian = jax.random.normal(key, tall, dtype)

        def column(k: Int[Array, ""], q: Float[Array, "n m"]) -> Float[Array, "n m"]:
            v = gaussian[:, k]
            for _ in range(2):
                v = v - q @ (q.T @ v)
            return q.at[:, k].set(v / jnp.linalg.norm(v))

        q = jax.lax.fori_loop(0, tall[1], column, jnp.zeros(tall, dtype))
        return scale * (q if shape[0] >= shape[1] else q.T)

    return init
