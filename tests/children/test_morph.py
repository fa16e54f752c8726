"""Morphs keep the function of a network, in flax and in torch, or are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import random_arrays, torch_logits

from jaxnas.children import train as tr
from jaxnas.children.build import build
from jaxnas.children.count import layers
from jaxnas.children.morph import RECTIFYING, Network, add_skip, deepen, inlined, widen
from jaxnas.children.weights import from_arrays
from jaxnas.children.widening import WIDE
from jaxnas.core.errors import UserError
from jaxnas.spaces import spec as sp
from jaxnas.spaces.nb201 import NB201

WINDOW = {"kernel": 3, "stride": 1, "padding": 1}
NB = NB201(channels=4, cells=1, image=(8, 8, 1))


def network(nodes, image=(8, 8, 2), classes=3):
    """A spec from ``image`` to ``logits``."""
    return {
        "format": sp.FORMAT,
        "space": "tests",
        "inputs": {"image": sp.image(*image)},
        "outputs": {"logits": sp.vector(classes)},
        "blocks": {},
        "nodes": nodes,
    }


def conv(name, source, features, **more):
    return sp.node(name, "conv", [source], **{**WINDOW, "features": features, **more})


HEAD = [
    sp.node("flat", "flatten", ["small"]),
    sp.node("hidden", "linear", ["flat"], features=6),
    sp.node("gate", "relu", ["hidden"]),
    sp.node("drop", "dropout", ["gate"], rate=0.5),
    sp.node("logits", "linear", ["drop"], features=3),
]
CHAIN = network(
    [
        conv("a", "image", 4, bias=True),
        sp.node("a_norm", "batch_norm", ["a"]),
        sp.node("a_relu", "relu", ["a_norm"]),
        sp.node("b", "relu_conv_bn", ["a_relu"], **{**WINDOW, "stride": 2}, features=None),
        sp.node("c", "relu_conv_bn", ["b"], **WINDOW, features=4),
        sp.node("plus", "sum", ["b", "c"]),
        sp.node("act", "relu", ["plus"]),
        sp.node("pool", "max_pool", ["act"], kernel=2, stride=2, padding=0),
        sp.node("each", "instance_norm", ["pool"]),
        sp.node("deep", "depthwise_conv", ["each"], **WINDOW),
        sp.node("both", "concat", ["deep", "pool"]),
        sp.node("small", "relu", ["both"]),
        *HEAD,
    ]
)
"""A chain with a residual sum, a concatenation and a flattened image."""


def started(spec, seed=0):
    """A network with weights as if trained."""
    return Network(spec, from_arrays(build(spec), random_arrays(spec, seed)))


def images(spec, batch=6, seed=0):
    (kind,) = spec["inputs"].values()
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (batch, *kind["shape"])).astype(np.float32)


def logits(net, x, train=False):
    child = build(net.spec)
    if not train:
        return np.asarray(jax.jit(child.apply)(net.variables, jnp.asarray(x)))
    run = jax.jit(lambda v, x: child.apply(v, x, True, mutable=["batch_stats"])[0])
    return np.asarray(run(net.variables, jnp.asarray(x)))


def morphs(net, rng):
    """Every widening and deepening that could be tried and six skips, in random order."""
    shapes = {path: count.shape for path, count in layers(net.spec)}
    names = [item["name"] for item in net.spec["nodes"]]
    wide = [n["name"] for n in net.spec["nodes"] if n["op"] in WIDE]
    key = jax.random.key(rng.integers(1000))
    tries = [lambda n=n: widen(*net, n, shapes[n][-1] + 3, key) for n in wide]
    tries += [lambda n=n: deepen(*net, n) for n in names]
    pairs = [(a, b) for i, a in enumerate(["image", *names]) for b in names[i:]]
    picked = rng.permutation(len(pairs))[:6]
    tries += [lambda p=pairs[i]: add_skip(*net, *p) for i in picked]
    return [tries[i] for i in rng.permutation(len(tries))]


def grown(net, rng, steps):
    """Yields networks, each one random morph behind the last; refusals are skipped."""
    for _ in range(steps):
        for attempt in morphs(net, rng):
            try:
                net = attempt()
            except UserError:
                continue
            break
        yield net


def close(found, wanted):
    assert np.std(wanted) > 1e-3
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_morphs_one_after_the_other_keep_the_function(seed):
    net, x = started(CHAIN, seed), images(CHAIN)
    wanted = logits(net, x)
    found = list(grown(net, np.random.default_rng(seed), 6))
    for made in found:
        close(logits(made, x), wanted)
    assert len({str(made.spec) for made in found}) == 6


@pytest.mark.parametrize(
    ("seed", "steps"),
    [(0, 5), *(pytest.param(s, 12, marks=pytest.mark.slow) for s in range(1, 6))],
)
def test_the_torch_form_of_what_grew_is_the_old_flax_network(seed, steps):
    net, x = started(CHAIN, seed), images(CHAIN)
    wanted = before = torch_logits(*net, x)
    np.testing.assert_allclose(wanted, logits(net, x), rtol=0, atol=2e-5)
    for made in grown(net, np.random.default_rng(seed + 10), steps):
        after = torch_logits(*made, x)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)  # by each morph
        np.testing.assert_allclose(after, wanted, rtol=0, atol=2e-5)  # by all of them
        before = after


@pytest.mark.slow
def test_cells_are_widened_without_their_blocks():
    spec = NB.to_spec(np.array([2, 3, 0, 4, 1, 2]))
    net, x = started(spec), images(spec)
    flat, wanted = inlined(*net), torch_logits(*net, x)
    close(torch_logits(*flat, x), wanted)
    assert not flat.spec["blocks"]
    made = widen(*flat, "stage1_cell0__edge12", 12, jax.random.key(0))
    shapes = {path: count.shape for path, count in layers(made.spec)}
    assert {shapes[f"stage1_cell0__edge{e}"][-1] for e in (12, 13)} == {12}
    assert shapes["reduce1__conv_b"][-1] == 12  # added to the cell's edges by a skip
    close(torch_logits(*made, x), wanted)
    with pytest.raises(UserError, match="`inlined` before a morph"):
        widen(*net, "stem_conv", 8, jax.random.key(0))


@pytest.mark.slow
def test_training_sees_the_same_function_too():
    """Copies have their origin's statistics; a new layer has those of its images."""
    spec = network(
        [
            conv("a", "image", 4),
            sp.node("norm", "batch_norm", ["a"]),
            sp.node("act", "relu", ["norm"]),
            conv("b", "act", 4),
            sp.node("norm_b", "batch_norm", ["b"]),
            sp.node("act_b", "relu", ["norm_b"]),
            sp.node("pool", "global_avg_pool", ["act_b"]),
            sp.node("logits", "linear", ["pool"], features=3),
        ]
    )
    x, net = images(spec, 64), started(spec)
    run = jax.jit(
        lambda v: build(spec).apply(v, jnp.asarray(x), True, mutable=["batch_stats"])
    )
    _, state = run(net.variables)
    for _ in range(200):  # running statistics become those of x
        _, state = run({**net.variables, **state})
    net = Network(spec, {**net.variables, **state})
    wanted = logits(net, x, train=True)
    wide = widen(*net, "a", 9, jax.random.key(0))
    close(logits(wide, x, train=True), wanted)
    close(logits(add_skip(*wide, "image", "norm_b"), x, train=True), wanted)
    known, blind = deepen(*net, "act", x), deepen(*net, "act")
    close(logits(known, x, train=True), wanted)
    close(logits(blind, x), logits(net, x))
    assert np.abs(logits(blind, x, train=True) - wanted).max() > 1e-2


