"""The aihwkit runner: what it refuses, and that it measures the very same network."""

import importlib.util
import json
import shutil
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
from jaxnas.children.weights import from_arrays, save_network, to_arrays
from jaxnas.core.errors import UserError
from jaxnas.testing.tiny import TinyNets

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("aihwkit") is None,
    reason=f"aihwkit is not installed; {jobs.INSTALL}",
)
TOKENS = np.array([1, 2], np.int32)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90).astype(np.float32)
    x = rng.uniform(size=(90, 8, 8, 1)).astype(np.float32)
    x[:, 2:5, 2:5] += y[:, None, None, None] / 2  # bright squares tell the classes apart
    x = (x / x.max()).astype(np.float32)
    return {"x_train": x[:60], "y_train": y[:60], "x_test": x[60:], "y_test": y[60:]}


def prepare(folder, data, **job):
    child = build(TinyNets(num_classes=3).to_spec(TOKENS))
    variables = child.init(jax.random.key(0), jnp.asarray(data["x_train"][:1]))
    # Statistics as after training, so that batch norm is not the identity.
    x = jnp.asarray(data["x_train"])
    _, stats = child.apply(variables, x, True, mutable=["batch_stats"])
    variables = {**variables, **stats}
    save_network(folder, child.spec, to_arrays(variables))
    settings = {"epochs": 2, "repetitions": 3, "batch": 20, **job}
    jobs.write_job(folder, data, jobs.job_of(config.preset(), **settings))
    return child, variables


@pytest.fixture(scope="module")
def done(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("job")
    child, variables = prepare(folder, data)
    events = []
    metrics = jobs.run_job(folder, progress=events.append)
    return folder, child, variables, metrics, events


def test_digital_accuracy_is_the_flax_networks(done, data):
    _, child, variables, metrics, _ = done
    logits = child.apply(variables, jnp.asarray(data["x_test"]))
    right = np.mean(np.argmax(np.asarray(logits), 1) == data["y_test"])
    assert metrics.digital == pytest.approx(right, abs=1e-9)


def test_every_chip_is_another_and_progress_tells_of_it(done):
    *_, metrics, events = done
    assert metrics.accuracy.shape == (3, 4)
    assert len({tuple(row) for row in metrics.accuracy.tolist()}) > 1
    said = [e["accuracy"] for e in events if e["event"] == "repetition"]
    np.testing.assert_array_equal(said, metrics.accuracy)
    assert [e["loss"] for e in events if e["event"] == "epoch"] == metrics.losses


def test_fine_tuned_weights_come_back_with_a_range_a_tile(done):
    folder, child, variables, *_ = done
    with np.load(folder / "weights_hwa.npz") as file:
        arrays = dict(file)
    ranges = {k: arrays.pop(k) for k in list(arrays) if k.endswith(".input_range")}
    assert set(ranges) == {f"{p}.input_range" for p in ("stem", "op0.conv", "logits")}
    assert all(0 < r < 20 and np.isfinite(r) for v in ranges.values() for r in v)
    tuned = from_arrays(child, arrays)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), tuned, variables)
    assert min(jax.tree.leaves(moved)) > 0
    assert max(jax.tree.leaves(moved)) < 5


def test_without_training_the_weights_are_the_digital_ones(tmp_path, data):
    child, variables = prepare(tmp_path, data, epochs=0, repetitions=1, times=[60.0])
    jobs.run_job(tmp_path)
    with np.load(tmp_path / "weights_hwa.npz") as file:
        arrays = {k: v for k, v in file.items() if not k.endswith(".input_range")}
    tuned = from_arrays(child, arrays)
    for a, b in zip(jax.tree.leaves(tuned), jax.tree.leaves(variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_the_same_seed_gives_the_same_chips(done, tmp_path, data):
    *_, metrics, _ = done
    prepare(tmp_path, data)
    np.testing.assert_array_equal(jobs.run_job(tmp_path).accuracy, metrics.accuracy)


def test_runs_beside_a_copy_without_the_package(done, tmp_path):
    """The files are the contract: the runner needs no jaxnas."""
    source, *_, metrics, _ = done
    for name in ("runner.py", "torch_net.py", "torch_tiles.py"):
        shutil.copy(jobs.RUNNER.with_name(name), tmp_path)
    for name in ("spec.json", "weights.npz", "data.npz", "job.json"):
        shutil.copy(source / name, tmp_path)
    hidden = "import sys; sys.modules['jaxnas'] = sys.modules['jax'] = None; "
    path = f"sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['', {str(tmp_path)!r}]; "
    start = "import runner; sys.exit(runner.main())"
    command = [sys.executable, "-I", "-c", hidden + path + start]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_array_equal(jobs.read_metrics(tmp_path).accuracy, metrics.accuracy)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"job.json": {"epoch": 3}}, "'epoch'"),
        ({"job.json": "no json"}, "cannot be read as a job"),
        ({"data.npz": b"PK damaged"}, "cannot be read as weights"),
        ({"weights.npz": None}, "cannot be read as weights"),
        ({"spec.json": {"format": "other"}}, "no spec of format"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, data, change, word):
    prepare(tmp_path, data)
    for name, content in change.items():
        if content is None:
            (tmp_path / name).unlink()
        elif isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=word) as caught:
        jobs.run_job(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "metrics.json").exists()


def test_probe_knows_a_working_pair():
    found = jobs.probe()
    assert found.ok
    assert "torch 2." in found.message


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("kill -SEGV $$", "crash with signal 11"),
        ("echo 'weights must be a CPU tensor' >&2; exit 1", "must be a CPU tensor"),
        ("sleep 60", "hang"),
    ],
)
def test_probe_survives_a_pair_that_crashes(tmp_path, script, word):
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(broken.stat().st_mode | stat.S_IEXEC)
    found = jobs.probe(str(broken), timeout=3.0)
    assert not found.ok
    assert word in found.message
    assert jobs.INSTALL in found.message
    missing = jobs.probe(str(tmp_path / "none"))
    assert not missing.ok
    assert "cannot be started" in missing.message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "is damaged"),
        ('{"format": "jaxnas-metrics-0"}', "jaxnas-metrics-0"),
        (
            '{"format": "jaxnas-metrics-1", "accuracy": [[1.5]], "times": [60], '
            '"digital": 1, "losses": []}',
            "between 0 and 1",
        ),
        (
            '{"format": "jaxnas-metrics-1", "accuracy": [[0.5]], "times": [60, 61], '
            '"digital": 1, "losses": []}',
            "one for each time",
        ),
    ],
)
def test_metrics_are_checked(tmp_path, text, word):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match=word):
        jobs.read_metrics(tmp_path)


def test_presets_that_the_torch_tile_lacks_are_refused():
    for name in ("standard-hwa", "library"):
        with pytest.raises(UserError, match="torch tile lacks"):
            jobs.job_of(config.preset(name))
