"""Rewards of several objectives: what is maximal, what is refused, what a run records."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.core.scalarise import (
    SCALARISERS,
    Chebyshev,
    make_scalariser,
    recorded,
    weighted_sum,
)
from jaxnas.oracles.budget import budgeted
from jaxnas.oracles.toy import ToyOracle
from jaxnas.spaces.toy import Toy

GOALS = (
    jaxnas.Objective("accuracy", "%", True),
    jaxnas.Objective("params", "parameters", False),
)


def rewards(rule, points):
    points = jnp.asarray(points, jnp.float32)
    return np.asarray(rule(points, jnp.zeros(len(points))))


def concave():
    """A front that bends inwards: a sum of any weights is best at one of its ends."""
    x = np.linspace(0, 1, 41)
    return np.stack([100 * x, 1000 * np.sqrt(1 - (1 - x) ** 2)], axis=1)


def test_chebyshev_reaches_what_no_weighted_sum_does():
    points, sums, distances = concave(), set(), set()
    for weight in np.linspace(0.02, 0.98, 49):
        weights = (float(weight), float(1 - weight))
        scaled = (weights[0] / 100, weights[1] / 1000)
        sums.add(int(np.argmax(rewards(weighted_sum(GOALS, scaled), points))))
        rule = make_scalariser(
            GOALS, "chebyshev", weights, ideal=(100.0, 0.0), scale=(100.0, 1000.0)
        )
        distances.add(int(np.argmax(rewards(rule, points))))
    assert sums <= {0, 40}
    assert len(distances) > 20


@pytest.mark.parametrize("name", SCALARISERS)
def test_better_is_more(name):
    more = {"ideal": (90.0, 10.0), "scale": (50.0, 900.0)} if name == "chebyshev" else {}
    rule = make_scalariser(GOALS, name, (1.0, 0.5), **more)
    found = rewards(rule, [[80, 100], [81, 100], [80, 90], [95, 5], [np.nan, 5]])
    assert found[0] < min(found[1], found[2])
    assert found[3] == np.nanmax(found)
    assert np.isnan(found[4])
    ignored = make_scalariser(GOALS, name, (0.0, 1.0), **more)
    assert np.isfinite(rewards(ignored, [[np.nan, 5]])).all()
    broken = rule(jnp.array([[80.0, 100.0]]), jnp.array([0.5]))
    assert float(broken[0]) < found[0]


@pytest.mark.parametrize("name", SCALARISERS)
@pytest.mark.parametrize("goal", GOALS)
def test_one_objective_comes_back_in_its_unit(name, goal):
    more = {"ideal": (90.0,), "scale": (50.0,)} if name == "chebyshev" else {}
    rule = make_scalariser((goal,), name, (0.7,), **more)
    values = np.array([[3.0], [40.0], [95.0]], np.float32)
    np.testing.assert_allclose(rule.natural(rewards(rule, values)), values[:, 0], rtol=1e-5)


def test_ranges_are_those_of_the_table_or_of_the_unit():
    oracle = ToyOracle(Toy(length=4, vocab=3))
    rule = budgeted(oracle, 4, scalarise="chebyshev").scalariser
    values = next(iter(oracle.columns().values()))
    assert rule.ideal == (float(values.max()),)
    assert rule.scale == pytest.approx((float(np.ptp(values)),))
    assert make_scalariser(GOALS[:1], "chebyshev").ideal == (100.0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "tchebycheff"}, "Unknown scalarisation"),
        ({"name": "chebyshev"}, "range of params is not known here; give ideal and scale"),
        ({"name": "chebyshev", "ideal": (1.0,), "scale": (1.0, 2.0)}, "finite ideal for"),
        ({"name": "chebyshev", "ideal": (1.0, 2.0), "scale": (1.0, 0.0)}, "above zero"),
        ({"weights": (1.0,)}, "1 weights were given for 2 objectives"),
        ({"ideal": (1.0, 2.0)}, "belong to the scalarisation 'chebyshev'"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(jaxnas.UserError, match=message):
        make_scalariser(GOALS, **options)


def test_a_run_records_its_rule():
    space = Toy(length=4, vocab=3)
    algo = jaxnas.make_algorithm("evolution", space=space, population=4, sample=2)
    oracle = jaxnas.oracle(
        lambda t: {"a": jnp.sum(t) * 1.0, "b": t[0] * 1.0}, space,
        maximise={"a": True, "b": False}, traced=True,
    )  # fmt: skip
    options = {"budget": 8, "weights": (1.0, 2.0), "ideal": (8.0, 0.0), "scale": (8.0, 2.0)}
    result = jaxnas.search(algo, oracle, scalarise="chebyshev", **options)
    rule = recorded(oracle.objectives, result.config)
    assert isinstance(rule, Chebyshev)
    best = rewards(rule, result.archive["objectives"])
    np.testing.assert_allclose(best[0], np.max(best))
    np.testing.assert_allclose(best[0], result.arrays["best_true"].max(), rtol=1e-6)
    plain = jaxnas.search(algo, oracle, budget=8)
    assert "scalarise" not in plain.config
    assert recorded(oracle.objectives, plain.config) == weighted_sum(oracle.objectives)
