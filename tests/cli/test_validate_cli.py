"""``jaxnas validate`` as a person meets it: refusals, and a benchmark's best on chips."""

import importlib.util
import json

import pytest

from jaxnas.cli import main


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A small search of AnalogNAS-Bench."""
    root = tmp_path_factory.mktemp("runs")
    args = ["search", "--algorithms", "random", "--budget", "10", "--seeds", "1"]
    with pytest.raises(SystemExit) as stop:
        main([*args, "--quiet", "--out", str(root), "--name", "bench"])
    assert not stop.value.code
    return root / "bench"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--top", "0"), "At least one architecture"),
        (("--data", "digitz"), "digits"),
        (("--size", "cell:1"), "cells"),
        (("--repetitions", "0"), "at least 1"),
        (("--python", "/no/such/python"), "cannot be started"),
    ],
)
def test_refusals_are_one_sentence(capsys, searched, options, word):
    code, _, err = run(capsys, "validate", searched, *options)
    assert code == 2
    assert word in err
    assert err.count("\n") == 1


def test_a_missing_run_is_refused(capsys, tmp_path):
    code, _, err = run(capsys, "validate", tmp_path / "none")
    assert code == 2
    assert "does not exist" in err


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("aihwkit") is None, reason="aihwkit is not installed"
)
def test_the_best_of_a_benchmark_ends_in_the_report(capsys, searched):
    small = ("--top", "1", "--epochs", "2", "--hwa-epochs", "1", "--repetitions", "2")
    code, out, err = run(
        capsys, "validate", searched, *small, "--draws", "2",
        "--size", "channels:2,cells:1", "--json",
    )  # fmt: skip
    assert not code, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[0]["event"] == "probe"
    (found,) = rows[-1]["validation"]
    assert len(found["aihwkit"]) == len(found["simulated"]) == 4
    page = (searched / "report.html").read_text()
    assert "On analog hardware, simulated" in page
    assert "Welch" in page
    again, out, _ = run(
        capsys, "validate", searched, *small, "--draws", "2",
        "--size", "channels:2,cells:1", "--json",
    )  # fmt: skip
    assert not again
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert "epoch" not in events  # nothing was measured again
