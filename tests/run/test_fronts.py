"""The front and the hypervolume that a run leaves, against moocore and by hand."""

import csv

import jax.numpy as jnp
import moocore
import numpy as np
import pytest

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.moo import found
from jaxnas.spaces.toy import Toy

SPACE = Toy(length=5, vocab=4)
NAMES = {"large": True, "uneven": False}


def score(tokens):
    weight = jnp.arange(1, 6)
    return {"large": jnp.sum(tokens) * 1.0, "uneven": jnp.sum(tokens * weight) * 1.0}


def signed(values):
    return np.asarray(values, float) * [1, -1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    oracle = jaxnas.oracle(score, SPACE, maximise=NAMES, traced=True)
    algo = jaxnas.make_algorithm("nsga2", space=SPACE)
    out = tmp_path_factory.mktemp("run") / "r"
    return jaxnas.search(algo, oracle, budget=60, seeds=3, out=out)


def test_the_front_is_that_of_everything_queried(finished):
    asked = finished.arrays["tokens"].reshape(-1, 5).astype(int)
    distinct = np.unique(asked, axis=0)
    values = np.stack([[*map(float, score(row).values())] for row in distinct])
    on = moocore.is_nondominated(signed(values), maximise=True, keep_weakly=True)
    rows = finished.front()
    assert {row["tokens"] for row in rows} == {tuple(r) for r in distinct[on].tolist()}
    large = [row["large"] for row in rows]
    assert large == sorted(large, reverse=True)
    assert set(rows[0]) == {"tokens", "architecture", "large", "uneven"}


def test_it_is_read_again_and_written_by_name(finished):
    again = jaxnas.load_result(finished.path)
    wanted = [row["tokens"] for row in finished.front()]
    assert [row["tokens"] for row in again.front()] == wanted
    with open(finished.path / "front.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["large"]) for row in rows] == [r["large"] for r in finished.front()]


def test_hypervolume_of_each_controller(finished):
    values = finished.arrays["objectives"]
    reference, places = (2.0, 40.0), [10, 60]
    ours = finished.hypervolume(reference, places)
    wanted = [
        [
            moocore.hypervolume(signed(v[:q]), ref=signed(reference), maximise=True)
            for q in places
        ]
        for v in values
    ]
    np.testing.assert_allclose(ours, wanted, rtol=1e-5)
    assert finished.hypervolume().shape == (3, 1)
    with pytest.raises(jaxnas.UserError, match="number for each of large, uneven"):
        finished.hypervolume((1.0,))


def test_the_default_reference_is_the_worst_of_all_fronts(finished):
    fronts = []
    for values in finished.arrays["objectives"]:
        on = moocore.is_nondominated(signed(values), maximise=True, keep_weakly=True)
        fronts.append(values[on])
    worst = (
        float(min(f[:, 0].min() for f in fronts)),
        float(max(f[:, 1].max() for f in fronts)),
    )
    np.testing.assert_allclose(finished.hypervolume(), finished.hypervolume(worst))
    assert np.isnan(found.nadir([], finished.goals)).all()


def test_one_objective_has_a_front_of_its_best():
    oracle = jaxnas.oracle(lambda t: jnp.max(t) * 1.0, SPACE, traced=True)
    algo = jaxnas.make_algorithm("nsga2", space=SPACE)
    result = jaxnas.search(algo, oracle, budget=30)
    rows = result.front()
    assert {row["score"] for row in rows} == {3.0}
    assert len(rows) == int(np.sum(result.arrays["tokens"].max(axis=2) == 3))
    assert "front_tokens" not in result.archive


def test_infeasible_architectures_are_on_no_front():
    """Of a table whose readings are noisy, the front is that of the true values."""
    oracle = jaxnas.make_oracle(
        "analog-nasbench", objective="digital,analog_1month", noise="stored",
        constraints=("params<=4e5",),
    )  # fmt: skip
    algo = jaxnas.make_algorithm("random", space=oracle.space)
    result = jaxnas.search(algo, oracle, budget=80, seeds=2)
    columns = jaxnas.make_oracle("cost", space=oracle.space).columns()
    table = jaxnas.make_oracle("analog-nasbench").columns()
    members = {tuple(r): i for i, r in enumerate(tk.enumerate_space(oracle.space).tolist())}
    asked = {tuple(t) for t in result.arrays["tokens"].reshape(-1, 6).tolist()}
    rows = np.array([members[t] for t in asked])
    rows = rows[columns["params"][rows] <= 4e5]
    values = np.stack([table["digital"][rows], table["analog_1month"][rows]], axis=1)
    on = moocore.is_nondominated(values, maximise=True, keep_weakly=True)
    places = {members[row["tokens"]] for row in result.front()}
    assert places == set(rows[on].tolist())


def test_volumes_of_nothing():
    goals = (jaxnas.Objective("a", ""), jaxnas.Objective("b", ""))
    none = np.full((2, 3, 2), np.nan)
    allowed = np.zeros((2, 3), bool)
    after = found.volumes_after(none, allowed, goals, np.zeros(2), np.array([1, 3]))
    np.testing.assert_array_equal(after, 0.0)
    assert found.volume(none[0], goals, np.zeros(2)) == 0.0
