"""How good a surrogate is on rows that it was not fitted on.

Kendall's tau is tau-b. A predictor with few distinct values is flattered by it, because
pairs that it ties do not count against it, so the number of distinct predictions stands
beside it. What a search needs is the order among the best: tau within the true top decile,
where it is far lower than overall.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from jaxnas.core.errors import UserError

RESAMPLES = 200
"""Bootstrap resamples of an interval."""
LEVEL = 0.95
"""Share of the resamples inside it."""
TOP = 0.1
"""Share of the rows that are the best ones."""
INTERVALS = (0.5, 0.9)
"""Nominal shares of the intervals whose coverage is counted."""


class Scored(NamedTuple):
    """Held-out rows of one objective: what is true and what was predicted."""

    label: Float[np.ndarray, "n"]
    mean: Float[np.ndarray, "n"]
    spread: Float[np.ndarray, "n"]
    """Predicted standard deviation of a label; 0 where the model gives none."""
    extrapolates: Bool[np.ndarray, "n"]


class Estimate(NamedTuple):
    """A number and its bootstrap interval over the held-out rows."""

    value: float
    low: float
    high: float


def rmse(rows: Scored) -> float:
    """Returns the root mean square error, in the unit of the labels."""
    return float(np.sqrt(np.mean(np.square(rows.label - rows.mean))))


def r2(rows: Scored) -> float:
    """Returns 1 - (squared error) / (squared error of the mean label); NaN if constant."""
    spread = np.sum(np.square(rows.label - rows.label.mean()))
    error = np.sum(np.square(rows.label - rows.mean))
    return float(1 - error / spread) if spread > 0 else np.nan


def kendall(rows: Scored) -> float:
    """Returns Kendall's tau-b; NaN where all labels or all predictions are equal."""
    if np.ptp(rows.label) == 0 or np.ptp(rows.mean) == 0:
        return np.nan
    found: Any = stats.kendalltau(rows.label, rows.mean)
    return float(found.statistic)


def spearman(rows: Scored) -> float:
    """Returns Spearman's rank correlation; NaN where all values are equal."""
    if np.ptp(rows.label) == 0 or np.ptp(rows.mean) == 0:
        return np.nan
    found: Any = stats.spearmanr(rows.label, rows.mean)
    return float(found.statistic)


def coverage(rows: Scored, share: float) -> float:
    """Returns the share of labels in the interval meant for ``share``; NaN if no spread."""
    if not (rows.spread > 0).all():
        return np.nan
    z = stats.norm.ppf(0.5 + share / 2)
    return float(np.mean(np.abs(rows.label - rows.mean) <= z * rows.spread))


def nll(rows: Scored) -> float:
    """Returns the mean negative log density of the labels, in nats; NaN if no spread."""
    if not (rows.spread > 0).all():
        return np.nan
    return float(-np.mean(stats.norm.logpdf(rows.label, rows.mean, rows.spread)))


def take(rows: Scored, which: np.ndarray) -> Scored:
    """Returns some of the rows, by number or by mask."""
    return Scored(*(leaf[which] for leaf in rows))


def top(rows: Scored, maximise: bool) -> Scored:
    """Returns the rows whose true label is in the best tenth; ties at its edge are in."""
    good = rows.label if maximise else -rows.label
    return take(rows, good >= np.quantile(good, 1 - TOP))


def quality(rows: Scored, maximise: bool = True, seed: int = 0) -> dict[str, Estimate]:
    """Returns every measure of quality with its bootstrap interval, by name.

    ``maximise`` decides what the top decile is, which its tau resamples alone.

    Raises:
        UserError: fewer than two rows, or a label or prediction that is not finite.
    """
    if len(rows.label) < 2:
        raise UserError("Quality needs at least two held-out rows; use fewer labels.")
    if not (np.isfinite(rows.label).all() and np.isfinite(rows.mean).all()):
        raise UserError(
            "Some held-out labels or predictions are NaN or infinite; leave them out."
        )
    best = top(rows, maximise)
    measures: dict[str, tuple[Callable[[Scored], float], Scored]] = {
        "rmse": (rmse, rows),
        "r2": (r2, rows),
        "kendall": (kendall, rows),
        "kendall_top_decile": (kendall, best),
        "spearman": (spearman, rows),
        "coverage_50": (lambda part: coverage(part, INTERVALS[0]), rows),
        "coverage_90": (lambda part: coverage(part, INTERVALS[1]), rows),
        "nll": (nll, rows),
        "extrapolating": (lambda part: float(np.mean(part.extrapolates)), rows),
    }
    draw = np.random.default_rng(seed)
    return {name: _estimate(f, part, draw) for name, (f, part) in measures.items()}


def num_distinct(rows: Scored) -> int:
    """Returns the number of distinct predictions, to be read beside tau-b."""
    return len(np.unique(rows.mean))


def _estimate(
    measure: Callable[[Scored], float], rows: Scored, draw: np.random.Generator
) -> Estimate:
    value, count = measure(rows), len(rows.label)
    if not np.isfinite(value) or count < 2:
        return Estimate(value, np.nan, np.nan)
    picks = draw.integers(0, count, (RESAMPLES, count))
    found = np.array([measure(take(rows, pick)) for pick in picks])
    edges = (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)
    if not np.isfinite(found).any():
        return Estimate(value, np.nan, np.nan)
    low, high = np.nanquantile(found, edges)
    return Estimate(value, float(low), float(high))
