"""Oracles that misbehave on purpose, for tests of whatever has to live with them."""

from dataclasses import dataclass
from typing import Any

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
