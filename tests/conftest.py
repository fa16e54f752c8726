"""Shared settings of the suite: quick compilation, clean trace counters."""

import os
from pathlib import Path

import compiled

# Tests run tiny shapes: compiling is what they cost. LLVM leaves costly passes out, and
# fusions are emitted the older way, without MLIR: a third of the time less, and results
# that differ by rounding only.
os.environ.setdefault("XLA_FLAGS", compiled.flags())

# Most programs are met in several files, and by the subprocesses that some tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled.folder())
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import chex
import jax
import psutil
import pytest

# The memory of a worker beyond which it forgets what it compiled for earlier files.
PROGRAMS = 3 * 2**30

jax.config.update("jax_numpy_rank_promotion", "allow")
jax.config.update("jax_numpy_dtype_promotion", "standard")


@pytest.fixture(autouse=True)
def clean_trace_counters():
    """Clears chex's trace counters, which are keyed by definition site."""
    chex.clear_trace_counter()


@pytest.fixture(autouse=True, scope="module")
def drop_compiled_programs():
    """Frees compiled programs between files, once they fill more than PROGRAMS bytes."""
    yield
    if psutil.Process().memory_info().rss > PROGRAMS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def shared_folder():
    """Reference files beside the checkout; skips, saying so, where they are absent."""
    beside = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("JAXNAS_SHARED", beside)) / "data"
    if not folder.is_dir():
        pytest.skip("the reference data folder is not beside this checkout")
    return folder
