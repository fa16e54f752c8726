"""Searches cells on digits, then trains the best with five seeds beside simple models."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from config import Config

import jaxnas
from jaxnas.children import train as tr
from jaxnas.children.build import Child, build
from jaxnas.children.count import count_costs
from jaxnas.data.images.task import ImageData
from jaxnas.oracles.child import ChildOracle
from jaxnas.spaces import spec as sp

HERE = Path(__file__).parent


def hand_made(data: ImageData) -> dict[str, Any]:
    """Returns a plain network: three convolutions with batch norm, mean, linear head."""
    window = {"kernel": 3, "padding": 1, "bias": False}
    nodes, last = [], "image"
    for i, (features, stride) in enumerate(((16, 1), (32, 2), (64, 2))):
        name = f"conv{i}"
        nodes += [
            sp.node(name, "conv", [last], features=features, stride=stride, **window),
            sp.node(f"norm{i}", "batch_norm", [name]),
            sp.node(f"relu{i}", "relu", [f"norm{i}"]),
        ]
        last = f"relu{i}"
    nodes += [
        sp.node("pool", "global_avg_pool", [last]),
        sp.node("logits", "linear", ["pool"], features=data.num_classes),
    ]
    return {
        "format": sp.FORMAT,
        "space": "hand-made",
        "inputs": {"image": sp.image(*data.x_train.shape[1:])},
        "outputs": {"logits": sp.vector(data.num_classes)},
        "blocks": {},
        "nodes": nodes,
    }


def trained(child: Child, data: ImageData, config: Config, seed: int) -> float:
    """Returns the test accuracy of one training."""
    arrays = data.x_train, data.y_train, data.x_val, data.y_val, data.x_test, data.y_test
    *splits, x, y = map(jnp.asarray, arrays)
    images, forward = tr.Images(*splits), tr.forward_of(child)
    training = tr.Training(config.final_epochs, augment=config.augment)

    @jax.jit
    def run(key: Any) -> Any:
        start = child.init(key, images.x_train[:1])
        fitted, _ = tr.fit(forward, start, images, key, training, tr.Hparams())
        return tr.evaluate(forward, fitted, x, y)[1]

    return float(run(jax.random.key(seed)))


def logistic(data: ImageData, config: Config) -> float:
    """Returns the test accuracy of a logistic regression; its penalty by validation."""
    from sklearn.linear_model import LogisticRegression

    flat = lambda x: x.reshape(len(x), -1)
    models = [
        LogisticRegression(C=c, max_iter=5000).fit(flat(data.x_train), data.y_train)
        for c in config.penalties
    ]
    best = max(models, key=lambda m: m.score(flat(data.x_val), data.y_val))
    return float(best.score(flat(data.x_test), data.y_test))


def found(config: Config, store: Path) -> tuple[ChildOracle, list[dict[str, Any]]]:
    """Returns the oracle and each method's best architecture."""
    oracle = ChildOracle(
        jaxnas.make_space("nb201"),
        objective=config.objective,
        size=config.size,
        epochs=config.search_epochs,
        augment=config.augment,
    )
    rows = []
    for name in config.methods:
        options = {"batch": config.batch} if name == "reinforce" else {}
        result = jaxnas.search(
            jaxnas.make_algorithm(name, space=oracle.space, **options),
            oracle,
            budget=config.budget,
            store=store,
        )
        rows.append({"method": name, **result.best(1)[0]})
        print(json.dumps(rows[-1]), flush=True)
    return oracle, rows


def main() -> None:
    """Writes results/digits.json and results/digits.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=HERE / "evaluations.sqlite")
    args = parser.parse_args()
    jaxnas.configure_host(1)
    config = Config()
    oracle, searched = found(config, args.store)
    data = oracle.images
    best = min(searched, key=lambda row: row[config.objective])
    networks = {
        f"best cell found ({''.join(map(str, best['tokens']))})": oracle.spec(
            np.array(best["tokens"])
        ),
        "hand-made CNN": hand_made(data),
    }
    rows = []
    for name, spec in networks.items():
        child = build(spec)
        scores = [trained(child, data, config, seed) for seed in config.seeds]
        rows.append({"model": name, "test": scores, **count_costs(spec)._asdict()})
        print(json.dumps(rows[-1]), flush=True)
    size = int(np.prod(data.x_train.shape[1:]) + 1) * data.num_classes
    rows.append(
        {"model": "logistic regression", "test": [logistic(data, config)], "params": size,
         "flops": size}
    )  # fmt: skip
    text = "# Digits, test accuracy\n\n| model | parameters | test accuracy | n |\n"
    text += "|" + " --- |" * 4 + "\n"
    for row in rows:
        mean, n = float(np.mean(row["test"])), len(row["test"])
        spread = f" ± {np.std(row['test'], ddof=1):.4f}" if n > 1 else ""
        text += f"| {row['model']} | {row['params']:,} | {mean:.4f}{spread} | {n} |\n"
    text += f"\n{len(data.x_test)} test images; mean ± standard deviation over seeds.\n\n"
    text += "| method | lowest validation loss (nats) | cell |\n| --- | --- | --- |\n"
    for row in searched:
        cell = "".join(map(str, row["tokens"]))
        text += f"| {row['method']} | {row[config.objective]:.4f} | {cell} |\n"
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    document = {"config": dataclasses.asdict(config), "searched": searched, "rows": rows}
    (out / "digits.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "digits.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
