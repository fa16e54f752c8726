"""Ours: real networks trained on digits, each in turn, compilation counted apart."""

import argparse

import jax
import numpy as np
from worker import Region, serve

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.oracles.child import ChildOracle


def prepare(args: argparse.Namespace) -> Region:
    """Returns the region: one network trained; a new architecture each time."""
    jaxnas.configure_host(1)
    jax.config.update("jax_compilation_cache_dir", "")  # each process compiles for itself
    space = jaxnas.make_space("nb201")
    oracle = ChildOracle(
        space, "digits", size="channels:8,cells:1", epochs=args.epochs, route=args.route
    )
    keys = jax.random.split(jax.random.key(args.seed), 1000)
    rows = np.asarray(jax.vmap(lambda key: tk.sample_uniform(key, space))(keys))
    turn = iter(rows)
    if args.route == "choice":
        oracle.measure(next(turn))

    def run(row: np.ndarray) -> float:
        return oracle.measure(row).metrics["val_accuracy"]

    return Region(run, lambda: next(turn))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--route", default="choice")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    serve(
        lambda: prepare(args),
        name="child-training",
        unit="network",
        units=1,
        route=args.route,
        epochs=args.epochs,
    )
