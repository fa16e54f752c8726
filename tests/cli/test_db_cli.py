"""The store on the command line: filled by a search, looked into, joined, exported."""

import csv
import json
import os

import pytest

from jaxnas import registry
from jaxnas.cli import main
from jaxnas.cli.db import read_limit
from jaxnas.core.errors import UserError
from jaxnas.data.store.evaluations import Key, Record, Store

SEARCH = [
    "search", "--oracle", "fake-child", "--objective", "digits_accuracy", "--budget", "8",
    "--seeds", "2", "--algorithms", "evolution",
]  # fmt: skip


@pytest.fixture(autouse=True)
def fake_child(monkeypatch):
    monkeypatch.setitem(registry.ORACLES, "fake-child", "jaxnas.testing.fakes:FakeChild")


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in args])
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


def record(number, accuracy, **changes):
    key = Key("child-v1", f"{number:064x}", 0, number % 2, "c" * 64)
    return Record(key, (number,), {"accuracy": accuracy}, {"loss": [0.5]}, 2.0, 0)._replace(
        **changes
    )


@pytest.fixture
def filled(tmp_path):
    path = tmp_path / "filled.sqlite"
    with Store(path) as store:
        for i, accuracy in enumerate([0.5, 0.9, float("nan"), 0.7]):
            store.put(record(i, accuracy))
        store.put(record(4, float("nan"), status=1, message="the loss became NaN"))
    return path


def test_runs_of_one_folder_share_a_store(capsys, tmp_path):
    log = tmp_path / "log"
    out = ["--out", tmp_path / "runs", "--oracle-set", f"log={log}"]
    code, _, err = run(capsys, *SEARCH, *out, "--name", "a", "--workers", "2")
    assert code == 0, err
    assert "evaluations: 2 processes, stored in" in err
    made = log.read_text().splitlines()
    assert f"{len(made)} evaluations, 0 of them found in" in err.replace("\n", " ")
    code, printed, err = run(capsys, *SEARCH, *out, "--name", "b", "--json")
    assert code == 0, err
    assert len(log.read_text().splitlines()) == len(made), "nothing is measured twice"
    events = [json.loads(line) for line in printed.splitlines()]
    (summary,) = [e for e in events if e["event"] == "evaluations"]
    assert summary["found"] == summary["evaluations"] == len(made)
    assert summary["executor"] == "serial"
    store = tmp_path / "runs" / "evaluations.sqlite"
    assert summary["store"] == str(store)
    with Store(store):  # a finished run is shown again while another process writes
        code, printed, err = run(capsys, *SEARCH, *out, "--name", "b")
        assert code == 0, err
        code, printed, err = run(capsys, *SEARCH, *out, "--name", "c")
        assert code == 2
        assert f"is being written by process {os.getpid()}" in err
    code, printed, _ = run(
        capsys, "db", "top", "digits_accuracy", "--store", store, "--json"
    )
    assert code == 0
    best = json.loads(printed)
    assert best[0]["metrics"]["digits_accuracy"] == max(
        row["metrics"]["digits_accuracy"] for row in best
    )


def test_top_and_query(capsys, filled):
    code, out, _ = run(capsys, "db", "top", "accuracy", "--store", filled, "--k", "2")
    assert code == 0
    assert "best accuracy of 5 evaluations" in out
    assert out.index("0.9") < out.index("0.7")
    assert "0.5" not in out.replace("0.5 ", "")
    code, out, _ = run(
        capsys, "db", "top", "accuracy", "--store", filled, "--minimise", "--json"
    )
    assert [row["metrics"]["accuracy"] for row in json.loads(out)] == [0.5, 0.7, 0.9]
    code, out, _ = run(
        capsys, "db", "query", "--store", filled, "--metric", "accuracy>=0.6",
        "accuracy <= 0.8", "--oracle", "child", "--seed", "1", "--json",
    )  # fmt: skip
    (only,) = json.loads(out)
    assert (only["tokens"], only["curves"]) == ([3], {"loss": [0.5]})
    code, out, _ = run(capsys, "db", "query", "--store", filled, "--status", "failed")
    assert "1 of 5 evaluations" in out
    assert "the loss became NaN" in out
    code, out, _ = run(capsys, "db", "query", "--store", filled, "--limit", "2", "--json")
    assert len(json.loads(out)) == 2


