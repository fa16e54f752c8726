"""Reading observations: what each controller makes of a token prefix."""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxnas.core.errors import UserError
from jaxnas.core.types import TokenObs


@runtime_checkable
class Sizes(Protocol):
    """The fields that every controller has."""

    num_actions: int
    length: int
    vocab: int
    hidden: int


def check_sizes(module: Sizes) -> None:
    """Raises a UserError where a controller's sizes make no sense."""
    if module.num_actions < 1 or module.hidden < 1:
        raise UserError(
            f"A controller needs at least one action and one unit, not "
            f"{module.num_actions} and {module.hidden}."
        )
    if module.length < 0 or module.vocab < 0:
        raise UserError(
            f"A controller's length {module.length} and vocab {module.vocab} must be 0 "
            "(vector observations; as many as actions) or positive."
        )


def num_tokens(module: Sizes) -> int:
    """Returns how many values an observed token takes."""
    return module.vocab or module.num_actions


def previous_token(obs: TokenObs, start: int) -> Int[Array, "B"]:
    """Returns the last token of each prefix, or ``start`` where it is empty."""
    before = jnp.arange(obs.tokens.shape[-1], dtype=jnp.int32) == obs.position[:, None] - 1
    token = jnp.sum(jnp.where(before, obs.tokens, 0), axis=-1, dtype=jnp.int32)
    return jnp.where(obs.position > 0, token, start)


def shifted(tokens: Int[Array, "B L"], start: int) -> Int[Array, "B L"]:
    """Returns at each position the token before it, ``start`` at the first."""
    return jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=start)


def with_ones(features: Float[Array, "*b F"]) -> Float[Array, "*b K"]:
    """Returns the features and one that is always 1, whose weight is a bias."""
    return jnp.concatenate([features, jnp.ones_like(features[..., :1])], axis=-1)


def masked_prefix(
    tokens: Int[Array, "*b L"], position: Int[Array, "*b"], vocab: int
) -> Float[Array, "*b F"]:
    """Returns the one-hot prefix and the one-hot position, ``F = L V + L + 1``.

    Tokens at ``position`` and after it enter as zeros.
    """
    length = tokens.shape[-1]
    seen = jnp.arange(length, dtype=jnp.int32) < position[..., None]
    prefix = (tokens[..., None] == jnp.arange(vocab, dtype=jnp.int32)) & seen[..., None]
    place = jnp.arange(length + 1, dtype=jnp.int32) == position[..., None]
    flat = prefix.reshape(*tokens.shape[:-1], length * vocab)
    return jnp.concatenate([flat, place], axis=-1).astype(jnp.float32)
