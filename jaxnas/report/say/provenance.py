"""What was run, on what, from which data, and what was checked: tables of plain facts."""

from collections.abc import Sequence
from typing import Any

from jaxnas.report.read.audit import Check
from jaxnas.report.read.compare import Study
from jaxnas.report.read.load import RunData, plain_text
from jaxnas.report.say.cells import Table
from jaxnas.report.say.text import short


def _seconds(value: Any) -> str:
    return f"{float(value):,.1f} s" if isinstance(value, int | float) else ""


def run_tables(runs: Sequence[RunData]) -> list[Table]:
    """Returns what was run: what differs between the methods, then what they share.

    Compile time is named apart from run time.
    """
    rows = [(name, values) for name, values in _entries(runs) if any(values)]
    same = [(name, values[0]) for name, values in rows if len(set(values)) == 1]
    different = [(name, *values) for name, values in rows if len(set(values)) > 1]
    if len(runs) == 1:
        return [Table("What was run", ("", runs[0].label), tuple(same), left=(0, 1))]
    columns = ("", *(run.label for run in runs))
    found = []
    if different:
        title, cells = "What each method was", tuple(different)
        found.append(Table(title, columns, cells, breakable=True))
    if same:
        found.append(Table("What all share", ("", "all methods"), tuple(same), left=(0, 1)))
    return found


def _entries(runs: Sequence[RunData]) -> list[tuple[str, list[str]]]:

    def row(name: str, source: str, key: str) -> tuple[str, list[str]]:
        found = [(r.config if source == "config" else r.provenance).get(key) for r in runs]
        return name, [_plain(value) for value in found]

    entries = [("algorithm", [_plain(r.config["algorithm"].get("id")) for r in runs])]
    for name in dict.fromkeys(name for r in runs for name in (*_fields(r), *r.hparams)):
        values = [_hparam(r, name) or _plain(_fields(r).get(name)) for r in runs]
        entries.append((name.replace("_", " "), values))
    entries += [row(name, "config", key) for name, key in _CONFIG]
    for name, show, key in _TIMES:
        entries.append((name, [show(r.provenance.get(key)) for r in runs]))
    entries.append(("queries per second", [_rate(r) for r in runs]))
    return entries + [row(name, "provenance", key) for name, key in _PROVENANCE]


_TIMES = (
    ("started (UTC)", lambda value: str(value or "")[:19].replace("T", " "), "started"),
    ("compile time", _seconds, "compile_s"),
    ("run time", _seconds, "run_s"),
)
_CONFIG = (
    *((name, name) for name in ("controllers", "seeds")),
    ("first seed", "seed0"),
    ("budget", "budget"),
    ("proposals at most", "max_proposals"),
    ("block width", "width"),
    ("controllers a wave", "wave"),
)
_PROVENANCE = (
    *((name, name) for name in ("layout", "platform", "device")),
    ("device kind", "device_kind"),
    ("processes", "processes"),
    ("device memory", "memory"),
    ("peak memory", "peak_memory"),
    ("CPU cores", "cpu_count"),
    ("operating system", "os"),
    ("jaxnas", "jaxnas"),
    ("commit", "git"),
    *((name, name) for name in ("python", "jax", "jaxlib", "flax", "optax", "numpy")),
)


def _rate(run: RunData) -> str:
    seconds = run.provenance.get("run_s")
    if run.results is None or not isinstance(seconds, int | float) or seconds <= 0:
        return ""
    return f"{float(run.results.count.sum()) / seconds:,.0f}"


def _fields(run: RunData) -> dict[str, Any]:
    return run.config["algorithm"].get("fields") or {}


def _hparam(run: RunData, name: str) -> str:
    """Returns the preset's value of a hyperparameter, or the range of a bare sweep."""
    column = run.hparams.get(name)
    if column is None:
        return ""
    if run.preset is not None:
        return short(column[run.preset])
    low, high = short(column.min()), short(column.max())
    return low if low == high else f"{low} to {high}"


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return short(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return plain_text(value)


def data_table(study: Study) -> Table:
    """Returns where the oracle's numbers come from."""
    names = ("source", "version", "licence", "citation", "homepage", "checksum")
    facts = {n: plain_text(v) for n, v in _known(study.task.info, names)}
    for run in study.runs:
        for name, checksum in (run.provenance.get("data") or {}).items():
            facts.setdefault(f"checksum of {name} in the runs", plain_text(checksum))
    return Table("Data", ("", study.task.oracle), tuple(facts.items()), left=(0, 1))


def _known(info: dict[str, Any], names: Sequence[str]) -> list[tuple[str, Any]]:
    """Returns the facts of an oracle, or of each part of a joined one, that are there."""
    found = [(name, info[name]) for name in names if info.get(name)]
    for part, facts in info.items():
        if isinstance(facts, dict) and part != "metrics":
            found += [(f"{part}: {name}", value) for name, value in _known(facts, names)]
    return found


def check_table(checks: Sequence[Check]) -> Table:
    """Returns what was recomputed from the raw queries, and whether it held."""
    statements = list(dict.fromkeys(c.statement for c in checks))
    rows = []
    for statement in statements:
        mine = [c for c in checks if c.statement == statement]
        failed, looked = sum(c.failures for c in mine), sum(c.checked for c in mine)
        verdict = "holds" if failed == 0 else f"FAILS for {failed:,}"
        rows.append((statement, verdict, f"{looked:,}"))
    columns = ("statement", "result", "controllers")
    return Table("Recomputed from the raw queries", columns, tuple(rows), left=(0, 1))