def test_export_and_merge(capsys, filled, tmp_path):
    table, joint = tmp_path / "t.csv", tmp_path / "new" / "joint.sqlite"
    code, out, _ = run(capsys, "db", "export", table, "--store", filled, "--seed", "0")
    assert (code, "3 evaluations written" in out) == (0, True)
    with open(table, newline="") as handle:
        assert [row["accuracy"] for row in csv.DictReader(handle)] == ["0.5", "NaN", "NaN"]
    with Store(tmp_path / "other.sqlite") as other:
        other.put(record(0, 0.6))
        other.put(record(9, 0.6))
    sources = [filled, tmp_path / "other.sqlite"]
    code, out, err = run(capsys, "db", "merge", *sources, "--store", joint, "--json")
    assert code == 0, err
    counts = [list(json.loads(line).values())[1:] for line in out.splitlines()]
    assert counts == [[5, 0, 0], [1, 0, 1]]
    code, out, _ = run(capsys, "db", "merge", tmp_path / "other.sqlite", "--store", joint)
    assert "0 added, 1 known, 1 measured otherwise" in out


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["search", "--oracle", "toy", "--objective", "score", "--executor", "serial"],
         "leave --executor out"),
        (["search", "--oracle", "toy", "--objective", "score", "--store", "e.sqlite"],
         "leave --store out"),
        (["search", "--timeout", "3"], "leave --timeout out"),
        ([*SEARCH, "--executor", "serial", "--workers", "2"], "leave --workers out"),
        ([*SEARCH, "--executor", "processes", "--workers", "0"], "--workers must be in"),
        ([*SEARCH, "--timeout", "3"], "add --executor processes"),
        ([*SEARCH, "--executor", "processes", "--timeout", "-1"], "--timeout must be in"),
        (["db", "top", "accurac", "--store", "filled"], "Did you mean 'accuracy'?"),
        (["db", "query", "--metric", "acc>=1", "--store", "filled"], "Unknown metric"),
        (["db", "query", "--metric", "accuracy=1", "--store", "filled"], "not a limit"),
        (["db", "query", "--limit", "0", "--store", "filled"], "--limit must be in"),
        (["db", "top", "accuracy", "--k", "0", "--store", "filled"], "--k must be in"),
        (["db", "top", "accuracy", "--store", "nowhere.sqlite"], "no evaluation store"),
        (["db", "export", "x.parquet", "--store", "filled"], ".csv or .json"),
        (["db", "merge", "--store", "filled"], "at least one store"),
        (["db", "merge", "nowhere.sqlite", "--store", "filled"], "no evaluation store"),
        (["db", "merge", "filled", "--store", "filled"], "itself"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(args, text, capsys, filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *(filled if a == "filled" else a for a in args))
    assert code == 2, out
    assert text in err
    assert len(err.strip().splitlines()) == 1


def test_an_empty_store_says_so(capsys, tmp_path):
    Store(tmp_path / "new.sqlite").close()
    code, _, err = run(capsys, "db", "top", "accuracy", "--store", tmp_path / "new.sqlite")
    assert (code, "no evaluation yet" in err) == (2, True)


def test_limits_are_read():
    assert read_limit("digits_accuracy>=0.9") == ("digits_accuracy", ">=", 0.9)
    assert read_limit(" top 1 <= 1e-3 ") == ("top 1", "<=", 0.001)
    for text in ("accuracy", "accuracy>=", ">=1", "accuracy>=high", "accuracy>=nan"):
        with pytest.raises(UserError, match="not a limit"):
            read_limit(text)


def test_doctor_names_the_ray_extra(capsys):
    _, out, _ = run(capsys, "doctor")
    (words,) = [w for line in out.splitlines() if (w := line.split()) and w[0] == "ray"]
    assert words[1][0].isdigit() or words[-1] == '"jaxnas[ray]"'
