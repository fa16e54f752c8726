"""Children: names of parameters, identity, initial weights, and what they refuse."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.children.build import build
from jaxnas.children.count import arrays
from jaxnas.core.errors import UserError
from jaxnas.spaces import spec as sp
from jaxnas.spaces.nb201 import NB201
from jaxnas.spaces.toy import Toy

NB = NB201(channels=4, cells=1, image=(8, 8, 1))
SPEC = NB.to_spec(np.array([2, 3, 0, 4, 1, 2]))


def test_equal_specs_are_equal_children():
    """Also with other order of keys, as after a visit to a file; others differ."""
    turned = dict(reversed(list(SPEC.items())))
    assert build(SPEC) == build(turned)
    assert hash(build(SPEC)) == hash(build(turned))
    assert build(SPEC) != build(NB.to_spec(np.array([2, 3, 0, 4, 1, 3])))
    assert build(SPEC).spec == SPEC


def test_one_compilation_serves_equal_children():
    traced = []

    def forward(child, variables, x):
        traced.append(child)
        return child.apply(variables, x)

    compiled = jax.jit(forward, static_argnums=0)
    spec = Toy().to_spec(np.array([2, 0, 1, 0]))
    x = jnp.ones((2, 8))
    variables = build(spec).init(jax.random.key(0), x)
    one = compiled(build(spec), variables, x)
    two = compiled(build(dict(reversed(list(spec.items())))), variables, x)
    assert len(traced) == 1
    np.testing.assert_array_equal(one, two)


def test_parameters_are_named_by_path_without_nesting():
    made = jax.eval_shape(build(SPEC).init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    params, stats = made["params"], made["batch_stats"]
    assert params["stem_conv"]["kernel"].shape == (3, 3, 1, 4)
    assert params["stage1_cell0.edge12.conv"]["kernel"].shape == (3, 3, 8, 8)
    assert params["stage0_cell0.edge13.conv"].keys() == {"kernel"}
    assert stats["reduce1.conv_a.norm"]["var"].shape == (8,)
    assert params["logits"].keys() == {"kernel", "bias"}
    layers = {name.rpartition(".")[0] for name in arrays(SPEC)}
    assert layers == set(params)


def test_layers_can_be_intercepted():
    """An analog model swaps layers this way: every convolution and linear layer is seen."""
    seen = []

    def note(next_function, args, kwargs, context):
        if isinstance(context.module, nn.Conv | nn.Dense):
            seen.append(context.module.name)
        return next_function(*args, **kwargs)

    child = build(Toy().to_spec(np.array([2, 0, 1, 0])))
    with nn.intercept_methods(note):
        child.init(jax.random.key(0), jnp.ones((1, 8)))
    assert seen == ["body.layer0", "body.layer2", "logits"]


@pytest.mark.parametrize("groups", [1, 16])
def test_convolutions_start_he_normal_over_their_own_fan_out(groups):
    """Variance 2 / (kernel^2 x features / groups) within 5 standard errors, mean 0."""
    features = 64
    conv = {"kernel": 3, "stride": 1, "padding": 1, "features": features}
    spec = {
        "format": sp.FORMAT,
        "space": "test",
        "inputs": {"x": sp.image(4, 4, 64)},
        "outputs": {"z": sp.vector(features)},
        "blocks": {},
        "nodes": [
            sp.node("y", "conv", ["x"], **conv, groups=groups),
            sp.node("z", "global_avg_pool", ["y"]),
        ],
    }
    made = build(spec).init(jax.random.key(0), jnp.ones((1, 4, 4, 64)))
    kernel = np.asarray(made["params"]["y"]["kernel"])
    n, expected = kernel.size, 2 * groups / (9 * features)
    assert abs(kernel.var() / expected - 1) < 5 * np.sqrt(2 / n)
    assert abs(kernel.mean()) < 5 * np.sqrt(expected / n)


def test_inputs_of_another_shape_are_refused():
    child = build(SPEC)
    with pytest.raises(UserError, match=r"shape \(8, 8, 1\), not \(1, 8, 8\)"):
        child.init(jax.random.key(0), jnp.ones((2, 1, 8, 8)))


def test_an_operation_that_flax_lacks_names_the_backend():
    spec = NB.to_spec(np.zeros(6, int))
    spec["nodes"][1]["op"] = "magic"
    with pytest.raises(UserError, match="'stem' is 'magic', which the flax backend lacks"):
        build(spec)


def test_an_image_as_output_is_refused():
    spec = NB.to_spec(np.zeros(6, int))
    spec["outputs"] = {"stem": sp.image(8, 8, 4)}
    with pytest.raises(UserError, match="logits must be a vector"):
        build(spec)


def test_several_inputs_are_refused():
    spec = NB.to_spec(np.zeros(6, int))
    spec["inputs"]["other"] = sp.vector(3)
    with pytest.raises(UserError, match="a child network has one of each"):
        build(spec)
