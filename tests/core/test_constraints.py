"""Handlings of constraints against plain Python, and what all of them promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import constraints as cs
from jaxnas.core.errors import UserError

RNG = np.random.default_rng(0)
BATCHES, LANES = 30, 5
VALUE = RNG.normal(-5.0, 20.0, (BATCHES, LANES)).astype(np.float32)
VIOLATION = np.maximum(RNG.normal(0.2, 1.0, VALUE.shape), 0.0).astype(np.float32)
OK = RNG.random(VALUE.shape) < 0.8
VALUE[~OK] = np.nan
VIOLATION[~OK] = 0.0
VIOLATION[:4] = np.abs(VIOLATION[:4]) + 0.1  # nothing is feasible at first
HANDLINGS = [cs.make_handling(name) for name in cs.HANDLINGS]
IDS = list(cs.HANDLINGS)


def batch(rows):
    """Values, violations and which are there, of some batches."""
    return jnp.asarray(VALUE[rows]), jnp.asarray(VIOLATION[rows]), jnp.asarray(OK[rows])


def run(handling, value=VALUE, violation=VIOLATION, ok=OK, state=None):
    """The rewards of all batches, one after the other, and the states between them."""
    step = jax.jit(handling)
    state, rewards, states = handling.init() if state is None else state, [], []
    for lanes in zip(value, violation, ok, strict=True):
        state, reward = step(state, *map(jnp.asarray, lanes))
        rewards.append(np.asarray(reward))
        states.append(jax.tree.map(np.asarray, state))
    return np.stack(rewards), states


@pytest.mark.parametrize("handling", HANDLINGS, ids=IDS)
def test_what_is_feasible_keeps_its_value(handling):
    rewards, _ = run(handling)
    met = OK & (VIOLATION <= 0)
    assert met.sum() > 20
    np.testing.assert_array_equal(rewards[met], VALUE[met])
    assert np.isfinite(rewards[OK]).all()


@pytest.mark.parametrize("handling", HANDLINGS, ids=IDS)
def test_mapped_over_controllers_equals_one_at_a_time(handling):
    many = jax.vmap(handling, in_axes=(0, 0, 0, 0))
    rows = slice(0, 4)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), handling.init())
    state, reward = many(start, *batch(rows))
    for i in range(4):
        alone, expected = handling(handling.init(), *batch(i))
        np.testing.assert_array_equal(reward[i], expected)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), state, alone)


def test_deb_ranks_the_feasible_first_and_then_by_violation():
    """Against his three rules for a pair, on every pair of a batch and across batches."""
    rewards, _ = run(cs.make_handling("feasible-first"))
    bad, met = OK & (VIOLATION > 0), OK & (VIOLATION <= 0)
    for i in range(BATCHES):
        row = rewards[i][bad[i]]
        order = np.argsort(VIOLATION[i][bad[i]])
        assert (np.diff(row[order]) <= 0).all(), "less violation is better"
        past = VALUE[: i + 1][met[: i + 1]]
        if past.size and row.size:
            assert row.max() < past.min(), "below everything feasible so far"
    first = int(np.flatnonzero(met.any(axis=1))[0])
    assert first >= 4
    early, lowest = rewards[:first][bad[:first]], VALUE[:first][OK[:first]].min()
    assert early.max() < np.nanmax(VALUE[:first])
    later = VALUE[met & (lowest < VALUE)]
    assert (rewards[first - 1][bad[first - 1]].max() < later).all()


def test_the_multiplier_climbs_with_violation_and_falls_without():
    """Dual ascent in plain Python; a batch is paid by the multiplier before it."""
    handling = cs.make_handling("lagrangian", start=0.5, step=0.7, tolerance=0.1)
    rewards, states = run(handling)
    multiplier = 0.5
    for i in range(BATCHES):
        for lane in np.flatnonzero(OK[i]):
            expected = VALUE[i, lane] - multiplier * VIOLATION[i, lane]
            assert rewards[i, lane] == pytest.approx(expected, rel=1e-4, abs=1e-4)
        slope = sum(float(v) - 0.1 for v in VIOLATION[i][OK[i]])
        multiplier = max(0.0, multiplier + 0.7 * slope)
        assert float(states[i].multiplier) == pytest.approx(multiplier, rel=1e-4)
    calm, _ = np.zeros_like(VIOLATION), None
    _, then = run(handling, violation=calm, state=handling.init())
    falls = [float(state.multiplier) for state in then]
    assert falls == sorted(falls, reverse=True)
    assert falls[-1] == 0.0


def test_the_step_of_the_multiplier_is_traced():
    """Controllers with other steps share one program."""
    handling = cs.make_handling("lagrangian", start=0.0, tolerance=0.0)
    steps = jnp.asarray([0.0, 1.0, 10.0])
    spread = lambda x: jnp.broadcast_to(x, (3, *x.shape))
    state = jax.tree.map(spread, handling.init())._replace(step=steps)
    mapped = jax.vmap(handling, in_axes=(0, None, None, None))
    state, _ = mapped(state, *batch(0))
    total = VIOLATION[0][OK[0]].sum()
    np.testing.assert_allclose(state.multiplier, [0.0, total, 10 * total], rtol=1e-6)


def test_the_death_penalty_is_one_number():
    rewards, _ = run(cs.make_handling("death"))
    assert set(rewards[OK & (VIOLATION > 0)]) == {-1000.0}


def test_excess_is_in_units_of_the_bound():
    assert cs.excess(("params", "<=", 200.0), 300.0) == 0.5
    assert cs.excess(("digital", ">=", 80.0), 60.0) == 0.25
    assert cs.excess(("loss", "<=", -2.0), -1.0) == 0.5
    assert cs.excess(("loss", "<=", 0.0), 3.0) == 3.0
    assert cs.excess(("digital", ">=", 80.0), 100.0) == -0.25
    assert cs.worded(("params", "<=", 5e5)) == "params <= 500,000"


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("deaht", {}, "Did you mean 'death'"),
        ("penalty", {"step": 1.0}, "Unknown option of penalty"),
        ("penalty", {"factor": -1.0}, "must be in"),
        ("penalty", {"factor": float("nan")}, "must be in"),
        ("lagrangian", {"tolerance": "much"}, "must be a number"),
        ("death", {"reward": float("inf")}, "must be in"),
    ],
)
def test_a_wrong_handling_is_one_sentence(name, options, text):
    with pytest.raises(UserError, match=text) as caught:
        cs.make_handling(name, **options)
    assert "\n" not in str(caught.value)
