"""Goodness of fit for tests that draw at random with fixed keys."""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import chdtr, chdtrc

P_MIN = 1e-4
"""Two-sided level below which a single check fails."""


def chi_square_p(
    observed: Int[np.ndarray, "n"], probabilities: Float[np.ndarray, "n"]
) -> float:
    """Returns the two-sided p-value of counts against exact probabilities.

        X = sum_i (O_i - E_i)^2 / E_i,   p = 2 min(P(chi2 >= X), P(chi2 <= X))

    Two-sided, because counts that fit too well were not drawn independently either. Cells
    with fewer than 5 expected counts are pooled into one.

    Raises:
        ValueError: probabilities that do not sum to one, or fewer than two cells.
    """
    if abs(probabilities.sum() - 1.0) > 1e-6 or probabilities.min() < 0:
        raise ValueError(f"probabilities must sum to one, got {probabilities.sum()}")
    if observed[probabilities == 0].sum() > 0:
        return 0.0  # something impossible was drawn
    expected = probabilities * observed.sum()
    large = expected >= 5
    counts = np.append(observed[large], observed[~large].sum())
    wanted = np.append(expected[large], expected[~large].sum())
    counts, wanted = counts[wanted > 0], wanted[wanted > 0]
    if len(counts) < 2:
        raise ValueError("at least two cells with expected counts are needed")
    statistic = float(np.sum((counts - wanted) ** 2 / wanted))
    freedom = len(counts) - 1
    tails = chdtrc(freedom, statistic), chdtr(freedom, statistic)
    return float(min(1.0, 2 * min(tails)))
