"""The scalars of a finished run over queries and over updates, for any logger.

A run has many controllers, so a scalar is one of their population: mean and quartiles of
the value that each recommends, mean and median of its regret where the optimum is known,
and means of what they logged while learning.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.report.read.load import RunData
from jaxnas.report.read.stats import carry_forward, finite_mean

POINTS = 500
"""Points of a curve at most, evenly spaced with the first and the last."""
QUERY, UPDATE = "query", "update"
"""What a step is: of ``value`` and ``regret``; of ``train``."""


class Curve(NamedTuple):
    """One scalar at rising steps."""

    name: str
    """``value/mean``, ``regret/median``, ``train/loss``, ..."""
    axis: str
    """``QUERY`` or ``UPDATE``, counted from 1."""
    steps: np.ndarray
    values: np.ndarray
    """Finite, as many as steps."""


class History(NamedTuple):
    """The curves of one setting of a run."""

    setting: int
    hparams: dict[str, float]
    curves: tuple[Curve, ...]


def histories(run: RunData, optimum: float | None) -> list[History]:
    """Returns the curves of each setting of a run.

    Args:
        run: finished.
        optimum: the best true value that there is, None where it is not known.

    Raises:
        UserError: the run has not finished.
    """
    if run.results is None:
        raise UserError(f"{run.path} is not finished, so it has no histories yet.")
    found = []
    for setting in np.unique(run.results.setting):
        rows = run.results.setting == setting
        value = carry_forward(run.results.curve[rows])
        curves = [_curve(f"value/{name}", QUERY, x) for name, x in _spread(value).items()]
        if optimum is not None:
            regret = np.abs(optimum - value)
            middle = {n: x for n, x in _spread(regret).items() if n in ("mean", "median")}
            curves += [_curve(f"regret/{n}", QUERY, x) for n, x in middle.items()]
        curves += [
            _curve(f"train/{name}", UPDATE, finite_mean(column[rows], 0))
            for name, column in sorted(run.results.metrics.items())
        ]
        hparams = {name: float(x[setting]) for name, x in run.hparams.items()}
        shown = tuple(curve for curve in curves if len(curve.steps))
        found.append(History(int(setting), hparams, shown))
    return found


def rows(history: History) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yields ``(axis, step, values by name)``, steps of an axis rising."""
    for axis in (QUERY, UPDATE):
        found: dict[int, dict[str, float]] = {}
        for curve in history.curves:
            if curve.axis == axis:
                for step, value in zip(curve.steps, curve.values, strict=True):
                    found.setdefault(int(step), {})[curve.name] = float(value)
        for step in sorted(found):
            yield axis, step, found[step]


def _spread(x: np.ndarray) -> dict[str, np.ndarray]:
    """Returns mean and quartiles over controllers; NaN where one has no value yet."""
    low, middle, high = np.quantile(x, (0.25, 0.5, 0.75), axis=0)
    return {"mean": x.mean(axis=0), "q25": low, "median": middle, "q75": high}


def _curve(name: str, axis: str, values: np.ndarray) -> Curve:
    there = np.flatnonzero(np.isfinite(values))
    if len(there) > POINTS:
        there = there[np.linspace(0, len(there) - 1, POINTS).round().astype(int)]
    return Curve(name, axis, there + 1, values[there])