@pytest.mark.slow
def test_copies_are_told_apart_by_training():
    """Two copies receive different gradients, so a wider network can learn more."""
    net = started(CHAIN)
    made = widen(*net, "a", 8, jax.random.key(2))
    x, y = jnp.asarray(images(CHAIN, 32)), jnp.arange(32) % 3
    data = tr.Images(x, y, x, y)
    start = jax.tree.map(jnp.asarray, made.variables)
    forward = tr.forward_of(build(made.spec))
    training = tr.Training(2, 16)
    end, curves = tr.fit(forward, start, data, jax.random.key(0), training, tr.Hparams())
    before, after = (np.asarray(v["params"]["a"]["kernel"]) for v in (start, end))
    assert len(np.unique(before.reshape(-1, 8), axis=1).T) == 4
    assert len(np.unique(after.reshape(-1, 8), axis=1).T) == 8
    assert np.isfinite(curves.train_loss).all()


def with_group_norm():
    nodes = [conv("a", "image", 4), sp.node("g", "group_norm", ["a"])]
    nodes += [sp.node("small", "relu", ["g"]), *HEAD]
    return started(network(nodes))


def with_groups():
    nodes = [conv("a", "image", 4), conv("g", "a", 4, groups=2)]
    nodes += [sp.node("small", "relu", ["g"]), *HEAD]
    return started(network(nodes))


