"""Which architectures a study found: the best of them, the exact front, what they are."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxnas.core.scalarise import recorded
from jaxnas.moo.pareto import nondominated
from jaxnas.report.read.compare import Method, Study
from jaxnas.report.read.load import RunData
from jaxnas.report.read.task import spreads_of

TOP = 10
LATE = 0.2
"""Last part of a controller's queries that counts as late."""


class Top(NamedTuple):
    """One of the best architectures found."""

    tokens: Int[np.ndarray, "L"]
    value: float
    """True value, natural units."""
    rank: int
    """Rank in the whole table, 1 the best; 0 where no table is known."""
    class_size: int
    class_mean: float
    found: tuple[float, ...]
    """Share of each method's controllers that queried it, in the study's order."""
    metrics: dict[str, float]
    spread: dict[str, float]
    """Recorded uncertainty of the metrics that have one."""


class Front(NamedTuple):
    """The exact Pareto front of two metrics."""

    names: tuple[str, str]
    x: Float[np.ndarray, "n"]
    y: Float[np.ndarray, "n"]
    rows: Int[np.ndarray, "k"]
    """Rows on the front, by rising ``y``."""
    found: Float[np.ndarray, "m k"]
    """Share of each method's controllers that queried it."""
    directions: tuple[float, float]
    """+1 where more is better, else -1."""
    units: tuple[str, str]


def found_by(method: Method, tokens: Int[np.ndarray, "k L"], budget: int) -> np.ndarray:
    """Returns the share of a method's controllers that queried each of them, ``[k]``."""
    asked = method.results.tokens[method.keep][:, :budget]
    shares = []
    for row in tokens.astype(asked.dtype):
        hit = asked[..., 0] == row[0]
        for place in range(1, len(row)):
            hit &= asked[..., place] == row[place]
        shares.append(np.mean(np.any(hit, axis=1)))
    return np.asarray(shares, np.float64)


def top_found(study: Study, k: int = TOP) -> list[Top]:
    """Returns the best distinct raw architectures by true value that any method found.

    Candidates are the runs' archives and what every controller recommends.
    """
    tokens, values = _candidates(study)
    order = np.argsort(-study.task.direction * values, kind="stable")[:k]
    tokens, values = tokens[order], values[order]
    shares = np.stack([found_by(m, tokens, study.budget) for m in study.methods], axis=1)
    known = study.task.known
    recorded = spreads_of(study.task)
    found, measured = [], {} if known is not None else _measured(study)
    for i, row in enumerate(tokens):
        spread, rank, size, mean = {}, 0, 0, np.nan
        metrics = measured.get(row.tobytes(), {})
        if known is not None:
            at = int(known.rows(row))
            score = study.task.direction * known.value
            rank = 1 + int(np.sum(score > score[at]))
            size, mean = int(known.classes.size[at]), float(known.classes.mean[at])
            metrics = {name: float(column[at]) for name, column in known.columns.items()}
            spread = {n: float(s[at]) for n, s in recorded.items() if s[at] > 0}
        by, value = tuple(shares[i]), float(values[i])
        found.append(Top(row, value, rank, size, mean, by, metrics, spread))
    return found


def _candidates(study: Study) -> tuple[np.ndarray, np.ndarray]:
    known, tokens, values = study.task.known, [], []
    for method in study.methods:
        results, archive = method.results, method.run.archive
        there = np.isfinite(results.best_true)  # else it recommends nothing
        tokens.append(results.best_tokens[there])
        values.append(results.best_true[there])
        if archive is not None:  # a known table gives all values below
            tokens.append(archive["tokens"])
            values.append(_reward(method.run, archive["objectives"]))
    every = np.concatenate(tokens).astype(np.int32)
    value = np.concatenate(values).astype(np.float64)
    if known is not None:
        rows = known.rows(every)
        value = np.where(rows >= 0, known.value[rows], np.nan)
    every, first = np.unique(every, axis=0, return_index=True)
    value = value[first]
    there = np.isfinite(value)
    return every[there], value[there]


def _reward(run: RunData, objectives: Float[np.ndarray, "C M"]) -> np.ndarray:
    """Returns what the curves show: the objective itself, of several the reward."""
    if objectives.shape[1] == 1:
        return objectives[:, 0]
    scalariser = recorded(run.objectives, run.config)
    return np.asarray(scalariser(jnp.asarray(objectives), jnp.zeros(len(objectives))))


def _measured(study: Study) -> dict[bytes, dict[str, float]]:
    """Returns the objectives on record of each archived architecture, where several."""
    names = [o.name for o in study.task.objectives]
    found: dict[bytes, dict[str, float]] = {}
    archives = [m.run.archive for m in study.methods if len(names) > 1]
    for archive in filter(None, archives):
        rows = zip(archive["tokens"].astype(np.int32), archive["objectives"], strict=True)
        found |= {row.tobytes(): dict(zip(names, map(float, v))) for row, v in rows}
    return found


def front_of(study: Study) -> Front | None:
    """Returns the exact front of the study's two most telling metrics, or None.

    Digital accuracy against the searched metric where the table has one, against accuracy
    after a month where the search was for digital accuracy itself; else the first two
    objectives. Only what meets the constraints competes.
    """
    known = study.task.known
    if known is None:
        return None
    names = _front_names(study)
    if names is None:
        return None
    x, y = (known.columns[name].astype(np.float64) for name in names)
    facts = {n: study.task.metrics.get(n, {}) for n in names}
    facts |= {
        o.name: {"unit": o.unit, "better": "higher" if o.maximise else "lower"}
        for o in study.task.objectives
        if o.name in names
    }
    signs = tuple(-1.0 if facts[n].get("better") == "lower" else 1.0 for n in names)
    units = tuple(str(facts[n].get("unit", "")) for n in names)
    allowed = np.flatnonzero(np.isfinite(known.value))
    table = np.stack([signs[0] * x[allowed], signs[1] * y[allowed]], axis=1)
    rows = allowed[nondominated(table)]
    rows = rows[np.argsort(y[rows], kind="stable")]
    members = known.members[rows]
    found = np.stack([found_by(m, members, study.budget) for m in study.methods])
    return Front(names, x, y, rows, found, (signs[0], signs[1]), (units[0], units[1]))


def _front_names(study: Study) -> tuple[str, str] | None:
    known = study.task.known
    assert known is not None
    measured = [o.name for o in study.task.objectives if o.name in known.columns]
    if len(measured) > 1:
        return measured[0], measured[1]
    if "digital" not in known.columns:
        return None
    other = measured[0] if measured and measured[0] != "digital" else "analog_1month"
    return ("digital", other) if other in known.columns else None


def token_shares(tokens: Int[np.ndarray, "k L"], vocab: int) -> Float[np.ndarray, "V L"]:
    """Returns how often each token stands at each position; padding is left out."""
    tokens = tokens[np.all(tokens >= 0, axis=1)]
    if len(tokens) == 0:
        return np.full((vocab, tokens.shape[1]), np.nan)
    return np.stack([np.mean(tokens == v, axis=0) for v in range(vocab)])


def late_queries(method: Method, budget: int) -> Int[np.ndarray, "k L"]:
    """Returns the last fifth of what every controller of a method queried."""
    count = np.minimum(method.results.count[method.keep], budget)
    tokens = method.results.tokens[method.keep][:, :budget]
    start = np.floor((1 - LATE) * count)
    places = np.arange(tokens.shape[1])
    late = (places >= start[:, None]) & (places < count[:, None])
    return tokens[late].astype(np.int32)
