"""Shared settings of the suite: quick compilation, clean trace counters."""

import os
from pathlib import Path

# Tests run tiny shapes: compiling is what they cost, so LLVM leaves costly passes out.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true",
)

import chex
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "allow")
jax.config.update("jax_numpy_dtype_promotion", "standard")


@pytest.fixture(autouse=True)
def clean_trace_counters():
    """Clears chex's trace counters, which are keyed by definition site."""
    chex.clear_trace_counter()


@pytest.fixture(autouse=True, scope="module")
def drop_compiled_programs():
    """Frees what a file compiled: a few gigabytes over the whole suite."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def shared_folder():
    """Reference files beside the checkout; skips, saying so, where they are absent."""
    beside = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("JAXNAS_SHARED", beside)) / "data"
    if not folder.is_dir():
        pytest.skip("the reference data folder is not beside this checkout")
    return folder
