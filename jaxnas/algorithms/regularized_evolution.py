"""Regularised (ageing) evolution."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.ranges import HPARAMS
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import OK, Evaluation, Proposal


class EvolutionHparams(NamedTuple):
    """The tournament size, which may differ between controllers."""

    sample: Float[Array, ""]
    """Tournament size, at most the population."""
    RANGES = HPARAMS


class EvolutionState(NamedTuple):
    """A ring of the last ``population`` individuals."""

    hparams: EvolutionHparams
    tokens: Int[Array, "C L"]
    fitness: Float[Array, "C"]
    """Reward, -inf where the evaluation failed or the place is empty."""
    born: Int[Array, ""]
    """Individuals evaluated so far; the oldest one's place is ``born % population``."""


@dataclass(frozen=True)
class RegularizedEvolution:
    """Mutates the best of a random sample of the population; the oldest individual dies.

    Real et al. 2019, "Regularized evolution for image classifier architecture search",
    Algorithm 1. The tournament draws ``sample`` distinct individuals. An individual whose
    evaluation failed enters with fitness ``-inf`` and never wins. A child that was seen
    before enters like any other, and costs no query.

    Args:
        space: where to search.
        batch: children a generation; 1 is the published algorithm.
        population: individuals alive.
        sample: tournament size of the preset.
    """

    space: SearchSpace
    batch: int = 1
    population: int = 30
    sample: int = 15
    rounds: int = 1
    id: str = "regularized-evolution-v1"
    preferred_width: int = 64

    def __post_init__(self) -> None:
        if self.population < 2 or not 1 <= self.sample <= self.population:
            raise UserError(
                f"Evolution needs 1 <= sample <= population, got sample {self.sample} and "
                f"population {self.population}."
            )
        if not 1 <= self.batch <= self.population:
            raise UserError(f"Evolution needs 1 <= batch <= population, got {self.batch}.")

    def default_hparams(self) -> EvolutionHparams:
        """Returns the preset tournament size."""
        return EvolutionHparams(jnp.float32(self.sample))

    def init(self, key: Key[Array, ""], hparams: EvolutionHparams) -> EvolutionState:
        """Returns an empty population."""
        tokens = jnp.zeros((self.population, self.space.length), jnp.int32)
        fitness = jnp.full(self.population, -jnp.inf, jnp.float32)
        return EvolutionState(hparams, tokens, fitness, jnp.int32(0))

    def ask(
        self, key: Key[Array, ""], state: EvolutionState
    ) -> tuple[EvolutionState, Proposal]:
        """Returns uniform architectures until the population is full, then children."""
        filling = state.born < self.population

        def child(key: Key[Array, ""]) -> Int[Array, "L"]:
            fresh_key, pick_key, mutate_key = jax.random.split(key, 3)
            drawn = jax.random.uniform(pick_key, (self.population,), dtype=jnp.float32)
            order = jnp.argsort(drawn)
            entered = jnp.arange(self.population, dtype=jnp.int32) < state.hparams.sample
            fitness = jnp.where(entered, state.fitness[order], -jnp.inf)
            parent = state.tokens[order[jnp.argmax(fitness)]]
            fresh = tk.sample_uniform(fresh_key, self.space)
            return jnp.where(
                filling, fresh, tk.mutate_within(mutate_key, self.space, parent)
            )

        tokens = jax.vmap(child)(jax.random.split(key, self.batch))
        every = jnp.ones(self.batch, bool)
        return state, Proposal(tokens, jnp.zeros(self.batch, jnp.int32), every)

    def tell(
        self,
        key: Key[Array, ""],
        state: EvolutionState,
        proposal: Proposal,
        evaluation: Evaluation,
    ) -> EvolutionState:
        """Returns the population with the children in the places of the oldest."""
        place = (state.born + jnp.arange(self.batch, dtype=jnp.int32)) % self.population
        reward = jnp.where(evaluation.status == OK, evaluation.reward, -jnp.inf)
        return state._replace(
            tokens=state.tokens.at[place].set(proposal.tokens),
            fitness=state.fitness.at[place].set(reward),
            born=state.born + self.batch,
        )

    def learn(
        self, key: Key[Array, ""], state: EvolutionState
    ) -> tuple[EvolutionState, dict[str, Float[Array, ""]]]:
        """Returns the state unchanged and no metrics."""
        return state, {}
