"""Exact counts of a network, digital and on analog tiles, from its spec."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.analog.costs import analog_costs
from jaxnas.children.check import check_space
from jaxnas.children.count import count_costs, matrices
from jaxnas.core import tokens as tk
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Objective, Spec
from jaxnas.oracles.metrics import (
    Tokens,
    choose,
    described,
    measured,
    members_of,
    summarise,
)

_FLOPS = (
    "multiply-accumulates of convolutions and linear layers for one input, one FLOP each, "
    "biases included, as NAS-Bench-201 counts them; exact"
)
_ENERGY = (
    "energy of the tiles for one input, an estimate for comparing networks with one "
    "another; constants and their source are in jaxnas.analog.costs"
)
_ROWS = (
    ("params", "parameters", False, "trainable parameters, exact"),
    ("flops", "FLOPs", False, _FLOPS),
    ("tiles", "tiles", False, "analog tiles of 512 x 512 cells that its matrices take"),
    ("utilisation", "fraction", True, "cells that hold a weight, of all on its tiles"),
    ("adc", "conversions", False, "output conversions for one input"),
    ("dac", "conversions", False, "input conversions for one input"),
    ("energy", "uJ", False, _ENERGY),
)
METRICS = {row[0]: Objective(*row) for row in _ROWS}
TILE = (512, 512)
"""Inputs and outputs of the tiles that are counted."""
_SUMS = ("params", "flops", "tiles", "cells", "adc", "dac", "energy")
"""What adds up over layers; ``cells`` hold a weight."""


def network_costs(spec: Spec) -> dict[str, float]:
    """Returns every cost of the network of a spec; errors as ``count.count_costs``."""
    sums = _sums(spec)
    found: dict[str, Any] = dict(zip(_SUMS, sums.tolist(), strict=True))
    return {name: float(_metric(name, found)) for name in METRICS}


def _sums(spec: Spec) -> Float[np.ndarray, "7"]:
    """Returns the costs that add up over layers; a network without weights has no tiles."""
    counted, used = count_costs(spec), matrices(spec)
    analog = analog_costs(used, TILE) if used else None
    cells = sum(m.groups * m.inputs * m.outputs for m in used)
    rest = (0, 0, 0, 0, 0)
    if analog is not None:
        rest = (analog.tiles, cells, analog.adc, analog.dac, analog.energy_uj)
    return np.array([*counted, *rest], np.float64)


def _metric(name: str, sums: Mapping[str, Any]) -> Any:
    """Returns a metric from the costs that add up; works on arrays too."""
    if name != "utilisation":
        return sums[name]
    held = np.maximum(np.asarray(sums["tiles"]) * TILE[0] * TILE[1], 1)
    return sums["cells"] / held


@runtime_checkable
class AdditiveCosts(Protocol):
    """A space whose costs are a constant plus one term a token: few walks suffice."""

    @property
    def additive_costs(self) -> bool:
        """True: declared by the space and tested against the walk on every member."""
        ...


@functools.lru_cache(maxsize=16)
def cost_columns(space: SearchSpace) -> dict[str, np.ndarray]:
    """Returns ``float64[n]`` every cost of every architecture of a space, by metric.

    One walk an architecture, or one a token value where the space declares that its costs
    add up (:class:`AdditiveCosts`).

    Raises:
        UserError: the space is too large to enumerate.
    """
    members = members_of(space)
    additive = isinstance(space, AdditiveCosts) and cast(AdditiveCosts, space)
    if additive and additive.additive_costs:
        base = members[0]
        constant = _sums(space.to_spec(base))
        terms = np.zeros((space.length, space.vocab, len(_SUMS)))
        for place in range(space.length):
            for token in range(space.vocab):
                row = np.where(np.arange(space.length) == place, token, base)
                terms[place, token] = _sums(space.to_spec(row)) - constant
        counts = constant + terms[np.arange(space.length), members].sum(axis=1)
    else:
        counts = np.array([_sums(space.to_spec(row)) for row in members])
    found: dict[str, Any] = dict(zip(_SUMS, counts.T, strict=True))
    return {name: np.asarray(_metric(name, found)) for name in METRICS}


class CostParams(NamedTuple):
    """Costs by the index of the architecture; NaN where an index is not a legal one."""

    scores: Float[Array, "n M"]


@dataclass(frozen=True)
class CostOracle:
    """Parameters, FLOPs and analog costs of the network that a spec describes.

    Traced by a table where the space can be indexed by 2**20 numbers; a host oracle
    elsewhere.

    Args:
        space: any space.
        objective: a metric, or several joined by commas; see :data:`METRICS`.

    Raises:
        UserError: an unknown metric.
    """

    space: SearchSpace
    objective: str | Sequence[str] = "params"
    id = "cost-v2"
    metric_names = tuple(METRICS)

    def __post_init__(self) -> None:
        check_space(self.space)
        chosen = choose("cost", self.objective, list(METRICS))
        object.__setattr__(self, "objective", ",".join(chosen))

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
        tokens: Tokens,
        fidelity: Int[Array | np.ndarray, "B"],
        active: Bool[Array | np.ndarray, "B"],
    ) -> tuple[tuple[()], Evaluation]:
        """Returns the exact counts; an evaluation stands for no time at all."""
        seconds = jnp.zeros(tokens.shape[0], jnp.float32)
        return state, measured(self.truth(params, tokens), seconds, jnp.asarray(active))

    def truth(self, params: CostParams, tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the exact counts."""
        if self.traced:
            return params.scores[tk.index(self.space, jnp.asarray(tokens))]
        rows = [network_costs(self.space.to_spec(row)) for row in np.asarray(tokens)]
        chosen = [[row[name] for name in self._names] for row in rows]
        return jnp.asarray(np.array(chosen, np.float32))

    def spread(self, params: CostParams, tokens: Tokens) -> Float[Array, "B M"]:
        """Returns zeros: a count has no uncertainty."""
        return jnp.zeros((tokens.shape[0], len(self._names)), jnp.float32)

    def columns(self) -> dict[str, np.ndarray]:
        """Returns each cost of the space, ``float64[n]``; UserError if too large."""
        return dict(cost_columns(self.space))

    def info(self) -> dict[str, Any]:
        """Returns what there is to know; ranges where the space can be enumerated."""
        metrics: dict[str, Any] = {n: described(item) for n, item in METRICS.items()}
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
        return str(self.objective).split(",")
