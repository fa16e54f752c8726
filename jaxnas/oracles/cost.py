"""Exact parameter and FLOP counts, from the same spec that networks are built from."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.children.count import Costs, count_costs
from jaxnas.core import tokens as tk
from jaxnas.core.protocols import SearchSpace
from jaxnas.core.types import Evaluation, Objective
from jaxnas.oracles.metrics import choose, measured, members_of, summarise

METRICS = {
    "params": Objective("params", "parameters", False, "trainable parameters, exact"),
    "flops": Objective(
        "flops",
        "FLOPs",
        False,
        "multiply-accumulates of convolutions and linear layers for one input, one FLOP "
        "each, biases included, as NAS-Bench-201 counts them; exact",
    ),
}


@runtime_checkable
class AdditiveCosts(Protocol):
    """A space whose costs are a constant plus one term a token: few walks suffice."""

    @property
    def additive_costs(self) -> bool:
        """True: declared by the space and tested against the walk on every member."""
        ...


@functools.lru_cache(maxsize=16)
def cost_columns(space: SearchSpace) -> dict[str, np.ndarray]:
    """Returns ``int64[n]`` params and flops of every architecture of a space.

    One walk an architecture, or one a token value where the space declares that its costs
    add up (:class:`AdditiveCosts`).

    Raises:
        UserError: the space is too large to enumerate.
    """
    members = members_of(space)
    additive = isinstance(space, AdditiveCosts) and cast(AdditiveCosts, space)
    if not (additive and additive.additive_costs):
        counts = np.array([count_costs(space.to_spec(row)) for row in members], np.int64)
        return dict(zip(Costs._fields, counts.T, strict=True))
    base = members[0]
    constant = np.array(count_costs(space.to_spec(base)), np.int64)
    terms = np.zeros((space.length, space.vocab, 2), np.int64)
    for place in range(space.length):
        for token in range(space.vocab):
            row = np.where(np.arange(space.length) == place, token, base)
            terms[place, token] = np.array(count_costs(space.to_spec(row))) - constant
    counts = constant + terms[np.arange(space.length), members].sum(axis=1)
    return dict(zip(Costs._fields, counts.T, strict=True))


class CostParams(NamedTuple):
    """Costs by the index of the architecture; NaN where an index is not a legal one."""

    scores: Float[Array, "n M"]


@dataclass(frozen=True)
class CostOracle:
    """Parameters and FLOPs of the network that a spec describes, exact, to be minimised.

    Traced by a table where the space can be indexed by 2**20 numbers; a host oracle
    elsewhere.

    Args:
        space: any space.
        objective: ``"params"``, ``"flops"``, or both joined by a comma.

    Raises:
        UserError: an unknown metric.
    """

    space: SearchSpace
    objective: str | Sequence[str] = "params"

    def __post_init__(self) -> None:
        chosen = choose("cost", self.objective, list(METRICS))
        object.__setattr__(self, "objective", ",".join(chosen))

    @property
    def id(self) -> str:
        """Versioned name."""
        return "cost-v1"

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Everything that it can measure."""
        return tuple(METRICS)

    def select(self, objective: str | Sequence[str]) -> "CostOracle":
        """Returns the same oracle with other objectives."""
        return CostOracle(self.space, objective)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The chosen metrics."""
        return tuple(METRICS[name] for name in self._names)

    @property
    def traced(self) -> bool:
        """Whether there is a table of all index values."""
        return self.space.vocab**self.space.length <= tk.ENUMERABLE

    def params(self) -> CostParams:
        """Returns the table, of size 0 where there is none."""
        size = self.space.vocab**self.space.length if self.traced else 0
        scores = np.full((size, len(self._names)), np.nan, np.float32)
        if self.traced:
            members = members_of(self.space)
            radix = self.space.vocab ** np.arange(self.space.length - 1, -1, -1)
            columns = cost_columns(self.space)
            scores[members @ radix] = np.stack([columns[n] for n in self._names], axis=1)
        return CostParams(jnp.asarray(scores))

    def init(self, key: Key[Array, ""], params: PyTree) -> tuple[()]:
        """Returns nothing: no state."""
        return ()

    def evaluate(
        self,
        key: Key[Array, ""],
        params: CostParams,
        state: tuple[()],
        tokens: Int[Array | np.ndarray, "B L"],
        fidelity: Int[Array | np.ndarray, "B"],
        active: Bool[Array | np.ndarray, "B"],
    ) -> tuple[tuple[()], Evaluation]:
        """Returns the exact counts; an evaluation stands for no time at all."""
        seconds = jnp.zeros(tokens.shape[0])
        return state, measured(self.truth(params, tokens), seconds, jnp.asarray(active))

    def truth(
        self, params: CostParams, tokens: Int[Array | np.ndarray, "B L"]
    ) -> Float[Array, "B M"]:
        """Returns the exact counts."""
        if self.traced:
            return params.scores[tk.index(self.space, jnp.asarray(tokens))]
        rows = [count_costs(self.space.to_spec(row)) for row in np.asarray(tokens)]
        chosen = [[getattr(row, name) for name in self._names] for row in rows]
        return jnp.asarray(np.array(chosen, np.float32))

    def spread(
        self, params: CostParams, tokens: Int[Array | np.ndarray, "B L"]
    ) -> Float[Array, "B M"]:
        """Returns zeros: a count has no uncertainty."""
        return jnp.zeros((tokens.shape[0], len(self._names)))

    def columns(self) -> dict[str, np.ndarray]:
        """Returns both counts of every architecture, ``float64[n]``.

        Raises:
            UserError: the space is too large to enumerate.
        """
        counts = cost_columns(self.space)
        return {name: column.astype(np.float64) for name, column in counts.items()}

    def info(self) -> dict[str, Any]:
        """Returns what there is to know; ranges where the space can be enumerated."""
        metrics: dict[str, Any] = {
            name: {"unit": item.unit, "meaning": item.meaning, "better": "lower"}
            for name, item in METRICS.items()
        }
        if self.traced:
            metrics = summarise(self.space, list(METRICS.values()), self.columns())
        return {
            "id": self.id,
            "space": self.space.id,
            "size": tk.count(self.space),
            "metrics": metrics,
            "source": "counted from the specification of each network",
            "version": "1",
            "licence": "Apache-2.0",
            "citation": "none",
            "checksum": "none: computed from a formula",
        }

    @property
    def _names(self) -> list[str]:
        """The chosen metrics by name."""
        return str(self.objective).split(",")
