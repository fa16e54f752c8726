"""How many controllers fit in memory, estimated before anything is allocated."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import psutil

from jaxnas.core.errors import UserError

COPIES = {"blocked": 3.0, "wide": 10.0}
"""Bytes that a controller takes over those of its state, by layout.

Blocked: the copy that XLA may hold while it updates, and the one of a checkpoint. Wide: the
activations of all at once; XLA's own count is 2.4 to 3.2 for token methods and 9.6 for
latent PPO.
"""
SHARE = 0.6
"""Share of the free memory that a run may plan with."""
ASSUMED = 8e9
"""Bytes of an accelerator that does not say how many it has."""


class Memory(NamedTuple):
    """Free memory that a population may be planned with, and where the number is from."""

    free: float
    """Bytes, all devices together."""
    source: str
    """``"host"``, ``"device"`` or ``"assumed"``."""

    def __str__(self) -> str:
        note = {
            "host": "of the host",
            "device": "as the devices report",
            "assumed": f"assumed, {ASSUMED / 1e9:.0f} GB a device: it does not report any",
        }
        return f"{self.free / 1e9:.1f} GB free, {note[self.source]}"


def free_memory(devices: Sequence[Any]) -> Memory:
    """Returns the free memory of devices: the host's for CPUs, else what they report."""
    if all(device.platform == "cpu" for device in devices):
        return Memory(float(psutil.virtual_memory().available), "host")
    stats = [device.memory_stats() or {} for device in devices]
    if all("bytes_limit" in found for found in stats):
        free = (s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats)
        return Memory(float(sum(free)), "device")
    return Memory(ASSUMED * len(devices), "assumed")


def peak_memory(devices: Sequence[Any]) -> str:
    """Returns the most memory that was in use, of the devices or of this process."""
    stats = [device.memory_stats() or {} for device in devices]
    if stats and all("peak_bytes_in_use" in found for found in stats):
        return f"{sum(s['peak_bytes_in_use'] for s in stats) / 1e9:.2f} GB on the devices"
    info = psutil.Process().memory_info()
    peak = getattr(info, "peak_wset", None) or _peak_of_process() or info.rss
    return f"{peak / 1e9:.2f} GB of this process"


def _peak_of_process() -> int | None:
    """Returns the largest resident size so far, bytes, where the system tells it."""
    try:
        import resource
    except ImportError:  # not on Windows, where psutil knows it
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def controllers_that_fit(count: int, bytes_each: float, step: int, free: float) -> int:
    """Returns how many controllers run together: all of them, or a multiple of ``step``.

    A population that does not fit runs in waves, one after the other, with the same result.
    ``count`` are wanted; ``bytes_each`` is a state times ``COPIES``; ``step`` are in one
    block on every device; ``free`` are the bytes of :func:`free_memory`.

    Raises:
        UserError: not even one block on every device fits.
    """
    fit = int(free * SHARE / bytes_each)
    if fit >= count:
        return count
    if fit < step:
        raise UserError(
            f"{step} controllers in a block need {step * bytes_each / 1e9:.1f} GB "
            f"and {free * SHARE / 1e9:.1f} GB may be used; choose a smaller --width, batch "
            "or budget."
        )
    return fit // step * step


def check_results(count: int, bytes_each: int) -> None:
    """Raises where the raw arrays that a run returns cannot be held in the host's memory.

    Raises:
        UserError: with the number of controllers that would fit.
    """
    free = psutil.virtual_memory().available * SHARE
    if count * bytes_each > free or count >= 2**31:
        raise UserError(
            f"The results of {count:,} controllers take {count * bytes_each / 1e9:,.1f} GB "
            f"and {free / 1e9:.1f} GB are free; choose fewer controllers (about "
            f"{min(int(free / bytes_each), 2**31 - 1):,} fit) or a smaller budget."
        )
