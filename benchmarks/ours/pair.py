"""A space of 12 tokens and a table that scores it: two NAS-Bench-201 cells side by side.

The peers score the same architectures by the same two look-ups, so both sides pay for a
real oracle; ours also keeps the whole book of distinct queries.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import OK, SKIPPED, Evaluation, Objective


@dataclass(frozen=True)
class PairSpace:
    """``length`` tokens of ``vocab`` values, every combination legal."""

    length: int = 12
    vocab: int = 5
    id: str = "pair-v1"

    def mask(self, tokens: Any, t: Any) -> Any:
        """Returns that every token is legal."""
        return jnp.ones(self.vocab, bool)

    def count(self) -> int:
        """Returns the number of architectures."""
        return self.vocab**self.length


@dataclass(frozen=True)
class PairOracle:
    """The mean of the table's entries for the first and the second half of the tokens."""

    space: PairSpace
    id: str = "pair-v1"
    traced: bool = True
    objectives: tuple[Objective, ...] = (Objective("score", "1"),)

    def params(self) -> Any:
        """Returns the table, the same numbers that the peers read."""
        size = self.space.vocab ** (self.space.length // 2)
        return jnp.asarray(np.random.default_rng(0).random(size), jnp.float32)

    def init(self, key: Any, params: Any) -> tuple[()]:
        """Returns nothing."""
        return ()

    def evaluate(
        self, key: Any, params: Any, state: Any, tokens: Any, fidelity: Any, active: Any
    ) -> tuple[tuple[()], Evaluation]:
        """Returns two gathers and their mean."""
        half = self.space.length // 2
        radix = jnp.asarray(self.space.vocab ** np.arange(half - 1, -1, -1), jnp.int32)
        rows = tokens.reshape(-1, 2, half) @ radix
        score = jnp.mean(params[rows], axis=1)
        nan = jnp.full_like(score, jnp.nan)
        status = jnp.where(active, OK, SKIPPED).astype(jnp.int32)
        score = jnp.where(active, score, jnp.nan)
        return state, Evaluation(score[:, None], 0 * score, 0 * score, status, nan)
