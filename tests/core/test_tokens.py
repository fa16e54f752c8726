"""Token operators: what holds beyond the conformance suite, and exact laws."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.spaces.nb201 import NB201
from jaxnas.spaces.toy import Toy
from jaxnas.testing.stats import P_MIN, chi_square_p

TOY, CELL, LARGE = Toy(), NB201(), Toy(length=20, vocab=4)
near = jax.jit(lambda tokens: tk.neighbours(TOY, tokens))
ALMOST_ONE = np.nextafter(np.float32(1), np.float32(0))


@pytest.fixture(scope="module")
def large_samples():
    keys = jax.random.split(jax.random.key(0), 50_000)
    return np.asarray(jax.jit(jax.vmap(lambda key: tk.sample(key, LARGE)))(keys))


def test_inverse_cdf_never_returns_weight_zero():
    """For u = 0, u just below 1 and every u between, whatever the zeros' places."""
    patterns = np.array([[(n >> i) & 1 for i in range(5)] for n in range(1, 32)])
    scales = np.array([1.0, 1 / 3, 1e-30, 1e30])
    weights = (patterns[:, None] * scales[None, :, None] * [1, 2, 3, 0.1, 7]).astype("f")
    uniforms = np.concatenate([[0.0, ALMOST_ONE], np.linspace(0, ALMOST_ONE, 101)])
    u = np.broadcast_to(uniforms.astype("f"), (*weights.shape[:2], len(uniforms)))
    wide = np.broadcast_to(weights[:, :, None], (*u.shape, 5))
    drawn = np.asarray(jax.jit(tk.inverse_cdf)(u, wide))
    assert (np.take_along_axis(wide, drawn[..., None], -1) > 0).all()


def test_inverse_cdf_follows_the_weights():
    """Frequencies against the exact shares, and a share shifted by 1 % that must fail."""
    weights = np.array([0.1, 0.0, 0.5, 0.25, 0.15], np.float32)
    u = jax.random.uniform(jax.random.key(3), (100_000,))
    drawn = tk.inverse_cdf(u, jnp.broadcast_to(jnp.asarray(weights), (100_000, 5)))
    observed = np.bincount(drawn, minlength=5)
    assert chi_square_p(observed, weights.astype(float) / weights.sum()) > P_MIN
    shifted = np.array([0.11, 0.0, 0.49, 0.25, 0.15])
    assert chi_square_p(observed, shifted) < P_MIN


def test_index_is_a_bijection_in_enumeration_order():
    members = tk.enumerate_space(CELL)
    numbers = tk.index(CELL, jnp.asarray(members))
    np.testing.assert_array_equal(numbers, np.arange(5**6))
    np.testing.assert_array_equal(tk.from_index(CELL, numbers), members)
    assert np.all(
        np.diff(np.asarray(tk.index(TOY, jnp.asarray(tk.enumerate_space(TOY))))) > 0
    )


def test_enumeration_lists_exactly_the_valid_vectors():
    """Against all 81 raw vectors of the toy space filtered by the rule in plain Python."""
    raw = np.array(list(np.ndindex(3, 3, 3, 3)))
    legal = [all(b == 0 or a != b for a, b in itertools.pairwise(r)) for r in raw]
    np.testing.assert_array_equal(tk.enumerate_space(TOY), raw[legal])


def test_large_spaces_are_refused_where_they_must_be(monkeypatch):
    monkeypatch.setattr(tk, "ENUMERABLE", 100)
    with pytest.raises(UserError, match="more than 100 architectures and cannot be"):
        tk.enumerate_space(Toy(length=6, vocab=3))
    for operation in (tk.index, tk.from_index):
        with pytest.raises(UserError, match="31-bit"):
            operation(LARGE, jnp.zeros(20, jnp.int32))
    assert tk.count(LARGE) == LARGE.count()
    assert not tk.indexable(LARGE)


def test_digests_tell_architectures_apart(large_samples):
    """Exact where the index fits; no collision among 50,000 draws elsewhere."""
    rows = np.unique(large_samples, axis=0)
    words = np.asarray(jax.jit(jax.vmap(lambda r: tk.digest(LARGE, r)))(rows))
    assert len(np.unique(words, axis=0)) == len(rows)
    # Each word alone behaves as 32 random bits: collisions of n draws are about n^2 / 2^33.
    for word in words.T:
        assert len(rows) - len(np.unique(word)) < 6
    members = jnp.asarray(tk.enumerate_space(CELL)[:100])
    exact = jax.vmap(lambda r: tk.digest(CELL, r))(members)
    np.testing.assert_array_equal(exact[:, 0], np.arange(100))
    assert not np.asarray(exact[:, 1]).any()


