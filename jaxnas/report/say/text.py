"""Sentences of a report: what won, by how much, and what to beware of."""

from collections.abc import Sequence

import numpy as np

from jaxnas.report.read import compare, stats
from jaxnas.report.read.compare import Method, Study
from jaxnas.report.read.stats import Interval
from jaxnas.report.read.task import spreads_of
from jaxnas.run.feasibility import nearest, succeeded

TIE = 1e-6
"""Differences below it are rounding."""


def number(x: float, digits: int = 2) -> str:
    """Returns a number with fixed decimals, ``n/a`` where there is none, no minus zero.

    From ten thousand on decimals say nothing, and millions are written as such.
    """
    if not np.isfinite(x):
        return "n/a"
    if abs(x) >= 1e6:
        return f"{x / 1e6:,.2f} M"
    if abs(x) >= 1e4:
        return f"{x:,.0f}"
    text = f"{x:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def short(x: float) -> str:
    """Returns a hyperparameter value as a person would write it."""
    return f"{x:.3g}".replace("e-0", "e-").replace("e+0", "e+")


def interval(found: Interval, digits: int = 2) -> str:
    """Returns ``low to high``."""
    if not np.isfinite(found.low):
        return ("", "none: n = 1", "no test")[min(found.n, 2)]
    if found.low == found.high:
        return "no spread"
    return f"{number(found.low, digits)} to {number(found.high, digits)}"


def percent(share: float) -> str:
    """Returns a share as a percentage that never rounds to a false 0 or 100."""
    if not np.isfinite(share):
        return "n/a"
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 < share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def unit(study: Study) -> str:
    """Returns the unit with its space, as it follows a number."""
    text = study.task.objective.unit
    return f" {text}" if text else ""


def difference_unit(study: Study) -> str:
    """Returns the unit of a difference: of percentages, points."""
    text = study.task.objective.unit
    return " points" if text == "%" else f" {text}" if text else ""


def bracket(text: str) -> str:
    """Returns a unit in brackets as it follows a name, or nothing."""
    return f" ({text.strip()})" if text.strip() else ""


def compared(study: Study) -> list[Method]:
    """Returns the methods that may be named in a conclusion: finished ones, best first."""
    return [m for m in study.methods if m.run.finished]


def advantage(study: Study, a: Method, b: Method) -> Interval:
    """Returns how much better ``a`` is than ``b``, positive when it is."""
    if study.task.direction < 0:
        a, b = b, a
    return stats.difference(a.final, b.final, study.task.breadth)


def _size(study: Study, found: Interval) -> str:
    """Returns ``0.33 points (95 % interval 0.25 to 0.41)``, or why it has no interval.

    Small differences get the decimals that two significant ones need.
    """
    digits = 2
    if 0 < abs(found.value) < 0.1:
        digits = 1 - int(np.floor(np.log10(abs(found.value))))
    size = f"{number(abs(found.value), digits)}{difference_unit(study)}"
    if not np.isfinite(found.low):
        why = "n = 1: no interval" if found.n < 2 else "neither varies: no test"
        return f"{size} ({why})"
    ends = found.low, found.high
    if decided(found):
        ends = sorted(map(abs, ends))
    low, high = (number(end, digits) for end in ends)
    return f"{size} (95 % interval {low} to {high})"


def decided(found: Interval) -> bool:
    """Returns whether the interval of a difference leaves zero out."""
    return bool(np.isfinite(found.low) and (found.low > 0 or found.high < 0))


def tied(found: Interval) -> bool:
    """Returns whether a difference is nothing but rounding."""
    return abs(found.value) < TIE


def _estimate(found: Interval) -> str:
    """Returns ``(95 % interval 1.00 to 2.00, n = 6)``, or why there is none."""
    if found.n < 2:
        return "(n = 1: no interval)"
    if found.low == found.high:
        return f"(the same for all {found.n:,} controllers)"
    return f"(95 % interval {interval(found)}, n = {found.n:,})"


