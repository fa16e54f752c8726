"""A user's table: what is read, averaged, missing, refused; regret that is exact."""

import csv
import random

import jax
import numpy as np
import pytest

import jaxnas
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Enumerated, capability
from jaxnas.registry import make_oracle, make_space, recipe
from jaxnas.testing.oracles import ask

NB = make_space("nb201")


def stranger(path, n=500, seed=0):
    """A file with repeats: three decisions, an accuracy and a time."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        depth, op, lr = rng.randint(1, 9), rng.choice("abc"), rng.choice([0.1, 0.01])
        accuracy = round(depth / 10 + ord(op) / 200 + rng.gauss(0, 0.02), 5)
        rows.append({"depth": depth, "op": op, "lr": lr, "acc": accuracy, "ms": depth * 3})
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def grouped(rows):
    """Accuracies of each architecture."""
    found = {}
    for row in rows:
        found.setdefault((row["depth"], row["op"], row["lr"]), []).append(row["acc"])
    return found


def test_rows_are_the_space_and_repeats_are_noise(tmp_path):
    rows = stranger(tmp_path / "r.csv")
    oracle = jaxnas.table_oracle(tmp_path / "r.csv", objective="acc", metrics="ms")
    wanted = grouped(rows)
    assert oracle.space.count() == len(wanted)
    members = oracle.space.rows
    params = oracle.params()
    means, spread = oracle.truth(params, members), oracle.spread(params, members)
    for i, tokens in enumerate(members):
        made = oracle.space.to_dict(tokens)
        values = wanted[made["depth"], made["op"], made["lr"]]
        assert float(means[i, 0]) == pytest.approx(np.mean(values), rel=1e-6)
        several = np.std(values, ddof=1) if len(values) > 1 else 0.0
        assert float(spread[i, 0]) == pytest.approx(several, abs=1e-6)
    assert np.asarray(spread).max() > 0
    assert make_oracle(recipe(oracle)[0], **recipe(oracle)[1]) == oracle


def test_noise_is_drawn_with_the_spread_of_the_file(tmp_path):
    stranger(tmp_path / "r.csv")
    options = {"file": str(tmp_path / "r.csv"), "objective": "acc", "metrics": "ms"}
    noisy = make_oracle("table", noise="stored", **options)
    plain = make_oracle("table", **options)
    rows = plain.space.rows
    gap = ask(noisy, rows).objectives - ask(plain, rows).objectives
    spread = np.asarray(plain.spread(plain.params(), rows))
    z = (gap / np.where(spread > 0, spread, np.nan))[:, 0]
    assert abs(np.nanstd(z) - 1) < 0.4


def test_search_finds_the_best_row_and_directions_hold(tmp_path):
    stranger(tmp_path / "r.csv")
    for objective, minimise, best in [("acc", "", max), ("ms", "ms", min)]:
        oracle = jaxnas.table_oracle(
            tmp_path / "r.csv", objective=objective, metrics="acc,ms", minimise=minimise
        )
        algo = jaxnas.make_algorithm("evolution", space=oracle.space)
        found = jaxnas.search(algo, oracle, budget=oracle.space.count(), seeds=2)
        column = capability(oracle, Enumerated).columns()[objective]
        assert found.best(1)[0][objective] == pytest.approx(best(column), rel=1e-6)


def test_a_given_space_with_missing_rows(tmp_path):
    lines = ["edge12,edge13,edge14,edge23,edge24,edge34,top1"]
    ops = NB.decision_values[0]
    rng = np.random.default_rng(1)
    rows = np.unique(rng.integers(0, 5, (200, 6)), axis=0)
    for i, row in enumerate(rows):
        value = "" if i == 3 else str(i / 8)
        lines.append(",".join([*(ops[t] for t in row), value]))
    (tmp_path / "part.csv").write_text("\n".join(lines))
    oracle = jaxnas.table_oracle(tmp_path / "part.csv", NB)
    assert [o.name for o in oracle.objectives] == ["top1"]
    strange = np.array([[0, 0, 0, 0, 0, t] for t in range(5)])
    known = {tuple(r) for r in rows.tolist()}
    asked = np.concatenate([rows[:6], strange]).astype(np.int32)
    found = ask(oracle, asked)
    ok = [tuple(row) in known and i != 3 for i, row in enumerate(asked.tolist())]
    np.testing.assert_array_equal(found.status == jaxnas.OK, ok)
    assert found.objectives[2, 0] == 2 / 8
    columns = oracle.columns()["top1"]
    assert columns.shape == (15_625,)
    assert np.isfinite(columns).sum() == len(rows) - 1
    with pytest.raises(UserError, match=r"of the 15,625 architectures"):
        jaxnas.table_oracle(tmp_path / "part.csv", NB, missing="refuse")


def test_npz_and_parquet_are_the_same_table(tmp_path):
    rows = stranger(tmp_path / "r.csv", 60)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    np.savez(tmp_path / "r.npz", **columns)
    kinds = [tmp_path / "r.csv", tmp_path / "r.npz"]
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(arrow.table(columns), tmp_path / "r.parquet")
    kinds.append(tmp_path / "r.parquet")
    made = [jaxnas.table_oracle(k, objective="acc", metrics="ms") for k in kinds]
    assert len({oracle.space for oracle in made}) == 1
    scores = [np.asarray(oracle.params().scores) for oracle in made]
    for other in scores[1:]:
        np.testing.assert_array_equal(scores[0], other)


def test_switching_objectives_keeps_shapes(tmp_path):
    stranger(tmp_path / "r.csv", 60)
    oracle = jaxnas.table_oracle(tmp_path / "r.csv", objective="acc", metrics="ms")
    other = oracle.select("ms")
    shapes = lambda o: jax.tree.map(lambda x: x.shape, o.params())
    assert shapes(oracle) == shapes(other)


HEAD = "edge12,edge13,edge14,edge23,edge24,edge34,top1\n"
ROW = "none,none,none,none,none,none,"


@pytest.mark.parametrize(
    ("text", "space", "options", "words"),
    [
        (HEAD + ROW + "1\n" + ROW.replace("none", "nnone", 1) + "2\n", "nb201", {},
         "line 3: Unknown value of 'edge12': 'nnone'. Did you mean 'none'"),
        (HEAD + ROW + "good\n", "nb201", {"metrics": "top1"},
         "line 2: the metric 'top1' is 'good'"),
        (HEAD.replace("top1", "top1,layer1") + ROW + "1,conv\n", "nb201", {},
         "the column 'layer1' holds the text 'conv', and 'nb201-v1' has no such decision"),
        (HEAD.replace("edge12", "egde12") + ROW + "1\n", "nb201", {},
         "lacks 1 decisions of 'nb201-v1': Unknown column 'edge12'. Did you mean 'egde12'"),
        (HEAD + ROW + "1\n", "nb201", {"objective": "top5"}, "Did you mean 'top1'"),
        (HEAD + ROW + "1\n", "nb201", {"missing": "skip"}, "Unknown way to treat"),
        (HEAD + ROW + "1\n", "nb201", {"missing": "exclude"}, "cannot go with a space"),
        (HEAD + ROW + "\n", "nb201", {}, "holds no number"),
        (HEAD + ROW + "1,2\n", "nb201", {}, "line 2: 8 values under 7 columns"),
        (HEAD, "nb201", {}, "has no rows"),
        ("", "nb201", {}, "has no rows"),
        ("a,a,b\n1,2,3\n", None, {"objective": "b"}, "'a' twice"),
        ("a,,b\n1,2,3\n", None, {"objective": "b"}, "a column without a name"),
        ("a,b\n1,2\n2,3\n", None, {}, "Which columns of r.csv are metrics?"),
        ("b\n1\n2\n", None, {"objective": "b"}, "no column beside the metrics"),
        ("a,b\n1,2\n", None, {"objective": "b"}, "two are needed"),
        ("a,b\n1,2\n2,1\n", None, {"objective": "b", "missing": "refuse"}, "needs a space"),
    ],
)  # fmt: skip
def test_refused_in_a_sentence(tmp_path, text, space, options, words):
    (tmp_path / "r.csv").write_text(text)
    made = None if space is None else make_space(space)
    with pytest.raises(UserError) as caught:
        jaxnas.table_oracle(tmp_path / "r.csv", made, **options)
    assert words in str(caught.value)


def test_a_metric_that_was_forgotten_is_asked_about(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{i % 5},{rng.random()},{rng.random()}" for i in range(200)]
    (tmp_path / "r.csv").write_text("\n".join(["depth,acc,loss", *lines]))
    with pytest.raises(UserError, match=r"'loss' of r\.csv has 200 different numbers"):
        jaxnas.table_oracle(tmp_path / "r.csv", objective="acc")


def test_files_that_cannot_be_read(tmp_path):
    for name, data, words in [
        ("a.txt", b"", "must end in"),
        ("a.npz", b"PK junk", "damaged"),
        ("a.parquet", b"junk", "damaged or no parquet"),
        ("a.csv", b"\xff\xfe\x00", "not text in UTF-8"),
        ("a.csv", b'a,b\n"1,2\n', "line"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=words):
            jaxnas.table_oracle(tmp_path / name, objective="b")
    np.savez(tmp_path / "o.npz", a=np.array([{}], object))
    with pytest.raises(UserError, match="holds Python objects"):
        jaxnas.table_oracle(tmp_path / "o.npz", objective="a")
    with pytest.raises(UserError, match="cannot be read"):
        jaxnas.table_oracle(tmp_path / "missing.csv", objective="b")


def test_a_file_that_changes_is_noticed(tmp_path):
    stranger(tmp_path / "r.csv", 60)
    oracle = jaxnas.table_oracle(tmp_path / "r.csv", objective="acc", metrics="ms")
    stranger(tmp_path / "r.csv", 80)
    with pytest.raises(UserError, match="has changed"):
        oracle.params()


def test_nan_and_inf_in_a_decision_are_blank_and_a_value(tmp_path):
    (tmp_path / "r.csv").write_text("lr,acc\nnan,1\n0.1,2\ninf,3\n,1\n")
    oracle = jaxnas.table_oracle(tmp_path / "r.csv", objective="acc")
    assert oracle.space.decision_values == ((0.1, float("inf"), None),)
    assert oracle.columns()["acc"].tolist() == [2.0, 3.0, 1.0]
