"""``latent train`` and then ``search --env latent``, on the toy space."""

import numpy as np
import pytest
from test_cli import run

SMALL = [
    "labels=16", "members=2", "fit_steps=20", "capacity=64", "num_envs=2", "num_steps=8",
    "max_steps=4", "hidden=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from jaxnas.cli import main

    out = tmp_path_factory.mktemp("latent") / "toy.npz"
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "latent", "train", "--oracle", "toy", "--objective", "score", "--samples",
                "30", "--labels", "12", "--heldout", "5", "--steps", "40", "--quiet",
                "--out", str(out),
            ]
        )  # fmt: skip
    assert not stop.value.code
    return out


def search(capsys, tmp_path, *more):
    return run(
        capsys, "search", "--oracle", "toy", "--objective", "score", "--budget", "24",
        "--env", "latent", "--algorithms", "random", "latent-ppo", "--seeds", "3",
        "--out", str(tmp_path), "--name", "a", "--set",
        *(f"latent-ppo.{setting}" for setting in SMALL), *more,
    )  # fmt: skip


@pytest.mark.slow
def test_a_search_moves_through_the_latent_space(capsys, tmp_path, model):
    code, out, _ = search(capsys, tmp_path, "--latent", str(model))
    assert code == 0
    assert "latent-ppo" in out
    page = (tmp_path / "a" / "report.html").read_text()
    assert "The latent space" in page
    assert "How the policies moved" in page
    for name in ("latent_space", "walks", "latent_training"):
        assert (tmp_path / "a" / "figures" / f"{name}.png").exists()
    with np.load(tmp_path / "a" / "latent-ppo" / "results.npz") as results:
        count, tokens = results["count"], results["tokens"]
        path = results["artifact_path"]
    assert (count >= 16).all(), "labels are queries"
    first = {tuple(t) for t in tokens[0, :12]}
    assert all({tuple(t) for t in row[:12]} == first for row in tokens), (
        "what the latent model has seen scores of is paid for by every controller"
    )
    assert path.shape[:2] == (3, 5)
    assert np.isfinite(path).all()
    code, _, err = search(capsys, tmp_path)
    assert code == 0, "the model lies beside the runs"
    assert "compile" not in err
    altered = tmp_path / "other.npz"
    altered.write_bytes(model.read_bytes() + b" ")
    code, _, err = search(capsys, tmp_path, "--latent", str(altered))
    assert code == 2
    assert "another latent model" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [("none.npz", "no latent model"), ("text.npz", "no intact latent model")],
)
def test_a_file_that_is_no_model_is_refused(capsys, tmp_path, text, says):
    if text.startswith("text"):
        (tmp_path / text).write_text("hello")
    code, _, err = search(capsys, tmp_path, "--latent", str(tmp_path / text))
    assert code == 2
    assert says in err
    assert err.count("\n") <= 3


def test_a_model_of_another_space_is_refused(capsys, tmp_path, model):
    code, _, err = run(
        capsys, "search", "--env", "latent", "--latent", str(model), "--seeds", "2",
        "--out", str(tmp_path), "--name", "a",
    )  # fmt: skip
    assert code == 2
    assert "'toy-v1', not of 'nb201-v1'" in err


def test_labels_must_cover_what_the_model_has_seen(capsys, tmp_path, model):
    more = ("--latent", str(model), "--fresh")
    code, _, err = run(
        capsys, "search", "--oracle", "toy", "--objective", "score", "--budget", "24",
        "--algorithms", "latent-ppo", "--set", "labels=8", "--out", str(tmp_path), *more,
    )  # fmt: skip
    assert code == 2
    assert "multiple of batch=8 from 12" in err
