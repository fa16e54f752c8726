"""The tables that we measured: whole, consistent with the networks, and repeatable."""

import functools

import numpy as np
import pytest

from jaxnas.children.count import count_costs
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.data.tables import measured_files as mf
from jaxnas.data.tables.measured_cells import TITLES
from jaxnas.oracles.analog import AnalogOracle
from jaxnas.oracles.table import digits_cells, fashion_cells
from jaxnas.registry import make_oracle
from jaxnas.spaces.nb201_residual import NB201Residual

NAMES = list(TITLES)
MAKERS = {"digits-cells": digits_cells, "fashion-cells": fashion_cells}
SPACE = NB201Residual(channels=8, cells=1, image=(8, 8, 1))
MEMBERS = tk.enumerate_space(SPACE)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_one_training_serves_exactly_the_cells_of_one_network(name):
    arrays = mf.read(name)
    trained, cell = arrays["tokens"], arrays["cell"]
    _, first = np.unique(SPACE.classes(), return_index=True)
    assert {tuple(r) for r in trained.tolist()} == {
        tuple(r) for r in MEMBERS[first].tolist()
    }
    np.testing.assert_array_equal(trained[cell], MEMBERS[first[SPACE.classes()]])


@functools.cache
def counted():
    """Every cell of each tenth network, and its costs counted from the whole spec."""
    chosen = np.flatnonzero(SPACE.classes() % 10 == 0)
    return chosen, [count_costs(SPACE.to_spec(MEMBERS[row])) for row in chosen]


def test_costs_are_those_of_the_network_without_dead_operations(name):
    """A cell's dead operations cost; some cell of every network has none."""
    (chosen, costs), columns = counted(), MAKERS[name]().columns()
    classes = SPACE.classes()[chosen]
    for column in ("params", "flops"):
        every = np.array([getattr(c, column) for c in costs], float)
        least = np.full(classes.max() + 1, np.inf)
        np.minimum.at(least, classes, every)
        np.testing.assert_array_equal(columns[column][chosen], least[classes])


def test_three_seeds_of_some_cells_give_the_spread(name):
    oracle = MAKERS[name]()
    seeds = oracle.per_seed()["digital"]
    complete = np.isfinite(seeds).all(axis=1)
    _, first = np.unique(SPACE.classes()[complete], return_index=True)
    pooled = seeds[complete][first].var(axis=1, ddof=1).mean() ** 0.5
    np.testing.assert_allclose(oracle.spreads()["digital"], pooled, rtol=1e-5)
    assert len(first) == 40
    np.testing.assert_array_equal(seeds[:, 0], oracle.columns()["digital"])
    assert not oracle.spreads()["params"].any()


def test_aliases_and_the_default_space(name):
    oracle = make_oracle(name, objective="val_accuracy,analog_1month")
    assert [item.name for item in oracle.objectives] == ["digital", "analog_1month"]
    assert oracle.space.id == "nb201-residual-v1"
    with pytest.raises(UserError, match="not of 'nb201-v1'"):
        make_oracle(name, space=make_oracle("analog-nasbench").space)


@pytest.mark.parametrize("damage", ["cut", "changed", "absent"])
def test_a_damaged_file_is_refused(tmp_path, monkeypatch, damage):
    """Cut, one number changed, or missing: one sentence that names the cure."""
    (tmp_path / "measured").mkdir()
    path = tmp_path / "measured" / "digits-cells.npz"
    arrays = dict(mf.read("digits-cells"))
    arrays["metric:digital"] = arrays["metric:digital"].copy()
    if damage == "changed":
        arrays["metric:digital"][7] += 0.5
    np.savez(path, **arrays)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-500])
    if damage == "absent":
        path.unlink()
    monkeypatch.setattr(mf.resources, "files", lambda package: tmp_path)
    with pytest.raises(UserError, match="missing or damaged; run: pip install"):
        mf.read("digits-cells")


@pytest.mark.slow
def test_training_again_gives_the_recorded_numbers():
    """Five random cells of the digits table, trained and measured here.

    On the machine that made the table the numbers are the same to the bit; another CPU may
    round otherwise, which acts like another seed. Within five times the recorded spread.
    """
    oracle = AnalogOracle(
        NB201Residual(), data="digits", size="channels:8,cells:1", epochs=10,
        hwa_epochs=3, draws=10, chip_images=400,
    )  # fmt: skip
    table = digits_cells()
    columns, spreads = table.columns(), table.spreads()
    for place in np.random.default_rng(1).choice(len(MEMBERS), 5, replace=False):
        first = np.flatnonzero(SPACE.classes() == SPACE.classes()[place])[0]
        again = oracle.measure(MEMBERS[first]).metrics
        for ours, theirs in (("digital", "val_accuracy"), ("analog_1min", "analog_1min")):
            gap = abs(again[theirs] - columns[ours][place])
            assert gap <= 5 * spreads[ours][place]
