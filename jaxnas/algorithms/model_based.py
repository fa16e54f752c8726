"""Search by a Gaussian process that is fitted to everything queried."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.core.branching import branching
from jaxnas.core.errors import UserError
from jaxnas.core.ranges import COUNT, HPARAMS
from jaxnas.core.rng import wrap
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import OK, Evaluation, Proposal
from jaxnas.surrogates import gaussian_process as gp
from jaxnas.surrogates.views import View, Views

BUCKETS = (32, 128, 256, 512)
"""Rows of the matrices: those of the first that holds all observations are computed."""
WHOLE = 2**16
"""Largest space whose every member is a candidate of each fit."""
PARENTS = 16
"""Observations from which the candidates of a larger space are bred."""
ROUNDS = 3
"""Generations of such candidates for each proposal."""


class ModelHparams(NamedTuple):
    """How the search begins, and how it weighs what it does not know."""

    start: Float[Array, ""]
    """Uniform architectures before the first fit."""
    optimism: Float[Array, ""]
    """Factor on the posterior's standard deviation in the expected improvement."""
    RANGES = HPARAMS | {"start": COUNT, "optimism": "(0, inf)"}


class ModelState(NamedTuple):
    """Everything queried, the kernel as fitted last, and the candidates."""

    hparams: ModelHparams
    tokens: Int[Array, "C L"]
    reward: Float[Array, "C"]
    """-inf where the evaluation failed or the place is empty."""
    told: Int[Array, ""]
    """Rows so far; the oldest one's place is ``told % capacity``."""
    kernel: gp.Kernel
    fitted: Int[Array, ""]
    """Rows at the last fit."""
    candidates: Int[Array, "S L"]


