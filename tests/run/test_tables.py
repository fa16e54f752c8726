"""``results.csv`` and ``results.json``: the archive by name, readable as a table again."""

import csv
import json

import numpy as np
import pytest

import jaxnas


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    space = jaxnas.declare({
        "name": "mine",
        "decisions": [
            {"name": "op", "choices": ["conv", "pool"]},
            {"name": "kernel", "choices": [1, 3, 5], "when": {"op": "conv"}},
        ],
    })  # fmt: skip
    out = tmp_path_factory.mktemp("run")
    values = {1: 0.5, 3: 0.75, 5: float("nan")}
    oracle = jaxnas.oracle(lambda a: values.get(a.get("kernel"), 0.25), space)
    algo = jaxnas.make_algorithm("random", space=space)
    found = jaxnas.search(algo, oracle, budget=4, seeds=3, out=out / "r")
    return space, out / "r", found


def test_csv_has_the_archive_by_name_without_failures(finished):
    _, path, found = finished
    with open(path / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["score"] for row in rows] == ["0.75", "0.5", "0.25"]
    assert [(row["op"], row["kernel"]) for row in rows] == [
        ("conv", "3"), ("conv", "1"), ("pool", ""),
    ]  # fmt: skip
    assert len(found.best(10)) == len(rows)


def test_csv_is_a_table_for_the_table_oracle(finished):
    space, path, _ = finished
    oracle = jaxnas.table_oracle(path / "results.csv", space)
    tokens = space.from_dict({"op": "conv", "kernel": 3})
    value = oracle.truth(oracle.params(), np.stack([tokens]))
    assert float(value[0, 0]) == 0.75


def test_json_says_how_the_controllers_did(finished):
    _, path, found = finished
    made = json.loads((path / "results.json").read_text())
    assert made["best"][0]["architecture"] == {"op": "conv", "kernel": 3}
    (setting,) = made["settings"]
    assert setting["controllers"] == 3
    assert setting["mean"] == pytest.approx(float(np.mean(found.arrays["best_true"])))
    assert setting["queries"] == 12
