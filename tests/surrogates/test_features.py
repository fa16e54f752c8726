"""What a surrogate sees: invariant where it says so, and blind to nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.registry import make_space
from jaxnas.spaces.nb201 import NB201, classes
from jaxnas.spaces.toy import Toy
from jaxnas.surrogates.features import Encoder, Numeric, make_encoder

# Node ids of nb201's graphs: 3 skip, 5 conv 3x3, 6 conv 1x1, 7 average pool.
SKIP, CONV3, CONV1, POOL = "3", "5", "6", "7"


@pytest.fixture(scope="module")
def graph():
    return make_encoder("graph", NB201())


@pytest.fixture(scope="module")
def table(graph):
    members = jnp.asarray(tk.enumerate_space(NB201()))
    return np.asarray(jax.jit(jax.vmap(graph))(members))


def test_graph_features_are_one_row_for_each_isomorphism_class(table):
    """Equal within each of the 5,390 classes and different between any two."""
    number = classes()
    _, first = np.unique(number, return_index=True)
    np.testing.assert_array_equal(table, table[first[number]])
    assert len(np.unique(table, axis=0)) == len(first) == 5390


def test_counts_of_small_cells_by_hand(graph):
    """Edges 1->2, 1->3, 1->4, 2->3, 2->4, 3->4; token 1 cuts, 0 skips, 2 to 4 compute."""
    cells = np.array(
        [[2, 1, 1, 3, 1, 4], [1, 1, 1, 2, 2, 2], [2, 2, 2, 2, 2, 2], [1, 1, 2, 1, 1, 1]]
    )
    rows = [
        {name: float(v) for name, v in zip(graph.names, row, strict=True) if v}
        for row in np.asarray(jax.jit(jax.vmap(graph))(jnp.asarray(cells, jnp.int32)))
    ]
    chain, cut, full, single = rows
    np.testing.assert_allclose(chain.pop("paths"), np.log(2), rtol=1e-6)
    assert chain == {
        f"count {CONV3}": 1, f"count {CONV1}": 1, f"count {POOL}": 1,
        f"first {CONV3}": 1, f"last {POOL}": 1,
        f"pair {CONV3}>{CONV1}": 1, f"pair {CONV1}>{POOL}": 1,
        "depth": 3, "connected": 1,
    }  # fmt: skip
    assert cut == {}, "nothing reaches the output"
    np.testing.assert_allclose(full.pop("paths"), np.log(5), rtol=1e-6)
    assert full == {
        f"count {CONV3}": 6, f"first {CONV3}": 3, f"last {CONV3}": 3,
        f"pair {CONV3}>{CONV3}": 4, f"path {CONV3}": 1, f"path {CONV3}>{CONV3}": 2,
        "depth": 3, "connected": 1,
    }  # fmt: skip
    # One convolution: the first of its class in lexicographic order skips to it.
    assert single[f"path {SKIP}>{CONV3}"] == 1
    assert single["depth"] == 2


def test_a_dead_edge_does_not_show(graph):
    """Edges behind a cut carry nothing: what stands there is the same to a surrogate."""
    rows = jnp.array([[2, 1, 3, 1, 1, 4], [4, 1, 3, 1, 1, 1]], jnp.int32)
    one, other = np.asarray(jax.jit(jax.vmap(graph))(rows))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("toy", {}, "one-hot"),
        ("toy", {}, "graph"),
        ("toy", {"length": 24, "vocab": 4}, "graph"),
        ("nb201", {}, "one-hot"),
        ("analog-resnet", {"variant": "csv"}, "numeric"),
        ("analog-resnet", {}, "one-hot"),
    ],
)
def test_encoders_are_static_and_of_one_length(name, options, kind):
    space = make_space(name, **options)
    encoder = make_encoder(kind, space)
    assert isinstance(encoder, Encoder)
    assert hash(encoder) == hash(make_encoder(kind, space))
    assert encoder.id == f"{kind}-v1"
    assert len(set(encoder.names)) == len(encoder.names)
    x = jax.jit(lambda key: encoder(tk.sample(key, space)))(jax.random.key(0))
    assert x.shape == (len(encoder.names),)
    assert x.dtype == jnp.float32
    assert np.isfinite(x).all()


def test_operations_that_no_sample_showed_share_a_column():
    """A space too large to list is sampled for its operations; others are pooled."""
    encoder = make_encoder("graph", Toy(24, 4))
    assert "count rest" in encoder.names
    assert "count rest" not in make_encoder("graph", Toy()).names


def test_one_hot_has_one_column_a_choice():
    x = np.asarray(make_encoder("one-hot", NB201())(jnp.array([0, 1, 2, 3, 4, 0])))
    np.testing.assert_array_equal(x.reshape(6, 5).argmax(1), [0, 1, 2, 3, 4, 0])
    assert x.sum() == 6


def test_what_a_space_cannot_give_is_refused():
    with pytest.raises(UserError, match="Did you mean 'graph'"):
        make_encoder("grph", NB201())
    with pytest.raises(UserError, match="no numeric features"):
        make_encoder("numeric", NB201())
    with pytest.raises(UserError, match="at most 16"):
        make_encoder("graph", make_space("analog-resnet"))


def test_numeric_features_are_the_spaces_own():
    space = make_space("analog-resnet")
    tokens = tk.sample(jax.random.key(1), space)
    np.testing.assert_array_equal(
        make_encoder("numeric", space)(tokens), space.features(tokens)
    )
    shift = tuple(float(i) for i in range(22))
    moved = Numeric(space, shift)(tokens)
    np.testing.assert_allclose(moved + jnp.array(shift), space.features(tokens), rtol=1e-6)