@dataclass(frozen=True)
class ModelBased:
    """Asks the architecture of the largest expected improvement under a Gaussian process.

    The kernel (:mod:`jaxnas.surrogates.gaussian_process`) is fitted by its posterior
    density after every 2, then 5, 10 and 25 queries. After a fit the whole space, where it
    has at most ``WHOLE`` members, is ranked and the best ``shortlist`` are the candidates
    until the next; of a larger space they are bred from the best observations before each
    proposal. Rewards far below the others are compressed before they are fitted: how bad
    a bad network is says little about the good ones. A batch is filled one lane after the
    other, each believed to have its posterior mean (kriging believer; Ginsbourger, Le
    Riche and Carraro 2010). Failed evaluations are not asked again and teach nothing.

    Jones, Schonlau and Welch 1998 (expected improvement).

    Args:
        space: where to search.
        batch: architectures a proposal.
        start: uniform architectures before the first fit, of the preset.
        capacity: queries remembered; the oldest are forgotten first.
        shortlist: candidates.
        steps: of Adam at each fit, from the last fit on.
    """

    space: SearchSpace
    batch: int = 1
    start: int = 3
    capacity: int = 512
    shortlist: int = 1024
    steps: int = 15
    rounds: int = 1
    id: str = "model-based-v1"
    preferred_width: int = 8

    def __post_init__(self) -> None:
        if self.start < 1 or not 1 <= self.batch <= self.capacity <= BUCKETS[-1]:
            raise UserError(
                "Model-based search needs start >= 1 and 1 <= batch <= capacity <= "
                f"{BUCKETS[-1]}, got {self.start}, {self.batch} and {self.capacity}."
            )

    @property
    def whole(self) -> bool:
        """Whether every architecture is looked at."""
        total = tk.count(self.space)
        return total is not None and total <= WHOLE

    @property
    def buckets(self) -> tuple[int, ...]:
        """Numbers of rows that are compiled."""
        return (*(b for b in BUCKETS if b < self.capacity), self.capacity)

    def default_hparams(self) -> ModelHparams:
        """Returns the preset."""
        return ModelHparams(jnp.float32(self.start), jnp.float32(1.0))

    def init(self, key: Key[Array, ""], hparams: ModelHparams) -> ModelState:
        """Returns a state that has seen nothing."""
        C, L = self.capacity, self.space.length
        size = min(self.shortlist, tk.count(self.space) or 0) if self.whole else 1
        return ModelState(
            hparams,
            jnp.zeros((C, L), jnp.int32),
            jnp.full(C, -jnp.inf, jnp.float32),
            jnp.int32(0),
            self._prior(),
            jnp.int32(0),
            jnp.zeros((size, L), jnp.int32),
        )

    def _prior(self) -> gp.Kernel:
        view = jax.eval_shape(
            Views(self.space), jax.ShapeDtypeStruct((self.space.length,), jnp.int32)
        )
        return gp.prior(self.space.length, view)

    def _views(self, tokens: Int[Array, "n L"]) -> View:
        if self.whole and self.space.vocab**self.space.length <= 16 * WHOLE:
            place = jnp.asarray(_places(self.space))[tk.index(self.space, tokens)]
            return jax.tree.map(lambda rows: rows[place], Views(self.space).all())
        return jax.vmap(Views(self.space))(tokens)

    def _bucketed(self, function: Any, state: ModelState, *args: Any) -> Any:
        """Returns a function of the rows, of as many of them as there are."""
        branches = [lambda s, *a, n=n: function(_cut(s, n), *a) for n in self.buckets]
        full = jnp.asarray(self.buckets[:-1], jnp.int32)
        which = jnp.sum(state.told + self.batch > full, dtype=jnp.int32)
        return jax.lax.switch(which, branches, state, *args)

    def ask(self, key: Key[Array, ""], state: ModelState) -> tuple[ModelState, Proposal]:
        """Returns uniform architectures first, then those of the largest acquisition."""
        tokens, active = branching(self._proposed)(jax.random.key_data(key), state)
        return state, Proposal(tokens, jnp.zeros(self.batch, jnp.int32), active)

    def _proposed(
        self, key_data: Array, state: ModelState
    ) -> tuple[Int[Array, "B L"], Bool[Array, "B"]]:
        key = wrap(key_data)

        def begin(state: ModelState) -> tuple[Array, Array]:
            keys = jax.random.split(key, self.batch)
            fresh = jax.vmap(lambda k: tk.sample_uniform(k, self.space))(keys)
            return fresh, jnp.ones(self.batch, bool)

        def choose(state: ModelState) -> tuple[Array, Array]:
            return self._bucketed(self._choose, state, key)

        return jax.lax.cond(state.told < state.hparams.start, begin, choose, state)

    def _choose(
        self, state: ModelState, key: Key[Array, ""]
    ) -> tuple[Int[Array, "B L"], Bool[Array, "B"]]:
        """Returns the lanes of a proposal, and which have a candidate left."""
        labels, held = _labels(state)
        rows = self._views(state.tokens)
        candidates = state.candidates
        if not self.whole:
            candidates = self._bred(key, state, rows, labels, held)
        views = self._views(candidates)
        n = state.tokens.shape[0]
        open_ = ~_seen(state, candidates)
        more = lambda a: jnp.zeros((self.batch, *a.shape[1:]), a.dtype)
        grow = lambda a: jnp.concatenate([a, more(a)])
        rows, labels, held = jax.tree.map(grow, (rows, labels, held))

        def lane(carry: tuple, i: Int[Array, ""]) -> tuple:
            rows, labels, held, open_ = carry
            posterior = gp.condition(state.kernel, rows, labels, held)
            mean, sd = gp.predict(state.kernel, posterior, views)
            value = _improvement(mean, sd * state.hparams.optimism, _best(labels, held))
            best = jnp.argmax(jnp.where(open_, value, -jnp.inf))
            chosen = (candidates[best], open_[best])
            rows = jax.tree.map(lambda a, v: a.at[n + i].set(v[best]), rows, views)
            labels = labels.at[n + i].set(mean[best])
            held = held.at[n + i].set(open_[best])
            same = jnp.all(candidates == candidates[best], axis=-1)
            return (rows, labels, held, open_ & ~same), chosen

        lanes = jnp.arange(self.batch, dtype=jnp.int32)
        return jax.lax.scan(lane, (rows, labels, held, open_), lanes)[1]

    def _bred(
        self,
        key: Key[Array, ""],
        state: ModelState,
        rows: View,
        labels: Float[Array, "n"],
        held: Bool[Array, "n"],
    ) -> Int[Array, "S L"]:
        """Returns mutants of the best observations and of each other, and uniform ones."""
        first, *later = jax.random.split(key, 1 + ROUNDS)
        posterior = gp.condition(state.kernel, rows, labels, held)
        size, known = self.shortlist, min(PARENTS, len(labels), self.shortlist // 2)
        best = state.tokens[jax.lax.top_k(jnp.where(held, labels, -jnp.inf), known)[1]]
        keys = jax.random.split(first, size - known)
        fresh = jax.vmap(lambda k: tk.sample_uniform(k, self.space))(keys)
        kept = max(size // 8, 1)

        def breed(pool: Int[Array, "S L"], key: Key[Array, ""]) -> tuple[Array, None]:
            mean, sd = gp.predict(state.kernel, posterior, self._views(pool))
            value = _improvement(mean, sd * state.hparams.optimism, _best(labels, held))
            elite = pool[jax.lax.top_k(value, kept)[1]]
            parents = jnp.concatenate([elite, best])
            keys = jax.random.split(key, size - kept)
            which = np.arange(size - kept) % len(parents)
            mutate = lambda key, parent: tk.mutate_within(key, self.space, parent)
            children = jax.vmap(mutate)(keys, parents[which])
            return jnp.concatenate([elite, children]), None

        return jax.lax.scan(breed, jnp.concatenate([fresh, best]), jnp.stack(later))[0]

    def tell(
        self,
        key: Key[Array, ""],
        state: ModelState,
        proposal: Proposal,
        evaluation: Evaluation,
    ) -> ModelState:
        """Returns the state with what was evaluated; failures have no reward."""
        ok = (evaluation.status == OK) & jnp.isfinite(evaluation.reward)
        rank = jnp.cumsum(proposal.active, dtype=jnp.int32) - 1
        place = (state.told + rank) % self.capacity
        place = jnp.where(proposal.active, place, self.capacity)
        reward = jnp.where(ok, evaluation.reward, -jnp.inf)
        return state._replace(
            tokens=state.tokens.at[place].set(proposal.tokens, mode="drop"),
            reward=state.reward.at[place].set(reward, mode="drop"),
            told=state.told + jnp.sum(proposal.active, dtype=jnp.int32),
        )

    def learn(
        self, key: Key[Array, ""], state: ModelState
    ) -> tuple[ModelState, dict[str, Float[Array, ""]]]:
        """Returns the state with a new fit where one is due, and the kernel's facts."""
        kernel, candidates, fitted = branching(self._learnt)(state)
        state = state._replace(kernel=kernel, candidates=candidates, fitted=fitted)
        share = jax.nn.softmax(kernel.mixture)
        metrics = {
            "kernel_tokens": share[0],
            "kernel_paths": share[1],
            "kernel_summary": share[2],
            "kernel_noise": jnp.exp(kernel.noise),
        }
        return state, metrics

    def _learnt(self, state: ModelState) -> tuple[gp.Kernel, Array, Array]:
        """Returns kernel, candidates and rows at the last fit, new where one is due."""
        told = state.told
        gap = jnp.select([told <= 20, told <= 50, told <= 100], [2, 5, 10], 25)
        due = (told - state.fitted >= gap) | (state.fitted == 0)
        due &= told >= state.hparams.start

        def refit(state: ModelState) -> tuple[gp.Kernel, Array, Array]:
            return (*self._bucketed(self._refit, state), state.told)

        def keep(state: ModelState) -> tuple[gp.Kernel, Array, Array]:
            return state.kernel, state.candidates, state.fitted

        return jax.lax.cond(due, refit, keep, state)

    def _refit(self, state: ModelState) -> tuple[gp.Kernel, Int[Array, "S L"]]:
        labels, held = _labels(state)
        rows = self._views(state.tokens)
        start = self._prior()
        kernel = gp.fit(state.kernel, start, rows, labels, held, self.steps)
        if not self.whole:
            return kernel, state.candidates
        members = jnp.asarray(tk.enumerate_space(self.space))
        views = Views(self.space).all()
        posterior = gp.condition(kernel, rows, labels, held)
        mean, sd = gp.predict(kernel, posterior, views)
        value = _improvement(mean, sd * state.hparams.optimism, _best(labels, held))
        value = jnp.where(_seen(state, members), -jnp.inf, value)
        return kernel, members[jax.lax.top_k(value, state.candidates.shape[0])[1]]


@functools.lru_cache(maxsize=8)
def _places(space: SearchSpace) -> Int[np.ndarray, "I"]:
    """Returns the row of each mixed-radix index in the list of members."""
    members = tk.enumerate_space(space)
    radix = space.vocab ** np.arange(space.length - 1, -1, -1)
    places = np.zeros(space.vocab**space.length, np.int32)
    places[members @ radix] = np.arange(len(members))
    return places


def _cut(state: ModelState, rows: int) -> ModelState:
    return state._replace(tokens=state.tokens[:rows], reward=state.reward[:rows])


def _seen(state: ModelState, tokens: Int[Array, "M L"]) -> Bool[Array, "M"]:
    """Returns which architectures were told already."""
    filled = jnp.arange(state.tokens.shape[0], dtype=jnp.int32) < state.told
    same = jnp.all(tokens[:, None] == state.tokens[None], axis=-1)
    return jnp.any(same & filled, axis=1)


def _labels(state: ModelState) -> tuple[Float[Array, "n"], Bool[Array, "n"]]:
    """Returns rewards of mean 0 and variance 1, the lower quarter compressed."""
    held = jnp.isfinite(state.reward)
    many = jnp.maximum(jnp.sum(held), 1)
    ordered = jnp.sort(jnp.where(held, state.reward, jnp.inf))
    quantile = lambda q: ordered[jnp.int32(q * (many - 1).astype(jnp.float32))]
    low, middle = quantile(0.25), quantile(0.5)
    span = jnp.maximum(middle - low, 1e-6 + 1e-4 * jnp.abs(low))
    below = jnp.where(held, jnp.maximum(low - state.reward, 0.0), 0.0)
    warped = jnp.where(below > 0, low - span * jnp.log1p(below / span), state.reward)
    warped = jnp.where(held, warped, 0.0)
    mean = jnp.sum(warped) / many
    sd = jnp.sqrt(jnp.sum(jnp.where(held, (warped - mean) ** 2, 0.0)) / many)
    return jnp.where(held, (warped - mean) / jnp.maximum(sd, 1e-6), 0.0), held


def _best(labels: Float[Array, "n"], held: Bool[Array, "n"]) -> Float[Array, ""]:
    return jnp.max(jnp.where(held, labels, -jnp.inf))


def _improvement(
    mean: Float[Array, "M"], sd: Float[Array, "M"], best: Float[Array, ""]
) -> Float[Array, "M"]:
    """Returns the logarithm of the expected improvement; finite where it underflows.

    Ament et al. 2023, "Unexpected improvements to expected improvement", section 4.1;
    below -5 standard deviations by the first terms of Mills' ratio.
    """
    z = (mean - best) / sd
    near, far = jnp.maximum(z, -5.0), jnp.maximum(-z, 5.0)
    h = jax.scipy.stats.norm.pdf(near) + near * jax.scipy.stats.norm.cdf(near)
    tail = jax.scipy.stats.norm.logpdf(far) - 2 * jnp.log(far)
    tail += jnp.log1p(-3 / far**2 + 15 / far**4)
    return jnp.where(z > -5.0, jnp.log(h), tail) + jnp.log(sd)
