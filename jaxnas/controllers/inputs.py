"""Reading observations: what each controller makes of a token prefix."""

from typing import Protocol, runtime_checkable

import jax
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


@jax.custom_vjp
def lookup(table: Float[Array, "V G"], index: Int[Array, "*b"]) -> Float[Array, "*b G"]:
    """Returns ``table[index]``; its reverse pass is a one-hot product, not a scatter.

    XLA's CPU backend writes a scatter row by row.
    """
    return jnp.take(table, index, axis=0, mode="clip")


def _lookup_forward(
    table: Float[Array, "V G"], index: Int[Array, "*b"]
) -> tuple[Float[Array, "*b G"], tuple[Array, Array]]:
    """Runs :func:`lookup` and keeps the rows that were read."""
    return lookup(table, index), (table, index)


def _lookup_backward(
    saved: tuple[Array, Array], grad: Float[Array, "*b G"]
) -> tuple[Float[Array, "V G"], None]:
    """Returns the gradient of the table."""
    table, index = saved
    one_hot = jax.nn.one_hot(index.reshape(-1), table.shape[0], dtype=grad.dtype)
    return one_hot.T @ grad.reshape(-1, grad.shape[-1]), None


lookup.defvjp(_lookup_forward, _lookup_backward)


def previous_token(obs: TokenObs, start: int) -> Int[Array, "B"]:
    """Returns the last token of each prefix, or ``start`` where it is empty."""
    before = jnp.arange(obs.tokens.shape[-1]) == obs.position[:, None] - 1
    token = jnp.sum(jnp.where(before, obs.tokens, 0), axis=-1)
    return jnp.where(obs.position > 0, token, start)


def shifted(tokens: Int[Array, "B L"], start: int) -> Int[Array, "B L"]:
    """Returns at each position the token before it, ``start`` at the first."""
    return jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=start)
