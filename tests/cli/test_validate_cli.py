"""``jaxnas validate`` as a person meets it: refusals, and a benchmark's best on chips."""

import importlib.util
import json
from types import SimpleNamespace

import pytest

from jaxnas import registry
from jaxnas.cli import main
from jaxnas.cli.validate import training_oracle


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--top", "0"), "--top must be in"),
        (("--data", "digitz"), "digits"),
        (("--size", "cell:1"), "cells"),
        (("--repetitions", "0"), "--repetitions must be in"),
        (("--python", "/no/such/python"), "cannot be started"),
    ],
)
def test_refusals_are_one_sentence(capsys, searched, options, word):
    code, _, err = run(capsys, "validate", searched, *options)
    assert code == 2
    assert word in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["child", "analog"])
def test_candidates_are_trained_as_in_the_search(name):
    """Also where the search went on to chips, and at the size that it had."""
    space = registry.make_space("nb201", channels=3, cells=1)
    options = {"space": space, "data": "digits", "limit": 100, "lr": 0.03}
    described = {"name": name, "options": options}
    study = SimpleNamespace(
        runs=[SimpleNamespace(config={"oracle": described})],
        task=SimpleNamespace(space=space),
    )
    made = training_oracle(study, None, None, 4, 7)
    assert (made.limit, made.lr, made.epochs, made.seed) == (100, 0.03, 4, 7)
    assert made.network(0).channels == 3
    assert training_oracle(study, None, "channels:5", 4, 7).network(0).channels == 5
    bench = {"name": "analog-nasbench", "options": {}}
    study.runs[0].config["oracle"] = bench
    assert training_oracle(study, None, None, 4, 7).network(0).channels == 8


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
