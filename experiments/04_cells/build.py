"""Makes the shipped tables from the stores of train.py, and their summary."""

import argparse
import dataclasses
import itertools
from pathlib import Path

import numpy as np
from config import TASKS
from scipy.stats import kendalltau, norm
from train import HERE, cells, oracle_of

from jaxnas.core import tokens as tk
from jaxnas.data import measured_cells
from jaxnas.data.evaluations import Key, Record, Store
from jaxnas.data.recipes import Arrays, content_checksum
from jaxnas.oracles.analog import AnalogOracle
from jaxnas.spaces.nb201_residual import classes

NAMES = {"digital": "val_accuracy"}
"""Name in the table -> name in the oracle, where they differ."""
COSTS = ("params", "flops", "tiles")


def found(store: Store, oracle: AnalogOracle, rows: np.ndarray) -> list[Record]:
    """Returns the record of each row.

    Raises:
        SystemExit: one is missing or failed.
    """
    records = []
    for row in rows:
        digest = tk.digest_host(oracle.space, row)
        key = Key(oracle.id, digest, 0, oracle.seed, oracle.data_checksum)
        record = store.get(key)
        if record is None or record.status:
            raise SystemExit(f"No good measurement of {row} with seed {oracle.seed}.")
        records.append(record)
    return records


def arrays_of(name: str, folder: Path) -> Arrays:
    """Returns the arrays of a table; see jaxnas/data/measured_cells.py."""
    config = TASKS[name]
    oracle = oracle_of(config)
    order = cells(oracle)
    rows = order[np.lexsort(order.T[::-1])]
    again = np.sort([rows.tolist().index(r) for r in order[: config.repeats].tolist()])
    columns = [metric.name for metric in measured_cells.metrics("")]
    value = lambda record, column: record.metrics[NAMES.get(column, column)]
    with Store(folder / f"{name}.sqlite", write=False) as store:
        records = found(store, oracle, rows)
        others = [
            found(store, dataclasses.replace(oracle, seed=seed), rows[again])
            for seed in (1, 2)
        ]
    networks = classes()
    _, first = np.unique(networks, return_index=True)
    members = np.array(list(itertools.product(range(5), repeat=5)))
    number = {tuple(row): i for i, row in enumerate(rows.tolist())}
    cell = [number[tuple(members[first[c]])] for c in networks]
    by_seed = [[records[i] for i in again], *others]
    return {
        "cell": np.array(cell, np.int16),
        "tokens": rows.astype(np.int8),
        **{
            f"metric:{c}": np.array([value(r, c) for r in records], np.float32)
            for c in columns
        },
        **{
            f"curve:{c}": np.array([r.curves[c] for r in records], np.float32)
            for c in ("train_loss", "val_loss", "val_accuracy", "hwa_loss")
        },
        "chips": np.array([r.curves["chips"] for r in records], np.float32).reshape(
            len(records), config.draws, -1
        ),
        "seconds": np.array([r.seconds for r in records], np.float32),
        "again": again.astype(np.int16),
        **{
            f"again:{c}": np.array(
                [[value(r, c) for r in s] for s in by_seed], np.float32
            ).T
            for c in columns
            if c not in COSTS and not c.endswith("_sd")
        },
    }


def tau(a: np.ndarray, b: np.ndarray) -> str:
    """Returns Kendall's tau-b with its 95 % interval over resampled cells."""
    draw = np.random.default_rng(0)
    picks = draw.integers(0, len(a), (400, len(a)))
    taus = [kendalltau(a[p], b[p])[0] for p in picks]
    low, high = np.quantile(taus, norm.cdf([-1.96, 1.96]))
    return f"{kendalltau(a, b)[0]:.3f} [{low:.3f}, {high:.3f}]"


def summary(tables: dict[str, Arrays]) -> str:
    """Returns what the tables look like, in Markdown."""
    names = ["digital", *(f"analog_{t}" for t in measured_cells.TIMES)]
    text = "# Residual cells, trained and measured\n\n"
    text += "Accuracies in %; one row a metric. The spread of one training is pooled over "
    text += "the cells that were trained with three seeds.\n\n"
    head = "| table | metric | worst | median | best | spread of one training |"
    text += head + "\n|" + " --- |" * 6 + "\n"
    for table, arrays in tables.items():
        for name in names:
            x, seeds = arrays[f"metric:{name}"], arrays[f"again:{name}"]
            sd = np.sqrt(seeds.astype(np.float64).var(axis=1, ddof=1).mean())
            low, middle, high = np.quantile(x, (0, 0.5, 1))
            text += f"| {table} | {name} | {low:.2f} | {middle:.2f} | {high:.2f} "
            text += f"| {sd:.2f} |\n"
    text += "\nKendall's tau-b with 95 % intervals (400 resamples of the cells).\n\n"
    text += "| table | between | and | tau |\n|" + " --- |" * 4 + "\n"
    for table, arrays in tables.items():
        month = arrays["metric:analog_1month"]
        for other in ("digital", "analog_1min", "params"):
            found_tau = tau(month, arrays[f"metric:{other}"])
            text += f"| {table} | analog_1month | {other} | {found_tau} |\n"
        for name in ("digital", "analog_1month"):
            a, b, c = arrays[f"again:{name}"].T
            pairs = [kendalltau(*pair)[0] for pair in ((a, b), (a, c), (b, c))]
            text += f"| {table} | {name}, one seed | another seed | {np.mean(pairs):.3f} "
            text += f"(mean of 3 pairs, {len(a)} cells) |\n"
    one, two = tables.values()
    for name in names:
        found_tau = tau(one[f"metric:{name}"], two[f"metric:{name}"])
        text += f"| both | {name} of one | of the other | {found_tau} |\n"
    return text


def main() -> None:
    """Writes the tables and results/cells.md, and prints the checksums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE / "stores")
    args = parser.parse_args()
    out = Path(measured_cells.__file__).with_name("measured")
    tables = {name: arrays_of(name, args.folder) for name in TASKS}
    for name, arrays in tables.items():
        np.savez_compressed(out / f"{name}.npz", **arrays)  # pyright: ignore[reportArgumentType]
        print(name, content_checksum(arrays))
    (HERE / "results" / "cells.md").write_text(summary(tables))


if __name__ == "__main__":
    main()
