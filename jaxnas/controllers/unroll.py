"""From one step to a sequence: recurrences with a hoisted weight gradient, and sampling."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnas.controllers import heads
from jaxnas.core.types import PolicyOutput, TokenObs

Carry = tuple[Array, ...]
"""Memory of a recurrent cell, ``[B, H]`` each, the hidden state first."""


class Cell(NamedTuple):
    """The elementwise part of a recurrent cell and its derivative, as plain functions.

    All three work on any leading axes, so that whatever does not depend on the step before
    is computed for all steps at once.
    """

    step: Callable[[Carry, Array, Array], tuple[Carry, PyTree]]
    """``(carry, inputs, memory)`` to the new carry and the activations that made it."""
    slopes: Callable[[Carry, PyTree], PyTree]
    """``(carry before, activations)`` to the factors of the reverse pass."""
    pull: Callable[[PyTree, Carry], tuple[Carry, Array, Array]]
    """``(slopes, d carry)`` to the gradients of the old carry (its path through the
    recurrent product left out), of the inputs and of the memory."""


def keep_where(reset: Bool[Array, "B"], carry: Carry) -> Carry:
    """Returns the carry with the rows to reset at zero."""
    return jax.tree.map(lambda leaf: jnp.where(reset[:, None], 0.0, leaf), carry)


def unroll(
    cell: Cell,
    inputs: Int[Array, "T B"] | Float[Array, "T B F"],
    kernel: Float[Array, "F G"],
    recurrent: Float[Array, "H G"],
    carry: Carry,
    reset: Bool[Array, "T B"] | None = None,
    history: Carry | None = None,
) -> tuple[Carry, Float[Array, "T B H"]]:
    """Returns the last carry and hidden states of ``carry = step(carry, x @ U, h @ W)``.

    The reverse pass collects the gradient of the pre-activations and then forms those of
    ``U`` and ``W`` as one ``[F + H, T B] x [T B, G]`` product, instead of adding up ``T``
    thin ones.

    Args:
        cell: elementwise part.
        inputs: features, or the row of ``U`` that stands for a one-hot feature.
        kernel: ``U``; an input bias is the row of a constant feature.
        recurrent: ``W``.
        carry: memory before the first step.
        reset: True where memory is cleared before that step.
        history: what the carry before each step is, ``[T, B, H]`` each, where it is known
            already because the same weights ran these steps while acting. The forward pass
            then has no recurrence: one product for all steps. Gradients are the same.
    """
    return cast(Any, _unroll)(cell, inputs, kernel, recurrent, carry, reset, history)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _unroll(cell: Cell, *args: Any) -> tuple[Carry, Float[Array, "T B H"]]:
    return _forward(cell, *args)[0]


def _forward(cell: Cell, *args: Any) -> tuple[tuple[Carry, Float[Array, "T B H"]], PyTree]:
    inputs, kernel, recurrent, carry, reset, history = args

    def step(carry: Carry, xs: PyTree) -> tuple[Carry, PyTree]:
        x, clear = xs
        before = carry if clear is None else keep_where(clear, carry)
        carry, activations = cell.step(before, x, before[0] @ recurrent)
        return carry, (before, carry[0], activations)

    x = read(kernel, inputs)
    if history is None:
        last, (history, hidden, activations) = jax.lax.scan(step, carry, (x, reset))
    else:
        after, activations = cell.step(history, x, history[0] @ recurrent)
        last, hidden = jax.tree.map(lambda leaf: leaf[-1], after), after[0]
    return (last, hidden), (inputs, kernel, recurrent, history, activations, reset)


def _backward(cell: Cell, saved: PyTree, grads: PyTree) -> tuple[Any, ...]:
    inputs, kernel, recurrent, history, activations, reset = saved
    d_last, d_hidden = grads
    transposed = recurrent.T

    def step(d_carry: Carry, xs: PyTree) -> tuple[Carry, PyTree]:
        d_h, slopes, clear = xs
        d_carry = (d_carry[0] + d_h, *d_carry[1:])
        d_carry, d_x, d_memory = cell.pull(slopes, d_carry)
        d_carry = (d_carry[0] + d_memory @ transposed, *d_carry[1:])
        d_carry = d_carry if clear is None else keep_where(clear, d_carry)
        return d_carry, (d_x, None if d_memory is d_x else d_memory)

    xs = (d_hidden, cell.slopes(history, activations), reset)
    d_first, (d_x, d_memory) = jax.lax.scan(step, d_last, xs, reverse=True)
    steps = ((0, 1), (0, 1))
    rows = inputs.ndim == d_x.ndim - 1
    features = jax.nn.one_hot(inputs, len(kernel), dtype=d_x.dtype) if rows else inputs
    if d_memory is None:
        both = jnp.concatenate([history[0], features], axis=-1)
        d_both = jnp.tensordot(both, d_x, axes=steps)
        d_recurrent, d_kernel = d_both[: len(recurrent)], d_both[len(recurrent) :]
    else:
        d_recurrent = jnp.tensordot(history[0], d_memory, axes=steps)
        d_kernel = jnp.tensordot(features, d_x, axes=steps)
    d_inputs = None if rows else d_x @ kernel.T
    return d_inputs, d_kernel, d_recurrent, d_first, None, None


_unroll.defvjp(_forward, _backward)


def read(
    kernel: Float[Array, "F G"], inputs: Int[Array, "*b"] | Float[Array, "*b F"]
) -> Float[Array, "*b G"]:
    """Returns ``inputs @ kernel``, a gather where inputs are the rows themselves."""
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return jnp.take(kernel, inputs, axis=0, mode="clip")
    return inputs @ kernel


class Generated(NamedTuple):
    """Architectures that a policy wrote, and what it thought while writing."""

    tokens: Int[Array, "B L"]
    mask: Bool[Array, "B L V"]  # legal tokens at each position
    log_prob: Float[Array, "B L"]  # nats
    value: Float[Array, "B L"]  # value before each token
    aux: PyTree
    """``PolicyOutput.aux`` of every step, ``[L, B, ...]``; None where it was not stored."""


@runtime_checkable
class Replayable(Protocol):
    """A controller whose whole-sequence pass is cheaper after it has just acted.

    What its steps gave as ``PolicyOutput.aux`` stands in for the recurrence, as long as the
    parameters are the same.
    """

    def replay(self, obs: Array, aux: PyTree) -> PolicyOutput:
        """Returns what ``sequence`` would, with the same gradients."""
        ...


def generate(
    module: Any,
    params: PyTree,
    uniforms: Float[Array, "B L"],
    mask: Callable[[Int[Array, "L"], Int[Array, ""]], Bool[Array, "V"]],
    temperature: Float[Array, ""] | float = 1.0,
    *,
    keep_aux: bool = False,
    greedy: bool = False,
) -> Generated:
    """Returns ``B`` architectures written token by token, one uniform in [0, 1) a token.

    ``module`` is a controller over :class:`TokenObs`, ``mask`` is ``space.mask``, and the
    temperature of the policy is > 0. ``keep_aux`` keeps what the controller says beside its
    policy, for :class:`Replayable`. ``greedy`` writes the most likely legal token instead.
    """
    batch, length = uniforms.shape
    fresh = jnp.zeros(batch, bool)

    def write(carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
        memory, tokens = carry
        t, uniform = xs
        obs = TokenObs(tokens, jnp.full(batch, t))
        memory, out = cast(
            tuple[PyTree, PolicyOutput], module.apply(params, memory, obs, fresh)
        )
        legal = jax.vmap(mask, in_axes=(0, None))(tokens, t)
        logits = heads.masked(out.logits, legal, temperature)
        if greedy:
            token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        else:
            token = heads.sample(uniform, logits, legal)
        tokens = jnp.where(jnp.arange(length, dtype=jnp.int32) == t, token[:, None], tokens)
        return (memory, tokens), (legal, logits, out.value, out.aux if keep_aux else None)

    start = (module.initial_carry(batch), jnp.zeros((batch, length), jnp.int32))
    steps = (jnp.arange(length, dtype=jnp.int32), uniforms.T)
    (_, tokens), (legal, logits, value, aux) = jax.lax.scan(write, start, steps)
    legal, logits = jnp.swapaxes(legal, 0, 1), jnp.swapaxes(logits, 0, 1)
    log_prob = heads.log_prob(logits, legal, tokens)
    return Generated(tokens, legal, log_prob, value.T, aux)