def _queries(study: Study, limits: str | None = None) -> str:
    """Returns how a sentence of results begins; under which limits, all by default."""
    limits = study.task.limits if limits is None else limits
    under = f" under {limits}" if limits else ""
    many = "query" if study.budget == 1 else "queries"
    return f"After {study.budget:,} distinct {many}{under}"


def _apart(study: Study, method: Method) -> str:
    """Returns the mean of each objective in brackets where there are several."""
    objectives = study.task.objectives
    if len(objectives) < 2:
        return ""
    found = compare.advised(study, method)
    parts = []
    for item in objectives:
        mean = stats.mean_interval(found[item.name]).value
        if np.isfinite(mean):
            parts.append(f"{item.name} {number(mean)} {item.unit}".rstrip())
    return f" ({', '.join(parts)})" if parts else ""


def headline(study: Study) -> str:
    """Returns the result in one plain sentence."""
    ready = compared(study)
    if not ready:
        return "No run has finished yet, so there is no result."
    some = [m for m in ready if np.isfinite(m.final).any()]
    if not some:
        return _nothing(study)
    best, queries, name = some[0], _queries(study), study.task.objective.name
    mean = stats.mean_interval(best.final, study.task.range)
    reached = f"{number(mean.value)}{unit(study)}{_apart(study, best)}"
    if len(some) == 1:
        alone = "nothing else ran" if len(ready) == 1 else "no other method found anything"
        around = f"{_estimate(mean)}; {alone}"
        return f"{queries}, {best.nice} reaches a mean {name} of {reached} {around}."
    gap, second = advantage(study, best, some[1]), some[1].nice
    if tied(gap):
        both = f"{best.nice} and {second} tie"
        return f"{queries}, {both} at a mean {name} of {reached} {_estimate(mean)}."
    if decided(gap):
        return (
            f"{queries}, {best.nice} is best with a mean {name} of {reached}, ahead of "
            f"{second} by {_size(study, gap)}."
        )
    if not np.isfinite(gap.low):
        return (
            f"{queries}, {best.nice} has the best mean {name}, {reached}, before {second} "
            f"by {_size(study, gap)}."
        )
    return (
        f"{queries}, {best.nice} and {second} cannot be told apart: {best.nice} is ahead "
        f"by {_size(study, gap)} with a mean {name} of {reached}."
    )


def _nothing(study: Study) -> str:
    """Returns why there is no result, although runs have finished."""
    task = study.task
    succeeded = any(np.isfinite(compare.feasible(study, m)).any() for m in study.methods)
    if task.limits and succeeded:
        text = f"{_queries(study, '')}, nothing met {task.limits}{_nearest(study)}"
        if task.why.startswith("none of all"):
            return f"{text}: {task.why}; relax the constraint."
        return f"{text}; relax the constraint, or search longer."
    return (
        f"{_queries(study, '')}, no evaluation of any controller succeeded, so there is "
        "no result."
    )


def _nearest(study: Study) -> str:
    """Returns how near the nearest query came, in brackets; empty where not recorded."""
    found = []
    for method in study.methods:
        results, kept = method.results, method.keep
        there = succeeded(results.objectives[kept], results.violation[kept])
        limited = results.limited[kept][there]
        if method.run.limits and np.isfinite(limited).any():
            found.append((method.run.limits, limited, results.violation[kept][there]))
    if not found:
        return ""
    return f" ({nearest(*min(found, key=lambda one: one[2].min()))})"


def verdicts(study: Study) -> list[str]:
    """Returns one sentence a learned method: does it beat evolution, and random search?"""
    ready = [m for m in compared(study) if np.isfinite(m.final).any()]
    names = ("evolution", "random")
    rivals = [m for name in names for m in ready if m.run.algorithm == name]
    sentences = []
    for method in (m for m in ready if m.learns):
        parts = [_verdict(study, method, rival) for rival in rivals]
        if parts:
            shared = ", with the one latent model that its controllers share"
            text = f"{method.nice} {' and '.join(parts)}{shared * method.latent}."
            sentences.append(text[0].upper() + text[1:])
    return sentences


