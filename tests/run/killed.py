"""Run in a process of its own: ``killed.py CASE MOMENT FOLDER`` works until a SIGKILL.

MOMENT is ``never``; ``tick:N``, the N-th of the moments around appended rows, checkpoints,
renamed files and progress events; ``seconds:T`` after the first of them; or the name of
one, such as ``after-save:2``. The last line printed says how many there were, and how long
they took.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import methods

import jaxnas
from jaxnas.run import checkpoint, store, waves


class Killer:
    """Counts moments and dies at one of them."""

    def __init__(self, moment):
        self.name, _, number = moment.partition(":")
        self.left = float(number or 1)
        self.ticks, self.start = 0, 0.0

    def tick(self, name):
        self.ticks += 1
        if self.ticks == 1:
            self.start = time.perf_counter()
            if self.name == "seconds":
                threading.Timer(self.left, die).start()
        if self.name in ("tick", name):
            self.left -= 1
            if self.left == 0:
                die()

    def around(self, owner, attribute, name):
        inner = getattr(owner, attribute)

        def wrapped(*args, **kwargs):
            self.tick("before-" + name)
            result = inner(*args, **kwargs)
            self.tick("after-" + name)
            return result

        setattr(owner, attribute, wrapped)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def search(name, out, killer):
    """A method on the toy oracle."""
    folder = out.parent / "latent"
    folder.mkdir(exist_ok=True)
    algo = methods.make(name, folder)
    jaxnas.search(
        algo, jaxnas.make_oracle("toy", space=methods.SPACE), budget=20, seeds=4,
        max_proposals=40, chunk=3, out=out,
        callbacks=[lambda event: killer.tick("callback")],
    )  # fmt: skip


def child(out, killer):
    """Networks that are trained by two worker processes, and a store of measurements."""
    from jaxnas.oracles.child import ChildOracle
    from jaxnas.run.host.processes import Processes
    from jaxnas.testing.tiny import TinyNets

    oracle = ChildOracle(TinyNets(), epochs=1, limit=100)
    algo = jaxnas.make_algorithm("evolution", space=oracle.space, batch=1)
    with Processes(2) as workers:
        jaxnas.search(
            algo, oracle, budget=5, seeds=2, max_proposals=12, chunk=1, out=out,
            executor=workers, store=out.with_suffix(".sqlite"),
            callbacks=[lambda event: killer.tick("callback")],
        )  # fmt: skip


def command(*words):
    """A command of the command line, which must succeed."""
    from jaxnas.cli import main

    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        if stop.code:
            raise


def sweep(out):
    command(
        "sweep", "--oracle", "toy", "--objective", "score", "--algorithm", "reinforce",
        "--grid", "lr=0.01,0.1", "hidden=8,16", "--seeds", "2", "--budget", "16",
        "--max-proposals", "32", "--quiet", "--out", out.parent, "--name", out.name,
    )  # fmt: skip


def validate(out):
    """A short search, and its best two on simulated chips."""
    command(
        "search", "--oracle", "analog-nasbench", "--algorithms", "random", "--budget", "10",
        "--seeds", "1", "--quiet", "--out", out.parent, "--name", out.name,
    )  # fmt: skip
    command(
        "validate", out, "--top", "2", "--epochs", "1", "--hwa-epochs", "1",
        "--repetitions", "2", "--draws", "2", "--size", "channels:2,cells:1", "--workers",
        "1",
    )  # fmt: skip


if __name__ == "__main__":
    case, moment, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    waves.CHECKPOINT_EVERY_S = 0.0
    killer = Killer(moment)
    killer.around(store.RunDirectory, "append_row", "append")
    killer.around(checkpoint.Checkpoints, "save", "save")
    killer.around(os, "rename", "rename")
    killer.around(os, "replace", "replace")
    if case in ("sweep", "validate"):
        {"sweep": sweep, "validate": validate}[case](folder)
    elif case == "child":
        child(folder, killer)
    else:
        search(case, folder, killer)
    print(killer.ticks, time.perf_counter() - killer.start, flush=True)
