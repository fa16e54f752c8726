"""Run directories are found, checked and read; whatever is wrong is one clear sentence."""

import json
import shutil

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.report.read import load


@pytest.fixture
def run(toy_runs, tmp_path):
    """A copy of one run that a test may damage."""
    return shutil.copytree(toy_runs / "ppo", tmp_path / "ppo")


def test_a_run_is_found_two_levels_below(run):
    deep = run.parent / "a" / "b"
    shutil.copytree(run, deep / "ppo")
    assert [r.path for r in load.load(run.parent / "a")] == [deep / "ppo"]


def test_directories_parents_and_globs_name_the_same_runs(toy_runs):
    names = [r.label for r in load.load(toy_runs)]
    assert names == ["evolution", "ppo", "random"]
    assert [r.label for r in load.load([f"{toy_runs}/*o*"])] == names
    twice = load.load([toy_runs / "ppo", toy_runs, f"{toy_runs}/**"])
    assert [r.label for r in twice] == ["ppo", "evolution", "random"]


def test_a_finished_run_holds_what_was_written(run):
    one = load.read_run(run)
    assert one.finished
    assert one.algorithm == "ppo"
    assert one.num_settings == 4
    assert one.preset == 0
    assert set(one.results.metrics) == {"entropy", "unique", "collapsed", "queries"}
    assert one.results.curve.shape == (24, 12)
    assert one.provenance["compile_s"] == 9.25


def test_settings_without_a_grid_have_no_preset(run):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"grid": {}}))
    assert load.read_run(run).preset is None


def test_a_run_without_results_is_unfinished(run):
    (run / "results.npz").unlink()
    with open(run / "rows.jsonl", "a") as file:
        file.write('{"label": "pp')  # killed in the middle of a row
    one = load.read_run(run)
    assert not one.finished
    assert one.results is None
    assert len(one.rows) == 2


def _edit(run, **changes):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | changes))


def _arrays(run, **changes):
    with np.load(run / "results.npz") as file:
        arrays = dict(file) | changes
    np.savez(run / "results.npz", **{k: v for k, v in arrays.items() if v is not None})


def _half(path):
    path.write_bytes(path.read_bytes()[:100])


DAMAGE = {
    "run format 2": lambda r: _edit(r, format=2),
    "no valid 'budget'": lambda r: _edit(r, budget="many"),
    "no valid 'objectives'": lambda r: _edit(r, objectives=[{"unit": "%"}]),
    "counts below one": lambda r: _edit(r, seeds=0),
    "not a multiple": lambda r: _edit(r, seeds=7),
    r"hparams\['lr'\] has 1 of 4": lambda r: _edit(r, hparams={"lr": [0.1]}),
    "config.json is damaged": lambda r: _half(r / "config.json"),
    "it holds no object": lambda r: (r / "provenance.json").write_text("[]"),
    "results.npz is damaged": lambda r: _half(r / "results.npz"),
    "archive.npz is damaged": lambda r: _half(r / "archive.npz"),
    "no array 'curve'": lambda r: _arrays(r, curve=None),
    "'curve' is": lambda r: _arrays(r, curve=np.zeros((24, 3))),
    "'metric_entropy' is": lambda r: _arrays(r, metric_entropy=np.zeros(24)),
    "line 1": lambda r: (r / "rows.jsonl").write_text("{\n{}\n"),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damage_is_named_with_its_file(run, message):
    DAMAGE[message](run)
    with pytest.raises(UserError, match=message) as error:
        load.load(run)
    assert str(run) in str(error.value)
    assert "\n" not in str(error.value)


def test_arrays_are_never_unpickled(run):
    trap = np.empty(24, object)
    np.savez(run / "results.npz", curve=trap)
    with pytest.raises(UserError, match="damaged"):
        load.load(run)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("nothing", "does not exist"), ("", "holds no run"), ("x*", "holds no run")],
)
def test_places_without_runs_are_refused(tmp_path, pattern, message):
    with pytest.raises(UserError, match=message):
        load.load(str(tmp_path / pattern))


def test_no_place_at_all_is_refused():
    with pytest.raises(UserError, match="No run directory was named"):
        load.load([])
