"""What goes on tiles: the table, what a space can name, and both sides of the bridge."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analog_nets import on_tiles
from every_operation import NODES, SPEC
from networks import random_arrays

import jaxnas
from jaxnas.analog import config, convertible
from jaxnas.analog.bridge import jobs
from jaxnas.analog.config import Hyper, Periphery
from jaxnas.analog.costs import analog_costs
from jaxnas.analog.evaluate import forward
from jaxnas.analog.plan import make_plan
from jaxnas.analog.program import ideal
from jaxnas.children.build import build
from jaxnas.children.count import matrices
from jaxnas.children.weights import from_arrays, save_network
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.operations import OPERATIONS
from jaxnas.handoff.validate import tuned_network
from jaxnas.oracles.analog import AnalogOracle
from jaxnas.spaces.operations import operations_of, ops_of
from jaxnas.spaces.pinned import pinned

OF_TEXTS = {"embedding", "gru", "mask", "global_max_pool"}
SHIPPED = ("vocab", "chain", "zoph-cnn", "hierarchical")
EXACT = Hyper(periphery=Periphery(inp_res=0.0, out_res=0.0, out_bound=1e6, out_noise=0.0))
TOOLKIT = pytest.mark.skipif(
    importlib.util.find_spec("aihwkit") is None,
    reason=f"aihwkit is not installed; {jobs.INSTALL}",
)


def images(n=6):
    return np.random.default_rng(1).uniform(-1, 1, (n, 6, 6, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    """The network with every operation: child, weights, plan and converted variables."""
    child, arrays = build(SPEC), random_arrays(SPEC, 0)
    variables = from_arrays(child, arrays)
    plan = make_plan(child, variables, (6, 6, 2), config.preset().structure)
    return child, arrays, plan, on_tiles(plan, variables)


def on_exact_tiles(child, plan, variables, ranges):
    learned = variables["analog"]._replace(input_range=jnp.asarray(ranges, jnp.float32))
    variables = {**variables, "analog": learned}
    held = ideal(variables, plan)
    run = lambda v, x: forward(jax.random.key(0), v, held, x[None], EXACT, child, plan)[0]
    return np.asarray(jax.jit(run)(variables, jnp.asarray(images())))


def test_the_network_has_every_operation_of_the_table():
    assert {op for _, op, *_ in NODES} == convertible.TABLE.keys() - OF_TEXTS
    assert convertible.TABLE.keys() <= OPERATIONS.keys()


@pytest.mark.parametrize("target", convertible.ON_TILES)
def test_what_the_table_lacks_is_refused_by_everything_analog(target):
    """An operation that somebody adds and nobody places must not stay digital unseen."""
    for operation in {*OPERATIONS, "spiking_cell"} - convertible.TABLE.keys():
        assert "nobody has said" in str(convertible.refusal(operation, target))
    assert convertible.refusal("conv", target) is None


def test_digital_targets_take_every_operation_there_is():
    for operation in OPERATIONS:
        assert convertible.refusal(operation, "torch") is None
    assert "no operation" in str(convertible.refusal("spiking_cell", "onnx"))
    with pytest.raises(UserError, match="Did you mean 'aihwkit'"):
        convertible.refusal("conv", "aihwkitt")


def test_layers_on_tiles_are_those_that_the_table_names(network):
    _, _, plan, _ = network
    found = {layer.path[0].partition(".")[0] for layer in plan.layers}
    named = {name for name, op, *_ in NODES if convertible.TABLE[op].tiles}
    assert found == named


def test_tiles_are_as_many_as_the_costs_count(network):
    _, _, plan, _ = network
    counted = matrices(SPEC)
    assert analog_costs(counted).tiles == plan.num_tiles
    assert sum(m.groups * m.inputs * m.outputs for m in counted) == plan.num_weights
    depth = next(layer for layer in plan.layers if layer.path == ("depth",))
    assert [(t.rows, t.columns) for t in depth.tiles] == [(9, 1)] * 8


def test_without_noise_it_is_the_digital_network(network):
    child, _, plan, variables = network
    y = on_exact_tiles(child, plan, variables, np.full(plan.num_tiles, 1e3))
    digital = child.apply(from_arrays(child, network[1]), jnp.asarray(images()))
    np.testing.assert_allclose(y, digital, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@TOOLKIT
def test_with_clipped_inputs_it_is_aihwkits_network(network, tmp_path):
    """Ranges that differ and clip, exact converters: sizes, order and logits to 1e-4."""
    child, arrays, plan, variables = network
    ranges = np.linspace(0.3, 1.2, plan.num_tiles).astype(np.float32)
    ours = on_exact_tiles(child, plan, variables, ranges)
    digital = child.apply(from_arrays(child, arrays), jnp.asarray(images()))
    assert np.abs(ours - digital).max() > 0.05, "the ranges must clip"
    save_network(tmp_path, SPEC, arrays)
    np.savez(tmp_path / "check.npz", images=images())
    given = {
        f"{'.'.join(layer.path)}.input_range": ranges[[t.index for t in layer.tiles]]
        for layer in plan.layers
    }
    np.savez(tmp_path / "ranges.npz", **given)
    job = {"out_noise": 0.0, "inp_res": -1, "out_res": -1, "out_bound": 1e6}
    job = {**jobs.job_of(config.preset()), **job, "clip_sigma": 2.0, "modifier": 0.0}
    script = Path(__file__).with_name("bridge_logits.py")
    command = [sys.executable, script, jobs.RUNNER.parent, tmp_path, json.dumps(job)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    sizes = [[t.rows, t.columns] for t in plan.tiles]
    assert theirs["sizes"] == sizes
    np.testing.assert_allclose(ours, theirs["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@TOOLKIT
def test_a_job_trains_programs_and_gives_every_array_back(network, tmp_path):
    """Norms and groups come back under their names, with a range for each tile."""
    child, arrays, plan, _ = network
    save_network(tmp_path, SPEC, arrays)
    x, y = np.tile(images(), (4, 1, 1, 1)), np.tile(np.arange(6) % 3, 4)
    data = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    settings = {"epochs": 1, "repetitions": 1, "batch": 12, "times": [60.0]}
    jobs.write_job(tmp_path, data, jobs.job_of(config.preset(), **settings))
    metrics = jobs.run_job(tmp_path)
    assert metrics.facts["tiles"] == plan.num_tiles
    _, tuned_plan, tuned = tuned_network(tmp_path, config.preset())
    assert tuned_plan == plan
    assert (np.asarray(tuned["analog"].input_range) > 0).all()
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()),
        tuned["params"],
        from_arrays(child, arrays)["params"],
    )
    still = [k for k, v in jax.tree_util.tree_leaves_with_path(moved) if not v]
    # A softmax does not change with a bias of its keys, which has no gradient therefore.
    assert [jax.tree_util.keystr(k) for k in still] in ([], ["['attended.key']['bias']"])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_declared_space_names_every_operation_of_its_networks(name):
    """What 150 random networks have is named, and what is named some network has."""
    space = jaxnas.make_space(name)
    rows = np.asarray(tk.draw(space, jax.random.split(jax.random.key(0), 150)))
    found = {op for row in rows for op in ops_of(space.to_spec(row))}
    named = operations_of(space)
    assert found == named.keys()
    assert named["linear"] == "its network"


def test_pinned_decisions_take_their_operations_away():
    space = jaxnas.make_space("hierarchical")
    few = pinned(space, {"depth": 1, "motif1_in_mid": "conv1x1", "motif1_in_out": "skip"})
    few = pinned(few, {"motif1_mid_out": "conv3x3"})
    gone = operations_of(space).keys() - operations_of(few).keys()
    assert gone == {"depthwise_conv", "max_pool", "zero"}


def test_other_spaces_are_probed_and_those_without_networks_are_empty():
    ops = operations_of(jaxnas.make_space("nb201"))
    assert ops["relu_conv_bn"] == "its network"
    assert ops["zero"].startswith("an architecture such as {'edge12'")
    document = {"name": "bare", "decisions": [{"name": "depth", "choices": [1, 2]}]}
    assert operations_of(jaxnas.declare(document)) == {}


DOCUMENT = {
    "name": "mixed",
    "decisions": [{"name": "kind", "choices": ["plain", "split", "halves"]}],
    "operations": {
        "plain": {"op": "conv", "kernel": 3},
        "split": {"op": "depthwise_conv", "kernel": 3},
        "halves": {"op": "conv", "kernel": 3, "groups": 3},
    },
    "network": [
        {"op": "conv", "kernel": 3, "features": 6},
        {"op": "$kind"},
        {"op": "global_avg_pool"},
        {"op": "linear", "features": "$classes"},
    ],
}


def test_one_choice_of_many_is_refused_by_its_name_before_a_search(monkeypatch):
    space = jaxnas.declare(DOCUMENT)
    AnalogOracle(space)
    reason = {"analog": "its tiles are too small", "aihwkit": "it has no such layer"}
    placed = convertible.Placement("a matrix", "", reason)
    monkeypatch.setitem(convertible.TABLE, "depthwise_conv", placed)
    words = r"'depthwise_conv', put there by kind = 'split', .*its tiles are too small"
    with pytest.raises(UserError, match=words):
        AnalogOracle(space)
    AnalogOracle(pinned(space, {"kind": "plain"}))
    spec = space.to_spec(np.array([1], np.int32))
    with pytest.raises(UserError, match=r"'kind': 'split'.*it has no such layer"):
        convertible.check_spec(spec, "aihwkit")
    convertible.check_spec(spec, "torch")


def test_groups_that_do_not_divide_the_channels_are_named():
    space = jaxnas.declare({**DOCUMENT, "sizes": {"width": 4}, "network": [
        {"op": "conv", "kernel": 3, "features": "$width"}, *DOCUMENT["network"][1:]
    ]})  # fmt: skip
    with pytest.raises(UserError, match=r"cannot split 4 -> 4 channels into 3"):
        build(space.to_spec(np.array([2], np.int32)))


def test_a_text_without_recurrence_goes_on_tiles_and_a_gru_is_refused_by_name():
    """Padding included; the table of the embedding stays digital."""
    space = jaxnas.make_space("text-chain").for_texts(6, 20, 2)
    with pytest.raises(UserError, match=r"'gru', put there by .* loop of its own"):
        convertible.check_space(space, "analog")
    convertible.check_space(space, "aihwkit")
    rows = np.asarray(tk.draw(space, jax.random.split(jax.random.key(0), 64)))
    specs = [space.to_spec(row) for row in rows]
    spec = max((s for s in specs if "gru" not in ops_of(s)), key=lambda s: len(s["nodes"]))
    convertible.check_spec(spec, "analog")
    child, arrays = build(spec), random_arrays(spec, 0)
    variables = from_arrays(child, arrays)
    plan = make_plan(child, variables, (6,), config.preset().structure)
    ids = np.array([[3, 4, 5, 19, 2, 1], [7, 8, 0, 0, 0, 0]], np.float32)
    held = on_tiles(plan, variables)
    learned = held["analog"]._replace(input_range=jnp.full(plan.num_tiles, 1e3))
    held, ideally = {**held, "analog": learned}, ideal(held, plan)
    run = lambda v, x: forward(jax.random.key(0), v, ideally, x[None], EXACT, child, plan)[
        0
    ]
    np.testing.assert_allclose(
        jax.jit(run)(held, jnp.asarray(ids)),
        child.apply(variables, jnp.asarray(ids)),
        rtol=1e-4,
        atol=1e-4,
    )
