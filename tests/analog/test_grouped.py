"""Grouped convolutions on tiles: one group after another, by the code of a single one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analog_nets import on_tiles, start
from flax import linen as nn

from jaxnas.analog import hwa
from jaxnas.analog.calibrate import calibrate
from jaxnas.analog.config import Hyper, Periphery, Structure
from jaxnas.analog.evaluate import forward
from jaxnas.analog.plan import flatten, make_plan, unflatten
from jaxnas.analog.program import ideal

SHAPE, FEATURES, GROUPS, KERNEL = (6, 5, 6), 12, 3, (3, 1)
QUIET = Hyper(periphery=Periphery(out_noise=0.0))
EXACT = Hyper(periphery=Periphery(inp_res=0.0, out_res=0.0, out_bound=1e6, out_noise=0.0))


class Grouped(nn.Module):
    """One grouped convolution, its window not square."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        sizes = {"strides": (2, 1), "padding": ((1, 1), (0, 0))}
        return nn.Conv(FEATURES, KERNEL, feature_group_count=GROUPS, name="conv", **sizes)(
            x
        )


class Split(nn.Module):
    """The same as a convolution for each group."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        sizes = {"strides": (2, 1), "padding": ((1, 1), (0, 0))}
        parts = jnp.split(x, GROUPS, axis=-1)
        own = [
            nn.Conv(FEATURES // GROUPS, KERNEL, name=f"g{i}", **sizes)(part)
            for i, part in enumerate(parts)
        ]
        return jnp.concatenate(own, axis=-1)


def pair(structure):
    """Module, plan and variables of both, with the same weights and ranges that differ."""
    made = start(Grouped(), SHAPE)
    conv = made["params"]["conv"]
    split = {name: jnp.split(value, GROUPS, axis=-1) for name, value in conv.items()}
    params = {f"g{i}": {name: split[name][i] for name in split} for i in range(GROUPS)}
    found = []
    for module, variables in ((Grouped(), made), (Split(), {"params": params})):
        plan = make_plan(module, variables, SHAPE, structure)
        converted = on_tiles(plan, variables)
        ranges = 0.5 + 0.2 * jnp.arange(plan.num_tiles, dtype=jnp.float32)
        learned = converted["analog"]._replace(input_range=ranges)
        found.append((module, plan, {**converted, "analog": learned}))
    return found


def images(n=7):
    return jax.random.normal(jax.random.key(3), (n, *SHAPE))


def outputs(module, plan, variables, hyper, seed=0):
    held = ideal(variables, plan)
    key = jax.random.key(seed)
    run = lambda v, x: forward(key, v, held, x[None], hyper, module, plan)[0]
    return np.asarray(jax.jit(run)(variables, images()))


STRUCTURES = {
    "one tile a group": Structure(),
    "pieces": Structure(tile_inputs=4, tile_outputs=3),
    "one scale a column": Structure(scaling="columnwise", tile_outputs=3),
    "no range": Structure(input_range=False),
    "each vector by itself": Structure(noise_management="abs-max", tile_inputs=4),
}


QUICK = ("pieces", "each vector by itself")
SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in STRUCTURES if n not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_tiles_and_outputs_are_those_of_one_group_after_another(name):
    """Same rectangles, scales and flat weights; outputs up to flips of one ADC step."""
    (_, ours, variables), (_, theirs, others) = pairs = pair(STRUCTURES[name])
    sizes = lambda plan: [(t.rows, t.columns, t.offset) for t in plan.tiles]
    assert sizes(ours) == sizes(theirs)
    flat = [flatten(plan, v["params"]) for _, plan, v in pairs]
    np.testing.assert_array_equal(*flat)
    np.testing.assert_array_equal(variables["tiles"].scale, others["tiles"].scale)
    y, expected = (outputs(*one, QUIET) for one in pairs)
    step = 2 * 10 / 254 * np.max(variables["tiles"].scale)
    error = np.abs(y - expected)
    assert np.mean(error > 1e-5) < 2e-3
    assert error.max() < 1.001 * step * (
        1 if name == "no range" else 1.5 * np.abs(images()).max()
    )
    assert np.abs(expected).mean() > step, "outputs must span steps"


@pytest.mark.parametrize("name", QUICK)
def test_without_noise_and_converters_it_is_the_digital_convolution(name):
    """Ranges beyond every input, exact converters."""
    (module, plan, variables), _ = pair(STRUCTURES[name])
    wide = variables["analog"]._replace(input_range=jnp.full(plan.num_tiles, 100.0))
    y = outputs(module, plan, {**variables, "analog": wide}, EXACT)
    digital = module.apply({"params": variables["params"]}, images())
    np.testing.assert_allclose(y, digital, rtol=1e-4, atol=1e-5)


def test_flat_weights_of_groups_go_back_to_the_kernel():
    (_, plan, variables), _ = pair(STRUCTURES["pieces"])
    blank = jax.tree.map(jnp.zeros_like, variables["params"])
    back = unflatten(plan, flatten(plan, variables["params"]), blank)
    kernel = variables["params"]["conv"]["kernel"]
    np.testing.assert_array_equal(back["conv"]["kernel"], kernel)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_training_learns_the_ranges_of_one_group_after_another(name):
    """Estimated ranges, their gradients and those of the weights, without noise."""
    structure = STRUCTURES[name]
    cotangent = jax.random.normal(jax.random.key(5), (7, 3, 5, FEATURES))
    quiet = hwa.Training(modifier_std=0.0, range_batches=3)
    found = []
    for module, plan, variables in pair(structure):

        @jax.jit
        def step(learned, rest, x, module=module, plan=plan):
            y, updated = hwa.forward(
                {**rest, **learned}, x, jax.random.key(0), EXACT, quiet,
                module=module, plan=plan,
            )  # fmt: skip
            return jnp.sum(y * cotangent), updated

        learned = {name: variables[name] for name in hwa.LEARNED}
        rest = {"tiles": variables["tiles"]._replace(
            seen=jnp.arange(plan.num_tiles, dtype=jnp.float32))}  # fmt: skip
        gradient, updated = jax.grad(step, has_aux=True)(learned, rest, images())
        weights = flatten(plan, gradient["params"])
        state = updated["analog"].input_range, updated["tiles"].seen
        found.append((*state, gradient["analog"].input_range, weights))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-4)
    assert np.abs(found[0][2]).min() > 0, "every range must have a gradient"
    assert (np.asarray(found[0][1]) - np.arange(len(found[0][1]))).tolist()[:3] == [1, 1, 1]


def test_calibration_reads_each_groups_own_inputs():
    found = []
    for module, plan, variables in pair(STRUCTURES["pieces"]):
        made = calibrate(variables, images(), module=module, plan=plan, batch=7)
        found.append(made["analog"].input_range)
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert len({round(float(b), 4) for b in found[0]}) > GROUPS


def test_output_noise_is_independent_between_groups():
    """Standard deviation as stated (2 %: 4 sigma of 1,260 x 12 draws), no correlation."""
    (module, plan, variables), _ = pair(STRUCTURES["one tile a group"])
    loud = EXACT._replace(periphery=EXACT.periphery._replace(out_noise=0.04))
    held = ideal(variables, plan)
    run = lambda key, hyper: forward(
        key, variables, held, images()[None], hyper, module, plan
    )[0]
    keys = jax.random.split(jax.random.key(1), 12)
    noise = jax.jit(jax.vmap(run, (0, None)))(keys, loud) - run(keys[0], EXACT)
    by_group = np.asarray(noise).reshape(-1, GROUPS, FEATURES // GROUPS)
    gain = np.asarray(variables["tiles"].scale) * np.asarray(
        variables["analog"].input_range
    )
    np.testing.assert_allclose(by_group.std((0, 2)), 0.04 * gain, rtol=0.05)
    table = np.corrcoef(by_group.transpose(1, 2, 0).reshape(FEATURES, -1))
    assert np.abs(table - np.eye(FEATURES)).max() < 4.5 / np.sqrt(by_group.shape[0])


def test_grouped_convolutions_can_stay_digital():
    variables = start(Grouped(), SHAPE)
    plan = make_plan(Split(), pair(Structure())[1][2], SHAPE, Structure())
    assert plan.num_tiles == GROUPS
    with pytest.raises(Exception, match="no convolution or dense layer"):
        make_plan(Grouped(), variables, SHAPE, Structure(digital_depthwise=True))
