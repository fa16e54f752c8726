"""The one network of a latent space: dense layers, ReLU, and dropout that is applied."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

Scalar = float | Float[Array, ""]


class Dense(nn.Module):
    """Dense layers of ``widths`` with ReLU and dropout, then ``out``: linear, or ReLU."""

    widths: Sequence[int]
    out: int
    relu_out: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*b F"],
        rate: Scalar | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "*b O"]:
        """Returns the outputs; given a traced ``rate``, ``key`` drops hidden units."""
        for i, width in enumerate(self.widths):
            x = jax.nn.relu(nn.Dense(width, name=f"layer_{i}")(x))
            if rate is not None and key is not None:
                x = dropout(jax.random.fold_in(key, i), x, rate)
        x = nn.Dense(self.out, name="out")(x)
        return jax.nn.relu(x) if self.relu_out else x


def dropout(
    key: Key[Array, ""], x: Float[Array, "*b H"], rate: Scalar
) -> Float[Array, "*b H"]:
    """Returns ``x``, a share ``rate`` (rounded to 1/256) zero and the rest scaled up."""
    threshold = jnp.round(256 * jnp.asarray(rate))
    keep = jax.random.bits(key, x.shape, jnp.uint8).astype(jnp.float32) >= threshold
    return jnp.where(keep, x * (256 / jnp.maximum(256 - threshold, 1)), 0.0)
