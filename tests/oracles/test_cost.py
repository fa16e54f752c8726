"""Exact costs: all published sizes, closed forms, and shapes that cannot work."""

import copy

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.oracles.cost import CostOracle, cost_columns, count_costs
from jaxnas.oracles.table import nb201_table
from jaxnas.spaces.nb201 import NB201
from jaxnas.spaces.toy import Toy

SPACE = NB201()
EMPTY = np.ones(6, np.int32)


@pytest.mark.parametrize(
    ("name", "classes"), [("cifar10", 10), ("cifar100", 100), ("imagenet16-120", 120)]
)
def test_parameters_equal_the_published_sizes_in_every_row(name, classes):
    """All 15,625, exactly; the three networks differ in their last layer only."""
    ours = cost_columns(NB201(num_classes=classes))["params"]
    np.testing.assert_array_equal(ours, nb201_table().columns()[f"{name}_params"])


def test_flops_of_the_smallest_and_the_largest_network():
    """Published for CIFAR-10: 7.78305 M without any operation, 220.11969 M all conv 3x3."""
    assert count_costs(SPACE.to_spec(EMPTY)) == (73_306, 7_783_050)
    assert count_costs(SPACE.to_spec(np.full(6, 2))) == (1_531_546, 220_119_690)


def test_costs_by_hand():
    """Stem 16 x 27 + 32; reductions; norm 128; head 650; 9 c^2 + 2 c a conv 3x3."""
    widths = (16, 32, 64)
    base = 16 * 27 + 32 + 128 + 650
    for c in widths[:2]:
        base += 9 * c * 2 * c + 4 * c + 9 * (2 * c) ** 2 + 4 * c + c * 2 * c
    assert count_costs(SPACE.to_spec(EMPTY)).params == base
    one = np.where(np.arange(6) == 4, 2, EMPTY)
    grown = base + 5 * sum(9 * c * c + 2 * c for c in widths)
    assert count_costs(SPACE.to_spec(one)).params == grown


@pytest.mark.parametrize("space", [SPACE, NB201(channels=8, cells=1, image=(8, 8, 1))])
def test_the_additive_table_is_the_walk(space):
    """A hundred architectures spread over the space, each by a full walk of its spec."""
    members = tk.enumerate_space(space)[::157]
    columns = cost_columns(space)
    walked = np.array([count_costs(space.to_spec(row)) for row in members])
    np.testing.assert_array_equal(walked[:, 0], columns["params"][::157])
    np.testing.assert_array_equal(walked[:, 1], columns["flops"][::157])


def test_toy_costs_do_not_add_up_and_are_still_exact():
    """Widths 8 -> 8 -> 4 -> 2 for tokens 2, 0, 1, 0: 72 + 36 + 10 parameters."""
    oracle = CostOracle(Toy(), "params")
    value = oracle.truth(oracle.params(), jnp.array([[2, 0, 1, 0]]))
    assert float(value[0, 0]) == 72 + 36 + 10


def test_indices_that_are_no_architecture_fail():
    oracle = CostOracle(Toy())
    illegal = jnp.array([[1, 1, 0, 0]])
    assert np.isnan(np.asarray(oracle.truth(oracle.params(), illegal))).all()


def test_host_and_table_agree():
    """A space too large for a table is walked on the host: same rules, same numbers."""
    small, large = Toy(4, 3), Toy(20, 3)
    row = np.array([2, 1, 0, 2])
    long = np.concatenate([row, np.zeros(16, int)])
    host = CostOracle(large, "params,flops")
    assert not host.traced
    table = CostOracle(small, "params,flops")
    expected = table.truth(table.params(), jnp.asarray(row)[None])
    np.testing.assert_array_equal(host.truth(host.params(), long[None]), expected)
    assert host.info()["size"] == large.count()
    with pytest.raises(UserError, match="cannot be listed"):
        host.columns()


def edited(change):
    """A spec of nb201 with one change."""
    spec = copy.deepcopy(SPACE.to_spec(EMPTY))
    change(spec)
    return spec


def of(spec, name):
    """The attributes of a top-level node."""
    return next(n for n in spec["nodes"] if n["name"] == name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: of(s, "stem").update(op="magic"),
            "'stem' is 'magic', which has no cost",
        ),
        (
            lambda s: of(s, "stem").update(inputs=["x"]),
            "'stem' uses 'x', which no node makes",
        ),
        (
            lambda s: s["blocks"].pop("reduce2"),
            "calls the block 'reduce2', which is missing",
        ),
        (
            lambda s: s["outputs"]["logits"].update(shape=[7]),
            r"shape \(10,\) instead of \(7,\)",
        ),
        (
            lambda s: of(s, "logits").update(inputs=["stem"]),
            r"The node 'logits' \(linear\) needs one vector",
        ),
        (
            lambda s: s["inputs"]["image"].update(shape=[1, 1, 3]),
            r"The node 'reduce1.pool' \(avg_pool\) has a kernel of 2 for a side of 1",
        ),
        (
            lambda s: s["blocks"]["reduce1"]["nodes"][3]["attributes"].update(features=9),
            r"The node 'reduce1.out' \(sum\) adds values of different shapes",
        ),
        (
            lambda s: of(s, "stem_conv")["attributes"].update(groups=2),
            "cannot split 3 -> 16 channels into 2",
        ),
    ],
)
def test_specs_that_cannot_work_name_the_node(change, message):
    with pytest.raises(UserError, match=message):
        count_costs(edited(change))


def test_unknown_cost_is_refused():
    with pytest.raises(UserError, match="Did you mean 'params'"):
        CostOracle(SPACE, "param")
