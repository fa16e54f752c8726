"""Hardware-aware training: gradients, clip, remap, ranges; against aihwkit and by value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analog_nets import OneConv, OneDense, Small, on_tiles, start

from jaxnas.analog import hwa
from jaxnas.analog.calibrate import calibrate
from jaxnas.analog.config import Hyper, Periphery, Structure, preset
from jaxnas.analog.layers import conv_geometry, unfold
from jaxnas.analog.plan import flatten, make_plan
from jaxnas.core.errors import UserError

EXACT = Hyper(periphery=Periphery(inp_res=0.0, out_res=0.0, out_noise=0.0, out_bound=1e6))
NOISELESS = Structure(modifier="none")
# name: module, image shape, input range, batches that estimate it
CASES = {
    "conv, many clipped": (OneConv(6), (6, 6, 3), 1.0, 0),
    "conv, few clipped, decays": (OneConv(6, strides=2), (6, 6, 3), 6.0, 0),
    "conv on two tiles": (OneConv(4), (4, 4, 64), 1.5, 0),
    "dense, range from data": (OneDense(5), (9,), 1.5, 10),
    "conv, range from data": (OneConv(6), (6, 6, 3), 1.0, 10),
}
RATE = 0.05


project = jax.jit(lambda v, t, plan: hwa.project(v, t, plan=plan), static_argnames="plan")


def ours(module, shape, b, batches):
    """One SGD step of a single layer without noise; what the toolkit's job needs too."""
    variables = start(module, shape, seed=3)
    plan = make_plan(module, variables, shape, NOISELESS)
    converted = on_tiles(plan, variables, input_range=b)
    x = jax.random.normal(jax.random.key(4), (8, *shape))
    training = hwa.Training(range_batches=batches)
    cotangent = jax.random.normal(jax.random.key(5), module.apply(variables, x).shape)

    def loss(learned):
        """A linear function of the outputs, so that its gradient is ``cotangent``."""
        out, updated = hwa.forward(
            {**converted, **learned}, x, jax.random.key(0), EXACT, training,
            module=module, plan=plan,
        )  # fmt: skip
        return jnp.sum(out * cotangent), updated

    learned = {name: converted[name] for name in hwa.LEARNED}
    gradient, updated = jax.jit(jax.grad(loss, has_aux=True))(learned)
    moved = jax.tree.map(
        lambda v, g: v - RATE * g, {n: updated[n] for n in hwa.LEARNED}, gradient
    )
    projected = project({**updated, **moved}, training, plan)
    to_torch = lambda v: np.moveaxis(np.asarray(v), -1, 1) if v.ndim == 4 else np.asarray(v)
    layer = next(iter(variables["params"].values()))
    job = {
        "weight": np.moveaxis(np.asarray(layer["kernel"]), (-1, -2), (0, 1)),
        "bias": np.asarray(layer["bias"]),
        "strides": getattr(module, "strides", 1),
        "x": to_torch(x),
        "cotangent": to_torch(cotangent),
        "range": b,
        "init_from_data": batches,
        "lr": RATE,
    }
    return (gradient, updated, projected), job


@pytest.fixture(scope="module")
def steps(toolkit):
    """One training step in both, for every case."""
    found, jobs = {}, []
    for name, case in CASES.items():
        found[name], job = ours(*case)
        jobs.append(("train", job))
    return found, dict(zip(CASES, toolkit(jobs)))


@pytest.mark.parametrize("name", CASES)
def test_input_range_and_its_gradient_are_the_toolkits(name, steps):
    """No rounding and no noise, where the torch tile's extra autograd terms vanish."""
    gradient, updated, _ = steps[0][name]
    theirs = steps[1][name]
    np.testing.assert_allclose(updated["analog"].input_range, theirs["used"], rtol=1e-5)
    expected = theirs["gradient"]
    found = gradient["analog"].input_range
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)
    assert np.all(np.abs(expected) > 1e-2), "a gradient of zero would compare nothing"


