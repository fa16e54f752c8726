"""Runs both arms on every seed and writes ``results/halving.json`` and ``halving.md``.

PYTHONPATH=. taskset -c 0 python experiments/07_halving/compare.py
"""

import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from config import Config
from scipy import stats

import jaxnas
from jaxnas.children import train as tr
from jaxnas.core.types import Measurement
from jaxnas.oracles.child import ChildOracle
from jaxnas.run.halving import Halving

OUT = Path(__file__).parent / "results"
ARMS = ("full", "halving")
LOG: list[dict[str, Any]] = []
"""Every training of the arm that runs: what, how much, what it took and gave."""


class OverError(Exception):
    """The CPU seconds of an arm are over."""


@dataclasses.dataclass(frozen=True)
class Timed(ChildOracle):
    """The child oracle, with the CPU time of each training on record."""

    def measure(self, tokens: np.ndarray, fidelity: int = 0) -> Measurement:
        """Returns what the child oracle does."""
        begun = time.process_time()
        found = super().measure(tokens, fidelity)
        row = {
            "tokens": np.asarray(tokens).tolist(),
            "fidelity": fidelity,
            "cpu_s": time.process_time() - begun,
            "val_accuracy": found.metrics["val_accuracy"],
        }
        LOG.append(row)
        return found


def timed(config: Config, seed: int) -> Timed:
    """Returns the oracle of a search, timed."""
    plain = config.oracle(seed)
    names = [field.name for field in dataclasses.fields(plain)]
    return Timed(**{name: getattr(plain, name) for name in names})


def search(config: Config, arm: str, seed: int) -> list[dict[str, Any]]:
    """Returns the trainings of one search, in order, until its CPU seconds are over."""
    LOG.clear()
    oracle = timed(config, seed)
    lanes = config.bracket if arm == "halving" else 1
    algo = jaxnas.make_algorithm("random", space=oracle.space, batch=lanes)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and sum(r["cpu_s"] for r in LOG) >= config.cpu_s:
            raise OverError

    cut = Halving("successive", config.eta) if arm == "halving" else None
    with contextlib.suppress(OverError):
        jaxnas.search(
            algo, oracle, budget=900, seeds=1, seed0=seed, halving=cut, callbacks=[stop]
        )
    return list(LOG)


def chosen(rows: list[dict[str, Any]], cpu_s: float) -> dict[str, Any] | None:
    """Returns the best full training by validation accuracy that ended in time."""
    ends = np.cumsum([row["cpu_s"] for row in rows])
    full = [r for r, end in zip(rows, ends) if end <= cpu_s and r["fidelity"] == 0]
    full = [row for row in full if np.isfinite(row["val_accuracy"])]
    return max(full, key=lambda row: row["val_accuracy"]) if full else None


def test_accuracy(config: Config, tokens: list[int], program: Any) -> list[float]:
    """Returns test accuracies (%) of new full trainings of an architecture."""
    found = []
    for seed in range(1000, 1000 + config.tests):
        _, variables, _ = config.oracle(seed).fit(np.asarray(tokens, np.int32))
        found.append(100 * float(program(variables)))
    return found


def test_program(config: Config) -> Any:
    """Returns a compiled function of variables: accuracy on the test images."""
    oracle = config.oracle(0)
    module, _, _ = oracle.fit(np.zeros(6, np.int32))
    x, y = map(jnp.asarray, (oracle.images.x_test, oracle.images.y_test))
    return jax.jit(lambda v: tr.evaluate(tr.forward_of(module), v, x, y)[1])


def main() -> None:
    """Runs everything; compilations happen before the clock starts."""
    config, begun = Config(), time.process_time()
    search(config, "halving", 999)  # compiles every fidelity, inside a search
    program = test_program(config)
    compiled_s = time.process_time() - begun
    rows, tested = [], {}
    for seed in range(config.seeds):
        for arm in ARMS:
            made = search(config, arm, seed)
            for share in config.shares:
                best = chosen(made, share * config.cpu_s)
                if best is None:  # no bracket has ended yet
                    continue
                key = tuple(best["tokens"])
                if key not in tested:
                    tested[key] = test_accuracy(config, best["tokens"], program)
                ends = np.cumsum([r["cpu_s"] for r in made])
                within = [r for r, end in zip(made, ends) if end <= share * config.cpu_s]
                rows.append(
                    {
                        "seed": seed,
                        "arm": arm,
                        "share": share,
                        "best": best,
                        "test_accuracy": float(np.mean(tested[key])),
                        "tests": tested[key],
                        "trainings": [
                            sum(r["fidelity"] == f for r in within) for f in (1, 2, 0)
                        ],
                        "architectures": len({tuple(r["tokens"]) for r in within}),
                        "cpu_s": float(sum(r["cpu_s"] for r in within)),
                    }
                )
            mine = [r for r in rows if (r["seed"], r["arm"]) == (seed, arm)]
            said = [(r["test_accuracy"], r["trainings"]) for r in mine]
            print(seed, arm, said, flush=True)
            record = {
                "config": dataclasses.asdict(config),
                "compile_cpu_s": compiled_s,
                "total_cpu_s": time.process_time() - begun,
                "rows": rows,
            }
            (OUT / "halving.json").write_text(json.dumps(record, indent=1))
    (OUT / "halving.md").write_text(table(config, rows))
    print(table(config, rows))


def table(config: Config, rows: list[dict[str, Any]]) -> str:
    """Returns both arms at each share of the budget, with the paired difference."""
    lines = [
        "| CPU seconds | arm | architectures | full trainings | validation (%) "
        "| test (%), mean | s.d. |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for share in config.shares:
        means = {}
        for arm in ARMS:
            mine = [r for r in rows if r["arm"] == arm and r["share"] == share]
            means[arm] = np.asarray([r["test_accuracy"] for r in mine])
            numbers = (
                np.mean([r["architectures"] for r in mine]),
                np.mean([r["trainings"][-1] for r in mine]),
                np.mean([r["best"]["val_accuracy"] for r in mine]),
                means[arm].mean(),
            )
            shown = " | ".join(f"{n:.2f}" for n in numbers)
            spread = means[arm].std(ddof=1)
            lines.append(f"| {share * config.cpu_s:g} | {arm} | {shown} | {spread:.2f} |")
        gap = means["halving"] - means["full"]
        half = stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap))
        low, high = gap.mean() - half, gap.mean() + half
        lines.append(
            f"| {share * config.cpu_s:g} | halving - full | | | | {gap.mean():+.2f} "
            f"({low:+.2f} to {high:+.2f}) | {gap.std(ddof=1):.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
