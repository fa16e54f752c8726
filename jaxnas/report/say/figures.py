"""Turns a study into figures: what is drawn, its caption, and a description in words."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxnas.report.draw import curves, maps, plots
from jaxnas.report.read import stats
from jaxnas.report.read.anatomy import (
    Frequent,
    choice_names,
    describe,
    digits,
    shares_of,
    steps,
    vocabulary,
)
from jaxnas.report.read.architectures import Front, Top, late_queries, token_shares
from jaxnas.report.read.compare import Method, Study, checkpoints, resolution
from jaxnas.report.read.task import drift_families
from jaxnas.report.say.drawing import Drawing, finish
from jaxnas.report.say.surfaces import draw_surface
from jaxnas.report.say.text import bracket, difference_unit, number, percent, unit


def _counts(study: Study) -> str:
    """Returns ``n = 64 controllers a method``, or each method's own number."""
    sizes = {m.name: len(m.final) for m in study.methods}
    if len(set(sizes.values())) == 1:
        return f"n = {next(iter(sizes.values())):,} controllers a method"
    return "n = " + ", ".join(f"{n:,} ({name})" for name, n in sizes.items())


def _value_label(study: Study) -> str:
    return f"{study.task.objective.name}{bracket(unit(study))}"


def _looks(study: Study) -> list[plots.Look]:
    """Returns each method's look; the same in every figure."""
    return plots.looks([m.run.algorithm for m in study.methods])


def draw_all(study: Study, top: Sequence[Top], front: Front | None) -> list[Drawing]:
    """Returns every figure that the study has data for, in the report's order."""
    with plots.style():
        drawn = [draw(study) for draw in (draw_regret, draw_aggregate, draw_diagnostics)]
        drawn += [draw_actions(study), draw_cells(study, top), draw_drift(study, top)]
        drawn += [
            draw_pareto(study, front),
            *(draw_surface(study, m) for m in study.methods),
        ]
    return [figure for figure in drawn if figure is not None]


def draw_regret(study: Study) -> Drawing | None:
    """Returns mean best value and regret against distinct queries."""
    known = study.task.known
    lines = [
        curves.Curve(
            m.name, look, stats.mean_band(m.curve[np.isfinite(m.final)], study.task.range)
        )
        for m, look in zip(study.methods, _looks(study), strict=True)
        if np.any(np.isfinite(m.final))
    ]
    if not lines:
        return None
    exact, spread = None, resolution(study)
    if known is not None and all(m.run.algorithm != "random" for m in study.methods):
        values = known.value[np.isfinite(known.value)]
        maximise = study.task.objective.maximise
        exact = stats.expected_best(values, study.budget, maximise=maximise)
    figure = curves.regret_curves(
        lines,
        value_label=_value_label(study),
        regret_label=f"regret{bracket(difference_unit(study))}",
        optimum=known.optimum if known else None,
        direction=study.task.direction,
        exact=exact,
        resolution=spread,
        marks=checkpoints(study.budget),
    )
    ends = ", ".join(
        f"{line.label} {number(float(line.value.value[-1]))}{unit(study)}" for line in lines
    )
    interval = " with its 95 % Student-t interval"
    caption = (
        f"Mean over controllers{interval * _repeated(study)}, {_counts(study)}. The "
        f"value is the {study.task.standing} one of the architecture that a controller "
        "would recommend; a controller that stopped keeps its last."
    )
    if known is not None:
        every = f"all {len(known.members):,} architectures"
        if study.task.limits:
            allowed = int(np.sum(np.isfinite(known.value)))
            every = f"the {allowed:,} architectures that meet {study.task.limits}"
        caption += f" Dashed: the best of {every}."
    if np.isfinite(spread):
        caption += (
            " Dotted on the right: standard deviation between trainings of a network among "
            "the best tenth."
        )
    if exact is not None:
        caption += " Dotted grey: what random search is expected to reach, exactly."
    return finish(
        "regret",
        "How fast each method finds good networks",
        caption,
        f"Line chart of best value against distinct queries. After {study.budget:,} "
        f"queries: {ends}.",
        figure,
    )


