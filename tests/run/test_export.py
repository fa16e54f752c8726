"""Every export is read back and compared; what differs or does not fit leaves nothing."""

import errno
import hashlib
import importlib.util
import json
import os
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.analog import config
from jaxnas.analog.bridge import jobs
from jaxnas.children.build import build
from jaxnas.children.weights import from_arrays, load_network, save_network, to_arrays
from jaxnas.core.errors import DiskFullError, JaxnasError, UserError
from jaxnas.oracles.child import ChildOracle
from jaxnas.run import export_formats as ef
from jaxnas.run import export_source as es
from jaxnas.run.export import export
from jaxnas.spaces import spec as sp
from jaxnas.testing.tiny import TinyNets

NEEDS = {"torch": ("torch",), "onnx": ("torch", "onnx"), "aihwkit": ("torch", "aihwkit"),
         "safetensors": ("safetensors",)}  # fmt: skip
TOKENS = np.array([1, 2], np.int32)
FILES = {
    "spec": "weights.npz",
    "torch": "model.pt",
    "onnx": "model.onnx",
    "stablehlo": "model.jax_export",
    "safetensors": "model.safetensors",
    "aihwkit": "analog.pt",
}


def kinds(slow=(), without=()):
    """Formats as parameters; those whose packages are not here say so."""
    for kind in sorted(ef.FORMATS.keys() - set(without)):
        lacking = [n for n in NEEDS.get(kind, ()) if importlib.util.find_spec(n) is None]
        reason = f"not installed: {lacking}"
        marks = [pytest.mark.skipif(bool(lacking), reason=reason)]
        yield pytest.param(kind, marks=[*marks, *[pytest.mark.slow] * (kind in slow)])


def here(*names):
    return pytest.mark.skipif(
        any(importlib.util.find_spec(n) is None for n in names), reason=f"needs {names}"
    )


def make(spec=None, seed=0):
    """A network whose batch norm is not the identity, and labelled images."""
    spec = TinyNets(num_classes=3).to_spec(TOKENS) if spec is None else spec
    child = build(spec)
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(40, 8, 8, 1)).astype(np.float32)
    variables = child.init(jax.random.key(seed), jnp.asarray(x[:1]))
    _, stats = child.apply(variables, jnp.asarray(x), True, mutable=["batch_stats"])
    test = {"x_test": x, "y_test": rng.integers(0, 3, 40).astype(np.float32)}
    arrays = to_arrays({**variables, **stats})
    return es.Candidate(spec, arrays, es.TRAINED, {"tokens": [1, 2]}, test=test)


def logits_of(candidate, x, arrays=None):
    child = build(candidate.spec)
    variables = from_arrays(child, candidate.arrays if arrays is None else arrays)
    return np.asarray(child.apply(variables, jnp.asarray(x)))


