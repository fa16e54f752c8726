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
            f"{step} controllers in a block need {step * bytes_each * COPIES / 1e9:.1f} GB "
            f"and {free / 1e9:.1f} GB are free; choose a smaller --width, batch or budget."
        )
    return fit // step * step


def check_results(count: int, bytes_each: int) -> None:
    """Raises where the raw arrays that a run returns cannot be held in memory.

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
