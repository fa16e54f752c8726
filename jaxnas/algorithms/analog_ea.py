"""The evolutionary search of AnalogNAS: a surrogate says which mutants are queried."""

from dataclasses import dataclass
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.core.branching import branching
from jaxnas.core.errors import UserError
from jaxnas.core.ranges import COUNT, HPARAMS
from jaxnas.core.rng import wrap
from jaxnas.core.space import Resizable, SearchSpace
from jaxnas.core.types import OK, Evaluation, Proposal
from jaxnas.surrogates import gaussian_process as gp
from jaxnas.surrogates.views import View, Views


class AnalogEAHparams(NamedTuple):
    """How children are made, and when the population is drawn anew."""

    depth: Float[Array, ""]
    """Probability that a mutation changes the depth."""
    width: Float[Array, ""]
    """Probability that it changes the width; else any decision may change."""
    crossover: Float[Array, ""]
    """Probability that a child has two parents before it is mutated."""
    patience: Float[Array, ""]
    """Queries without a better one after which the population is drawn anew."""
    RANGES = HPARAMS | {
        "depth": "[0, 1]", "width": "[0, 1]", "crossover": "[0, 1]", "patience": COUNT,
    }  # fmt: skip


class AnalogEAState(NamedTuple):
    """The population, everything queried, and the surrogate as fitted last."""

    hparams: AnalogEAHparams
    population: Int[Array, "n L"]
    waiting: Int[Array, ""]
    """Individuals of a fresh population that are still to be queried, the last ones."""
    tokens: Int[Array, "C L"]
    reward: Float[Array, "C"]
    """-inf where the evaluation failed or the place is empty."""
    told: Int[Array, ""]
    """Rows so far; the oldest one's place is ``told % capacity``."""
    best: Float[Array, ""]
    """Best reward since the population was drawn."""
    stale: Int[Array, ""]
    """Queries since it rose."""
    kernel: gp.Kernel
    fitted: Int[Array, ""]
    """Rows at the last fit."""


