"""``jaxnas surrogate`` as a person meets it: tables, JSON, files, and how it refuses."""

import json

import numpy as np
import pytest

from jaxnas.cli import main
from jaxnas.cli.common import labels as lb
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.types import Objective
from jaxnas.data.store.evaluations import Key, Record, Store
from jaxnas.data.tables.analognas_csv import FEATURES, TARGETS
from jaxnas.registry import make_space
from jaxnas.surrogates import file as sf
from jaxnas.testing.oracles import untrained_model

QUICK = ["--members", "2", "--hidden", "8", "--steps", "60"]
TOY = ["--oracle", "toy", "--objective", "score,layers", "--labels", "20"]


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(["surrogate", *map(str, args)])
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("surrogate")


@pytest.fixture(scope="module")
def model(folder):
    """A model of the toy oracle's two metrics, fitted by the command line."""
    out = folder / "toy.npz"
    with pytest.raises(SystemExit) as stop:
        main(["surrogate", "fit", *TOY, *QUICK, "--out", str(out)])
    assert not stop.value.code
    return out


@pytest.fixture(scope="module")
def table(folder):
    """A table of the analog-resnet space in its published form, with made-up targets."""
    draw = np.random.default_rng(0)
    lines = [",".join([*FEATURES, *TARGETS])]
    for row in range(40):
        groups = 1 + row % 3
        cells = [str(8 + row), str(groups)]
        cells += [str(1 + (row + i) % 4 if i < groups else 0) for i in range(5)]
        for i in range(5):
            here = i < groups
            cells += ["ABCD"[(row + i) % 4] if here else "0"]
            cells += [str(int(here) * (1 + row % 3)), str(int(here) * (1 + i))]
        cells += [f"{value:.4f}" for value in draw.uniform(0.1, 0.9, 3)]
        lines.append(",".join(cells))
    path = folder / "table.csv"
    path.write_text("\n".join(lines))
    return path


def test_fit_reports_quality_on_what_it_did_not_use_and_eval_agrees(model, capsys):
    """The toy space has 41 members: 20 labels leave 21, by the file and by the run."""
    code, out, _ = run(capsys, "eval", model, "--oracle", "toy", "--json")
    assert code == 0
    printed = json.loads(out)
    assert (printed["labels"], printed["held_out"]) == (20, 21)
    assert set(printed["quality"]) == {"score", "layers"}
    score = printed["quality"]["score"]
    for name in ("rmse", "r2", "kendall", "kendall_top_decile", "spearman", "coverage_90"):
        assert set(score[name]) == {"value", "low", "high"}
    assert score["single_row_against_batch"] < 1e-5
    assert score["distinct_predictions"] <= 21
    stored = sf.parse(model.read_bytes(), "").header.training
    assert stored["labels"] == 20
    assert stored["fit_s"] > 0
    for name in ("rmse", "kendall", "nll"):
        fitted = stored["quality"]["score"][name]["value"]
        np.testing.assert_allclose(fitted, score[name]["value"], rtol=1e-4)


def test_the_table_says_what_was_measured(model, capsys):
    code, out, _ = run(capsys, "eval", model, "--oracle", "toy", "--objective", "layers")
    assert code == 0
    for text in ("layers", "held-out rows only", "top decile", "90 % interval", "graph-v1"):
        assert text in out
    assert "score" not in out


def test_a_csv_is_read_with_its_notice(table):
    data = lb.read_csv(table, None, None)
    assert data.space.id == "analog-resnet-csv-v1"
    assert [o.name for o in data.objectives] == list(TARGETS)
    assert data.tokens.shape == (40, 22)
    assert "generated" in data.notice
    train, held = data.split(0, 25)
    assert len(held.without(train.tokens).tokens) == len(held.tokens) == 15
    assert len(data.without(train.tokens).tokens) == 15


def test_measured_networks_are_labels(folder, capsys):
    """Fitted to part of what comes with jaxnas, evaluated on the rest by fit and eval."""
    out = folder / "measured.npz"
    code, text, _ = run(
        capsys, "fit", "--measured", "digits-resnets", "--labels", 240, *QUICK,
        "--objective", "analog_1month,avm", "--out", out, "--json",
    )  # fmt: skip
    assert code == 0
    fitted = json.loads(text)
    code, text, _ = run(capsys, "eval", out, "--measured", "digits-resnets", "--json")
    printed = json.loads(text)
    assert (code, printed["held_out"], fitted["held_out"]) == (0, 114, 114)
    assert list(printed["quality"]) == ["analog_1month", "avm"]
    for name in printed["quality"]:
        ours, theirs = (d["quality"][name]["kendall"]["value"] for d in (printed, fitted))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--measured", "digits-resnet"), "Did you mean 'digits-resnets'"),
        (("--measured", "digits-resnets", "--csv", "a.csv"), "name one of them"),
        (("--measured", "digits-resnets", "--space", "nb201"), "not of 'nb201-v1'"),
    ],
)
def test_wrong_measured_labels_are_refused(folder, capsys, options, says):
    code, _, err = run(capsys, "fit", *options, "--out", folder / "none.npz")
    assert code == 2
    assert says in err


