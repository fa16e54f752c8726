"""Searches networks for texts, then trains the best with five seeds beside n-grams."""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from config import Config

import jaxnas
from jaxnas.children import train as tr
from jaxnas.children.count import count_costs
from jaxnas.cli.common.ngrams import GRAMS, logistic
from jaxnas.data.texts.task import TextData
from jaxnas.oracles.child import ChildOracle

HERE = Path(__file__).parent


def tested(oracle: ChildOracle, tokens: np.ndarray) -> float:
    """Returns the test accuracy of one training, in per cent."""
    child, variables, _ = oracle.train(tokens)
    x, y = jnp.asarray(oracle.images.x_test), jnp.asarray(oracle.images.y_test)
    return 100 * float(tr.evaluate(tr.forward_of(child), variables, x, y)[1])


def baselines(data: TextData) -> list[dict[str, Any]]:
    """Returns the majority's and the logistic regressions' test accuracies."""
    often = np.bincount(data.y_train).argmax()
    rows = [{"model": "most frequent class", "test": [100 * np.mean(data.y_test == often)]}]
    for name in GRAMS:
        score, params = logistic(data, name, "test")
        model = f"logistic regression, tf-idf of {name}"
        rows.append({"model": model, "test": [100 * score], "params": params})
    return rows


def table(rows: list[dict[str, Any]], data: TextData) -> str:
    """Returns the rows as Markdown."""
    text = "# Sign of the rating, test accuracy in per cent\n\n"
    text += "| model | parameters | test accuracy | n |\n|" + " --- |" * 4 + "\n"
    for row in rows:
        mean, n = float(np.mean(row["test"])), len(row["test"])
        spread = f" ± {np.std(row['test'], ddof=1):.2f}" if n > 1 else ""
        params = f"{row['params']:,}" if "params" in row else ""
        text += f"| {row['model']} | {params} | {mean:.2f}{spread} | {n} |\n"
    parts = data.splits.pairs().items()
    sizes = ", ".join(f"{len(y):,} {part}" for part, (_, y) in parts)
    return f"{text}\n{sizes} texts; mean ± standard deviation over seeds.\n"


def main() -> None:
    """Writes results/text.json and results/text.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=HERE / "evaluations.sqlite")
    args = parser.parse_args()
    jaxnas.configure_host(1)
    config, begun = Config(), time.process_time()
    fields = ("data", "epochs", "batch", "optimiser", "lr", "weight_decay", "objective")
    options = {name: getattr(config, name) for name in fields}
    oracle = ChildOracle(jaxnas.make_space("text-chain"), **options)
    method = jaxnas.make_algorithm(config.method, space=oracle.space)
    result = jaxnas.search(method, oracle, budget=config.budget, store=args.store)
    best = result.best(config.top)
    searched = time.process_time() - begun
    print(json.dumps({"searched_cpu_s": searched, "best": best}), flush=True)
    rows = []
    space = jaxnas.make_space("text-chain")
    plain = {"embedding": 64, "word_dropout": 0.6, "layer": [], "readout": "mean"}
    chosen = [{"tokens": space.from_dict(plain).tolist()}, *best]
    names = ["no layer (fastText's classifier)"]
    names += [f"best of the search, place {i + 1}" for i in range(config.top)]
    for name, one in zip(names, chosen, strict=True):
        tokens = np.array(one["tokens"], np.int32)
        seeded = [dataclasses.replace(oracle, seed=seed) for seed in config.seeds]
        scores = [tested(o, tokens) for o in seeded]
        costs = count_costs(oracle.spec(tokens))._asdict()
        row = {"model": name, "test": scores, **costs}
        rows.append({**row, "architecture": oracle.space.to_dict(tokens), **one})
        print(json.dumps(rows[-1]), flush=True)
    data = oracle.images
    assert isinstance(data, TextData)
    rows += baselines(data)
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    cpu = {"searched_cpu_s": searched, "cpu_s": time.process_time() - begun}
    document = {"config": dataclasses.asdict(config), **cpu, "rows": rows}
    (out / "text.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "text.md").write_text(table(rows, data))
    print(table(rows, data))


if __name__ == "__main__":
    main()
