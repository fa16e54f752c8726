"""A declared nb201 against the hand-written one: compile time and rate of whole searches.

Each method's search of 64 controllers is compiled and run for both spaces in turns, in one
process on one core, by the same traced score. The declared space is
``tests/spaces/nb201.toml``, whose tokens mean the same, so both searches compute the same
numbers. Compilation is timed from a cleared cache, tracing included. Writes
``results/declared.json`` and ``.md``.
"""

import os
import statistics
import time
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np

import jaxnas
from jaxnas.core import rng
from jaxnas.core.space import SearchSpace

CONTROLLERS, UPDATES = 64, 20
METHODS: dict[str, dict[str, Any]] = {
    "random": {},
    "evolution": {},
    "reinforce": {},
    "ppo": {},
}


def score(tokens: jax.Array) -> jax.Array:
    """A number of each architecture: a fixed random table, looked up."""
    table = jnp.asarray(np.random.default_rng(0).normal(size=15_625), jnp.float32)
    return table[jnp.sum(tokens * jnp.asarray([3125, 625, 125, 25, 5, 1]))]


def program(name: str, space: SearchSpace) -> Any:
    """Returns a search of all controllers as a function of nothing that is traced."""
    algo = jaxnas.make_algorithm(name, space=space, **METHODS[name])
    steps = UPDATES * max(1, 8 // algo.batch)
    oracle = jaxnas.budgeted(jaxnas.oracle(score, space, traced=True), 500)
    params = oracle.params()

    def run(controller: jax.Array) -> Any:
        key = rng.controller_key(rng.root_key(0), controller)
        state = algo.init(rng.stream(key, "algorithm"), algo.default_hparams())
        account = oracle.init(rng.stream(key, "oracle"), params)

        def step(carry: Any, i: jax.Array) -> Any:
            *carry, _ = jaxnas.update(algo, oracle, rng.step_key(key, i), params, *carry)
            return tuple(carry), None

        (_, account), _ = jax.lax.scan(step, (state, account), jnp.arange(steps))
        return account.ledger.tokens

    return jax.vmap(run)


def compiled(name: str, space: SearchSpace) -> tuple[Any, float]:
    """Returns the program and the CPU seconds of tracing and compiling it."""
    jax.clear_caches()
    start = time.process_time()
    made = jax.jit(program(name, space)).lower(jnp.arange(CONTROLLERS)).compile()
    return made, time.process_time() - start


def timed(made: Any) -> float:
    """Returns the CPU seconds of one run."""
    start = time.process_time()
    jax.block_until_ready(made(jnp.arange(CONTROLLERS)))
    return time.process_time() - start


def spread(values: list[float]) -> str:
    """Returns ``median (least to most)``."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    theirs = jaxnas.make_space("nb201")
    ours = jaxnas.declare(harness.ROOT / "tests" / "spaces" / "nb201.toml")
    rows, lines = [], []
    for name in METHODS:
        seconds: dict[str, list[float]] = {"compile": [], "run": []}
        other: dict[str, list[float]] = {"compile": [], "run": []}
        for _ in range(rounds):
            (a, first), (b, second) = compiled(name, ours), compiled(name, theirs)
            seconds["compile"].append(first)
            other["compile"].append(second)
            for made, book in ((a, seconds), (b, other)):
                timed(made)  # warm
                book["run"].append(timed(made))
            made_a, made_b = (
                np.asarray(a(jnp.arange(CONTROLLERS))),
                np.asarray(b(jnp.arange(CONTROLLERS))),
            )
            if name != "evolution" and not np.array_equal(made_a, made_b):
                raise SystemExit(f"{name} proposed other architectures in the two spaces.")
        ratio = {
            kind: [x / y for x, y in zip(seconds[kind], other[kind], strict=True)]
            for kind in seconds
        }
        rate = [1 / value for value in ratio["run"]]
        rows.append({"method": name, "declared": seconds, "hand_written": other})
        lines.append([
            name, spread(seconds["compile"]), spread(other["compile"]),
            spread(ratio["compile"]), spread(rate),
        ])  # fmt: skip
    facts = harness.provenance()
    where = (
        f"{facts['device']}, 1 of {facts['cores']} cores, commit {facts['commit']}, "
        f"{facts['date']} UTC. {CONTROLLERS} controllers, {UPDATES} x 8 proposals; median "
        f"(least to most) of {rounds} rounds in turns, CPU time.\n\n"
    )
    header = ("method", "compile s, declared", "compile s, hand-written", "compile ratio",
              "rate ratio")  # fmt: skip
    text = f"# A declared nb201 against the hand-written one\n\n{where}"
    text += harness.markdown(header, lines)
    text += "\nMade by `python benchmarks/declared.py`.\n"
    harness.write("declared", {"rows": rows, **facts}, text)


if __name__ == "__main__":
    main()