def _repeated(study: Study) -> bool:
    """Returns whether any method has more than one controller with a value."""
    return any(np.isfinite(m.final).sum() > 1 for m in study.methods)


def draw_aggregate(study: Study) -> Drawing | None:
    """Returns interquartile means and probabilities of improvement."""
    known, sign = study.task.known, study.task.direction
    methods = [m for m in study.methods if np.isfinite(m.final).any()]
    if not methods:
        return None
    iqm = [stats.bootstrap(m.strata, stats.interquartile_mean) for m in methods]
    odds = lambda a, b: stats.probability_of_improvement(sign * a.final, sign * b.final)
    better = [[None if a is b else odds(a, b) for b in methods] for a in methods]
    looks = dict(zip((m.name for m in study.methods), _looks(study), strict=True))
    figure = curves.aggregate(
        [m.name for m in methods],
        [looks[m.name] for m in methods],
        iqm,
        better,
        value_label=_value_label(study),
        optimum=known.optimum if known else None,
    )
    words = [
        f"{m.name} {number(i.value)}"
        + (f" ({number(i.low)} to {number(i.high)})" if np.isfinite(i.low) else "")
        for m, i in zip(methods, iqm, strict=True)
    ]
    several = len(methods) > 1
    caption = [
        f"After {study.budget:,} distinct queries, {_counts(study)}. "
        f"{'Left: mean' if several else 'Mean'} of the middle half of the controllers."
    ]
    if several:
        caption.append(
            "Right: probability that a random controller of the row does better than a "
            "random one of the column, ties counting half."
        )
    if _repeated(study):
        caption.append(
            f"{'Both with' if several else 'With'} 95 % percentile bootstrap intervals "
            f"({stats.RESAMPLES:,} resamples)."
        )
    return finish(
        "aggregate",
        "Robust averages and head-to-head odds" if several else "Robust average",
        " ".join(caption),
        "Interquartile means: " + ", ".join(words) + ".",
        figure,
    )


def _quartiles(x: Float[np.ndarray, "n U"]) -> Float[np.ndarray, "3 U"]:
    """Returns lower quartile, median and upper quartile of carried-forward logs.

    NaN before anything was logged: a latent search first pays for its labels.
    """
    carried = stats.carry_forward(x)
    logged = ~np.isnan(carried).all(axis=0)
    found = np.full((3, x.shape[1]), np.nan)
    found[:, logged] = np.nanquantile(carried[:, logged], [0.25, 0.5, 0.75], axis=0)
    return found


def _trace(method: Method, look: plots.Look) -> curves.Trace | None:
    """Returns a method's logged diagnostics, or None where it logged none."""
    metrics = method.results.metrics
    logged = {n: metrics[n][method.keep] for n in ("entropy", "unique") if n in metrics}
    if not logged:
        return None
    updates = next(iter(logged.values())).shape[1]
    alive = ~np.all([np.isnan(x).all(axis=0) for x in logged.values()], axis=0)
    end = int(np.max(np.flatnonzero(alive), initial=0)) + 1
    fields = method.run.config["algorithm"].get("fields") or {}
    step = fields.get("batch", 1) * fields.get("rounds", 1)
    flags = metrics.get("collapsed")
    collapsed, marks = None, np.zeros(0, int)
    if flags is not None:
        every = stats.first_collapse(flags[method.keep])
        first = every[every >= 0]
        collapsed = np.bincount(first, minlength=updates).cumsum()[:end] / len(every)
        marks = np.unique(first)
    return curves.Trace(
        label=method.name,
        look=look,
        x=step * np.arange(1, end + 1, dtype=float),
        entropy=_quartiles(logged["entropy"])[:, :end] if "entropy" in logged else None,
        unique=_quartiles(logged["unique"])[:, :end] if "unique" in logged else None,
        collapsed=collapsed,
        marks=marks,
    )


