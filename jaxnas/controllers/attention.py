"""A causal-attention controller over the written prefix or the observations so far."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnas.controllers.heads import PolicyValueHead
from jaxnas.controllers.initialisers import fan_in, unit_rows
from jaxnas.controllers.inputs import check_sizes, num_tokens, previous_token, shifted
from jaxnas.core.errors import UserError
from jaxnas.core.types import PolicyOutput

Cache = tuple[Array, Array]
"""Keys and values of each layer at the steps so far, ``[B, layers, M, 2 H]``, and the
number of steps since the last reset, ``[B]``."""


class CausalAttention(nn.Module):
    """Transformer decoder over the tokens before each position, or recent observations.

    A step appends its keys and values to a cache; ``sequence`` does all positions in one
    masked product. Positions are sinusoidal and count from the last reset.

    Reference: Vaswani et al., 2017, without cross-attention and with the normalisation
    before each part (Xiong et al., 2020).

    Attributes:
        num_actions: logits, ``V`` or ``A``.
        length: tokens in a sequence; 0 where observations are vectors ``[B, F]``.
        vocab: values of an observed token; 0 means ``num_actions``.
        hidden: width of a position; even, and a multiple of ``heads``.
        layers: blocks.
        heads: attention heads a block.
        memory: vector observations remembered; a sequence of tokens is remembered whole.
    """

    num_actions: int
    length: int = 0
    vocab: int = 0
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    memory: int = 32

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.layers < 1 or self.heads < 1 or self.memory < 1:
            raise UserError("An attention controller needs a layer, a head and a memory.")
        if self.hidden % self.heads or self.hidden % 2:
            raise UserError(
                f"hidden is {self.hidden}, but must be even and a multiple of the "
                f"{self.heads} heads."
            )
        super().__post_init__()

    def setup(self) -> None:
        """Declares the parameters."""
        if self.length:
            self.embed = nn.Embed(
                num_tokens(self) + 1, self.hidden, embedding_init=unit_rows
            )
        else:
            self.embed = nn.Dense(self.hidden, kernel_init=fan_in)
        self.blocks = [Block(self.hidden, self.heads) for _ in range(self.layers)]
        self.norm = nn.LayerNorm()
        self.head = PolicyValueHead(self.num_actions)

    def slots(self) -> int:
        """Returns how many steps the cache holds, ``M``."""
        return self.length + 1 if self.length else self.memory

    def initial_carry(self, batch: int) -> Cache:
        """Returns an empty cache."""
        shape = (batch, self.layers, self.slots(), 2 * self.hidden)
        return jnp.zeros(shape, jnp.float32), jnp.zeros(batch, jnp.int32)

    def __call__(
        self, carry: Cache, obs: PyTree, reset: Bool[Array, "B"]
    ) -> tuple[Cache, PolicyOutput]:
        """Returns the new cache and the policy for one step."""
        cache, count = carry
        if self.length:
            count = obs.position
            obs = previous_token(obs, num_tokens(self))
        else:
            count = jnp.where(reset, 0, count)
        places = jnp.arange(self.slots(), dtype=jnp.int32)
        here = places == (count % self.slots())[:, None]
        seen = places <= count[:, None]
        x = (self.embed(obs) + positions(count, self.hidden))[:, None]
        layers = []
        for i, block in enumerate(self.blocks):
            query, pair = block.project(x)
            pairs = jnp.where(here[..., None], pair, cache[:, i])
            x = block.mix(x, query, pairs, seen[:, None])
            layers.append(pairs)
        out = self.head(self.norm(x[:, 0]))
        return (jnp.stack(layers, axis=1), count + 1), out

    def sequence(self, obs: Array, reset: Bool[Array, "B L"] | None = None) -> PolicyOutput:
        """Returns logits ``[B, L, V]`` and values ``[B, L]``, all positions at once.

        Inputs are tokens ``[B, L]`` (teacher forcing: position ``t`` sees the tokens before
        it) or vectors ``[B, L, F]``. Memory starts empty, and is cleared before steps of
        ``reset``.
        """
        batch, length = obs.shape[:2]
        steps = jnp.arange(length, dtype=jnp.int32)
        count = jnp.broadcast_to(steps, (batch, length))
        gap = steps[:, None] - steps
        seen = jnp.broadcast_to((gap >= 0) & (gap < self.slots()), (batch, length, length))
        if reset is not None:
            starts = jax.lax.cummax(jnp.where(reset, steps, 0), axis=1)
            count = steps - starts
            seen = seen & (steps >= starts[..., None])
        x = self.embed(shifted(obs, num_tokens(self)) if self.length else obs)
        x = x + positions(count, self.hidden)
        for block in self.blocks:
            query, pairs = block.project(x)
            x = block.mix(x, query, pairs, seen)
        return self.head(self.norm(x))


class Block(nn.Module):
    """Self-attention and a two-layer network, each added to its input; ``hidden`` wide."""

    hidden: int
    heads: int

    def setup(self) -> None:
        """Declares the parameters."""
        self.before_attention = nn.LayerNorm()
        self.query_key_value = nn.Dense(3 * self.hidden, False, kernel_init=fan_in)
        self.gather = nn.Dense(self.hidden, False, kernel_init=fan_in)
        self.before_network = nn.LayerNorm()
        self.widen = nn.Dense(2 * self.hidden, kernel_init=fan_in)
        self.narrow = nn.Dense(self.hidden, kernel_init=fan_in)

    def project(
        self, x: Float[Array, "B T H"]
    ) -> tuple[Float[Array, "B T H"], Float[Array, "B T K"]]:
        """Returns the queries, and keys and values side by side."""
        both = self.query_key_value(self.before_attention(x))
        return both[..., : self.hidden], both[..., self.hidden :]

    def mix(
        self,
        x: Float[Array, "B T H"],
        query: Float[Array, "B T H"],
        pairs: Float[Array, "B S K"],
        seen: Bool[Array, "B T S"],
    ) -> Float[Array, "B T H"]:
        """Returns ``x`` after attending to the pairs that each position has seen."""
        split = (self.heads, self.hidden // self.heads)
        query = query.reshape(*query.shape[:-1], *split)
        key, value = jnp.split(pairs, 2, axis=-1)
        key = key.reshape(*key.shape[:-1], *split)
        value = value.reshape(*value.shape[:-1], *split)
        scores = jnp.einsum("bthd,bshd->bhts", query, key) / math.sqrt(split[1])
        weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -1e30), axis=-1)
        mixed = jnp.einsum("bhts,bshd->bthd", weights, value)
        x = x + self.gather(mixed.reshape(x.shape))
        return x + self.narrow(jax.nn.relu(self.widen(self.before_network(x))))


def positions(count: Int[Array, "*b"], hidden: int) -> Float[Array, "*b H"]:
    """Returns the sinusoidal code of a position.

    Reference: Vaswani et al., 2017, section 3.5.
    """
    rate = jnp.exp(
        jnp.arange(0, hidden, 2, dtype=jnp.float32) * (-math.log(10_000.0) / hidden)
    )
    angle = count[..., None].astype(jnp.float32) * rate
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
