"""Rates, share of peak, memory and compile time on one accelerator, in under four minutes.

Token REINFORCE, token PPO, CartPole PPO and latent PPO at 64 to 16,384 controllers, their
training steps in both layouts, and rejax on the same device where it is installed. Several
threads compile while finished programs are timed; what does not fit into the time or the
memory that is left is skipped, and says so. ``--dry-run`` goes through all of it with tiny
sizes on any device, and writes nothing.
"""

import contextlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flops
import harness
import jax
import jax.numpy as jnp

import jaxnas
from jaxnas.controllers.mlp import MLP
from jaxnas.core import rng
from jaxnas.core.layout import using
from jaxnas.latent import files
from jaxnas.latent.vqvae import VQVAE
from jaxnas.rl.training import EnvTraining

SIZES = (64, 1024, 4096, 16_384)
LAYOUTS = ("wide", "blocked")
PEAKS = {
    "H200": 495, "H100": 495, "A100": 156, "L40": 91, "L4": 60, "V100": 15.7, "T4": 8.1,
    "TPU v6": 918, "TPU v5 lite": 197, "TPU v5": 459, "TPU v4": 275,
}  # fmt: skip
"""Dense TFLOP/s of the products that XLA makes of float32 by default, by the vendors' data
sheets: TF32 on NVIDIA where there is any, bfloat16 on TPU."""
CALLS, ENOUGH_S = 5, 1.0


@dataclass(frozen=True)
class Work:
    """One method: ``one(key, state) -> state`` is an update of one controller."""

    name: str
    unit: str
    units: int
    """Units of one update of one controller."""
    init: Callable[[jax.Array], Any]
    one: Callable[[jax.Array, Any], Any]
    flop: float | None = None
    """Of one update of one controller by formula; XLA counts it where None."""


@dataclass(frozen=True)
class Entry:
    """One row to be measured."""

    work: Work
    layout: str
    size: int


@dataclass(frozen=True)
class Program:
    """What a thread has compiled."""

    begin: Any
    advance: Any
    seconds: float
    bytes: int
    flop: float


def token(method: str, small: bool) -> Work:
    """Returns a token-writing method on AnalogNAS-Bench at its preset."""
    options = {"batch": 4, "hidden": 8} if small else {}
    space = jaxnas.make_space("nb201")
    algo: Any = jaxnas.make_algorithm(method, space=space, **options)
    flop = None
    if method == "reinforce":
        flop = flops.token_lstm(algo.batch, space.length, algo.hidden, space.vocab)
    return search(f"token {method}", algo, algo.batch, flop)


def latent(folder: Path, small: bool) -> Work:
    """Returns PPO in a latent space of an untrained model: the rate knows no difference."""
    space = jaxnas.make_space("nb201")
    model = VQVAE(space, codes=16, dims=4, hidden=32)
    files.save(folder / "latent.npz", model, model.init(jax.random.key(0)))
    tiny = {
        "labels": 16, "members": 2, "fit_steps": 5, "capacity": 128, "num_envs": 4,
        "num_steps": 8, "max_steps": 8, "hidden": 16, "batch": 2,
    }  # fmt: skip
    path = str(folder / "latent.npz")
    algo: Any = jaxnas.make_algorithm(
        "latent-ppo", space=space, latent=path, **(tiny if small else {})
    )
    return search("latent ppo", algo, algo.batch * algo.rounds)


def search(name: str, algo: Any, proposals: int, flop: float | None = None) -> Work:
    """Returns a method of the library: ask, evaluate, tell and learn."""
    table = jaxnas.make_oracle("analog-nasbench", objective="analog_1month")
    oracle = jaxnas.budgeted(table, 500)
    params, hparams = oracle.params(), jax.tree.map(jnp.float32, algo.default_hparams())

    def init(key: jax.Array) -> Any:
        return algo.init(key, hparams), oracle.init(key, params)

    def one(key: jax.Array, state: Any) -> Any:
        return jaxnas.update(algo, oracle, key, params, *state)[:2]

    return Work(name, "proposals", proposals, init, one, flop)


