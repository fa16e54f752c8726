"""The p-value that every sampling test relies on."""

import numpy as np
import pytest

from jaxnas.testing.stats import chi_square_p


def test_p_values_are_uniform_under_the_claim():
    """Of 2,000 fair draws about 5 % fall below 0.05; too good a fit is refused."""
    generator = np.random.default_rng(0)
    shares = np.array([0.5, 0.2, 0.2, 0.05, 0.05])
    p = [chi_square_p(generator.multinomial(2_000, shares), shares) for _ in range(2_000)]
    # Binomial standard error of the share: 0.0049; four of them.
    assert abs(np.mean(np.array(p) < 0.05) - 0.05) < 0.02
    assert chi_square_p((shares * 2_000_000).astype(int), shares) < 1e-4


def test_known_value():
    """(60 - 50)^2 / 50 * 2 = 4 with one degree of freedom: upper tail erfc(sqrt 2)."""
    p = chi_square_p(np.array([60, 40]), np.array([0.5, 0.5]))
    assert p == pytest.approx(2 * 0.04550026, rel=1e-6)


def test_impossible_draws_and_bad_claims_are_caught():
    assert chi_square_p(np.array([50, 50, 1]), np.array([0.5, 0.5, 0.0])) == 0.0
    with pytest.raises(ValueError, match="sum to one"):
        chi_square_p(np.array([1, 2]), np.array([0.5, 0.6]))
    with pytest.raises(ValueError, match="two cells"):
        chi_square_p(np.array([3, 3]), np.array([0.5, 0.5]))
