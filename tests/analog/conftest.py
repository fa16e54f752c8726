"""How the analog tests ask IBM's toolkit."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def toolkit(tmp_path_factory):
    """Returns a function: list of (mode, arrays) -> list of arrays, from aihwkit itself."""
    for name in ("torch", "aihwkit"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed, so there is nothing to compare with")
    script = Path(__file__).with_name("toolkit.py")

    def ask(jobs, timeout=600):
        folder = tmp_path_factory.mktemp("toolkit")
        words = []
        for i, (mode, arrays) in enumerate(jobs):
            np.savez(folder / f"in{i}.npz", **arrays)
            words += [mode, str(folder / f"in{i}.npz"), str(folder / f"out{i}.npz")]
        done = subprocess.run(
            [sys.executable, str(script), *words],
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        results = []
        for i in range(len(jobs)):
            with np.load(folder / f"out{i}.npz") as file:
                results.append(dict(file))
        return results

    return ask
