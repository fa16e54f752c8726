"""Where weights go, what is refused, and the optional non-idealities of one tile."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analog_nets import OneConv, OneDense, Small, start
from flax import linen as nn

from jaxnas.analog import noise
from jaxnas.analog.config import PRESETS, Periphery, Structure, preset
from jaxnas.analog.layers import conv_geometry, unfold
from jaxnas.analog.plan import flatten, make_plan, pieces, tile_matrix, to_matrix, unflatten
from jaxnas.analog.tile import converter, one_product, rounded, unfolded
from jaxnas.core.errors import UserError


@pytest.mark.parametrize("size", [1, 511, 512, 513, 576, 1025, 5000])
@pytest.mark.parametrize("limit", [0, 1, 100, 512])
def test_pieces_cover_an_axis_and_are_near_equal(size, limit):
    cut = pieces(size, limit)
    assert len(cut) == (math.ceil(size / limit) if limit else 1)
    assert [a for a, _ in cut] == [0, *(b for _, b in cut[:-1])]
    lengths = [b - a for a, b in cut]
    assert sum(lengths) == size
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] - lengths[-1] <= 1


def test_a_matrix_is_ordered_channel_row_column():
    kernel = jnp.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    matrix = to_matrix(kernel)
    assert matrix.shape == (5, 24)
    for c, i, j, o in ((0, 0, 0, 0), (3, 1, 2, 4), (2, 0, 1, 3)):
        assert matrix[o, c * 6 + i * 3 + j] == kernel[i, j, c, o]


def test_flat_weights_go_to_tiles_and_back():
    module, shape = Small(features=(8, 70, 9)), (8, 8, 1)
    variables = start(module, shape)
    plan = make_plan(module, variables, shape, Structure(tile_inputs=64, tile_outputs=50))
    flat = jax.jit(flatten, static_argnums=0)(plan, variables["params"])
    assert flat.size == plan.num_weights == 9 * 8 + 72 * 70 + 630 * 9 + 9 * 10
    assert plan.num_tiles == 1 + 2 * 2 + 10 + 1
    blank = jax.tree.map(jnp.zeros_like, variables["params"])
    back = jax.jit(unflatten, static_argnums=0)(plan, flat, blank)
    for name in ("conv0", "conv1", "conv2", "out"):
        kernel = variables["params"][name]["kernel"]
        np.testing.assert_array_equal(back[name]["kernel"], kernel)
    tile = plan.layers[1].tiles[3]
    assert (tile.inputs, tile.outputs) == ((36, 72), (35, 70))
    expected = to_matrix(variables["params"]["conv1"]["kernel"])[35:70, 36:72]
    np.testing.assert_array_equal(tile_matrix(flat, tile), expected)


@pytest.mark.parametrize(
    ("kernel", "strides", "padding", "dilation"),
    [((3, 3), 1, 1, 1), ((3, 2), 2, 0, 1), ((2, 2), 1, "SAME", 2), ((5, 5), 3, 2, 1)],
)
def test_unfolded_vectors_times_the_matrix_are_the_convolution(
    kernel, strides, padding, dilation
):
    conv = nn.Conv(4, kernel, strides, padding, kernel_dilation=dilation, use_bias=False)
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    variables = conv.init(jax.random.key(1), x)
    vectors = unfold(x, kernel, conv_geometry(conv))
    y = vectors @ to_matrix(variables["params"]["kernel"]).T
    np.testing.assert_allclose(y, conv.apply(variables, x), atol=1e-5)


def test_converters_round_half_to_even_and_then_clip():
    dac = converter(1 / 8, 1.0)
    assert float(dac.step) == 0.25
    x = jnp.array([0.125, 0.375, -0.125, 0.3, 1.2, -3.0])
    found = rounded(x / dac.step, dac.limit, dac.exact, False) * dac.step
    np.testing.assert_array_equal(found, [0.0, 0.5, 0.0, 0.25, 1.0, -1.0])
    np.testing.assert_array_equal(converter(8.0, 1.0).step, dac.step)
    exact = converter(0.0, 2.0)
    found = rounded(x / exact.step, exact.limit, exact.exact, False)
    np.testing.assert_array_equal(found, jnp.clip(x, -2, 2))


def test_voltage_drop_and_read_noise_by_loops():
    """Against sums written out entry by entry, in double precision."""
    rng = np.random.default_rng(0)
    w, u = rng.uniform(-1, 1, (3, 40)), rng.uniform(-1, 1, 40)
    structure = Structure(weight_noise=True, ir_drop=True)
    exact = Periphery(
        0.0, 1.0, 0.0, 1e6, out_noise=0.04, weight_noise=0.0175, ir_drop=3000.0
    )
    z = jnp.asarray([1.0, -2.0, 0.5])
    y, _ = one_product(
        jnp.asarray(u, jnp.float32)[None],
        jnp.asarray(w, jnp.float32),
        lambda shape, repeat: jnp.broadcast_to(z, shape),
        0,
        exact,
        structure,
    )
    for i in range(3):
        a = 40 / 571428.6 * sum(abs(w[i, j]) * abs(u[j]) for j in range(40))
        c = a * (0.5 - 0.2 * a + 0.05 * a * a)
        drop = sum(w[i, j] * u[j] * (1 - (1 - j / 40) ** 2) for j in range(40))
        power = sum(abs(w[i, j]) * u[j] ** 2 for j in range(40))
        sigma = math.sqrt(0.04**2 + 0.0175**2 * power)
        expected = sum(w[i] * u) - 3000.0 * c * drop + sigma * float(z[i])
        assert abs(3000.0 * c * drop) > 0.1
        assert float(y[0, i]) == pytest.approx(expected, rel=1e-5)


def test_bound_management_halves_the_input_until_nothing_clips():
    structure = preset("library").structure
    quiet = preset("library").hyper.periphery._replace(out_noise=0.0)
    w = jnp.ones((1, 100))
    x = jnp.stack([jnp.full(100, 2.0), jnp.full(100, 0.02), jnp.linspace(-1, 1, 100)])
    y = unfolded(
        x,
        w,
        1.0,
        jnp.ones(1),
        lambda shape, repeat: jnp.zeros(shape),
        quiet,
        structure,
        False,
    )
    # The first two sum to 100 after division by the largest; 100 / 16 is the first below
    # the bound of 12. An input of 1/16 is 4 steps of 1/63; an ADC step counts 16 times.
    expected = 16 * 100 * 4 / 63
    np.testing.assert_allclose(
        y[:, 0] / jnp.array([2.0, 0.02, 1.0]), [expected, expected, 0], atol=8 * 24 / 510
    )
    once = Structure(noise_management="abs-max", input_range=False)
    y = unfolded(
        x, w, 1.0, jnp.ones(1), lambda shape, repeat: jnp.zeros(shape), quiet, once, False
    )
    np.testing.assert_allclose(y[:2, 0] / jnp.array([2.0, 0.02]), 12, rtol=1e-6)


class Grouped(nn.Module):
    """A depthwise convolution between two analog layers."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="first")(x)
        x = nn.Conv(4, (3, 3), feature_group_count=4, name="depthwise")(x)
        return nn.Dense(2, name="out")(x.mean((1, 2)))


