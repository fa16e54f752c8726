"""The tables of a report, as strings: what each number is, never how it is drawn."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxnas.report.read import compare, stats
from jaxnas.report.read.anatomy import describe, digits
from jaxnas.report.read.architectures import Front, Top
from jaxnas.report.read.compare import Method, Study
from jaxnas.report.read.task import RANGES
from jaxnas.report.say.cells import Table
from jaxnas.report.say.text import (
    bracket,
    difference_unit,
    interval,
    latent_note,
    number,
    percent,
    reading_note,
    short,
    unit,
)


def _label(method: Method) -> str:
    return f"{method.name} ({method.note})" if method.note else method.name


def _count(method: Method) -> str:
    n, of = int(np.sum(np.isfinite(method.final))), len(method.final)
    count = f"{n:,}" if n == of else f"{n:,} of {of:,}"
    return f"{count} on 1 latent model" if method.latent else count


def main_table(study: Study, *, compact: bool = False) -> Table:
    """Returns the main table: one row a method, and the known optimum under a rule.

    ``compact`` is for a terminal, without the column of large classes and the long notes.
    """
    known, budget = study.task.known, f"{study.budget:,}"
    where, gap = bracket(unit(study)), bracket(difference_unit(study))
    best = "mean best" if compact else f"mean best {study.task.standing} value"
    columns = ["method", "queries", f"{best}{where}", "95 % interval"]
    if known is not None and compact:
        columns += ["regret", "class regret"]
    elif known is not None:
        columns += [f"regret to optimum{gap}", f"class-mean regret{gap}"]
        columns.append(f"the same, classes of {compare.large_class(study)}+{gap}")
    columns += ["spent" if compact else "spent the budget", "n"]
    rows = []
    for method in study.methods:
        found = compare.summarise(study, method)
        mean = number(found.mean.value) if found.mean.n else "nothing found"
        row = [_label(method), budget, mean, interval(found.mean)]
        if known is not None:
            row += [number(found.regret.value), number(found.class_regret.value)]
            row += [] if compact else [number(found.large_class_regret.value)]
        rows.append((*row, percent(found.spent), _count(method)))
    rule = -1
    if known is not None:
        rule = len(rows)
        floor, large = compare.class_floors(study)
        allowed = int(np.sum(np.isfinite(known.value)))
        row = ["known optimum", f"{allowed:,}", number(known.optimum), ""]
        row += [number(0.0), number(floor)] + ([] if compact else [number(large)])
        rows.append((*row, "", ""))
    brief = "Spent: share that spent the budget. Details are in the report."
    if known is not None:
        best = f"best that meets {study.task.limits}" if study.task.limits else "optimum"
        brief = (
            f"Regret: to the known {best}. Class regret: class-mean regret, whose floor is "
            f"the optimum's own. {brief}"
        )
    brief += latent_note(study)
    return Table(
        title=f"After {budget} distinct queries",
        columns=tuple(columns),
        rows=tuple(rows),
        note=brief if compact else reading_note(study),
        rule_before=rule,
        strong=0 if len(study.methods) > 1 else -1,
    )


def asked_table(study: Study) -> Table | None:
    """Returns each objective and each constrained metric of what is recommended.

    None where the main table already says all: one objective without constraints.
    """
    task = study.task
    if len(task.objectives) == 1 and not task.limited:
        return None
    columns = ["method"]
    for item in task.objectives:
        columns += [f"mean {item.name}{bracket(item.unit)}", "95 % interval"]
    columns += [f"{name} ({bound}), range" for name, bound in task.limited.items()]
    shares_of = {m.name: compare.met_shares(study, m) for m in study.methods}
    apart = list(dict.fromkeys(name for found in shares_of.values() for name in found))
    apart = apart if len(apart) > 1 else []
    columns += [f"queries with {name}" for name in apart]
    columns += ["queries that meet them"] * bool(task.limited) + ["n"]
    rows = []
    for method in study.methods:
        found, row = compare.advised(study, method), [_label(method)]
        for item in task.objectives:
            within = RANGES.get(item.unit, stats.EVERYWHERE)
            if task.known is not None and item.name in task.known.columns:
                column = task.known.columns[item.name]
                within = float(np.nanmin(column)), float(np.nanmax(column))
            mean = stats.mean_interval(found[item.name], within)
            row += [number(mean.value) if mean.n else "nothing found", interval(mean)]
        for name in task.limited:
            values = np.unique(found[name][np.isfinite(found[name])])
            none = "not recorded" if np.isfinite(method.final).any() else ""
            ends = [number(float(v)) for v in (*values[:1], *values[-1:])]
            row.append(" to ".join(dict.fromkeys(ends)) or none)
        mine = shares_of[method.name]
        row += [percent(mine[name]) if name in mine else "not recorded" for name in apart]
        if task.limited:
            shares = compare.feasible(study, method)
            shares = shares[np.isfinite(shares)]
            row.append(percent(float(np.mean(shares))) if len(shares) else "none succeeded")
        rows.append((*row, _count(method)))
    note = (
        "Means over the controllers that recommend an architecture, of "
        f"{'true' if task.known else 'recorded'} values."
    )
    if task.limited:
        note += (
            f" Constraint: {task.limits}. Range: least and greatest among what is "
            "recommended. Queries that meet them: mean share of a controller's successful "
            "queries."
        )
    title = "What was asked for, of what is recommended"
    return Table(title, tuple(columns), tuple(rows), note)


def robust_table(study: Study) -> Table:
    """Returns medians and interquartile means with their bootstrap intervals."""
    rows = []
    for method in study.methods:
        found = compare.summarise(study, method)
        pairs = [(number(i.value), interval(i)) for i in (found.median, found.iqm)]
        rows.append((_label(method), *pairs[0], *pairs[1]))
    names = [f"{name}{bracket(unit(study))}" for name in ("median", "interquartile mean")]
    return Table(
        "Median and interquartile mean",
        ("method", names[0], "95 % interval", names[1], "95 % interval"),
        tuple(rows),
        f"Percentile bootstrap, stratified by setting, {stats.RESAMPLES:,} resamples.",
    )


def checkpoint_table(study: Study) -> Table:
    """Returns mean regret (or value) at some numbers of distinct queries."""
    known, places = study.task.known, compare.checkpoints(study.budget)
    maximise = study.task.objective.maximise
    within = (0.0, study.task.breadth[1]) if known is not None else study.task.range

    def cell(values: Float[np.ndarray, "n"]) -> str:
        if len(values) == 0 or np.any(np.isnan(values)):
            return "none yet"
        if known is not None:
            values = stats.regret(values, known.optimum, maximise=maximise)
        found = stats.mean_interval(values, within)
        if not np.isfinite(found.low):
            return number(found.value)
        return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"

    rows = [
        (_label(m), *(cell(m.curve[np.isfinite(m.final), q - 1]) for q in places))
        for m in study.methods
    ]
    what, where = f"best {study.task.standing} value", unit(study)
    if known is not None:
        what, where = "regret to the optimum", difference_unit(study)
    if known is not None and not any(m.run.algorithm == "random" for m in study.methods):
        finite = known.value[np.isfinite(known.value)]
        exact = stats.expected_best(finite, study.budget, maximise=maximise)
        gaps = stats.regret(exact, known.optimum, maximise=maximise)
        rows.append(("random, exact", *(number(gaps[q - 1]) for q in places)))
    note = "In brackets: the 95 % Student-t interval of the mean."
    return Table(
        f"Mean {what}{bracket(where)} after so many distinct queries",
        ("method", *(f"{q:,}" for q in places)),
        tuple(rows),
        note * any(m.final.size > 1 for m in study.methods),
    )


def top_table(study: Study, top: Sequence[Top], *, compact: bool = False) -> Table:
    """Returns the best distinct architectures that any method found, best first.

    ``compact`` is for a terminal: what each is made of instead of who found it.
    """
    known = study.task.known
    columns = ["rank", "tokens", f"{study.task.objective.name}{bracket(unit(study))}"]
    apart = study.task.objectives if len(study.task.objectives) > 1 else ()
    apart = [o for o in apart if top and all(o.name in item.metrics for item in top)]
    columns += [f"{o.name}{bracket(o.unit)}" for o in apart]
    columns += ["rows in class", "class mean"] * (known is not None)
    finders = [f"found by {m.name}" for m in study.methods]
    columns += ["architecture"] if compact else finders
    rows = []
    for rank, item in enumerate(top, start=1):
        row = [str(rank), digits(item.tokens), number(item.value)]
        row += [number(item.metrics[o.name]) for o in apart]
        if known is not None:
            row += [f"{item.class_size:,}", number(item.class_mean)]
        what = describe(study.task.space, item.tokens)
        rows.append((*row, what) if compact else (*row, *map(percent, item.found)))
    note = (
        f"Distinct raw architectures by {study.task.standing} value. Found by: share of "
        "the method's controllers in the main table that queried it."
    )
    if known is not None:
        note += (
            " Rows in class: how many rows of the table are the same network; class mean: "
            "the mean over them, a better guess at what the network will do again."
        )
    left = (0, 1, len(columns) - 1) if compact else (0, 1)
    title = f"The {len(top)} best architectures found"
    return Table(title, tuple(columns), tuple(rows), "" if compact else note, left=left)


def cell_table(study: Study, top: Sequence[Top]) -> Table:
    """Returns what the best architectures are made of, in words."""
    rows = tuple((digits(t.tokens), describe(study.task.space, t.tokens)) for t in top)
    return Table("What they are", ("tokens", "architecture"), rows, left=(0, 1))


def metrics_table(study: Study, top: Sequence[Top], *, spread: bool = True) -> Table:
    """Returns every metric of the best architectures, one column an architecture.

    ``spread``: whether the recorded uncertainty stands behind a value.
    """
    rows = []
    for name in top[0].metrics if top else ():
        cells = [number(item.metrics[name]) for item in top]
        for i, around in enumerate(item.spread.get(name) for item in top):
            if spread and around:
                cells[i] += f" ±\N{NO-BREAK SPACE}{number(around, 1)}"
        rows.append((name, *cells))
    note = "± is the standard deviation that the table records for one reading."
    note *= spread and any(item.spread for item in top)
    columns = ("metric", *(digits(item.tokens) for item in top))
    return Table("All their metrics", columns, tuple(rows), note, breakable=True)


def front_table(study: Study, front: Front) -> Table:
    """Returns the exact front with the share of controllers that queried each point."""
    known = study.task.known
    assert known is not None
    rows = []
    for i, row in enumerate(front.rows):
        name, x, y = digits(known.members[row]), float(front.x[row]), float(front.y[row])
        rows.append((name, number(x), number(y), *map(percent, front.found[:, i])))
    names = [f"{n}{bracket(u)}" for n, u in zip(front.names, front.units, strict=True)]
    return Table(
        f"The exact front of {' and '.join(front.names)}: {len(rows)} architectures",
        ("tokens", *names, *(f"found by {m.name}" for m in study.methods)),
        tuple(rows),
        "Found by: share of the method's controllers that queried it.",
    )


def settings_table(study: Study, method: Method) -> Table:
    """Returns every hyperparameter setting of a sweep with the spread over its seeds."""
    results, run, known = method.results, method.run, study.task.known
    curve = stats.carry_forward(results.curve[:, : study.budget])[:, -1]
    varied = [n for n, column in run.hparams.items() if len(np.unique(column)) > 1]
    within = (0.0, study.task.breadth[1]) if known is not None else study.task.range
    rows = []
    for s in range(run.num_settings):
        here = results.setting == s
        values = curve[here]
        if known is not None:
            maximise = study.task.objective.maximise
            values = stats.regret(values, known.optimum, maximise=maximise)
        values = values[np.isfinite(values)]
        found = stats.mean_interval(values, within)
        deviation = np.std(values, ddof=1) if len(values) > 1 else np.nan
        row = [f"{s} (preset)" if s == run.config.get("preset") else str(s)]
        row += [short(run.hparams[n][s]) for n in varied]
        row += [number(found.value), interval(found), number(float(deviation))]
        spent = percent(float(np.mean(results.count[here] >= study.budget)))
        rows.append((*row, spent, f"{found.n:,}"))
    what = "mean regret" if known is not None else f"mean best {study.task.standing} value"
    where = difference_unit(study) if known is not None else unit(study)
    columns = ("setting", *varied, f"{what}{bracket(where)}", "95 % interval")
    columns += ("s.d. over seeds", "spent the budget", "n")
    return Table(f"Every setting of {method.name}", columns, tuple(rows))