def draw_diagnostics(study: Study) -> Drawing | None:
    """Returns entropy, new architectures and collapse, where any method logged them."""
    pairs = zip(study.methods, _looks(study), strict=True)
    traces = [t for m, look in pairs if (t := _trace(m, look)) is not None]
    if not traces:
        return None
    last = {t.label: t.collapsed[-1] for t in traces if t.collapsed is not None}
    words = ", ".join(f"{name} {percent(float(share))}" for name, share in last.items())
    crosses = (
        "Crosses: an update at which at least one controller was first flagged as "
        "collapsed, that is, its entropy or the share of distinct architectures in its "
        "batch fell to the floor, or a latent search visited nothing new. "
    )
    return finish(
        "diagnostics",
        "Did the policies collapse?",
        "Median and quartiles over the controllers of the main table; a controller that "
        "stopped keeps its last value. "
        + crosses * any(len(t.marks) for t in traces)
        + f"{_counts(study)}.",
        "Line charts over proposals."
        + (f" Controllers ever flagged: {words}." if words else ""),
        curves.diagnostics(traces, x_label="proposals"),
    )


def draw_actions(study: Study) -> Drawing | None:
    """Returns which tokens the late queries use at each position."""
    space, known = study.task.space, study.task.known
    if space is None or space.length > 16 or space.vocab > 16:
        return None
    vocab, length = space.vocab, space.length
    chance, exact = np.full((vocab, length), 1 / vocab), known is not None
    if known is not None:
        chance = token_shares(known.members, vocab)
    elif isinstance(space, Frequent):
        chance, exact = shares_of(space, vocab), True
    panels = [
        (m.name, token_shares(late_queries(m, study.budget), vocab)) for m in study.methods
    ]
    tokens, positions = vocabulary(space, vocab, length)
    panels = [(name, shares) for name, shares in panels if np.isfinite(shares).all()]
    if not panels:
        return None
    name, shares = panels[0]
    v, t = np.unravel_index(np.argmax(shares - chance), shares.shape)
    label = "edge of the cell" if "→" in positions[0] else "position"
    against = "the whole space" if exact else "equal shares"
    choices = choice_names(space)
    return finish(
        "actions",
        "What the methods learned to prefer",
        "Share (%) of each choice at each position among the last fifth of every "
        f"controller's queries, coloured against {against}. {_counts(study)}.",
        "Heat maps of choices by position. "
        f"{name} prefers {choices[t][v] if choices else tokens[v]} at {positions[t]} "
        f"most: {percent(float(shares[v, t]))}, by chance {percent(float(chance[v, t]))}.",
        maps.actions(
            panels,
            chance=chance,
            tokens=tokens,
            positions=positions,
            position_label=label,
            choices=choices,
        ),
    )


def draw_cells(study: Study, top: Sequence[Top]) -> Drawing | None:
    """Returns the best architectures as graphs, where a space's specs are small enough."""
    space = study.task.space
    if space is None or not top:
        return None
    graphs = [steps(space.to_spec(item.tokens)) for item in top]
    if not all(graphs):
        return None
    nodes = max(len({n for s in g for n in (s.source, s.target)}) for g in graphs)
    labels = list(dict.fromkeys(s.label for g in graphs for s in g if s.label != "none"))
    if nodes > 8 or len(labels) > 7:
        return None
    cells = [
        maps.Cell(
            digits(item.tokens),
            [(s.source, s.target, s.label) for s in g if s.label != "none"],
            list(dict.fromkeys(n for s in g for n in (s.source, s.target))),
        )
        for item, g in zip(top, graphs, strict=True)
    ]
    words = describe(space, top[0].tokens)
    return finish(
        "cells",
        "What they look like",
        f"The {len(cells)} best architectures as graphs from input (left) to output "
        "(right); faint: parts through which no signal passes to the output.",
        f"Graphs of the best architectures. The best is {words}.",
        maps.cells(cells, labels),
    )


