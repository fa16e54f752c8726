"""Makes the shipped table and its surrogate from the store, and their summary."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xgboost
from config import Config
from scipy.stats import kendalltau
from train import HERE, networks, oracle_of

import jaxnas
from jaxnas.data.formats.npz import content_checksum, read_npz
from jaxnas.data.recipes import Arrays
from jaxnas.data.store.evaluations import Store
from jaxnas.data.tables import measured_files, measured_pack
from jaxnas.surrogates import quality as q
from jaxnas.surrogates import resnets
from jaxnas.surrogates.features import make_encoder
from jaxnas.surrogates.fit import Fitted, Rows, fit_surrogate, keep
from jaxnas.surrogates.open import surrogate
from jaxnas.surrogates.oracle import predict_rows

PAIRS = ((0, 1), (0, 2), (1, 2))
SEEDS = (0, 1, 2, 3, 4)
"""Of the folds."""
FOLDS = 5
MONTH = resnets.PREDICTED.index("analog_1month")


def found_by_searches() -> tuple[np.ndarray, np.ndarray]:
    """Returns what rounds.py trained, and in which round, in that order."""
    told = json.loads((HERE / "results" / "rounds.json").read_text())
    pairs = [
        (list(map(int, text.split())), one["round"])
        for one in told
        for part in one["limits"]
        for text in part["tokens"]
    ]
    return np.array([row for row, _ in pairs]), np.array([r for _, r in pairs], np.int8)


def arrays_of(store: Path, config: Config) -> Arrays:
    """Returns the arrays of the table; see jaxnas/data/tables/measured_files.py."""
    oracle = oracle_of(config)
    drawn = networks(oracle, config)
    rows = drawn[np.lexsort(drawn.T[::-1])]
    found, number = found_by_searches()
    again = np.sort([rows.tolist().index(r) for r in drawn[: config.repeats].tolist()])
    with Store(store, write=False) as held:
        records = measured_pack.collect(held, oracle, np.concatenate([rows, found]))
        others = [
            measured_pack.collect(held, dataclasses.replace(oracle, seed=s), rows[again])
            for s in (1, 2)
        ]
    rounds = np.concatenate([np.zeros(len(rows), np.int8), number])
    return {**measured_pack.pack(records, again, others), "round": rounds}


def take(rows: Rows, which: np.ndarray) -> Rows:
    """Returns some rows."""
    return Rows(rows.tokens[which], rows.values[which], rows.objectives)


def fitted(rows: Rows) -> Fitted:
    """Returns a surrogate fitted to rows."""
    return fit_surrogate(make_encoder("numeric", resnets.measured_space()), rows)


def crossed(rows: Rows, drawn: int, seed: int, predict: Any) -> np.ndarray:
    """Returns what models that have not seen a drawn network say of it, ``[drawn, ...]``.

    Args:
        rows: all labelled networks; what searches found is in every fit.
        drawn: how many at the start were drawn.
        seed: of the folds.
        predict: from the rows that are fitted to and the tokens that are asked about.
    """
    folds = np.array_split(np.random.default_rng(seed).permutation(drawn), FOLDS)
    every = np.arange(len(rows.tokens))
    told = [
        predict(take(rows, np.setdiff1d(every, fold)), rows.tokens[fold]) for fold in folds
    ]
    return np.concatenate(told)[np.argsort(np.concatenate(folds))]


def ensemble(rows: Rows, tokens: np.ndarray) -> np.ndarray:
    """Returns mean and standard deviation by the surrogate, ``[n, K, 2]``."""
    model = fitted(rows)
    told = predict_rows(model.oracle, model.params, tokens)
    return np.stack([told.mean, np.hypot(told.epistemic, told.aleatoric)], axis=-1)


def boosted(rows: Rows, tokens: np.ndarray) -> np.ndarray:
    """Returns the month's accuracy by XGBoost, for comparison."""
    space = resnets.measured_space()
    features = lambda t: np.asarray(jax.vmap(make_encoder("numeric", space))(t))
    model = xgboost.XGBRegressor(
        n_estimators=400, max_depth=4, learning_rate=0.05, subsample=0.8, n_jobs=1
    )
    model.fit(features(rows.tokens), rows.values[:, MONTH])
    return model.predict(features(tokens))


