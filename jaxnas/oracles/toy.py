"""A synthetic score over the toy space, whose optimum is known exactly."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Objective
from jaxnas.oracles.metrics import Tokens, choose, measured, members_of, summarise
from jaxnas.registry import make_space

METRICS = {
    "score": Objective("score", "points", True, "synthetic sum of neighbour interactions"),
    "layers": Objective("layers", "layers", False, "synthetic cost: tokens that are not 0"),
}
SPREAD = 0.25
"""Points; standard deviation of one synthetic reading of the score."""


class ToyParams(NamedTuple):
    """The synthetic task."""

    pair: Float[Array, "L V V"]
    """Points for a token after its predecessor (0 before the first)."""
    chosen: Int[Array, "M"]
    """Which metrics are the objectives."""


@dataclass(frozen=True)
class ToyOracle:
    """Synthetic: ``score = sum_t pair[t, token_{t-1}, token_t]``, and the number of layers.

    The terms are fixed pseudo-random multiples of 1/16 point, so single changes interact
    and there are local optima; the best score follows exactly by dynamic programming over
    the legal chains. No network stands behind these numbers.

    Args:
        space: a space in which the legality of a token depends on its predecessor only;
            the default toy space when None.
        objective: ``"score"``, ``"layers"`` or both joined by a comma.
        task: which of endlessly many score functions; shapes do not depend on it.

    Raises:
        UserError: an unknown metric or a negative task.
    """

    space: SearchSpace = None  # pyright: ignore[reportAssignmentType]  # set below
    objective: str | Sequence[str] = "score"
    task: int = 0
    traced = True
    metric_names = tuple(METRICS)

    def __post_init__(self) -> None:
        if self.space is None:
            object.__setattr__(self, "space", make_space("toy"))
        chosen = choose("toy", self.objective, list(METRICS))
        object.__setattr__(self, "objective", ",".join(chosen))
        if self.task < 0:
            raise UserError(f"The toy oracle's task must be at least 0, got {self.task}.")

    @property
    def id(self) -> str:
        """Versioned name with the task."""
        return f"toy-synthetic-v1-task{self.task}"

    def select(self, objective: str | Sequence[str]) -> "ToyOracle":
        """Returns the same task with other objectives."""
        return ToyOracle(self.space, objective, self.task)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The chosen metrics."""
        return tuple(METRICS[name] for name in self._names)

    def params(self) -> ToyParams:
        """Returns the score terms and the choice of metrics."""
        chosen = [list(METRICS).index(name) for name in self._names]
        pair = _pairs(self.space.length, self.space.vocab, self.task)
        return ToyParams(jnp.asarray(pair), jnp.asarray(chosen, jnp.int32))

    def init(self, key: Key[Array, ""], params: ToyParams) -> tuple[()]:
        """Returns nothing: no state."""
        return ()

    def evaluate(
        self,
        key: Key[Array, ""],
        params: ToyParams,
        state: tuple[()],
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[tuple[()], Evaluation]:
        """Returns the exact values; an evaluation stands for one second a layer."""
        layers = jnp.sum(tokens > 0, axis=1, dtype=jnp.float32)
        return state, measured(self.truth(params, tokens), layers, active)

    def truth(self, params: ToyParams, tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the exact values."""
        tokens = jnp.asarray(tokens)
        before = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)))
        places = jnp.arange(tokens.shape[1], dtype=jnp.int32)
        score = jnp.sum(params.pair[places, before, tokens], axis=1)
        layers = jnp.sum(tokens > 0, axis=1, dtype=jnp.float32)
        return jnp.stack([score, layers], axis=1)[:, params.chosen]

    def spread(self, params: ToyParams, tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the synthetic spread of one reading: none for the layers."""
        one = jnp.where(params.chosen == 0, SPREAD, 0.0)
        return jnp.broadcast_to(one, (tokens.shape[0], one.shape[0]))

    def columns(self) -> dict[str, np.ndarray]:
        """Returns both metrics of the space; UserError where it is too large."""
        members = members_of(self.space)
        pair = _pairs(self.space.length, self.space.vocab, self.task)
        before = np.pad(members[:, :-1], ((0, 0), (1, 0)))
        terms = pair[np.arange(self.space.length), before, members]
        layers = np.sum(members > 0, axis=1).astype(np.float64)
        return {"score": terms.sum(axis=1, dtype=np.float64), "layers": layers}

    def optimum(self) -> tuple[float, np.ndarray]:
        """Returns the best score and where it is, by dynamic programming."""
        length, vocab = self.space.length, self.space.vocab
        pair = _pairs(length, vocab, self.task).astype(np.float64)
        legal = self._transitions()
        best = np.full((length + 1, vocab), 0.0)  # best sum of the places from t on
        for t in reversed(range(length)):
            sums = np.where(legal[t], pair[t] + best[t + 1], -np.inf)
            best[t] = sums.max(axis=1)
        tokens, last = np.zeros(length, np.int32), 0
        for t in range(length):
            sums = np.where(legal[t, last], pair[t, last] + best[t + 1], -np.inf)
            tokens[t] = last = int(sums.argmax())
        return float(best[0, 0]), tokens

    def info(self) -> dict[str, Any]:
        """Returns what there is to know, metrics with their ranges where enumerable."""
        return {
            "id": self.id,
            "space": self.space.id,
            "size": tk.count(self.space),
            "metrics": summarise(self.space, list(METRICS.values()), self.columns()),
            "source": "synthetic; no network stands behind these numbers",
            "version": "1",
            "licence": "Apache-2.0",
            "citation": "none",
            "checksum": "none: computed from a formula",
        }

    @property
    def _names(self) -> list[str]:
        return str(self.objective).split(",")

    def _transitions(self) -> np.ndarray:
        """Returns ``bool[L, V, V]``: may a token at ``t`` follow this predecessor?"""
        length, vocab = self.space.length, self.space.vocab
        places = np.arange(length)
        prefixes = np.zeros((length, vocab, length), np.int32)
        prefixes[places, :, np.maximum(places - 1, 0)] = np.arange(vocab)
        legal = jax.jit(jax.vmap(jax.vmap(self.space.mask, (0, None))))
        return np.asarray(legal(jnp.asarray(prefixes), jnp.asarray(places)))


@functools.cache
def _pairs(length: int, vocab: int, task: int) -> np.ndarray:
    """Returns the score terms: multiples of 1/16 in [0, 4), from an integer mix."""
    t, a, b = np.meshgrid(*map(np.arange, (length, vocab, vocab)), indexing="ij")
    h = ((task * 131 + t) * 257 + a) * 263 + b + 1
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39), (15, 1)):
        h = (h ^ (h >> shift)) * factor % 2**32
    return ((h % 64) / 16).astype(np.float32)
