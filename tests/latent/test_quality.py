"""Measurements against numbers that are known, and samples that do not overlap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.latent.dataset import split
from jaxnas.latent.quality import correlation, neighbour_correlation
from jaxnas.registry import make_space
from jaxnas.spaces.toy import Toy


def test_smoothness_is_high_where_neighbours_agree_and_zero_where_they_do_not():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((300, 2)), jnp.float32)
    smooth = x[:, 0] + x[:, 1]
    assert neighbour_correlation(x, smooth) > 0.95
    shuffled = jnp.asarray(rng.permutation(np.asarray(smooth)))
    # standard deviation of a correlation of 300 is 0.06
    assert abs(neighbour_correlation(x, shuffled)) < 0.25
    gaps = np.linalg.norm(np.asarray(x)[:, None] - np.asarray(x), axis=-1)
    np.fill_diagonal(gaps, np.inf)
    mean = np.asarray(shuffled)[np.argsort(gaps, axis=1)[:, :5]].mean(axis=1)
    expected = np.corrcoef(np.asarray(shuffled), mean)[0, 1]
    assert neighbour_correlation(x, shuffled) == pytest.approx(expected, abs=1e-4)


def test_correlation_of_a_constant_is_zero():
    x = jnp.arange(5.0)
    assert correlation(x, 3 - 2 * x) == pytest.approx(-1.0)
    assert correlation(x, jnp.ones(5)) == 0


@pytest.mark.parametrize("space", [Toy(length=5, vocab=4), make_space("analog-resnet")])
def test_a_split_is_disjoint_valid_and_repeatable(space):
    drawn = split(space, 60, 30, seed=3)
    both = np.concatenate(drawn)
    assert both.shape == (90, space.length)
    assert len(np.unique(both, axis=0)) == 90
    again = split(space, 60, 30, seed=3)
    np.testing.assert_array_equal(both, np.concatenate(again))
    assert not np.array_equal(both, np.concatenate(split(space, 60, 30, seed=4)))


def test_more_than_the_space_holds_is_refused():
    with pytest.raises(UserError, match="has 7 architectures"):
        split(Toy(length=2, vocab=3), 8, 3)
    with pytest.raises(UserError, match="at least 1 each"):
        split(Toy(length=2, vocab=3), 3, 0)
    assert jax.tree.map(len, tuple(split(Toy(length=2, vocab=3), 4, 3))) == (4, 3)
