"""Two samples compared, defined also where a sample is constant; NumPy and scipy.special.

Repeated measurements tie: accuracies on a thousand images are multiples of 0.001. scipy's
tests then warn or answer NaN. Here the answer is a number, or None for "no test".
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special


class Welch(NamedTuple):
    """A difference of two means under unequal variances."""

    difference: float
    """``mean(x) - mean(y)``."""
    error: float
    """Standard error of the difference; 0 where both samples are constant."""
    degrees: float
    """Degrees of freedom by Satterthwaite's formula; infinite where ``error`` is 0."""


def variance(x: Float[np.ndarray, "n"]) -> float:
    """Returns the unbiased variance of two or more values, exactly 0 where all equal."""
    return 0.0 if np.ptp(x) == 0 else float(np.var(x, ddof=1, dtype=np.float64))


def welch(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "m"]) -> Welch:
    """Returns the difference of the means with its standard error, ``n, m >= 2``.

    Reference: Welch 1947; Satterthwaite 1946.
    """
    difference = float(np.mean(x, dtype=np.float64) - np.mean(y, dtype=np.float64))
    vx, vy = variance(x) / len(x), variance(y) / len(y)
    if vx + vy == 0:
        return Welch(difference, 0.0, np.inf)
    share_x, share_y = vx / (vx + vy), vy / (vx + vy)
    degrees = 1 / (share_x**2 / (len(x) - 1) + share_y**2 / (len(y) - 1))
    return Welch(difference, float(np.sqrt(vx + vy)), float(degrees))


def welch_p(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "m"]) -> float | None:
    """Returns the two-sided p of equal means, or None where there is no test.

    There is none with fewer than two values in a sample, with a value that is not finite,
    or where both samples are constant: nothing then tells how far a mean may be off.
    """
    if min(len(x), len(y)) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    found = welch(x, y)
    if found.error == 0:
        return None
    return float(2 * special.stdtr(found.degrees, -abs(found.difference) / found.error))
