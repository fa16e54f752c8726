"""Ours: a population of token-writing controllers through the product's own programs.

The timed program is the one that ``jaxnas.search`` runs: ask, table look-up, the budget's
book-keeping, tell, learn, the log, in blocks, with donation. Each region starts from fresh
controllers, whose making is not timed.
"""

import argparse
import time

import jax
import numpy as np
from pair import PairOracle, PairSpace
from worker import Region, serve

import jaxnas
from jaxnas.core import rng
from jaxnas.core.scalarise import weighted_sum
from jaxnas.oracles.budget import Budgeted
from jaxnas.run.config import expand_hparams
from jaxnas.run.devices import population_mesh
from jaxnas.run.population import Layout, programs

facts: dict[str, object] = {}


def make(args: argparse.Namespace):
    """Returns the programs, their arguments and the algorithm."""
    if args.problem == "pair":
        space = PairSpace()
        oracle = PairOracle(space)
    else:
        space = jaxnas.make_space("nb201")
        oracle = jaxnas.make_oracle(
            "analog-nasbench", space=space, objective="analog_1month"
        )
    options = {} if args.batch is None else {"batch": args.batch}
    if args.minibatches is not None:
        options["minibatches"] = args.minibatches
    algo = jaxnas.make_algorithm(args.algorithm, space=space, **options)
    budgeted = Budgeted(oracle, weighted_sum(oracle.objectives, None), 500, 4000)
    width = min(args.width or algo.preferred_width, args.controllers)
    layout = Layout(args.controllers, width, 1)
    total = -(-4000 // (algo.batch * algo.rounds))
    mesh = population_mesh(jax.local_devices()[:1])
    built = programs(algo, budgeted, layout, mesh, total)
    settings, _ = expand_hparams(algo, None)
    ids = np.arange(layout.padded, dtype=np.int32)
    ids[args.controllers :] = -1
    hparams = jax.tree.map(lambda x: np.repeat(np.asarray(x), layout.padded), settings)
    root = jax.random.key_data(rng.root_key(args.seed))
    params = built.share(oracle.params())
    facts["width"], facts["batch"] = width, algo.batch
    return built, (built.blocked((ids, hparams)), root, params)


def prepare(args: argparse.Namespace) -> Region:
    """Compiles and returns the region: ``updates`` updates of fresh controllers."""
    built, begin = make(args)
    params = begin[2]
    clock = time.perf_counter()
    init = built.init.lower(*begin).compile()
    facts["compile_init_s"] = time.perf_counter() - clock
    members = init(*begin)
    bounds = np.int32(0), np.int32(args.updates)
    clock = time.perf_counter()
    run = built.run.lower(members, params, *bounds)
    facts["trace_run_s"] = time.perf_counter() - clock
    run = run.compile()
    facts["compile_run_s"] = time.perf_counter() - clock

    def before():
        return [jax.block_until_ready(init(*begin)) for _ in range(args.repeats)]

    def region(fresh) -> float:
        total = 0.0
        for members in fresh:
            done = jax.block_until_ready(run(members, params, *bounds))
            book = done.oracle.ledger
            counted = np.asarray(book.queries)
            facts["queries"] = float(counted.mean())
            total += float(np.nansum(np.asarray(book.best_true))) + float(counted.sum())
        return total

    region(before())
    return Region(region, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithm", default="reinforce")
    parser.add_argument("--problem", choices=("pair", "nb201"), default="pair")
    parser.add_argument("--controllers", type=int, default=256)
    parser.add_argument("--updates", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--minibatches", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    serve(
        lambda: prepare(args),
        name=f"jaxnas-{args.algorithm}-{args.problem}",
        unit="controller-update",
        units=args.updates * args.controllers * args.repeats,
        settings=vars(args),
        versions={"jax": jax.__version__, "jaxnas": jaxnas.__version__},
        measured=lambda: dict(facts),
    )


if __name__ == "__main__":
    main()
