"""``kill -9`` at any moment of a run: what follows is the run that was never killed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

CHILD = """
import os, signal, sys
import jaxnas
from jaxnas.run import checkpoint, store, waves
waves.CHECKPOINT_EVERY_S = 0.0
moment, count, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
left = [count]

def die_at(name):
    if name == moment:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

def around(owner, attribute, name):
    inner = getattr(owner, attribute)
    def wrapped(*args, **kwargs):
        die_at("before-" + name)
        result = inner(*args, **kwargs)
        die_at("after-" + name)
        return result
    setattr(owner, attribute, wrapped)

around(store.RunDirectory, "append_row", "append")
around(checkpoint.Checkpoints, "save", "save")
around(os, "rename", "rename")
around(os, "replace", "replace")
space = jaxnas.make_space("toy")
oracle = jaxnas.make_oracle("toy", space=space)
algo = jaxnas.make_algorithm("evolution", space=space, batch=2)
jaxnas.search(algo, oracle, budget=20, seeds=4, max_proposals=40, chunk=3, out=out,
              callbacks=[lambda event: die_at("callback")])
"""


def child(moment, count, out):
    args = [sys.executable, "-c", CHILD, moment, str(count), str(out)]
    return subprocess.run(args, capture_output=True, timeout=300, env=os.environ)


@pytest.mark.slow
def test_killed_anywhere_resumes_to_the_same_bits(tmp_path):
    whole = child("never", 1, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    want = dict(np.load(tmp_path / "whole/results.npz"))
    moments = [
        ("after-append", 1),
        ("before-save", 2),
        ("before-rename", 2),
        ("after-rename", 2),
        ("after-save", 2),
        ("callback", 3),
        ("before-replace", 3),
        ("after-replace", 2),
        ("after-replace", 4),
    ]
    out = tmp_path / "killed"
    kills = 0
    for moment, count in moments:
        kills += child(moment, count, out).returncode == -9
    assert kills >= len(moments) - 2, "the moments are really reached"
    assert child("never", 1, out).returncode == 0
    got = dict(np.load(out / "results.npz"))
    assert got.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)
    rows = [
        json.loads(line)["update"]
        for line in (out / "rows.jsonl").read_text().split("\n")[:-1]
    ]
    assert rows == sorted(set(rows))
