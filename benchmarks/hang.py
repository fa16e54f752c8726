"""Counts hangs of vmapped PPO programs on XLA's CPU backend, each run a fresh process.

A run makes and trains PPO agents on CartPole in one program, sharded over ``--devices``
simulated CPU devices, with the usual orthogonal initialisation of flax (a batched QR under
``vmap``) or without it, with XLA's default thread pool for products or without.
A run that has not ended after ``--patience`` seconds of wall time counts as hung and is
killed. A persistent compilation cache, filled by the first run of a case under a longer
watchdog, keeps the others short.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import harness

CASES = tuple(
    (devices, orthogonal, pool)
    for devices in (1, 2, 8)
    for orthogonal in (True, False)
    for pool in (True, False)
)


def child(orthogonal: bool) -> None:
    """Makes and trains 16 agents, all devices at once, and prints a checksum."""
    import gymnax
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import linen as nn
    from jax.sharding import Mesh
    from jax.sharding import PartitionSpec as P

    from jaxnas.core.types import PolicyOutput
    from jaxnas.envs.gymnax_face import FromGymnax
    from jaxnas.rl.training import EnvHparams, EnvTraining

    init = nn.initializers.orthogonal() if orthogonal else nn.initializers.lecun_normal()

    class Net(nn.Module):
        """A small actor and critic."""

        num_actions: int = 2

        def initial_carry(self, batch: int) -> tuple[()]:
            """Returns nothing."""
            del batch
            return ()

        @nn.compact
        def __call__(self, carry, obs, reset):
            """Returns policy and value."""
            x = jnp.tanh(nn.Dense(64, kernel_init=init)(obs))
            x = jnp.tanh(nn.Dense(64, kernel_init=init)(x))
            logits, value = nn.Dense(2, kernel_init=init)(x), nn.Dense(1)(x)[..., 0]
            return carry, PolicyOutput(logits, value)

    env = FromGymnax(gymnax.make("CartPole-v1")[0])
    training = EnvTraining(env, Net(), num_envs=4, num_steps=32)
    params = env.params()

    def agent(key):
        state = training.init(key, EnvHparams(), params)
        return training.train(key, state, params, 4)[1]["loss"]

    mesh = Mesh(np.asarray(jax.devices()), ("pop",))
    spread = jax.shard_map(
        jax.vmap(agent), mesh=mesh, in_specs=P("pop"), out_specs=P("pop"), check_vma=False
    )
    keys = jax.random.split(jax.random.key(0), 16)
    print("done", float(jnp.sum(jax.jit(spread)(keys))), flush=True)


def run(devices: int, orthogonal: bool, pool: bool, patience: float, cache: str) -> Any:
    """Returns seconds that a run took, or None where it hung; raises where it failed."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    if not pool:
        flags += f" {harness.XLA_FLAGS}"
    environment = {
        **os.environ,
        "XLA_FLAGS": flags,
        "PYTHONPATH": str(harness.ROOT),
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-W", "ignore", __file__, "--child"]
    command += ["--orthogonal"] if orthogonal else []
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    if not out.startswith(b"done"):
        raise SystemExit(f"A run failed: {errors.decode()[-2000:]}")
    return time.perf_counter() - begun


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--patience", type=float, default=60)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument(
        "--keep", action="store_true", help="keep the rows of results/hang.json not run now"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--orthogonal", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.orthogonal)
    rows = []
    for devices, orthogonal, pool in CASES:
        if devices not in args.devices:
            continue
        with tempfile.TemporaryDirectory() as cache:
            case = (devices, orthogonal, pool)
            first = run(*case, 5 * args.patience, cache)
            times = [run(*case, args.patience, cache) for _ in range(args.runs)]
        ended = sorted(t for t in times if t is not None)
        row = {
            "devices": devices,
            "orthogonal": orthogonal,
            "thread_pool": pool,
            "runs": args.runs,
            "hung": args.runs - len(ended),
            "first_hung": first is None,
            "median_s": ended[len(ended) // 2] if ended else None,
            "patience_s": args.patience,
            "load": round(os.getloadavg()[0], 1),
        }
        rows.append(row)
        print(row, flush=True)
    earlier = harness.RESULTS / "hang.json"
    if args.keep and earlier.exists():
        cases = [(r["devices"], r["orthogonal"], r["thread_pool"]) for r in rows]
        rows += [
            row
            for row in json.loads(earlier.read_text())["rows"]
            if (row["devices"], row["orthogonal"], row["thread_pool"]) not in cases
        ]
        rows.sort(key=lambda r: (r["devices"], not r["orthogonal"], not r["thread_pool"]))
    lines = [
        [
            row["devices"],
            "flax orthogonal (batched QR)" if row["orthogonal"] else "no QR",
            "default" if row["thread_pool"] else "off",
            f"{row['hung']} of {row['runs']}",
            f"{row['patience_s']:.0f}",
            "-" if row["median_s"] is None else f"{row['median_s']:.1f}",
        ]
        for row in rows
    ]
    header = [
        "devices", "initialisation", "thread pool", "hung", "patience (s)", "median run (s)"
    ]  # fmt: skip
    where = harness.provenance()
    text = "# Hangs of vmapped PPO programs on XLA's CPU backend\n\n"
    text += (
        f"{where['device']}, {where['cores']} cores, commit {where['commit']}, "
        f"{where['date']} UTC. Each run a fresh process, killed and counted as hung when "
        "it has not ended within the patience.\n\n"
    )
    text += harness.markdown(header, lines)
    text += f"\nMade by `python benchmarks/hang.py --runs {args.runs}`.\n"
    harness.write("hang", {**where, "rows": rows}, text)


if __name__ == "__main__":
    main()
