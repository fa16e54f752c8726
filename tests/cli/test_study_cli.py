"""A study by commands alone, each a process of its own in real life."""

import json

import pytest

from jaxnas.cli import main


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(["study", *map(str, args)])
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


def test_new_ask_tell_best(capsys, tmp_path):
    file = tmp_path / "s.sqlite"
    made = run(capsys, "new", file, "--space", "toy", "--maximise", "acc", "--minimise",
               "ms", "--pin", "layer1=4")  # fmt: skip
    assert made[0] == 0
    code, out, _ = run(capsys, "ask", file, "--n", "3", "--json")
    assert code == 0
    trials = [json.loads(line) for line in out.splitlines()]
    assert [t["architecture"]["layer1"] for t in trials] == [4, 4, 4]
    for i, trial in enumerate(trials):
        code, out, err = run(capsys, "tell", file, trial["id"], f"acc={i}", f"ms={i % 2}")
        assert code == 0, err
    assert "the best: 3: acc 2, ms 0" in out
    asked = [trial["architecture"] for trial in trials]
    ends = [(k, m) for k in (4, 0) for m in (0, 8)]
    several = [{"layer1": 4, "layer2": 8, "layer3": k, "layer4": m} for k, m in ends]
    several = [
        one for one in several if one["layer3"] != one["layer4"] or not one["layer3"]
    ]
    other = next(one for one in several if one not in asked)
    code, _, err = run(capsys, "tell", file, json.dumps(other), "acc=9", "ms=5")
    assert code == 0, err
    code, out, _ = run(capsys, "best", file, "--front", "--json")
    assert [json.loads(line)["values"]["acc"] for line in out.splitlines()] == [9.0, 2.0]
    code, out, _ = run(capsys, "best", file, "--k", "2")
    assert code == 0
    assert "architecture" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["ask", "none.sqlite"], "no study at"),
        (["tell", "none.sqlite", "1", "2"], "no study at"),
        (["tell", "s.sqlite", "7", "1"], "no trial 7"),
        (["tell", "s.sqlite", "x", "1"], "neither the number of a trial nor JSON"),
        (["tell", "s.sqlite", "7", "good"], "is no number"),
        (["new", "s.sqlite", "--space", "toy"], "exists"),
        (["new", "t.sqlite", "--space", "toys"], "Did you mean 'toy'"),
        (["new", "t.sqlite", "--space", "toy", "--maximise", "a", "--minimise", "a"],
         "named twice"),
        (["ask", "s.sqlite", "--n", "0"], "--n must be"),
        (["best", "s.sqlite", "--importance"], "needs 10 architectures"),
    ],
)  # fmt: skip
def test_refused_with_code_2(capsys, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "new", "s.sqlite", "--space", "toy")[0] == 0
    code, _, err = run(capsys, *args)
    assert code == 2
    assert words in err