@pytest.mark.slow
def test_a_csv_is_fitted_with_its_notice(table, folder, capsys):
    out = folder / "csv.npz"
    code, text, _ = run(capsys, "fit", "--csv", table, "--labels", 25, *QUICK, "--out", out)
    assert code == 0
    assert "shows every sign of being generated" in " ".join(text.split())
    assert "AVM (% points)" in text
    assert "numeric-v1" in text
    code, text, _ = run(capsys, "eval", out, "--csv", table, "--json")
    printed = json.loads(text)
    assert printed["held_out"] == 15
    assert "generated" in printed["notice"]
    assert list(printed["quality"]) == list(TARGETS)
    code, text, _ = run(
        capsys, "fit", "--csv", table, "--labels", 20, *QUICK, "--out", out,
        "--overwrite", "--json",
    )  # fmt: skip
    assert json.loads(text)["labels"] == 20


def test_a_space_too_large_to_list_is_sampled(monkeypatch):
    """Labels of analog-resnet cannot be listed; distinct random ones are asked for."""
    monkeypatch.setattr(lb, "HELD_OUT", 20)
    space = make_space("analog-resnet")
    data = lb.read_oracle("cost", space, "params", 0, 30)
    assert 45 < len(data.tokens) <= 50
    assert len(np.unique(data.tokens, axis=0)) == len(data.tokens)
    assert np.isfinite(data.values).all()


def broken_csv(folder, table):
    path = folder / "nan.csv"
    lines = table.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], lines[5].rpartition(",")[0] + ",nan"]))
    return path


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["fit", "--oracle", "toyy"], "Did you mean 'toy'?"),
        (["fit", "--oracle", "toy", "--objective", "scor"], "Did you mean 'score'?"),
        (["fit", *TOY[:4], "--labels", "9"], "between 10 and 31 of the 41 rows"),
        (["fit", *TOY[:4], "--labels", "32"], "between 10 and 31 of the 41 rows"),
        (["fit", *TOY, "--features", "numeric"], "no numeric features"),
        (["fit", *TOY, "--members", "1"], "--members must be in"),
        (["fit", *TOY, "--seed", "-1"], "--seed"),
        (["fit", *TOY, "--out", "MODEL"], "--overwrite"),
        (["fit", *TOY, "--out", "FOLDER/none/x.npz"], "does not exist"),
        (["fit", "--csv", "FOLDER/none.csv"], "none.csv"),
        (["fit", "--csv", "NAN"], "not a finite number"),
        (["fit", "--csv", "TABLE", "--objective", "AVN"], "Did you mean 'AVM'?"),
        (["fit", "--csv", "TABLE", "--space", "nb201"], "not 'nb201-v1'"),
        (["eval", "FOLDER/none.npz"], "cannot be read"),
        (["eval", "TABLE"], "not an XGBoost model"),
        (["eval", "MODEL", "--oracle", "analog-nasbench"], "'analog-nasbench'"),
        (["eval", "MODEL", "--oracle", "toy", "--objective", "x"], "Unknown metric"),
        (["eval", "MODEL", "--csv", "TABLE"], "fitted on architectures of 'toy-v1'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    args, text, model, table, folder, tmp_path, capsys
):
    names = {"MODEL": model, "TABLE": table, "NAN": broken_csv(folder, table)}
    args = [str(names.get(a, a)).replace("FOLDER", str(folder)) for a in args]
    if args[0] == "fit" and "--out" not in args:
        args += ["--out", str(tmp_path / "x.npz")]
    code, _, err = run(capsys, *args)
    assert code == 2
    assert text in err
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_labels_that_are_not_numbers_are_refused():
    """NaN is refused before a fit and before an evaluation, in words."""
    space = make_space("toy")
    metric = Objective("score", "1", True)
    values = np.ones((40, 1))
    values[7] = np.nan
    data = lb.Labels(space, (metric,), np.zeros((40, 4), np.int32), values, "a table")
    with pytest.raises(UserError, match="1 of the 40 held-out labels of a table are NaN"):
        data.check()


