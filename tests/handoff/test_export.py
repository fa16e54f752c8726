"""Every export is what a stranger can load, and says where it comes from."""

import hashlib
import json
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from export_nets import FILES, TOKENS, here, kinds, make

from jaxnas.analog import config
from jaxnas.analog.bridge import jobs
from jaxnas.children.build import build
from jaxnas.children.weights import from_arrays, load_network, save_network, to_arrays
from jaxnas.core.errors import UserError
from jaxnas.handoff import formats as ef
from jaxnas.handoff import source as es
from jaxnas.handoff.export import export
from jaxnas.oracles.child import ChildOracle
from jaxnas.registry import make_space
from jaxnas.testing.tiny import TinyNets


@pytest.fixture(scope="module")
def candidate():
    return make()


def logits_of(candidate, x, arrays=None):
    child = build(candidate.spec)
    variables = from_arrays(child, candidate.arrays if arrays is None else arrays)
    return np.asarray(child.apply(variables, jnp.asarray(x)))


@pytest.fixture(scope="module")
def exported(candidate, tmp_path_factory):
    """Exports a format once, when it is first asked for."""
    out, done = tmp_path_factory.mktemp("exports"), {}

    def ask(kind):
        if kind not in done:
            (done[kind],) = export(candidate, out, [kind])
            assert done[kind].error is None
        return done[kind].folder

    return ask