def draw_drift(study: Study, top: Sequence[Top]) -> Drawing | None:
    """Returns the best architectures' drift: the searched family of metrics over time."""
    known = study.task.known
    if known is None or "digital" not in known.columns or not top:
        return None
    families = drift_families(known.columns)
    if not families:
        return None
    usual = "analog" if "analog" in families else next(iter(families))
    searched = study.task.objective.name
    own = next((f for f in families if searched.startswith(f)), usual)
    times = families[own]
    others = [f for f in families if f != own and len(families[f]) == len(times)]
    items = [
        curves.Drift(
            label=digits(item.tokens),
            seconds=np.array([s for s, _ in times]),
            value=np.array([item.metrics[n] for _, n in times]),
            spread=np.array([item.spread.get(n, 0.0) for _, n in times]),
            digital=item.metrics["digital"],
            others=np.array([[item.metrics[n] for _, n in families[f]] for f in others]),
        )
        for item in top
    ]
    names = [n for _, n in times]
    ticks = [re.sub(r"(\d+)", r"\1 ", n.removeprefix(f"{own}_")) for n in names]
    facts, recorded = study.task.metrics, any(np.any(item.spread > 0) for item in items)
    meant = [str(facts.get(n, {}).get("meaning") or n) for n in (names[0], names[-1])]
    where = str(facts.get(names[-1], {}).get("unit", ""))
    size = f"{number(abs(float(items[0].value[-1] - items[0].value[0])))}"
    verb = "loses" if items[0].value[-1] < items[0].value[0] else "gains"
    caption = (
        f"The {len(items)} best architectures found, by their tokens. Blue: from "
        f"{meant[0]!r} to {meant[1]!r}. Dashed: digital."
    )
    if recorded:
        caption += " Shaded: the standard deviation that the table records for one reading."
    if len(items) > 1:
        caption += f" Grey: the other {len(items) - 1}."
    return finish(
        "drift",
        "How the best networks age",
        caption,
        f"Small charts over time. {own} of the best architecture {verb} {size}"
        f"{' points' if where == '%' else ''} between {ticks[0]} and {ticks[-1]}, from "
        f"{number(float(items[0].value[0]))} {where}.",
        curves.drift(
            items,
            value_label=f"{own} and digital{bracket(where)}",
            names=[f"{own}, mean ± s.d." if recorded else own, "digital", *others],
            ticks=ticks,
        ),
    )


def draw_pareto(study: Study, front: Front | None) -> Drawing | None:
    """Returns all architectures, the exact front and what the methods recommend."""
    known = study.task.known
    if front is None or known is None:
        return None
    found = []
    for method, look in zip(study.methods, _looks(study), strict=True):
        rows, count = np.unique(method.rows[method.rows >= 0], return_counts=True)
        share = count / max(len(method.rows), 1)
        found.append(maps.Found(method.name, look, front.x[rows], front.y[rows], share))
    labels = [f"{n}{bracket(u)}" for n, u in zip(front.names, front.units, strict=True)]
    among = f" among those that meet {study.task.limits}" if study.task.limits else ""
    ends = [
        f"({number(float(front.x[r]))}, {number(float(front.y[r]))})"
        for r in (front.rows[0], front.rows[-1])
    ]
    return finish(
        "pareto",
        f"{front.names[0]} against {front.names[1]}",
        f"Grey: all {len(known.members):,} architectures. Open circles: the exact Pareto "
        f"front of {len(front.rows)}{among} with their tokens. Coloured: what the "
        f"controllers recommend after {study.budget:,} queries, larger where more agree. "
        f"{_counts(study)}.",
        f"Scatter plot. The exact front has {len(front.rows)} architectures, from "
        f"{ends[0]} to {ends[1]}.",
        maps.pareto(
            front.x,
            front.y,
            (front.x[front.rows], front.y[front.rows]),
            [digits(known.members[row]) for row in front.rows],
            found,
            labels=(labels[0], labels[1]),
            directions=front.directions,
        ),
    )