def with_image_added():
    nodes = [conv("a", "image", 2), sp.node("s", "sum", ["a", "image"])]
    nodes += [sp.node("small", "relu", ["s"]), *HEAD]
    return started(network(nodes))


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("morph", "word"),
    [
        (lambda: widen(*started(CHAIN), "a", 4, KEY), "has 4 features .* give more"),
        (lambda: widen(*started(CHAIN), "a", -2, KEY), "give more"),
        (lambda: widen(*started(CHAIN), "a", 10**9, KEY), "at most 65536"),
        (lambda: widen(*started(CHAIN), "aa", 9, KEY), "Unknown node 'aa'. Did you mean"),
        (lambda: widen(*started(CHAIN), "act", 9, KEY), "makes no features"),
        (lambda: widen(*started(CHAIN), "logits", 9, KEY), "is the network's output"),
        (lambda: widen(*with_groups(), "a", 8, KEY), "'g' splits its channels into 2"),
        (lambda: widen(*with_groups(), "g", 8, KEY), "'g' splits its channels into 2"),
        (lambda: widen(*with_group_norm(), "a", 8, KEY), r"'g' \(group_norm\) would"),
        (lambda: widen(*with_image_added(), "a", 8, KEY), "added to those of 'image'"),
        (lambda: deepen(*started(CHAIN), "act", kernel=2), "must be odd"),
        (lambda: deepen(*started(CHAIN), "act", kernel=10**9 + 1), "sees the whole value"),
        (lambda: deepen(*started(CHAIN), "pool"), "no ReLU before and after"),
        (lambda: deepen(*started(CHAIN), "logits"), "is the network's output"),
        (lambda: deepen(*started(CHAIN), "none"), "Unknown node"),
        (lambda: add_skip(*started(CHAIN), "a", "b"), "one height and width"),
        (lambda: add_skip(*started(CHAIN), "a", "hidden"), "one height and width"),
        (lambda: add_skip(*started(CHAIN), "c", "b"), "lead to a later node"),
        (lambda: add_skip(*started(CHAIN), "b", "b"), "lead to a later node"),
        (lambda: add_skip(*started(CHAIN), "nowhere", "b"), "Unknown node"),
        (lambda: add_skip(*started(CHAIN), "hidden", "logits"), "network's output"),
    ],
)
def test_refusals_are_one_sentence(morph, word):
    with pytest.raises(UserError, match=word):
        morph()


def test_weights_that_are_not_the_networks_are_refused():
    net = started(CHAIN)
    spoilt = jax.tree.map(np.copy, net.variables)
    spoilt["params"]["a"]["kernel"][0, 0, 0, 0] = np.nan
    for morph in (
        lambda v: widen(net.spec, v, "a", 8, KEY),
        lambda v: deepen(net.spec, v, "a_relu"),
        lambda v: add_skip(net.spec, v, "b", "c"),
    ):
        with pytest.raises(UserError, match=r"'a\.weight' has a value that is not finite"):
            morph(spoilt)
        with pytest.raises(UserError, match="weights lack"):
            morph({"params": {}})


def test_every_operation_is_followed_or_refused():
    """The tables of what copies pass through name operations that exist."""
    from jaxnas.children.ops import OPS
    from jaxnas.children.widening import EACH, JOINING

    assert {*EACH, *JOINING, *WIDE, *RECTIFYING, "sum", "flatten"} <= set(OPS)
