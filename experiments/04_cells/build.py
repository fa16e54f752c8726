"""Makes the shipped tables from the stores of train.py, and their summary."""

import argparse
import dataclasses
import itertools
from pathlib import Path

import numpy as np
from config import TASKS
from scipy.stats import kendalltau, norm
from train import HERE, cells, oracle_of

from jaxnas.data.formats.npz import content_checksum
from jaxnas.data.recipes import Arrays
from jaxnas.data.store.evaluations import Store
from jaxnas.data.tables import measured_files, measured_pack
from jaxnas.spaces.nb201_residual import classes


def arrays_of(name: str, folder: Path) -> Arrays:
    """Returns the arrays of a table; see jaxnas/data/tables/measured_cells.py."""
    config = TASKS[name]
    oracle = oracle_of(config)
    order = cells(oracle)
    rows = order[np.lexsort(order.T[::-1])]
    again = np.sort([rows.tolist().index(r) for r in order[: config.repeats].tolist()])
    with Store(folder / f"{name}.sqlite", write=False) as store:
        records = measured_pack.collect(store, oracle, rows)
        others = [
            measured_pack.collect(store, dataclasses.replace(oracle, seed=s), rows[again])
            for s in (1, 2)
        ]
    networks = classes()
    _, first = np.unique(networks, return_index=True)
    members = np.array(list(itertools.product(range(5), repeat=5)))
    number = {tuple(row): i for i, row in enumerate(rows.tolist())}
    cell = [number[tuple(members[first[c]])] for c in networks]
    return {
        "cell": np.array(cell, np.int16),
        **measured_pack.pack(records, again, others),
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
    names = ["digital", *(f"analog_{t}" for t in measured_files.TIMES)]
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
    out = Path(measured_files.__file__).with_name("measured")
    tables = {name: arrays_of(name, args.folder) for name in TASKS}
    for name, arrays in tables.items():
        np.savez_compressed(out / f"{name}.npz", **arrays)  # pyright: ignore[reportArgumentType]
        print(name, content_checksum(arrays))
    (HERE / "results" / "cells.md").write_text(summary(tables))


if __name__ == "__main__":
    main()
