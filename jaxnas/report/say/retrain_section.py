"""What a report says of architectures that were trained in full, beside references."""

from typing import Any

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.handoff.retrain import Trained, read_retraining, results
from jaxnas.report.read.anatomy import digits
from jaxnas.report.read.compare import Study
from jaxnas.report.say.cells import Table
from jaxnas.report.say.text import number


def read(study: Study) -> tuple[dict[str, Any] | None, list[str]]:
    """Returns the full trainings of a study's architectures, and what could not be read."""
    for folder in dict.fromkeys(run.path.parent for run in study.runs):
        try:
            record = read_retraining(folder)
        except UserError as error:
            return None, [str(error)]
        if record is not None and all(_complete(record)):
            return record, []
    return None, []


def table(record: dict[str, Any]) -> Table:
    """Returns test accuracy, mean and two standard deviations, of each network."""
    columns = ("network", "tokens", "parameters", "FLOPs", "test accuracy (%)")
    columns += ("lowest to highest", "n")
    rows = []
    for row in record["networks"]:
        made = results(record, row)
        tokens = digits(np.asarray(row["tokens"])) if row["tokens"] else ""
        sizes = (f"{row['params']:,}", f"{row['flops']:,}")
        rows.append((row["name"], tokens, *sizes, _accuracy(made), _range(made), _n(made)))
    found = sum(row["tokens"] is not None for row in record["networks"])
    training = record["training"]
    splits = record["train_on"].replace("+", " and ")
    return Table(
        "Trained in full, all in the same way",
        columns,
        tuple(rows),
        f"Mean ± 2 standard deviations over n trainings that differ in initial weights and "
        f"in the order of the images. Trained for {training['epochs']} epochs "
        f"({training['optimiser']}, {training['schedule']} schedule, "
        f"lr {record['hparams']['lr']:g}) on {record['train_images']:,} images of "
        f"{record['data']} ({splits}), measured once, at the end, on its "
        f"{record['test_images']:,} test images, which no search saw. Networks without "
        "tokens are references that people drew.",
        rule_before=found if 0 < found < len(rows) else -1,
    )


def summary(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the table's numbers as JSON-able data; None where there is no number."""
    plain = lambda x: float(x) if np.isfinite(x) else None
    found = []
    for row in record["networks"]:
        made = results(record, row)
        numbers = {"mean": plain(made.mean), "sd": plain(made.sd), "n": len(made.accuracy)}
        facts = {name: row[name] for name in ("name", "tokens", "params", "flops")}
        found.append({**facts, **numbers, "diverged": made.diverged})
    return found


def _complete(record: dict[str, Any]) -> list[bool]:
    """Returns, for every training that was asked for, whether it is there."""
    there = record["trainings"]
    return [key in there for row in record["networks"] for key in row["keys"]]


def _accuracy(made: Trained) -> str:
    if not np.isfinite(made.mean):
        return "diverged"
    if not np.isfinite(made.sd):
        return number(made.mean)
    return f"{number(made.mean)} ± {number(2 * made.sd)}"


def _range(made: Trained) -> str:
    if len(made.accuracy) < 2:
        return ""
    return f"{number(made.accuracy.min())} to {number(made.accuracy.max())}"


def _n(made: Trained) -> str:
    n = len(made.accuracy)
    return f"{n} of {n + made.diverged}, the others diverged" if made.diverged else str(n)
