"""Fits the surrogate, searches on it, trains what it likes best, and does so again.

Each round says how far the surrogate's prediction for what a search picks by it is from
what training and chips then give. Its labels join the next round's.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from config import Config
from train import FLAGS, HERE, networks, oracle_of

import jaxnas
from jaxnas.children.count import count_costs, matrices
from jaxnas.data.store.evaluations import Record, Store
from jaxnas.data.tables import measured_pack
from jaxnas.run.host.cache import HostCache
from jaxnas.run.host.processes import Processes
from jaxnas.surrogates import resnets
from jaxnas.surrogates.features import make_encoder
from jaxnas.surrogates.fit import Rows, fit_surrogate, keep
from jaxnas.surrogates.oracle import predict_rows

MONTH = "analog_1month"


def rows_of(records: list[Record]) -> Rows:
    """Returns what the surrogate is fitted to."""
    columns = [measured_pack.column(name, records) for name in resnets.PREDICTED]
    return Rows(
        np.array([record.tokens for record in records], np.int32),
        np.array(columns, np.float64).T,
        tuple(resnets.METRICS[name].as_objective() for name in resnets.PREDICTED),
    )


def liked(model: Path, limit: float, seed: int, config: Config, known: set) -> np.ndarray:
    """Returns the networks that searches on a surrogate predict best.

    Each differs from the others in ``config.apart`` decisions or more; none was trained.

    Args:
        model: the surrogate's file.
        limit: most parameters.
        seed: of the searches.
        config: how much is searched and returned.
        known: networks that were trained, as tuples of tokens.
    """
    oracle = jaxnas.make_oracle(
        "surrogate",
        model=str(model),
        objective=MONTH,
        constraints=(f"params<={limit:g}",),
    )
    algorithm = jaxnas.make_algorithm("evolution", space=oracle.space)
    found = jaxnas.search(
        algorithm, oracle, seeds=config.searches, budget=config.queries, seed0=seed,
        archive=2048,
    )  # fmt: skip
    chosen: list[np.ndarray] = []
    canonical = jax.jit(oracle.space.canonical)
    for entry in found.best(10**6):
        row = np.asarray(canonical(np.array(entry["tokens"], np.int32)))
        small = len(matrices(oracle.space.to_spec(row))) <= config.most_matrices
        far = all(np.sum(row != other) >= config.apart for other in chosen)
        if small and far and tuple(row.tolist()) not in known:
            chosen.append(row)
        if len(chosen) == config.picked:
            break
    return np.array(chosen)


def one_round(
    number: int, records: list[Record], store: Store, config: Config
) -> tuple[list[Record], dict[str, Any]]:
    """Returns the records that a round adds, and what it tells."""
    rows, oracle = rows_of(records), oracle_of(config)
    fitted = fit_surrogate(make_encoder("numeric", resnets.measured_space()), rows)
    known = {tuple(row) for row in rows.tokens.tolist()}
    picked, limits = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "surrogate.npz"
        keep(model, fitted, {"source": f"round {number}"})
        for limit in config.limits:
            found = liked(model, limit, number, config, known)
            known |= {tuple(row) for row in found.tolist()}
            picked.append(found)
            limits += [limit] * len(found)
    tokens = np.concatenate(picked)
    found = predict_rows(fitted.oracle, fitted.params, tokens)
    month = resnets.PREDICTED.index(MONTH)
    with Processes(2) as team:
        cache = HostCache(oracle, team, store, warn=print)
        lanes = np.zeros(len(tokens), np.int32), np.ones(len(tokens), bool)
        cache.evaluate(tokens, *lanes)
    made = measured_pack.collect(store, oracle, tokens)
    measured = np.array([record.metrics[MONTH] for record in made])
    predicted = np.asarray(found.mean[:, month], np.float64)
    spread = np.hypot(found.epistemic, found.aleatoric)[:, month]
    facts = {"round": number, "labels": len(records), "limits": []}
    for limit in config.limits:
        which = np.array(limits) == limit
        error = measured[which] - predicted[which]
        facts["limits"].append({
            "most_params": int(limit),
            "tokens": [" ".join(map(str, row)) for row in tokens[which].tolist()],
            "params": [
                count_costs(fitted.oracle.space.to_spec(row)).params
                for row in tokens[which]
            ],
            "predicted": predicted[which].round(2).tolist(),
            "predicted_sd": np.asarray(spread, np.float64)[which].round(2).tolist(),
            "measured": measured[which].round(2).tolist(),
            "measured_minus_predicted": round(float(error.mean()), 2),
            "its_standard_error": round(
                float(error.std(ddof=1) / len(error) ** 0.5), 2
            ),
        })  # fmt: skip
    return made, facts


def main() -> None:
    """Writes results/rounds.json; what the store holds is not trained again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=HERE / "resnets.sqlite")
    parser.add_argument("--rounds", type=int, default=Config.rounds)
    args = parser.parse_args()
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
    jaxnas.configure_host(1)
    config, oracle = Config(), oracle_of(Config())
    drawn = networks(oracle, config)
    rounds = []
    with Store(args.store) as store:
        records = measured_pack.collect(store, oracle, drawn)
        for number in range(1, args.rounds + 1):
            made, facts = one_round(number, records, store, config)
            records += made
            rounds.append(facts)
            print(json.dumps(facts), flush=True)
            text = json.dumps(rounds, indent=1) + "\n"
            (HERE / "results" / "rounds.json").write_text(text)


if __name__ == "__main__":
    main()