def test_host_digest_depends_on_space_and_tokens():
    """The text that is hashed is ``id:t0,t1,...``; the value is from sha256sum."""
    tokens = np.array([2, 2, 0, 4, 2, 1], np.int32)
    assert tk.digest_host(CELL, tokens) == (
        "e51f6b2a3a9380002841c3b747fee8f2d36366e69c7280af5abf15d4c4ac77ae"
    )
    assert tk.digest_host(CELL, tokens) != tk.digest_host(CELL, tokens[::-1])
    assert tk.digest_host(TOY, tokens[:4]) != tk.digest_host(CELL, tokens[:4])


def test_mutation_is_uniform_over_single_changes():
    """On nb201 every one of the 24 neighbours has probability 1/24, and nothing else."""
    origin = jnp.array([2, 2, 0, 4, 2, 1])
    keys = jax.random.split(jax.random.key(5), 24_000)
    mutated = jax.jit(jax.vmap(lambda key: tk.mutate(key, CELL, origin)))(keys)
    rows, times = np.unique(np.asarray(mutated), axis=0, return_counts=True)
    assert (np.sum(rows != np.asarray(origin), axis=1) == 1).all()
    assert chi_square_p(times, np.full(24, 1 / 24)) > P_MIN


def test_mutation_and_neighbours_reach_the_same_architectures():
    """Where a change breaks nothing later, both make the same moves on the toy space."""
    origin = jnp.array([0, 0, 0, 0])
    keys = jax.random.split(jax.random.key(6), 512)
    mutated = jax.jit(jax.vmap(lambda key: tk.mutate(key, TOY, origin)))(keys)
    rows, real = near(origin)
    assert set(map(tuple, np.asarray(mutated).tolist())) == set(
        map(tuple, np.asarray(rows)[np.asarray(real)].tolist())
    )


def test_neighbours_repair_what_a_change_breaks():
    """1,2,.. with its first token set to 2 must lower the second 2 to a legal one."""
    rows, real = near(jnp.array([1, 2, 0, 0]))
    listed = np.asarray(rows)[np.asarray(real)].tolist()
    assert [2, 0, 0, 0] in listed
    assert [0, 2, 0, 0] in listed


def test_crossover_takes_each_token_from_a_parent():
    first, second = jnp.zeros(6, jnp.int32), jnp.full(6, 3, jnp.int32)
    keys = jax.random.split(jax.random.key(7), 4_000)
    cross = jax.jit(jax.vmap(lambda key: tk.crossover(key, CELL, first, second)))
    mixed = np.asarray(cross(keys))
    assert np.isin(mixed, (0, 3)).all()
    share = (mixed == 3).mean(axis=0)
    # Standard error of a fair coin over 4,000 draws: 0.0079; five of them.
    np.testing.assert_allclose(share, 0.5, atol=0.04)


def test_repair_keeps_the_longest_legal_prefix():
    broken = jnp.array([1, 1, 2, 7])
    keys = jax.random.split(jax.random.key(8), 200)
    repair = jax.jit(jax.vmap(lambda key: tk.repair(key, TOY, broken)))
    mended = np.asarray(repair(keys))
    assert (mended[:, 0] == 1).all()
    assert set(mended[:, 1].tolist()) == {0, 2}
    assert jax.vmap(lambda row: tk.is_valid(TOY, row))(jnp.asarray(mended)).all()


def test_validity_is_the_mask_rule():
    assert bool(tk.is_valid(TOY, jnp.array([1, 0, 1, 2])))
    for row in ([1, 1, 0, 0], [0, 3, 0, 0], [0, -1, 0, 0]):
        assert not bool(tk.is_valid(TOY, jnp.array(row))), row


@dataclasses.dataclass(frozen=True)
class Single(Toy):
    """A space with one member."""

    def mask(self, tokens, t):
        return jnp.arange(self.vocab) == 0


def test_a_space_of_one_member_mutates_to_itself():
    only = jnp.zeros(4, jnp.int32)
    mutate = jax.jit(lambda key: tk.mutate(key, Single(), only))
    np.testing.assert_array_equal(mutate(jax.random.key(0)), only)