@dataclass(frozen=True)
class AnalogEA:
    """Evolves on a surrogate and queries the individuals that it ranks first.

    A Latin hypercube sample is queried. Then, before each proposal, the population goes
    through ``generations`` on the surrogate's mean: the better half are the parents, their
    mutants of depth, of width and of any decision, part of them after crossover, are the
    children, and of the union of both the best are the next population. The best that were
    not queried yet are proposed. After ``patience`` queries without a better one the
    population is drawn and queried anew. Benmeziane et al. 2023, "AnalogNAS", Algorithm 1
    (arXiv 2305.10459).

    It differs from the published code (``analogainas``, ``ea_optimized.py``):

    - Mutations change a parent. There, each mutation of the default loop draws a whole new
      architecture, so that nothing is inherited.
    - The best is recommended, of all that was queried. There, an improvement of a
      generation returns its last individual.
    - Children are selected together with their parents, and crossover exists; there, every
      child replaces its parent.
    - The surrogate is a Gaussian process that is fitted again to whatever was queried;
      there, boosted trees are fitted once to networks trained before the search. At equal
      queries those would have to be counted.
    - The limits on parameters and on the loss by drift are the run's constraints, checked
      at every query; there, the latter is checked in the first population only and the
      former never.
    - Stagnation draws a new population instead of ending: a fixed budget is spent anyway.

    On a space that does not say which decisions are depth and width
    (:class:`~jaxnas.core.space.Resizable`) all mutations are the space's own.

    Args:
        space: where to search.
        batch: architectures a proposal, at most the population.
        population: individuals.
        generations: on the surrogate before each proposal.
        capacity: queries remembered; the oldest are forgotten first.
        every: queries between two fits.
        steps: of Adam at each fit, from the last fit on.
    """

    space: SearchSpace
    batch: int = 1
    population: int = 20
    generations: int = 5
    capacity: int = 256
    every: int = 10
    steps: int = 15
    rounds: int = 1
    id: str = "analog-ea-v1"
    preferred_width: int = 8

    def __post_init__(self) -> None:
        sizes = (self.batch, self.population, self.capacity)
        if self.population < 2 or list(sizes) != sorted(sizes) or self.batch < 1:
            raise UserError(
                "AnalogNAS's evolution needs 1 <= batch <= population <= capacity and a "
                f"population of 2 or more, got {', '.join(map(str, sizes))}."
            )
        if min(self.generations, self.every, self.steps) < 1:
            raise UserError("Generations, every and steps must be at least 1.")

    def default_hparams(self) -> AnalogEAHparams:
        """Returns the preset; depth and width as often as in the published code."""
        return AnalogEAHparams(*map(jnp.float32, (0.4, 0.4, 0.5, 60.0)))

    def init(self, key: Key[Array, ""], hparams: AnalogEAHparams) -> AnalogEAState:
        """Returns a fresh population and a surrogate that has seen nothing."""
        C, L = self.capacity, self.space.length
        return AnalogEAState(
            hparams,
            tk.latin(key, self.space, self.population),
            jnp.int32(self.population),
            jnp.zeros((C, L), jnp.int32),
            jnp.full(C, -jnp.inf, jnp.float32),
            jnp.int32(0),
            jnp.float32(-jnp.inf),
            jnp.int32(0),
            self._prior(),
            jnp.int32(0),
        )

    def _prior(self) -> gp.Kernel:
        row = jax.ShapeDtypeStruct((self.space.length,), jnp.int32)
        return gp.prior(self.space.length, jax.eval_shape(Views(self.space), row))

    def _views(self, tokens: Int[Array, "n L"]) -> View:
        return jax.vmap(Views(self.space))(tokens)

    def ask(
        self, key: Key[Array, ""], state: AnalogEAState
    ) -> tuple[AnalogEAState, Proposal]:
        """Returns individuals of a fresh population, or those that the surrogate ranks."""
        found = branching(self._proposed)(jax.random.key_data(key), state)
        tokens, active, population = found
        state = state._replace(population=population)
        return state, Proposal(tokens, jnp.zeros(self.batch, jnp.int32), active)

    def _proposed(
        self, key_data: Array, state: AnalogEAState
    ) -> tuple[Int[Array, "B L"], Bool[Array, "B"], Int[Array, "n L"]]:
        lanes = jnp.arange(self.batch, dtype=jnp.int32)

        def begin(state: AnalogEAState) -> tuple[Array, Array, Array]:
            place = jnp.minimum(
                self.population - state.waiting + lanes, self.population - 1
            )
            return state.population[place], lanes < state.waiting, state.population

        def choose(state: AnalogEAState) -> tuple[Array, Array, Array]:
            return self._evolved(wrap(key_data), state)

        return jax.lax.cond(state.waiting > 0, begin, choose, state)

    def _evolved(
        self, key: Key[Array, ""], state: AnalogEAState
    ) -> tuple[Int[Array, "B L"], Bool[Array, "B"], Int[Array, "n L"]]:
        """Returns the best that were not queried, and the population that they are of."""
        labels, held = _labels(state.reward)
        rows = self._views(state.tokens)
        posterior = gp.condition(state.kernel, rows, labels, held)
        n = self.population

        def generation(
            carry: tuple[Array, Array], key: Key[Array, ""]
        ) -> tuple[tuple[Array, Array], None]:
            population, _ = carry  # best first
            parents = population[: max(n // 2, 1)]
            keys = jax.random.split(key, 2 * n)
            breed = lambda key: self._child(key, state.hparams, parents)
            union = jnp.concatenate([parents, jax.vmap(breed)(keys)])
            mean = gp.predict(state.kernel, posterior, self._views(union))[0]
            mean = jnp.where(_repeated(union), -jnp.inf, mean)
            return (union[jax.lax.top_k(mean, n)[1]], union), None

        *keys, fresh = jax.random.split(key, self.generations + 1)
        size = 2 * n + max(n // 2, 1)
        rank = gp.predict(state.kernel, posterior, self._views(state.population))[0]
        ordered = state.population[jnp.argsort(-rank)]
        start = (ordered, jnp.zeros((size, self.space.length), jnp.int32))
        (population, union), _ = jax.lax.scan(generation, start, jnp.stack(keys))
        others = jax.vmap(lambda k: tk.sample_uniform(k, self.space))
        pool = jnp.concatenate([union, others(jax.random.split(fresh, self.batch))])
        mean = gp.predict(state.kernel, posterior, self._views(pool))[0]
        filled = jnp.arange(self.capacity, dtype=jnp.int32) < state.told
        seen = jnp.any(jnp.all(pool[:, None] == state.tokens[None], -1) & filled, axis=1)
        value = jnp.where(seen | _repeated(pool), -jnp.inf, mean)
        score, best = jax.lax.top_k(value, self.batch)
        return pool[best], score > -jnp.inf, population

    def _child(
        self, key: Key[Array, ""], hparams: AnalogEAHparams, parents: Int[Array, "p L"]
    ) -> Int[Array, "L"]:
        """Returns a mutant of one parent, or of the crossover of two."""
        pick, mix, cross, kind, change = jax.random.split(key, 5)
        two = jax.random.randint(pick, (2,), 0, len(parents), dtype=jnp.int32)
        first, second = parents[two[0]], parents[two[1]]
        both = tk.crossover(cross, self.space, first, second)
        crossed = jax.random.uniform(mix, dtype=jnp.float32) < hparams.crossover
        parent = jnp.where(crossed, both, first)
        if not isinstance(self.space, Resizable):
            return tk.mutate_within(change, self.space, parent)
        sized = cast(Resizable, self.space)
        groups = np.ones((3, self.space.length), bool)
        for row, places in enumerate((sized.depth_positions, sized.width_positions)):
            groups[row] = np.isin(np.arange(self.space.length), places)
        u = jax.random.uniform(kind, dtype=jnp.float32)
        wide = u < hparams.depth + hparams.width
        which = jnp.where(u < hparams.depth, 0, jnp.where(wide, 1, 2))
        return tk.mutate_among(change, self.space, parent, jnp.asarray(groups)[which])

    def tell(
        self,
        key: Key[Array, ""],
        state: AnalogEAState,
        proposal: Proposal,
        evaluation: Evaluation,
    ) -> AnalogEAState:
        """Returns the state with what was evaluated; a stale population is drawn anew."""
        ok = (evaluation.status == OK) & jnp.isfinite(evaluation.reward) & proposal.active
        many = jnp.sum(proposal.active, dtype=jnp.int32)
        rank = jnp.cumsum(proposal.active, dtype=jnp.int32) - 1
        place = (state.told + rank) % self.capacity
        place = jnp.where(proposal.active, place, self.capacity)
        reward = jnp.where(ok, evaluation.reward, -jnp.inf)
        top = jnp.max(reward)
        stale = jnp.where(top > state.best, 0, state.stale + many)
        waiting = jnp.maximum(state.waiting - many, 0)
        again = (stale >= state.hparams.patience) & (waiting == 0)
        fresh = tk.latin(key, self.space, self.population)
        return state._replace(
            population=jnp.where(again, fresh, state.population),
            waiting=jnp.where(again, self.population, waiting).astype(jnp.int32),
            tokens=state.tokens.at[place].set(proposal.tokens, mode="drop"),
            reward=state.reward.at[place].set(reward, mode="drop"),
            told=state.told + many,
            best=jnp.where(again, -jnp.inf, jnp.maximum(state.best, top)),
            stale=jnp.where(again, 0, stale).astype(jnp.int32),
        )

    def learn(
        self, key: Key[Array, ""], state: AnalogEAState
    ) -> tuple[AnalogEAState, dict[str, Float[Array, ""]]]:
        """Returns the state with a new fit where one is due, and how stale it is."""
        kernel, fitted = branching(self._learnt)(state)
        state = state._replace(kernel=kernel, fitted=fitted)
        return state, {"stale": state.stale.astype(jnp.float32)}

    def _learnt(self, state: AnalogEAState) -> tuple[gp.Kernel, Int[Array, ""]]:
        due = (state.told - state.fitted >= self.every) & (state.waiting == 0)

        def refit(state: AnalogEAState) -> tuple[gp.Kernel, Array]:
            labels, held = _labels(state.reward)
            rows = self._views(state.tokens)
            start = self._prior()
            kernel = gp.fit(state.kernel, start, rows, labels, held, self.steps)
            return kernel, state.told

        def keep(state: AnalogEAState) -> tuple[gp.Kernel, Array]:
            return state.kernel, state.fitted

        return jax.lax.cond(due, refit, keep, state)


def _repeated(tokens: Int[Array, "n L"]) -> Bool[Array, "n"]:
    """Returns which architectures stand earlier in the list already."""
    same = jnp.all(tokens[:, None] == tokens[None], axis=-1)
    return jnp.any(jnp.tril(same, -1), axis=1)


def _labels(reward: Float[Array, "n"]) -> tuple[Float[Array, "n"], Bool[Array, "n"]]:
    """Returns the normal scores of the rewards' ranks, and which rows have a reward.

    A rank does not ask how bad a bad network is, nor what breaking a constraint costs.
    """
    held = jnp.isfinite(reward)
    many = jnp.maximum(jnp.sum(held), 1).astype(jnp.float32)
    below = jnp.sum((reward[None] < reward[:, None]) & held[None], 1, dtype=jnp.float32)
    equal = jnp.sum((reward[None] == reward[:, None]) & held[None], 1, dtype=jnp.float32)
    share = (below + 0.5 * jnp.maximum(equal, 1.0)) / many
    scores = jax.scipy.special.ndtri(jnp.clip(share, 1e-4, 1 - 1e-4))
    return jnp.where(held, scores, 0.0).astype(jnp.float32), held
