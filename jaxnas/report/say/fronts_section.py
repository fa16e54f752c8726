"""What a report says of several objectives: fronts, attainment and hypervolume."""

from collections.abc import Sequence

import numpy as np

from jaxnas.moo import found
from jaxnas.moo.pareto import signs
from jaxnas.report.draw import fronts as draw
from jaxnas.report.draw import plots
from jaxnas.report.read import compare, stats
from jaxnas.report.read.anatomy import digits
from jaxnas.report.read.compare import Study
from jaxnas.report.read.fronts import LEVELS, Trade, attained
from jaxnas.report.say.cells import Table
from jaxnas.report.say.drawing import Drawing, finish
from jaxnas.report.say.text import bracket, number, percent

ROWS = 24
"""Architectures of a front that are listed."""


def _labels(trade: Trade) -> list[str]:
    return [f"{goal.name}{bracket(goal.unit)}" for goal in trade.goals]


def _looks(study: Study) -> list[plots.Look]:
    return plots.looks([m.run.algorithm for m in study.methods])


def _everything(study: Study, trade: Trade) -> np.ndarray:
    """Returns all architectures that meet the constraints, or none."""
    known = study.task.known
    if known is None or not len(trade.exact):
        return np.zeros((0, len(trade.goals)))
    rows = np.stack([known.columns[g.name] for g in trade.goals], axis=1)
    return rows[np.isfinite(known.value)].astype(np.float64)


def draw_all(study: Study, trade: Trade | None) -> list[Drawing]:
    """Returns the figures of several objectives; none for a single one."""
    if trade is None:
        return []
    with plots.style():
        two = len(trade.goals) == 2
        drawn = [_attainment(study, trade) if two else _pairs(study, trade)]
        return [*drawn, *([_growth(study, trade)] if trade.volumes else [])]


def _attainment(study: Study, trade: Trade) -> Drawing:
    sign, surfaces = signs(trade.goals).astype(np.float64), []
    for method, look, mine in zip(study.methods, _looks(study), trade.fronts, strict=True):
        if any(map(len, mine)):
            x, y = attained([front * sign for front in mine], LEVELS[::-1])
            surfaces.append(draw.Surface(method.name, look, x, y))
    points = np.concatenate([front for mine in trade.fronts for front in mine]) * sign
    best = np.concatenate([points, trade.exact * sign])
    low, high = np.quantile(points, 0.1, axis=0), best.max(axis=0)
    room = 0.06 * (high - low) + 1e-9
    window = np.stack([low - room, high + room], axis=1)
    beyond = "Grey: all architectures. " if len(trade.exact) else ""
    among = f" that meet {study.task.limits}" if study.task.limits else ""
    names = f"{trade.goals[0].name} against {trade.goals[1].name}"
    return finish(
        "fronts",
        f"What the methods reach: {names}",
        f"Lines: median attainment surfaces after {study.budget:,} queries, which half of "
        "a method's controllers reach or exceed; bands: what a quarter and three quarters "
        f"of them reach. {beyond.replace('architectures', f'architectures{among}')}Better "
        f"is up and to the right. {_counts(study)}.",
        f"Staircases of {names}. {_leader(study, trade)}",
        draw.attainment(
            surfaces,
            _everything(study, trade),
            trade.exact,
            labels=_labels(trade),
            signs=sign,
            window=window,
        ),
    )


def _pairs(study: Study, trade: Trade) -> Drawing:
    clouds = []
    for method, look, mine in zip(study.methods, _looks(study), trade.fronts, strict=True):
        every = np.unique(np.concatenate([np.zeros((0, len(trade.goals))), *mine]), axis=0)
        every = every[found.front(every, trade.goals)]
        clouds.append(draw.Cloud(method.name, look, every))
    names = ", ".join(goal.name for goal in trade.goals)
    return finish(
        "fronts",
        f"What the methods reach: {names}",
        "Every pair of objectives. Coloured: the front of all that a method's controllers "
        f"found in {study.budget:,} queries each, as points in all objectives together. "
        + "Grey: all architectures. " * bool(len(trade.exact))
        + f"Better is up and to the right. {_counts(study)}.",
        f"Scatter plots of pairs of {names}. {_leader(study, trade)}",
        draw.pairs(
            [c for c in clouds if len(c.points)],
            _everything(study, trade),
            trade.exact,
            labels=_labels(trade),
            signs=signs(trade.goals),
        ),
    )


def _growth(study: Study, trade: Trade) -> Drawing:
    shares, label = _shares(trade)
    curves = [
        draw.Growth(m.name, look, stats.mean_band(volume, (0.0, np.inf)))
        for m, look, volume in zip(study.methods, _looks(study), shares, strict=True)
    ]
    known = np.isfinite(trade.total) and trade.total > 0
    return finish(
        "hypervolume",
        "Hypervolume against queries",
        f"Mean over controllers, with its 95 % Student-t interval. {_reference(trade)} "
        f"{_counts(study)}.",
        f"Rising curves. {_leader(study, trade)}",
        draw.growth(trade.places, curves, label=label, most=100.0 if known else None),
    )