def cartpole(small: bool) -> Work:
    """Returns PPO on gymnax's CartPole at rejax's settings."""
    import gymnax

    from jaxnas.envs.gymnax_face import FromGymnax

    env = FromGymnax(gymnax.make("CartPole-v1")[0])
    steps = 8 if small else 128
    training = EnvTraining(
        env, MLP(env.num_actions, separate=True), num_steps=steps, clip_value=True
    )
    params, hparams = env.params(), training.default_hparams()
    return Work(
        "CartPole ppo",
        "env steps",
        training.num_envs * steps,
        lambda key: training.init(key, hparams, params),
        lambda key, state: training.update(key, state, params)[0],
        flops.cartpole_ppo(training.num_envs, steps),
    )


def rejax_ppo(small: bool) -> Work:
    """Returns rejax's PPO on CartPole, its evaluations left out."""
    import rejax

    steps = 8 if small else 128
    ppo = rejax.PPO.create(
        env="CartPole-v1",
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        num_envs=4,
        num_steps=steps,
        num_epochs=4,
        num_minibatches=4,
        learning_rate=5e-4,
        max_grad_norm=0.5,
    )
    return Work(
        "rejax CartPole ppo",
        "env steps",
        4 * steps,
        lambda key: ppo.init_state(key),
        lambda _, state: ppo.train_iteration(state),
        flops.cartpole_ppo(4, steps),
    )


def compile_entry(entry: Entry) -> Program:
    """Returns the compiled programs of one row."""
    begun, keys = time.perf_counter(), rng.root_key(0)
    many = jax.jit(lambda key: jax.random.split(key, entry.size))
    keys = jax.eval_shape(many, keys)
    with using(entry.layout):
        begin = jax.jit(jax.vmap(entry.work.init)).lower(keys)
        shapes = begin.out_info
        step = jax.jit(jax.vmap(entry.work.one), donate_argnums=1)
        advance = step.lower(keys, shapes)
    begin, advance = begin.compile(), advance.compile()
    seconds = time.perf_counter() - begun
    size = advance.memory_analysis()
    needed = 0
    if size is not None:
        needed = size.argument_size_in_bytes + size.temp_size_in_bytes
        needed += size.output_size_in_bytes - size.alias_size_in_bytes
    counted = float((advance.cost_analysis() or {}).get("flops", 0.0))
    flop = entry.size * entry.work.flop if entry.work.flop else counted
    return Program(begin, advance, seconds, needed, flop)


def measure(entry: Entry, program: Program, limit_s: float) -> dict[str, Any]:
    """Returns the row of a compiled program; the calls end before the limit."""
    keys = jax.random.split(rng.root_key(1), entry.size)
    state = jax.block_until_ready(program.begin(keys))
    seconds: list[float] = []
    for _ in range(1 + CALLS):
        begun = time.perf_counter()
        state = jax.block_until_ready(program.advance(keys, state))
        seconds.append(time.perf_counter() - begun)
        limit_s -= seconds[-1]
        if sum(seconds[1:]) > ENOUGH_S or limit_s < seconds[-1]:
            break
    best = min(seconds[1:] or seconds)
    return {
        "seconds": best,
        "rate": entry.size * entry.work.units / best,
        "flops": program.flop / best,
        "compile_s": program.seconds,
        "bytes": program.bytes,
    }


def entries(works: list[Work], sizes: tuple[int, ...]) -> Iterator[Entry]:
    """Yields all rows, what is asked for most first: wide before blocked, small first."""
    for layout in LAYOUTS:
        for size in sizes:
            for work in works:
                peer = work.name.startswith("rejax")
                if not peer or layout == "wide":
                    yield Entry(work, "auto" if peer else layout, size)


def reason(entry: Entry, program: Program, rows: list[dict[str, Any]], left: float) -> str:
    """Returns why a compiled row is not run, or nothing."""
    stats = jax.local_devices()[0].memory_stats() or {}
    free = stats.get("bytes_limit", float("inf")) - stats.get("bytes_in_use", 0)
    if program.bytes > free:
        return f"needs {program.bytes / 1e9:.1f} GB of {free / 1e9:.1f} GB"
    before = [
        row["seconds"] * entry.size / row["size"]
        for row in rows
        if row.get("seconds") and row["name"] == entry.work.name
        and row["layout"] == entry.layout
    ]  # fmt: skip
    if before and 2 * before[-1] > left and entry.layout == "blocked":
        return f"would take about {2 * before[-1]:.0f} s"
    return ""


