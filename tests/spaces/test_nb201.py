"""nb201: encoding, classes, graph and spec, each against an independent reference."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.spaces import nb201
from jaxnas.spaces.nb201 import NB201, NONE, OPERATIONS, SKIP
from jaxnas.spaces.nb201_residual import NB201Residual

SPACE = NB201()
MEMBERS = tk.enumerate_space(SPACE)
PATHS = ((2,), (0, 4), (1, 5), (0, 3, 5))
"""All ways from node 1 to node 4, as edges."""


@pytest.fixture(scope="module")
def outputs():
    """Node 4 of every cell with random opaque operations, computed in float64."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(5, 4, 4))
    start = generator.normal(size=4)

    def apply(ops, x):
        results = [x, np.zeros_like(x)]
        results += [
            np.where((x != 0).any(1)[:, None], np.tanh(x @ w + 0.1), 0) for w in weights[2:]
        ]
        return np.stack(results)[ops, np.arange(len(x))]

    one = np.broadcast_to(start, (len(MEMBERS), 4))
    two = apply(MEMBERS[:, 0], one)
    three = apply(MEMBERS[:, 1], one) + apply(MEMBERS[:, 3], two)
    four = (
        apply(MEMBERS[:, 2], one) + apply(MEMBERS[:, 4], two) + apply(MEMBERS[:, 5], three)
    )
    return four


def partition(labels):
    """First member of each row's group, which is the same for equal partitions."""
    _, first, inverse = np.unique(labels, axis=0, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)]


def test_equal_functions_are_exactly_the_cells_that_compute_the_same(outputs):
    """Numerically: 4,930 different outputs, the same partition as the symbolic one."""
    numeric = partition(np.round(outputs, 9))
    np.testing.assert_array_equal(partition(nb201.equal_functions()), numeric)
    assert len(np.unique(numeric)) == 4_930


def test_isomorphism_classes(outputs):
    """5,390 classes; every class computes one function; canonical is its first member."""
    classes = SPACE.classes()
    assert len(np.unique(classes)) == 5_390
    assert len(set(zip(classes.tolist(), nb201.equal_functions().tolist()))) == 5_390
    canonical = np.asarray(jax.jit(jax.vmap(SPACE.canonical))(jnp.asarray(MEMBERS)))
    np.testing.assert_array_equal(canonical, MEMBERS[partition(classes)])
    rows = np.asarray(tk.index(SPACE, jnp.asarray(canonical)))
    np.testing.assert_allclose(outputs[rows], outputs, atol=1e-9)


def published_text(tokens):
    """The published rule, where a dead input keeps its place in a sum as '#'."""
    text = {1: "0"}
    for node, edges in ((2, (0,)), (3, (1, 3)), (4, (2, 4, 5))):
        terms = []
        for edge in edges:
            op, signal = tokens[edge], text[nb201.EDGES[edge][0]]
            dead = op == NONE or signal == "#"
            term = signal if op == SKIP else f"({signal})@{OPERATIONS[op]}"
            terms.append("#" if dead else term)
        text[node] = "+".join(sorted(terms))
    return text[4]


def test_keeping_dead_inputs_gives_the_published_count():
    """NAS-Bench-201 reports 6,466 unique cells; ours differ by leaving dead inputs out."""
    assert len({published_text(row) for row in MEMBERS.tolist()}) == 6_466


def test_graph_keeps_exactly_what_lies_on_a_path():
    """An edge is present when some path without a none runs through it."""
    graph = jax.jit(jax.vmap(SPACE.to_graph))(jnp.asarray(MEMBERS))
    alive = np.zeros(MEMBERS.shape, bool)
    for path in PATHS:
        whole = (MEMBERS[:, path] != NONE).all(axis=1)
        alive[np.ix_(whole, path)] = True
    np.testing.assert_array_equal(graph.present[:, 1:-1], alive)
    assert np.asarray(graph.present)[:, [0, -1]].all()
    np.testing.assert_array_equal(graph.ops[:, 1:-1], np.where(alive, MEMBERS + 3, 0))


