"""Trains networks of the analog-resnet space and keeps the results in a store."""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
from config import Config

import jaxnas
from jaxnas.children.count import count_costs
from jaxnas.core import tokens as tk
from jaxnas.data.evaluations import Store
from jaxnas.oracles.analog import AnalogOracle
from jaxnas.run.fanout_processes import Processes
from jaxnas.run.host_cache import HostCache

HERE = Path(__file__).parent
CHUNK = 16
"""Networks that a team of workers measures before it is replaced: each is a program of its
own, and a process that compiles hundreds runs out of memory maps."""


def oracle_of(config: Config) -> AnalogOracle:
    """Returns the oracle that measures."""
    space = jaxnas.make_space(
        "analog-resnet",
        groups=config.groups,
        blocks=config.blocks,
        branches=config.branches,
    )
    return AnalogOracle(
        space,
        data=config.data,
        epochs=config.epochs,
        seed=config.seed,
        hwa_epochs=config.hwa_epochs,
        draws=config.draws,
        chip_images=config.chip_images,
    )


def networks(oracle: AnalogOracle, config: Config) -> np.ndarray:
    """Returns different small networks, drawn token by token, in canonical form."""
    space = oracle.space
    keys = jax.random.split(jax.random.key(config.seed), 4 * config.count)
    draw = jax.jit(jax.vmap(lambda key: space.canonical(tk.sample(key, space))))
    rows, first = np.unique(np.asarray(draw(keys)), axis=0, return_index=True)
    rows = rows[np.argsort(first)]
    built = oracle.network(0)
    small = [count_costs(built.to_spec(row)).params < config.params for row in rows]
    return rows[small][: config.count]


def main() -> None:
    """Measures what the store lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=HERE / "resnets.sqlite")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    jaxnas.configure_host(1)
    config = Config()
    oracle = oracle_of(config)
    rows = networks(oracle, config)
    begun = time.perf_counter()
    with Store(args.store) as store:
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            with Processes(args.workers) as team:
                cache = HostCache(oracle, team, store, warn=print)
                cache.evaluate(
                    part, np.zeros(len(part), np.int32), np.ones(len(part), bool)
                )
            told = cache.summary()
            spent = time.perf_counter() - begun
            print(
                f"{start + len(part)} of {len(rows)} networks, {spent:.0f} s, found "
                f"{told['found']}, failed {told['failed']} {told['failures']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
