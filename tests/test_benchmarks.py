"""The benchmarks' arithmetic: what is counted, summarised and compared."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports a benchmark module by name, its folders being on the path for one test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(BENCHMARKS)):
            del sys.modules[name]


def test_flops_of_cartpole_ppo_are_those_counted_by_hand(load):
    flops = load("flops")
    actor = 2 * (4 * 64 + 64 * 64 + 64 * 2)
    critic = 2 * (4 * 64 + 64 * 64 + 64 * 1)
    rollout = 512 * actor + 516 * critic
    training = 4 * 512 * (3 * (actor + critic) - 2 * 2 * 4 * 64)
    assert flops.cartpole_ppo() == rollout + training
    assert flops.cartpole_ppo(epochs=0) == rollout


def test_flops_of_the_token_lstm_are_those_counted_by_hand(load):
    flops = load("flops")
    step = 2 * (64 * 256 + 64 * 5)
    assert flops.token_lstm() == 3 * 8 * 12 * step


def test_flops_of_the_latent_decoder_are_those_counted_by_hand(load):
    products = 8 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 32 + 32 * 16 + 16 * 22
    assert load("flops").latent_decoder() == 2 * products


def test_a_row_has_the_documented_fields_and_milliseconds_a_unit(load):
    harness = load("harness")
    ready = {
        "ready": "x",
        "unit": "update",
        "units": 10,
        "prepare_wall_s": 1.0,
        "prepare_cpu_s": 2.0,
        "facts": {},
    }
    turns = [{"cpu_s": s, "wall_s": 2 * s, "checksum": 1.0} for s in (0.03, 0.01, 0.02)]
    contender = harness.Contender("X", "ours/x.py", ("--n", "1"))
    row = harness.summarise(contender, ready, turns)
    where = {**harness.provenance(), "pinned_to": [0], "load": 0.0}
    assert set(row | where) == set(harness.ROW_FIELDS)
    found = (row["ms_min"], row["ms_median"], row["ms_max"], row["wall_ms_median"])
    np.testing.assert_allclose(found, (1.0, 2.0, 3.0, 4.0))
    assert row["command"] == "python benchmarks/ours/x.py --n 1"


def test_a_markdown_table_has_a_line_for_each_row(load):
    text = load("harness").markdown(["a", "b"], [[1, 2], [3, 4]])
    assert text.splitlines() == ["| a | b |", "| --- | --- |", "| 1 | 2 |", "| 3 | 4 |"]


def test_the_reference_ledger_counts_first_evaluations_only(load):
    baselines = load("numpy_baselines")
    ledger = baselines.Ledger([1.0, 3.0, 2.0, 5.0], budget=3, max_proposals=10)
    assert [ledger.ask(row) for row in (0, 0, 1, 2)] == [1.0, 1.0, 3.0, 2.0]
    assert ledger.curve == [1.0, 3.0, 3.0]
    with pytest.raises(baselines.BudgetSpentError):
        ledger.ask(3)


def test_reference_neighbours_differ_on_one_edge(load):
    baselines = load("numpy_baselines")
    digits = lambda row: np.array([row // place % 5 for place in baselines.PLACE])
    row = 7_654
    near = baselines.NEIGHBOURS[row]
    assert len(set(near)) == 24
    assert all(np.sum(digits(row) != digits(other)) == 1 for other in near)


@pytest.mark.parametrize(
    "name", ["random", "evolution-30-15", "local-search", "tabular-reinforce"]
)
def test_a_reference_climbs_and_stops_at_its_budget(load, name):
    baselines = load("numpy_baselines")
    values = np.random.default_rng(0).permutation(baselines.SIZE).astype(float)
    curve = baselines.run(name, values.tolist(), seed=0, budget=60)
    assert curve.shape == (60,)
    reached = curve[np.isfinite(curve)]
    assert np.all(np.diff(reached) >= 0)
    assert reached[-1] > reached[0]


def test_regret_carries_unspent_curves_forward(load):
    regret = load("regret")
    curves = np.array([[1.0, 2.0, np.nan], [1.0, 1.0, 4.0]])
    found, spent = regret.regret_of(curves, best=5.0)
    np.testing.assert_allclose(found, [[4.0, 3.0, 3.0], [4.0, 4.0, 1.0]])
    assert spent == 0.5


def test_a_method_is_compared_by_the_combined_standard_error(load):
    regret = load("regret")
    row = {"regret": [0.0, 1.05] + [0.0] * 4, "se": [0.03] * 6}
    assert regret.worse(row, 1.0, 0.04, 100) == (pytest.approx(1.0), False)
    assert regret.worse(row, 0.9, 0.04, 100)[1]


def test_uncommitted_code_is_refused_or_marked(load, tmp_path, monkeypatch, capsys):
    harness = load("harness")
    monkeypatch.delenv(harness.ALLOWED, raising=False)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    run = lambda *args: subprocess.run([*git, *args], check=True, capture_output=True)
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    assert harness.commit() == "unknown+changes"
    (tmp_path / "jaxnas").mkdir()
    source = tmp_path / "jaxnas" / "a.py"
    source.write_text("1")
    for args in (["init"], ["add", "."], ["commit", "-m", "a"]):
        run(*args)
    assert not harness.Parser("text").parse_args([]).allow_dirty
    source.write_text("2")
    with pytest.raises(SystemExit):
        harness.Parser("text").parse_args([])
    assert "--allow-dirty" in capsys.readouterr().err
    monkeypatch.setenv(harness.ALLOWED, "")
    harness.Parser("text").parse_args(["--allow-dirty"])
    assert harness.provenance()["commit"].endswith("+changes")


def test_every_benchmark_asks_the_harness(load):
    own = [
        p.name
        for p in BENCHMARKS.glob("*.py")
        if "argparse.ArgumentParser" in p.read_text()
    ]
    assert own == ["harness.py"]


@pytest.mark.slow
def test_the_accelerator_script_goes_through_dry():
    """Every method in both layouts, with tiny sizes on a CPU, and rejax where it is."""
    script = [sys.executable, str(BENCHMARKS / "accelerator.py"), "--dry-run"]
    found = subprocess.run(
        [*script, "--seconds", "900", "--allow-dirty"],
        capture_output=True, text=True, timeout=1000,
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    rows = [line.split(" | ") for line in found.stdout.splitlines() if "/s |" in line]
    methods = ("token reinforce", "token ppo", "CartPole ppo", "latent ppo")
    for layout in ("wide", "blocked"):
        measured = [row[0].strip("| ") for row in rows if row[1] == layout]
        assert set(measured) >= set(methods), found.stdout


def test_an_accelerator_row_says_its_share_of_the_peak_or_why_not(load):
    accelerator = load("accelerator")
    head = {"name": "x", "layout": "wide", "size": 1024, "unit": "steps"}
    measured = {"rate": 2e6, "flops": 5e12, "bytes": 3e9, "compile_s": 1.25}
    row = {**head, **measured, "skipped": ""}
    assert accelerator.line(row, 100.0)[3:] == [
        "2,000,000 steps/s", "5,000.0", "5.00%", "3.00", "1.2",
    ]  # fmt: skip
    assert accelerator.line(row, None)[5] == "peak unknown"
    assert "no time" in accelerator.line({**head, "skipped": "no time left"}, 1.0)[3]
