"""Whole networks: trained on digits, on children, and against aihwkit's own accuracy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from analog_nets import Small, digital_parts, on_tiles, start

from jaxnas.analog import hwa
from jaxnas.analog.calibrate import calibrate
from jaxnas.analog.config import Device, Hyper, Structure, as_arrays
from jaxnas.analog.evaluate import TIMES, Evaluation, evaluate_compiled
from jaxnas.analog.plan import make_plan
from jaxnas.children.build import build
from jaxnas.children.count import matrices
from jaxnas.data.images.sources import load_images
from jaxnas.spaces.nb201 import NB201

BENCHMARK = Hyper()
MODULE, SHAPE = Small(), (8, 8, 1)


@pytest.fixture(scope="module")
def digits():
    """Digits and the small network, trained digitally for 20 epochs: 94 % and more."""
    data = load_images("digits")
    variables = start(MODULE, SHAPE)
    optimiser = optax.sgd(0.1, momentum=0.9)
    x, y = jnp.asarray(data.x_train), jnp.asarray(data.y_train)
    steps = len(y) // 50

    def loss_of(params, statistics, rows):
        logits, changed = MODULE.apply(
            {"params": params, "batch_stats": statistics},
            x[rows],
            train=True,
            mutable=["batch_stats"],
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y[rows])
        return loss.mean(), changed["batch_stats"]

    def step(carry, rows):
        params, statistics, state = carry
        gradient, statistics = jax.grad(loss_of, has_aux=True)(params, statistics, rows)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, updates), statistics, state), None

    @jax.jit
    def train(variables):
        keys = jax.random.split(jax.random.key(0), 20)
        order = jax.vmap(lambda k: jax.random.permutation(k, len(y)))(keys)
        order = order[:, : steps * 50].reshape(-1, 50)
        carry = (variables["params"], variables["batch_stats"])
        (params, statistics, _), _ = jax.lax.scan(
            step, (*carry, optimiser.init(carry[0])), order
        )
        return {"params": params, "batch_stats": statistics}

    trained = train(variables)
    logits = MODULE.apply(trained, data.x_val)
    assert np.mean(np.argmax(logits, -1) == data.y_val) > 0.94
    return data, trained


def score(variables, plan, x, y, draws, key=0, hyper=BENCHMARK):
    """Accuracy [draws, times] at the four times."""
    return np.asarray(
        evaluate_compiled(
            jax.random.key(key),
            variables,
            jnp.asarray(x),
            jnp.asarray(y),
            jnp.asarray(TIMES),
            as_arrays(hyper),
            module=MODULE,
            plan=plan,
            settings=Evaluation(draws=draws, batch=100),
        ).accuracy
    )


@pytest.mark.slow
def test_training_for_the_hardware_beats_converting_on_digits(digits):
    """Seed 0 for data, weights and noise; 10 chips; test images, which no step has seen.

    The converted network gets calibrated input ranges, the better of its two options.
    """
    data, trained = digits
    plan = make_plan(MODULE, trained, SHAPE, Structure())
    converted = on_tiles(plan, trained)
    x, y = jnp.asarray(data.x_train), jnp.asarray(data.y_train)
    converted = jax.jit(functools.partial(calibrate, module=MODULE, plan=plan))(
        converted, x
    )
    settings = hwa.FineTune(epochs=15, batch=50)
    tune = jax.jit(
        functools.partial(hwa.fine_tune, module=MODULE, plan=plan, settings=settings)
    )
    training = hwa.Training(range_batches=20)
    tuned, losses = tune(jax.random.key(0), converted, x, y, Hyper(), training, 0.05)
    assert np.isfinite(losses).all()
    before = score(converted, plan, data.x_test, data.y_test, 10)
    after = score(tuned, plan, data.x_test, data.y_test, 10)
    gain = after.mean(1) - before.mean(1)
    # One-sided: the mean gain over chips is positive by more than four standard errors.
    error = np.hypot(after.mean(1).std(ddof=1), before.mean(1).std(ddof=1)) / np.sqrt(10)
    assert gain.mean() > 4 * error
    assert gain.mean() > 0.01


@pytest.mark.slow
def test_accuracy_decays_with_time(digits):
    data, trained = digits
    plan = make_plan(MODULE, trained, SHAPE, Structure())
    found = score(on_tiles(plan, trained), plan, data.x_test, data.y_test, 10)
    assert found[:, 0].mean() > found[:, 3].mean()
    assert found[:, 0].mean() > 0.5


@pytest.mark.slow
def test_children_run_on_tiles():
    """A cell-space child: its tiles hold exactly the matrices that its spec counts."""
    space = NB201(channels=4, cells=1, image=(8, 8, 3))
    spec = space.to_spec(np.asarray((3, 1, 0, 2, 4, 3)))
    child = build(spec)
    shape = (8, 8, 3)
    variables = jax.jit(child.init)(jax.random.key(0), jnp.zeros((1, *shape)))
    plan = make_plan(child, variables, shape, Structure())
    held = sorted((math.prod(a.kernel[:-1]), a.kernel[-1]) for a in plan.layers)
    assert held == sorted((m.inputs, m.outputs) for m in matrices(spec))
    x = jax.random.normal(jax.random.key(1), (8, *shape))
    run = jax.jit(functools.partial(digital_parts, module=child, plan=plan))
    wide = on_tiles(plan, variables, input_range=20.0)
    fine = Hyper()._replace(
        periphery=Hyper().periphery._replace(
            inp_res=0.0, out_res=0.0, out_noise=0.0, out_bound=1e6
        )
    )
    expected = child.apply(variables, x)
    np.testing.assert_allclose(
        run(jax.random.key(0), wide, x, fine), expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_accuracy_is_the_toolkits_over_100_chips(digits, toolkit):
    """Two-sample t of the mean accuracy of 100 reprogrammed chips, each time, p > 1e-4."""
    data, trained = digits
    plan = make_plan(MODULE, trained, SHAPE, Structure())
    converted = on_tiles(plan, trained)
    x = jnp.asarray(data.x_train)
    converted = jax.jit(functools.partial(calibrate, module=MODULE, plan=plan))(
        converted, x
    )
    images, labels = np.asarray(data.x_test[:200]), np.asarray(data.y_test[:200])
    job = {
        "seed": 0,
        "draws": 100,
        "times": TIMES,
        "convolutions": 3,
        "strides": (1, 2, 1),
        "ranges": np.asarray(converted["analog"].input_range),
        "x": np.moveaxis(images, -1, 1),
        "labels": labels.astype(np.int64),
        "out": np.asarray(trained["params"]["out"]["kernel"]).T,
        "out.bias": np.asarray(trained["params"]["out"]["bias"]),
    }
    for i in range(3):
        kernel = np.asarray(trained["params"][f"conv{i}"]["kernel"])
        job[f"conv{i}"] = np.moveaxis(kernel, (-1, -2), (0, 1))
        norm, statistics = (trained[c][f"norm{i}"] for c in ("params", "batch_stats"))
        job[f"norm{i}.weight"] = np.asarray(norm["scale"])
        job[f"norm{i}.bias"] = np.asarray(norm["bias"])
        job[f"norm{i}.running_mean"] = np.asarray(statistics["mean"])
        job[f"norm{i}.running_var"] = np.asarray(statistics["var"])
    theirs = toolkit([("accuracy", job)])[0]["accuracy"]
    ours = score(converted, plan, images, labels, 100)
    error = np.sqrt((ours.var(0, ddof=1) + theirs.var(0, ddof=1)) / 100)
    t = (ours.mean(0) - theirs.mean(0)) / error
    # 198 degrees of freedom: |t| > 3.97 has p = 1e-4. Chips are skewed to the low side.
    assert np.all(np.abs(t) < 3.97), (t, ours.mean(0), theirs.mean(0))
    # The companion that must fail: twice the programming noise.
    louder = Hyper(device=Device(programming_scale=2.0))
    other = score(converted, plan, images, labels, 100, hyper=louder)
    error = np.sqrt((other.var(0, ddof=1) + theirs.var(0, ddof=1)) / 100)
    assert np.any(np.abs(other.mean(0) - theirs.mean(0)) > 3.97 * error)
