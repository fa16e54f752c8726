"""Several processes: refusals, rows, and runs killed and resumed to the same bits."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.report.read.load import read_run
from jaxnas.run import distributed, store

CHILD = """
import os, signal, sys
import jaxnas
from jaxnas.run import distributed, waves
waves.CHECKPOINT_EVERY_S = 0.0
out, address, me, total, die, budget, oracle = sys.argv[1:]
distributed.SILENT_S = 10.0
saves = [0]
inner = waves._save

def save(*args):
    inner(*args)
    saves[0] += 1
    if saves[0] == int(die):
        os.kill(os.getpid(), signal.SIGKILL)

waves._save = save
jaxnas.configure_host(2 if total == "1" else 1)
place = (address, int(me), int(total)) if total != "1" else (None,)
try:
    with distributed.joined(*place, wait_s=60.0):
        space = jaxnas.make_space("toy")
        made = jaxnas.make_oracle(oracle, space=space)
        algo = jaxnas.make_algorithm("reinforce", space=space, batch=2)
        jaxnas.search(algo, made, budget=int(budget), seeds=7, max_proposals=30, chunk=3,
                      width=2, out=out, callbacks=[lambda event: None])
except jaxnas.UserError as error:
    sys.exit(str(error))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def run(out, total, die=(0, 0), budgets=(12, 12), oracle="toy"):
    """Returns exit code and stderr of each process of one run."""
    address = f"localhost:{free_port()}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(out), address, str(i), str(total),
             str(die[i]), str(budgets[i]), oracle],
            stderr=subprocess.PIPE, text=True, env=os.environ,
        )
        for i in range(total)
    ]  # fmt: skip
    try:
        texts = [process.communicate(timeout=400)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(p.returncode, text) for p, text in zip(started, texts, strict=True)]


def assert_same(one, two):
    for name in ("results.npz", "archive.npz"):
        want, got = dict(np.load(one / name)), dict(np.load(two / name))
        assert want.keys() == got.keys()
        for key, array in want.items():
            np.testing.assert_array_equal(got[key], array, err_msg=key)


@pytest.mark.slow
def test_two_processes_killed_and_resumed_have_the_bits_of_one(tmp_path):
    whole, pair = tmp_path / "one", tmp_path / "two"
    assert [code for code, _ in run(whole, 1)] == [0]
    for victim in (1, 0):
        found = run(pair, 2, die=[2 if i == victim else 0 for i in (0, 1)])
        assert found[victim][0] == -9
        code, text = found[1 - victim]
        assert code == 1, text
        assert f"Process {victim} has not been heard of" in text
        assert len(text.splitlines()) == 1, text
        assert not (pair / "results.npz").exists()
    assert [code for code, _ in run(pair, 2)] == [0, 0]
    assert_same(whole, pair)
    one, two = read_run(whole), read_run(pair)
    assert (pair / "rows.1.jsonl").exists()
    assert [r["queries"] for r in one.rows] == [r["queries"] for r in two.rows]
    assert {r["controllers"] for r in two.rows} == {7}


@pytest.mark.slow
def test_another_number_of_processes_resumes_to_the_same_bits(tmp_path):
    whole = tmp_path / "whole"
    run(whole, 1)
    for begins, resumes in ((2, 1), (1, 2)):
        out = tmp_path / f"{begins} then {resumes}"
        last = begins - 1
        found = run(out, begins, die=[2 if i == last else 0 for i in range(begins)])
        assert found[last][0] == -9
        assert not (out / "results.npz").exists()
        assert [code for code, _ in run(out, resumes)] == [0] * resumes
        assert_same(whole, out)
        queries = [[r["queries"] for r in read_run(path).rows] for path in (whole, out)]
        assert queries[0] == queries[1]


@pytest.mark.slow
def test_processes_with_other_options_are_refused_together(tmp_path):
    found = run(tmp_path / "run", 2, budgets=(12, 11))
    for code, text in found:
        assert code == 1
        assert "Process 1 was started with other options than process 0: budget" in text


@pytest.mark.slow
def test_a_missing_process_is_one_sentence_after_the_wait():
    code = (
        "from jaxnas.run import distributed\n"
        f"with distributed.joined('localhost:{free_port()}', 1, 2, wait_s=1.0): pass"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 2
    assert "2 processes did not all meet at localhost" in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("localhost:1", 2, 2), "must be 0 to 1"),
        (("localhost:1", -1, 2), "must be 0 to 1"),
        (("localhost:1", None, 2), "needs --process I"),
        (("localhost", 0, 2), "HOST:PORT or auto"),
        (("auto", 0, 2), "finds --process and --processes itself"),
        ((None, 0, 2), "need --coordinator"),
    ],
)
def test_a_place_that_makes_no_sense_is_refused(place, said):
    with pytest.raises(UserError, match=said), distributed.joined(*place):
        pass


def test_auto_without_a_cluster_says_what_to_give(monkeypatch):
    for name in os.environ:
        if name.startswith(("SLURM", "OMPI", "JAX_COORDINATOR", "TPU", "KUBERNETES")):
            monkeypatch.delenv(name)
    with pytest.raises(UserError, match="--coordinator HOST:PORT"):
        distributed._place("auto", None, None)


def test_auto_takes_what_slurm_has_set(monkeypatch):
    values = {"JOB_ID": 7, "STEP_NODELIST": "node[3-4]", "NTASKS": 2, "PROCID": 1}
    for name, value in {**values, "LOCALID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    address, me, total, _ = distributed._place("auto", None, None)
    assert (address.split(":")[0], me, total) == ("node3", 1, 2)


def test_one_process_agrees_with_itself():
    distributed.same({"budget": 3})
    assert distributed.exchange([1.5, None]) == [[1.5, None]]
    assert distributed.first(lambda: 3) == 3
    np.testing.assert_array_equal(distributed.local(np.arange(3)), np.arange(3))


ROW = {
    "update": 3, "wave": 0, "controllers": 3, "proposals": 6, "queries": 5,
    "best_mean": 2.0, "best_max": 4.0, "finished": 0.0, "spent": 0.0,
    "queries_per_s": 5.0, "wall_s": 1.0, "entropy": None, "unique": 1.0, "collapsed": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(("upward", "best"), [(True, 8.0), (False, 4.0)])
def test_rows_of_two_processes_are_the_row_of_all(upward, best):
    other = {**ROW, "controllers": 1, "best_mean": 6.0, "best_max": 8.0, "wall_s": 2.0}
    whole = store.join_rows([ROW, {**other, "entropy": 0.5}], upward=upward)
    assert (whole["controllers"], whole["queries"], whole["proposals"]) == (4, 10, 12)
    assert (whole["best_mean"], whole["best_max"]) == (3.0, best)
    assert (whole["entropy"], whole["queries_per_s"]) == (0.5, 5.0)


def test_rows_after_a_checkpoint_are_dropped_in_every_file(tmp_path):
    directory = store.RunDirectory(tmp_path / "run")
    line = json.dumps(ROW) + "\n"
    for name in ("rows.jsonl", "rows.1.jsonl", "rows.2.jsonl"):
        (directory.path / name).write_text(line * 3)
    assert directory.row_lengths() == [3 * len(line)] * 3
    assert directory.truncate_rows([2 * len(line), len(line)]) == 2 * len(line)
    assert directory.row_lengths() == [2 * len(line), len(line), 0]
    directory.close()


def test_a_coordinator_whose_port_is_taken_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "LINGER_S", (0, 0))
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        place = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match="choose a free one"):
            distributed._serve(place, 2)
