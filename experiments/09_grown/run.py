"""Trains grown networks and their last network from scratch, on the same images."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from config import Config

import jaxnas
from jaxnas.children import train as tr
from jaxnas.children.build import build
from jaxnas.children.count import count_costs
from jaxnas.children.grown import GrownChild
from jaxnas.oracles.grown import BEGUN, GrownOracle
from jaxnas.spaces.growth import limits_of

HERE = Path(__file__).parent
Trainer = Callable[[int], tuple[float, float]]
"""Seed -> test accuracy, CPU seconds of the training without its compilation."""


def grown(
    config: Config, actions: tuple[str, ...]
) -> tuple[GrownOracle, np.ndarray, Trainer]:
    """Returns the oracle, the tokens, and what trains them."""
    oracle = GrownOracle(data=config.data, epochs=config.epochs, begin=config.begin)
    names = limits_of(oracle.space).actions
    tokens = np.array([names.index(name) for name in actions], np.int32)
    data = oracle.images
    x, y = jnp.asarray(data.x_test), jnp.asarray(data.y_test)
    forward = tr.forward_of(GrownChild(limits_of(oracle.network(0))))
    test = jax.jit(lambda variables: tr.evaluate(forward, variables, x, y)[1])

    def train(seed: int) -> tuple[float, float]:
        BEGUN.clear()
        began = time.process_time()
        _, variables, _ = dataclasses.replace(oracle, seed=seed).fit(tokens)
        jax.block_until_ready(variables)
        spent = time.process_time() - began
        return float(test(variables)), spent

    return oracle, tokens, train


def scratch(oracle: GrownOracle, spec: dict[str, Any], epochs: int) -> Trainer:
    """Returns what trains a network from scratch for some epochs, with one schedule."""
    data, child = oracle.images, build(spec)
    arrays = (data.x_train, data.y_train, data.x_val, data.y_val, data.x_test, data.y_test)
    *splits, x, y = map(jnp.asarray, arrays)
    images, forward = tr.Images(*splits), tr.forward_of(child)

    @jax.jit
    def run(key: Any) -> Any:
        start = child.init(key, images.x_train[:1])
        training = tr.Training(epochs, oracle.batch)
        fitted, _ = tr.fit(forward, start, images, key, training, tr.Hparams())
        return tr.evaluate(forward, fitted, x, y)[1]

    def train(seed: int) -> tuple[float, float]:
        began = time.process_time()
        return float(run(jax.random.key(seed))), time.process_time() - began

    return train


def main() -> None:
    """Writes results/grown.json and results/grown.md."""
    jaxnas.configure_host(1)
    config = Config()
    steps = config.begin + len(config.growth)
    oracle, tokens, grow = grown(config, config.growth)
    _, _, keep = grown(config, ("keep",) * len(config.growth))
    network = oracle.network(0)
    last = network.to_spec(tokens)
    place = np.arange(len(tokens))
    sizes = [np.where(place < t, tokens, 0) for t in range(len(tokens) + 1)]
    flops = [count_costs(network.to_spec(row)).flops for row in sizes]
    spent = config.epochs * (sum(flops[1:]) + config.begin * flops[0])
    equal = max(1, round(spent / flops[-1]))
    arms: dict[str, tuple[int, Trainer]] = {
        "grown": (config.epochs * steps, grow),
        "first network, never grown": (config.epochs * steps, keep),
        "last network, as long as after its last morph": (
            config.epochs, scratch(oracle, last, config.epochs)),
        "last network, equal multiply-accumulates": (equal, scratch(oracle, last, equal)),
        "last network, equal epochs": (
            config.epochs * steps, scratch(oracle, last, config.epochs * steps)),
    }  # fmt: skip
    rows = []
    for name, (epochs, train) in arms.items():
        train(0)  # compiles
        found = [train(seed) for seed in config.seeds]
        scores, seconds = map(list, zip(*found, strict=True))
        rows.append({"arm": name, "epochs": epochs, "test": scores, "cpu_s": seconds})
        print(json.dumps(rows[-1]), flush=True)
    text = "# Grown networks on digits, test accuracy\n\n"
    text += "| training | epochs | test accuracy | CPU seconds | n |\n"
    text += "|" + " --- |" * 5 + "\n"
    for row in rows:
        test, n = row["test"], len(row["test"])
        mean, spread = np.mean(test), np.std(test, ddof=1)
        text += (
            f"| {row['arm']} | {row['epochs']} | {mean:.4f} ± {spread:.4f} | "
            f"{np.mean(row['cpu_s']):.1f} | {n} |\n"
        )
    text += (
        f"\n{len(oracle.images.x_test)} test images; mean ± standard deviation over seeds; "
        "compilation left out.\n"
    )
    out = {"config": dataclasses.asdict(config), "flops": flops, "rows": rows}
    (HERE / "results" / "grown.json").write_text(json.dumps(out, indent=1) + "\n")
    (HERE / "results" / "grown.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
