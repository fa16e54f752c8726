"""``--config``, ``config show``, and a run that is run again from what it left."""

import tomllib

import numpy as np
import pytest

from jaxnas.cli import main
from jaxnas.data.formats.npz import read_npz
from jaxnas.data.store.packed import unpack

SPACE = """
name: mine
decisions:
  - {name: depth, choices: [1, 2, 3, 4]}
  - {name: width, choices: [8, 16, 32]}
"""
SCORE = "def score(a):\n    return a['depth'] / a['width']\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SPACE)
    (tmp_path / "train.py").write_text(SCORE)
    return tmp_path


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


CONFIG = """
format = "jaxnas-config-1"
oracle = "function"
oracle-set = { source = "train.py:score" }
space = "mine.yaml"
algorithms = ["random", "evolution"]
budget = 8
seeds = 3
quiet = true
"""


def test_a_run_is_run_again_to_the_same_bits(capsys, here):
    """From the file that it left, also when the space file is gone."""
    (here / "search.toml").write_text(CONFIG)
    code, _, err = run(capsys, "search", "--config", "search.toml", "--name", "first")
    assert code == 0, err
    left = tomllib.loads((here / "runs" / "first" / "config.toml").read_text())
    assert left["budget"] == 8
    assert "quiet" not in left
    (here / "mine.yaml").unlink()
    code, _, err = run(
        capsys,
        "search",
        "--config",
        "runs/first/config.toml",
        "--name",
        "second",
        "--quiet",
    )
    assert code == 0, err
    for method in ("random", "evolution"):
        a, b = (
            read_npz(here / "runs" / name / method / "results.npz")
            for name in ("first", "second")
        )
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


TABLE = """
format = "jaxnas-config-1"
oracle = "table"
oracle-set = { file = "results.csv" }
objective = "acc"
algorithms = ["random"]
budget = 5
seeds = 2
quiet = true
"""


def test_a_packed_run_of_an_own_table_is_run_again_elsewhere(
    capsys, here, monkeypatch, tmp_path_factory
):
    """From its unpacked archive, with the table beside it; without it, a sentence."""
    rows = [f"{d},{w},{d / w}" for d in (1, 2, 3) for w in (8, 16)]
    (here / "results.csv").write_text("\n".join(["depth,width,acc", *rows]))
    (here / "search.toml").write_text(TABLE)
    assert run(capsys, "search", "--config", "search.toml", "--name", "first")[0] == 0
    assert run(capsys, "pack", "runs/first", "--out", "first.zip")[0] == 0
    there = tmp_path_factory.mktemp("there")
    unpack(here / "first.zip", there / "first")
    monkeypatch.chdir(there)
    again = ("search", "--config", "first/config.toml", "--name", "second", "--quiet")
    code, _, err = run(capsys, *again)
    assert code == 2
    assert "results.csv cannot be read" in err
    (there / "results.csv").write_bytes((here / "results.csv").read_bytes())
    code, _, err = run(capsys, *again)
    assert code == 0, err
    a, b = (
        read_npz(path / "random/results.npz")
        for path in (here / "runs/first", there / "runs/second")
    )
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_arguments_win_and_show_prints_what_comes_of_it(capsys, here):
    (here / "search.toml").write_text(CONFIG)
    code, out, _ = run(
        capsys, "config", "show", "search", "--config", "search.toml", "--budget", "5",
        "--no-quiet",
    )  # fmt: skip
    assert code == 0
    shown = tomllib.loads(out)
    assert (shown["budget"], shown["seeds"], shown["quiet"]) == (5, 3, False)
    assert shown["oracle-set"] == ["source=train.py:score"]
    (here / "again.toml").write_text(out)
    assert run(capsys, "config", "show", "search", "--config=again.toml")[1] == out


def test_commands_inside_commands_take_it_too(capsys, here):
    (here / "ask.toml").write_text("n = 3\njson = true\n")
    assert run(capsys, "study", "new", "s.sqlite", "--space", "toy")[0] == 0
    code, out, _ = run(capsys, "study", "ask", "s.sqlite", "--config", "ask.toml")
    assert code == 0
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("budget = ", "is not TOML"),
        ("buget = 3", "Did you mean 'budget'"),
        ('format = "jaxnas-config-2"', "upgrade jaxnas"),
        ('command = "sweep"', "a configuration of 'sweep', not of 'search'"),
        ("budget = [[1]]", None),
        ("budget = 1979-05-27", "cannot be"),
    ],
)
def test_refused_with_code_2(capsys, here, text, words):
    if text is not None:
        (here / "c.toml").write_text(text)
    code, _, err = run(capsys, "search", "--config", "c.toml")
    assert code == 2
    assert words is None or words in err


def test_a_flag_without_a_file_and_a_show_without_a_command(capsys, here):
    code, _, err = run(capsys, "search", "--config")
    assert code == 2
    assert "--config needs a file" in err
    code, _, err = run(capsys, "config", "show")
    assert code == 2
    assert "Name a command" in err
