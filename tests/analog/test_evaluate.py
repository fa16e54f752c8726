"""Accuracy over draws and times: one program, independent draws, the right statistics."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analog_nets import Small, digital_parts, on_tiles, start

from jaxnas.analog import noise
from jaxnas.analog.config import Hyper, Periphery, Structure, as_arrays, preset
from jaxnas.analog.evaluate import Evaluation, evaluate, evaluate_compiled
from jaxnas.analog.plan import make_plan
from jaxnas.analog.program import drift, program
from jaxnas.analog.tile import folded
from jaxnas.core.errors import UserError

MODULE, SHAPE = Small(features=(6, 8)), (8, 8, 1)
TIMES = jnp.asarray([60.0, 2592000.0])
BENCHMARK = Hyper()
SETTINGS = Evaluation(draws=3, batch=16, logits=True, bank_size=1 << 15)


@pytest.fixture(scope="module")
def network():
    """Variables on tiles, plan, and images that their own digital network labels."""
    variables = start(MODULE, SHAPE)
    plan = make_plan(MODULE, variables, SHAPE, Structure())
    images = jax.random.normal(jax.random.key(1), (40, *SHAPE))
    labels = jnp.argmax(MODULE.apply(variables, images), axis=-1).astype(jnp.int32)
    return on_tiles(plan, variables), plan, images, labels


def run(network, settings=SETTINGS, key=0, times=TIMES, hyper=BENCHMARK, variables=None):
    """One evaluation of the network."""
    own, plan, images, labels = network
    return evaluate_compiled(
        jax.random.key(key),
        variables or own,
        images,
        labels,
        times,
        as_arrays(hyper),
        module=MODULE,
        plan=plan,
        settings=settings,
    )


def test_other_weights_numbers_and_times_do_not_compile_again(network):
    run(network)
    before = evaluate_compiled._cache_size()
    other = jax.tree.map(lambda v: 0.9 * v, network[0])
    louder = Hyper(periphery=Periphery(out_noise=0.1, inp_res=1 / 100))
    found = run(network, key=1, times=2 * TIMES, hyper=louder, variables=other)
    assert evaluate_compiled._cache_size() == before
    assert found.accuracy.shape == (3, 2)
    assert np.abs(found.logits - run(network).logits).max() > 0


def test_logits_give_the_accuracy_and_padding_does_not_count(network):
    found = run(network)
    right = np.argmax(found.logits, axis=-1) == np.asarray(network[3])
    assert found.logits.shape == (3, 2, 40, 10)
    np.testing.assert_allclose(found.accuracy, right.mean(-1), rtol=1e-6)


def test_draws_differ_and_a_draw_is_the_same_whatever_their_number(network):
    many = run(network)
    few = run(network, settings=dataclasses.replace(SETTINGS, draws=1))
    np.testing.assert_allclose(many.logits[:1], few.logits, atol=1e-5)
    assert np.abs(many.logits[0] - many.logits[1]).max() > 1e-3
    # Deterministic in the key.
    np.testing.assert_array_equal(run(network).logits, many.logits)


def test_vmap_over_draws_equals_the_loop(network):
    loop = run(network)
    at_once = run(network, settings=dataclasses.replace(SETTINGS, loop="vmap"))
    error = np.abs(loop.logits - at_once.logits)
    # Sums are ordered otherwise, so a product may round to the next ADC step.
    assert np.mean(error > 1e-4) < 0.02
    assert error.max() < 0.2


def test_without_any_noise_it_is_the_digital_network(network):
    own, _, images, _ = network
    silent = Hyper(
        periphery=Periphery(inp_res=0.0, out_res=0.0, out_noise=0.0, out_bound=1e6)
    )
    silent = silent._replace(
        device=silent.device._replace(
            programming_scale=0.0, drift_scale=0.0, read_scale=0.0
        )
    )
    wide = {**own, "analog": own["analog"]._replace(input_range=jnp.full(3, 1e3))}
    found = run(network, hyper=silent, variables=wide)
    digital = MODULE.apply({k: own[k] for k in ("params", "batch_stats")}, images)
    expected = np.broadcast_to(digital, (3, 2, 40, 10))
    np.testing.assert_allclose(found.logits, expected, atol=2e-4)
    assert np.all(np.asarray(found.accuracy) == 1)


def test_output_noise_has_the_stated_deviation():
    """0.0460 in tile units: the noise and the ADC's own error, over many images."""
    draw = lambda shape, repeat: noise.counter_normal(jnp.array([1, 2], jnp.uint32), shape)
    x = jax.random.uniform(jax.random.key(3), (20000, 64), minval=-1)
    w = jax.random.uniform(jax.random.key(4), (8, 64), minval=-0.7, maxval=0.7)
    y = folded(
        x, w, lambda u, v: u @ v.T, 1.0, jnp.ones(1), draw, Periphery(), Structure(), False
    )
    error = np.asarray(y - x @ w.T)
    # Outputs have a deviation of 1.9: none reaches the bound. The DAC adds its own error.
    dac = float(jnp.mean(jnp.sum(w**2, axis=1))) * (2 / 254) ** 2 / 12
    expected = np.sqrt(0.04**2 + (20 / 254) ** 2 / 12 + dac)
    assert error.std() == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["bank", "threefry"])
