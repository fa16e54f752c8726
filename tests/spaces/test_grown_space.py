"""Growth as a search space: counts, limits, specs and what is refused."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.children.check import check
from jaxnas.children.count import count_costs
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.registry import make_space
from jaxnas.spaces.grown import Grown
from jaxnas.testing.spaces import check_completions

SPACE = Grown(stages=2, steps=4, levels=2, depth=3, image=(8, 8, 1))


def allowed(row):
    """Whether a sequence stays within the limits, counted by hand."""
    most = {1: 1, 2: 1, 3: 2, 4: 2, 5: 1, 6: 1}
    return all(row.count(action) <= times for action, times in most.items())


def test_members_are_the_sequences_within_the_limits():
    wanted = [row for row in itertools.product(range(7), repeat=4) if allowed(row)]
    assert tk.enumerate_space(SPACE).tolist() == [list(row) for row in wanted]
    assert SPACE.count() == len(wanted)


def test_shares_of_completions_are_those_of_the_listing():
    check_completions(SPACE)


def test_long_growths_have_finite_shares():
    """Sixty steps, all actions but one used up: what is left is as likely as counted."""
    space = Grown(stages=1, steps=60, levels=2, depth=2)
    row = jnp.asarray([1, 2] + [0] * 58, jnp.int32)
    shares = np.asarray(space.completions(row, jnp.int32(2)))
    wanted = np.array([58, 0, 0, 1]) / 59  # the skip comes next, later, or never
    np.testing.assert_allclose(shares, wanted, rtol=1e-5)


def test_the_network_of_a_growth_is_what_its_actions_say():
    row = np.array([1, 4, 6, 4], np.int32)
    spec = SPACE.to_spec(row)
    check(spec)
    assert spec["growth"] == ["widen1", "deepen2", "skip2", "deepen2"]
    sizes = {n["name"]: n["attributes"].get("features") for n in spec["nodes"]}
    convs = {name: f for name, f in sizes.items() if "conv" in name or "skip" in name}
    assert convs == {
        "stage1_conv1": 8, "stage2_conv1": 4, "stage2_conv2": 4, "stage2_conv3": 4,
        "stage2_skip": 4,
    }  # fmt: skip
    norms = 2 * (8 + 3 * 4)
    weights = 9 * (8 + 8 * 4 + 2 * 4 * 4) + 8 * 4 + 4 * 10 + 10
    assert count_costs(spec).params == norms + weights


def test_the_order_of_actions_is_no_part_of_the_last_network():
    rows = [np.array(r, np.int32) for r in ([4, 1, 0, 3], [3, 4, 1, 0], [0, 1, 3, 4])]
    specs = [{**SPACE.to_spec(row), "growth": []} for row in rows]
    assert specs[0] == specs[1] == specs[2]
    forms = [SPACE.canonical(jnp.asarray(row)).tolist() for row in rows]
    assert forms == [[0, 1, 3, 4]] * 3
    graphs = [SPACE.to_graph(jnp.asarray(row)) for row in rows]
    assert all(
        np.array_equal(a, b) for g in graphs for a, b in zip(g, graphs[0], strict=True)
    )


def test_a_graph_has_the_edges_of_the_network():
    graph = SPACE.to_graph(jnp.array([3, 6, 0, 0], jnp.int32))
    assert graph.present.tolist() == [1, 1, 1, 0, 0, 1, 0, 0, 1, 1]
    edges = np.argwhere(np.asarray(graph.adjacency)).tolist()
    assert edges == [[0, 1], [1, 2], [2, 5], [2, 8], [5, 9], [8, 9]]


def test_specs_of_another_growth_are_refused():
    spec = SPACE.to_spec(np.array([1, 4, 6, 4], np.int32))
    for change, word in (
        ({"growth": ["widen1"] * 4}, "does not lead to its network"),
        ({"growth": ["keep", "deepen2", "skip2", "deepen2"]}, "does not lead"),
        ({"growth": ["grow"] * 4}, "has no growth of 4 actions"),
        ({"growth": None}, "has no growth"),
        ({"growth": [["keep"]] * 4}, "has no growth"),
        ({"space": "grown-v1"}, "has no growth"),
    ):
        with pytest.raises(UserError, match=word):
            SPACE.from_spec({**spec, **change})


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": 0}, "1 to 64 steps"),
        ({"steps": 65}, "1 to 64 steps"),
        ({"stages": 7}, "cannot be halved for each of 7 stages"),
        ({"channels": 0}, "at least 1"),
        ({"levels": 30}, "at most 65536"),
        ({"level": 2}, "Did you mean 'levels'"),
    ],
)
def test_refusals_are_one_sentence(options, word):
    with pytest.raises(UserError, match=word):
        make_space("grown", **options)
    with pytest.raises(UserError, match="stages"):
        make_space("grown").for_images((2, 2, 1), 10)
