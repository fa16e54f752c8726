"""Every gradient method against random search on real tables, at equal distinct queries."""

import functools

import jax
import jax.numpy as jnp
import pytest

import jaxnas
from jaxnas.core import statistics
from jaxnas.core import tokens as tk

pytestmark = pytest.mark.slow
TABLES = {"nb201-table": "cifar10", "analog-nasbench": "analog_1month"}
QUERIES = 300
RANDOM_SEEDS, SEEDS, LATENT_SEEDS = 64, 24, 16
"""Controllers 0, 1, ... of seed 0."""
LEVEL = 1e-3
"""Tolerance: one-sided p of Welch's test that a method is no better than random search."""
TOKEN = ("reinforce", "a2c", "ppo")
LATENT = tuple(f"latent-{name}" for name in TOKEN)


@pytest.fixture(scope="module")
def latent_file(tmp_path_factory):
    """A latent space of nb201 that has seen no score."""
    from jaxnas.latent import files, fit, labels
    from jaxnas.latent.vqvae import VQVAE

    space = jaxnas.make_space("nb201")
    model, plan = VQVAE(space), fit.Plan(steps=1000)
    rows, none = jnp.asarray(tk.enumerate_space(space)), labels.no_labels(space.length)
    train = jax.jit(lambda key: fit.fit(model, key, rows, none, plan=plan))
    path = tmp_path_factory.mktemp("latent") / "nb201.npz"
    files.save(path, model, train(jax.random.key(0)).params)
    return str(path)


@functools.cache
def found(table, name, seeds, hparams=(), **options):
    """Best value of each controller within its queries, fewer if it repeats itself."""
    space = jaxnas.make_space("nb201")
    oracle = jaxnas.make_oracle(table, space=space, objective=TABLES[table])
    algo = jaxnas.make_algorithm(name, space=space, **options)
    result = jaxnas.search(
        algo, oracle, budget=QUERIES, max_proposals=2 * QUERIES, seeds=seeds,
        hparams=dict(hparams),
    )  # fmt: skip
    return result.curve[:, -1]


def p_no_better(table, ours):
    """One-sided p against random search; its mean is the smaller one where p < 0.5."""
    theirs = found(table, "random", RANDOM_SEEDS)
    p = statistics.welch_p(ours, theirs)
    return p / 2 if ours.mean() > theirs.mean() else 1 - p / 2


@pytest.mark.parametrize("name", TOKEN)
@pytest.mark.parametrize("table", TABLES)
def test_token_methods_beat_random_search(table, name):
    assert p_no_better(table, found(table, name, SEEDS)) < LEVEL


def test_an_untrained_policy_is_seen_not_to():
    ours = found("nb201-table", "a2c", SEEDS, hparams=(("lr", 0.0),))
    assert p_no_better("nb201-table", ours) > LEVEL


@pytest.mark.parametrize("name", LATENT)
@pytest.mark.parametrize("table", TABLES)
def test_latent_methods_beat_random_search(table, name, latent_file):
    ours = found(table, name, LATENT_SEEDS, latent=latent_file)
    assert p_no_better(table, ours) < LEVEL