def test_noise_sources_agree_in_distribution(network, source):
    """Mean and deviation of the logits over images and draws, against the counter's."""
    settings = dataclasses.replace(SETTINGS, draws=8)
    exact = np.asarray(run(network, settings).logits)
    other = dataclasses.replace(settings, noise=source)
    found = np.asarray(run(network, other).logits)
    spread = exact.std(0).mean()
    # 8 chips on each side; programming is common to all images of a chip.
    assert found.std(0).mean() == pytest.approx(spread, rel=0.4)
    assert np.abs(found.mean(0) - exact.mean(0)).mean() < 4 * spread * np.sqrt(2 / 8)
    assert np.abs(found - exact).max() > 0


@pytest.mark.slow
def test_times_share_a_chip_unless_reprogrammed(network):
    """Logit errors of one chip at two times correlate; those of two chips do not."""
    quiet = Hyper(periphery=Periphery(inp_res=0.0, out_res=0.0, out_noise=0.0))
    quiet = quiet._replace(device=quiet.device._replace(read_scale=0.0))
    times = jnp.asarray([60.0, 90.0])

    def correlation(reprogram):
        settings = dataclasses.replace(SETTINGS, draws=8, reprogram=reprogram)
        logits = np.asarray(run(network, settings, times=times, hyper=quiet).logits)
        error = (logits - logits.mean(0)).reshape(8, 2, -1)
        return np.mean([np.corrcoef(e)[0, 1] for e in error])

    assert correlation(False) > 0.95
    assert abs(correlation(True)) < 0.6


@pytest.mark.slow
def test_noise_levels_can_be_swept_by_vmap(network):
    own, plan, images, labels = network
    levels = jnp.asarray([0.0, 0.5, 5.0])

    @jax.jit
    def sweep(levels):
        score = lambda level: evaluate(
            jax.random.key(0), own, images, labels, TIMES[:1],
            Hyper(periphery=Periphery(out_noise=level)),
            module=MODULE, plan=plan, settings=Evaluation(draws=2, batch=40),
        ).accuracy.mean()  # fmt: skip
        return jax.vmap(score)(levels)

    found = np.asarray(sweep(levels))
    assert found[0] > found[2] + 0.2


def test_global_compensation_undoes_the_mean_decay(network):
    """Without it the tile outputs shrink by the drift, to about 0.56 at 30 days."""
    own, plan, _, _ = network
    chip = program(jax.random.key(0), own, plan, Hyper())
    held = drift(jax.random.key(1), chip, 2592000.0, plan, Hyper())
    sums = lambda v: np.bincount(plan.tile_of, np.abs(np.asarray(v)))
    decay = sums(held.weights) / sums(chip.weights)
    assert np.all((decay > 0.45) & (decay < 0.65))
    np.testing.assert_allclose(held.alpha * decay, 1, atol=0.08)
    bare = dataclasses.replace(plan, structure=Structure(compensation="none"))
    held = drift(jax.random.key(1), chip, 2592000.0, bare, Hyper())
    np.testing.assert_array_equal(held.alpha, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["library", "standard-hwa"])
def test_other_presets_run(network, name):
    _, _, images, labels = network
    chosen = preset(name)
    variables = start(MODULE, SHAPE)
    plan = make_plan(MODULE, variables, SHAPE, chosen.structure)
    found = evaluate_compiled(
        jax.random.key(0), on_tiles(plan, variables), images, labels, TIMES[:1],
        as_arrays(chosen.hyper), module=MODULE, plan=plan,
        settings=Evaluation(draws=2, batch=40),
    )  # fmt: skip
    # Labels are the digital network's own: chance is 0.1.
    assert np.all(np.asarray(found.accuracy) > 0.3)


def test_both_routes_are_the_same_tile(network):
    """Folded and unfolded, equal noise: equal up to single ADC steps."""
    own, plan, images, _ = network
    slow = dataclasses.replace(plan, structure=Structure(weight_noise=True))
    score = functools.partial(digital_parts, jax.random.key(5), own, images, Hyper())
    fast_y, slow_y = (
        jax.jit(functools.partial(score, module=MODULE, plan=p))() for p in (plan, slow)
    )
    error = np.abs(fast_y - slow_y)
    assert np.mean(error > 1e-4) < 0.1
    assert error.max() < 0.2


def test_bad_input_is_one_sentence(network):
    own, plan, images, labels = network
    with pytest.raises(UserError, match="40 images and 39 labels"):
        run((own, plan, images, labels[:-1]))
    with pytest.raises(UserError, match="convert"):
        run(network, variables={"params": own["params"]})
    with pytest.raises(UserError, match="Unknown loop"):
        Evaluation(loop="scan")
    with pytest.raises(UserError, match="must all be 1 or more"):
        Evaluation(draws=0)
