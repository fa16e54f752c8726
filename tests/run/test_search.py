"""The loop: two paths, any layout and any interruption give the same numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnas
from jaxnas import registry
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Enumerated, required
from jaxnas.registry import make_algorithm, make_oracle, make_space
from jaxnas.run import search as loop
from jaxnas.run import store, waves
from jaxnas.testing.fakes import OnHost

SPACE = make_space("toy")
ORACLE = make_oracle("toy", space=SPACE)
INTEGER = ["random", "local-search", "evolution"]
FITTED = ("model-based", "analog-ea", "dyna-ppo")
"""Methods that fit a kernel again and again."""
SAME = ("curve", "tokens", "objectives", "count", "proposals", "best_tokens", "best_true")


def run(name="evolution", oracle=ORACLE, **options):
    options = {"budget": 20, "seeds": 6, "chunk": 2, **options}
    algo = make_algorithm(name, space=SPACE, batch=2)
    return jaxnas.search(algo, oracle, **options)


def assert_same(a, b, names=SAME):
    for name in names:
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name], err_msg=name)


@pytest.mark.parametrize("name", INTEGER)
def test_split_path_equals_fused_path(name):
    assert_same(run(name), run(name, OnHost(ORACLE)))


def test_split_path_agrees_for_a_gradient_algorithm():
    fused, split = (
        run("reinforce", max_proposals=24),
        run("reinforce", OnHost(ORACLE), max_proposals=24),
    )
    np.testing.assert_array_equal(
        fused.arrays["tokens"][:, :6], split.arrays["tokens"][:, :6]
    )
    a, b = fused.arrays["metric_entropy"], split.arrays["metric_entropy"]
    np.testing.assert_allclose(a[:, :3], b[:, :3], rtol=1e-4)


def test_a_controller_depends_on_its_id_alone():
    wide, narrow = run(seeds=6, width=6), run(seeds=3, width=1)
    for name in SAME:
        np.testing.assert_array_equal(wide.arrays[name][:3], narrow.arrays[name])


def test_chunk_length_and_waves_change_nothing(monkeypatch):
    plain = run()
    assert_same(plain, run(chunk=7))
    two = lambda count, each, step, free: 2 * step
    monkeypatch.setattr(loop.mem, "controllers_that_fit", two)
    assert_same(plain, run(width=1))


def test_a_second_search_does_not_recompile():
    compiled = []

    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    run("evolution", seeds=4)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run("evolution", seeds=4, seed0=1)
        assert not compiled
        run("evolution", seeds=4, budget=19)
        assert compiled, "the listener hears compilations"
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def interrupt_after(events):
    """A callback that raises Ctrl-C at the n-th progress event."""
    left = [events]

    def callback(event):
        if event["event"] == "progress":
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("name", ["evolution", "reinforce"])
@pytest.mark.parametrize("oracle", [ORACLE, OnHost(ORACLE)], ids=["fused", "split"])
def test_interrupted_and_resumed_is_bit_identical(name, oracle, tmp_path, monkeypatch):
    monkeypatch.setattr(waves, "CHECKPOINT_EVERY_S", 0.0)
    options = {"max_proposals": 40, "oracle": oracle}
    whole = run(name, **options)
    with pytest.raises(KeyboardInterrupt):
        run(name, out=tmp_path / "a", callbacks=[interrupt_after(3)], **options)
    assert not (tmp_path / "a" / "results.npz").exists()
    seen = []
    again = run(name, out=tmp_path / "a", callbacks=[seen.append], **options)
    assert seen[0]["event"] == "compiled"
    assert seen[0]["update"] > 0
    names = [n for n in whole.arrays if n != "controller"]
    assert_same(whole, again, names)
    rows = [
        json.loads(line) for line in (tmp_path / "a/rows.jsonl").read_text().splitlines()
    ]
    updates = [row["update"] for row in rows]
    assert updates == sorted(set(updates)), "no row is lost or doubled"


def test_finished_run_is_returned_not_repeated(tmp_path):
    first = run(out=tmp_path / "a")
    seen = []
    second = run(out=tmp_path / "a", callbacks=[seen.append])
    assert seen == []
    assert_same(first, second)
    assert second.best(2) == first.best(2)
    assert jaxnas.load_result(tmp_path / "a").best() == first.best()


def test_changed_configuration_is_refused_and_named(tmp_path):
    run(out=tmp_path / "a")
    with pytest.raises(UserError, match="seeds: 6 -> 5"):
        run(out=tmp_path / "a", seeds=5)
    with pytest.raises(UserError, match=r"max_proposals: 160 -> 100"):
        run(out=tmp_path / "a", max_proposals=100)
    path = tmp_path / "a/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "format": 0}))
    with pytest.raises(UserError, match="format: 0 -> 1"):
        run(out=tmp_path / "a")
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        run(out=tmp_path / "a")
    assert run(out=tmp_path / "a", resume="never").arrays["count"].size == 6


def test_two_writers_are_kept_apart(tmp_path):
    held = store.RunDirectory(tmp_path / "a")
    with pytest.raises(UserError, match="Another process"):
        run(out=tmp_path / "a")
    held.close()


def test_foreign_directories_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        run(out=tmp_path)
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(UserError, match="not a run"):
        run(out=tmp_path, resume="never")
    assert (tmp_path / "thesis.tex").exists(), "--fresh deletes runs only"
    with pytest.raises(UserError, match="not a directory"):
        run(out=tmp_path / "thesis.tex")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seeds": 0}, "seeds must be in"),
        ({"budget": 0}, "budget must be in"),
        ({"budget": 10**6}, "more than the"),
        ({"hparams": {"samples": 3}}, "'sample'"),
        ({"hparams": {"sample": [np.nan]}}, "sample must be in"),
        ({"width": 0}, "width must be in"),
        ({"weights": (1.0, 2.0)}, "2 weights"),
        ({"oracle": make_oracle("analog-nasbench")}, "same space"),
        ({"seeds": 10**9}, "choose fewer"),
    ],
)
def test_bad_input_is_one_sentence(options, text):
    with pytest.raises(UserError, match=text) as caught:
        run(**options)
    assert "\n" not in str(caught.value)


def test_damaged_results_are_named(tmp_path):
    run(out=tmp_path / "a")
    (tmp_path / "a/results.npz").write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match="damaged"):
        run(out=tmp_path / "a")


@pytest.mark.parametrize("noise", ["stored", "resample"])
def test_noisy_runs_resume_and_show_the_truth(noise, tmp_path, monkeypatch):
    monkeypatch.setattr(waves, "CHECKPOINT_EVERY_S", 0.0)
    noisy = make_oracle("toy", space=SPACE, noise=noise)
    whole = run(oracle=noisy)
    with pytest.raises(KeyboardInterrupt):
        run(oracle=noisy, out=tmp_path / "a", callbacks=[interrupt_after(2)])
    again = run(oracle=noisy, out=tmp_path / "a")
    assert_same(whole, again)
    values = set(required(noisy, Enumerated).columns()["score"].astype(np.float32).tolist())
    curve = whole.arrays["curve"]
    assert set(curve[~np.isnan(curve)].tolist()) <= values
    assert not set(whole.arrays["objectives"][:, 0, 0].tolist()) <= values


def test_hparams_are_swept_in_one_program():
    swept = run(seeds=4, hparams={"sample": [1.0, 15.0]})
    assert swept.arrays["setting"].tolist() == [0] * 4 + [1] * 4
    alone = run(seeds=4, hparams={"sample": 1.0})
    np.testing.assert_array_equal(swept.arrays["curve"][:4], alone.arrays["curve"])


def all_but(*left_out):
    return [n for n in registry.names("algorithm") if n not in left_out]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["reinforce"], id="reinforce"),
        pytest.param(all_but("reinforce"), id="others", marks=pytest.mark.slow),
    ],
)
def test_one_device_equals_eight(names, tmp_path):
    """Eight simulated devices in a process of their own.

    Equal to the bit, but for the metrics of gradient methods: a device with one block of
    controllers has no loop over blocks, and XLA then rounds another way. A kernel that is
    fitted again and again from where it stood carries the roundings of all its fits.
    """
    script = Path(__file__).with_name("eight_devices.py")
    command = [sys.executable, str(script), str(tmp_path), *names]
    flags = os.environ.get("XLA_FLAGS", "").split()  # a search in this process set devices
    quick = " ".join(flag for flag in flags if "device_count" not in flag)
    env = {**os.environ, "XLA_FLAGS": quick}
    subprocess.run(command, check=True, env=env, timeout=1200)
    for name in names:
        one, eight = (dict(np.load(tmp_path / f"{name}-{n}.npz")) for n in (1, 8))
        assert one.keys() == eight.keys()
        assert len(np.unique(one["tokens"].reshape(-1, SPACE.length), axis=0)) > 20
        for key, array in one.items():
            rounded = name not in INTEGER and key.startswith(("metric_", "artifact_"))
            near = {"rtol": 1e-2} if name in FITTED else {"rtol": 1e-4, "atol": 1e-5}
            tolerance = near if rounded else {"rtol": 0}
            said = f"{name}: {key}"
            np.testing.assert_allclose(eight[key], array, err_msg=said, **tolerance)
