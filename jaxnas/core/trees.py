"""Small operations on pytrees that several layers need."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree


def select(keep: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """Returns ``new`` where ``keep`` holds and ``old`` elsewhere, leaf by leaf."""

    def pick(a: Array, b: Array) -> Array:
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            data = jnp.where(keep, jax.random.key_data(a), jax.random.key_data(b))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))
        return jnp.where(keep, a, b)

    return jax.tree.map(pick, new, old)


def num_bytes(tree: PyTree) -> int:
    """Returns the bytes of all leaves; works on shapes from ``jax.eval_shape`` too."""
    return sum(
        int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
    )


def masked_mean(
    x: Float[Array, "*n"], where: Bool[Array, "*n"], empty: float | Float[Array, ""] = 0.0
) -> Float[Array, ""]:
    """Returns the mean of ``x`` over ``where``, or ``empty`` when nothing is selected."""
    count = jnp.sum(where, dtype=jnp.float32)
    total = jnp.sum(jnp.where(where, x, 0.0))
    return jnp.where(count > 0, total / jnp.maximum(count, 1), empty)
