"""Several processes on one study, one of them killed in the middle."""

import os
import signal
import subprocess
import sys
import time

import jaxnas

WORKER = """
import sys, time
import jaxnas
path, log, budget = sys.argv[1], sys.argv[2], int(sys.argv[3])
study = jaxnas.Study.load(path)
while True:
    done = [t for t in study.trials if t.values is not None]
    if len(done) >= budget:
        break
    for trial in study.ask(1):
        value = float(sum(trial.tokens))
        time.sleep(0.02)
        with open(log, "a") as file:
            file.write(f"{trial.id}\\n")
        study.tell(trial, value)
"""


def test_two_processes_one_killed_nothing_lost_nothing_twice(tmp_path):
    """200 asks; kill -9 in the middle, most likely between an ask and its tell."""
    path, budget = tmp_path / "s.sqlite", 200
    jaxnas.Study(space="nb201", algorithm="evolution", path=path).close()
    start = lambda name: subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), str(tmp_path / name), str(budget)]
    )
    watch = jaxnas.Study.load(path)
    first, second = start("first"), start("second")
    told = lambda: [t for t in watch.trials if t.values is not None]
    until = time.monotonic() + 240
    while len(told()) < 80 and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(timeout=240) == 0
    done = told()
    # Nothing lost: all have values, those of the killed process were handed out again.
    assert len(done) >= budget
    assert all(t.values == {"score": float(sum(t.tokens))} for t in done)
    assert len(watch.trials) == len(done)
    # Nothing twice: no architecture has two trials, and only what the killed process had
    # evaluated and not told may have been evaluated again.
    assert len({t.tokens for t in done}) == len(done)
    lines = [(tmp_path / name).read_text().split() for name in ("first", "second")]
    again = set(lines[0]) & set(lines[1])
    assert len(again) <= 1
    assert all(len(set(part)) == len(part) for part in lines)
    assert len(lines[0]) > 10
    assert len(lines[1]) > 10


def test_stale_trials_of_any_machine_are_handed_out_again(tmp_path):
    study = jaxnas.Study(space="nb201", path=tmp_path / "s.sqlite")
    (first,) = study.ask()
    (other,) = study.ask()
    assert other.id != first.id
    again = study.ask(2, stale_after=0.0)
    assert {t.id for t in again} == {first.id, other.id}
