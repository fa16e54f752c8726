"""Runs workers against each other and writes what came out.

Every contender is a process of its own, pinned to one core (the same for all, since they
never run at once), prepared before anything is timed. Then they take turns, A B C A B C
..., so that a slow minute of the machine hits all alike. What is reported is CPU seconds of
the process per unit of work: median over the rounds, with minimum and maximum.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
ROUNDS = 7
CHANGES = "+changes"
ALLOWED = "JAXNAS_BENCH_ALLOW_DIRTY"
"""Set by ``--allow-dirty``, for the processes that a benchmark starts."""
XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false"
"""The default thread pool has been seen to hang; see hang.py. All JAX workers get this."""
ROW_FIELDS = (
    "name", "label", "unit", "units", "rounds", "ms_median", "ms_min", "ms_max",
    "wall_ms_median", "prepare_wall_s", "prepare_cpu_s", "checksums", "facts", "command",
    "pinned_to", "device", "cores", "commit", "date", "load",
)  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """One worker: its label in tables, what interpreter runs which script how."""

    label: str
    script: str
    options: tuple[str, ...] = ()
    peer: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    root: Path = ROOT
    """The checkout whose worker and package are run."""

    def command(self) -> list[str]:
        """Returns the command line."""
        python = peer_python() if self.peer else sys.executable
        return [
            python,
            "-W",
            "ignore",
            str(self.root / "benchmarks" / self.script),
            *self.options,
        ]

    def shown(self) -> str:
        """Returns the command as a reader would type it from the repository's root."""
        python = ".venv-peers/bin/python" if self.peer else "python"
        return " ".join([python, f"benchmarks/{self.script}", *self.options])


def peer_python() -> str:
    """Returns the interpreter of the peers' virtual environment."""
    venv = Path(os.environ.get("JAXNAS_PEERS_VENV", ROOT / ".venv-peers"))
    python = venv / "bin" / "python"
    if not python.exists():
        raise SystemExit(
            f"There is no peers' environment at {venv}; make it with "
            "benchmarks/peers/setup.sh, or point JAXNAS_PEERS_VENV at one."
        )
    return str(python)


class Worker:
    """A running contender."""

    def __init__(self, contender: Contender, cores: set[int]) -> None:
        self.contender = contender
        environment = {**os.environ, "XLA_FLAGS": XLA_FLAGS, **contender.environment}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(contender.root), str(contender.root / "benchmarks/peers")]
        )
        self.process = subprocess.Popen(
            contender.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self.ready = self._row()
        self.rows: list[dict[str, float]] = []

    def turn(self) -> None:
        """Times the region once."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.rows.append(self._row())

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _row(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.contender.shown()} ended with {self.process.wait()}.")


def interleave(
    contenders: Sequence[Contender], rounds: int = ROUNDS, *, pinned: bool = True
) -> list[dict[str, Any]]:
    """Returns one row a contender, measured in turns, on one core unless not ``pinned``."""
    every = os.sched_getaffinity(0)
    cores = {max(every)} if pinned else every
    load = os.getloadavg()[0]
    workers: list[Worker] = []
    try:
        for contender in contenders:
            workers.append(Worker(contender, cores))
            print(f"  ready: {contender.label}", file=sys.stderr, flush=True)
        for _ in range(rounds):
            for worker in workers:
                worker.turn()
    finally:
        for worker in workers:
            worker.close()
    where = {**provenance(), "pinned_to": sorted(cores), "load": round(load, 2)}
    return [summarise(w.contender, w.ready, w.rows) | where for w in workers]


def summarise(
    contender: Contender, ready: dict[str, Any], rows: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Returns the row of one contender, milliseconds of CPU per unit."""
    units = ready["units"]
    cpu = [1e3 * row["cpu_s"] / units for row in rows]
    wall = [1e3 * row["wall_s"] / units for row in rows]
    return {
        "name": ready["ready"],
        "label": contender.label,
        "unit": ready["unit"],
        "units": units,
        "rounds": len(rows),
        "ms_median": statistics.median(cpu),
        "ms_min": min(cpu),
        "ms_max": max(cpu),
        "wall_ms_median": statistics.median(wall),
        "prepare_wall_s": ready["prepare_wall_s"],
        "prepare_cpu_s": ready["prepare_cpu_s"],
        "checksums": [row["checksum"] for row in rows],
        "facts": ready["facts"],
        "command": contender.shown(),
    }


class Parser(argparse.ArgumentParser):
    """Options of a benchmark; ends it where the code is not what a commit holds."""

    def __init__(self, text: str | None) -> None:
        super().__init__(description=text)
        self.add_argument(
            "--allow-dirty",
            action="store_true",
            help="run with uncommitted changes; every row is marked +changes",
        )

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the options, and says no to uncommitted code unless it is allowed."""
        options = super().parse_args(*args, **kwargs)
        if options.allow_dirty or getattr(options, "dry_run", False):
            os.environ[ALLOWED] = "1"
        elif commit().endswith(CHANGES) and ALLOWED not in os.environ:
            self.error(
                "the code has uncommitted changes, so nobody could run this again; commit "
                f"them, or give --allow-dirty to mark every row {CHANGES}"
            )
        return options


def commit() -> str:
    """Returns the commit of the code, ``+changes`` behind it where they are uncommitted."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True)
    if head.returncode:
        return f"unknown{CHANGES}"
    paths = ["jaxnas", "benchmarks/*.py"]
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", *paths], capture_output=True
    )
    return head.stdout.decode().strip() + (CHANGES if changed.stdout.strip() else "")


def provenance() -> dict[str, Any]:
    """Returns where and when: device, cores, commit, date."""
    return {
        "device": _cpu_name(),
        "cores": os.cpu_count(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def _cpu_name() -> str:
    """Returns the processor's name, with family and model where Linux tells."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    facts = dict(
        (part.strip() for part in line.split(":", 1))
        for line in info.read_text().splitlines()
        if ":" in line
    )
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts.get('cpu family')}, model {facts.get('model')})"


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write(name: str, document: dict[str, Any], text: str) -> None:
    """Writes ``results/name.json`` and ``results/name.md`` and prints the text."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(text)
    print(text)
