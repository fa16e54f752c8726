"""Searches small networks on the surrogate, trains the best, and compares the two."""

import argparse
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
from config import Config
from train import FLAGS, HERE, oracle_of

import jaxnas
from jaxnas.data import measured_files
from jaxnas.data.evaluations import Store
from jaxnas.oracles import resnets
from jaxnas.oracles.surrogate import predict_rows
from jaxnas.run.fanout_processes import Processes
from jaxnas.run.host_cache import HostCache

PARAMS = 20_000
"""Largest network that the search may return."""
SEARCHES, QUERIES, TRAINED = 16, 300, 8


def rounded(values: np.ndarray) -> list[float]:
    """Returns numbers with two digits."""
    return [round(float(value), 2) for value in values]


def main() -> None:
    """Writes results/found.json and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=HERE / "resnets.sqlite")
    args = parser.parse_args()
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
    jaxnas.configure_host(1)
    model = jaxnas.make_oracle("digits-resnets")
    asked = jaxnas.make_oracle("digits-resnets", constraints=(f"params<={PARAMS}",))
    algorithm = jaxnas.make_algorithm("evolution", space=asked.space)
    result = jaxnas.search(algorithm, asked, seeds=SEARCHES, budget=QUERIES)
    tokens = np.array([entry["tokens"] for entry in result.best(TRAINED)], np.int32)
    told = predict_rows(model, model.params(), tokens)
    month = resnets.PREDICTED.index("analog_1month")
    spread = np.hypot(told.epistemic, told.aleatoric)[:, month]
    oracle = dataclasses.replace(oracle_of(Config()), objective="analog_1month,params")
    with Store(args.store) as store, Processes(2) as team:
        cache = HostCache(oracle, team, store, warn=print)
        lanes = np.zeros(len(tokens), np.int32), np.ones(len(tokens), bool)
        measured = np.asarray(cache.evaluate(tokens, *lanes).objectives, np.float64)
    arrays = measured_files.read(resnets.NAME)
    small = arrays["metric:params"] <= PARAMS
    there = arrays["metric:analog_1month"][small]
    error = measured[:, 0] - told.mean[:, month]
    facts = {
        "most_params": PARAMS,
        "searches": SEARCHES,
        "queries": QUERIES,
        "tokens": [" ".join(map(str, row)) for row in tokens.tolist()],
        "params": measured[:, 1].astype(int).tolist(),
        "predicted": rounded(told.mean[:, month]),
        "predicted_sd": rounded(spread),
        "extrapolates": np.asarray(told.extrapolates).tolist(),
        "measured": rounded(measured[:, 0]),
        "measured_minus_predicted": round(float(error.mean()), 2),
        "its_standard_error": round(float(error.std(ddof=1) / len(error) ** 0.5), 2),
        "in_the_table": {
            "networks_as_small": int(small.sum()),
            "best": round(float(there.max()), 2),
            "mean": round(float(there.mean()), 2),
        },
    }
    text = json.dumps(facts, indent=1) + "\n"
    (HERE / "results" / "found.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
