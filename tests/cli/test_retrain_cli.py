"""``jaxnas retrain`` and ``search --halving`` as a person meets them."""

import json

import pytest

from jaxnas.cli import main

TRAIN = ("--epochs", "1", "--limit", "80", "--size", "channels:2,cells:1")
SCORE = """
def score(architecture, amount):
    return sum(architecture.values()) + amount


def plain(architecture):
    return sum(architecture.values())
"""


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A search of a space without networks."""
    root = tmp_path_factory.mktemp("toy")
    text = "search --oracle toy --algorithms random --budget 5 --seeds 1 --quiet"
    with pytest.raises(SystemExit) as stop:
        main([*text.split(), "--out", str(root), "--name", "toy"])
    assert not stop.value.code
    return root / "toy"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--top", "0"), "--top must be in"),
        (("--top", "11"), "holds 10 architectures"),
        (("--runs", "0"), "--runs must be in"),
        (("--epochs", "0"), "--epochs must be in"),
        (("--width", "0"), "--width must be in"),
        (("--set", "learning_rate=1"), "Available: augment"),
        (("--set", "optimiser=sdg"), "sgd"),
        (("--data", "digitz"), "digits"),
        (("--data", "photos/gone,size=16"), "photos/gone"),
        (("--size", "cell:1"), "cells"),
        (("--space", "nb201"), "leave --space out"),
    ],
)
def test_refusals_are_one_sentence(capsys, searched, options, word):
    code, _, err = run(capsys, "retrain", searched, *options)
    assert code == 2
    assert word in err
    assert err.count("\n") == 1


def test_a_space_without_networks_and_a_missing_run_are_refused(capsys, toy, tmp_path):
    code, _, err = run(capsys, "retrain", toy, "--top", "1")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be built for images" in err
    code, _, err = run(capsys, "retrain", tmp_path / "none")
    assert code == 2
    assert "does not exist" in err


def test_a_file_of_evaluations_needs_its_space(capsys, tmp_path):
    from jaxnas.data.store.evaluations import Store

    Store(tmp_path / "e.sqlite").close()
    code, _, err = run(capsys, "retrain", tmp_path / "e.sqlite")
    assert code == 2
    assert "--space nb201" in err
    code, _, err = run(capsys, "retrain", tmp_path / "e.sqlite", "--space", "nb201")
    assert code == 2
    assert "holds no evaluation" in err


@pytest.mark.slow
def test_the_best_of_a_benchmark_is_trained_beside_references(capsys, searched, tmp_path):
    small = ("--top", "1", "--runs", "2", "--width", "2", *TRAIN)
    code, out, err = run(capsys, "retrain", searched, *small, "--json")
    assert not code, err
    last = json.loads(out.splitlines()[-1])
    names = [network["name"] for network in last["networks"]]
    assert names == ["found 1", "VGG-like", "ResNet-like", "hand-made CNN"]
    assert all(network["n"] == 2 for network in last["networks"])
    page = (searched / "report.html").read_text()
    assert "Trained in full, beside references" in page
    assert (searched / "retrain.csv").exists()


def halved(capsys, tmp_path, *options):
    (tmp_path / "f.py").write_text(SCORE)
    source = options[0] if options else "score"
    return run(
        capsys, "search", "--oracle", "function", "--space", "toy", "--oracle-set",
        f"source={tmp_path / 'f.py'}:{source}", *options[1:], "--algorithms", "random",
        "evolution", "--seeds", "2", "--out", tmp_path / "runs", "--name", "h", "--json",
    )  # fmt: skip


def test_a_function_with_fidelities_is_halved(capsys, tmp_path):
    options = ("score", "fidelities=1,3,9", "--halving", "hyperband", "--budget", "34")
    code, out, err = halved(capsys, tmp_path, *options)
    assert not code, err
    events = [json.loads(line) for line in out.splitlines()]
    saved = [e["halving"] for e in events if e["event"] == "evaluations"]
    assert len(saved) == 2
    assert all(one["saved"] > 0 for one in saved)
    page = (tmp_path / "runs" / "h" / "report.md").read_text()
    assert "cut short by Hyperband, eta 3" in page


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (
            ("plain", "--halving", "successive"),
            "fidelities=1,3,9",
        ),
        (("score", "fidelities=1,3,9", "--halving", "successive", "--eta", "1.5"), "--eta"),
        (
            ("score", "fidelities=1,3,9", "--halving", "successive", "--budget", "5"),
            "less than one bracket of 9",
        ),
    ],
)
def test_what_cannot_be_halved_is_one_sentence(capsys, tmp_path, options, word):
    code, _, err = halved(capsys, tmp_path, *options)
    assert code == 2
    assert word in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--least", "20"), "10 epochs"),
        (("--resource", "channels", "--oracle-set", "size=channels:1"), "1 channels"),
        (("--resource", "images", "--least", "5000"), "images"),
    ],
)
def test_fidelities_below_the_least_are_refused(capsys, tmp_path, options, word):
    base = ("--oracle", "child", "--space", "nb201", "--halving", "successive")
    code, _, err = run(capsys, "search", *base, *options, "--out", tmp_path)
    assert code == 2
    assert word in err
    assert err.count("\n") == 1


def test_a_table_cannot_be_halved(capsys, tmp_path):
    code, _, err = run(capsys, "search", "--halving", "successive", "--out", tmp_path)
    assert code == 2
    assert "one way only" in err
