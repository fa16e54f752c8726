"""Searches networks for texts, then trains the best with five seeds beside n-grams."""

import argparse
import dataclasses
import json
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
Row = dict[str, Any]


def tested(oracle: ChildOracle, tokens: np.ndarray) -> float:
    """Returns the test accuracy of one training, in per cent."""
    child, variables, _ = oracle.train(tokens)
    x, y = jnp.asarray(oracle.images.x_test), jnp.asarray(oracle.images.y_test)
    return 100 * float(tr.evaluate(tr.forward_of(child), variables, x, y)[1])


def baselines(data: TextData) -> list[Row]:
    """Returns the majority's and the logistic regressions' test accuracies."""
    often = np.bincount(data.y_train).argmax()
    rows = [{"model": "most frequent class", "test": [100 * np.mean(data.y_test == often)]}]
    for name in GRAMS:
        score, params = logistic(data, name, "test")
        model = f"logistic regression, tf-idf of {name}"
        rows.append({"model": model, "test": [100 * score], "params": params})
    return rows


def table(rows: list[Row], data: TextData) -> str:
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


def trained(oracle: ChildOracle, name: str, tokens: np.ndarray, config: Config) -> Row:
    """Returns the row of an architecture: test accuracies by seed, and its costs."""
    seeded = [dataclasses.replace(oracle, seed=seed) for seed in config.seeds]
    scores = [tested(one, tokens) for one in seeded]
    costs = count_costs(oracle.spec(tokens))._asdict()
    chosen = {"tokens": tokens.tolist(), "architecture": oracle.space.to_dict(tokens)}
    return {"model": name, "test": scores, **costs, **chosen}


def main() -> None:
    """Writes results/text.json and results/text.md; rows that are there stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=HERE / "evaluations.sqlite")
    args = parser.parse_args()
    jaxnas.configure_host(1)
    config, out = Config(), HERE / "results"
    fields = ("data", "epochs", "batch", "optimiser", "lr", "weight_decay", "objective")
    options = {name: getattr(config, name) for name in fields}
    space = jaxnas.make_space("text-chain")
    oracle = ChildOracle(space, **options)
    method = jaxnas.make_algorithm(config.method, space=oracle.space)
    result = jaxnas.search(method, oracle, budget=config.budget, store=args.store)
    (best,) = result.best(1)
    plain, found = space.from_dict(config.plain), np.array(best["tokens"], np.int32)
    long = lambda epochs: dataclasses.replace(
        oracle, epochs=epochs, batch=config.long_batch
    )
    wanted = {
        "no layer (fastText's classifier)": (oracle, plain),
        "best of the search": (oracle, found),
        "best of the search, trained longer": (long(config.best_epochs), found),
        "no layer, trained longer": (long(config.plain_epochs), plain),
    }
    data = oracle.images
    assert isinstance(data, TextData)
    out.mkdir(exist_ok=True)
    file = out / "text.json"
    known = json.loads(file.read_text())["rows"] if file.exists() else []
    rows = {row["model"]: row for row in known}
    for name, (how, tokens) in wanted.items():
        if name not in rows:
            rows[name] = trained(how, name, tokens, config)
            file.write_text(json.dumps({"rows": [*rows.values()]}))
        print(json.dumps(rows[name]), flush=True)
    rows |= {row["model"]: row for row in baselines(data)}
    document = {
        "config": dataclasses.asdict(config),
        "best": best,
        "rows": [*rows.values()],
    }
    file.write_text(json.dumps(document, indent=1) + "\n")
    (out / "text.md").write_text(table([*rows.values()], data))
    print(table([*rows.values()], data))


if __name__ == "__main__":
    main()
