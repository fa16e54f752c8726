"""``build``: from run directories to report.html, report.md and the figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from jaxnas.core.errors import DiskFullError, UserError
from jaxnas.core.files import replacing
from jaxnas.report.read.compare import (
    Method,
    Study,
    advised,
    feasible,
    met_shares,
    studies,
    summarise,
)
from jaxnas.report.read.load import RunData, load, plain_text
from jaxnas.report.render import html, markdown
from jaxnas.report.render.document import Chapter, chapter
from jaxnas.report.say import fronts_section, tables, text
from jaxnas.report.say.cells import to_rich
from jaxnas.report.say.drawing import slug

TERMINAL_WIDTH = 100
"""Columns where the output is not a terminal."""


@dataclass(frozen=True)
class Report:
    """A finished report.

    Attributes:
        html_path: the self-contained page.
        md_path: the same as Markdown.
        figures: every figure's file, SVG and PNG.
        chapters: what it says, one a question.
    """

    html_path: Path
    md_path: Path
    figures: tuple[Path, ...]
    chapters: tuple[Chapter, ...]

    def print(self, console: Console | None = None) -> None:
        """Prints the result, the main table and the best architectures."""
        if console is None:
            console = Console()
            if not console.is_terminal:
                console = Console(width=TERMINAL_WIDTH)
        for one in self.chapters:
            _print(console, one)

    def summary(self) -> dict[str, Any]:
        """Returns the numbers of the main tables as JSON-able data."""
        return {"studies": [_summary(one) for one in self.chapters]}


def build(
    paths: str | Path | Iterable[str | Path],
    out: str | Path,
    reference: Sequence[float] = (),
) -> Report:
    """Writes a report on any set of runs and returns where it is.

    Args:
        paths: run directories, parents of some, or glob patterns.
        out: folder of ``report.html``, ``report.md`` and ``figures/``; made when absent.
        reference: of the hypervolume of several objectives, a number for each in its own
            unit; the worst of all fronts that were found when empty.

    Raises:
        UserError: no runs there, none with results, a damaged file, or a reference that
            does not fit the objectives.
        DiskFullError: the report could not be written.
    """
    runs = load(paths)
    chapters = [chapter(study, reference) for study in studies(runs)]
    made, out = _made(runs), Path(out)
    folders = ["figures"]
    if len(chapters) > 1:
        folders = [f"figures/{i + 1}-{slug(c.title)}" for i, c in enumerate(chapters)]
    figures = []
    try:
        for one, folder in zip(chapters, folders, strict=True):
            (out / folder).mkdir(parents=True, exist_ok=True)
            for drawing in one.drawings:
                for ending, data in (("svg", drawing.svg), ("png", drawing.png)):
                    figures.append(out / folder / f"{drawing.name}.{ending}")
                    _write(figures[-1], data)
        for name, page in (
            ("report.html", html.page(chapters, made)),
            ("report.md", markdown.page(chapters, made, folders)),
        ):
            _write(out / name, page.encode("utf-8", "backslashreplace"))
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"No report can be written to {out} ({error.strerror}).") from error
    except OSError as error:
        raise DiskFullError(
            f"The report could not be written to {out} ({error.strerror})."
        ) from error
    return Report(out / "report.html", out / "report.md", tuple(figures), tuple(chapters))


def _write(path: Path, data: bytes) -> None:
    """Writes a file so that it is either whole and new, or the old one."""
    with replacing(path) as file:
        file.write(data)


def _made(runs: Iterable[RunData]) -> str:
    """Returns when the last run ended, and on what."""
    made = max((r.provenance for r in runs), key=lambda p: str(p.get("finished") or ""))
    when = str(made.get("finished") or "")[:16].replace("T", " ")
    version = f"jaxnas {made['jaxnas']}" if made.get("jaxnas") else ""
    parts = (f"{when} UTC" if when else "", version, str(made.get("device") or ""))
    return plain_text(", ".join(filter(None, parts)))


def _print(console: Console, one: Chapter) -> None:
    study = one.study
    console.print(Text(one.title, style="bold"))
    for warning in one.warnings:
        console.print(Text(f"Attention: {warning}", style="yellow"))
    shown = [tables.main_table(study, compact=True), tables.asked_table(study)]
    if one.trade is not None:
        shown.append(fronts_section.volume_table(study, one.trade))
    for table in shown:
        if table is not None:
            console.print(to_rich(table))
    console.print(Text(one.lead, style="bold"))
    for verdict in one.verdicts:
        console.print(Text(verdict))
    if one.top:
        console.print()
        console.print(to_rich(tables.top_table(study, one.top, compact=True)))
        if one.top[0].metrics:
            console.print(to_rich(tables.metrics_table(study, one.top, spread=False)))


def _summary(one: Chapter) -> dict[str, Any]:
    study: Study = one.study
    rows = []
    for method in study.methods:
        found = summarise(study, method)
        row: dict[str, Any] = {
            "method": method.name,
            "note": method.note,
            "queries": study.budget,
        }
        row |= {
            "mean": _plain(found.mean.value),
            "low": _plain(found.mean.low),
            "high": _plain(found.mean.high),
            "median": _plain(found.median.value),
            "iqm": _plain(found.iqm.value),
            "regret": _plain(found.regret.value),
            "class_mean_regret": _plain(found.class_regret.value),
            "spent": found.spent,
            **_asked(study, method),
        }
        rows.append({**row, "n": found.n, "finished": method.run.finished})
    task = study.task
    return {
        "oracle": task.oracle,
        "objective": task.objective.name,
        "objectives": [o.name for o in task.objectives],
        "constraints": list(task.constraints),
        "unit": task.objective.unit,
        "optimum": _plain(task.known.optimum) if task.known else None,
        "headline": text.headline(study),
        **fronts_section.summary(study, one.trade),
        "methods": rows,
        "warnings": list(one.warnings),
    }


def _asked(study: Study, method: Method) -> dict[str, Any]:
    """Returns means of each objective and constrained metric, and the feasible share."""
    found = {n: v[np.isfinite(v)] for n, v in advised(study, method).items()}
    shares = feasible(study, method)
    shares = shares[np.isfinite(shares)]
    return {
        "recommended": {n: float(np.mean(v)) if len(v) else None for n, v in found.items()},
        "feasible": float(np.mean(shares)) if study.task.limits and len(shares) else None,
        "met": met_shares(study, method),
    }


def _plain(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
