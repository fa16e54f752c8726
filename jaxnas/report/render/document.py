"""What a report says, in order, without its form: sections of text, tables and figures."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.report.read.architectures import Front, Top, front_of, top_found
from jaxnas.report.read.audit import Check, audit
from jaxnas.report.read.compare import Study
from jaxnas.report.read.fronts import Trade, trade_of
from jaxnas.report.read.load import plain_text
from jaxnas.report.say import (
    fronts_section,
    halving_section,
    provenance,
    retrain_section,
    tables,
    text,
    validation_section,
)
from jaxnas.report.say.cells import Table
from jaxnas.report.say.drawing import Drawing
from jaxnas.report.say.figures import draw_all
from jaxnas.report.say.latent_section import draw_latent


class Text(NamedTuple):
    """A paragraph; ``kind`` is plain, lead, note or warning."""

    text: str
    kind: str = "plain"


class Code(NamedTuple):
    """Lines to be typed, shown as they are."""

    text: str


Block = Text | Code | Table | Drawing


class Section(NamedTuple):
    """A titled part of a report."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


class Chapter(NamedTuple):
    """All that is said about one question."""

    study: Study
    title: str
    subtitle: str
    lead: str
    verdicts: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    """A number and what it counts, for the strip under the title."""
    sections: tuple[Section, ...]
    top: tuple[Top, ...]
    trade: Trade | None = None
    """What was found of several objectives."""

    @property
    def drawings(self) -> list[Drawing]:
        """Every figure of the chapter."""
        return [b for s in self.sections for b in s.blocks if isinstance(b, Drawing)]


def chapter(study: Study, reference: Sequence[float] = ()) -> Chapter:
    """Returns everything a report says about a study.

    Raises:
        UserError: a reference point that does not fit its objectives.
    """
    checks, trade = audit(study), trade_of(study, reference)
    top, front = top_found(study), front_of(study) if trade is None else None
    latent, missing = draw_latent(study)
    validated, unread = validation_section.read(study)
    retrained, damaged = retrain_section.read(study)
    drawn = [*draw_all(study, top, front), *fronts_section.draw_all(study, trade), *latent]
    if validated is not None:
        drawn.append(validation_section.draw(validated))
    found = [
        f"{c.label}: it does not hold for {c.failures:,} of {c.checked:,} controllers that "
        f"{c.statement}."
        for c in checks
        if c.failures
    ]
    remarks = [*text.verdicts(study), text.digital_rank(study)]
    sections = _sections(study, checks, top, front, trade, drawn, validated, retrained)
    return Chapter(
        study=study,
        title=f"Searching {study.task.oracle} for {study.task.what}",
        subtitle=study.task.objective.meaning,
        lead=text.headline(study),
        verdicts=tuple(filter(None, remarks)),
        warnings=(*text.warnings(study, found), *missing, *unread, *damaged),
        facts=_facts(study),
        sections=tuple(s for s in sections if s.blocks),
        top=tuple(top),
        trade=trade,
    )


def _facts(study: Study) -> tuple[tuple[str, str], ...]:
    known = study.task.known
    controllers = sum(int(m.run.config["controllers"]) for m in study.methods)
    queries = sum(int(m.results.count.sum()) for m in study.methods)
    facts = [
        (f"{study.budget:,}", "distinct queries a controller"),
        (f"{controllers:,}", "controllers run"),
        (f"{queries:,}", "queries on record"),
    ]
    if known is not None:
        best = f"{text.number(known.optimum)}{text.unit(study)}"
        allowed = int(np.isfinite(known.value).sum())
        among, limits = f"all {allowed:,}", study.task.limits
        if allowed < len(known.members):
            met = f"meet {limits}" if limits else "have a value"
            among = f"the {allowed:,} that {met}"
        facts.append((best, f"best of {among}"))
    return tuple(facts)


def _sections(
    study: Study,
    checks: Sequence[Check],
    top: Sequence[Top],
    front: Front | None,
    trade: Trade | None,
    drawn: Sequence[Drawing],
    validated: dict[str, Any] | None,
    retrained: dict[str, Any] | None,
) -> list[Section]:
    """Returns the sections in order; one without blocks is left out later."""
    figure = {d.name: d for d in drawn}

    def some(*names: str) -> list[Block]:
        return [figure[n] for n in names if n in figure]

    surfaces: list[Block] = []
    for method in study.methods:
        mine = [d for d in drawn if d.owner == method.name]
        if mine:
            surfaces += [*mine, tables.settings_table(study, method)]
    best: list[Block] = []
    if top:
        best = [tables.top_table(study, top), tables.cell_table(study, top)]
        best += some("cells", "drift")
        if top[0].metrics:
            best.append(tables.metrics_table(study, top))
    apart: list[Block] = some("pareto", "fronts", "hypervolume")
    if trade is not None:
        apart += fronts_section.blocks(study, trade)
    elif front is not None:
        apart.append(tables.front_table(study, front))
    silicon: list[Block] = some("validation")
    if validated is not None:
        section = validation_section
        silicon += [section.table(validated), section.costs(validated)]
    full = [] if retrained is None else [retrain_section.table(retrained)]
    notes = filter(None, (text.class_note(study), text.caveats(study)))
    asked = filter(None, (tables.asked_table(study), halving_section.table(study)))
    results = [tables.main_table(study), *asked, *(Text(note, "note") for note in notes)]
    curves = [*some("regret"), tables.checkpoint_table(study), *some("aggregate")]
    return [
        Section("results", "Results", tuple(results)),
        Section("curves", "Curves", (*curves, tables.robust_table(study))),
        Section("diagnostics", "Diagnostics", tuple(some("diagnostics", "actions"))),
        Section("latent", "The latent space",
                tuple(some("latent_space", "walks", "latent_training"))),
        Section("top", "The best architectures", tuple(best)),
        Section("retrain", "Trained in full, beside references", tuple(full)),
        Section("validation", "On analog hardware, simulated", tuple(silicon)),
        Section("front", "Trade-off", tuple(apart)),
        Section("surface", "Response surfaces", tuple(surfaces)),
        Section("runs", "What was run, and how to run it again", _runs(study, checks)),
    ]  # fmt: skip


def _runs(study: Study, checks: Sequence[Check]) -> tuple[Block, ...]:
    commands = [plain_text(r.provenance.get("command") or "") for r in study.runs]
    again = "\n".join(dict.fromkeys(filter(None, commands)))
    blocks: list[Block] = []
    if again:
        resume = Text("The same command resumes a run, or shows one that is done:")
        blocks += [resume, Code(again)]
    blocks += provenance.run_tables(study.runs)
    data = provenance.data_table(study)
    blocks += [data] if data.rows else []
    note = Text(text.statistics_note(), "note")
    return (*blocks, provenance.check_table(checks), note)
