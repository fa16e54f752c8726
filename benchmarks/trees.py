"""Boosted trees in JAX against XGBoost's in-place prediction, in turns, on one core.

Sections: ``batch`` (1, 512 and 4,096 rows a call), ``climb`` (4,096 environments inside one
compiled program, one row each a step) and ``walk`` (the table against walking the trees).
Each writes ``results/trees_SECTION.json`` and ``.md``. Two models are fitted here; the
published ones are measured where their files are; ``climb`` and ``walk`` take the first
four.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import harness
from harness import Contender

sys.path.insert(0, str(harness.HERE / "peers"))
sys.path.insert(0, str(harness.ROOT))
import tree_models

REPEATS = {1: 2_000, 512: 128, 4096: 32}
"""Calls in a timed region: a fraction of a second each."""
FEW = 4


def options(model: str, batch: int, program: str) -> tuple[str, ...]:
    """Returns the options that both workers understand."""
    return (
        "--model", model, "--batch", str(batch), "--program", program,
        "--repeats", str(REPEATS[batch]),
    )  # fmt: skip


def ours(model: str, batch: int, program: str = "batch", method: str = "auto") -> Contender:
    """Returns our worker."""
    chosen = options(model, batch, program)
    if method != "auto":
        chosen = (*chosen, "--method", method)
    label = f"jaxnas {method}, {model}, {batch:,}"
    return Contender(label, "ours/tree_rows.py", chosen)


def theirs(model: str, batch: int, program: str = "batch") -> Contender:
    """Returns XGBoost's worker; it runs in the same environment as ours."""
    chosen = options(model, batch, program)
    environment = {"OMP_NUM_THREADS": "1"}
    label = f"XGBoost, {model}, {batch:,}"
    return Contender(label, "peers/xgboost_rows.py", chosen, environment=environment)


def spread(row: dict[str, Any]) -> str:
    """Returns ``median (min to max)``; milliseconds a thousand are microseconds a row."""
    return f"{row['ms_median']:.3f} ({row['ms_min']:.3f} to {row['ms_max']:.3f})"


def ratios(slow: dict[str, Any], fast: dict[str, Any]) -> str:
    """Returns how many times ``fast`` is faster: by medians, and at worst and best."""
    middle = slow["ms_median"] / fast["ms_median"]
    low, high = slow["ms_min"] / fast["ms_max"], slow["ms_max"] / fast["ms_min"]
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def compare(
    pairs: Sequence[tuple[Contender, Contender]], rounds: int, *, equal: bool
) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Returns the rows of all workers, and a line of the table for each pair.

    Raises:
        SystemExit: the two sides of a pair computed different numbers and should not have.
    """
    everything, lines = [], []
    for mine, other in pairs:
        first, second = harness.interleave((mine, other), rounds)
        if equal and first["checksums"] != second["checksums"]:
            raise SystemExit(f"{mine.label} and {other.label} predict different numbers.")
        settings = first["facts"]["settings"]
        name = f"{settings['model']}, {settings['batch']:,}"
        lines.append([name, spread(first), spread(second), ratios(second, first)])
        everything += [first, second]
    return everything, lines


def finish(section: str, rows: Sequence[dict[str, Any]], header: str, text: str) -> None:
    """Writes a section with the commands that made it."""
    first = rows[0]
    where = (
        f"{first['device']}, 1 of {first['cores']} cores, commit {first['commit']}, "
        f"{first['date']} UTC, load average before {first['load']}.\n"
        "CPU microseconds of the process for a row: median (minimum to maximum) of "
        f"{first['rounds']} rounds in turns.\n"
    )
    commands = "".join(f"- `{row['command']}`\n" for row in rows)
    made = f"\nMade by `python benchmarks/trees.py {section}`, which runs:\n\n"
    body = f"# {header}\n\n{where}\n{text}{made}{commands}"
    harness.write(f"trees_{section}", {"rows": list(rows)}, body)


def section_batch(models: Sequence[str], rounds: int) -> None:
    """One call from Python for each batch; both sides give the same bits."""
    pairs = [(ours(m, b), theirs(m, b)) for m in models for b in REPEATS]
    rows, lines = compare(pairs, rounds, equal=True)
    head = ["model, rows a call", "jaxnas", "XGBoost", "ours / XGBoost (rate)"]
    text = harness.markdown(head, lines) + "\nTarget at 4,096 rows: 1.0.\n"
    finish("batch", rows, "Boosted trees against XGBoost's in-place prediction", text)


def section_climb(models: Sequence[str], rounds: int) -> None:
    """Thousands of environments in one program against a NumPy loop over XGBoost."""
    pairs = [(ours(m, 4096, "climb"), theirs(m, 4096, "climb")) for m in models]
    rows, lines = compare(pairs, rounds, equal=False)
    head = ["model, environments", "jaxnas", "XGBoost and NumPy", "ours / theirs (rate)"]
    finish(
        "climb",
        rows,
        "Boosted trees inside a larger program",
        harness.markdown(head, lines),
    )


def section_walk(models: Sequence[str], rounds: int) -> None:
    """The table against walking, both ours."""
    pairs = [(ours(m, 4096, method="table"), ours(m, 4096, method="walk")) for m in models]
    rows, lines = compare(pairs, rounds, equal=True)
    head = ["model, rows a call", "table", "walk", "table / walk (rate)"]
    finish("walk", rows, "A table of masks against walking", harness.markdown(head, lines))


SECTIONS = {"batch": section_batch, "climb": section_climb, "walk": section_walk}


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--models", nargs="+", help="default: all that can be had here")
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS)
    args = parser.parse_args()
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    here = tree_models.available()
    models = args.models or here
    if unknown := sorted(set(models) - set(here)):
        raise SystemExit(f"No model {unknown[0]!r} here; choose from {', '.join(here)}.")
    chosen = {"batch": models, "climb": models[:FEW], "walk": models[:FEW]}
    for name in args.sections or SECTIONS:
        if name not in SECTIONS:
            raise SystemExit(
                f"Unknown section {name!r}; choose from {', '.join(SECTIONS)}."
            )
        SECTIONS[name](chosen[name], args.rounds)


if __name__ == "__main__":
    main()
