"""Measures networks with aihwkit and in the simulator, lot by lot, none of them twice."""

import argparse
import os
from pathlib import Path

import jax
import numpy as np
from config import SETS, Config

import jaxnas
from jaxnas.analog.convertible import refusal
from jaxnas.analog.costs import analog_costs
from jaxnas.children.count import count_costs, matrices
from jaxnas.core import tokens as tk
from jaxnas.data.tasks import Task
from jaxnas.handoff.validate import FILE, Settings, validate
from jaxnas.oracles.child import ChildOracle
from jaxnas.spaces.operations import ops_of

HERE = Path(__file__).parent
FLAGS = (  # of jaxlib 0.10
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_optimization_level=0"
)
"""Halve the compilation, which is most of what so small a network costs."""


class FewerTests(ChildOracle):
    """A child oracle with the first test images or texts only."""

    tests = 100

    @property
    def images(self) -> Task:
        """The task, its test split cut."""
        data = super().images
        return data._replace(
            x_test=data.x_test[: self.tests], y_test=data.y_test[: self.tests]
        )


def oracle_of(config: Config) -> ChildOracle:
    """Returns what trains the networks of a set."""
    space = jaxnas.make_space(config.space, **config.options)
    FewerTests.tests = config.images
    fields = ("data", "limit", "epochs", "seed")
    return FewerTests(space, **{name: getattr(config, name) for name in fields})


def networks(oracle: ChildOracle, config: Config) -> np.ndarray:
    """Returns different small networks, drawn token by token, in canonical form.

    Those with an operation that the simulator refuses (``gru``) are left out.
    """
    space, built = oracle.space, oracle.network(0)
    keys = jax.random.split(jax.random.key(config.seed), config.drawn)
    draw = jax.jit(jax.vmap(lambda key: space.canonical(tk.sample(key, space))))
    rows, first = np.unique(np.asarray(draw(keys)), axis=0, return_index=True)
    chosen: list[np.ndarray] = []
    for row in rows[np.argsort(first)]:
        spec = built.to_spec(row)
        used = matrices(spec)
        small = len(used) <= config.matrices and analog_costs(used).tiles <= config.tiles
        both = all(refusal(name, "analog") is None for name in ops_of(spec))
        if both and small and count_costs(spec).flops < config.flops:
            chosen.append(row)
        if len(chosen) == config.networks:
            break
    return np.array(chosen)


def main() -> None:
    """Measures the lots of a set that the folder lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--folder", type=Path, default=HERE / "stores")
    parser.add_argument("--start", type=int, default=0, help="first network, of a lot")
    parser.add_argument("--stop", type=int, help="one past the last, for more processes")
    args = parser.parse_args()
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
    jaxnas.configure_host(1)
    config = SETS[args.set]
    oracle = oracle_of(config)
    rows = networks(oracle, config)
    settings = Settings(
        epochs=config.hwa_epochs,
        repetitions=config.chips,
        draws=config.chips,
        seed=config.seed,
    )
    for start in range(args.start, len(rows[: args.stop]), config.lot):
        out = args.folder / args.set / f"lot-{start:03d}"
        if not (out / FILE).exists():
            lot = list(rows[start : start + config.lot])
            validate(oracle, lot, out, settings)
        print(f"{min(start + config.lot, len(rows))} of {len(rows)}", flush=True)


if __name__ == "__main__":
    main()
