"""``kill -9`` at any moment of a run: what follows is the run that was never killed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxnas import registry

SCRIPT = Path(__file__).with_name("killed.py")
SEED = 20261129
"""Of the random moments."""
TIMES = {"seconds", "compile_s", "run_s", "cost", "aihwkit_cpu_s", "simulator_cpu_s"}
"""Names of what is measured with a clock."""


def work(case, moment, out, cache):
    """Runs :mod:`killed`; its processes share what they compile."""
    shared = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, str(SCRIPT), case, moment, str(out)]
    environment = {**os.environ, **shared}
    return subprocess.run(command, capture_output=True, timeout=900, env=environment)


def assert_same_arrays(want, got):
    """Every ``results.npz`` of two folders holds the same bits."""
    files = sorted(path.relative_to(want) for path in want.rglob("results.npz"))
    assert files
    for file in files:
        a, b = dict(np.load(want / file)), dict(np.load(got / file))
        assert a.keys() == b.keys()
        for name in a.keys() - TIMES:
            np.testing.assert_array_equal(b[name], a[name], err_msg=f"{file}: {name}")


def assert_rows_in_order(folder):
    for path in folder.rglob("rows.jsonl"):
        rows = [json.loads(line)["update"] for line in path.read_text().split("\n")[:-1]]
        assert rows == sorted(set(rows)), path


@pytest.mark.slow
def test_killed_anywhere_resumes_to_the_same_bits(tmp_path):
    cache = tmp_path / "cache"
    whole = work("evolution", "never", tmp_path / "whole", cache)
    assert whole.returncode == 0, whole.stderr
    moments = [
        "after-append:1", "before-save:2", "before-rename:2", "after-rename:2",
        "after-save:2", "callback:3", "before-replace:3", "after-replace:2",
        "after-replace:4",
    ]  # fmt: skip
    out = tmp_path / "killed"
    kills = sum(work("evolution", m, out, cache).returncode == -9 for m in moments)
    assert kills >= len(moments) - 2, "the moments are really reached"
    assert work("evolution", "never", out, cache).returncode == 0
    assert_same_arrays(tmp_path / "whole", out)
    assert_rows_in_order(out)


def without_times(value):
    """The same JSON without what a clock measured."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def cases():
    for name in [*registry.names("algorithm"), "child", "sweep", "validate"]:
        marks = [pytest.mark.slow]
        if name == "validate":
            lacking = importlib.util.find_spec("aihwkit") is None
            marks.append(pytest.mark.skipif(lacking, reason="aihwkit is not installed"))
        yield pytest.param(name, marks=marks)


@pytest.mark.parametrize("case", list(cases()))
def test_killed_at_random_moments_resumes_to_the_same_bits(case, tmp_path):
    """Twice at one of the moments around its files, once at any time in between."""
    cache, want, out = (tmp_path / name for name in ("cache", "whole", "killed"))
    whole = work(case, "never", want, cache)
    assert whole.returncode == 0, whole.stderr.decode()
    ticks, seconds = whole.stdout.split()[-2:]
    rng = np.random.default_rng([SEED, *case.encode()])
    first, second = rng.integers(1, int(ticks) // 2, 2, endpoint=True)
    assert work(case, f"tick:{first}", out, cache).returncode == -9
    after = rng.uniform(0.0, float(seconds))
    assert work(case, f"seconds:{after:.3f}", out, cache).returncode in (-9, 0)
    assert work(case, f"tick:{second}", out, cache).returncode in (-9, 0)
    last = work(case, "never", out, cache)
    assert last.returncode == 0, last.stderr.decode()
    assert_same_arrays(want, out)
    assert_rows_in_order(out)
    if case == "validate":
        a, b = (
            json.loads(next(p.rglob("validation.json")).read_text()) for p in (want, out)
        )
        assert without_times(a) == without_times(b)
