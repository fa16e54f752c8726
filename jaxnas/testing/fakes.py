"""Oracles that misbehave on purpose and a latent space without training, for tests."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.protocols import Oracle, SearchSpace, Truthful
from jaxnas.core.types import FAILED, Evaluation, Objective


@dataclass(frozen=True)
class OnHost:
    """A traced oracle that pretends to need the host, to test the split path."""

    oracle: Oracle
    traced: bool = False

    @property
    def id(self) -> str:
        """The inner oracle's id."""
        return self.oracle.id

    @property
    def space(self) -> SearchSpace:
        """The inner oracle's space."""
        return self.oracle.space

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The inner oracle's objectives."""
        return self.oracle.objectives

    def params(self) -> PyTree:
        """Returns the inner oracle's shared arrays."""
        return self.oracle.params()

    def init(self, key: Key[Array, ""], params: PyTree) -> PyTree:
        """Returns no state."""
        return ()

    def evaluate(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: PyTree,
        tokens: Any,
        fidelity: Any,
        active: Any,
    ) -> tuple[PyTree, Any]:
        """Returns the inner evaluation as numpy arrays."""
        inner = self.oracle.init(key, params)
        rows, levels, on = jnp.asarray(tokens), jnp.asarray(fidelity), jnp.asarray(active)
        _, found = self.oracle.evaluate(key, params, inner, rows, levels, on)
        return (), jax.tree.map(np.asarray, found)


@dataclass(frozen=True)
class Flaky:
    """A traced oracle whose evaluations fail with some probability, NaN and all."""

    oracle: Oracle
    rate: float = 0.2

    @property
    def id(self) -> str:
        """The inner oracle's id."""
        return f"{self.oracle.id}+flaky"

    @property
    def space(self) -> SearchSpace:
        """The inner oracle's space."""
        return self.oracle.space

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The inner oracle's objectives."""
        return self.oracle.objectives

    @property
    def traced(self) -> bool:
        """As the inner oracle."""
        return self.oracle.traced

    def params(self) -> PyTree:
        """Returns the inner oracle's shared arrays."""
        return self.oracle.params()

    def init(self, key: Key[Array, ""], params: PyTree) -> PyTree:
        """Returns the inner oracle's state."""
        return self.oracle.init(key, params)

    def evaluate(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: PyTree,
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[PyTree, Evaluation]:
        """Returns the inner evaluation, some lanes FAILED and NaN."""
        state, found = self.oracle.evaluate(key, params, state, tokens, fidelity, active)
        failed = jax.random.uniform(key, active.shape) < self.rate
        return state, found._replace(
            objectives=jnp.where(failed[:, None], jnp.nan, found.objectives),
            status=jnp.where(failed, FAILED, found.status),
        )

    def truth(self, params: PyTree, tokens: Int[Array, "B L"]) -> Float[Array, "B M"]:
        """Returns the inner truth."""
        assert isinstance(self.oracle, Truthful)
        return self.oracle.truth(params, tokens)


class LinearParams(NamedTuple):
    """Parameters of a :class:`LinearLatent`."""

    entries: Float[Array, "K Z"]
    weights: Float[Array, "Z n"]
    """Logits of all tokens, side by side, per unit of each latent dimension."""


@dataclass(frozen=True)
class LinearLatent:
    """A latent space that is one fixed random matrix: nothing to train, all of it exact.

    ``decode`` takes the best legal token at each position, left to right; ``encode`` is the
    transposed matrix, and no inverse. Entries have the ancestor's spread.

    Args:
        space: what it decodes into.
        num_codes: ``K``.
        latent_size: ``Z``.
        seed: of the matrix.
    """

    space: SearchSpace
    num_codes: int = 5
    latent_size: int = 4
    seed: int = 0

    def params(self) -> LinearParams:
        """Returns the matrices."""
        rng = np.random.default_rng(self.seed)
        entries = rng.normal(0.0, 0.04, (self.num_codes, self.latent_size))
        columns = self.space.length * self.space.vocab
        weights = rng.normal(size=(self.latent_size, columns))
        return LinearParams(jnp.float32(entries), jnp.float32(weights))

    def entries(self, params: LinearParams) -> Float[Array, "K Z"]:
        """Returns the entries."""
        return params.entries

    def encode(self, params: LinearParams, tokens: Int[Array, "L"]) -> Float[Array, "Z"]:
        """Returns a vector of about the entries' size."""
        one_hot = jax.nn.one_hot(tokens, self.space.vocab).reshape(-1)
        return 0.04 * params.weights @ one_hot / self.space.length**0.5

    def decode(self, params: LinearParams, latent: Float[Array, "Z"]) -> Int[Array, "L"]:
        """Returns the best legal tokens."""
        logits = (latent @ params.weights).reshape(self.space.length, self.space.vocab)
        tokens = jnp.zeros(self.space.length, jnp.int32)
        for t in range(self.space.length):
            legal = self.space.mask(tokens, jnp.int32(t))
            best = jnp.argmax(jnp.where(legal, logits[t], -jnp.inf))
            tokens = tokens.at[t].set(best.astype(jnp.int32))
        return tokens
