"""``jaxnas data``: what it lists, shows, converts, measures and refuses."""

import json

import numpy as np
import pytest

from jaxnas.cli import main
from jaxnas.cli.common import hardness
from jaxnas.data.images.sources import IMAGE_TASKS, load_images

RNG = np.random.default_rng(0)


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(["data", *map(str, args)])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


def printed(capsys, *args):
    code, out, err = run(capsys, *args, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def own(tmp_path):
    """Bright and dark images: class 1 is twice as frequent and brighter by 60 levels."""
    y = np.arange(90) % 3 > 0
    x = RNG.integers(0, 196, (90, 6, 6)) + 60 * y[:, None, None]
    np.savez(tmp_path / "own.npz", X=x.astype(np.uint8), y=y.astype(int))
    return tmp_path / "own.npz"


def test_list_gives_the_command_for_what_is_missing(capsys, monkeypatch, tmp_path):
    rows = {row["name"]: row for row in printed(capsys, "list")}
    assert {name for name, row in rows.items() if row["task_set"]} == set(IMAGE_TASKS)
    assert rows["digits"]["state"] == "installed"
    assert rows["digits"]["install"] == ""
    monkeypatch.setenv("JAXNAS_FASHION_MNIST", str(tmp_path))
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path))
    rows = {row["name"]: row for row in printed(capsys, "list")}
    assert rows["fashion-8x8"]["state"] == "not installed"
    assert rows["fashion-8x8"]["install"] == "apt-get install dataset-fashion-mnist"
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert "tfds:NAME" in out
    assert all(name in out for name in IMAGE_TASKS)


def test_info_shows_what_is_loaded(capsys):
    facts, data = printed(capsys, "info", "digits"), load_images("digits")
    assert facts["shape"] == [8, 8, 1]
    assert facts["images"] == {"train": 1_079, "validation": 359, "test": 359}
    assert facts["class_counts"]["train"] == np.bincount(data.y_train).tolist()
    assert facts["checksum"] == f"sha256 {data.checksum}"
    assert facts["shared images"] == 0
    small = printed(capsys, "info", "digits", "--size", 4, "--limit", 100)
    assert (small["shape"], small["images"]["train"]) == ([4, 4, 1], 100)
    code, out, _ = run(capsys, "info", "digits")
    assert code == 0
    for text in ("8 x 8 x 1", "1,079 train", "CC BY 4.0", data.checksum, "Alpaydin"):
        assert text in out


def test_prepare_converts_and_says_where(capsys, own, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path / "cache"))
    made = printed(capsys, "prepare", "digits")
    assert list((tmp_path / "cache").iterdir()) == [tmp_path / "cache" / made["path"]]
    made = printed(capsys, "prepare", "digits", "--to", "npz", "--out", tmp_path / "a.npz")
    assert load_images(made["load"]).checksum == load_images("digits").checksum
    code, _, err = run(capsys, "prepare", own, "--to", "npz", "--out", tmp_path / "a.npz")
    assert code == 2
    assert "--overwrite" in err
    args = ("prepare", own, "--to", "npz", "--out", tmp_path / "a.npz", "--overwrite")
    assert run(capsys, *args)[0] == 0
    assert load_images(tmp_path / "a.npz").checksum == load_images(own).checksum


def test_prepare_writes_a_set_for_tensorflow_datasets(capsys, own, tmp_path):
    pytest.importorskip("tensorflow_datasets", reason='needs: pip install "jaxnas[tfds]"')
    made = printed(capsys, "prepare", own, "--to", "tfds", "--out", tmp_path / "sets")
    assert made["path"] == str(tmp_path / "sets" / "jaxnas_own" / "1.0.0")
    assert load_images(made["load"]).checksum == load_images(own).checksum


def test_hardness_is_measured(capsys, own):
    """Two brightnesses apart by six standard errors of a mean of 36 pixels: easy.

    The mean of 36 pixels uniform in 0..195 has the deviation 56.6 / 6 = 9.4, so a class
    lies 60 / 9.4 = 6.4 of them from the other.
    """
    (row,) = printed(capsys, "hardness", own, "--rows", 30, "--seeds", 2)["tasks"]
    data = load_images(own)
    assert row["majority"] == pytest.approx(np.mean(data.y_val == 1))
    assert (row["train_rows"], row["evaluated_rows"]) == (30, len(data.y_val))
    assert len(row["logistic"]) == len(row["neighbours"]) == 2
    assert min(row["logistic"]) >= 0.9
    assert row["converged"]
    again = printed(capsys, "hardness", own, "--rows", 30, "--seeds", 2)["tasks"][0]
    assert again == row
    code, out, _ = run(capsys, "hardness", own, "--split", "test")
    assert code == 0
    assert "on the test split" in out


def test_neighbours_are_the_three_nearest():
    """Against distances written out, on 100 digits."""
    data = load_images("digits", limit=100)
    x, y = data.x_train.reshape(100, -1), data.y_train
    held = data.x_val.reshape(100, -1)
    nearest = ((held[:, None] - x) ** 2).sum(axis=2).argsort(axis=1, kind="stable")[:, :3]
    votes = [np.bincount(row, minlength=10).argmax() for row in y[nearest]]
    ours = hardness._neighbours(x, y, data, "validation")
    assert ours == pytest.approx(np.mean(votes == data.y_val), abs=1e-9)


@pytest.mark.slow
def test_digits_are_easy_and_textures_are_not(capsys):
    """A linear model reads digits (above 0.93) and hardly tells photographs (below 0.4)."""
    names = ["digits", "textures"]
    rows = {r["task"]: r for r in printed(capsys, "hardness", *names)["tasks"]}
    assert rows["digits"]["logistic"][0] > 0.93
    assert rows["digits"]["neighbours"][0] > 0.95
    assert 0.12 < rows["textures"]["logistic"][0] < 0.4
    assert rows["textures"]["majority"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["info", "digit"], "Did you mean 'digits'?"),
        (["info", "FOLDER/none.npz"], "cannot be read"),
        (["info", "digits", "--size", "9"], "between 1 and 8"),
        (["info", "digits", "--limit", "3"], "no image of class"),
        (["prepare", "OWN"], "--to npz"),
        (["prepare", "digits", "--out", "FOLDER/a.npz"], "--to npz or --to tfds"),
        (["prepare", "digits", "--to", "npz", "--out", "FOLDER/a.txt"], "end in .npz"),
        (["prepare", "digits", "--to", "npz", "--out", "FOLDER/x/a.npz"], "be written"),
        (["hardness", "OWN", "--rows", "0"], "--rows must be in"),
        (["hardness", "OWN", "--rows", "1"], "one class only"),
        (["hardness", "nothing"], "Unknown image 'nothing'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(args, text, own, tmp_path, capsys):
    args = [a.replace("OWN", str(own)).replace("FOLDER", str(tmp_path)) for a in args]
    code, _, err = run(capsys, *args)
    assert code == 2
    assert text in err
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    assert list(tmp_path.iterdir()) == [own], "nothing is left behind"
