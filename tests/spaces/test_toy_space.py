"""The toy space: its counts and its canonical form in plain Python."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.spaces.toy import Toy


@pytest.mark.parametrize(("length", "vocab"), [(1, 2), (4, 3), (5, 4), (3, 6)])
def test_count_against_brute_force(length, vocab):
    raw = itertools.product(range(vocab), repeat=length)
    legal = [r for r in raw if all(b == 0 or a != b for a, b in itertools.pairwise(r))]
    assert Toy(length, vocab).count() == len(legal)


def test_a_space_beyond_31_bits_counts_exactly():
    """a_r = a + 3 b, b_r = a + 2 b by hand in Python integers."""
    after_zero, after_layer = 1, 1
    for _ in range(20):
        after_zero, after_layer = after_zero + 3 * after_layer, after_zero + 2 * after_layer
    assert Toy(20, 4).count() == after_zero > 2**31


def test_canonical_is_the_same_chain_of_layers():
    """Equal canonical forms are exactly equal sequences of non-zero tokens."""
    space = Toy(length=5, vocab=3)
    members = tk.enumerate_space(space)
    canonical = np.asarray(jax.jit(jax.vmap(space.canonical))(jnp.asarray(members)))
    chains = [tuple(t for t in row if t) for row in members.tolist()]
    forms = [tuple(row) for row in canonical.tolist()]
    assert len(set(zip(chains, forms, strict=True))) == len(set(chains)) == len(set(forms))
    assert [tuple(t for t in form if t) for form in forms] == chains


@pytest.mark.parametrize(("length", "vocab"), [(0, 3), (4, 1)])
def test_impossible_sizes_are_refused(length, vocab):
    with pytest.raises(UserError, match="length >= 1 and vocab >= 2"):
        Toy(length, vocab)


def test_a_spec_of_another_length_is_refused():
    spec = Toy(5, 3).to_spec(np.zeros(5, np.int32))
    with pytest.raises(UserError, match="4 places"):
        Toy(4, 3).from_spec(spec)
