"""Trains every residual nb201 cell on one task and keeps the results in a store."""

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
from config import TASKS, Config

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.data.store.evaluations import Store
from jaxnas.oracles.analog import AnalogOracle
from jaxnas.run.host.cache import HostCache
from jaxnas.spaces.nb201 import equal_functions
from jaxnas.spaces.nb201_residual import classes, whole

HERE = Path(__file__).parent


def oracle_of(config: Config) -> AnalogOracle:
    """Returns the oracle that a task is measured with."""
    return AnalogOracle(
        jaxnas.make_space("nb201-residual"),
        data=config.data,
        size=config.size,
        epochs=config.epochs,
        limit=config.limit,
        seed=config.seed,
        hwa_epochs=config.hwa_epochs,
        draws=config.draws,
        chip_images=config.chip_images,
    )


def cells(oracle: AnalogOracle) -> np.ndarray:
    """Returns one cell of each network, ``int[1218, 5]``, in a fixed random order.

    The order makes what an interrupted run has measured a sample of all. It is that of the
    1,166 functions; what shares its function with another network comes last.
    """
    members = np.asarray(tk.enumerate_space(oracle.space))
    functions = equal_functions()[whole(members) @ 5 ** np.arange(5, -1, -1)]
    _, first = np.unique(functions, return_index=True)
    _, networks = np.unique(classes(), return_index=True)
    order = np.sort(first)[np.random.default_rng(0).permutation(len(first))]
    return members[np.concatenate([order, np.setdiff1d(networks, first)])]


def train(name: str, folder: Path) -> None:
    """Measures what the store lacks."""
    config = TASKS[name]
    oracle = oracle_of(config)
    rows = cells(oracle)
    again = rows[: config.repeats]
    folder.mkdir(parents=True, exist_ok=True)
    with Store(folder / f"{name}.sqlite") as store:
        for seed, wanted in ((config.seed, rows), (1, again), (2, again)):
            cache = HostCache(dataclasses.replace(oracle, seed=seed), store=store)
            begun = time.perf_counter()
            for i, row in enumerate(wanted):
                cache.evaluate(row[None], np.zeros(1, np.int32), np.ones(1, bool))
                if i % 20 == 19:
                    spent = time.perf_counter() - begun
                    print(f"{name} seed {seed}: {i + 1} cells, {spent:.0f} s", flush=True)
            print(cache.summary(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--folder", type=Path, default=HERE / "stores")
    args = parser.parse_args()
    jaxnas.configure_host(1)
    train(args.task, args.folder)
