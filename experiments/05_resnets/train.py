"""Trains networks of the analog-resnet space and keeps the results in a store."""

import argparse
import dataclasses
import os
import time
from pathlib import Path

import jax
import numpy as np
from config import Config

import jaxnas
from jaxnas.children.count import count_costs, matrices
from jaxnas.core import tokens as tk
from jaxnas.data.store.evaluations import Store
from jaxnas.oracles.analog import AnalogOracle
from jaxnas.run.host.cache import HostCache
from jaxnas.run.host.processes import Processes

HERE = Path(__file__).parent
CHUNK = 48
"""Networks that a team of workers measures before it is replaced: each is a program of its
own, and a process that compiles hundreds runs out of memory maps."""
FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
"""Compile these programs in two thirds of the time. They change the rounding, which a
training amplifies: without them the numbers are those of another training."""
QUICK = f"{FLAGS} --xla_backend_optimization_level=0"
"""Half of that again, for programs that run four times as long."""
QUICK_FLOPS = 3e5
"""Multiply-accumulates below which that pays."""


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
    keys = jax.random.split(jax.random.key(config.seed), 5 * config.lots[-1][0])
    draw = jax.jit(jax.vmap(lambda key: space.canonical(tk.sample(key, space))))
    rows, first = np.unique(np.asarray(draw(keys)), axis=0, return_index=True)
    rows = rows[np.argsort(first)]
    built = oracle.network(0)
    chosen = []
    for row in rows:
        spec = built.to_spec(row)
        limit = next((most for count, most in config.lots if len(chosen) < count), 0)
        if len(matrices(spec)) <= limit and count_costs(spec).params < config.params:
            chosen.append(row)
    return np.array(chosen)


def main() -> None:
    """Measures what the store lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=HERE / "resnets.sqlite")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    given = os.environ.get("XLA_FLAGS", "")
    jaxnas.configure_host(1)
    config = Config()
    oracle = oracle_of(config)
    built, rows = oracle.network(0), networks(oracle, config)
    flops = np.array([count_costs(built.to_spec(row)).flops for row in rows])
    quick = (flops < QUICK_FLOPS) & (np.arange(len(rows)) >= config.lots[-2][0])
    seeded = lambda seed: dataclasses.replace(oracle, seed=config.seed + seed)
    tasks = [(FLAGS, seeded(seed), rows[: config.repeats]) for seed in (1, 2)]
    tasks += [(QUICK, oracle, rows[quick]), (FLAGS, oracle, rows[~quick])]
    begun = time.perf_counter()
    with Store(args.store) as store:
        for flags, task, wanted in tasks:
            os.environ["XLA_FLAGS"] = f"{given} {flags}"
            for start in range(0, len(wanted), CHUNK):
                part = wanted[start : start + CHUNK]
                with Processes(args.workers) as team:
                    cache = HostCache(task, team, store, warn=print)
                    cache.evaluate(
                        part, np.zeros(len(part), np.int32), np.ones(len(part), bool)
                    )
                told = cache.summary()
                spent = time.perf_counter() - begun
                print(
                    f"{start + len(part)} of {len(wanted)} networks, seed {task.seed}, "
                    f"{spent:.0f} s, found {told['found']}, failed {told['failed']} "
                    f"{told['failures']}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
