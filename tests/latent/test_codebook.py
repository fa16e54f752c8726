"""Codes against plain numpy, and the terms that keep them apart, alive and bounded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.latent import codebook as cb

RNG = np.random.default_rng(0)
CODES = jnp.asarray(RNG.standard_normal((7, 3)), jnp.float32)
X = jnp.asarray(RNG.standard_normal((40, 3)), jnp.float32)


def test_nearest_is_the_smallest_distance():
    gaps = np.linalg.norm(X[:, None] - CODES[None], axis=-1)
    np.testing.assert_array_equal(cb.nearest(CODES, X), gaps.argmin(1))
    grid = X.reshape(4, 10, 3)
    np.testing.assert_array_equal(cb.nearest(CODES, grid), gaps.argmin(1).reshape(4, 10))


def test_straight_through_passes_the_gradient_of_the_quantised_value():
    quantised = CODES[cb.nearest(CODES, X)]
    loss = lambda x: jnp.sum(cb.straight_through(x, quantised) ** 3)
    np.testing.assert_allclose(cb.straight_through(X, quantised), quantised, atol=1e-6)
    np.testing.assert_allclose(jax.grad(loss)(X), 3 * quantised**2, rtol=1e-5, atol=1e-6)


def test_loss_terms_equal_a_numpy_reference_and_move_one_side_only():
    quantised = CODES[cb.nearest(CODES, X)]
    expected = np.mean((X - quantised) ** 2)
    for term, moves in ((cb.codebook_loss, 1), (cb.commitment_loss, 0)):
        np.testing.assert_allclose(term(X, quantised), expected, rtol=1e-6)
        grads = jax.grad(term, argnums=(0, 1))(X, quantised)
        assert np.abs(grads[moves]).max() > 0
        assert np.abs(grads[1 - moves]).max() == 0
    gaps = ((np.asarray(CODES)[:, None] - np.asarray(CODES)) ** 2).sum(-1)
    crowd = (np.exp(-gaps / 3).sum() - 7) / 42
    np.testing.assert_allclose(cb.divergence_loss(CODES), crowd, rtol=1e-5)


def unbounded_push(codes, x, label):
    """The original's push-away: minus the squared distance to the nearest wrong code."""
    near = cb.nearest(codes, x)
    wrong = (near != label)[:, None]
    return -jnp.mean(wrong * (codes[near] - x) ** 2)


def falls_for_ever(term):
    """Whether moving codes and encoder outputs apart lowers a term without end."""
    sizes = [1.0, 1e2, 1e4]
    values = [float(term(size)) for size in sizes]
    return values[2] < values[1] < values[0] and values[2] < -1e3


def test_pushing_codes_apart_is_bounded_below_and_the_published_term_is_not():
    ours = lambda size: cb.divergence_loss(size * CODES)
    label = jnp.zeros(len(X), jnp.int32)
    theirs = lambda size: unbounded_push(CODES, size * X, label)
    assert falls_for_ever(theirs)
    assert not falls_for_ever(ours)
    spread = [0.0, 0.1, 1.0, 10.0, 1e3]
    values = [float(ours(size)) for size in spread]
    assert values == sorted(values, reverse=True), "apart is better"
    assert values[0] == pytest.approx(1.0)
    assert values[-1] == 0.0
    move = jax.grad(lambda size: cb.divergence_loss(size * CODES))(1.0)
    assert move < 0


def test_moving_averages_reach_the_mean_of_what_chose_a_code():
    book = cb.init(jax.random.key(0), 3, 3)
    index = jnp.asarray(np.arange(40) % 2)  # code 2 is never chosen
    start = np.asarray(book.codes)
    for _ in range(200):
        book = cb.follow(book, X, index, 0.9)
    for code in (0, 1):
        np.testing.assert_allclose(
            book.codes[code], np.mean(X[code::2], axis=0), rtol=1e-3, atol=1e-4
        )
    np.testing.assert_allclose(book.codes[2], start[2], atol=1e-3)
    assert np.isfinite(book.codes).all()


def test_dead_codes_are_revived_on_encoder_outputs_and_live_ones_stay():
    book = cb.init(jax.random.key(0), 4, 3)
    used = jnp.asarray([0.5, 0.499, 0.001, 0.0])
    book = book._replace(usage=used)
    revived = cb.revive(jax.random.key(1), book, X, 0.1)
    np.testing.assert_array_equal(revived.codes[:2], book.codes[:2])
    for code in (2, 3):
        assert np.asarray(revived.codes[code] == X).all(axis=1).any()
        assert revived.usage[code] == pytest.approx(0.25)
    none = cb.revive(jax.random.key(1), book, X, 0.0)
    np.testing.assert_array_equal(none.codes, book.codes)


def test_usage_and_perplexity():
    counts = cb.choice_counts(jnp.asarray([[0, 1], [1, 3]]), 5)
    np.testing.assert_array_equal(counts, [1, 2, 0, 1, 0])
    np.testing.assert_array_equal(cb.live(counts), [1, 1, 0, 1, 0])
    assert cb.perplexity(jnp.asarray([3.0, 0, 0])) == pytest.approx(1.0)
    assert cb.perplexity(jnp.ones(9)) == pytest.approx(9.0, rel=1e-5)
    book = cb.init(jax.random.key(0), 4, 3)
    for _ in range(400):
        book = cb.observe(book, jnp.asarray([0, 0, 0, 2]))
    np.testing.assert_allclose(book.usage, [0.75, 0, 0.25, 0], atol=1e-3)
