"""The synthetic score: its optimum, its interactions, its tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.oracles.toy import ToyOracle
from jaxnas.spaces.toy import Toy


@pytest.mark.parametrize("task", range(4))
@pytest.mark.parametrize("space", [Toy(), Toy(6, 4)], ids=["4x3", "6x4"])
def test_dynamic_programming_finds_the_enumerated_optimum(space, task):
    oracle = ToyOracle(space, task=task)
    best, tokens = oracle.optimum()
    scores = oracle.columns()["score"]
    members = tk.enumerate_space(space).tolist()
    assert best == scores.max() == scores[members.index(tokens.tolist())]


def test_optimum_of_a_space_that_cannot_be_listed():
    """It is legal, and its score by evaluation is the stated one."""
    oracle = ToyOracle(Toy(20, 4))
    best, tokens = oracle.optimum()
    assert bool(tk.is_valid(oracle.space, jnp.asarray(tokens)))
    value = oracle.truth(oracle.params(), jnp.asarray(tokens)[None])
    assert float(value[0, 0]) == best


def test_local_search_can_get_stuck():
    """In the default task more than one architecture beats all its neighbours."""
    oracle = ToyOracle()
    members = tk.enumerate_space(oracle.space)
    scores = oracle.columns()["score"]
    value = dict(zip(map(tuple, members.tolist()), scores, strict=True))
    near = jax.jit(jax.vmap(lambda tokens: tk.neighbours(oracle.space, tokens)))
    rows, real = map(np.asarray, near(jnp.asarray(members)))
    stuck = [
        all(value[tuple(r)] <= s for r, ok in zip(near_rows.tolist(), oks) if ok)
        for near_rows, oks, s in zip(rows, real, scores, strict=True)
    ]
    assert sum(stuck) > 1


def test_tasks_differ_and_keep_their_shapes():
    first, second = ToyOracle(task=0), ToyOracle(task=1)
    shapes = [jax.tree.map(jnp.shape, oracle.params()) for oracle in (first, second)]
    assert shapes[0] == shapes[1]
    assert not np.array_equal(first.columns()["score"], second.columns()["score"])
    assert first.id != second.id


def test_scores_do_not_drift_between_versions():
    """Computed once from the formula; a change needs a new id."""
    np.testing.assert_array_equal(
        ToyOracle().columns()["score"][[0, 1, 20, 40]], [5.125, 8.6875, 10.5, 1.875]
    )


def test_spread_is_for_the_score_only():
    oracle = ToyOracle(objective="score,layers")
    spread = oracle.spread(oracle.params(), jnp.zeros((3, 4), jnp.int32))
    np.testing.assert_array_equal(spread, [[0.25, 0.0]] * 3)


@pytest.mark.parametrize("options", [{"objective": "scores"}, {"task": -1}])
def test_what_cannot_be_asked_is_refused(options):
    with pytest.raises(UserError):
        ToyOracle(**options)
