"""Ranks 40 cells on aihwkit and in the simulator, and says how well the two agree."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from build import arrays_of, tau
from config import TASKS
from train import HERE, cells, oracle_of

import jaxnas
from jaxnas.analog.evaluate import TIMES
from jaxnas.handoff.validate import Settings, validate


def measured(name: str, folder: Path, chips: int) -> dict[str, Any]:
    """Returns the validation of the cells that were trained with three seeds."""
    config = TASKS[name]
    oracle = oracle_of(config)
    chosen = cells(oracle)[: config.repeats]
    settings = Settings(
        epochs=config.hwa_epochs, repetitions=chips, draws=chips, times=TIMES[-1:]
    )
    callback = lambda event: print(event, flush=True)
    out = folder / f"{name}-aihwkit-{chips}"
    return validate(oracle, list(chosen), out, settings, callback)


def compared(name: str, folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Returns the accuracies (%) of every cell by every way, and their agreement."""
    arrays = arrays_of(name, folder)
    number = {tuple(row): i for i, row in enumerate(arrays["tokens"].tolist())}
    rows = [number[tuple(c["tokens"])] for c in record["candidates"]]
    percent = lambda kind: 100 * np.array([c[kind] for c in record["candidates"]])
    aihwkit, simulated = percent("aihwkit")[..., -1], percent("simulated")[..., -1]
    month = {
        "aihwkit": aihwkit.mean(axis=1),
        "simulator, same weights": simulated.mean(axis=1),
        "table": arrays["metric:analog_1month"][rows].astype(np.float64),
    }
    seeds = {tuple(arrays["tokens"][i]): s for i, s in zip(
        arrays["again"], arrays["again:analog_1month"], strict=True)}  # fmt: skip
    again = np.array([seeds[tuple(arrays["tokens"][i])] for i in rows], np.float64)
    month |= {f"table, seed {s}": again[:, s] for s in (1, 2)}
    pairs = [
        ("simulator, same weights", "aihwkit"),
        ("table", "aihwkit"),
        ("table", "table, seed 1"),
        ("table", "table, seed 2"),
    ]
    halves = tau(aihwkit[:, ::2].mean(axis=1), aihwkit[:, 1::2].mean(axis=1))
    per_cell = simulated.mean(axis=1) - aihwkit.mean(axis=1)
    return {
        "tokens": [c["tokens"] for c in record["candidates"]],
        "month": {k: np.round(v, 3).tolist() for k, v in month.items()},
        "tau": {f"{a} / {b}": tau(month[a], month[b]) for a, b in pairs},
        "tau_halves_of_aihwkit": halves,
        "mean_difference": float(per_cell.mean()),
        "mean_difference_se": float(per_cell.std(ddof=1) / len(per_cell) ** 0.5),
        "chips": len(aihwkit[0]),
        "versions": record["versions"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--folder", type=Path, default=HERE / "stores")
    parser.add_argument("--chips", type=int, default=100)
    args = parser.parse_args()
    jaxnas.configure_host(1)
    record = measured(args.task, args.folder, args.chips)
    found = compared(args.task, args.folder, record)
    target = HERE / "results" / f"{args.task}-agreement-{args.chips}.json"
    target.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k.startswith(("tau", "mean"))}))
