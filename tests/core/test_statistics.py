"""Welch's test against scipy, and the samples on which scipy warns or answers NaN."""

import numpy as np
import pytest
from scipy import stats as reference

from jaxnas.core import statistics

SAMPLES = {
    "chips": (np.array([0.91, 0.92, 0.90]), np.array([0.93, 0.90])),
    "one constant": (np.array([0.91, 0.91]), np.array([0.93, 0.90])),
    "unequal sizes": (np.linspace(0, 1, 25), np.linspace(0.2, 0.4, 7)),
    "single precision": (
        np.float32([0.981, 0.982, 0.981]),
        np.float32([0.981, 0.98, 0.979]),
    ),
}


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")
@pytest.mark.parametrize("name", SAMPLES)
def test_p_is_that_of_scipy(name):
    x, y = SAMPLES[name]
    wanted = reference.ttest_ind(x.astype(float), y.astype(float), equal_var=False)
    np.testing.assert_allclose(statistics.welch_p(x, y), wanted.pvalue, rtol=1e-9)
    np.testing.assert_allclose(statistics.welch(x, y).degrees, wanted.df, rtol=1e-9)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([0.9, 0.9], [0.9, 0.9]),
        ([0.9] * 7, [0.8] * 3),  # a mean of sevenths rounds: the variance must not
        ([0.9], [0.8, 0.7]),
        ([], [0.8, 0.7]),
        ([0.9, np.nan], [0.8, 0.7]),
    ],
)
def test_no_test_is_none_and_no_warning(x, y):
    assert statistics.welch_p(np.array(x), np.array(y)) is None
