"""``jaxnas eval``: policies of a search, played and summarised; and what has none."""

import json
import shutil

import numpy as np
import pytest

import jaxnas
from jaxnas.cli import main
from jaxnas.core.statistics import variance
from jaxnas.run import episodes

SPACE = jaxnas.make_space("toy")
ORACLE = jaxnas.make_oracle("toy", space=SPACE)


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A search of two methods, of which one learns a policy."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    learner = jaxnas.make_algorithm("reinforce", space=SPACE, batch=4, hidden=8)
    for algo in (learner, jaxnas.make_algorithm("random", space=SPACE)):
        name = "random" if algo is not learner else "reinforce"
        jaxnas.search(algo, ORACLE, out=folder / name, budget=16, seeds=4, label=name)
    return folder


@pytest.fixture
def searched(once, tmp_path):
    return shutil.copytree(once, tmp_path / "a")


def test_the_summary_is_of_the_episodes(capsys, searched):
    before = (searched / "reinforce/policies.npz").read_bytes()
    code, out, err = run(capsys, "eval", searched, "--episodes", "20")
    assert code == 0, err
    assert "random: learned no policy" in out
    assert (searched / "reinforce/policies.npz").read_bytes() == before
    left = json.loads((searched / "reinforce/episodes-sampled.json").read_text())
    made = episodes.play(searched / "reinforce", 20)[1]
    (one,) = left["settings"]
    means = made.value.astype(float).mean(axis=1)
    assert one["value"]["mean"] == pytest.approx(means.mean(), rel=1e-6)
    half = 3.1824 * np.sqrt(variance(means) / 4)  # Student's t of three degrees, 97.5 %
    assert one["value"]["high"] - means.mean() == pytest.approx(half, rel=1e-3)
    assert left["best"]["value"] == pytest.approx(made.value.max(), rel=1e-6)
    assert left["replicates"]["best"] == pytest.approx(made.value.max(axis=1), rel=1e-6)
    different = [len({tuple(t) for t in rows}) / 20 for rows in made.tokens]
    assert left["replicates"]["distinct"] == pytest.approx(different)
    assert one["duplicate"]["mean"] == pytest.approx(1 - np.mean(different))
    code, out, _ = run(
        capsys, "eval", searched / "reinforce", "--episodes", 20, "--top", 2, "--json"
    )
    assert code == 0
    shown = json.loads(out)
    assert shown["settings"][0]["controllers"] == 2
    assert shown == json.loads((searched / "reinforce/episodes-sampled.json").read_text())


@pytest.mark.parametrize(
    ("place", "args", "words"),
    [
        ("a", ("--episodes", "0"), "--episodes must be in [1, 1000000], got 0"),
        ("a/random", (), "random learn none. Search with a policy-gradient method"),
        ("none", (), "holds no run"),
        ("half", (), "is not finished; end it first: jaxnas search --resume"),
        ("a.zip", (), "unzip it"),
        ("a", ("--store", "s.sqlite"), "leave --store out"),
    ],
)
def test_refused_by_a_sentence(capsys, searched, place, args, words):
    root = searched.parent
    if place == "half":
        shutil.copytree(searched, root / "half")
        (root / "half/reinforce/results.npz").unlink()
    if place == "a.zip":
        assert run(capsys, "pack", searched, "--out", root / place)[0] == 0
    code, _, err = run(capsys, "eval", root / place, *args)
    assert code == 2
    assert words in err