@pytest.fixture(scope="module")
def candidate():
    return make()


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

    kept = torch.load(exported("aihwkit") / "analog.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in kept["tensors"].values())
    settings = json.loads(kept["rpu_config"])
    assert settings["object"].endswith(":TorchInferenceRPUConfig")
    assert settings["fields"]["forward"]["fields"]["out_noise"] == 0.04
    assert "PCMLikeNoiseModel" in settings["fields"]["noise_model"]["object"]
    # Saved before drifting: alpha still has the shape that a fresh network takes.
    alphas = [v for k, v in kept["tensors"].items() if k.endswith(".alpha")]
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
    kept = torch.load(made.folder / "analog.pt", weights_only=True)["tensors"]
    ranges = [float(v) for k, v in kept.items() if k.endswith(".input_range")]
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


def other_weights(kind, tmp_path):
    """Puts the file of a network with other weights in the place of the written one."""
    if kind == "aihwkit":
        return change_analog(
            lambda kept: kept["tensors"]["logits.analog_module.bias"].add_(1)
        )
    (made,) = export(make(seed=1), tmp_path / "other", [kind])
    content = (made.folder / FILES[kind]).read_bytes()
    return lambda folder: (folder / FILES[kind]).write_bytes(content)


def change_analog(change):
    import torch

    def tamper(folder):
        kept = torch.load(folder / "analog.pt", weights_only=True)
        change(kept)
        torch.save(kept, folder / "analog.pt")

    return tamper


def attempt(candidate, out, kind, tamper):
    from pathlib import Path

    def callback(event):
        if event["event"] == "written":
            tamper(Path(event["folder"]))

    (made,) = export(candidate, out, [kind], callback=callback)
    return made


@pytest.mark.parametrize("kind", list(kinds(slow=("onnx", "aihwkit"), without=("torch",))))
def test_a_file_with_other_weights_is_caught(candidate, tmp_path, kind):
    out = tmp_path / "out"
    made = attempt(candidate, out, kind, other_weights(kind, tmp_path))
    assert isinstance(made.error, JaxnasError)
    assert made.error.exit_code == 1
    assert f"The {kind} export differs from the network by" in str(made.error)
    assert not list(out.iterdir()), "nothing is left of it"


@here("torch")
def test_torch_files_that_disagree_are_caught(candidate, tmp_path):
    import torch

    def tamper(folder):
        state = torch.load(folder / "model.pt", weights_only=True)
        state["logits.weight"][0, 0] += 1e-3
        torch.save(state, folder / "model.pt")

    made = attempt(candidate, tmp_path, "torch", tamper)
    assert "model.pt and weights.npz differ in 'logits.weight'" in str(made.error)


def rename(text, old, new):
    assert old in text
    return text.replace(old, new)


@here("torch", "aihwkit")
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda k: k["tensors"]["stem.analog_module.input_range"].mul_(0.1), "differs"),
        pytest.param(
            lambda k: k.update(rpu_config=rename(k["rpu_config"], "0.04", "0.05")),
            "another rpu_config",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda k: k.update(
                rpu_config=rename(
                    k["rpu_config"],
                    "aihwkit.inference.compensation.drift:GlobalDriftCompensation",
                    "subprocess:Popen",
                )
            ),
            "'subprocess:Popen', which this aihwkit does not have",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda k: k["tensors"].popitem(),
            "differ in the tensor",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda k: k.update(format="other"),
            "no file of format",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_analog_settings_that_changed_are_caught(candidate, tmp_path, change, word):
    made = attempt(candidate, tmp_path, "aihwkit", change_analog(change))
    assert word in str(made.error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kind", list(kinds(slow=("torch", "onnx", "stablehlo", "aihwkit")))
)
def test_a_damaged_file_is_one_sentence(candidate, tmp_path, kind):
    def tamper(folder):
        path = folder / FILES[kind]
        path.write_bytes(path.read_bytes()[:100])

    made = attempt(candidate, tmp_path, kind, tamper)
    assert made.error is not None
    assert "\n" not in str(made.error)
    assert not list(tmp_path.iterdir())


def interpreter(folder, script):
    """An interpreter that is not quite right."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "package", "mend"),
    [
        pytest.param(
            *("torch", "torch", "run: pip install torch==2.13.0"), marks=pytest.mark.slow
        ),
        ("onnx", "onnx", 'run: pip install "jaxnas[export]"'),
        pytest.param(*("aihwkit", "aihwkit", "aihwkit==1.1.0"), marks=pytest.mark.slow),
    ],
)
@here("torch")
def test_a_missing_package_is_named_and_others_stay(
    candidate, tmp_path, kind, package, mend
):
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / f"{package}.py").write_text(
        f"raise ModuleNotFoundError(\"No module named '{package}'\")"
    )
    start = f'PYTHONPATH={lacking} exec {sys.executable} "$@"'
    python = interpreter(tmp_path / "bin", start)
    first, second = export(candidate, tmp_path / "out", ["spec", kind], python=python)
    assert first.error is None
    assert isinstance(second.error, UserError)
    assert package in str(second.error)
    assert mend in str(second.error)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["spec"]


def test_missing_safetensors_is_named(candidate, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (made,) = export(candidate, tmp_path, ["safetensors"])
    assert isinstance(made.error, UserError)
    assert 'pip install "jaxnas[export]"' in str(made.error)


@pytest.mark.parametrize(
    ("script", "kind", "word"),
    [
        ("kill -SEGV $$", JaxnasError, "could not be written"),
        (f'ulimit -f 2; exec {sys.executable} "$@"', JaxnasError, "could not be written"),
    ],
)
@here("torch")
def test_a_crash_or_a_full_disk_leaves_nothing(candidate, tmp_path, script, kind, word):
    # 2 blocks hold less than the file of weights, with any size of a block.
    python = interpreter(tmp_path / "bin", script)
    (made,) = export(candidate, tmp_path / "out", ["torch"], python=python)
    assert isinstance(made.error, kind)
    assert made.error.exit_code == 1
    assert word in str(made.error)
    assert "\n" not in str(made.error)
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_that_is_full_here_is_said(candidate, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ef, "save_network", full)
    (made,) = export(candidate, tmp_path, ["spec"])
    assert isinstance(made.error, DiskFullError)
    assert "No space left" in str(made.error)
    assert not list(tmp_path.iterdir())


def test_requests_that_cannot_be(candidate, tmp_path):
    with pytest.raises(UserError, match=r"Did you mean 'safetensors'"):
        export(candidate, tmp_path, ["safetensor"])
    with pytest.raises(UserError, match="twice"):
        export(candidate, tmp_path, ["spec", "spec"])
    with pytest.raises(UserError, match="at least one"):
        export(candidate, tmp_path, [])
    (tmp_path / "file").write_text("")
    (made,) = export(candidate, tmp_path / "file", ["spec"])
    assert isinstance(made.error, UserError)
    (made,) = export(candidate, tmp_path, ["torch"], python=str(tmp_path / "none"))
    assert "cannot be started" in str(made.error)


def test_what_is_there_is_replaced_only_on_request_and_after_the_check(candidate, tmp_path):
    export(candidate, tmp_path, ["spec"])
    with pytest.raises(UserError, match="--overwrite"):
        export(make(seed=1), tmp_path, ["spec"])
    tamper = lambda event: (
        event["event"] == "written"
        and os.truncate(os.path.join(event["folder"], "weights.npz"), 50)
    )
    (made,) = export(make(seed=1), tmp_path, ["spec"], overwrite=True, callback=tamper)
    assert made.error is not None
    name = "logits.weight"
    kept = es.from_folder(tmp_path / "spec")
    np.testing.assert_array_equal(kept.arrays[name], candidate.arrays[name])
    (made,) = export(make(seed=1), tmp_path, ["spec"], overwrite=True)
    assert made.error is None
    kept = es.from_folder(tmp_path / "spec")
    assert np.abs(kept.arrays[name] - candidate.arrays[name]).max() > 0
    assert [p.name for p in tmp_path.iterdir()] == ["spec"]


def test_logits_that_are_not_finite_are_refused(candidate, tmp_path):
    huge = {k: np.full_like(v, 1e30) for k, v in candidate.arrays.items()}
    (made,) = export(candidate._replace(arrays=huge), tmp_path, ["spec"])
    assert isinstance(made.error, UserError)
    assert "not finite" in str(made.error)


@here("torch", "aihwkit")
def test_a_layer_that_aihwkit_lacks_is_refused_by_name(tmp_path):
    spec = TinyNets(num_classes=3).to_spec(TOKENS)
    second = {**spec["nodes"][0]["attributes"], "stride": 1, "groups": 4}
    spec["nodes"].insert(1, sp.node("depth", "conv", ["stem"], **second))
    spec["nodes"][2]["inputs"] = ["depth"]
    (made,) = export(make(spec), tmp_path, ["aihwkit"])
    assert isinstance(made.error, UserError)
    assert "aihwkit backend lacks grouped convolutions" in str(made.error)


def test_difference_is_of_the_largest_logit():
    big = np.array([[1000.0, 0.0]])
    assert ef.difference("spec", big + 0.05, big) == pytest.approx(5e-5)
    for wrong in (big + 0.2, big * np.nan, big[:, :1]):
        with pytest.raises(JaxnasError, match="not kept"):
            ef.difference("spec", wrong, big)
    with pytest.raises(JaxnasError, match="not kept"):
        ef.difference("spec", [[2e-4]], np.array([[0.0]]))


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
    sized = es.initial(TinyNets(), TOKENS, size={"channels": 2}, images=((6, 6, 3), 4))
    assert sized.arrays["stem.weight"].shape == (2, 3, 3, 3)
    assert sized.arrays["logits.bias"].shape == (4,)


def test_a_folder_that_holds_no_network_or_a_damaged_one(tmp_path, candidate):
    with pytest.raises(UserError, match="no saved network"):
        es.from_folder(tmp_path)
    save_network(tmp_path, candidate.spec, candidate.arrays)
    assert es.from_folder(tmp_path).state == es.UNKNOWN
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(UserError, match=r"training\.json cannot be read"):
        es.from_folder(tmp_path)
