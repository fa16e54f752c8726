"""Oracles that look an architecture up in a table of finished experiments."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Objective
from jaxnas.data.tables import analog_nasbench as _analog
from jaxnas.data.tables import measured_cells as _cells
from jaxnas.data.tables import nb201 as _nb201
from jaxnas.data.tables.columns import Table
from jaxnas.oracles.metrics import Tokens, choose, measured, summarise
from jaxnas.registry import make_space

TABLES: dict[str, Callable[[], Table]] = {
    "analog-nasbench": _analog.table,
    "nb201-table": _nb201.table,
    **{name: functools.partial(_cells.table, name) for name in _cells.TITLES},
}
"""Name of a table -> the function that reads it."""


class TableParams(NamedTuple):
    """The asked-for columns; the same shapes for any task with as many objectives."""

    scores: Float[Array, "n M"]
    spread: Float[Array, "n M"]
    seconds: Float[Array, "n"]
    """What one evaluation stands for: the training runs behind the asked-for columns."""


@dataclass(frozen=True)
class TableOracle:
    """One gather from a table whose rows enumerate the space.

    Use the factories :func:`analog_nasbench` and :func:`nb201_table`, which accept aliases.

    Args:
        space: the space that the table enumerates.
        table: a key of :data:`TABLES`.
        metrics: canonical metric names, one an objective.

    Raises:
        UserError: an unknown table or metric, a space that the table does not enumerate,
            or a table whose package is missing or damaged.
    """

    space: SearchSpace
    table: str
    metrics: tuple[str, ...]
    traced = True

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise unknown_name("table", self.table, TABLES)
        table = self._table
        if self.space.id != table.space:
            raise UserError(
                f"The table {self.table!r} scores architectures of {table.space!r}, "
                f"not of {self.space.id!r}."
            )
        choose(self.table, self.metrics, [metric.name for metric in table.metrics])

    @property
    def id(self) -> str:
        """Versioned name of the table."""
        return self._table.id

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Everything that the table can answer, chosen or not."""
        return tuple(metric.name for metric in self._table.metrics)

    def select(self, objective: str | Sequence[str]) -> "TableOracle":
        """Returns the same table with other objectives; aliases are accepted."""
        return _make(self.table, self.space, objective)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The chosen metrics."""
        known = {metric.name: metric for metric in self._table.metrics}
        return tuple(known[name].as_objective() for name in self.metrics)

    def params(self) -> TableParams:
        """Returns the chosen columns; switching task changes values, never shapes."""
        table = self._table
        names = [metric.name for metric in table.metrics]
        places = [names.index(name) for name in self.metrics]
        runs = {table.metrics[place].run for place in places} - {""}
        seconds = sum((table.seconds[run] for run in runs), np.zeros(len(table.scores)))
        return TableParams(
            scores=jnp.asarray(table.scores[:, places], jnp.float32),
            spread=jnp.asarray(table.spread[:, places], jnp.float32),
            seconds=jnp.asarray(seconds, jnp.float32),
        )

    def init(self, key: Key[Array, ""], params: TableParams) -> tuple[()]:
        """Returns nothing: a table remembers nothing about who asks."""
        return ()

    def evaluate(
        self,
        key: Key[Array, ""],
        params: TableParams,
        state: tuple[()],
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[tuple[()], Evaluation]:
        """Returns the recorded means; ``key`` and ``fidelity`` are not used."""
        row = tk.index(self.space, tokens)
        return state, measured(params.scores[row], params.seconds[row], active)

    def truth(self, params: TableParams, tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the recorded means."""
        return params.scores[tk.index(self.space, jnp.asarray(tokens))]

    def spread(self, params: TableParams, tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the standard deviation of one measurement, 0 where none is recorded."""
        return params.spread[tk.index(self.space, jnp.asarray(tokens))]

    def columns(self) -> dict[str, np.ndarray]:
        """Returns every metric of the table, chosen or not, ``float64[n]``."""
        table = self._table
        return {m.name: table.scores[:, i] for i, m in enumerate(table.metrics)}

    def spreads(self) -> dict[str, np.ndarray]:
        """Returns the spread of every metric of the table, ``float64[n]``."""
        table = self._table
        return {m.name: table.spread[:, i] for i, m in enumerate(table.metrics)}

    def per_seed(self) -> dict[str, np.ndarray]:
        """Returns ``float64[n, S]`` for metrics with several seeds, padded with NaN."""
        return dict(self._table.per_seed)

    def info(self) -> dict[str, Any]:
        """Returns size, metrics with range and optimum, and where the numbers come from."""
        table = self._table
        every = [metric.as_objective() for metric in table.metrics]
        metrics = summarise(self.space, every, self.columns())
        for metric in table.metrics:
            metrics[metric.name]["aliases"] = metric.aliases
        return {
            "id": table.id,
            "space": table.space,
            "size": len(table.scores),
            "metrics": metrics,
            **table.facts,
        }

    @property
    def _table(self) -> Table:
        return TABLES[self.table]()


def _make(
    name: str, space: SearchSpace | None, objective: str | Sequence[str]
) -> TableOracle:
    table = TABLES[name]()
    metrics = table.metrics
    aliases = {alias: metric.name for metric in metrics for alias in metric.aliases}
    chosen = choose(name, objective, [metric.name for metric in metrics], aliases)
    if space is None:
        space = make_space(table.space.rpartition("-v")[0])
    return TableOracle(space, name, chosen)


def _factory(name: str, default: str, about: str) -> Callable[..., TableOracle]:
    """Returns a function that makes the oracle over one table, for the registry."""

    def make(
        space: SearchSpace | None = None, objective: str | Sequence[str] = default
    ) -> TableOracle:
        return _make(name, space, objective)

    make.__name__ = name.replace("-", "_")
    make.__doc__ = f"""{about}

    Args:
        space: the space that the table enumerates; made when None.
        objective: a metric or an alias, several joined by commas, or a sequence of them.

    Raises:
        UserError: an unknown metric, another space, or a missing or altered source.
    """
    return make


analog_nasbench = _factory(
    "analog-nasbench",
    "analog_1month",
    "AnalogNAS-Bench: 13 CIFAR-10 accuracies, digital and on drifting analog hardware.",
)
nb201_table = _factory(
    "nb201-table",
    "cifar10",
    "NAS-Bench-201: accuracy on three data sets, training time, latency and size.",
)
digits_cells = _factory(
    "digits-cells",
    "analog_1month",
    "Digits: every residual nb201 cell trained by us, digital and on simulated chips.",
)
fashion_cells = _factory(
    "fashion-cells",
    "analog_1month",
    "Fashion-MNIST subset: the same cells trained on small pictures of clothes.",
)
