"""NSGA-II: evolution by non-dominated fronts and crowding."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.core import visited as vs
from jaxnas.core.errors import UserError
from jaxnas.core.ranges import HPARAMS
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import OK, Evaluation, Objective, Proposal
from jaxnas.moo import pareto


class NSGA2Hparams(NamedTuple):
    """How children come about."""

    crossover: Float[Array, ""]
    """Probability that a child has two parents."""
    mutation: Float[Array, ""]
    """Probability that a child is mutated at one position, after any crossover."""
    RANGES = HPARAMS | {"crossover": "[0, 1]", "mutation": "[0, 1]"}


class NSGA2State(NamedTuple):
    """The population, sorted into fronts, and what was proposed so far."""

    hparams: NSGA2Hparams
    tokens: Int[Array, "C L"]
    points: Float[Array, "C M"]
    """Objectives, greater is better; NaN where an evaluation failed or a place is empty."""
    violation: Float[Array, "C"]
    rank: Int[Array, "C"]
    """Front of each, 0 the best."""
    crowding: Float[Array, "C"]
    told: Int[Array, ""]
    """Individuals evaluated so far."""
    known: vs.Visited
    stored: Int[Array, ""]
    """Architectures in ``known``."""


@dataclass(frozen=True)
class NSGA2:
    """Elitist evolution towards the whole front of several objectives.

    Deb, Pratap, Agarwal and Meyarivan 2002, "A fast and elitist multiobjective genetic
    algorithm: NSGA-II", with constrained domination: binary tournaments on front and
    crowding choose parents; of population and children together the best fronts survive,
    the last of them by crowding. Differences: ``batch`` children a generation and not as
    many as the population (with 1 it is the steady state); children are a uniform
    crossover and a mutation of tokens; one that was proposed before is mutated until it is
    new, ``tries`` times at most.

    With one objective it is (mu + lambda) evolution. Without ``objectives``, which
    ``search`` gives it (:class:`jaxnas.core.algorithm.ManyObjective`), that one is the
    reward.

    Args:
        space: where to search.
        batch: children a generation.
        population: individuals that survive.
        crossover: probability of two parents, of the preset.
        mutation: probability of a mutation, of the preset.
        tries: mutations of a child that was proposed before.
        memory: proposals remembered where the space has more than 2^20 members.
        objectives: what is measured; the reward alone when empty.
    """

    space: SearchSpace
    batch: int = 1
    population: int = 20
    crossover: float = 0.9
    mutation: float = 0.5
    tries: int = 16
    memory: int = 1024
    objectives: tuple[Objective, ...] = ()
    rounds: int = 1
    id: str = "nsga2-v1"
    preferred_width: int = 64

    def __post_init__(self) -> None:
        if min(self.batch, self.population - 1, self.memory) < 1 or self.tries < 0:
            raise UserError(
                "NSGA-II needs batch >= 1, population >= 2, memory >= 1 and tries >= 0, "
                f"got {self.batch}, {self.population}, {self.memory} and {self.tries}."
            )

    def for_objectives(self, objectives: tuple[Objective, ...]) -> "NSGA2":
        """Returns the algorithm that sees these objectives apart."""
        return replace(self, objectives=tuple(objectives))

    def default_hparams(self) -> NSGA2Hparams:
        """Returns the preset."""
        return NSGA2Hparams(jnp.float32(self.crossover), jnp.float32(self.mutation))

    def init(self, key: Key[Array, ""], hparams: NSGA2Hparams) -> NSGA2State:
        """Returns an empty population."""
        size = self.population
        return NSGA2State(
            hparams,
            jnp.zeros((size, self.space.length), jnp.int32),
            jnp.full((size, max(len(self.objectives), 1)), jnp.nan, jnp.float32),
            jnp.zeros(size, jnp.float32),
            jnp.full(size, size, jnp.int32),
            jnp.zeros(size, jnp.float32),
            jnp.int32(0),
            vs.empty(self.space, self.memory),
            jnp.int32(0),
        )

    def ask(self, key: Key[Array, ""], state: NSGA2State) -> tuple[NSGA2State, Proposal]:
        """Returns uniform architectures until the population is full, then children."""
        breed_key, change_key = jax.random.split(key)
        filling = state.told < self.population
        fresh = self._uniform(breed_key)
        tokens = jnp.where(filling, fresh, self._children(breed_key, state))
        state, done = self._noted(state, tokens, jnp.zeros(self.batch, bool))

        def change(carry: tuple) -> tuple:
            state, tokens, done, i = carry
            one = jax.random.fold_in(change_key, i)
            mutants = jax.vmap(lambda k, row: tk.mutate_within(k, self.space, row))(
                jax.random.split(one, self.batch), tokens
            )
            other = jnp.where(filling, self._uniform(one), mutants)
            tokens = jnp.where(done[:, None], tokens, other)
            state, done = self._noted(state, tokens, done)
            return state, tokens, done, i + 1

        state, tokens, *_ = jax.lax.while_loop(
            lambda carry: ~jnp.all(carry[2]) & (carry[3] < self.tries),
            change,
            (state, tokens, done, jnp.int32(0)),
        )
        fidelity, every = jnp.zeros(self.batch, jnp.int32), jnp.ones(self.batch, bool)
        return state, Proposal(tokens, fidelity, every)

    def _uniform(self, key: Key[Array, ""]) -> Int[Array, "B L"]:
        keys = jax.random.split(key, self.batch)
        return jax.vmap(lambda k: tk.sample_uniform(k, self.space))(keys)

    def _children(self, key: Key[Array, ""], state: NSGA2State) -> Int[Array, "B L"]:
        """Returns children of parents that won binary tournaments."""
        size, lanes = self.population, self.batch
        pick_key, cross_key, mutate_key, coin_key = jax.random.split(key, 4)
        pair = jax.random.randint(pick_key, (2, lanes, 2), 0, size, jnp.int32)
        rank, room = state.rank[pair], state.crowding[pair]
        second = rank[..., 1] < rank[..., 0]
        second |= (rank[..., 1] == rank[..., 0]) & (room[..., 1] > room[..., 0])
        mothers, fathers = state.tokens[jnp.where(second, pair[..., 1], pair[..., 0])]
        coins = jax.random.uniform(coin_key, (2, lanes, 1), jnp.float32)
        mix = jax.vmap(lambda k, a, b: tk.crossover(k, self.space, a, b))
        mixed = mix(jax.random.split(cross_key, lanes), mothers, fathers)
        children = jnp.where(coins[0] < state.hparams.crossover, mixed, mothers)
        mutate = jax.vmap(lambda k, row: tk.mutate_within(k, self.space, row))
        mutants = mutate(jax.random.split(mutate_key, lanes), children)
        return jnp.where(coins[1] < state.hparams.mutation, mutants, children)

    def _noted(
        self, state: NSGA2State, tokens: Int[Array, "B L"], done: Bool[Array, "B"]
    ) -> tuple[NSGA2State, Bool[Array, "B"]]:
        """Returns the state that knows the lanes not done yet, and which are done now."""
        full = 2**30 if vs.uses_bitmap(self.space) else self.memory
        room = full - state.stored
        known, new, seen, _ = vs.insert(self.space, state.known, tokens, ~done, room)
        stored = state.stored + jnp.sum(new, dtype=jnp.int32)
        return state._replace(known=known, stored=stored), done | new | ~seen

    def tell(
        self,
        key: Key[Array, ""],
        state: NSGA2State,
        proposal: Proposal,
        evaluation: Evaluation,
    ) -> NSGA2State:
        """Returns the population that survives among itself and the children."""
        found = evaluation.reward[:, None]
        if self.objectives:
            found = evaluation.objectives * pareto.signs(self.objectives)
        twin = jnp.all(proposal.tokens[:, None] == state.tokens[None], axis=-1)
        held = jnp.any(twin & (state.rank < self.population), axis=1)
        ok = (evaluation.status == OK) & proposal.active & ~held
        tokens = jnp.concatenate([state.tokens, proposal.tokens])
        points = jnp.concatenate([state.points, jnp.where(ok[:, None], found, jnp.nan)])
        violation = jnp.concatenate(
            [state.violation, jnp.where(ok, evaluation.violation, 0.0)]
        )
        there = pareto.present(points, violation)
        rank = pareto.ranks(pareto.dominates(points, violation), there)
        crowding = pareto.crowding(points, rank)
        best = jnp.lexsort((-crowding, rank))[: self.population]
        return state._replace(
            tokens=tokens[best],
            points=points[best],
            violation=violation[best],
            rank=jnp.minimum(rank[best], self.population),
            crowding=crowding[best],
            told=state.told + jnp.sum(proposal.active, dtype=jnp.int32),
        )

    def learn(
        self, key: Key[Array, ""], state: NSGA2State
    ) -> tuple[NSGA2State, dict[str, Float[Array, ""]]]:
        """Returns the state unchanged, the size of its first front and what is feasible."""
        there = state.rank < self.population
        feasible = there & (state.violation <= 0)
        share = jnp.sum(feasible, dtype=jnp.float32) / jnp.maximum(
            jnp.sum(there, dtype=jnp.float32), 1.0
        )
        front = jnp.sum(state.rank == 0, dtype=jnp.float32)
        return state, {"front": front, "feasible": share}
