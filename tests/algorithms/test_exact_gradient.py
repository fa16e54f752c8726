"""Policy-gradient estimates against the exact gradient, an exact sum over a toy space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.algorithms import reward_scale as scales
from jaxnas.algorithms.reinforce import advantages
from jaxnas.algorithms.token_policy import init_params, sequence
from jaxnas.controllers import heads
from jaxnas.core import tokens as tk
from jaxnas.oracles.toy import ToyOracle
from jaxnas.registry import make_algorithm
from jaxnas.rl import losses
from jaxnas.spaces.toy import Toy

SPACE = Toy(length=3, vocab=3)
MEMBERS = jnp.asarray(tk.enumerate_space(SPACE))
REWARD = jnp.asarray(ToyOracle(SPACE).columns()["score"], jnp.float32)
LEGAL = jax.vmap(lambda row: tk.masks(SPACE, row))(MEMBERS)
ALGO = make_algorithm("reinforce", space=SPACE, hidden=8)
PARAMS = jax.tree.map(
    lambda x: x + 0.4 * jax.random.normal(jax.random.key(4), x.shape),
    init_params(jax.random.key(3), ALGO.module, SPACE),
)
"""Far from uniform, so that a bias would show."""


def log_probs(params):
    """Log-probability of every architecture, ``[n, L]``, illegal tokens at zero weight."""
    out = sequence(ALGO.module, params, MEMBERS)
    logits = heads.masked(out.logits, LEGAL)
    return heads.log_prob(logits, LEGAL, MEMBERS)


def expected_reward(params):
    return jnp.sum(jnp.exp(jnp.sum(log_probs(params), axis=1)) * REWARD)


EXACT = jax.grad(expected_reward)(PARAMS)
PROBABILITY = jnp.exp(jnp.sum(log_probs(PARAMS), axis=1))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_the_policy_is_a_distribution():
    np.testing.assert_allclose(float(jnp.sum(PROBABILITY)), 1.0, rtol=1e-5)


@pytest.mark.parametrize("baseline", ["none", "moving-average", "leave-one-out"])
def test_reinforce_is_unbiased(baseline):
    """The mean over all pairs (a, b), each weighted by its probability, is the gradient."""
    n = len(MEMBERS)
    first, second = (jnp.repeat(jnp.arange(n), n), jnp.tile(jnp.arange(n), n))
    weight = PROBABILITY[first] * PROBABILITY[second]
    before = scales.init()._replace(mean=jnp.float32(0.7), batches=jnp.float32(3.0))
    valid = jnp.ones(2, bool)
    rewards = jnp.stack([REWARD[first], REWARD[second]], axis=1)
    adv = jax.vmap(lambda r: advantages(baseline, before, r, valid))(rewards)
    everyone = jnp.ones((2, SPACE.length), bool)

    def loss(params):
        logs = log_probs(params)
        pair = jnp.stack([logs[first], logs[second]], axis=1)
        one = lambda lp, a: losses.policy_gradient(
            lp, jnp.broadcast_to(a[:, None], lp.shape), everyone
        )
        return jnp.sum(weight * jax.vmap(one)(pair, adv))

    got = flat(jax.grad(loss)(PARAMS))
    # The loss averages over the L tokens: its gradient is -1/L of that of E[R].
    np.testing.assert_allclose(-SPACE.length * got, flat(EXACT), rtol=2e-3, atol=2e-5)


def test_a_biased_baseline_would_be_seen():
    logs = log_probs(PARAMS)
    biased = REWARD - 5.0 * logs[:, 0]  # a "baseline" that depends on the action
    loss = lambda p: jnp.sum(PROBABILITY * biased * jnp.sum(log_probs(p), axis=1))
    got = flat(jax.grad(loss)(PARAMS))
    assert not np.allclose(got, flat(EXACT), rtol=2e-2, atol=2e-4)


def test_ppo_starts_with_the_exact_gradient():
    """At the writing policy the clipped ratio is 1 and its gradient the exact one."""
    old = log_probs(PARAMS)
    everyone = jnp.ones(SPACE.length, bool)

    def loss(params):
        one = lambda lp, before, r: losses.ppo_clip(
            lp, before, jnp.full(SPACE.length, r), 0.2, everyone
        )
        return jnp.sum(PROBABILITY * jax.vmap(one)(log_probs(params), old, REWARD))

    got = flat(jax.grad(loss)(PARAMS))
    np.testing.assert_allclose(-SPACE.length * got, flat(EXACT), rtol=2e-3, atol=2e-5)
