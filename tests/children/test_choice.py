"""A network with the architecture as an input is each of the networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.children.build import build
from jaxnas.children.choice import build_choice, choose, select
from jaxnas.core.errors import UserError
from jaxnas.spaces.analog_resnet import AnalogResNet
from jaxnas.spaces.declare import declare
from jaxnas.spaces.nb201 import NB201
from jaxnas.testing.tiny import TinyNets


def both(space, tokens, module, variables, x, train):
    child = build(space.to_spec(np.asarray(tokens)))
    own = select(module, variables, np.asarray(tokens))
    if not train:
        run = jax.jit(lambda t, v: module.apply(choose(v, t), x))
        return run(jnp.asarray(tokens), variables), child.apply(own, x), own, own
    run = jax.jit(lambda t, v: module.apply(choose(v, t), x, True, mutable=["batch_stats"]))
    chosen, stats = run(jnp.asarray(tokens), variables)
    single, wanted = child.apply(own, x, True, mutable=["batch_stats"])
    found = select(module, {**variables, **stats}, np.asarray(tokens))
    return chosen, single, found["batch_stats"], wanted["batch_stats"]


@pytest.mark.parametrize("train", [False, True])
def test_equals_every_tiny_network(train):
    space = TinyNets()
    module = build_choice(space)
    x = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
    variables = module.init(jax.random.key(0), x)
    outputs = []
    for tokens in np.ndindex(3, 3):
        chosen, single, found, wanted = both(
            space, np.array(tokens, np.int32), module, variables, x, train
        )
        np.testing.assert_allclose(chosen, single, atol=2e-5)
        assert jax.tree.structure(found) == jax.tree.structure(wanted)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
        outputs.append(np.asarray(chosen))
    assert len({o.tobytes() for o in outputs}) == 8  # skip + pool is pool + skip


def test_equals_cells_of_nb201():
    space = NB201(channels=2, cells=1, image=(8, 8, 1))
    module = build_choice(space)
    assert len(module.choices) == 6 * 3
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    init = jax.jit(module.init)
    variables = init(jax.random.key(0, impl="rbg"), x)
    rows = np.random.default_rng(0).integers(0, 5, (2, 6)).astype(np.int32)
    apply = jax.jit(module.apply)
    for tokens in rows:
        own = select(module, variables, tokens)
        single = build(space.to_spec(tokens)).apply(own, x)
        np.testing.assert_allclose(apply(choose(variables, tokens), x), single, atol=2e-5)


def test_refuses_networks_that_differ_in_their_wiring():
    space = AnalogResNet(image=(12, 12, 1), pool=4)
    with pytest.raises(UserError, match="route='exact'"):
        build_choice(space)


def test_a_choice_that_changes_a_shape_is_refused():
    """Two widths at one node: the networks are trained one by one."""
    width = {"name": "width", "choices": [2, 4]}
    nodes = [
        {"op": "conv", "kernel": 3, "features": "$width"},
        {"op": "global_avg_pool"},
        {"op": "linear", "features": "$classes"},
    ]
    space = declare({"name": "wide", "decisions": [width], "network": nodes})
    with pytest.raises(UserError, match="one by one"):
        build_choice(space)