def _shares(trade: Trade) -> tuple[list[np.ndarray], str]:
    """Returns hypervolumes as shares (%) of the exact front's where it is known."""
    if np.isfinite(trade.total) and trade.total > 0:
        return [100 * v / trade.total for v in trade.volumes], "hypervolume (% of exact)"
    return list(trade.volumes), "hypervolume"


def _counts(study: Study) -> str:
    sizes = {m.name: len(m.final) for m in study.methods}
    if len(set(sizes.values())) == 1:
        return f"n = {next(iter(sizes.values())):,} controllers a method"
    return "n = " + ", ".join(f"{n:,} ({name})" for name, n in sizes.items())


def _leader(study: Study, trade: Trade) -> str:
    """Returns which method has the largest mean hypervolume in the end."""
    if not trade.volumes:
        return ""
    shares, _ = _shares(trade)
    ends = [float(np.mean(volume[:, -1])) for volume in shares]
    best = int(np.argmax(ends))
    unit = " % of the exact front's" if np.isfinite(trade.total) else ""
    return (
        f"{study.methods[best].name} has the largest mean hypervolume in the end, "
        f"{number(ends[best], 1)}{unit}."
    )


def _reference(trade: Trade) -> str:
    point = ", ".join(
        f"{goal.name} {number(float(value))}"
        for goal, value in zip(trade.goals, trade.reference, strict=True)
    )
    if trade.given:
        return f"Measured from the reference that was given: {point}."
    return (
        "Measured from the worst value of each objective on any front that a controller "
        f"of these methods ended with: {point}; give --reference to compare with others."
    )


def volume_table(study: Study, trade: Trade) -> Table | None:
    """Returns mean hypervolumes at some budgets; None for more than three objectives."""
    if not trade.volumes:
        return None
    shares, what = _shares(trade)
    marks = compare.checkpoints(study.budget)
    places = [trade.places.index(q) for q in marks]
    limits = study.task.limits
    rows = []
    for method, mine in zip(study.methods, shares, strict=True):
        cells = []
        for place in places:
            mean = stats.mean_interval(mine[:, place], (0.0, np.inf))
            between = f" [{number(mean.low, 1)}, {number(mean.high, 1)}]"
            cells.append(number(mean.value, 1) + between * bool(np.isfinite(mean.low)))
        if limits:
            share = compare.feasible(study, method)
            share = share[np.isfinite(share)]
            cells.append(percent(float(share.mean())) if len(share) else "none succeeded")
        sizes = [len(front) for front in trade.fronts[len(rows)]]
        rows.append((method.name, *cells, number(float(np.mean(sizes)), 1)))
    note = f"{_reference(trade)} In brackets: the 95 % Student-t interval of the mean."
    if limits:
        note += f" Only what meets {limits} counts."
    columns = [f"{q:,}" for q in marks] + ["feasible queries"] * bool(limits)
    return Table(
        f"Mean {what} after so many distinct queries",
        ("method", *columns, "front size"),
        tuple(rows),
        f"{note} Front size: mean over controllers, in the end.",
    )


def found_table(study: Study, trade: Trade) -> Table:
    """Returns the front of everything found, with every objective and constraint."""
    count = len(trade.tokens)
    rows = np.unique(np.linspace(0, count - 1, min(count, ROWS)).round().astype(int))
    known = bool(len(trade.exact))
    limits = study.task.limited
    lines = []
    for i in rows:
        cells = [number(float(value)) for value in trade.values[i]]
        cells += [number(float(trade.limited[name][i])) for name in limits]
        cells += ["yes" if trade.on_exact[i] else "no"] * known
        lines.append((digits(trade.tokens[i]), *cells, *map(percent, trade.shares[:, i])))
    columns = ["tokens", *_labels(trade)]
    columns += [f"{name} ({bound})" for name, bound in limits.items()]
    columns += ["on the exact front"] * known
    finders = [f"found by {m.name}" for m in study.methods]
    shown = "" if count == len(rows) else f" Shown: {len(rows)}, evenly along the front."
    exact = f" The exact front has {len(trade.exact):,} points." if known else ""
    standing = "True" if study.task.truthful else "Measured"
    return Table(
        f"The front of everything found: {count:,} architectures",
        (*columns, *finders),
        tuple(lines),
        f"{standing} values. Found by: share of the method's controllers that queried it."
        f"{exact}{shown}",
    )


def summary(study: Study, trade: Trade | None) -> dict[str, object]:
    """Returns reference and mean hypervolumes as JSON-able data."""
    if trade is None:
        return {}
    means = {
        method.name: float(np.mean(volume[:, -1]))
        for method, volume in zip(study.methods, trade.volumes, strict=False)
    }
    return {
        "reference": trade.reference.tolist(),
        "hypervolume": means,
        "hypervolume_exact": trade.total if np.isfinite(trade.total) else None,
    }


def blocks(study: Study, trade: Trade) -> Sequence[Table]:
    """Returns the tables of the section."""
    tables = (volume_table(study, trade), found_table(study, trade))
    return [table for table in tables if table is not None]