def run(works: list[Work], sizes: tuple[int, ...], deadline: float) -> list[dict[str, Any]]:
    """Returns one row for every entry, measured or with the reason why not."""
    pool = ThreadPoolExecutor(max(2, (os.cpu_count() or 2) // 2))
    asked: list[tuple[Entry, Future[Program]]] = [
        (entry, pool.submit(compile_entry, entry)) for entry in entries(works, sizes)
    ]
    rows: list[dict[str, Any]] = []
    for entry, future in asked:
        head = {"name": entry.work.name, "layout": entry.layout, "size": entry.size}
        row: dict[str, Any] = {**head, "unit": entry.work.unit}
        try:
            program = future.result(max(0.0, deadline - time.perf_counter()))
            left = deadline - time.perf_counter()
            row["skipped"] = reason(entry, program, rows, left)
            if not row["skipped"]:
                row |= measure(entry, program, left)
        except TimeoutError:
            row["skipped"] = "no time left"
        except jax.errors.JaxRuntimeError as error:
            row["skipped"] = str(error).splitlines()[0][:100]
        rows.append(row)
        print(f"  {line(row, None)}", file=sys.stderr, flush=True)
    pool.shutdown(wait=False, cancel_futures=True)
    return rows


def line(row: dict[str, Any], peak: float | None) -> list[str]:
    """Returns one row as text."""
    head = [row["name"], row["layout"], f"{row['size']:,}"]
    if row["skipped"]:
        return [*head, f"skipped: {row['skipped']}", "", "", "", ""]
    return [
        *head,
        f"{row['rate']:,.0f} {row['unit']}/s",
        f"{row['flops'] / 1e9:,.1f}",
        f"{row['flops'] / peak / 1e12:.2%}" if peak else "peak unknown",
        f"{row['bytes'] / 1e9:.2f}",
        f"{row['compile_s']:.1f}",
    ]


def report(rows: list[dict[str, Any]], began: float) -> str:
    """Returns the Markdown of a run."""
    device = jax.local_devices()[0]
    peak = next((v for k, v in PEAKS.items() if k in device.device_kind), None)
    used = (device.memory_stats() or {}).get("peak_bytes_in_use")
    header = [
        "method", "layout", "controllers", "rate", "GFLOP/s", "of peak", "GB", "compile (s)"
    ]  # fmt: skip
    facts = harness.provenance()
    return (
        f"# One accelerator\n\n{device.device_kind}, jax {jax.__version__}, commit "
        f"{facts['commit']}, {facts['date']} UTC; peak "
        f"{f'{peak} TFLOP/s' if peak else 'unknown'}; most memory in use "
        f"{f'{used / 1e9:.2f} GB' if used else 'unknown'}; all in "
        f"{time.perf_counter() - began:.0f} s.\n\n"
        + harness.markdown(header, [line(row, peak) for row in rows])
        + "\nRate: the fastest of up to five updates of all controllers. Operations: by "
        "formula for token reinforce and CartPole; else XLA's count, which takes a loop "
        "once, so that the share is a lower bound. GB: XLA's plan for arguments, results "
        "and intermediates. Several programs are compiled at a time.\n\n"
        "Made by `python benchmarks/accelerator.py`.\n"
    )


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("--seconds", type=float, default=220.0, help="for everything")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, any device")
    args = parser.parse_args()
    began = time.perf_counter()
    if jax.default_backend() == "cpu" and not args.dry_run:
        raise SystemExit(
            "There is no accelerator here: jax finds CPUs only. Run it where there is one, "
            "or with --dry-run."
        )
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        works = [token("reinforce", args.dry_run), token("ppo", args.dry_run)]
        if importlib.util.find_spec("gymnax"):
            works.append(cartpole(args.dry_run))
        works.append(latent(folder, args.dry_run))
        if importlib.util.find_spec("rejax"):
            works.append(rejax_ppo(args.dry_run))
        rows = run(works, (3,) if args.dry_run else SIZES, began + args.seconds)
    text = report(rows, began)
    if args.dry_run:
        print(text)
    else:
        harness.write("accelerator", {"rows": rows, **harness.provenance()}, text)
    sys.stdout.flush()
    os._exit(0)  # programs that still compile are not waited for


if __name__ == "__main__":
    main()
