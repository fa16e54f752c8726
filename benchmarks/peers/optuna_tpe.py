"""Peer: Optuna's TPE over the six categorical edges, budgeted as everything else here.

A query is the first evaluation of an architecture; a repeated suggestion is answered from
what is known, reported to the study like any trial, and is free. A run ends at
``budget`` queries or ``8 * budget`` trials. Values come from an ``.npy`` file in the order
of the space (first edge most significant); curves leave as one too.
"""

import argparse
import contextlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import optuna
from numpy_baselines import LENGTH, PLACE, VOCAB, BudgetSpentError, Ledger

CHOICES = optuna.distributions.CategoricalDistribution(list(range(VOCAB)))
EDGES = {f"edge{i}": CHOICES for i in range(LENGTH)}


def run(values: list[float], budget: int, multivariate: bool, seed: int) -> np.ndarray:
    """Returns the best value after each query, ``[budget]``; NaN where not reached."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        seed=seed, multivariate=multivariate, warn_independent_sampling=False
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    ledger = Ledger(values, budget, 8 * budget)
    with contextlib.suppress(BudgetSpentError):
        while True:
            trial = study.ask(EDGES)
            row = sum(trial.params[f"edge{i}"] * place for i, place in enumerate(PLACE))
            study.tell(trial, ledger.ask(row))
    curve = np.full(budget, np.nan)
    curve[: len(ledger.curve)] = ledger.curve
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("values")
    parser.add_argument("out")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--multivariate", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    values = np.load(args.values).tolist()
    one = partial(run, values, args.budget, args.multivariate)
    with ProcessPoolExecutor(args.processes) as pool:
        curves = list(pool.map(one, range(args.seeds)))
    np.save(args.out, np.array(curves))


if __name__ == "__main__":
    main()
