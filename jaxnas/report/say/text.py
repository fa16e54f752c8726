"""Sentences of a report: what won, by how much, and what to beware of."""

from collections.abc import Sequence

import numpy as np

from jaxnas.report.read import stats
from jaxnas.report.read.compare import Method, Study, class_floors, large_class, resolution
from jaxnas.report.read.stats import Interval
from jaxnas.report.read.task import spreads_of


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
        return "n/a"
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
    if study.task.direction > 0:
        return stats.difference(a.final, b.final)
    return stats.difference(b.final, a.final)


def _of(study: Study, found: Interval, digits: int = 2) -> str:
    """Returns ``0.33 points (95 % interval 0.25 to 0.41)``."""
    size = f"{number(abs(found.value), digits)}{difference_unit(study)}"
    if not np.isfinite(found.low):
        return f"{size} (one seed: no interval)"
    low, high = sorted((abs(found.low), abs(found.high)))
    if found.low < 0 < found.high:
        return f"{size} (95 % interval {interval(found, digits)})"
    return f"{size} (95 % interval {number(low, digits)} to {number(high, digits)})"


def decided(found: Interval) -> bool:
    """Returns whether the interval of a difference leaves zero out."""
    return bool(np.isfinite(found.low) and (found.low > 0 or found.high < 0))


def headline(study: Study) -> str:
    """Returns the result in one plain sentence."""
    ready = compared(study)
    queries = f"After {study.budget:,} distinct queries"
    if not ready:
        return "No run has finished yet, so there is no result."
    best = ready[0]
    mean = stats.mean_interval(best.final)
    reached = f"{number(mean.value)}{unit(study)}"
    if len(ready) == 1:
        return (
            f"{queries}, {best.nice} reaches a mean {study.task.objective.name} of "
            f"{reached} (95 % interval {interval(mean)}, n = {mean.n}); nothing else ran."
        )
    gap = advantage(study, best, ready[1])
    if not decided(gap):
        return (
            f"{queries}, {best.nice} and {ready[1].nice} cannot be told apart: {best.nice} "
            f"is ahead by {_of(study, gap)} with a mean of {reached}."
        )
    return (
        f"{queries}, {best.nice} is best with a mean {study.task.objective.name} of "
        f"{reached}, ahead of {ready[1].nice} by {_of(study, gap)}."
    )


def verdicts(study: Study) -> list[str]:
    """Returns one sentence a learned method: does it beat evolution, and random search?"""
    ready = compared(study)
    rivals = [
        m for name in ("evolution", "random") for m in ready if m.run.algorithm == name
    ]
    sentences = []
    for method in (m for m in ready if m.learns):
        parts = [_verdict(study, method, rival) for rival in rivals]
        if parts:
            text = f"{method.nice} " + " and ".join(parts) + "."
            sentences.append(text[0].upper() + text[1:])
    return sentences


def _verdict(study: Study, method: Method, rival: Method) -> str:
    """Returns ``loses to regularised evolution by ...``."""
    gap = advantage(study, method, rival)
    if not decided(gap):
        size = f"difference {number(gap.value)}{difference_unit(study)}"
        around = interval(gap) if np.isfinite(gap.low) else "unknown: one seed"
        return f"cannot be told from {rival.nice} ({size}, 95 % interval {around})"
    word = "beats" if gap.value > 0 else "loses to"
    return f"{word} {rival.nice} by {_of(study, gap)}"


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
    return text


def statistics_note() -> str:
    """Returns how every interval in the report was made."""
    return (
        "All intervals cover 95 %. Means: Student's t over controllers. Medians, "
        "interquartile means and probabilities of improvement: percentile bootstrap, "
        f"stratified by setting, {stats.RESAMPLES:,} resamples, fixed seed. Differences of "
        "two means: Welch's interval. None is corrected for the number of comparisons."
    )


def class_note(study: Study) -> str:
    """Returns what class-mean regret is and where its floor lies."""
    known = study.task.known
    if known is None:
        return ""
    floor, large = class_floors(study)
    labels = np.unique(known.classes.label)
    size = large_class(study)
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
    """Returns what a reader of numbers from the analog table has to know; else nothing."""
    known = study.task.known
    if known is None or not study.task.analog:
        return ""
    row = known.best_row
    tokens = "".join(f"{t}," for t in known.members[row]).rstrip(",")
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
    noise = resolution(study)
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
    return (
        text + ". All columns whose names begin with analog come from one training run, as "
        "do noisy and its drift, so they must not serve to check one another. The numbers "
        "are simulations of analog hardware, not measurements of a chip."
    )


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
    score = study.task.direction * known.value
    rank = 1 + int(np.sum(score > score[best]))
    return (
        f"The best digital network ({number(float(known.columns['digital'][best]))} %) "
        f"ranks {rank:,} of {int(allowed.sum()):,} on {study.task.objective.name}."
    )


def warnings(study: Study, failures: Sequence[str]) -> list[str]:
    """Returns what a reader must see before the numbers."""
    found = list(failures)
    if study.task.objective.predicted:
        found.append(
            f"Every value of {study.task.objective.name} here is what a fitted model "
            "predicts; nothing was measured, and a search finds where a model is too "
            "hopeful. Train what it found before you rely on it."
        )
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
        missing = int(np.sum(~np.isfinite(method.final)))
        if missing:
            found.append(
                f"{missing} of {len(method.final)} controllers of {method.name} never had "
                "a successful evaluation and are not in its mean."
            )
    return found
