"""Stores what a finished run says, for the README and docs/results.md: JSON and a table."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.handoff.validate import read_validation
from jaxnas.report import build

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import harness

RESULTS = Path(__file__).parent / "results"
WHERE = ("git", "device", "cpu_count", "jax", "layout")


def main() -> None:
    """Reads a run folder and writes ``results/NAME.json`` and ``results/NAME.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder that a search wrote")
    parser.add_argument("--name", required=True, help="stem of the files to write")
    parser.add_argument("--command", required=True, help="what made the run, to be stored")
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    document = {"command": args.command, **read(args.run)}
    table = validation_table(document) if document["validation"] else search_table(document)
    (RESULTS / f"{args.name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / f"{args.name}.md").write_text(table)
    print(table)


def read(run: Path) -> dict[str, Any]:
    """Returns a run's main table, its validation if there is one, and where it was made."""
    with tempfile.TemporaryDirectory() as folder:
        (study,) = build(run, folder).summary()["studies"]
    files = sorted(run.glob("*/provenance.json"))
    made = [json.loads(file.read_text()) for file in files]
    if not made:
        raise UserError(
            f"{run} holds no finished run; run the command of the README first."
        )
    where = {key: sorted({str(one.get(key)) for one in made}) for key in WHERE}
    return {
        "where": {"processor": harness.provenance()["device"], **where},
        **study,
        "validation": _validation(read_validation(run / "validation")),
    }


def search_table(document: dict[str, Any]) -> str:
    """Returns one row a method, best first, as a Markdown table."""
    header = ["method", "mean best (%)", "95 % interval", "regret"]
    header += ["class-mean regret", "spent", "n"]
    rows = []
    for row in sorted(document["methods"], key=lambda row: -row["mean"]):
        cells = [f"{row['mean']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}"]
        cells += [f"{row[key]:.2f}" for key in ("regret", "class_mean_regret")]
        rows.append([row["method"], *cells, f"{100 * row['spent']:.0f} %", row["n"]])
    return harness.markdown(header, rows)


def validation_table(document: dict[str, Any]) -> str:
    """Returns one row an architecture: accuracies in % over chips, first and last time."""
    header = ["network", "digital", "aihwkit, a minute", "simulator", "aihwkit, a month"]
    rows = []
    for row in document["validation"]["candidates"]:
        chips = [row[kind][t] for t in (0, -1) for kind in ("aihwkit", "simulated")]
        rows.append([row["name"], *(f"{x:.1f}" for x in (row["digital"], *chips))])
    return harness.markdown([*header, "simulator"], rows)


def _validation(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Returns means over chips of every candidate, %, at each time."""
    if record is None:
        return None
    rows = []
    for row in record["candidates"]:
        chips = {k: np.asarray(row[k]) for k in ("aihwkit", "simulated")}
        rows.append(
            {
                "name": "".join(map(str, row["tokens"])),
                "digital": 100 * row["digital"],
                **{k: (100 * x.mean(axis=0)).tolist() for k, x in chips.items()},
                "chips": len(chips["aihwkit"]),
            }
        )
    return {"data": record["data"], "times_s": record["times"], "candidates": rows}


if __name__ == "__main__":
    main()
