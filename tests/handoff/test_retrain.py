"""Full trainings: on which images, each once, counted and written down."""

import csv
import json

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.handoff import retrain as rt
from jaxnas.oracles.child import ChildOracle
from jaxnas.report.say import retrain_section
from jaxnas.testing.tiny import TinyNets

TOKENS = np.array([1, 0], np.int32)


def oracle(**options):
    return ChildOracle(TinyNets(), **{"epochs": 1, "limit": 80, "batch": 40, **options})


def networks(asked):
    return rt.found(asked, [TOKENS], [{"val_accuracy": 50.0}])


def bare(**options):
    return rt.Retraining(**{"runs": 2, "references": False, **options})


def test_nothing_is_trained_twice_and_all_is_written(tmp_path):
    asked, events = oracle(), []
    record = rt.retrain(asked, networks(asked), tmp_path, bare(), events.append)
    assert [e["event"] for e in events] == ["train", "trained"] * 2
    events.clear()
    more = rt.retrain(asked, networks(asked), tmp_path, bare(runs=3), events.append)
    assert [e["event"] for e in events] == ["trained", "trained", "train", "trained"]
    (first,), (again,) = record["networks"], more["networks"]
    assert again["keys"][:2] == first["keys"]
    assert rt.read_retraining(tmp_path) == json.loads(json.dumps(more))
    with open(tmp_path / "retrain.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    made = rt.results(more, again)
    shown = [100 * float(row["test_accuracy"]) for row in rows]
    np.testing.assert_allclose(made.accuracy, shown)
    table = retrain_section.table(more)
    cell = f"{np.mean(shown):.2f} ± {2 * np.std(shown, ddof=1):.2f}"
    assert cell in table.rows[0]
    assert "which no search saw" in table.note


def test_the_validation_images_are_trained_on_when_it_says_so():
    asked = oracle()
    data = asked.images
    alone, (x_test, _) = rt._images(asked, "train")
    both, _ = rt._images(asked, "train+validation")
    np.testing.assert_array_equal(alone.x_train, data.x_train)
    np.testing.assert_array_equal(x_test, data.x_test)
    joined = np.concatenate([data.x_train, data.x_val])
    np.testing.assert_array_equal(both.x_train, joined)
    np.testing.assert_array_equal(both.y_train, np.concatenate([data.y_train, data.y_val]))


def test_what_a_training_depends_on_decides_whether_it_is_known():
    asked = oracle()
    (network,) = networks(asked)
    header = rt._header(asked, bare(), 80)
    base = rt._key(asked, network.spec, header, 0)
    assert rt._key(asked, {**network.spec, "space": "other"}, header, 0) == base
    for other in (
        rt._header(oracle(lr=0.01), bare(), 80),
        rt._header(oracle(epochs=2), bare(), 80),
        rt._header(asked, bare(train_on="train"), 80),
        rt._header(oracle(limit=70), bare(), 70),
    ):
        assert rt._key(asked, network.spec, other, 0) != base
    assert rt._key(asked, network.spec, header, 1) != base


def test_a_training_that_diverges_is_said_and_not_averaged(tmp_path):
    asked = oracle(lr=1e30)
    record = rt.retrain(asked, networks(asked), tmp_path, bare(runs=1))
    made = rt.results(record, record["networks"][0])
    assert made.diverged == 1
    assert np.isnan(made.mean)
    (row,) = retrain_section.table(record).rows
    assert "diverged" in row
    assert retrain_section.summary(record)[0]["mean"] is None


def test_damaged_and_impossible_requests_are_refused(tmp_path):
    (tmp_path / "retrain.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        rt.read_retraining(tmp_path)
    (tmp_path / "retrain.json").write_text('{"format": "jaxnas-retrain-9"}')
    with pytest.raises(UserError, match="retrain-9"):
        rt.read_retraining(tmp_path)
    with pytest.raises(UserError, match="runs must be in"):
        bare(runs=0)
    with pytest.raises(UserError, match="last seed"):
        bare(seed=4294967295)


@pytest.mark.slow
def test_references_learn_the_digits_beside_a_searched_network(tmp_path):
    """Each above 90 % on digits (logistic regression has 97 %, chance 10 %)."""
    asked = oracle(epochs=12, limit=None, batch=64, size="channels:16")
    settings = rt.Retraining(runs=2, width=8)
    record = rt.retrain(asked, networks(asked), tmp_path, settings)
    assert [row["name"] for row in record["networks"]] == ["found 1", *rt.REFERENCES]
    for row in record["networks"]:
        made = rt.results(record, row)
        assert made.mean > 90, row["name"]
        assert len(set(made.accuracy)) > 1 or made.sd == 0
