"""Recurrent controllers: LSTM and GRU over the previous token or a vector observation."""

import functools
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Key, PyTree

from jaxnas.controllers import inputs as ci
from jaxnas.controllers.heads import PolicyValueHead
from jaxnas.controllers.initialisers import fan_in, normals, orthogonal
from jaxnas.controllers.unroll import Carry, Cell, keep_where, read, unroll
from jaxnas.core.types import PolicyOutput


def _lstm_step(
    carry: Carry, inputs: Float[Array, "*b G"], memory: Float[Array, "*b G"]
) -> tuple[Carry, tuple[Array, Array]]:
    """Returns ``(h, c)``, the gate activations in the order i, f, o, g, and ``tanh(c)``.

    The logistic function is written as ``tanh(x / 2) / 2 + 1 / 2``, so that all four gates
    are one vectorised ``tanh``.
    """
    hidden = carry[0].shape[-1]
    sigmoid = np.arange(4 * hidden) < 3 * hidden
    scale = np.where(sigmoid, 0.5, 1.0).astype(np.float32)
    shift = np.where(sigmoid, 0.5, 0.0).astype(np.float32)
    gates = jnp.tanh((inputs + memory) * scale) * scale + shift
    i, f, o, g = jnp.split(gates, 4, axis=-1)
    c = f * carry[1] + i * g
    squashed = jnp.tanh(c)
    return (o * squashed, c), (gates, squashed)


def _lstm_slopes(before: Carry, activations: tuple[Array, Array]) -> tuple[Array, ...]:
    """Returns the derivatives of the four pre-activations, of ``h`` by ``c``, and ``f``."""
    i, f, o, g = jnp.split(activations[0], 4, axis=-1)
    squashed = activations[1]
    return (
        g * i * (1.0 - i),
        before[1] * f * (1.0 - f),
        squashed * o * (1.0 - o),
        i * (1.0 - g * g),
        o * (1.0 - squashed * squashed),
        f,
    )


def _lstm_pull(slopes: tuple[Array, ...], d_carry: Carry) -> tuple[Carry, Array, Array]:
    """Returns the gradients of the old carry and of the pre-activations."""
    by_i, by_f, by_o, by_g, by_c, f = slopes
    d_h = d_carry[0]
    d_c = d_carry[1] + d_h * by_c
    d_gates = [d_c * by_i, d_c * by_f, d_h * by_o, d_c * by_g]
    d_inputs = jnp.concatenate(d_gates, axis=-1)
    return (jnp.zeros_like(d_h), d_c * f), d_inputs, d_inputs


LSTM_CELL = Cell(_lstm_step, _lstm_slopes, _lstm_pull)
"""Input, forget and output gates i, f, o and candidate g.

    c' = sigmoid(f) c + sigmoid(i) tanh(g),  h' = sigmoid(o) tanh(c')

Reference: Hochreiter and Schmidhuber, 1997; forget gate of Gers et al., 2000.
"""


def _gru_step(
    carry: Carry, inputs: Float[Array, "*b G"], memory: Float[Array, "*b G"]
) -> tuple[Carry, tuple[Array, ...]]:
    """Returns ``(h,)`` and the activations z, r, n and the candidate's memory."""
    x_z, x_r, x_n = jnp.split(inputs, 3, axis=-1)
    m_z, m_r, m_n = jnp.split(memory, 3, axis=-1)
    z, r = jax.nn.sigmoid(x_z + m_z), jax.nn.sigmoid(x_r + m_r)
    n = jnp.tanh(x_n + r * m_n)
    return (z * carry[0] + (1.0 - z) * n,), (z, r, n, m_n)


def _gru_slopes(before: Carry, activations: tuple[Array, ...]) -> tuple[Array, ...]:
    """Returns the derivatives of z, of the candidate and of r through it, and r, z."""
    z, r, n, m_n = activations
    by_z = (before[0] - n) * z * (1.0 - z)
    return by_z, (1.0 - z) * (1.0 - n * n), m_n * r * (1.0 - r), r, z


def _gru_pull(slopes: tuple[Array, ...], d_carry: Carry) -> tuple[Carry, Array, Array]:
    """Returns the gradients of the old carry, of the inputs and of the memory."""
    by_z, by_n, by_r, r, z = slopes
    d_h = d_carry[0]
    d_n = d_h * by_n
    d_z, d_r = d_h * by_z, d_n * by_r
    d_inputs = jnp.concatenate([d_z, d_r, d_n], axis=-1)
    return (d_h * z,), d_inputs, jnp.concatenate([d_z, d_r, d_n * r], axis=-1)


GRU_CELL = Cell(_gru_step, _gru_slopes, _gru_pull)
"""Update gate z, reset gate r and candidate n.

    z = sigmoid(x_z + m_z),  r = sigmoid(x_r + m_r)
    h' = z h + (1 - z) tanh(x_n + r m_n)

Reference: Cho et al., 2014, with the reset gate after the product, so that one product a
step serves all three (as in cuDNN), and without its second bias.
"""


