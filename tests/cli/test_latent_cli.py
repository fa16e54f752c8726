"""``jaxnas latent`` as a person meets it."""

import csv
import json

import pytest

from jaxnas.cli import main

SMALL = [
    "--oracle", "toy", "--objective", "score", "--samples", "30", "--labels", "20",
    "--heldout", "10", "--steps", "40",
]  # fmt: skip


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(["latent", *args])
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


def test_train_writes_a_model_metrics_curves_and_figures(capsys, tmp_path):
    out = tmp_path / "a"
    code, text, err = run(
        capsys, "train", *SMALL, "--hidden", "16", "--set", "dropout=0.1", "--out", str(out)
    )
    assert code == 0, err
    for word in ("exact reconstruction", "validity  1.0000", "codes in use", "smoothness"):
        assert word in text
    for word in ("30 architectures to learn from", "20 of them labelled", "compile time"):
        assert word in err
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["labels"] == 20
    assert metrics["hparams"]["dropout"] == 0.1
    assert metrics["quality"]["validity"] == 1.0
    rows = list(csv.DictReader((out / "curves.csv").read_text().splitlines()))
    assert len(rows) == 40
    assert rows[-1]["step"] == "40"
    assert {"reconstruction", "perplexity", "match", "loss"} <= set(rows[0])
    for name in ("latent_space", "latent_training"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (out / f"{name}.svg").read_bytes()
    code, text, _ = run(capsys, "info", str(out / "model.npz"), "--json")
    assert code == 0
    facts = json.loads(text)
    assert facts["space"] == "toy-v1"
    assert facts["encoder"]
    code, text, _ = run(capsys, "info", str(out / "model.npz"))
    assert "toy-v1" in text


@pytest.mark.slow
def test_label_mode_and_a_file_as_out(capsys, tmp_path):
    code, text, err = run(
        capsys, "train", *SMALL, "--mode", "label", "--codes", "4", "--hidden", "8",
        "--quiet", "--out", str(tmp_path / "m.npz"),
    )  # fmt: skip
    assert code == 0, err
    assert "4" in text
    names = {p.name for p in tmp_path.iterdir()}
    assert {"m.npz", "m-metrics.json", "m-curves.csv", "latent_space.png"} <= names


def test_sweep_prints_the_best_by_held_out_quality(capsys, tmp_path):
    code, text, err = run(
        capsys, "sweep", *SMALL, "--trials", "3", "--out", str(tmp_path),
        "--grid", "batch=16", "embed_dim=2", "hidden=8", "layers=0", "lr=0,0.01,0.02",
    )  # fmt: skip
    assert code == 0, err
    assert "rank  match  smooth  setting" in text
    rows = list(csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines()))
    assert len(rows) == 3
    assert len({tuple(r.values()) for r in rows}) == 3
    best = json.loads((tmp_path / "sweep.json").read_text())["best"]
    assert float(rows[0]["match"]) == best["match"]
    assert (tmp_path / "latent_sweep.png").exists()


@pytest.mark.external
def test_import_of_torch_checkpoints(capsys, tmp_path, shared_folder):
    pytest.importorskip("torch")
    out = tmp_path / "imported.npz"
    files = [str(shared_folder / f"vqvae_{n}.pth") for n in ("decoder_model", "codebook")]
    code, text, err = run(capsys, "import", *files, "--out", str(out))
    assert code == 0, err
    assert "14 codes of 8 numbers, standard deviation 0.039" in text
    code, text, _ = run(capsys, "info", str(out))
    assert "analog-resnet-csv-v1" in text
    code, _, err = run(capsys, "import", files[1], files[1], "--out", str(out))
    assert code == 2
    assert "not a decoder of the original" in err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["train", "--labels", "9000"], "can be labelled"),
        (["train", "--samples", "15000"], "has 15,625 architectures"),
        (["train", "--set", "learning_rate=1"], "Unknown setting"),
        (["train", "--set", "dropout=1"], "dropout must be in [0, 1)"),
        (["train", "--steps", "41"], "equal records"),
        (["train", "--codes", "1"], "--codes must be in"),
        (["train", "--objective", "analog,digital"], "single --objective"),
        (["train", "--mode", "label", "--labels", "10"], "too few for 14 bins"),
        (["sweep", "--grid", "lr=a"], "needs numbers from 0"),
        (["sweep", "--grid", "momentum=1"], "Unknown axis"),
        (["info", "nowhere.npz"], "There is no latent model at nowhere.npz"),
        (["import", "a.pth", "b.pth"], "cannot be read"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    args, text, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *args)
    assert code == 2
    assert text in err
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    assert not list(tmp_path.rglob("*.npz"))