def _verdict(study: Study, method: Method, rival: Method) -> str:
    """Returns ``loses to regularised evolution by ...``."""
    gap = advantage(study, method, rival)
    if tied(gap):
        return f"ties with {rival.nice}"
    better = gap.value > 0
    if not np.isfinite(gap.low):
        where = "ahead of" if better else "behind"
        return f"is {where} {rival.nice} by {_size(study, gap)}"
    if not decided(gap):
        sign = "" if better else "-"
        return f"cannot be told from {rival.nice} (difference {sign}{_size(study, gap)})"
    return f"{'beats' if better else 'loses to'} {rival.nice} by {_size(study, gap)}"


def reading_note(study: Study) -> str:
    """Returns how to read the main table."""
    text = (
        "Mean over the n controllers of a row with its 95 % Student-t interval. A "
        "controller that stops before its budget keeps its last value, so no mean is over "
        "finishers only."
    )
    if any(m.note.startswith("preset") for m in study.methods):
        text += (
            " Preset: the setting that was fixed before the run. A grid is shown as a "
            "response surface only, never as the best of its cells."
        )
    budgets = {int(m.run.config["budget"]) for m in study.methods}
    if len(budgets) > 1:
        text += f" Budgets differ; all methods are compared at {study.budget:,} queries."
    if study.task.known is None:
        text += f" Regret is not given: {study.task.why}."
    elif study.task.limits:
        text += f" Regret is to the best that meets {study.task.limits}."
    return text + latent_note(study)


def latent_note(study: Study) -> str:
    """Returns over what the errors of latent searches are; nothing where there are none."""
    names = [m.nice for m in study.methods if m.latent]
    if not names:
        return ""
    return (
        f" All controllers of {' and of '.join(names)} share one latent model and its "
        "labels, so they are one independent unit: the interval says how far another "
        "controller on that model may lie, not how far another model may. For that, "
        "repeat the search on several models and compare their means."
    )


def statistics_note() -> str:
    """Returns how every interval in the report was made."""
    return (
        "All intervals cover 95 %. Means: Student's t over controllers. Medians, "
        "interquartile means and probabilities of improvement: percentile bootstrap, "
        f"stratified by setting, {stats.RESAMPLES:,} resamples, fixed seed. Differences of "
        "two means: Welch's interval; two constant samples are not tested. Intervals end "
        "at the range of the metric. Nothing is corrected for the number of comparisons."
    )


def class_note(study: Study) -> str:
    """Returns what class-mean regret is and where its floor lies."""
    known = study.task.known
    if known is None:
        return ""
    floor, large = compare.class_floors(study)
    labels = np.unique(known.classes.label)
    size = compare.large_class(study)
    return (
        f"Class-mean regret: {len(known.members):,} architectures fall into "
        f"{len(labels):,} isomorphism classes (the same network once dead parts are "
        "removed). It is the best class mean minus the class mean of the architecture that "
        "a controller recommends by its raw value. The raw optimum's own is "
        f"{number(floor)}{difference_unit(study)}, the floor to hold the column against "
        f"({number(large)} when only classes of at least {size} rows compete; that column "
        "can be negative: what was recommended may belong to a smaller, better class)."
    )


def caveats(study: Study) -> str:
    """Returns what a reader of a table's numbers has to know, by its own account."""
    task = study.task
    single = _single_trainings(study) if task.fact("trainings") == "1" else ""
    return " ".join(filter(None, (single, task.fact("caveats")))) if task.known else ""


