"""Every space that ships as a file is searched: queries are legal, and searching helps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas import registry
from jaxnas.core import tokens as tk

SEEDS, BUDGET = 8, 400
SHIPPED = [name for name, where in registry.SPACES.items() if "spaces.shipped:" in where]


def find(space, oracle, algorithm):
    algo = jaxnas.make_algorithm(algorithm, space=space)
    return jaxnas.search(algo, oracle, seeds=SEEDS, budget=BUDGET)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_evolution_beats_random_search_and_a_policy_learns(name):
    space = jaxnas.make_space(name)
    hidden = tk.draw(space, jax.random.key(7)[None])[0]

    def agreement(tokens):
        """Returns the share of decisions that are those of a hidden architecture."""
        return jnp.mean((tokens == hidden).astype(jnp.float32))

    oracle = jaxnas.oracle(agreement, space, traced=True)
    legal = jax.jit(jax.vmap(lambda row: tk.is_valid(space, row)))
    found = {
        algorithm: find(space, oracle, algorithm)
        for algorithm in ("random", "evolution", "reinforce")
    }
    for result in found.values():
        asked, counts = result.arrays["tokens"], result.arrays["count"]
        rows = np.concatenate([row[:n] for row, n in zip(asked, counts, strict=True)])
        assert np.asarray(legal(jnp.asarray(rows, jnp.int32))).all()
    best = {name: np.asarray(result.curve)[:, -1] for name, result in found.items()}
    assert is_positive(best["evolution"] - best["random"])
    policy, quarter = found["reinforce"].arrays, BUDGET // 4
    rows = zip(policy["objectives"][..., 0], policy["count"], strict=True)
    # A policy that has converged ends before its budget: its last quarter, then.
    gains = [row[n - quarter : n].mean() - row[:quarter].mean() for row, n in rows]
    assert is_positive(np.asarray(gains))


def is_positive(gaps):
    """Returns whether a mean is above 3 standard errors: by chance once in a hundred."""
    return gaps.mean() > 3 * gaps.std(ddof=1) / len(gaps) ** 0.5
