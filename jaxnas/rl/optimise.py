"""One Adam step whose step size and clipping norm are traced."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

ADAM = optax.scale_by_adam(eps=1e-5)
"""The moments; the step size is traced, so that a grid of them is one program."""
Scalar = float | Float[Array, ""]


def init(params: PyTree) -> PyTree:
    """Returns the optimiser's first state."""
    return ADAM.init(params)


def step(
    params: PyTree, state: PyTree, grads: PyTree, lr: Scalar, max_grad_norm: Scalar
) -> tuple[PyTree, PyTree, Float[Array, ""]]:
    """Returns new parameters, new optimiser state and the norm before clipping.

    ``lr`` >= 0 is the step size. Gradients of a larger global norm than ``max_grad_norm``
    are scaled down to it; one non-finite leaf makes the whole step a zero gradient.
    """
    squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(grads)]
    norm = jnp.sqrt(sum(squares, jnp.float32(0)))
    scale = jnp.where(norm > max_grad_norm, max_grad_norm / norm, 1.0)
    grads = jax.tree.map(lambda g: jnp.where(jnp.isfinite(norm), g * scale, 0.0), grads)
    moves, state = ADAM.update(grads, state)
    params = jax.tree.map(lambda p, m: p - lr * m, params, moves)
    return params, state, norm
