"""What differs, lacks or does not fit is caught when read back, and leaves nothing."""

import errno
import os
import stat
import sys

import numpy as np
import pytest
from export_nets import FILES, TOKENS, here, kinds, make

from jaxnas.analog import convertible
from jaxnas.core.errors import DiskFullError, JaxnasError, UserError
from jaxnas.handoff import formats as ef
from jaxnas.handoff import source as es
from jaxnas.handoff.export import export
from jaxnas.testing.tiny import TinyNets


@pytest.fixture(scope="module")
def candidate():
    return make()


def other_weights(kind, tmp_path):
    """Puts the file of a network with other weights in the place of the written one."""
    if kind == "aihwkit":
        return change_analog(
            lambda state: state["tensors"]["logits.analog_module.bias"].add_(1)
        )
    (made,) = export(make(seed=1), tmp_path / "other", [kind])
    content = (made.folder / FILES[kind]).read_bytes()
    return lambda folder: (folder / FILES[kind]).write_bytes(content)


def change_analog(change):
    import torch

    def tamper(folder):
        state = torch.load(folder / "analog.pt", weights_only=True)
        change(state)
        torch.save(state, folder / "analog.pt")

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

    monkeypatch.setattr(ef.cw, "save_network", full)
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
    found = es.from_folder(tmp_path / "spec")
    np.testing.assert_array_equal(found.arrays[name], candidate.arrays[name])
    (made,) = export(make(seed=1), tmp_path, ["spec"], overwrite=True)
    assert made.error is None
    found = es.from_folder(tmp_path / "spec")
    assert np.abs(found.arrays[name] - candidate.arrays[name]).max() > 0
    assert [p.name for p in tmp_path.iterdir()] == ["spec"]


def test_logits_that_are_not_finite_are_refused(candidate, tmp_path):
    huge = {k: np.full_like(v, 1e30) for k, v in candidate.arrays.items()}
    (made,) = export(candidate._replace(arrays=huge), tmp_path, ["spec"])
    assert isinstance(made.error, UserError)
    assert "not finite" in str(made.error)


def test_an_operation_that_a_format_cannot_take_is_refused_by_name(tmp_path, monkeypatch):
    placed = convertible.Placement("", "", {"aihwkit": "it has no such layer"})
    monkeypatch.setitem(convertible.TABLE, "relu_conv_bn", placed)
    spec = TinyNets(num_classes=3).to_spec(TOKENS)
    refused, made = export(make(spec), tmp_path, ["aihwkit", "spec"])
    assert "'relu_conv_bn' is refused because it has no such layer" in str(refused.error)
    assert made.error is None


def test_difference_is_of_the_largest_logit():
    big = np.array([[1000.0, 0.0]])
    assert ef.difference("spec", big + 0.05, big) == pytest.approx(5e-5)
    for wrong in (big + 0.2, big * np.nan, big[:, :1]):
        with pytest.raises(JaxnasError, match="not stored"):
            ef.difference("spec", wrong, big)
    with pytest.raises(JaxnasError, match="not stored"):
        ef.difference("spec", [[2e-4]], np.array([[0.0]]))
