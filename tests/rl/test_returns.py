"""Returns and advantages against hand computation, a slow obvious version and rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.rl.returns import gae

T = 23  # longer than one unrolled piece of the reverse scan
RNG = np.random.default_rng(0)
REWARD = jnp.asarray(RNG.normal(size=T), jnp.float32)
VALUE = jnp.asarray(RNG.normal(size=T + 1), jnp.float32)
DISCOUNT = jnp.where(jnp.asarray(RNG.random(T)) < 0.2, 0.0, 0.9)


def no(n):
    return jnp.zeros(n, bool)


def slow_gae(reward, value, next_value, terminated, truncated, gamma, lam):
    advantage, following = np.zeros(len(reward)), 0.0
    for t in reversed(range(len(reward))):
        follows = 0.0 if terminated[t] else next_value[t]
        if terminated[t] or truncated[t]:
            following = 0.0
        delta = reward[t] + gamma * follows - value[t]
        following = advantage[t] = delta + gamma * lam * following
    return advantage


def test_gae_of_two_steps_by_hand():
    # delta_0 = 1 + 0.5*3 - 2 = 0.5, delta_1 = 4 + 0.5*6 - 3 = 4 (bootstraps on v = 6)
    args = (jnp.array([1.0, 4.0]), jnp.array([2.0, 3.0]), jnp.array([3.0, 6.0]))
    advantage = gae(*args, no(2), no(2), 0.5, 0.5)
    np.testing.assert_allclose(advantage, [0.5 + 0.25 * 4.0, 4.0])


def test_truncation_bootstraps_and_termination_does_not():
    reward, value = jnp.array([1.0, 2.0, 3.0]), jnp.array([10.0, 20.0, 30.0])
    next_value = jnp.array([20.0, 50.0, 40.0])  # 50: value of the final observation
    cut = jnp.array([False, True, False])
    truncated = gae(reward, value, next_value, no(3), cut, 0.5, 0.8)
    # A_2 = 3 + 20 - 30, A_1 = 2 + 25 - 20 (its own bootstrap, nothing beyond the cut),
    # A_0 = (1 + 10 - 10) + 0.4 A_1
    np.testing.assert_allclose(truncated, [1.0 + 0.4 * 7.0, 7.0, -7.0], rtol=1e-6)
    terminated = gae(reward, value, next_value, cut, no(3), 0.5, 0.8)
    np.testing.assert_allclose(terminated, [1.0 - 0.4 * 18.0, -18.0, -7.0], rtol=1e-6)


def test_gae_ignores_what_follows_termination():
    cut = jnp.arange(T) == 7
    poisoned = jnp.where(cut, jnp.nan, VALUE[1:])
    advantage = gae(REWARD, VALUE[:-1], poisoned, cut, no(T), 0.9, 0.7)
    assert np.all(np.isfinite(advantage))


def test_gae_against_the_slow_version():
    terminated, truncated = RNG.random(T) < 0.2, RNG.random(T) < 0.2
    next_value = jnp.asarray(RNG.normal(size=T), jnp.float32)
    args = (REWARD, VALUE[:-1], next_value)
    ours = gae(*args, jnp.asarray(terminated), jnp.asarray(truncated), 0.9, 0.7)
    slow = slow_gae(*args, terminated, truncated, 0.9, 0.7)
    np.testing.assert_allclose(ours, slow, rtol=1e-5, atol=1e-5)


def test_gae_limits_are_td_error_and_monte_carlo():
    args = (REWARD, VALUE[:-1], VALUE[1:], no(T), no(T))
    td = REWARD + 0.9 * VALUE[1:] - VALUE[:-1]
    np.testing.assert_allclose(gae(*args, 0.9, 0.0), td, rtol=1e-5, atol=1e-6)
    whole, following = np.zeros(T), float(VALUE[-1])
    for t in reversed(range(T)):
        following = whole[t] = float(REWARD[t]) + 0.9 * following
    monte_carlo = whole - VALUE[:-1]
    np.testing.assert_allclose(gae(*args, 0.9, 1.0), monte_carlo, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Rlax")
def test_parity_with_rlax():
    rlax = pytest.importorskip("rlax", reason="rlax (extra dev) is not installed")
    terminated = jnp.asarray(DISCOUNT == 0.0)
    ours = gae(REWARD, VALUE[:-1], VALUE[1:], terminated, no(T), 0.9, 0.7)
    theirs = rlax.truncated_generalized_advantage_estimation(REWARD, DISCOUNT, 0.7, VALUE)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_streams_are_vmapped():
    reward, value = jnp.stack([REWARD, 2.0 * REWARD]), jnp.zeros((2, T))
    rest = (no(T), no(T), 0.9, 0.7)
    both = jax.vmap(lambda r, v: gae(r, v, v, *rest))(reward, value)
    np.testing.assert_allclose(both[1], 2.0 * both[0], rtol=1e-5)
