"""A space of the rows of a list, and the look-up of rows behind it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core import trie as tr
from jaxnas.core.errors import UserError
from jaxnas.spaces.listed import listed
from jaxnas.testing.spaces import SPACE_CHECKS, sampling_p
from jaxnas.testing.stats import P_MIN

RNG = np.random.default_rng(0)
ROWS = RNG.integers(0, 4, (60, 5))
DECISIONS = tuple((f"d{i}", ("a", "b", "c", None)) for i in range(5))
SPACE = listed("rows", DECISIONS, ROWS)


@pytest.mark.parametrize("check", SPACE_CHECKS, ids=lambda check: check.__name__)
def test_conforms(check):
    check(SPACE)


def test_members_are_the_distinct_rows():
    np.testing.assert_array_equal(tk.enumerate_space(SPACE), np.unique(ROWS, axis=0))


def test_uniform_over_rows():
    assert sampling_p(SPACE, tk.sample_uniform, uniform=True) > P_MIN


@pytest.mark.parametrize(("n", "length", "vocab"), [(1, 1, 2), (200, 3, 7), (500, 12, 3)])
def test_rows_are_found_and_strangers_are_not(n, length, vocab):
    rows = np.unique(RNG.integers(0, vocab, (n, length)), axis=0)
    trie = tr.build(rows, vocab)
    known = {tuple(row): i for i, row in enumerate(rows.tolist())}
    asked = RNG.integers(-1, vocab + 1, (2_000, length))
    asked[: len(rows)] = rows
    find = jax.jit(jax.vmap(lambda row: tr.find(trie, row)))
    found = np.asarray(find(jnp.asarray(asked, jnp.int32)))
    wanted = [known.get(tuple(row), -1) for row in asked.tolist()]
    np.testing.assert_array_equal(found, wanted)
    assert (found[: len(rows)] >= 0).all()


def test_too_many_rows_and_too_few():
    with pytest.raises(UserError, match="too many to look up"):
        tr.build(np.unique(RNG.integers(0, 2, (3_000, 40)), axis=0), 40_000)
    with pytest.raises(UserError, match="two are needed"):
        listed("one", DECISIONS, ROWS[:1])


def test_dicts():
    row = SPACE.rows[7]
    values = SPACE.to_dict(row)
    assert None not in values.values()
    np.testing.assert_array_equal(SPACE.from_dict(values), row)
    stranger = next(
        t for t in np.ndindex(4, 4, 4, 4, 4) if not (SPACE.rows == t).all(1).any()
    )
    with pytest.raises(UserError, match="is no architecture"):
        SPACE.from_dict(SPACE.to_dict(np.array(stranger)))
