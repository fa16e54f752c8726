"""The one place where the host's devices and XLA's CPU flags are set.

Two facts about XLA's CPU backend decide it. Its thread pool for matrix products only costs
time on products as small as a controller's, and vmapped PPO programs have been seen to hang
with it (all threads waiting), so it is switched off. Cores are used another way: each is
one JAX device, and the population is sharded over them, which needs no communication at
all.
"""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxnas.core.errors import UserError

MAX_HOST_DEVICES = 16


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def configure_host(workers: int | None = None) -> int:
    """Sets XLA's CPU flags and one CPU device a worker; call it before any JAX computation.

    Flags that the environment already names are left as they are.

    Args:
        workers: CPU devices; the cores that this process may use when None.

    Returns:
        The number of CPU devices asked for.

    Raises:
        UserError: fewer than one worker.
    """
    workers = min(cores(), MAX_HOST_DEVICES) if workers is None else workers
    if workers < 1:
        raise UserError(f"At least one worker is needed, got {workers}.")
    flags = os.environ.get("XLA_FLAGS", "").split()
    for name, value in (
        ("--xla_cpu_multi_thread_eigen", "false"),
        ("--xla_force_host_platform_device_count", str(workers)),
    ):
        if not any(flag.startswith(name) for flag in flags):
            flags.append(f"{name}={value}")
    os.environ["XLA_FLAGS"] = " ".join(flags)
    return workers


def worker_environment() -> dict[str, str]:
    """Returns the variables of a process that evaluates: one CPU device, as here otherwise.

    Several such processes share a machine, so none takes an accelerator's whole memory.
    """
    ours = ("--xla_cpu_multi_thread_eigen", "--xla_force_host_platform_device_count")
    flags = os.environ.get("XLA_FLAGS", "").split()
    flags = [flag for flag in flags if not flag.startswith(ours)]
    flags += [f"{ours[0]}=false", f"{ours[1]}=1"]
    preallocate = os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return {"XLA_FLAGS": " ".join(flags), "XLA_PYTHON_CLIENT_PREALLOCATE": preallocate}


def population_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Returns the mesh with the one axis ``"pop"``, over all processes' devices if None.

    Those of a process lie side by side, so that it holds a block of the controllers.
    """
    every = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(list(devices or every)), ("pop",))