@pytest.mark.parametrize("name", CASES)
def test_weights_after_update_clip_and_remap_are_the_toolkits(name, steps):
    """SGD, then the two-sigma clip, then the remap: the network's weights and scales."""
    _, _, projected = steps[0][name]
    theirs = steps[1][name]
    kernel = next(iter(projected["params"].values()))["kernel"]
    found = np.moveaxis(np.asarray(kernel), (-1, -2), (0, 1))
    np.testing.assert_allclose(found, theirs["weight"], rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(projected["tiles"].scale, theirs["scale"], rtol=1e-3)


def network(structure, seed=0):
    """The small network on tiles, its weights spread as after training."""
    module, shape = Small(), (8, 8, 1)
    variables = start(module, shape, seed)
    plan = make_plan(module, variables, shape, structure)
    return module, plan, on_tiles(plan, variables)


def test_gaussian_clip_bounds_each_tile_and_then_maps_it_to_one():
    _, plan, variables = network(Structure())
    training = hwa.Training(clip_sigma=1.5)
    projected = project(variables, training, plan)
    before = flatten(plan, variables["params"])
    after = flatten(plan, projected["params"])
    for tile in range(plan.num_tiles):
        own = plan.tile_of == tile
        bound = 1.5 * np.std(before[own], ddof=1)
        expected = np.clip(before[own], -bound, bound)
        np.testing.assert_allclose(after[own], expected, rtol=1e-5, atol=1e-7)
        assert np.max(np.abs(before[own])) > bound
        np.testing.assert_allclose(projected["tiles"].scale[tile], bound, rtol=1e-5)


def test_fixed_clip_is_in_tile_units_of_the_scale_before():
    _, plan, variables = network(Structure(clip="fixed"))
    bigger = jax.tree.map(lambda v: 1.3 * v, variables["params"])
    projected = project({**variables, "params": bigger}, hwa.Training(), plan)
    # The largest weight had mapped to 1, so at 1.3 times it is clipped back to 1.
    np.testing.assert_allclose(
        projected["tiles"].scale, variables["tiles"].scale, rtol=1e-6
    )


@pytest.mark.parametrize("scaling", ["layerwise", "columnwise"])
def test_remap_keeps_the_weights(scaling):
    _, plan, variables = network(Structure(clip="none", scaling=scaling))
    stale = variables["tiles"]._replace(scale=2.5 * variables["tiles"].scale)
    projected = project({**variables, "tiles": stale}, hwa.Training(), plan)
    np.testing.assert_allclose(
        flatten(plan, projected["params"]),
        flatten(plan, variables["params"]),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        projected["tiles"].scale, variables["tiles"].scale, rtol=1e-6
    )


def test_remap_takes_in_the_learned_output_scale():
    structure = preset("standard-hwa").structure
    module, plan, variables = network(structure)
    factor = 0.5 + jax.random.uniform(jax.random.key(1), (plan.num_columns,))
    learned = variables["analog"]._replace(out_scale=factor)
    variables = {**variables, "analog": learned}
    projected = project(variables, hwa.Training(), plan)
    ratio = flatten(plan, projected["params"]) / flatten(plan, variables["params"])
    np.testing.assert_allclose(ratio, factor[plan.column_of], rtol=1e-5)
    x = jax.random.normal(jax.random.key(2), (3, 8, 8, 1))
    run = jax.jit(functools.partial(hwa.forward, module=module, plan=plan, train=False))
    out = [run(v, x, jax.random.key(3), EXACT)[0] for v in (variables, projected)]
    np.testing.assert_allclose(*out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("structure", [Structure(), Structure(weight_noise=True)])
def test_training_pass_without_noise_is_the_digital_network(structure):
    """Both routes, converters exact and ranges wide: values and weight gradients agree."""
    module, plan, variables = network(structure)
    variables["analog"] = variables["analog"]._replace(
        input_range=jnp.full(plan.num_tiles, 1e3)
    )
    x = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
    own = {k: variables[k] for k in ("params", "batch_stats")}
    quiet = hwa.Training(modifier_std=0.0, range_batches=0)

    def analog(params):
        v = {**variables, "params": params}
        out, updated = hwa.forward(
            v, x, jax.random.key(0), EXACT, quiet, module=module, plan=plan
        )
        return jnp.sum(jnp.sin(out)), (out, updated["batch_stats"])

    def digital(params):
        out, changed = module.apply(
            {**own, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.sin(out)), (out, changed["batch_stats"])

    found = jax.jit(jax.grad(analog, has_aux=True))(own["params"])
    expected = jax.jit(jax.grad(digital, has_aux=True))(own["params"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, expected
    )


def test_weight_noise_is_relative_to_the_largest_weight_of_the_tile():
    """With a unit-vector input the output is a weight: its deviation is 0.06 max|w|."""
    module = OneDense(400, use_bias=False)
    shape = (50,)
    variables = module.init(jax.random.key(0), jnp.zeros((1, *shape)))
    plan = make_plan(module, variables, shape, Structure(input_range=False))
    converted = on_tiles(plan, variables)
    run = jax.jit(functools.partial(hwa.forward, module=module, plan=plan))
    out, _ = run(converted, jnp.eye(50), jax.random.key(1), EXACT)
    error = np.asarray(out - variables["params"]["dense"]["kernel"])
    expected = 0.06 * np.abs(variables["params"]["dense"]["kernel"]).max()
    # 20,000 numbers: the standard error of a deviation is 1 / sqrt(40000) = 0.5 %.
    assert abs(error.std() / expected - 1) < 0.02
    again, _ = run(converted, jnp.eye(50), jax.random.key(2), EXACT)
    assert np.abs(out - again).max() > 0


def test_ranges_are_estimated_for_the_first_batches_only():
    module, plan, variables = network(Structure())
    training = hwa.Training(range_batches=2)
    step = jax.jit(
        functools.partial(hwa.forward, module=module, plan=plan, training=training)
    )
    first = variables["analog"].input_range
    seen = []
    for i in range(4):
        x = (i + 1) * jax.random.normal(jax.random.key(i), (20, 8, 8, 1))
        _, variables = step(variables, x, jax.random.key(i), Hyper())
        seen.append(float(variables["analog"].input_range[0]))
        if i == 0:
            patches = np.asarray(unfold(x, (3, 3), _geometry()))
            # The first layer sees the images; the initial 3.0 drops out at the first batch.
            assert seen[0] == pytest.approx(float(3 * patches.std(ddof=1)), rel=1e-4)
    assert seen[1] == pytest.approx(1.5 * seen[0], rel=0.1)
    assert seen[1] == seen[2] == seen[3]
    assert float(first[0]) == 3.0
    np.testing.assert_array_equal(variables["tiles"].seen, 2)


def _geometry():
    """Geometry of a 3x3 convolution with stride 1 and padding 1."""
    from flax import linen as nn

    return conv_geometry(nn.Conv(1, (3, 3), 1, 1))


@pytest.mark.parametrize("method", ["std", "max", "quantile"])
def test_calibration_sets_the_statistic_of_a_tiles_input(method):
    module, plan, variables = network(Structure())
    x = jax.random.normal(jax.random.key(0), (40, 8, 8, 1))
    set_ranges = functools.partial(
        calibrate, module=module, plan=plan, method=method, batch=20
    )
    found = jax.jit(set_ranges)(variables, x)
    parts = [np.asarray(unfold(h, (3, 3), _geometry())) for h in (x[:20], x[20:])]
    one = {
        "std": lambda v: 3 * np.std(v, ddof=1),
        "max": lambda v: np.abs(v).max(),
        "quantile": lambda v: np.quantile(np.abs(v), 0.99995),
    }[method]
    over = max if method == "max" else np.mean
    expected = over([one(p) for p in parts])
    assert float(found["analog"].input_range[0]) == pytest.approx(expected, rel=1e-4)
    assert np.all(found["analog"].input_range[1:] != 3.0)


def test_bad_input_is_one_sentence():
    module, plan, variables = network(Structure())
    x, y = jnp.zeros((3, 8, 8, 1)), jnp.zeros(3, jnp.int32)
    with pytest.raises(UserError, match="smaller batch"):
        hwa.fine_tune(jax.random.key(0), variables, x, y, Hyper(), module=module, plan=plan)
    with pytest.raises(UserError, match="Unknown calibration"):
        calibrate(variables, x, module=module, plan=plan, method="median")
    with pytest.raises(UserError, match="convert"):
        calibrate({"params": {}}, x, module=module, plan=plan)
    with pytest.raises(UserError, match="must be 1 or more"):
        hwa.FineTune(epochs=0)


def test_fine_tuning_lowers_the_loss_and_keeps_its_invariants():
    """A task of two classes, the sign of a linear function: one scan, one compilation."""
    module, shape = OneDense(2), (12,)
    variables = start(module, shape)
    plan = make_plan(module, variables, shape, Structure())
    x = jax.random.normal(jax.random.key(0), (200, 12))
    y = (x @ jnp.cos(jnp.arange(12.0)) > 0).astype(jnp.int32)
    settings = hwa.FineTune(epochs=5, batch=20)
    tune = jax.jit(
        functools.partial(hwa.fine_tune, module=module, plan=plan, settings=settings)
    )
    arguments = (on_tiles(plan, variables), x, y, Hyper(), hwa.Training(range_batches=5))
    found, losses = tune(jax.random.key(1), *arguments, 0.3)
    assert losses.shape == (50,)
    assert losses[-10:].mean() < 0.6 * losses[:5].mean()
    kernel = found["params"]["dense"]["kernel"]
    assert float(jnp.max(jnp.abs(kernel))) == pytest.approx(float(found["tiles"].scale[0]))
    assert float(found["tiles"].seen[0]) == 5
    frozen, _ = tune(jax.random.key(1), *arguments, 0.0)
    again = flatten(plan, hwa.project(arguments[0], plan=plan)["params"])
    # Without a step only the clip acts; each of 50 clips cuts at two deviations.
    assert np.all(np.abs(flatten(plan, frozen["params"])) <= np.abs(again) + 1e-6)