class Recurrent(nn.Module):
    """What LSTM and GRU share.

    A token enters as a row of a learned ``[vocab + 1, G]`` table, which stands for
    embedding and input product together; the last row is the start of a sequence.
    Subclasses give the cell, its pre-activations a unit and the leaves of its memory.

    Attributes:
        num_actions: logits, ``V`` or ``A``.
        length: tokens in a sequence; 0 where observations are vectors ``[B, F]``.
        vocab: values of an observed token; 0 means ``num_actions``.
        hidden: units.
    """

    num_actions: int
    length: int = 0
    vocab: int = 0
    hidden: int = 64

    cell: ClassVar[Cell]
    gates: ClassVar[int]
    leaves: ClassVar[int]

    def __post_init__(self) -> None:
        ci.check_sizes(self)
        super().__post_init__()

    def setup(self) -> None:
        """Declares the parameters."""
        width = self.gates * self.hidden
        rows = _token_rows if self.length else _feature_rows
        self.inputs = InputKernel(width, functools.partial(rows, forget=self.gates == 4))
        self.recurrent = self.param("recurrent", _blocks, (self.hidden, width))
        self.head = PolicyValueHead(self.num_actions)

    def initial_carry(self, batch: int) -> Carry:
        """Returns the memory before the first step, zeros."""
        return tuple(
            jnp.zeros((batch, self.hidden), jnp.float32) for _ in range(self.leaves)
        )

    def __call__(
        self, carry: Carry, obs: PyTree, reset: Bool[Array, "B"]
    ) -> tuple[Carry, PolicyOutput]:
        """Returns the new memory and the policy for one step."""
        before = keep_where(reset, carry)
        rows = ci.num_tokens(self) + 1
        x = ci.previous_token(obs, rows - 1) if self.length else ci.with_ones(obs)
        kernel = self.inputs(rows if self.length else x.shape[-1])
        carry, _ = self.cell.step(before, read(kernel, x), before[0] @ self.recurrent)
        return carry, self.head(carry[0])._replace(aux=before)

    def sequence(
        self,
        obs: Array,
        carry: Carry | None = None,
        reset: Bool[Array, "B L"] | None = None,
    ) -> PolicyOutput:
        """Returns logits ``[B, L, V]`` and values ``[B, L]`` of a whole sequence.

        Inputs are tokens ``[B, L]`` (teacher forcing: position ``t`` sees ``t - 1``) or
        vectors ``[B, L, F]``; the memory starts at ``carry``, zeros by default, and is
        cleared before each step where ``reset``.
        """
        return self._unrolled(obs, carry, reset, None)

    def replay(self, obs: Array, aux: Carry) -> PolicyOutput:
        """Returns what ``sequence`` does, from what each step stored, without a recurrence.

        ``obs`` is what these parameters acted on; ``aux`` of those steps is ``[L, B, H]``
        each.
        """
        return self._unrolled(obs, None, None, aux)

    def _unrolled(
        self,
        obs: Array,
        carry: Carry | None,
        reset: Bool[Array, "B L"] | None,
        history: Carry | None,
    ) -> PolicyOutput:
        """Reads all inputs, unrolls, and applies the heads to all steps."""
        rows = ci.num_tokens(self) + 1
        x = ci.shifted(obs, rows - 1) if self.length else ci.with_ones(obs)
        kernel = self.inputs(rows if self.length else x.shape[-1])
        carry = self.initial_carry(obs.shape[0]) if carry is None else carry
        clear = None if reset is None else reset.T
        x = jnp.swapaxes(x, 0, 1)
        _, hidden = unroll(self.cell, x, kernel, self.recurrent, carry, clear, history)
        out = self.head(hidden)
        return PolicyOutput(jnp.swapaxes(out.logits, 0, 1), out.value.T)


class InputKernel(nn.Module):
    """Input weights ``[F, G]`` of a recurrent cell, ``G = width``; ``first`` draws them."""

    width: int
    first: Callable[[Key[Array, ""], tuple[int, int]], Array]

    @nn.compact
    def __call__(self, features: int) -> Float[Array, "F G"]:
        """Returns the kernel for this many features."""
        return self.param("kernel", self.first, (features, self.width))


def _token_rows(
    key: Key[Array, ""], shape: tuple[int, int], forget: bool
) -> Float[Array, "F G"]:
    """Returns small random rows, with a one in the forget gate where there is one.

    Reference: Jozefowicz et al., 2015, on starting with an open forget gate.
    """
    units = shape[1] // 4
    rows = normals(key, shape) / math.sqrt(units)
    return rows.at[:, units : 2 * units].add(1.0) if forget else rows


def _feature_rows(
    key: Key[Array, ""], shape: tuple[int, int], forget: bool
) -> Float[Array, "F G"]:
    """Returns a row for each feature and last the bias, a one in the forget gate."""
    units = shape[1] // 4
    rows = fan_in(key, shape).at[-1].set(0.0)
    return rows.at[-1, units : 2 * units].set(1.0) if forget else rows


def _blocks(key: Key[Array, ""], shape: tuple[int, int]) -> Float[Array, "H G"]:
    """Returns one orthogonal square a gate, side by side."""
    keys = jax.random.split(key, shape[1] // shape[0])
    squares = jax.vmap(lambda k: orthogonal()(k, (shape[0], shape[0])))(keys)
    return jnp.swapaxes(squares, 0, 1).reshape(shape)


class LSTM(Recurrent):
    """LSTM over the previous token (Zoph and Le, 2017) or a vector observation."""

    cell: ClassVar[Cell] = LSTM_CELL
    gates: ClassVar[int] = 4
    leaves: ClassVar[int] = 2


class GRU(Recurrent):
    """GRU over the previous token or a vector observation."""

    cell: ClassVar[Cell] = GRU_CELL
    gates: ClassVar[int] = 3
    leaves: ClassVar[int] = 1