def test_graph_is_wired_as_the_cell():
    """The full cell: input feeds edges 0, 1, 2; edge 0 feeds 3, 4; 1 and 3 feed 5."""
    graph = SPACE.to_graph(jnp.full(6, 2))
    pairs = set(zip(*(x.tolist() for x in np.nonzero(graph.adjacency))))
    feeds = {(0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (2, 6), (4, 6), (3, 7), (5, 7), (6, 7)}
    assert pairs == feeds


def test_strings_use_the_published_order():
    """The string lists 1->2; 1->3, 2->3; 1->4, 2->4, 3->4; and every one comes back."""
    text = (
        "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+"
        "|none~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    )
    assert nb201.from_string(text).tolist() == [2, 0, 1, 4, 3, 2]
    for row in MEMBERS[::97]:
        np.testing.assert_array_equal(nb201.from_string(nb201.to_string(row)), row)


@pytest.mark.parametrize(
    "text", ["", "|none~0|", "|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|"]
)
def test_other_strings_are_refused(text):
    with pytest.raises(UserError, match="not a NAS-Bench-201"):
        nb201.from_string(text)


def test_every_spec_comes_back_from_its_cell():
    """Each seventh of 15,625, through the block that holds the architecture."""
    full = SPACE.to_spec(MEMBERS[0])
    for row in MEMBERS[::7]:
        cell = nb201._cell(row)
        spec = {**full, "blocks": {**full["blocks"], "cell": cell}}
        np.testing.assert_array_equal(SPACE.from_spec(spec), row)
    whole = SPACE.to_spec(MEMBERS[-1])
    assert whole["blocks"]["cell"] == nb201._cell(MEMBERS[-1])


def test_spec_has_the_published_layout():
    """15 cells in three stages, two reductions, and JSON that reads back equal."""
    spec = SPACE.to_spec(np.array([2, 2, 0, 4, 2, 1]))
    assert json.loads(json.dumps(spec)) == spec
    calls = [n["attributes"]["block"] for n in spec["nodes"] if n["op"] == "call"]
    stage = ["cell"] * 5
    assert calls == [*stage, "reduce1", *stage, "reduce2", *stage]
    names = [node["name"] for node in spec["nodes"]]
    assert len(set(names)) == len(names)


def test_a_spec_with_a_strange_edge_is_refused():
    spec = SPACE.to_spec(MEMBERS[0])
    spec["blocks"]["cell"]["nodes"][0]["op"] = "conv"
    with pytest.raises(UserError, match="edge 1->2 of this spec is 'conv'"):
        SPACE.from_spec(spec)


@pytest.mark.parametrize(
    "options", [{"channels": 0}, {"cells": -1}, {"image": (2, 32, 3)}, {"num_classes": 0}]
)
def test_impossible_networks_are_refused(options):
    with pytest.raises(UserError):
        NB201(**options)


def test_residual_cells_of_one_class_are_one_network():
    """Numerically: equal outputs for some order of the weights of the five other edges.

    A cell's outputs for all 120 orders are a set; two cells are one network when their sets
    meet, and then the sets are equal. 3,125 cells, 1,218 networks.
    """
    space, draw = NB201Residual(), np.random.default_rng(1)
    members = tk.enumerate_space(space)
    start = draw.normal(size=3)
    three, one = draw.normal(size=(2, 5, 3, 3))
    pool = draw.normal(size=(3, 3))
    found = []
    for order in itertools.permutations(range(5)):

        def edge(place, x, order=order):
            w3, w1 = three[order[place]], one[order[place]]
            ways = [x, 0 * x, np.tanh(x @ w3), np.tanh(x @ w1), np.tanh(x @ pool)]
            return np.stack(ways)[members[:, place], np.arange(len(members))]

        first = np.broadcast_to(start, (len(members), 3))
        second = edge(0, first)
        third = edge(1, first) + edge(2, second)
        found.append(first + edge(3, second) + edge(4, third))
    rounded = np.round(np.stack(found), 8) + 0.0
    least = np.array([min(map(tuple, outputs)) for outputs in rounded.swapaxes(0, 1)])
    numeric = partition(least)
    np.testing.assert_array_equal(partition(space.classes()), numeric)
    assert (len(members), len(np.unique(numeric))) == (3_125, 1_218)
    canonical = jax.jit(jax.vmap(space.canonical))(jnp.asarray(members))
    np.testing.assert_array_equal(canonical, members[numeric])


def test_a_residual_network_is_that_of_the_whole_cell():
    """Same nodes as nb201 with a skip on 1->4; a cell without it is refused by name."""
    small = NB201Residual(channels=4, cells=1).to_spec(np.array([2, 1, 4, 3, 0]))
    whole = NB201(channels=4, cells=1).to_spec(np.array([2, 1, SKIP, 4, 3, 0]))
    assert {**small, "space": "nb201-v1"} == whole
    other = NB201().to_spec(np.full(6, 2))
    with pytest.raises(UserError, match="1->4 of this spec is no skip"):
        NB201Residual().from_spec({**other, "space": "nb201-residual-v1"})
    graph = NB201Residual().to_graph(jnp.full(5, NONE))
    assert int(graph.present.sum()) == 3
