"""``jaxnas export`` as a person meets it, from a search of a benchmark to a stranger."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from jaxnas import registry
from jaxnas.children.weights import save_network
from jaxnas.cli import main
from jaxnas.core import tokens as tk
from jaxnas.handoff import source as es

analog = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "aihwkit")),
    reason="torch and aihwkit are not installed",
)
SMALL = ("--size", "channels:2,cells:1")


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


@pytest.mark.slow
@analog
def test_a_candidate_of_the_benchmark_is_measured_without_this_package(
    capsys, tmp_path, searched
):
    out = tmp_path / "out"
    code, said, err = run(
        capsys, "export", "best", "--run", searched, "--untrained", *SMALL,
        "--to", "torch,aihwkit", "--out", out,
    )  # fmt: skip
    assert code == 0, err
    assert "INITIAL WEIGHTS, nothing was trained" in said
    assert "logits differ by" in said
    manifest = json.loads((out / "aihwkit" / "manifest.json").read_text())
    assert manifest["weights"] == "initial"
    assert "nothing was trained" in manifest["note"]
    assert manifest["facts"]["recorded"]["metrics"]["digital"] > 10
    # A stranger: no jaxnas, no jax, images of his own.
    rng = np.random.default_rng(0)
    images = {
        "x_test": rng.uniform(size=(20, 32, 32, 3)).astype(np.float32),
        "y_test": rng.integers(0, 10, 20).astype(np.float32),
    }
    np.savez(tmp_path / "images.npz", **images)
    hide = "import sys\nfor n in ('jaxnas', 'jax', 'flax'): sys.modules[n] = None\n"
    loads = (
        f"sys.path.insert(0, {str(out / 'torch')!r})\n"
        "import load, torch\n"
        "assert load.load()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)\n"
    )
    measures = (
        f"sys.path.insert(0, {str(out / 'aihwkit')!r})\n"
        f"sys.argv = ['', '--data', {str(tmp_path / 'images.npz')!r}, "
        "'--times', '60', '2592000', '--repetitions', '2']\n"
        "import load_analog\nsys.exit(load_analog.main())\n"
    )
    for code in (loads, measures):
        command = [sys.executable, "-I", "-c", hide + code]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["mean"]) == len(found["sd"]) == 2
    assert all(0 <= value <= 1 for value in [found["digital"], *found["mean"]])


def test_weights_of_a_validation_are_used(capsys, tmp_path, searched):
    space = registry.make_space("nb201")
    code, said, _ = run(
        capsys, "export", "best", "--run", searched, "--untrained", *SMALL, "--json",
        "--out", tmp_path / "first",
    )  # fmt: skip
    assert code == 0
    events = [json.loads(line) for line in said.splitlines()]
    assert [event["event"] for event in events] == ["network", "exported"]
    assert events[1]["difference"] <= 1e-4
    best = np.array(events[0]["tokens"], np.int32)
    first = es.from_folder(tmp_path / "first" / "spec")
    # What a validation leaves: the network, marked as trained to its end.
    folder = searched / "validation" / tk.digest_host(space, best)[:16]
    weights = {name: value + 0.125 for name, value in first.arrays.items()}
    save_network(folder, first.spec, weights)
    (folder / "training.json").write_text('{"val_accuracy": 0.75}')
    (folder / "key.txt").write_text("key")
    args = ["export", "best", "--run", searched, "--out", tmp_path / "second"]
    code, said, _ = run(capsys, *args)
    assert code == 0
    assert "trained weights" in said
    second = es.from_folder(tmp_path / "second" / "spec")
    assert second.state == es.TRAINED
    assert second.facts["training"] == {"val_accuracy": 0.75}
    for name, value in second.arrays.items():
        np.testing.assert_array_equal(value, weights[name])
    code, _, err = run(capsys, *args)
    assert code == 2
    assert "--overwrite" in err


def test_the_newest_run_is_meant_where_none_is_named(
    capsys, tmp_path, searched, monkeypatch
):
    (tmp_path / "runs").symlink_to(searched.parent)
    monkeypatch.chdir(tmp_path)
    code, _, err = run(
        capsys, "export", "best", "--untrained", *SMALL, "--to", "safetensors,onxx"
    )
    assert code == 2
    assert "Did you mean 'onnx'" in err
    assert not (tmp_path / "exports").exists(), "refused before anything is made"
    code, _, err = run(capsys, "export", "best", "--untrained", *SMALL)
    assert code == 0, err
    assert (tmp_path / "exports" / "bench-1" / "spec" / "weights.npz").is_file()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["bset"], "neither 'best', nor tokens"),
        (["2,2,0"], "6 tokens from 0 to 4, not 2,2,0"),
        (["2,2,0,4,2,9"], "from 0 to 4"),
        (["2,2,0,4,2,1", "--space", "nb202"], "Did you mean 'nb201'?"),
        (["2,2,0,4,2,1", "--to", "onxx"], "Did you mean 'onnx'?"),
        (["2,2,0,4,2,1", "--to", "spec,spec"], "twice"),
        (["2,2,0,4,2,1", "--untrained", "--size", "channels:x"], "channels:x"),
        (["2,2,0,4,2,1", "--untrained", "--size", "chans:2"], "'channels'"),
        (["2,2,0,4,2,1", "--data", "digit"], "digits"),
        (["best", "--run", "nowhere"], "nowhere does not exist"),
        (["best", "--rank", "0"], "--rank must be in"),
        (["best"], "--run"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    args, text, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "export", *args)
    assert code == 2
    assert text in err
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    assert not list(tmp_path.rglob("*.json"))


def test_a_format_that_fails_is_said_and_others_stay(capsys, tmp_path):
    args = ["export", "2,2,0,4,2,1", "--untrained", *SMALL, "--to", "spec,torch"]
    code, said, err = run(capsys, *args, "--out", tmp_path, "--python", tmp_path / "none")
    assert code == 2
    assert "torch: not exported" in said
    assert "cannot be started" in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["spec"]
