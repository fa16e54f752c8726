"""How many controllers fit in memory, estimated before anything is allocated."""

import psutil

from jaxnas.core.errors import UserError

COPIES = 3.0
"""State, the copy that XLA may hold while it updates, and the one of a checkpoint."""
SHARE = 0.6
"""Share of the free memory that a run may plan with."""


def controllers_that_fit(count: int, bytes_each: int, step: int) -> int:
    """Returns how many controllers run together: all of them, or a multiple of ``step``.

    A population that does not fit runs in waves, one after the other, with the same result.

    Args:
        count: controllers wanted.
        bytes_each: state of one controller.
        step: controllers of one block on every device.

    Raises:
        UserError: not even one block on every device fits.
    """
    free = psutil.virtual_memory().available * SHARE
    fit = int(free / (COPIES * bytes_each))
    if fit >= count:
        return count
    if fit < step:
        raise UserError(
            f"One block of {step} controllers needs {step * bytes_each * COPIES / 1e9:.1f} GB "
            f"and {free / 1e9:.1f} GB are free; choose a smaller --width, batch or budget."
        )
    return fit // step * step
