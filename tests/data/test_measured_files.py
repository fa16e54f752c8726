"""Files of measurements: whole, and consistent with themselves."""

import numpy as np
import pytest

from jaxnas.data.tables import measured_files as mf
from jaxnas.oracles.analog import LABELS

TABLES = {"digits-cells": 1_218, "fashion-cells": 1_218, "digits-resnets": 354}
"""Name of a table -> trained networks."""


@pytest.mark.parametrize("name", TABLES)
def test_metrics_are_those_of_the_chips_and_curves(name):
    arrays = mf.read(name)
    chips = arrays["chips"].astype(np.float64)
    assert chips.shape == (TABLES[name], 10, 4)
    for i, label in enumerate(LABELS):
        mean, sd = (arrays[f"metric:{label}{end}"] for end in ("", "_sd"))
        np.testing.assert_allclose(chips[:, :, i].mean(1), mean, rtol=1e-5)
        np.testing.assert_allclose(chips[:, :, i].std(1, ddof=1), sd, atol=1e-4)
    last = arrays["curve:val_accuracy"][:, -1] * 100
    np.testing.assert_allclose(last, arrays["metric:digital"], rtol=1e-5)
    assert all(np.isfinite(a).all() for a in arrays.values())
    month, minute = arrays["metric:analog_1month"], arrays["metric:analog_1min"]
    assert (month < minute).mean() > 0.9
