"""Compares the handlings of constraints at equal distinct queries, every method with each.

All tasks, or ``python run.py tight loose``: those anew, the others as they are stored.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from config import Config

import jaxnas
from jaxnas.report.read.stats import mean_interval

HERE = Path(__file__).parent
Task = tuple[str, str, str, tuple[str, ...]]


def facts(task: Task) -> dict[str, Any]:
    """Returns the constrained optimum, the mean feasible value and the feasible share."""
    oracle = make(task)
    columns, met = oracle.columns(), None
    for metric, sign, bound in oracle.bounds:
        here = columns[metric] <= bound if sign == "<=" else columns[metric] >= bound
        met = here if met is None else met & here
    values = columns[task[2]][met]
    return {
        "optimum": float(values.max()),
        "mean": float(values.mean()),
        "share": float(met.mean()),
    }


def make(task: Task) -> Any:
    """Returns the constrained oracle of a task."""
    _, name, objective, constraints = task
    return jaxnas.make_oracle(name, objective=objective, constraints=constraints)


def row(config: Config, task: Task, known: dict[str, Any], method: str, how: str) -> Any:
    """Returns what 64 controllers of a method found under one handling."""
    oracle = make(task)
    result = jaxnas.search(
        jaxnas.make_algorithm(method, space=oracle.space),
        oracle,
        budget=config.budget,
        max_proposals=config.max_factor * config.budget,
        seeds=config.seeds,
        seed0=config.seed0,
        handling=how,
        callbacks=[lambda event: None],
    )
    final = result.curve[:, -1].astype(float)
    found = np.isfinite(final)
    regret = known["optimum"] - np.where(found, final, known["mean"])
    violation = result.arrays["violation"]
    asked = np.isfinite(violation)
    met = (violation <= 0).sum(axis=1) / asked.sum(axis=1)
    first = np.where((violation <= 0).any(axis=1), (violation <= 0).argmax(axis=1) + 1, -1)
    return {
        "task": task[0],
        "method": method,
        "handling": how,
        "regret": regret.round(4).tolist(),
        "found": found.tolist(),
        "feasible": met.round(4).tolist(),
        "first": first.tolist(),
        "spent": float(np.mean(result.arrays["count"] >= config.budget)),
    }


def main() -> None:
    """Writes results/constraints.json and results/constraints.md."""
    jaxnas.configure_host(1)
    config = Config()
    anew = sys.argv[1:] or [task[0] for task in config.tasks]
    stored: dict[str, Any] = {"rows": []}
    if len(anew) < len(config.tasks):
        stored = json.loads((HERE / "results/constraints.json").read_text())
    known = {task[0]: facts(task) for task in config.tasks}
    rows = [one for one in stored["rows"] if one["task"] not in anew]
    for task in config.tasks:
        for method in config.methods if task[0] in anew else ():
            hows = config.handlings if method != "random" else config.handlings[:1]
            for how in hows:
                rows.append(row(config, task, known[task[0]], method, how))
                print(task[0], method, how, np.mean(rows[-1]["regret"]), flush=True)
    write(config, known, rows)


def write(config: Config, known: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Writes the rows as JSON and as tables."""
    text = "# Handlings of constraints\n"
    for name, oracle, objective, constraints in config.tasks:
        here = known[name]
        text += (
            f"\n## {name}: {oracle}, {objective} under {' and '.join(constraints)}\n\n"
            f"{100 * here['share']:.2g} % of all architectures are feasible; the best has "
            f"{here['optimum']:.2f}, the mean {here['mean']:.2f}. "
            f"{config.budget} distinct queries, n = {config.seeds}.\n\n"
            "| method | handling | regret | 95 % interval | found any | feasible queries | "
            "95 % interval | spent |\n|" + " --- |" * 8 + "\n"
        )
        for one in (one for one in rows if one["task"] == name):
            regret = mean_interval(np.asarray(one["regret"]), (0.0, np.inf))
            share = mean_interval(100 * np.asarray(one["feasible"]), (0.0, 100.0))
            how = one["handling"] if one["method"] != "random" else "any"
            text += (
                f"| {one['method']} | {how} | {regret.value:.2f} | {regret.low:.2f} to "
                f"{regret.high:.2f} | {100 * np.mean(one['found']):.0f} % | "
                f"{share.value:.1f} % | {share.low:.1f} to {share.high:.1f} | "
                f"{100 * one['spent']:.0f} % |\n"
            )
    text += (
        "\nRegret: points to the best that is feasible, mean over controllers; one that "
        "found nothing counts as if it recommended a feasible architecture at random.\n"
    )
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    document = {"config": dataclasses.asdict(config), "known": known, "rows": rows}
    (out / "constraints.json").write_text(json.dumps(document) + "\n")
    (out / "constraints.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
