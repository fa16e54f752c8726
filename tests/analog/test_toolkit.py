"""The deterministic part and the weight statistics against aihwkit's own torch tile."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analog_nets import OneConv, OneDense, on_tiles, start

from jaxnas.analog.config import Hyper, Periphery, Structure, preset
from jaxnas.analog.evaluate import TIMES, forward
from jaxnas.analog.plan import make_plan
from jaxnas.analog.program import drift, ideal, program

QUIET = Hyper(periphery=Periphery(out_noise=0.0))
# name: module, image shape, tiles that the toolkit makes, columnwise
CASES = {
    "one tile": (OneConv(8), (8, 8, 3), 1, False),
    "two tiles, cut between channels": (OneConv(8), (6, 6, 64), 2, False),
    "two tiles, cut inside a window": (OneConv(8), (6, 6, 61), 2, False),
    "stride 2, one scale a column": (OneConv(8, strides=2), (9, 9, 5), 1, True),
    "dense on 2 x 2 tiles": (OneDense(530), (700,), 4, False),
}


def torch_layout(variables):
    """Weight [O, I, H, W] or [O, I] and bias of the only layer."""
    layer = next(iter(variables["params"].values()))
    return np.moveaxis(np.asarray(layer["kernel"]), (-1, -2), (0, 1)), layer["bias"]


def channels_first(x):
    """[B, H, W, C] to [B, C, H, W]; vectors as they are."""
    return np.moveaxis(np.asarray(x), -1, 1) if x.ndim == 4 else np.asarray(x)


def our_forward(module, variables, plan, x, hyper, seed=0):
    """Outputs with exact weights, channels first."""
    key = jax.random.key(seed)
    held = ideal(variables, plan)
    y = jax.jit(lambda v, x: forward(key, v, held, x[None], hyper, module, plan)[0])(
        variables, x
    )
    return channels_first(y)


@pytest.fixture(scope="module")
def cases(toolkit):
    """For each case: ours, the toolkit's, one ADC step of every output."""
    jobs, ours = [], {}
    for name, (module, shape, tiles, columnwise) in CASES.items():
        scaling = "columnwise" if columnwise else "layerwise"
        variables = start(module, shape, seed=len(name))
        plan = make_plan(module, variables, shape, Structure(scaling=scaling))
        assert plan.num_tiles == tiles
        ranges = 0.8 + 0.3 * np.arange(tiles, dtype=np.float32)
        converted = on_tiles(plan, variables)
        learned = converted["analog"]._replace(input_range=jnp.asarray(ranges))
        converted["analog"] = learned
        x = jax.random.normal(jax.random.key(7), (16, *shape))
        ours[name] = our_forward(module, converted, plan, x, QUIET)
        weight, bias = torch_layout(variables)
        jobs.append(
            (
                "forward",
                {
                    "weight": weight,
                    "bias": bias,
                    "columnwise": columnwise,
                    "strides": getattr(module, "strides", 1),
                    "ranges": ranges,
                    "x": channels_first(x),
                },
            )
        )
        scale = np.max(converted["tiles"].scale)
        ours[name] = (ours[name], plan, 2 * 10 / 254 * ranges.max() * scale)
    return ours, dict(zip(CASES, toolkit(jobs)))


@pytest.mark.parametrize("name", CASES)
def test_tiles_equal_the_toolkits_up_to_single_adc_steps(name, cases):
    """Same weights, ranges and scales; rounding ties may fall to the other side."""
    ours, theirs = cases[0][name], cases[1][name]
    y, plan, step = ours
    found = theirs["y"]
    assert [(t.rows, t.columns) for t in plan.tiles] == [tuple(s) for s in theirs["sizes"]]
    error = np.abs(y - found)
    flipped = error > 1e-4 * step
    # A flip is a product that lies within float rounding of the middle between two steps.
    assert flipped.mean() < 2e-3
    assert np.all(error < 1.001 * step)
    assert np.abs(found).mean() > 2 * step, "outputs must span many steps"


def test_a_wrong_range_is_seen(cases):
    """The comparison can fail: the output of another case's range differs in many steps."""
    y, _, step = cases[0]["one tile"]
    assert np.mean(np.abs(1.1 * y - cases[1]["one tile"]["y"]) > 1e-4 * step) > 0.5


def test_library_preset_equals_the_toolkits_defaults(toolkit):
    """Abs-max noise management for each vector, no scaling, 7 and 9 bits, no noise."""
    shape = (8, 8, 4)
    module = OneConv(6)
    variables = start(module, shape)
    library = preset("library")
    plan = make_plan(module, variables, shape, library.structure)
    x = 3 * jax.random.normal(jax.random.key(3), (4, *shape))
    hyper = library.hyper._replace(
        periphery=library.hyper.periphery._replace(out_noise=0.0)
    )
    y = our_forward(module, on_tiles(plan, variables), plan, x, hyper)
    weight, bias = torch_layout(variables)
    job = {"weight": weight, "bias": bias, "x": channels_first(x)}
    found = toolkit([("library", job)])[0]["y"]
    # No output of these weights reaches the bound of 12, so both make one pass. One step
    # is 24/510 times the largest input of the vector.
    step = 24 / 510 * np.abs(x).max()
    error = np.abs(y - found)
    assert np.mean(error > 1e-4 * step) < 2e-3
    assert error.max() < 1.001 * step


