"""How the suite compiles, and where it keeps programs for workers and later runs."""

import hashlib
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

LARGEST = 10**9
"""Bytes after which the folder is emptied."""


def flags() -> str:
    """Returns XLA's flags for quick compilation, those that this jaxlib knows.

    An unknown one ends the process: jaxlib 0.12 has lost one that 0.10 has.
    """
    found = [
        "--xla_cpu_multi_thread_eigen=false",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
    if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
        found.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(found)


def folder() -> str:
    """Returns the folder for this kind of processor: a program is of one kind only."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    kind = sorted(
        {line for line in lines if line.startswith(("flags", "model", "Features"))}
    )
    named = hashlib.sha256("\n".join([platform.machine(), *kind]).encode()).hexdigest()[:12]
    found = Path(__file__).parents[1] / ".pytest_cache" / f"compiled-{named}"
    held = sum(file.stat().st_size for file in found.glob("*"))
    if held > LARGEST and "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(found)
    return str(found)
