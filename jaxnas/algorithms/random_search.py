"""Random search without replacement, the baseline that every table shows."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.core.rng import wrap
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Proposal


class RandomHparams(NamedTuple):
    """Random search has nothing to tune."""


class RandomState(NamedTuple):
    """How far a controller is in its own random order of the space."""

    hparams: RandomHparams
    key: Array
    """Raw key data that fixes the order."""
    position: Int[Array, ""]


@dataclass(frozen=True)
class RandomSearch:
    """Draws architectures uniformly without replacement.

    Where the space can be enumerated (at most ``2**20`` members) a keyed permutation of its
    members is walked: a Feistel network over the next power of four, leaving out values
    beyond the last member (cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary
    finite domains"). It needs no memory, unlike a shuffled table each. Larger
    spaces are drawn exactly uniformly; a repeat is then free, as everywhere.
    """

    space: SearchSpace
    batch: int = 8
    rounds: int = 1
    id: str = "random-v1"
    preferred_width: int = 64

    def default_hparams(self) -> RandomHparams:
        """Returns the empty record."""
        return RandomHparams()

    def init(self, key: Key[Array, ""], hparams: RandomHparams) -> RandomState:
        """Returns the start of a random order."""
        return RandomState(hparams, jax.random.key_data(key), jnp.int32(0))

    def ask(self, key: Key[Array, ""], state: RandomState) -> tuple[RandomState, Proposal]:
        """Returns the next ``batch`` architectures; lanes past the last are inactive."""
        number = state.position + jnp.arange(self.batch, dtype=jnp.int32)
        total = tk.count(self.space)
        if total is not None and total <= tk.ENUMERABLE:
            row = permuted(state.key, jnp.minimum(number, total - 1), total)
            tokens = jnp.asarray(tk.enumerate_space(self.space))[row]
            active = number < total
        else:
            order = wrap(state.key)
            keys = jax.vmap(lambda i: jax.random.fold_in(order, i))(number)
            tokens = jax.vmap(lambda k: tk.sample_uniform(k, self.space))(keys)
            active = jnp.ones(self.batch, bool)
        state = state._replace(position=state.position + self.batch)
        return state, Proposal(tokens, jnp.zeros(self.batch, jnp.int32), active)

    def tell(
        self,
        key: Key[Array, ""],
        state: RandomState,
        proposal: Proposal,
        evaluation: Evaluation,
    ) -> RandomState:
        """Returns the state unchanged."""
        return state

    def learn(
        self, key: Key[Array, ""], state: RandomState
    ) -> tuple[RandomState, dict[str, Float[Array, ""]]]:
        """Returns the state unchanged and no metrics."""
        return state, {}


def permuted(key_data: Array, number: Int[Array, "n"], total: int) -> Int[Array, "n"]:
    """Returns where a keyed permutation of ``range(total)`` sends each number."""
    half = max(1, -(-(total - 1).bit_length() // 2))
    mask = jnp.uint32((1 << half) - 1)
    seeds = jax.random.bits(wrap(key_data), (4,), jnp.uint32)

    def encipher(x: Array) -> Array:
        left, right = x >> half, x & mask
        for r in range(4):
            mixed = (right + jnp.uint32(0x9E3779B9)) * jnp.uint32(0x85EBCA6B) ^ seeds[r]
            mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0xC2B2AE35)
            left, right = right, left ^ ((mixed ^ (mixed >> 13)) & mask)
        return (left << half) | right

    def walk(x: Array) -> Array:
        outside = lambda y: y >= total
        return jax.lax.while_loop(outside, encipher, encipher(x))

    return jax.vmap(walk)(number.astype(jnp.uint32)).astype(jnp.int32)