class Embedded(nn.Module):
    """A weight matrix in a layer that tiles do not know."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.DenseGeneral((2, 2), name="general")(x).reshape(len(x), -1))


def test_a_grouped_convolution_is_a_tile_a_group_or_stays_digital():
    module, shape = Grouped(), (6, 6, 3)
    variables = start(module, shape)
    plan = make_plan(module, variables, shape, Structure())
    of = {layer.path[0]: layer for layer in plan.layers}
    assert [(t.rows, t.columns) for t in of["depthwise"].tiles] == [(9, 1)] * 4
    plan = make_plan(module, variables, shape, Structure(digital_depthwise=True))
    assert [layer.path for layer in plan.layers] == [("first",), ("out",)]


def test_other_bad_input_is_one_sentence():
    variables = start(Embedded(), (5,))
    with pytest.raises(UserError, match=r"general\.(bias|kernel)"):
        make_plan(Embedded(), variables, (5,), Structure())
    with pytest.raises(UserError, match="Did you mean 'layerwise'"):
        Structure(scaling="layer-wise")
    with pytest.raises(UserError, match="negative side"):
        Structure(tile_inputs=-1)
    with pytest.raises(UserError, match="Did you mean 'ibm-benchmark'"):
        preset("ibm-benchmarks")
    with pytest.raises(UserError, match="Available: bank, counter, threefry"):
        noise.check_source("normal")


def test_presets_are_those_of_the_specification():
    """The numbers of section 3's table that tell the presets apart."""
    table = {
        "ibm-benchmark": (1 / 254, 1 / 254, 10.0, 0.04, 0.0, 0.0),
        "library": (1 / 126, 1 / 510, 12.0, 0.06, 0.0, 0.0),
        "standard-hwa": (1 / 254, 1 / 254, 10.0, 0.04, 0.0175, 1.0),
    }
    assert set(table) == set(PRESETS)
    for name, numbers in table.items():
        p = preset(name).hyper.periphery
        found = (p.inp_res, p.out_res, p.out_bound, p.out_noise, p.weight_noise, p.ir_drop)
        assert found == numbers


def test_shared_layers_are_one_tile_with_two_streams():
    class Twice(nn.Module):
        """One dense layer used twice."""

        @nn.compact
        def __call__(self, x):
            layer = nn.Dense(4, name="shared")
            return layer(layer(x))

    plan = make_plan(Twice(), start(Twice(), (4,)), (4,), Structure())
    assert (plan.num_tiles, plan.num_streams) == (1, 2)


def test_small_modules_are_as_the_tests_say():
    for module, shape, outputs in ((OneConv(3), (4, 4, 2), 3), (OneDense(5), (7,), 5)):
        assert (
            module.apply(start(module, shape), jnp.zeros((1, *shape))).shape[-1] == outputs
        )
