"""Model-based search: against evolution, batches, large spaces, labels that say nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import jaxnas
from jaxnas.algorithms import model_based as mb
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.testing.tiny import TinyNets

SPACE = jaxnas.make_space("nb201")


def asked(result, seed=0):
    """Returns the architectures of a seed, in order."""
    return result.arrays["tokens"][seed][: result.arrays["count"][seed]]


@pytest.mark.parametrize("z", [-8.0, -5.01, -4.99, -1.0, 0.0, 3.0])
def test_expected_improvement_is_the_integral(z):
    """Of (f - best)+ under the posterior, by quadrature; scale 0.3."""
    best, sd = 1.5, 0.3
    mean = best + z * sd
    whole = quad(lambda u: u * norm.pdf((best + u - mean) / sd) / sd, 0, 12 * sd, epsabs=0)
    ours = mb._improvement(jnp.array([mean]), jnp.array([sd]), jnp.float32(best))
    assert float(ours[0]) == pytest.approx(np.log(whole[0]), abs=2e-2)


@pytest.mark.slow
def test_it_needs_fewer_queries_than_evolution():
    """Eight seeds, 60 queries of a tuning objective: lower regret, p < 0.01 by rank sum."""
    from scipy.stats import mannwhitneyu

    oracle = jaxnas.make_oracle("analog-nasbench", objective="digital")
    curves = {}
    for name in ("model-based", "evolution"):
        algo = jaxnas.make_algorithm(name, space=SPACE)
        curves[name] = jaxnas.search(algo, oracle, seeds=8, budget=60).curve[:, -1]
    assert mannwhitneyu(*curves.values(), alternative="greater").pvalue < 0.01


def test_lanes_differ_and_nothing_is_asked_twice():
    oracle = jaxnas.make_oracle("analog-nasbench", objective="ptq")
    algo = jaxnas.make_algorithm("model-based", space=SPACE, batch=5, steps=3)
    rows = asked(jaxnas.search(algo, oracle, budget=20))
    assert len(np.unique(rows, axis=0)) == len(rows) == 20


def test_a_small_space_is_asked_to_its_last_member():
    """After that the lanes are inactive, and the search ends."""
    space = TinyNets()
    oracle = jaxnas.oracle(lambda t: jnp.sum(t).astype(jnp.float32), space, traced=True)
    algo = jaxnas.make_algorithm("model-based", space=space, batch=2, start=2, steps=2)
    total = tk.count(space)
    result = jaxnas.search(algo, oracle, budget=total, max_proposals=4 * total)
    assert len(np.unique(asked(result), axis=0)) == total


@pytest.mark.slow
def test_a_space_too_large_to_enumerate_is_searched():
    """Hidden architecture, 30 queries: better than as many random ones by the mean."""
    space = jaxnas.make_space("zoph-cnn")
    hidden = tk.draw(space, jax.random.key(7)[None])[0]
    share = lambda tokens: jnp.mean((tokens == hidden).astype(jnp.float32))
    oracle = jaxnas.oracle(share, space, traced=True)
    best = {}
    for name, options in (("model-based", {"shortlist": 64, "steps": 3}), ("random", {})):
        algo = jaxnas.make_algorithm(name, space=space, **options)
        result = jaxnas.search(algo, oracle, seeds=2, budget=30)
        best[name] = np.asarray(result.curve)[:, -1].mean()
    assert best["model-based"] > best["random"]


@pytest.mark.parametrize("kind", ["constant", "failing"])
def test_values_that_say_nothing_stop_nothing(kind):
    """Constant rewards, or half of them NaN: finite kernels, new architectures."""

    def value(tokens):
        bad = (kind == "failing") & (tokens[0] % 2 == 0)
        return jnp.where(bad, jnp.nan, 1.0)

    oracle = jaxnas.oracle(value, SPACE, traced=True)
    algo = jaxnas.make_algorithm("model-based", space=SPACE, steps=3)
    result = jaxnas.search(algo, oracle, budget=12)
    rows = asked(result)
    assert len(np.unique(rows, axis=0)) == len(rows) == 12
    for name in ("tokens", "paths", "summary", "noise"):
        assert np.isfinite(result.arrays[f"metric_kernel_{name}"][:, :12]).all()


@pytest.mark.parametrize(
    "options", [{"start": 0}, {"batch": 0}, {"capacity": 1000}, {"batch": 9, "capacity": 8}]
)
def test_sizes_that_cannot_be_are_refused(options):
    with pytest.raises(UserError, match="Model-based search needs"):
        jaxnas.make_algorithm("model-based", space=SPACE, **options)


def test_far_below_the_median_is_compressed():
    """The order stays; mean 0 and variance 1; a failure is no label."""
    state = mb.ModelBased(SPACE).init(
        jax.random.key(0), mb.ModelBased(SPACE).default_hparams()
    )
    rewards = jnp.asarray([*range(90, 98), 10.0, 20.0, -jnp.inf])
    state = state._replace(reward=state.reward.at[:11].set(rewards))
    labels, held = mb._labels(state)
    known = np.asarray(labels)[:10]
    assert (np.argsort(known) == np.argsort(np.asarray(rewards)[:10])).all()
    assert int(held.sum()) == 10
    assert known.mean() == pytest.approx(0, abs=1e-5)
    assert known.std() == pytest.approx(1, abs=1e-4)
    plain = (np.asarray(rewards)[:10] - 76) / np.std(np.asarray(rewards)[:10])
    assert np.ptp(known[:8]) > 2 * np.ptp(plain[:8])