@pytest.fixture(scope="module")
def gaussian_tile(toolkit):
    """A 64 x 256 tile of clipped Gaussian weights: ours and the toolkit's draws."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 256)).astype(np.float32)
    w = np.clip(w, -2 * w.std(), 2 * w.std())
    w /= np.abs(w).max()
    theirs = toolkit([("drift", {"weight": w, "draws": 20, "seed": 1})])[0]
    module = OneDense(64, use_bias=False)
    variables = {"params": {"dense": {"kernel": jnp.asarray(w.T)}}}
    plan = make_plan(module, variables, (256,), Structure())
    converted = on_tiles(plan, variables)

    @jax.jit
    def one(key):
        """One chip at the four times."""
        own, times = jax.random.split(key)
        chip = program(own, converted, plan, Hyper())
        at = lambda k, t: drift(k, chip, t, plan, Hyper())
        return chip, jax.vmap(at)(jax.random.split(times, 4), jnp.asarray(TIMES))

    chips, drifted = jax.lax.map(one, jax.random.split(jax.random.key(2), 20))
    return w.reshape(-1), jax.device_get(chips), jax.device_get(drifted), theirs


# Whole-tile golden statistics of aihwkit over 20 draws, 64 x 256, at the four times:
# mean (deviation between draws) of noiseless alpha and of the error after compensation.
GOLDEN_RATIO = (0.924, 0.766, 0.656, 0.556)
GOLDEN_ALPHA = ((1.0709, 0.0009), (1.2922, 0.0011), (1.5096, 0.0014), (1.7801, 0.0023))
GOLDEN_ERROR = ((0.0916, 0.0008), (0.1045, 0.0009), (0.1210, 0.0007), (0.1425, 0.0013))
GOLDEN_CORRELATION = (0.9958, 0.9945, 0.9927, 0.9899)


def test_whole_tile_statistics_match_the_golden_table(gaussian_tile):
    """Four standard errors of the difference of two means of 20 draws, and the rounding.

    The golden weights are another draw of the same Gaussian: the spread of the statistics
    between tiles is added (0.2 %).
    """
    w, chips, drifted, _ = gaussian_tile
    programmed = np.abs(chips.weights).mean(1)
    error = np.std(chips.weights - w, axis=1) / w.std()
    assert abs(error.mean() - 0.0685) < 0.0685 * 0.01
    for i in range(4):
        d = drifted.weights[:, i]
        alpha = programmed / np.abs(d).mean(1)
        noise = np.std(alpha[:, None] * d - w, axis=1) / w.std()
        correlation = [np.corrcoef(row, w)[0, 1] for row in d]
        four = 4 * np.sqrt(2 / 20)
        mean, sd = GOLDEN_ALPHA[i]
        assert abs(alpha.mean() - mean) < four * sd + 0.002 * mean
        mean, sd = GOLDEN_ERROR[i]
        assert abs(noise.mean() - mean) < four * sd + 0.01 * mean
        ratio = np.abs(d).mean() / np.abs(w).mean()
        assert abs(ratio - GOLDEN_RATIO[i]) < 0.003
        assert abs(np.mean(correlation) - GOLDEN_CORRELATION[i]) < 2e-4


def test_alpha_with_the_noisy_readout_is_within_half_a_percent(gaussian_tile):
    _, _, drifted, theirs = gaussian_tile
    ratio = drifted.alpha[:, :, 0].mean(0) / theirs["alphas"].mean(0)
    np.testing.assert_allclose(ratio, 1, atol=0.005)


def test_weights_are_distributed_as_the_toolkits(gaussian_tile):
    """Two-sample Kolmogorov-Smirnov in bins of the target weight, programmed and drifted.

    The statistic's 1e-4 quantile is 2.22 sqrt((n + m) / (n m)); there are 40 comparisons.
    """
    w, chips, drifted, theirs = gaussian_tile
    pairs = [(chips.weights, theirs["programmed"].reshape(20, -1))]
    for i in range(4):
        pairs.append((drifted.weights[:, i], theirs["drifted"][:, i].reshape(20, -1)))
    edges = np.linspace(-1, 1, 9)
    for ours, toolkits in pairs:
        for low, high in itertools.pairwise(edges):
            inside = (w >= low) & (w <= high)
            # Deviations from the target, so that the bin's own width does not blur them.
            a = np.sort((ours[:, inside] - w[inside]).reshape(-1))
            b = np.sort((toolkits[:, inside] - w[inside]).reshape(-1))
            both = np.concatenate([a, b])
            gap = np.abs(
                np.searchsorted(a, both, "right") / a.size
                - np.searchsorted(b, both, "right") / b.size
            ).max()
            assert gap < 2.22 * np.sqrt((a.size + b.size) / (a.size * b.size))
