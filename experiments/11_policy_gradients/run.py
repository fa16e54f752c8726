"""Compares policy gradients, their ingredients and evolution on the tuning objectives.

Rows that ``results/rows.json`` holds already are not computed again.
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from config import Config

import jaxnas

OUT = Path(__file__).parent / "results"
PLAIN = ("evolution", "random")


def plan(
    config: Config,
) -> Iterator[tuple[str, str, dict[str, Any], dict[str, float], Any]]:
    """Yields method, variant, options, hyperparameters and objective of every row."""
    for name in config.methods:
        for where in config.objectives:
            yield name, "preset", {}, {}, where
    smaller = ({"population": 20, "sample": 10}, {})
    for where in config.objectives[:2]:
        yield "evolution", "population 20, sample 10", *smaller, where
    for label, (options, hparams) in config.dyna.items():
        for where in config.objectives[:2]:
            yield "dyna-ppo", label, options, hparams, where
    for label, (options, hparams) in config.replay.items():
        on = config.objectives if label == "preset" else config.objectives[:2]
        for where in on:
            yield "ppo-replay", label, options, hparams, where


def row(
    config: Config,
    name: str,
    label: str,
    options: dict[str, Any],
    hparams: dict[str, float],
    where: tuple[str, str],
) -> dict[str, Any]:
    """Returns mean regret and its standard error at each checkpoint, and how it asked."""
    space = jaxnas.make_space("nb201")
    oracle = jaxnas.make_oracle(where[0], space=space, objective=where[1])
    seeds = config.more_seeds if name in PLAIN else config.seeds
    if name == "dyna-ppo" and (label != "preset" or where[1] in ("ptq", "digital")):
        seeds = config.fewer_seeds
    algo = jaxnas.make_algorithm(name, space=space, **options)
    settings = {"budget": config.budget, "seeds": seeds, "seed0": config.seed0}
    begun = os.times()
    result = jaxnas.search(algo, oracle, hparams=hparams or None, **settings)
    spent = os.times()
    best = float(oracle.columns()[where[1]].max())
    regret = best - np.asarray(result.curve)[:, np.array(config.at) - 1]
    arrays = result.arrays
    return {
        "method": name,
        "variant": label,
        "objective": where[1],
        "seeds": seeds,
        "id": algo.id,
        "regret": [round(float(x), 4) for x in regret.mean(0)],
        "se": [round(float(x), 4) for x in regret.std(0, ddof=1) / seeds**0.5],
        "optimal": float(np.mean(regret[:, -1] <= 0)),
        "proposals_per_query": float(arrays["proposals"].sum() / arrays["count"].sum()),
        "entropy": entropies(result, config),
        "cpu_s": round(spent.user - begun.user, 1),
    }


def entropies(result: Any, config: Config) -> list[float | None]:
    """Returns the policies' mean entropy, nats a token, when each checkpoint is reached.

    Of controllers that reach it; None where none does.
    """
    metric = result.arrays.get("metric_entropy")
    if metric is None:
        return []
    reached = result.arrays["metric_queries"]
    means = []
    for queries in config.at:
        step = np.argmax(reached >= queries, axis=1)
        column = np.asarray(metric)[np.arange(len(step)), step]
        seen = column[np.isfinite(column) & (np.nanmax(reached, axis=1) >= queries)]
        means.append(round(float(seen.mean()), 3) if len(seen) else None)
    return means


def tables(config: Config, rows: list[dict[str, Any]]) -> str:
    """Returns the rows as one table an objective."""
    text = f"# Mean regret in percentage points after {config.at} queries\n"
    for _, metric in config.objectives:
        text += f"\n## {metric}\n\n| method | variant | "
        text += " | ".join(map(str, config.at))
        text += " | optimal | proposals a query | seeds | CPU s |\n"
        text += "|" + " --- |" * (len(config.at) + 6) + "\n"
        for found in rows:
            if found["objective"] != metric:
                continue
            pairs = zip(found["regret"], found["se"], strict=True)
            cells = " | ".join(f"{mean:.2f} ± {se:.2f}" for mean, se in pairs)
            text += f"| {found['method']} | {found['variant']} | {cells} | "
            text += f"{found['optimal']:.2f} | {found['proposals_per_query']:.2f} | "
            text += f"{found['seeds']} | {found['cpu_s']:.0f} |\n"
    return text


def main() -> None:
    """Writes results/rows.json and results/rows.md, one row after the other."""
    jaxnas.configure_host()
    config, path = Config(), OUT / "rows.json"
    OUT.mkdir(exist_ok=True)
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    done = {(r["method"], r["variant"], r["objective"]) for r in rows}
    for name, label, options, hparams, where in plan(config):
        if (name, label, where[1]) in done:
            continue
        rows.append(row(config, name, label, options, hparams, where))
        print(json.dumps(rows[-1]), flush=True)
        document = {"config": dataclasses.asdict(config), "rows": rows}
        path.write_text(json.dumps(document, indent=1) + "\n")
        (OUT / "rows.md").write_text(tables(config, rows))


if __name__ == "__main__":
    main()