def alone(folder, script, *words, hidden=("jaxnas", "jax", "jaxlib", "flax")):
    """Runs a script of an exported folder as a stranger would; returns its last line."""
    hide = "; ".join(f"sys.modules[{name!r}] = None" for name in hidden)
    code = (
        f"import runpy, sys; {hide}; sys.path.insert(0, {str(folder)!r}); "
        f"sys.argv = {[script, *words]!r}; "
        f"runpy.run_path({str(folder / script)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("kind", list(kinds()))
def test_a_format_stands_with_a_manifest_whose_checksums_hold(exported, candidate, kind):
    folder = exported(kind)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (folder / FILES[kind]).is_file()
    assert manifest["weights"] == "trained"
    assert manifest["facts"]["tokens"] == [1, 2]
    assert manifest["verified"]["largest_difference"] <= manifest["verified"]["tolerance"]
    names = {p.name for p in folder.iterdir()} - {"manifest.json"}
    assert names == set(manifest["files"])
    for name, known in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == known["sha256"]
    shape = ["batch", 1, 8, 8] if ef.FORMATS[kind].layout == "NCHW" else ["batch", 8, 8, 1]
    assert manifest["input"]["shape"] == shape
    assert stat.S_IMODE((folder / FILES[kind]).stat().st_mode) & stat.S_IRGRP
    assert {p.name for p in folder.parent.iterdir()} <= set(ef.FORMATS), "no leftovers"


def test_the_interchange_is_read_by_this_package(exported, candidate):
    child, variables = load_network(exported("spec"))
    assert child.spec == candidate.spec
    for name, value in to_arrays(variables).items():
        np.testing.assert_array_equal(value, candidate.arrays[name])
    again = es.from_folder(exported("spec"))
    assert again.state == es.TRAINED
    assert again.facts == {"tokens": [1, 2]}


@here("torch")
def test_torch_loads_without_this_package(exported):
    said = alone(exported("torch"), "load.py")
    assert 0 <= float(said.rpartition(" ")[2]) < 1e-5


@here("torch", "onnx")
def test_onnx_runs_any_batch_on_other_images(exported, candidate):
    pytest.importorskip("onnxruntime")
    import onnxruntime

    path = str(exported("onnx") / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(5).normal(size=(5, 8, 8, 1)).astype(np.float32)
    (found,) = session.run(None, {"image": np.ascontiguousarray(np.moveaxis(x, -1, 1))})
    np.testing.assert_allclose(found, logits_of(candidate, x), atol=1e-5)
    said = alone(exported("onnx"), "load.py", hidden=("jaxnas", "jax", "torch"))
    assert float(said.rpartition(" ")[2]) < 1e-5


@pytest.mark.slow
@here("torch", "onnx")
def test_onnx_is_read_by_its_own_reference_where_no_runtime_is(exported):
    hidden = ("jaxnas", "jax", "torch", "onnxruntime")
    said = alone(exported("onnx"), "load.py", hidden=hidden)
    assert float(said.rpartition(" ")[2]) < 1e-5


def test_stablehlo_runs_any_batch_on_other_images(exported, candidate):
    from jax import export as jax_export

    content = (exported("stablehlo") / "model.jax_export").read_bytes()
    call = jax_export.deserialize(bytearray(content)).call
    x = np.random.default_rng(5).normal(size=(5, 8, 8, 1)).astype(np.float32)
    found = np.asarray(jax.jit(call)(x))
    np.testing.assert_allclose(found, logits_of(candidate, x), atol=1e-5)


@here("safetensors")
def test_safetensors_has_the_names_of_the_interchange(exported, candidate):
    import safetensors.numpy

    found = safetensors.numpy.load_file(exported("safetensors") / "model.safetensors")
    assert found.keys() == candidate.arrays.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, candidate.arrays[name])


@here("torch", "aihwkit")
def test_analog_file_is_plain_data_with_its_settings(exported):
    import torch

    stored = torch.load(exported("aihwkit") / "analog.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in stored["tensors"].values())
    settings = json.loads(stored["rpu_config"])
    assert settings["object"].endswith(":TorchInferenceRPUConfig")
    assert settings["fields"]["forward"]["fields"]["out_noise"] == 0.04
    assert "PCMLikeNoiseModel" in settings["fields"]["noise_model"]["object"]
    # Saved before drifting: alpha still has the shape that a fresh network takes.
    alphas = [v for k, v in stored["tensors"].items() if k.endswith(".alpha")]
    assert {tuple(alpha.shape) for alpha in alphas} == {(1,)}


@here("torch", "aihwkit")
def test_analog_export_is_measured_again_without_this_package(exported, candidate):
    words = ["--times", "60", "2592000", "--repetitions", "3"]
    found = json.loads(alone(exported("aihwkit"), "load_analog.py", *words))
    logits = logits_of(candidate, candidate.test["x_test"])
    right = float(np.mean(logits.argmax(1) == candidate.test["y_test"]))
    assert found["digital"] == pytest.approx(right, abs=1e-9)
    assert len(found["mean"]) == len(found["sd"]) == 2
    assert all(0 <= value <= 1 for value in found["mean"])


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """A candidate as a validation leaves it, on tiles of 8 x 8."""
    folder = tmp_path_factory.mktemp("validation") / "candidate"
    made = make(seed=3)
    save_network(folder, made.spec, made.arrays)
    data = {"x_train": made.test["x_test"], "y_train": made.test["y_test"], **made.test}
    settings = {"epochs": 1, "repetitions": 1, "times": [60.0], "tile": [8, 8]}
    jobs.write_job(folder, data, jobs.job_of(config.preset(), **settings))
    jobs.run_job(folder)
    (folder / "training.json").write_text('{"val_accuracy": 0.5}')
    return folder


@pytest.mark.slow
@here("torch", "aihwkit")
def test_a_validated_candidate_keeps_its_tuned_weights_and_ranges(validated, tmp_path):
    import torch

    found = es.from_folder(validated)
    assert found.state == es.TRAINED
    (made,) = export(found, tmp_path, ["aihwkit"])
    assert made.error is None
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["weights"] == "hardware-aware"
    assert manifest["details"]["tiles"] > 3, "layers are split over tiles"
    stored = torch.load(made.folder / "analog.pt", weights_only=True)["tensors"]
    ranges = [float(v) for k, v in stored.items() if k.endswith(".input_range")]
    tuned = found.tuned or {}
    known = np.concatenate([v for k, v in tuned.items() if k.endswith(".input_range")])
    np.testing.assert_allclose(sorted(ranges), np.sort(known), rtol=1e-6)
    words = ["--times", "60", "--repetitions", "1"]
    again = json.loads(alone(made.folder, "load_analog.py", *words))
    assert found.test is not None
    weights = {k: v for k, v in tuned.items() if not k.endswith(".input_range")}
    logits = logits_of(found, found.test["x_test"], weights)
    right = float(np.mean(logits.argmax(1) == found.test["y_test"]))
    assert again["digital"] == pytest.approx(right, abs=1e-9)


def test_a_training_gives_weights_and_says_so(tmp_path):
    oracle = ChildOracle(TinyNets(), epochs=1, limit=300)
    found = es.trained(oracle, TOKENS)
    assert found.state == es.TRAINED
    _, variables, _ = oracle.train(TOKENS)
    for name, value in to_arrays(variables).items():
        np.testing.assert_array_equal(found.arrays[name], value)
    start = es.initial(TinyNets(), TOKENS, seed=1)
    assert start.state == es.INITIAL
    (made,) = export(start, tmp_path, ["spec"])
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert "nothing was trained" in manifest["note"]
    sized = es.initial(TinyNets(), TOKENS, size={"channels": 2}, data=oracle.images)
    assert sized.arrays["stem.weight"].shape == (2, 1, 3, 3)
    assert sized.arrays["logits.bias"].shape == (10,)
    smaller = es.initial(TinyNets(), TOKENS, size={"channels": 2})
    assert smaller.arrays["stem.weight"].shape == (2, 1, 3, 3)


def test_a_folder_that_holds_no_network_or_a_damaged_one(tmp_path, candidate):
    with pytest.raises(UserError, match="no saved network"):
        es.from_folder(tmp_path)
    save_network(tmp_path, candidate.spec, candidate.arrays)
    assert es.from_folder(tmp_path).state == es.UNKNOWN
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(UserError, match=r"training\.json is damaged"):
        es.from_folder(tmp_path)


@pytest.mark.parametrize(
    "kind", [*kinds(slow=[*FILES.keys() - {"spec"}], without=["aihwkit"])]
)
def test_a_network_for_texts_is_exported(kind, tmp_path):
    """With a convolution, a GRU, attention and a norm; compared on texts of all lengths."""
    space = make_space("text-chain").for_texts(12, 30, 3)
    layers = [
        {"type": "convolution", "width": 32, "kernel": 3, "normalization": "batch"},
        {"type": "gru", "width": 32, "backward": True, "normalization": "none"},
        {"type": "attention", "normalization": "layer"},
    ]
    layers = [{**layer, "dropout": 0.3} for layer in layers]
    chosen = {"embedding": 16, "word_dropout": 0.3, "layer": layers, "readout": "max"}
    found = es.initial(space, space.from_dict(chosen))
    (made,) = export(found, tmp_path, [kind])
    assert made.error is None
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["input"] == {"layout": "NF", "shape": ["batch", 12]}
    checked = np.load(made.folder / ef.CHECK)["images"]
    assert checked.min() == 0
    assert checked.max() <= 29
    np.testing.assert_array_equal(checked, np.rint(checked))
