"""What a report says of validated architectures: digital, simulated and aihwkit."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.handoff.validate import read_validation
from jaxnas.report.draw import curves, plots
from jaxnas.report.read.anatomy import digits
from jaxnas.report.read.compare import Study
from jaxnas.report.say.cells import Table
from jaxnas.report.say.drawing import Drawing, finish
from jaxnas.report.say.text import number

FOLDER = "validation"
"""Folder of a validation, beside the run directories of a search."""


def read(study: Study) -> tuple[dict[str, Any] | None, list[str]]:
    """Returns the validation of a study's architectures, and what could not be read."""
    for folder in dict.fromkeys(run.path.parent / FOLDER for run in study.runs):
        try:
            record = read_validation(folder)
        except UserError as error:
            return None, [str(error)]
        if record is not None:
            return record, []
    return None, []


def draw(record: dict[str, Any]) -> Drawing:
    """Returns drift curves: aihwkit, the JAX simulator, and the digital level."""
    seconds = np.asarray(record["times"], np.float64)
    items = []
    for row in record["candidates"]:
        chips = 100 * np.asarray(row["aihwkit"])
        others = (100 * np.asarray(row["simulated"])).mean(axis=0)[None]
        name, level = digits(np.asarray(row["tokens"])), 100 * row["digital"]
        mean = chips.mean(axis=0)
        items.append(curves.Drift(name, seconds, mean, _sd(chips), level, others))
    first = record["candidates"][0]
    chips, draws = len(first["aihwkit"]), len(first["simulated"])
    ticks = [_time(t) for t in record["times"]]
    names = [f"aihwkit, mean{' ± s.d.' * (chips > 1)}, n = {chips}", "digital"]
    names.append(f"JAX simulator, mean, n = {draws}")
    label = f"{record['data']} test accuracy (%)"
    with plots.style():
        figure = curves.drift(items, value_label=label, names=names, ticks=ticks)
    lost = items[0].value[0] - items[0].value[-1]
    verb = "loses" if lost >= 0 else "gains"
    trained = " after hardware-aware training" if record["epochs"] else ""
    spread = ", and their standard deviation" if chips > 1 else ""
    return finish(
        "validation",
        "The best networks on simulated chips",
        f"Accuracy on {record['test_images']:,} test images of {record['data']}, which no "
        f"search saw. Blue: aihwkit{trained}, mean over {chips} "
        f"chips, each programmed anew{spread}. Orange: the JAX "
        f"simulator with the same weights, mean over {draws} chips. Dashed: the digital "
        "network.",
        f"Small charts of accuracy over time. In aihwkit the first network {verb} "
        f"{number(abs(lost))} points between {ticks[0]} and {ticks[-1]}, from "
        f"{number(items[0].value[0])} %.",
        figure,
    )


def table(record: dict[str, Any]) -> Table:
    """Returns accuracy after each time: digital, aihwkit and simulated, side by side."""
    rows, tests = [], 0
    for row in record["candidates"]:
        name = digits(np.asarray(row["tokens"]))
        chips, draws = (100 * np.asarray(row[k]) for k in ("aihwkit", "simulated"))
        for where, values in (("aihwkit", chips), ("JAX simulator", draws)):
            spread = _sd(values)
            cells = [
                f"{number(m)} ± {number(s)}" if len(values) > 1 else number(m)
                for m, s in zip(values.mean(axis=0), spread, strict=True)
            ]
            loss = number(float((values[:, 0] - values[:, -1]).mean()))
            digital = number(100 * row["digital"])
            rows.append((name, where, digital, *cells, loss, str(len(values))))
        tested = sum(p is not None for p in row["p_values"])
        tests += tested
        cells = ["no test" if p is None else f"{p:.2f}" for p in row["p_values"]]
        rows.append((name, "difference, p", "", *cells, "", f"{tested} tests"))
    labels = [_time(t) for t in record["times"]]
    aged = [f"{label} (%)" for label in labels]
    return Table(
        "Digital, simulated and aihwkit",
        ("architecture", "measured by", "digital (%)", *aged, "AVM (points)", "n"),
        tuple(rows),
        f"Test accuracy, mean ± standard deviation over chips. {_how(record)} AVM: "
        f"accuracy lost between {labels[0]} and {labels[-1]}, mean over chips. "
        + _tests(tests),
    )


def costs(record: dict[str, Any]) -> Table:
    """Returns what each architecture is and what validating it cost."""
    columns = ("architecture", "parameters", "FLOPs", "tiles", "validation accuracy (%)")
    columns += ("test accuracy, digital (%)", "aihwkit CPU (s)", "simulator CPU (s)")
    rows = []
    for row in record["candidates"]:
        training = row["training"]
        sizes = (training["params"], training["flops"], row["tiles"])
        scores = [100 * training[f"{split}_accuracy"] for split in ("val", "test")]
        rest = map(number, (*scores, row["aihwkit_cpu_s"], row["simulator_cpu_s"]))
        name = digits(np.asarray(row["tokens"]))
        rows.append((name, *(f"{size:,}" for size in sizes), *rest))
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    return Table(
        "The validated networks",
        columns,
        tuple(rows),
        f"Trained as {record['oracle']}. aihwkit's time holds its training; the "
        f"simulator's holds its compilation. {versions}.",
    )


def _tests(count: int) -> str:
    """Returns how to read the p values, where there are any."""
    if not count:
        return "No test: one chip, or chips that all agree."
    text = "p: Welch's t-test of the two means; small values mean that they differ"
    if count == 1:
        return f"{text}."
    return f"{text}, and of {count} tests one below {1 / count:.2f} is expected by chance."


def _how(record: dict[str, Any]) -> str:
    """Returns in words how the networks came to their tiles."""
    if record["epochs"]:
        how = f"{record['epochs']} epochs of hardware-aware training in aihwkit, then"
        return f"{how} programmed; model {record['preset']}."
    return f"Programmed as trained digitally; model {record['preset']}."


def _sd(values: np.ndarray) -> np.ndarray:
    if len(values) < 2:
        return np.zeros(values.shape[1])
    return values.std(axis=0, ddof=1)


def _time(seconds: float) -> str:
    """Returns a time in the largest unit that it is a whole number of."""
    for size, name in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {name}{'s' * (name == 'day' and count != 1)}"
    return f"{seconds:g} s"


def summary(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the numbers as JSON-able data, for people who parse."""
    found: Sequence[Any] = record["candidates"]
    return [
        {
            "tokens": row["tokens"],
            "digital": row["digital"],
            "aihwkit": np.mean(row["aihwkit"], axis=0).tolist(),
            "simulated": np.mean(row["simulated"], axis=0).tolist(),
        }
        for row in found
    ]
