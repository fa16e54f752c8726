"""Operations on texts: what padding means, what they count and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import random_arrays

from jaxnas.children.build import build
from jaxnas.children.check import check
from jaxnas.children.count import arrays, count_costs
from jaxnas.children.sequences import kept
from jaxnas.children.weights import from_arrays
from jaxnas.core.errors import UserError
from jaxnas.registry import make_space
from jaxnas.spaces import spec as sp

SPACE = make_space("text-chain")
CONV = {"type": "convolution", "width": 32, "kernel": 5, "normalization": "layer",
        "dropout": 0.0}  # fmt: skip
GRU = {"type": "gru", "width": 32, "backward": True, "normalization": "none",
       "dropout": 0.0}  # fmt: skip
ATTENTION = {"type": "attention", "normalization": "batch", "dropout": 0.0}
POOL = {"type": "avg_pool", "dropout": 0.0}


def network(length, *layers, readout="mean"):
    """The spec of a network for texts of a length."""
    values = {"embedding": 16, "word_dropout": 0.0, "layer": list(layers)}
    space = SPACE.for_texts(length, 20, 3)
    return space.to_spec(space.from_dict({**values, "readout": readout}))


def logits(spec, ids):
    child = build(spec)
    variables = from_arrays(child, random_arrays(spec, 0))
    return np.asarray(child.apply(variables, jnp.asarray(ids, jnp.float32)))


def padded(rng, length, *ends):
    """Texts of random words that end at these places."""
    ids = rng.integers(1, 20, (len(ends), max(ends)))
    ids = np.where(np.arange(max(ends)) < np.array(ends)[:, None], ids, 0)
    return np.pad(ids, ((0, 0), (0, length - max(ends)))).astype(np.float32)


@pytest.mark.parametrize("readout", ["mean", "max"])
def test_what_stands_behind_the_end_of_a_text_changes_nothing(readout):
    """The same texts padded to 12 and to 24 ids: equal logits with every kind of layer."""
    layers = (CONV, GRU, ATTENTION)
    short = padded(np.random.default_rng(0), 12, 3, 10, 1, 9)
    long = np.pad(short, ((0, 0), (0, 12)))
    a = logits(network(12, *layers, readout=readout), short)
    b = logits(network(24, *layers, readout=readout), long)
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.abs(a[0] - a[1]).max() > 1e-2  # texts differ


def test_the_places_of_a_text_after_windows_with_a_stride():
    """A place is kept where the middle of its window of 3, at every second id, is."""
    ids = jnp.asarray(padded(np.random.default_rng(1), 16, *range(1, 17)))
    for n in range(1, 17):
        middle = 2 * np.arange(8)
        np.testing.assert_array_equal(kept(ids, 8)[n - 1], middle < n)
        np.testing.assert_array_equal(kept(ids, 16)[n - 1], np.arange(16) < n)
    assert kept(jnp.zeros((1, 16)), 4).tolist() == [[True, False, False, False]]


def test_padding_has_no_vector_and_learns_nothing():
    spec = network(6)
    child = build(spec)
    variables = from_arrays(child, random_arrays(spec, 0))
    ids = jnp.asarray([[2.0, 3.0, 3.0, 0.0, 0.0, 0.0]])
    loss = lambda params: jnp.sum(child.apply({**variables, "params": params}, ids) ** 2)
    gradient = jax.grad(loss)(variables["params"])["embedding"]["table"]
    moved = np.flatnonzero(np.abs(gradient).sum(axis=1))
    np.testing.assert_array_equal(moved, [2, 3])
    # Without a layer the mean is that of the table's rows.
    table, head = variables["params"]["embedding"]["table"], variables["params"]["logits"]
    mean = (table[2] + 2 * table[3]) / 3
    expected = mean @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(child.apply(variables, ids)[0], expected, atol=1e-6)


def test_counts_by_hand():
    """8 places: embedding 20 x 16; GRU 3 x (16 + 1 + 32 + 1) x 32; head 33 x 3."""
    spec = network(8, GRU)
    gru = 3 * 32 * (16 + 1 + 32 + 1)
    assert count_costs(spec) == (20 * 16 + gru + 33 * 3, 8 * gru + 33 * 3)
    conv = {**CONV, "normalization": "none"}
    weights = 5 * 16 * 32 + 32
    assert count_costs(network(8, conv)) == (320 + weights + 99, 8 * weights + 99)
    assert arrays(spec)["embedding.table"] == (20, 16)


def test_a_pool_halves_the_length():
    for length in (1, 2, 7, 8):
        check(network(length, POOL, GRU, POOL))


def one(op, inputs, **attributes):
    """A network of one operation that may not fit, on a text or on an image."""
    nodes = [
        sp.node("words", "embedding", ["text"], vocabulary=9, features=4),
        sp.node("out", op, inputs, **attributes),
    ]
    return {
        "format": sp.FORMAT, "space": "test", "blocks": {}, "nodes": nodes,
        "inputs": {"text": sp.text(7, 9)}, "outputs": {"out": sp.vector(4)},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (one("mask", ["words"]), "needs a sequence and the ids of its text"),
        (one("mask", ["words", "words"]), "the ids of its text"),
        (one("gru", ["text"], features=4), "needs one image"),
        (one("embedding", ["words"], vocabulary=9, features=4), "ids of one text"),
        (one("embedding", ["text"], vocabulary=2, features=4), "whole number from 3"),
        (one("gru", ["words"], features=0), "whole number from 1"),
        (one("gru", ["words"], features=4, backward=1), "true or false"),
        (one("conv", ["text"], kernel=3, stride=1, padding=1), "needs one image"),
        (one("global_max_pool", ["text", "words"]), "the ids of its text"),
    ],
)
def test_misfits_are_named(spec, text):
    with pytest.raises(UserError, match=text):
        check(spec)


@pytest.mark.parametrize("vocabulary", [0, 2, None, 2.5, True])
def test_a_text_needs_a_vocabulary(vocabulary):
    spec = network(8)
    spec["inputs"]["text"]["vocabulary"] = vocabulary
    with pytest.raises(UserError, match="a vocabulary of 3 or more"):
        check(spec)
    spec["inputs"]["text"] = {"kind": "text", "shape": [8]}
    with pytest.raises(UserError, match="a vocabulary of 3 or more"):
        check(spec)


def test_a_gru_over_an_image_is_refused():
    spec = one("gru", ["image"], features=4)
    spec["inputs"] = {"image": sp.image(4, 3, 2)}
    spec["nodes"] = spec["nodes"][1:]
    with pytest.raises(UserError, match="a sequence"):
        check(spec)


def test_spaces_of_texts_and_of_images_refuse_each_other():
    with pytest.raises(UserError, match="read texts, not images"):
        SPACE.for_images((8, 8, 1), 2)
    with pytest.raises(UserError, match="take images, not texts"):
        make_space("chain").for_texts(8, 20, 2)
    for length, vocabulary in ((0, 20), (8, 2)):
        with pytest.raises(UserError, match="length of 1 or more"):
            SPACE.for_texts(length, vocabulary, 2)


def test_a_file_names_what_its_networks_read():
    from jaxnas.spaces.declare import declare

    document = {**SPACE.document, "input": "sound"}
    with pytest.raises(UserError, match="'input' is one of image, text"):
        declare(document)
    with pytest.raises(UserError, match="'vocabulary'"):
        declare({k: v for k, v in SPACE.document.items() if k != "input"})