def searched(tmp_path, *options):
    """Returns the folder of a random search on an untrained model of the toy space."""
    metrics = (Objective("score", "arbitrary", True, "made up"),)
    path = untrained_model(make_space("toy"), "one-hot", metrics)
    args = [
        "search", "--oracle", "surrogate", "--oracle-set", f"model={path}", *options,
        "--objective", "score", "--budget", "12", "--seeds", "2", "--algorithms", "random",
        "--out", str(tmp_path), "--name", "a", "--quiet",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert not stop.value.code
    return tmp_path / "a"


@pytest.mark.slow
def test_a_model_is_an_oracle_of_a_search(tmp_path, capsys):
    run = searched(tmp_path, "truth=toy")
    assert "regret" in capsys.readouterr().out
    config = json.loads((run / "random/config.json").read_text())
    assert "surrogate-v1-" in json.dumps(config)
    assert "best true value" in (run / "report.md").read_text()


@pytest.mark.slow
def test_a_report_on_predictions_never_calls_them_true(tmp_path):
    """The same model without a truth: predicted everywhere, and a warning that says so."""
    text = (searched(tmp_path) / "report.md").read_text()
    assert "best predicted value" in text
    assert "what a fitted model predicts" in text
    assert "predicted by a surrogate and not measured, made up" in text
    assert " true " not in text


@pytest.fixture(scope="module")
def store(folder):
    """Forty architectures of the toy space, measured with two seeds, and a failed one."""
    space, path = make_space("toy"), folder / "evaluations.sqlite"
    members = tk.enumerate_space(space)[:40].tolist()
    with Store(path) as target:
        for seed in (0, 1):
            for i, row in enumerate(members):
                digest = tk.digest_host(space, np.array(row))
                key = Key("child-v1(digits)", digest, 0, seed, "sha")
                metrics = {"val_accuracy": 10.0 * sum(row) + seed}
                status = int(seed == 0 and i == 0)
                target.put(Record(key, tuple(row), metrics, {}, 1.0, status))
    return path


def test_labels_of_a_store_are_the_mean_over_seeds_of_what_succeeded(store):
    found = lb.read_store(store, make_space("toy"), "val_accuracy", "child")
    assert found.source == "child-v1(digits)"
    assert found.objectives[0].unit == "%"
    means = dict(zip(map(tuple, found.tokens.tolist()), found.values[:, 0].tolist()))
    assert len(means) == 40
    failed = tuple(tk.enumerate_space(make_space("toy"))[0].tolist())
    for row, value in means.items():
        assert value == 10.0 * sum(row) + (1.0 if row == failed else 0.5)


def test_a_model_is_fitted_to_a_store_and_evaluated_on_it(store, folder, capsys):
    out = folder / "stored.npz"
    named = ["--store", store, "--space", "toy", "--objective", "val_accuracy"]
    code, _, err = run(capsys, "fit", *named, "--labels", "25", *QUICK, "--out", out)
    assert code == 0, err
    code, text, _ = run(capsys, "eval", out, "--store", store, "--json")
    assert code == 0
    assert json.loads(text)["held_out"] == 15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--objective", "val_accuracy"], "need --space and --objective"),
        (["--space", "toy", "--objective", "val_acuracy"], "val_accuracy"),
        (["--space", "nb201", "--objective", "val_accuracy"], "not of 'nb201-v1'"),
        (["--space", "toy", "--objective", "val_accuracy", "--match", "x"], "are of 0"),
        (["--space", "toy", "--objective", "val_accuracy", "--csv", "t.csv"], "name one"),
    ],
)
def test_a_store_that_does_not_fit_is_refused(store, folder, capsys, options, words):
    out = folder / "never.npz"
    code, _, err = run(capsys, "fit", "--store", store, *options, "--out", out)
    assert (code, out.exists()) == (2, False)
    assert words in " ".join(err.split())


def test_evaluations_of_two_oracles_are_not_mixed(store, folder):
    path = folder / "two.sqlite"
    with Store(path) as target:
        target.merge(store)
        row = tk.enumerate_space(make_space("toy"))[0]
        digest = tk.digest_host(make_space("toy"), row)
        key = Key("child-v1(mnist)", digest, 0, 0, "sha")
        metrics = {"val_accuracy": 1.0}
        target.put(Record(key, tuple(row.tolist()), metrics, {}, 1.0, 0))
    with pytest.raises(UserError, match="--match"):
        lb.read_store(path, make_space("toy"), "val_accuracy", "")
    one = lb.read_store(path, make_space("toy"), "val_accuracy", "mnist")
    assert one.values.tolist() == [[1.0]]
