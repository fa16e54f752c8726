"""``--resume RUN``: an interrupted or finished run goes on from its directory alone."""

import shutil
import tomllib

import numpy as np
import pytest

from jaxnas.cli import main, search, sweep
from jaxnas.data.formats.npz import read_npz
from jaxnas.run import waves

SMALL = ("--oracle", "toy", "--objective", "score", "--seeds", "2", "--quiet")
RANDOM = ("search", *SMALL, "--algorithms", "random")


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder; reports, which take seconds, have tests of their own."""
    monkeypatch.chdir(tmp_path)
    for command in (search, sweep):
        monkeypatch.setattr(command, "conclude", lambda *args: 0)
    return tmp_path


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("once")
    args = [*RANDOM, "--budget", "8", "--name", "a", "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "conclude", lambda *args: 0)
        with pytest.raises(SystemExit) as stop:
            main(args)
    assert not stop.value.code
    return folder / "a"


@pytest.fixture
def finished(here, once):
    return shutil.copytree(once, here / "runs" / "a")


def assert_same(a, b):
    x, y = read_npz(a / "results.npz"), read_npz(b / "results.npz")
    assert x.keys() == y.keys()
    for name in x:
        np.testing.assert_array_equal(x[name], y[name], err_msg=name)


def options_of(folder):
    return tomllib.loads((folder / "config.toml").read_text())


def test_an_interrupted_run_left_its_options_and_goes_on(capsys, here, monkeypatch):
    """Ctrl-C in the first method; the second has not begun."""

    def stop(*_):
        raise KeyboardInterrupt

    methods = ("random", "local-search")
    args = ("search", *SMALL, "--algorithms", *methods, "--budget", "8")
    with monkeypatch.context() as patch:
        patch.setattr(waves, "aggregate", stop)
        assert run(capsys, *args, "--name", "a")[0] == 130
    left = options_of(here / "runs/a")
    assert (left["budget"], left["algorithms"]) == (8, list(methods))
    assert "resume" not in left
    assert not (here / "runs/a/random/results.npz").exists()
    code, _, err = run(capsys, "search", "--resume", "runs/a", "--quiet")
    assert code == 0, err
    assert run(capsys, *args, "--name", "b")[0] == 0
    for method in methods:
        assert_same(here / "runs/a" / method, here / "runs/b" / method)


def test_a_budget_is_raised_also_from_elsewhere(capsys, finished, monkeypatch):
    """And from then on it is the budget of that directory."""
    elsewhere = finished.parent.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    code, _, err = run(capsys, "search", "--resume", finished, "--budget=16", "--quiet")
    assert code == 0, err
    assert options_of(finished)["budget"] == 16
    assert list(elsewhere.iterdir()) == []
    assert run(capsys, *RANDOM, "--budget", "16", "--name", "b")[0] == 0
    assert_same(finished / "random", elsewhere / "runs" / "b" / "random")
    code, _, err = run(capsys, "search", "--resume", finished, "--quiet")
    assert code == 0, err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--budget", "4"), "can be raised and not lowered to 4"),
        (("--budget", "1000000000"), "ask for at most"),
        (("--seeds", "3"), "leave --seeds out"),
        (("--max_proposals=9", "--oracle_set", "length=3"), "leave --oracle-set out"),
        (("--fresh",), "leave --fresh out"),
        (("--config", "c.toml"), "leave --config out"),
    ],
)
def test_other_options_are_refused_and_the_record_stays(capsys, finished, args, words):
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    code, _, err = run(capsys, "search", "--resume", finished, *args, "--quiet")
    assert code == 2
    assert words in err
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


def test_what_is_no_run_is_refused(capsys, finished, here):
    refused = {
        "none": "holds no config.toml",
        finished / "random": f"--resume {finished}",
        finished / "config.toml": "holds no config.toml",
    }
    assert run(capsys, "pack", finished, "--out", "a.zip")[0] == 0
    refused["a.zip"] = "unzip it"
    for place, words in refused.items():
        code, _, err = run(capsys, "search", "--resume", place)
        assert code == 2
        assert words in err
    code, _, err = run(capsys, "sweep", "--resume", finished)
    assert code == 2
    assert "a configuration of 'search', not of 'sweep'" in err


def test_a_refused_command_leaves_no_record(capsys, here, finished):
    code, _, _ = run(capsys, *RANDOM, "--budget", "9" * 9, "--name", "big", "--out", "o")
    assert code == 2
    assert not (here / "o").exists()
    before = (finished / "config.toml").read_bytes()
    code, _, err = run(capsys, *RANDOM, "--budget", "9", "--name", "a")
    assert code == 2
    assert "budget: 8 -> 9" in err
    assert (finished / "config.toml").read_bytes() == before


@pytest.mark.slow
def test_the_budget_of_a_sweep_is_raised(capsys, here):
    args = (
        "sweep",
        *SMALL,
        "--algorithm",
        "reinforce",
        "--grid",
        "lr=0.01,0.1",
        "batch=2,4",
    )
    for budget, name in ((8, "a"), (16, "b")):
        code, _, err = run(capsys, *args, "--budget", budget, "--name", name)
        assert code == 0, err
    code, _, err = run(capsys, "sweep", "--resume", "runs/a", "--budget", "16", "--quiet")
    assert code == 0, err
    folders = [p.parent.name for p in (here / "runs/a").glob("*/results.npz")]
    assert len(folders) == 2
    for folder in folders:
        assert_same(here / "runs/a" / folder, here / "runs/b" / folder)
