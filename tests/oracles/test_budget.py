"""The budget against a plain Python ledger, on a bitmap space and on a hashed one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core import visited as vs
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Truthful, Uncertain, required
from jaxnas.core.scalarise import weighted_sum
from jaxnas.oracles.budget import Budgeted
from jaxnas.oracles.noise import Noisy
from jaxnas.registry import make_oracle, make_space
from jaxnas.testing.fakes import Flaky, OnHost

SMALL = make_space("toy")
LARGE = make_space("toy", length=20, vocab=4)


def budgeted(space, budget, cap):
    oracle = make_oracle("toy", space=space)
    return Budgeted(oracle, weighted_sum(oracle.objectives), budget, cap)


def reference(batches, actives, values, budget, cap):
    """The rules of the budget, spelled out with a dictionary and a list."""
    seen, order, best, curve, proposals = set(), [], -np.inf, [], 0
    for batch, active in zip(batches, actives):
        if len(order) >= budget or proposals >= cap:
            break
        for row, on in zip(batch, active):
            if not on or proposals >= cap:
                continue
            proposals += 1
            arch = tuple(row)
            if arch in seen or len(order) >= budget:
                continue
            seen.add(arch)
            order.append(arch)
            best = max(best, values[arch])
            curve.append(best)
    return order, curve, proposals


@pytest.mark.parametrize("space", [SMALL, LARGE], ids=["bitmap", "hashed"])
@pytest.mark.parametrize(("budget", "cap"), [(11, 1000), (100, 30)])
def test_ledger_equals_a_plain_dictionary(space, budget, cap):
    budget = min(budget, cap)
    oracle = budgeted(space, budget, cap)
    params = oracle.params()
    rng = np.random.default_rng(3)
    pool = np.asarray(
        jax.vmap(lambda k: tk.sample(k, space))(jax.random.split(jax.random.key(0), 25))
    )
    batches = pool[rng.integers(0, 25, (12, 6))]
    actives = rng.random((12, 6)) < 0.8
    step = jax.jit(oracle.evaluate)
    state = oracle.init(jax.random.key(1), params)
    values = {}
    for batch, active in zip(batches, actives):
        if bool(oracle.spent(state)):
            break
        args = (jnp.asarray(batch), jnp.zeros(6, jnp.int32), jnp.asarray(active))
        state, found = step(jax.random.key(2), params, state, *args)
        truth = np.asarray(required(oracle, Truthful).truth(params, jnp.asarray(batch)))
        truth = truth[:, 0]
        values |= {tuple(row): v for row, v in zip(batch, truth)}
        scored = np.asarray(found.status) == 0
        np.testing.assert_array_equal(np.asarray(found.reward)[scored], truth[scored])
        assert np.isnan(np.asarray(found.reward)[~scored]).all()
        assert not scored[~active].any()
    order, curve, proposals = reference(batches, actives, values, budget, cap)
    ledger = state.ledger
    assert int(ledger.queries) == len(order)
    assert int(ledger.proposals) == proposals
    asked = np.asarray(ledger.tokens)[: len(order)]
    assert [tuple(row) for row in asked] == order
    np.testing.assert_allclose(np.asarray(ledger.curve)[: len(order)], curve, rtol=0)
    assert np.isnan(np.asarray(ledger.curve)[len(order) :]).all()
    assert values[tuple(np.asarray(ledger.best_tokens))] == curve[-1]


def test_repeats_are_free_and_identical_under_stored_noise():
    oracle = make_oracle("analog-nasbench", objective="analog_1month", noise="stored")
    book = Budgeted(oracle, weighted_sum(oracle.objectives), 50, 400)
    params = book.params()
    state = book.init(jax.random.key(5), params)
    tokens = jnp.tile(tk.from_index(oracle.space, jnp.arange(100, 104)), (2, 1))
    args = (tokens, jnp.zeros(8, jnp.int32), jnp.ones(8, bool))
    step = jax.jit(book.evaluate)
    state, first = step(jax.random.key(6), params, state, *args)
    state, again = step(jax.random.key(7), params, state, *args)
    assert int(state.ledger.queries) == 4
    np.testing.assert_array_equal(first.objectives, again.objectives)
    np.testing.assert_array_equal(first.objectives[:4], first.objectives[4:])
    truth = np.asarray(required(oracle, Truthful).truth(params, tokens))
    assert (np.asarray(first.objectives) != truth).any()
    winner = int(np.argmax(np.asarray(first.reward)[:4]))
    assert float(state.ledger.best_true) == truth[winner, 0]


def test_resampling_costs_a_query_each_and_recommends_by_the_mean():
    oracle = make_oracle("analog-nasbench", objective="analog_1month", noise="resample")
    book = Budgeted(oracle, weighted_sum(oracle.objectives), 300, 2400)
    params = book.params()
    tokens = tk.from_index(oracle.space, jnp.asarray([9000, 9001, 9002, 9000]))
    args = (tokens, jnp.zeros(4, jnp.int32), jnp.ones(4, bool))
    step = jax.jit(book.evaluate)
    state = book.init(jax.random.key(8), params)
    readings: dict[int, list[float]] = {}
    for i in range(75):
        state, found = step(jax.random.key(i), params, state, *args)
        for row, value in zip((9000, 9001, 9002, 9000), np.asarray(found.reward)):
            readings.setdefault(row, []).append(float(value))
    assert int(state.ledger.queries) == 300
    assert bool(book.spent(state))
    assert len(set(readings[9000])) == 150, "every reading is a new one"
    means = {row: np.mean(values) for row, values in readings.items()}
    best = max(means, key=means.__getitem__)
    assert int(tk.index(oracle.space, state.ledger.best_tokens)) == best
    truth = np.asarray(required(oracle, Truthful).truth(params, tokens))[:, 0]
    assert float(state.ledger.best_true) == truth[best - 9000]
    spread = np.asarray(required(oracle, Uncertain).spread(params, tokens))[:, 0]
    for row in (0, 1, 2):
        values = np.asarray(readings[9000 + row])
        error = spread[row] / np.sqrt(len(values))
        assert abs(values.mean() - truth[row]) < 4.5 * error  # p = 7e-6 a check
        ratio = values.std(ddof=1) / spread[row]
        assert abs(ratio - 1) < 4.5 / np.sqrt(2 * len(values))


def test_a_failed_evaluation_costs_a_query_and_never_wins():
    oracle = Flaky(make_oracle("toy", space=SMALL), rate=0.5)
    book = Budgeted(oracle, weighted_sum(oracle.objectives), 16, 100)
    params = book.params()
    members = jnp.asarray(tk.enumerate_space(SMALL)[:16])
    args = (members, jnp.zeros(16, jnp.int32), jnp.ones(16, bool))
    state, found = jax.jit(book.evaluate)(
        jax.random.key(0), params, book.init(jax.random.key(0), params), *args
    )
    failed = np.asarray(found.status) == 1
    assert 0 < failed.sum() < 16
    assert int(state.ledger.queries) == 16
    truth = np.asarray(required(oracle, Truthful).truth(params, members))[:, 0]
    assert float(state.ledger.best_true) == truth[~failed].max()


def test_hash_table_agrees_with_the_bitmap():
    tokens = jnp.asarray(tk.enumerate_space(SMALL))
    count = len(tokens)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, count, (10, 8))
    bits = vs.empty(SMALL, 64)
    hashed = vs.Visited(
        jnp.zeros(0, jnp.uint32), jnp.zeros((256, 2), jnp.uint32), jnp.zeros(256, bool)
    )
    on = jnp.ones(8, bool)
    for row in rows:
        room = jnp.int32(5)
        bits, a, b, _ = vs._insert_bits(SMALL, bits, tokens[row], on, room)
        hashed, c, d, _ = vs._insert_hashed(SMALL, hashed, tokens[row], on, room)
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)


@pytest.mark.parametrize(("budget", "cap"), [(0, 10), (10, 5)])
def test_impossible_budgets_are_refused(budget, cap):
    with pytest.raises(UserError):
        budgeted(SMALL, budget, cap)


def test_noise_needs_a_recorded_spread():
    with pytest.raises(UserError, match="no uncertainty"):
        Noisy(OnHost(make_oracle("toy")), "stored")
    with pytest.raises(UserError, match="Unknown noise"):
        make_oracle("analog-nasbench", noise="gaussian")