def tau(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Kendall's tau-b."""
    found: Any = kendalltau(a, b)
    return float(found.statistic)


def summary(arrays: Arrays, rows: Rows, ibm: Path | None) -> tuple[str, dict[str, Any]]:
    """Returns the summary in Markdown, and the surrogate's quality for its file."""
    drawn = int(np.sum(arrays["round"] == 0))
    labels = rows.values[:drawn].astype(np.float64)
    names = [item.name for item in rows.objectives]
    text = "# Networks of the analog-resnet space, trained and measured on digits\n\n"
    text += f"{drawn} networks drawn at random and {len(rows.tokens) - drawn} found by "
    text += "searches on the surrogate (rounds.json), which are in no table below but in "
    text += "every fit; accuracies in %. The spread of one training is "
    text += f"pooled over the {len(arrays['again'])} that were trained with three seeds.\n"
    text += (
        "\n| metric | worst | median | best | spread of one training | tau of two seeds |"
    )
    text += "\n" + "|" + " --- |" * 6 + "\n"
    for name in (n for n in names if not n.endswith("_sd")):
        low, middle, high = np.quantile(arrays[f"metric:{name}"][:drawn], (0, 0.5, 1))
        seeds = arrays[f"again:{name}"].astype(np.float64)
        sd = np.sqrt(seeds.var(axis=1, ddof=1).mean())
        pairs = [tau(seeds[:, i], seeds[:, j]) for i, j in PAIRS]
        text += f"| {name} | {low:.2f} | {middle:.2f} | {high:.2f} | {sd:.2f} "
        text += f"| {np.mean(pairs):.2f} |\n"

    quality, folds = {}, [crossed(rows, drawn, s, ensemble) for s in SEEDS]
    text += f"\nThe surrogate on networks that it was not fitted to ({FOLDS} folds; first "
    text += f"split, in brackets 95 % over networks; last column {len(SEEDS)} splits).\n\n"
    text += "| predicts | tau | tau of the best tenth | RMSE | inside the 90 % interval "
    text += "| tau, mean and sd |\n|" + " --- |" * 6 + "\n"
    never = np.zeros(len(labels), bool)
    for k, item in enumerate(rows.objectives):
        scored = [q.Scored(labels[:, k], f[:, k, 0], f[:, k, 1], never) for f in folds]
        found = q.quality(scored[0], item.maximise)
        quality[item.name] = {n: e._asdict() for n, e in found.items()}
        show = lambda n, e=found: f"{e[n].value:.3f} [{e[n].low:.3f}, {e[n].high:.3f}]"
        taus = [q.kendall(one) for one in scored]
        text += f"| {item.name} | {show('kendall')} | {show('kendall_top_decile')} "
        text += f"| {show('rmse')} | {found['coverage_90'].value:.2f} "
        text += f"| {np.mean(taus):.3f}, {np.std(taus, ddof=1):.3f} |\n"

    space = resnets.measured_space()
    raw = np.asarray(jax.vmap(space.features)(jnp.asarray(rows.tokens[:drawn])))  # pyright: ignore[reportAttributeAccessIssue]
    others = {
        "XGBoost on the same folds": crossed(rows, drawn, SEEDS[0], boosted),
        "number of parameters": arrays["metric:params"][:drawn],
        "multiply-accumulates": arrays["metric:flops"][:drawn],
        "channels of the stem": raw[:, 0],
        "number of groups (IBM's rule: 4 is good)": raw[:, 1],
        "digital accuracy": arrays["metric:digital"][:drawn],
        "accuracy after a minute": arrays["metric:analog_1min"][:drawn],
    }
    if ibm is not None:
        theirs = surrogate(str(ibm), space, "1_day_accuracy")
        told = predict_rows(theirs, theirs.params(), rows.tokens[:drawn])
        others["IBM's predictor of accuracy after a day"] = told.mean[:, 0]
    text += "\nOrder at one month by other means.\n\n| by | tau |\n| --- | --- |\n"
    for name, score in others.items():
        scored = q.Scored(labels[:, MONTH], np.asarray(score), never * 0.0, never)
        found = q.quality(scored)["kendall"]
        text += f"| {name} | {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] |\n"
    return text, quality


def main() -> None:
    """Writes table, surrogate and results/resnets.md, and prints the checksums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=HERE / "resnets.sqlite")
    parser.add_argument("--ibm", type=Path, help="IBM's xgboost_ranker_acc.json")
    args = parser.parse_args()
    jaxnas.configure_host(1)
    arrays = arrays_of(args.store, Config())
    table = Path(measured_files.path_of(resnets.NAME))
    np.savez_compressed(table, **arrays)  # pyright: ignore[reportArgumentType]
    measured_files.CHECKSUMS[resnets.NAME] = content_checksum(arrays)
    rows = resnets.measurements()
    text, quality = summary(arrays, rows, args.ibm)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "resnets.md").write_text(text)
    model = Path(measured_files.path_of(resnets.MODEL))
    made = fitted(rows)
    keep(model, made, {
        "labels": len(rows.tokens),
        "source": f"{resnets.NAME} (experiments/05_resnets)",
        "seed": 0,
        "features": made.oracle.encoder.id,
        "quality": quality,
        "quality_of": f"{FOLDS} models, each on drawn networks that it was not fitted to",
    })  # fmt: skip
    print(resnets.NAME, measured_files.CHECKSUMS[resnets.NAME])
    print(resnets.MODEL, content_checksum(read_npz(model)))


if __name__ == "__main__":
    main()
