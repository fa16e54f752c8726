"""Recurrent controllers: LSTM and GRU over the previous token or a vector observation."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Key, PyTree

from jaxnas.controllers.heads import PolicyValueHead
from jaxnas.controllers.inputs import (
    check_sizes,
    lookup,
    num_tokens,
    previous_token,
    shifted,
)
from jaxnas.controllers.unroll import Carry, Gate, keep_where, unroll
from jaxnas.core.types import PolicyOutput


def lstm_gate(
    carry: Carry, inputs: Float[Array, "B G"], memory: Float[Array, "B G"]
) -> Carry:
    """Returns ``(h, c)`` from the pre-activations of input, forget, output and candidate.

        c' = sigmoid(f) c + sigmoid(i) tanh(g),  h' = sigmoid(o) tanh(c')

    Reference: Hochreiter and Schmidhuber, 1997; forget gate of Gers et al., 2000.
    """
    i, f, o, g = jnp.split(inputs + memory, 4, axis=-1)
    c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_gate(
    carry: Carry, inputs: Float[Array, "B G"], memory: Float[Array, "B G"]
) -> Carry:
    """Returns ``(h,)`` from the pre-activations of update, reset and candidate.

        z = sigmoid(x_z + m_z),  r = sigmoid(x_r + m_r)
        h' = z h + (1 - z) tanh(x_n + r m_n)

    Reference: Cho et al., 2014, with the reset gate after the product, so that one product
    a step serves all three (as in cuDNN), and without its second bias.
    """
    x_z, x_r, x_n = jnp.split(inputs, 3, axis=-1)
    m_z, m_r, m_n = jnp.split(memory, 3, axis=-1)
    z = jax.nn.sigmoid(x_z + m_z)
    n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + m_r) * m_n)
    return (z * carry[0] + (1.0 - z) * n,)


class Recurrent(nn.Module):
    """What LSTM and GRU share; a token enters as a row of a ``[vocab + 1, G]`` table.

    The table stands for embedding and input product together, so that reading a token is a
    gather; its last row is the start of a sequence. Subclasses give ``gate``, the number of
    pre-activations a unit and the leaves of the memory.

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

    gate: ClassVar[Gate]
    gates: ClassVar[int]
    leaves: ClassVar[int]

    def __post_init__(self) -> None:
        """Checks the sizes before anything is traced."""
        check_sizes(self)
        super().__post_init__()

    def setup(self) -> None:
        """Declares the parameters."""
        width = self.gates * self.hidden
        if self.length:
            init = nn.initializers.normal(self.hidden**-0.5)
            self.table = self.param("table", init, (num_tokens(self) + 1, width))
        else:
            self.dense = nn.Dense(width, use_bias=False)
        self.bias = self.param("bias", self.first_bias, (width,))
        self.recurrent = self.param("recurrent", _blocks, (self.hidden, width))
        self.head = PolicyValueHead(self.num_actions)

    def first_bias(self, key: Key[Array, ""], shape: tuple[int]) -> Float[Array, "G"]:
        """Returns a bias of one for the second gate of the LSTM (forget), else zeros."""
        del key
        unit = jnp.arange(shape[0]) // self.hidden
        return jnp.where((unit == 1) & (self.gates == 4), 1.0, 0.0)

    def initial_carry(self, batch: int) -> Carry:
        """Returns the memory before the first step, zeros."""
        return tuple(jnp.zeros((batch, self.hidden)) for _ in range(self.leaves))

    def __call__(
        self, carry: Carry, obs: PyTree, reset: Bool[Array, "B"]
    ) -> tuple[Carry, PolicyOutput]:
        """Returns the new memory and the policy for one step."""
        if self.length:
            inputs = lookup(self.table, previous_token(obs, num_tokens(self)))
        else:
            inputs = self.dense(obs)
        carry = keep_where(reset, carry)
        memory = carry[0] @ self.recurrent
        carry = type(self).gate(carry, inputs + self.bias, memory)
        return carry, self.head(carry[0])

    def sequence(
        self,
        obs: Array,
        carry: Carry | None = None,
        reset: Bool[Array, "B L"] | None = None,
    ) -> PolicyOutput:
        """Returns logits ``[B, L, V]`` and values ``[B, L]`` of a whole sequence.

        Args:
            obs: tokens ``[B, L]`` (teacher forcing: position ``t`` sees ``t - 1``) or
                vectors ``[B, L, F]``.
            carry: memory before the first step; zeros by default.
            reset: True where memory is cleared before that step.
        """
        if self.length:
            inputs = lookup(self.table, shifted(obs, num_tokens(self)).T)
        else:
            inputs = self.dense(jnp.swapaxes(obs, 0, 1))
        carry = self.initial_carry(obs.shape[0]) if carry is None else carry
        clear = None if reset is None else reset.T
        _, hidden = unroll(
            type(self).gate, inputs + self.bias, self.recurrent, carry, clear
        )
        out = self.head(hidden)
        return PolicyOutput(jnp.swapaxes(out.logits, 0, 1), out.value.T)


def _blocks(key: Key[Array, ""], shape: tuple[int, int]) -> Float[Array, "H G"]:
    """Returns one orthogonal square a gate, side by side."""
    keys = jax.random.split(key, shape[1] // shape[0])
    square = nn.initializers.orthogonal()
    return jnp.concatenate([square(k, (shape[0], shape[0])) for k in keys], axis=1)


class LSTM(Recurrent):
    """LSTM over the previous token (Zoph and Le, 2017) or a vector observation."""

    gate: ClassVar[Gate] = staticmethod(lstm_gate)
    gates: ClassVar[int] = 4
    leaves: ClassVar[int] = 2


class GRU(Recurrent):
    """GRU over the previous token or a vector observation."""

    gate: ClassVar[Gate] = staticmethod(gru_gate)
    gates: ClassVar[int] = 3
    leaves: ClassVar[int] = 1
