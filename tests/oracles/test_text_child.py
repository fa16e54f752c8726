"""Children on texts: trained, refused where they do not fit, searched and exported.

The texts are synthetic: one word of each says its label.
"""

import json

import numpy as np
import pytest

from jaxnas.cli import main
from jaxnas.core.errors import UserError
from jaxnas.handoff import retrain as rt
from jaxnas.oracles.child import ChildOracle
from jaxnas.registry import make_oracle, make_space

SPACE = make_space("text-chain")
ADAM = {"optimiser": "adam", "lr": 0.01, "weight_decay": 0.0}
PLAIN = {"embedding": 16, "word_dropout": 0.0, "readout": "mean", "layer": []}
TRAINED = {"epochs": 6, "batch": 16, **ADAM}


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """A CSV of 150 synthetic texts of which one word decides the label."""
    rng = np.random.default_rng(0)
    fill, lines = ["the", "film", "was", "it", "a"], ["review,sentiment"]
    for i in range(150):
        words = [*rng.choice(fill, rng.integers(2, 6)), ("poor", "great")[i % 2], f"n{i}"]
        lines.append(f"{' '.join(rng.permutation(words))},{('down', 'up')[i % 2]}")
    path = tmp_path_factory.mktemp("texts") / "synthetic.csv"
    path.write_text("\n".join(lines))
    return str(path)


def test_a_child_learns_the_word_that_decides(synthetic):
    """Above 90 % of 30 validation texts; chance is 50. The same to the bit again."""
    oracle = ChildOracle(SPACE, data=synthetic, **TRAINED)
    tokens = SPACE.from_dict(PLAIN)
    found = oracle.measure(tokens)
    assert found.metrics["val_accuracy"] > 90
    assert found.metrics["params"] == 16 * len(oracle.images.vocabulary) + 2 * 17
    assert oracle.measure(tokens).metrics == found.metrics
    assert oracle.spec(tokens)["inputs"]["text"]["vocabulary"] == len(
        oracle.images.vocabulary
    )
    assert oracle.info()["training texts"] == 90


def test_what_only_images_can_be_given_is_refused(synthetic):
    for name, value in (("augment", "shift"), ("cutout", 2), ("mixup", 0.2)):
        with pytest.raises(UserError, match=f"{name} changes the pixels"):
            ChildOracle(SPACE, data=synthetic, **{name: value})
    for name in ("fgsm_accuracy", "noise_accuracy"):
        with pytest.raises(UserError, match=f"{name} changes the pixels"):
            ChildOracle(SPACE, data=synthetic, objective=name)


def test_it_is_trained_in_full_without_references_for_images(synthetic, tmp_path):
    oracle = ChildOracle(SPACE, data=synthetic, **TRAINED)
    networks = rt.found(oracle, [SPACE.from_dict(PLAIN)], [{}])
    with pytest.raises(UserError, match="holds texts; leave them out with --no-ref"):
        rt.retrain(oracle, networks, tmp_path, rt.Retraining(runs=1))
    alone = rt.Retraining(runs=1, references=False)
    record = rt.retrain(oracle, networks, tmp_path, alone)
    assert rt.results(record, record["networks"][0]).mean > 80  # 30 texts; chance is 50


def test_networks_and_tasks_that_do_not_fit(synthetic):
    with pytest.raises(UserError, match="read texts, not images"):
        ChildOracle(SPACE, data="digits")
    with pytest.raises(UserError, match="take images, not texts"):
        ChildOracle(make_space("chain"), data=synthetic)
    with pytest.raises(UserError, match=r"cannot be built for texts; .*text-chain"):
        ChildOracle(make_space("nb201"), data=synthetic)
    with pytest.raises(UserError, match="more than the 90 training texts"):
        ChildOracle(SPACE, data=synthetic, batch=91)
    with pytest.raises(UserError, match="Unknown size"):
        ChildOracle(SPACE, data=synthetic, size="channels:4")


def test_the_simulator_refuses_a_space_with_a_gru_in_one_sentence(synthetic):
    small = {"epochs": 1, "batch": 16, "hwa_epochs": 1, "draws": 1}
    with pytest.raises(UserError, match=r"'gru', put there by .*type = 'gru'"):
        make_oracle("analog", space=SPACE, data=synthetic, **small).measure(
            SPACE.from_dict(PLAIN)
        )


def test_a_run_makes_its_space_and_task_again(synthetic):
    """Name and options, as a run writes them, give the same networks."""
    oracle = ChildOracle(SPACE, data=synthetic)
    name, options = oracle.network(0).recipe
    again = make_space(name, **json.loads(json.dumps(options)))
    tokens = SPACE.from_dict(PLAIN)
    assert again.to_spec(tokens) == oracle.spec(tokens)
    assert again.from_spec(again.to_spec(tokens)).tolist() == tokens.tolist()


def run(command):
    """Runs a command, which must end well."""
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert not stop.value.code


@pytest.mark.slow
def test_searched_reported_and_exported(synthetic, tmp_path, capsys):
    """The commands of docs/text.md, small."""
    out = tmp_path / "runs"
    command = [
        "search", "--oracle", "child", "--space", "text-chain", "--algorithms", "random",
        "--budget", "2", "--seeds", "1", "--out", str(out), "--oracle-set",
        f"data={synthetic}", "epochs=1", "batch=16", "optimiser=adam", "lr=0.01",
    ]  # fmt: skip
    run(command)
    (report,) = out.rglob("report.html")
    assert "accuracy on the validation" in report.read_text()
    capsys.readouterr()
    command = ["export", "best", "--run", str(report.parent), "--epochs", "1"]
    run([*command, "--to", "spec,stablehlo", "--out", str(tmp_path / "net")])
    manifest = json.loads((tmp_path / "net" / "stablehlo" / "manifest.json").read_text())
    assert manifest["facts"]["data"] == synthetic
    assert manifest["verified"]["largest_difference"] < 1e-4
