"""Real networks on simulated chips: repeatable, and the same network by either route."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.analog import config, evaluate, hwa
from jaxnas.analog.plan import make_plan
from jaxnas.analog.program import ideal
from jaxnas.analog.variables import convert
from jaxnas.children.build import build
from jaxnas.children.choice import build_choice, choose, select
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Measuring
from jaxnas.core.types import FAILED, OK
from jaxnas.oracles.analog import LABELS, AnalogOracle
from jaxnas.testing.tiny import TinyNets

CONV = np.array([1, 0], np.int32)
SHAPE = (8, 8, 1)


def oracle(**options):
    small = {"epochs": 2, "limit": 200, "hwa_epochs": 1, "draws": 3, "chip_images": 50}
    return AnalogOracle(TinyNets(), **{**small, **options})


def test_metrics_are_those_of_the_chips():
    found = oracle().measure(CONV)
    assert found.status == OK
    chips = np.reshape(found.curves["chips"], (3, 4))
    assert len(np.unique(chips, axis=0)) > 1
    for i, name in enumerate(LABELS):
        assert found.metrics[name] == pytest.approx(chips[:, i].mean())
        assert found.metrics[f"{name}_sd"] == pytest.approx(np.std(chips[:, i], ddof=1))
    assert found.metrics["avm"] == pytest.approx(chips[:, 0].mean() - chips[:, 3].mean())
    assert found.metrics["tiles"] == 3  # stem, one searched convolution, head
    assert np.allclose(chips * 50 / 100, np.round(chips * 50 / 100), atol=1e-4)
    assert isinstance(oracle(), Measuring)
    assert oracle().measure(CONV).metrics == found.metrics
    assert oracle(seed=1).measure(CONV).metrics["val_loss"] != found.metrics["val_loss"]


def test_diverged_training_has_no_analog_score():
    found = oracle(lr=1e30).measure(CONV)
    assert found.status == FAILED
    assert np.isnan([found.metrics[name] for name in LABELS]).all()


def test_every_setting_is_in_the_id():
    base = oracle()
    changed = {"hwa_epochs": 2, "hwa_lr": 0.1, "draws": 4, "chip_images": 51, "epochs": 3}
    ids = {dataclasses.replace(base, **{k: v}).id for k, v in changed.items()}
    assert len(ids | {base.id}) == len(changed) + 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"draws": 0}, "at least 1"),
        ({"preset": "ibm"}, "ibm-benchmark"),
        ({"objective": "analog_1year"}, "analog_1"),
    ],
)
def test_refusals(options, word):
    with pytest.raises(UserError, match=word):
        oracle(**options)


@pytest.fixture(scope="module")
def networks():
    """One network for all architectures, and one of them alone, with the same weights."""
    module = build_choice(TinyNets())
    x = jax.random.uniform(jax.random.key(1), (20, *SHAPE))
    start = choose(module.init(jax.random.key(0), x), CONV)
    child = build(TinyNets().to_spec(CONV))
    preset = config.preset()
    quiet = config.as_arrays(
        preset.hyper._replace(periphery=preset.hyper.periphery._replace(out_noise=0.0))
    )
    plans = [
        make_plan(module, start, SHAPE, preset.structure),
        make_plan(child, select(module, start, CONV), SHAPE, preset.structure),
    ]
    return module, child, start, x, quiet, plans


def test_choice_and_single_network_are_the_same_on_tiles(networks):
    module, child, start, x, quiet, plans = networks
    pairs = [(module, start), (child, select(module, start, CONV))]
    outputs = [
        evaluate.forward(
            jax.random.key(0), own, ideal(own, plan), x[None], quiet, net, plan
        )[0]
        for (net, variables), plan in zip(pairs, plans, strict=True)
        for own in [convert(plan, variables)]
    ]
    np.testing.assert_allclose(*outputs, atol=1e-5)
    assert plans[0].num_tiles == 4  # both alternatives that have weights
    assert plans[1].num_tiles == 3


def test_training_moves_the_ranges_of_chosen_tiles_only(networks):
    module, _, start, x, quiet, plans = networks
    before = convert(plans[0], start)
    recipe = jax.tree.map(jnp.float32, hwa.RECIPE)
    _, after = jax.jit(
        lambda v, r: hwa.forward(
            v, x, jax.random.key(0), quiet, r, module=module, plan=plans[0]
        )
    )(before, recipe)
    paths = [layer.path[0] for layer in plans[0].layers]
    moved = dict(zip(paths, np.asarray(after["tiles"].seen), strict=True))
    assert moved == {"stem": 1, "op0@1.conv": 1, "op1@1.conv": 0, "logits": 1}
    ranges = np.asarray(after["analog"].input_range)
    assert ranges[paths.index("op1@1.conv")] == before["analog"].input_range[0]
    stem = 3 * jnp.std(_patches(x), ddof=1)
    assert ranges[paths.index("stem")] == pytest.approx(float(stem), rel=1e-5)


def _patches(x):
    """What the stem's tile sees: 3 x 3 windows of stride 2, zeros around."""
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return jnp.asarray(windows[:, ::2, ::2].copy())
