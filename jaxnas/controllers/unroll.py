"""From one step to a sequence: recurrences with a hoisted weight gradient, and sampling."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnas.controllers import heads
from jaxnas.core.types import TokenObs

Carry = tuple[Array, ...]
"""Memory of a recurrent cell, the hidden state first."""


Gate = Callable[[Carry, Array, Array], Carry]
"""The elementwise part of a recurrent cell, ``(carry, inputs [B, G], memory [B, G])`` to
the new carry, from input and recurrent pre-activations. A plain function, so it is hashable."""


def keep_where(reset: Bool[Array, "B"], carry: Carry) -> Carry:
    """Returns the carry with the rows to reset at zero."""
    return jax.tree.map(lambda leaf: jnp.where(reset[:, None], 0.0, leaf), carry)


def unroll(
    gate: Gate,
    inputs: Float[Array, "T B G"],
    recurrent: Float[Array, "H G"],
    carry: Carry,
    reset: Bool[Array, "T B"] | None = None,
) -> tuple[Carry, Float[Array, "T B H"]]:
    """Returns the last carry and the hidden states of ``carry = gate(carry, x, h @ W)``.

    Its reverse pass collects the gradient of the pre-activations and then forms that of
    ``W`` as one ``[H, T B] x [T B, G]`` product, instead of adding up ``T`` thin ones.

    Args:
        gate: elementwise cell.
        inputs: input pre-activations, bias included, of all steps at once.
        recurrent: ``W``.
        carry: memory before the first step.
        reset: True where memory is cleared before that step.
    """
    return cast(Any, _unroll)(gate, inputs, recurrent, carry, reset)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _unroll(
    gate: Gate,
    inputs: Float[Array, "T B G"],
    recurrent: Float[Array, "H G"],
    carry: Carry,
    reset: Bool[Array, "T B"] | None,
) -> tuple[Carry, Float[Array, "T B H"]]:
    """Computes :func:`unroll`."""

    def step(carry: Carry, xs: PyTree) -> tuple[Carry, Array]:
        x, clear = xs
        carry = carry if clear is None else keep_where(clear, carry)
        carry = gate(carry, x, carry[0] @ recurrent)
        return carry, carry[0]

    return jax.lax.scan(step, carry, (inputs, reset))


def _forward(
    gate: Gate,
    inputs: Float[Array, "T B G"],
    recurrent: Float[Array, "H G"],
    carry: Carry,
    reset: Bool[Array, "T B"] | None,
) -> tuple[tuple[Carry, Float[Array, "T B H"]], PyTree]:
    """Runs :func:`unroll` and keeps what each step's reverse pass needs."""

    def step(carry: Carry, xs: PyTree) -> tuple[Carry, PyTree]:
        x, clear = xs
        carry = carry if clear is None else keep_where(clear, carry)
        before = carry[0]
        carry, pull = jax.vjp(gate, carry, x, before @ recurrent)
        return carry, (carry[0], before, pull)

    last, (hidden, before, pulls) = jax.lax.scan(step, carry, (inputs, reset))
    return (last, hidden), (recurrent, before, pulls, reset)


def _backward(gate: Gate, saved: PyTree, grads: PyTree) -> tuple[Any, ...]:
    """Returns the gradients of inputs, recurrent weights and first carry."""
    del gate
    recurrent, before, pulls, reset = saved
    d_last, d_hidden = grads

    def step(d_carry: Carry, xs: PyTree) -> tuple[Carry, PyTree]:
        d_h, pull, clear = xs
        d_carry = (d_carry[0] + d_h, *d_carry[1:])
        d_carry, d_inputs, d_memory = pull(d_carry)
        d_carry = (d_carry[0] + d_memory @ recurrent.T, *d_carry[1:])
        d_carry = d_carry if clear is None else keep_where(clear, d_carry)
        return d_carry, (d_inputs, None if d_memory is d_inputs else d_memory)

    d_first, (d_inputs, d_memory) = jax.lax.scan(
        step, d_last, (d_hidden, pulls, reset), reverse=True
    )
    d_memory = d_inputs if d_memory is None else d_memory
    d_recurrent = jnp.tensordot(before, d_memory, axes=((0, 1), (0, 1)))
    return d_inputs, d_recurrent, d_first, None


_unroll.defvjp(_forward, _backward)


class Generated(NamedTuple):
    """Architectures that a policy wrote, and what it thought while writing."""

    tokens: Int[Array, "B L"]
    mask: Bool[Array, "B L V"]
    """Legal tokens at each position."""
    log_prob: Float[Array, "B L"]
    """Nats."""
    value: Float[Array, "B L"]
    """Value before each token."""


def generate(
    module: Any,
    params: PyTree,
    uniforms: Float[Array, "B L"],
    mask: Callable[[Int[Array, "L"], Int[Array, ""]], Bool[Array, "V"]],
    temperature: Float[Array, ""] | float = 1.0,
) -> Generated:
    """Returns ``B`` architectures written token by token, one uniform a token.

    Args:
        module: a controller over :class:`TokenObs`.
        params: its variables.
        uniforms: in [0, 1).
        mask: ``space.mask``.
        temperature: of the policy, > 0.
    """
    batch, length = uniforms.shape
    fresh = jnp.zeros(batch, bool)

    def write(carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
        memory, tokens = carry
        t, uniform = xs
        obs = TokenObs(tokens, jnp.full(batch, t))
        memory, out = module.apply(params, memory, obs, fresh)
        legal = jax.vmap(mask, in_axes=(0, None))(tokens, t)
        logits = heads.masked(out.logits, legal, temperature)
        token = heads.sample(uniform, logits, legal)
        tokens = jnp.where(jnp.arange(length) == t, token[:, None], tokens)
        return (memory, tokens), (legal, heads.log_prob(logits, legal, token), out.value)

    start = (module.initial_carry(batch), jnp.zeros((batch, length), jnp.int32))
    steps = (jnp.arange(length), uniforms.T)
    (_, tokens), (legal, log_prob, value) = jax.lax.scan(write, start, steps)
    return Generated(tokens, jnp.swapaxes(legal, 0, 1), log_prob.T, value.T)
