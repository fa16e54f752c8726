"""What the methods of a study found of several objectives: fronts and hypervolumes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxnas.core.types import Objective
from jaxnas.moo import found
from jaxnas.moo.hypervolume import MOST
from jaxnas.report.read.architectures import found_by
from jaxnas.report.read.compare import Method, Study, checkpoints
from jaxnas.report.read.task import Known, costs_of

PLACES = 48
"""Numbers of queries at which a curve of the hypervolume is computed."""
LEVELS = (0.25, 0.5, 0.75)
"""Shares of controllers whose attainment surfaces are drawn."""


class Trade(NamedTuple):
    """Several objectives, in natural units and only of what is feasible."""

    goals: tuple[Objective, ...]
    reference: Float[np.ndarray, "M"]
    given: bool
    """Whether somebody chose the reference."""
    total: float
    """Hypervolume of the exact front; NaN where it is not known."""
    exact: Float[np.ndarray, "e M"]
    """The exact front; empty where it is not known."""
    places: list[int]
    """Numbers of queries."""
    volumes: tuple[Float[np.ndarray, "n k"], ...]
    """Of each method after ``places``; none for more than three objectives."""
    fronts: tuple[tuple[Float[np.ndarray, "f M"], ...], ...]
    """Of each method and each of its controllers, in the end."""
    tokens: Int[np.ndarray, "u L"]
    """The front of everything that was found, best by the first objective first."""
    values: Float[np.ndarray, "u M"]
    on_exact: Bool[np.ndarray, "u"]
    limited: dict[str, Float[np.ndarray, "u"]]
    """Constrained metrics of the same."""
    shares: Float[np.ndarray, "m u"]
    """Share of each method's controllers that queried it."""


def trade_of(study: Study, reference: Sequence[float] = ()) -> Trade | None:
    """Returns the fronts of a study; None with one objective, or where nothing was found.

    Values are true where the table is known, else as measured. Without a reference it is
    the worst value of each objective on any front that a controller ended with.

    Raises:
        UserError: a reference that does not fit the objectives.
    """
    task = study.task
    goals = task.objectives
    if len(goals) == 1:
        return None
    asked = [_queried(study, method) for method in study.methods]
    fronts, tokens = zip(*(_fronts(*one, goals) for one in asked), strict=True)
    point = found.nadir([f for method in fronts for f in method], goals)
    if len(reference):
        point = found.checked_reference(reference, goals)
    if not np.isfinite(point).all():
        return None
    places = np.linspace(1, study.budget, PLACES).round().astype(int)
    places = sorted({*places.tolist(), *checkpoints(study.budget)})
    volumes, exact, total = [], np.zeros((0, len(goals))), np.nan
    if _covers(task.known, goals):
        exact = _exact(task.known, goals)
    if len(goals) <= MOST:
        volumes = [
            found.volumes_after(values, allowed, goals, point, np.array(places))
            for _, values, allowed in asked
        ]
        total = found.volume(exact, goals, point) if len(exact) else np.nan
    kept, values = _united(tokens, fronts, goals)
    best = {row.tobytes() for row in exact}
    return Trade(
        goals, point, bool(len(reference)), total, exact, places, tuple(volumes), fronts,
        kept, values, np.array([row.tobytes() in best for row in values], bool),
        {name: _metric(study, name, kept) for name in task.limited},
        np.stack([found_by(m, kept, study.budget) for m in study.methods]),
    )  # fmt: skip


def _covers(known: Known | None, goals: Sequence[Objective]) -> bool:
    return known is not None and all(goal.name in known.columns for goal in goals)


def _exact(known: Known | None, goals: Sequence[Objective]) -> np.ndarray:
    """Returns the front of the whole table, of what meets the constraints."""
    assert known is not None
    table = np.stack([known.columns[g.name] for g in goals], axis=1).astype(np.float64)
    table = table[np.isfinite(known.value)]
    table = table[found.front(table, goals)]
    return table[np.argsort(table[:, 0], kind="stable")]


def _queried(study: Study, method: Method) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns tokens ``[n, Q, L]``, objectives ``[n, Q, M]`` and which of them count."""
    known, goals, results = study.task.known, study.task.objectives, method.results
    tokens = results.tokens[method.keep][:, : study.budget]
    values = results.objectives[method.keep][:, : study.budget].astype(np.float64)
    allowed = np.isfinite(values).all(axis=2)
    allowed &= ~(results.violation[method.keep][:, : study.budget] > 0)
    if known is not None and _covers(known, goals):
        rows = known.rows(tokens)
        values = np.stack([known.columns[g.name][rows] for g in goals], axis=-1)
        values = values.astype(np.float64)
        allowed &= (rows >= 0) & np.isfinite(known.value[rows])
        allowed &= np.isfinite(values).all(axis=2)
    return tokens, values, allowed


def _fronts(
    tokens: np.ndarray, values: np.ndarray, allowed: np.ndarray, goals: Sequence[Objective]
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Returns the front of each controller, and its architectures."""
    points, who = [], []
    for asked, measured, there in zip(tokens, values, allowed, strict=True):
        rows = np.flatnonzero(there)
        rows = rows[found.front(measured[rows], goals)]
        points.append(measured[rows])
        who.append(asked[rows].astype(np.int32))
    return tuple(points), tuple(who)


def _united(
    tokens: Sequence[Sequence[np.ndarray]],
    fronts: Sequence[Sequence[np.ndarray]],
    goals: Sequence[Objective],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the front of all controllers' fronts, each architecture once."""
    every = np.concatenate([rows for method in tokens for rows in method])
    values = np.concatenate([rows for method in fronts for rows in method])
    every, first = np.unique(every, axis=0, return_index=True)
    values = values[first]
    rows = np.flatnonzero(found.front(values, goals))
    order = np.argsort(values[rows, 0] * (-1 if goals[0].maximise else 1), kind="stable")
    return every[rows[order]], values[rows[order]]


def _metric(study: Study, name: str, tokens: Int[np.ndarray, "u L"]) -> np.ndarray:
    known = study.task.known
    if known is not None and name in known.columns:
        return known.columns[name][known.rows(tokens)]
    return costs_of(study.task, name, tokens)


def attained(
    fronts: Sequence[np.ndarray], shares: Sequence[float]
) -> tuple[Float[np.ndarray, "x"], Float[np.ndarray, "s x"]]:
    """Returns attainment surfaces: what so large a share of fronts reaches, or exceeds.

    Fronts are ``[f, 2]``, both coordinates better when larger. At each ``x`` (rising) the
    surface of a share is the largest ``y`` such that this share of the fronts has a point
    at least as good in both; -inf where there is none.

    Grunert da Fonseca, Fonseca and Hall 2001, "Inferential performance assessment of
    stochastic optimisers and the attainment function".
    """
    x = np.unique(np.concatenate([front[:, 0] for front in fronts]))
    reach = np.full((len(fronts), len(x)), -np.inf)
    for row, front in zip(reach, fronts, strict=True):
        np.maximum.at(row, np.searchsorted(x, front[:, 0]), front[:, 1])
    reach = np.maximum.accumulate(reach[:, ::-1], axis=1)[:, ::-1]
    reach = -np.sort(-reach, axis=0)
    places = [max(int(np.ceil(share * len(fronts) - 1e-9)) - 1, 0) for share in shares]
    return x, reach[places]
