"""Rate a core of one process with two devices against two processes with one each.

Both run the program of ``jaxnas.search`` for token REINFORCE on AnalogNAS-Bench, with as
many controllers in blocks of one width. CPU seconds of all threads of a process over its
updates are compared, so that a busy machine disturbs little; wall seconds are beside them.
Two processes are measured bound to a core each, as a cluster's scheduler binds them, and
left to the kernel, which moves them and lets each use both cores.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import harness

ROUNDS, UPDATES, TARGET = 5, 40, 0.9
WAYS = {
    "1 with two devices": (1, False),
    "2 with one, bound to a core each": (2, True),
    "2 with one, not bound": (2, False),
}
"""How many processes there are, and whether each is bound to a core, by label."""


def work(me: int, total: int, address: str, controllers: int) -> None:
    """Runs one process of a population and prints its seconds, one line a round."""
    import jax
    import numpy as np

    import jaxnas
    from jaxnas.core import rng
    from jaxnas.run import distributed
    from jaxnas.run.config import expand_hparams
    from jaxnas.run.devices import population_mesh
    from jaxnas.run.population import Layout, programs

    jaxnas.configure_host(2 // total)
    place = (address, me, total) if total > 1 else (None,)
    with distributed.joined(*place):
        space = jaxnas.make_space("nb201")
        table = jaxnas.make_oracle("analog-nasbench", objective="analog_1month")
        algo = jaxnas.make_algorithm("reinforce", space=space)
        oracle, mesh = jaxnas.budgeted(table, 500), population_mesh()
        layout = Layout(controllers, algo.preferred_width, mesh.size)
        built = programs(algo, oracle, layout, mesh, 500)
        ids = np.arange(layout.padded, dtype=np.int32)
        settings, _ = expand_hparams(algo, None)
        hparams = jax.tree.map(lambda x: np.repeat(np.asarray(x), layout.padded), settings)
        root = built.share(jax.random.key_data(rng.root_key(0)))
        params = built.share(oracle.params())
        begin = built.place(built.blocked((ids, hparams)))
        for number in range(1 + ROUNDS):
            members = jax.block_until_ready(built.init(begin, root, params))
            distributed.exchange(number)
            cpu, wall = time.process_time(), time.perf_counter()
            members = built.run(members, params, np.int32(0), np.int32(UPDATES))
            jax.block_until_ready(members)
            row = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
            total_tokens = int(distributed.local(members.oracle.ledger.tokens).sum())
            print(json.dumps({**row, "checksum": total_tokens}), flush=True)


def bind(cores: list[int]) -> Callable[[], None]:
    """Returns what binds the calling process to ``cores``."""
    return lambda: os.sched_setaffinity(0, cores)


def measure(how: str, controllers: int) -> dict[str, Any]:
    """Returns milliseconds of CPU a controller-update of all processes of ``how``."""
    (total, bound), every = WAYS[how], sorted(os.sched_getaffinity(0))
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", str(i), str(total), address,
             "--controllers", str(controllers)],
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(harness.ROOT)},
            preexec_fn=bind(every[i % len(every) :][:1] if bound else every),
        )
        for i in range(total)
    ]  # fmt: skip
    texts = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"A process of {total} failed.")
    rounds = zip(*(map(json.loads, text.splitlines()) for text in texts), strict=True)
    _, *rows = rounds
    units = controllers * UPDATES / 1e3
    cpu = [sum(part["cpu_s"] for part in row) / units for row in rows]
    wall = [max(part["wall_s"] for part in row) / units for row in rows]
    return {
        "how": how,
        "controllers": controllers,
        "cpu_ms": cpu,
        "wall_ms": wall,
        "checksum": sum(part["checksum"] for part in rows[0]),
    }


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("--controllers", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        me, total, address = args.work
        work(int(me), int(total), address, args.controllers)
        return
    load = os.getloadavg()[0]
    found = [measure(how, args.controllers) for _ in range(args.turns) for how in WAYS]
    if len({row["checksum"] for row in found}) > 1:
        raise SystemExit("One and two processes did not ask for the same architectures.")
    lines, medians = [], {}
    for how in WAYS:
        every = {
            name: [x for row in found if row["how"] == how for x in row[name]]
            for name in ("cpu_ms", "wall_ms")
        }
        medians[how] = statistics.median(every["cpu_ms"])
        spread = f"{min(every['cpu_ms']):.4f} to {max(every['cpu_ms']):.4f}"
        wall = statistics.median(every["wall_ms"])
        lines.append([how, f"{medians[how]:.4f} ({spread})", f"{wall:.4f}"])
    facts = {**harness.provenance(), "load": round(load, 2)}
    one, *two = WAYS
    shares = [f"{how.split(', ')[1]} {medians[one] / medians[how]:.2f}" for how in two]
    text = (
        f"# One process against two\n\n{facts['device']}, {facts['cores']} cores, commit "
        f"{facts['commit']}, {facts['date']} UTC, load average before {facts['load']}.\n"
        f"Token REINFORCE, {args.controllers} controllers on two CPU devices; milliseconds "
        f"a controller-update over {args.turns} x {ROUNDS} rounds in turns, the same "
        "architectures asked for in each.\n\n"
        + harness.markdown(["processes", "CPU: median (range)", "wall"], lines)
        + "\nRate a core of two processes over one: "
        + f"{', '.join(shares)} (target {TARGET}).\n\n"
        "Made by `python benchmarks/processes.py`.\n"
    )
    harness.write("processes", {"rows": found, **facts}, text)


if __name__ == "__main__":
    main()
