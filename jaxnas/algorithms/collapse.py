"""Whether a policy has collapsed: it writes the same few architectures over and over."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

ENTROPY_FLOOR = 0.1
"""Nats per token. Below it a policy over 6 tokens has less than exp(0.6) = 1.8 effective
architectures: further proposals repeat what is known."""
UNIQUE_FLOOR = 0.25
"""Fraction of distinct architectures in a batch. At 8 lanes: two or fewer."""


def unique_fraction(tokens: Int[Array, "B L"]) -> Float[Array, ""]:
    """Returns the number of distinct rows divided by ``B``."""
    batch = tokens.shape[0]
    same = jnp.all(tokens[:, None] == tokens[None, :], axis=-1)
    earlier = jnp.tril(jnp.ones((batch, batch), bool), -1)
    return jnp.mean(~jnp.any(same & earlier, axis=1), dtype=jnp.float32)


def collapsed(entropy: Float[Array, ""], unique: Float[Array, ""]) -> Float[Array, ""]:
    """Returns 1.0 where entropy (nats a token) or :func:`unique_fraction` is low."""
    low: Bool[Array, ""] = (entropy < ENTROPY_FLOOR) | (unique <= UNIQUE_FLOOR)
    return low.astype(jnp.float32)
