"""The benchmark of boosted trees: both sides do the same work, and ratios are ratios."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports a benchmark module by name, its folders being on the path for one test."""
    pytest.importorskip("xgboost")
    for folder in ("", "peers", "ours"):
        monkeypatch.syspath_prepend(str(BENCHMARKS / folder))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCHMARKS)):
            del sys.modules[name]


def test_ratios_are_of_medians_and_of_extremes(load):
    slow = {"ms_median": 4.0, "ms_min": 3.0, "ms_max": 6.0}
    fast = {"ms_median": 2.0, "ms_min": 1.0, "ms_max": 3.0}
    assert load("trees").ratios(slow, fast) == "2.00 (1.00 to 6.00)"


def test_both_sides_predict_the_same_and_climb(load):
    models, ours, theirs = load("tree_models"), load("tree_rows"), load("xgboost_rows")
    name = "fitted-100x6"
    booster, x = models.booster(name), models.rows(name, 64)
    params = ours.compile_trees(models.read_ours(name))
    mine = ours.batch(params, x, 2).run(None)
    other = theirs.batch(booster, x, 2).run(None)
    assert mine == other
    begin = float(np.mean(booster.inplace_predict(x)))
    most = models.most(name)
    for climb in (
        ours.climb(params, ours.jnp.asarray(x), ours.jnp.asarray(most), 20),
        theirs.climb(booster, x, most, 20),
    ):
        assert climb.run(None) > begin
