"""Local search over the single-position neighbourhood."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.ranges import HPARAMS
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import OK, Evaluation, Proposal


class LocalSearchHparams(NamedTuple):
    """How many random architectures come before the first climb."""

    starts: Float[Array, ""]
    RANGES = HPARAMS


class LocalSearchState(NamedTuple):
    """Everything evaluated that was not expanded yet, and the expansion going on."""

    hparams: LocalSearchHparams
    pool: Int[Array, "C L"]
    fitness: Float[Array, "C"]
    """Reward; -inf where the place is empty, failed or already expanded."""
    evaluated: Int[Array, ""]
    centre: Int[Array, "L"]
    """The architecture whose neighbours are being asked."""
    climbing: Float[Array, ""]
    order: Int[Array, "R"]
    next: Int[Array, ""]
    """Neighbours asked already; ``R`` when a new centre must be chosen."""


@dataclass(frozen=True)
class LocalSearch:
    """Asks the neighbours of the best known architecture in random order, and moves on.

    After ``starts`` uniform architectures the best one not yet expanded becomes the centre
    and its ``L (V - 1)`` neighbours are asked in random order. With ``first_improvement``
    the search moves as soon as something better than the centre is found; else it asks the
    whole neighbourhood first. At a local minimum it goes on from the best architecture that
    has not been expanded. White, Nolen and Savani 2021, "Exploring the loss landscape in
    neural architecture search", Algorithm 1; we continue at minima where it stops.

    Args:
        space: where to search.
        batch: architectures a proposal.
        starts: random architectures of the preset.
        capacity: evaluated architectures remembered; the oldest are forgotten first.
        first_improvement: move at the first better neighbour.
    """

    space: SearchSpace
    batch: int = 1
    starts: int = 20
    capacity: int = 1024
    first_improvement: bool = True
    rounds: int = 1
    id: str = "local-search-v1"
    preferred_width: int = 64

    def __post_init__(self) -> None:
        if self.starts < 1 or self.batch < 1 or self.capacity < self.batch:
            raise UserError(
                "Local search needs starts >= 1, batch >= 1 and capacity >= batch, got "
                f"{self.starts}, {self.batch} and {self.capacity}."
            )

    @property
    def neighbourhood(self) -> int:
        """Rows of a neighbourhood, legal or not."""
        return self.space.length * (self.space.vocab - 1)

    def default_hparams(self) -> LocalSearchHparams:
        """Returns the preset number of starts."""
        return LocalSearchHparams(jnp.float32(self.starts))

    def init(self, key: Key[Array, ""], hparams: LocalSearchHparams) -> LocalSearchState:
        """Returns an empty pool."""
        L, R = self.space.length, self.neighbourhood
        pool = jnp.zeros((self.capacity, L), jnp.int32)
        fitness = jnp.full(self.capacity, -jnp.inf, jnp.float32)
        start = (jnp.int32(0), jnp.zeros(L, jnp.int32), jnp.float32(-jnp.inf))
        order = jnp.arange(R, dtype=jnp.int32)
        return LocalSearchState(hparams, pool, fitness, *start, order, jnp.int32(R))

    def _recentre(self, key: Key[Array, ""], state: LocalSearchState) -> LocalSearchState:
        """Returns the state with the best unexpanded architecture as the new centre."""
        best = jnp.argmax(state.fitness)
        drawn = jax.random.uniform(key, (self.neighbourhood,), dtype=jnp.float32)
        return state._replace(
            centre=state.pool[best],
            climbing=state.fitness[best],
            fitness=state.fitness.at[best].set(-jnp.inf),
            order=jnp.argsort(drawn).astype(jnp.int32),
            next=jnp.int32(0),
        )

    def ask(
        self, key: Key[Array, ""], state: LocalSearchState
    ) -> tuple[LocalSearchState, Proposal]:
        """Returns random starts, then neighbours of the centre; illegal ones inactive."""
        order_key, fresh_key = jax.random.split(key)
        starting = state.evaluated < state.hparams.starts
        better = jnp.max(state.fitness) > state.climbing
        move = (state.next >= self.neighbourhood) | (self.first_improvement & better)
        moved = self._recentre(order_key, state)
        go = move & ~starting
        state = jax.tree.map(lambda a, b: jnp.where(go, a, b), moved, state)
        fresh_keys = jax.random.split(fresh_key, self.batch)
        fresh = jax.vmap(lambda k: tk.sample_uniform(k, self.space))(fresh_keys)
        rows, legal = tk.neighbours(self.space, state.centre)
        place = state.next + jnp.arange(self.batch, dtype=jnp.int32)
        row = state.order[jnp.minimum(place, self.neighbourhood - 1)]
        # From a dead end (nothing left to expand) the search starts afresh.
        restart = starting | (state.climbing == -jnp.inf)
        tokens = jnp.where(restart, fresh, rows[row])
        active = restart | (legal[row] & (place < self.neighbourhood))
        step = jnp.where(restart, 0, self.batch)
        state = state._replace(next=state.next + step)
        return state, Proposal(tokens, jnp.zeros(self.batch, jnp.int32), active)

    def tell(
        self,
        key: Key[Array, ""],
        state: LocalSearchState,
        proposal: Proposal,
        evaluation: Evaluation,
    ) -> LocalSearchState:
        """Returns the pool with what was scored, each architecture at most once."""
        ok = proposal.active & (evaluation.status == OK)
        known = self._known(state, proposal.tokens)
        evaluated = jnp.cumsum(ok, dtype=jnp.int32) - 1
        place = jnp.where(ok, (state.evaluated + evaluated) % self.capacity, self.capacity)
        reward = jnp.where(ok & ~known, evaluation.reward, -jnp.inf)
        return state._replace(
            pool=state.pool.at[place].set(proposal.tokens, mode="drop"),
            fitness=state.fitness.at[place].set(reward, mode="drop"),
            evaluated=state.evaluated + jnp.sum(ok, dtype=jnp.int32),
        )

    def _known(
        self, state: LocalSearchState, tokens: Int[Array, "B L"]
    ) -> Bool[Array, "B"]:
        """Returns which architectures are in the pool already, or earlier in the batch."""
        filled = jnp.arange(self.capacity, dtype=jnp.int32) < state.evaluated
        same = jnp.all(tokens[:, None] == state.pool[None], axis=-1)
        lanes = jnp.arange(self.batch, dtype=jnp.int32)
        twins = jnp.all(tokens[:, None] == tokens[None], axis=-1)
        before = jnp.any(twins & (lanes[None] < lanes[:, None]), axis=1)
        return jnp.any(same & filled, axis=1) | before

    def learn(
        self, key: Key[Array, ""], state: LocalSearchState
    ) -> tuple[LocalSearchState, dict[str, Float[Array, ""]]]:
        """Returns the state unchanged and no metrics."""
        return state, {}