def _single_trainings(study: Study) -> str:
    """Returns how much luck is in a table of one training an architecture."""
    known = study.task.known
    if known is None:
        return ""
    row = known.best_row
    tokens = ",".join(map(str, known.members[row]))
    size = int(known.classes.size[row])
    text = (
        f"The table holds one training of each of its {len(known.members):,} "
        f"architectures, so the best, {number(known.optimum)}{unit(study)} at ({tokens}), "
        "is partly luck"
    )
    if size > 1:
        text += (
            f": it is one of {size} rows that are the same network, and their mean is "
            f"{number(float(known.classes.mean[row]))}{unit(study)}"
        )
    noise = compare.resolution(study)
    if np.isfinite(noise):
        text += (
            ". Two trainings of one network among the best tenth differ with a standard "
            f"deviation of {number(noise)}{difference_unit(study)}: smaller gaps between "
            "two architectures say nothing about the networks themselves"
        )
    recorded = spreads_of(study.task).get(study.task.objective.name)
    if recorded is not None and np.any(recorded > 0):
        score = study.task.direction * known.value
        best = recorded[score >= np.nanquantile(score, 0.99)]
        text += (
            ". A single reading carries a recorded uncertainty of "
            f"{number(float(recorded.mean()))}{difference_unit(study)} on average, of "
            f"{number(float(best.mean()))} among the best hundredth"
        )
    return f"{text}."


def digital_rank(study: Study) -> str:
    """Returns where the best digital network stands on the searched objective."""
    known = study.task.known
    if known is None or "digital" not in known.columns:
        return ""
    if study.task.objective.name == "digital" or len(study.task.objectives) > 1:
        return ""
    allowed = np.isfinite(known.value)
    digital = np.where(allowed, known.columns["digital"], -np.inf)
    best = int(np.argmax(digital))
    where = f" {study.task.metrics.get('digital', {}).get('unit', '')}".rstrip()
    score = study.task.direction * known.value
    rank = 1 + int(np.sum(score > score[best]))
    top = f"{number(float(known.columns['digital'][best]))}{where}"
    among = f"{int(allowed.sum()):,} on {study.task.objective.name}"
    return f"The best digital network ({top}) ranks {rank:,} of {among}."


def warnings(study: Study, failures: Sequence[str]) -> list[str]:
    """Returns what a reader must see before the numbers."""
    found = list(failures)
    if study.task.objective.predicted:
        found.append(
            f"Every value of {study.task.objective.name} here is what a fitted model "
            "predicts; nothing was measured, and a search finds where a model is too "
            "hopeful. Train what it found before you rely on it."
        )
        found.extend(_held_out(study))
    described = " ".join(map(str, study.task.info.values()))
    for run in study.runs:
        for name, checksum in (run.provenance.get("data") or {}).items():
            plain = str(checksum).rpartition(" ")[2]
            ours = name == study.task.oracle and study.task.known is not None
            if ours and plain not in described:
                found.append(
                    f"{run.label} read {name} with checksum {plain[:16]}, which is not "
                    "that of the table here."
                )
    for run in study.pending:
        last = run.rows[-1] if run.rows else {}
        queries = last.get("queries")
        where = f" after {queries:,.0f} queries" if isinstance(queries, int | float) else ""
        found.append(
            f"{run.label} has not finished{where} and is in no table; run its command "
            "again to go on."
        )
    found.extend(
        f"{m.name} has not finished; its row is not compared with the others."
        for m in study.methods
        if not m.run.finished
    )
    for method in study.methods:
        found.extend(_missing(study, method))
    return found


def _held_out(study: Study) -> list[str]:
    """Returns how well a fitted model orders what it has not seen, where it says so."""
    names = [o.name for o in study.task.objectives]
    said = [
        f"{name} {value}"
        for name, value in study.task.info.items()
        if name.startswith("held out") and name.rpartition(": ")[2] in names
    ]
    return [f"How far the model can be relied on. {'; '.join(said)}."] if said else []


def _missing(study: Study, method: Method) -> list[str]:
    """Returns which controllers of a method have no value, and why."""
    without = ~np.isfinite(method.final)
    failed = without & (
        ~np.isfinite(compare.feasible(study, method)) | (not study.task.limits)
    )
    of = f"of {len(without):,} controllers of {method.name}"
    found = []
    for which, why in (
        (failed, "never had a successful evaluation"),
        (without & ~failed, f"found nothing that meets {study.task.limits}"),
    ):
        if which.any():
            found.append(f"{int(which.sum()):,} {of} {why} and are not in its mean.")
    return found
