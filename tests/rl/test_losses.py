"""Losses against rlax and by hand, with invalid samples, scaling and collapse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.algorithms import collapse
from jaxnas.algorithms import reward_scale as scales
from jaxnas.core.errors import UserError
from jaxnas.rl import losses, optimise

N = 12
RNG = np.random.default_rng(0)
DRAWS = RNG.normal(size=(5, N)).astype(np.float32) * 0.5
LOG_PROB, OLD, ADVANTAGE, VALUE, TARGET = map(jnp.asarray, DRAWS)
VALID = jnp.arange(N) % 3 != 0
ALL = jnp.ones(N, bool)


def test_ppo_clip_by_hand():
    # ratios 2 and 0.5, clip 0.2: min(2, 1.2) and min(-0.5, -0.8)
    log_prob = jnp.log(jnp.array([2.0, 0.5]))
    loss = losses.ppo_clip(
        log_prob, jnp.zeros(2), jnp.array([1.0, -1.0]), 0.2, jnp.ones(2, bool)
    )
    np.testing.assert_allclose(loss, -(1.2 - 0.8) / 2, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Rlax")
def test_parity_with_rlax():
    rlax = pytest.importorskip("rlax", reason="rlax (extra dev) is not installed")
    ratio = jnp.exp(LOG_PROB - OLD)
    theirs = rlax.clipped_surrogate_pg_loss(ratio, ADVANTAGE, 0.2)
    ours = losses.ppo_clip(LOG_PROB, OLD, ADVANTAGE, 0.2, ALL)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)

    logits = jnp.asarray(RNG.normal(size=(N, 4)).astype(np.float32))
    action = jnp.asarray(RNG.integers(0, 4, N))
    log_prob = lambda z: jnp.take_along_axis(jax.nn.log_softmax(z), action[:, None], 1)[
        :, 0
    ]
    ours = jax.grad(lambda z: losses.policy_gradient(log_prob(z), ADVANTAGE, ALL))(logits)
    theirs = jax.grad(
        lambda z: rlax.policy_gradient_loss(z, action, ADVANTAGE, jnp.ones(N))
    )
    np.testing.assert_allclose(ours, theirs(logits), rtol=1e-5, atol=1e-7)

    theirs = jnp.mean(rlax.l2_loss(VALUE, TARGET))
    np.testing.assert_allclose(losses.value_loss(VALUE, TARGET, ALL), theirs, rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda v, x: losses.policy_gradient(LOG_PROB + x, ADVANTAGE, v),
        lambda v, x: losses.ppo_clip(LOG_PROB + x, OLD, ADVANTAGE, 0.2, v),
        lambda v, x: losses.value_loss(VALUE + x, TARGET, v),
        lambda v, x: losses.clipped_value_loss(VALUE + x, OLD, TARGET, 0.2, v),
    ],
    ids=["policy_gradient", "ppo_clip", "value_loss", "clipped_value_loss"],
)
def test_invalid_samples_teach_nothing(loss):
    grad = jax.grad(lambda x: loss(VALID, x))(jnp.zeros(N))
    assert np.all(grad[~VALID] == 0)
    assert np.any(grad[VALID] != 0)
    np.testing.assert_array_equal(jax.grad(lambda x: loss(~ALL, x))(jnp.zeros(N)), 0.0)
    smaller = loss(VALID, jnp.where(VALID, 0.0, 1e3))
    np.testing.assert_allclose(smaller, loss(VALID, jnp.zeros(N)), rtol=1e-6)


def test_clipped_value_loss_is_the_larger_one():
    # old 0, value 1, target 2, clip 0.1: errors 1 and 1.9; then value past the target
    one = jnp.ones(1, bool)
    args = (jnp.array([1.0]), jnp.array([0.0]), jnp.array([2.0]))
    np.testing.assert_allclose(
        losses.clipped_value_loss(*args, 0.1, one), 0.5 * 1.9**2, rtol=1e-6
    )
    np.testing.assert_allclose(losses.clipped_value_loss(*args, 5.0, one), 0.5, rtol=1e-6)


def test_normalised_advantages():
    normal = losses.normalise(ADVANTAGE, VALID)
    np.testing.assert_allclose(normal[VALID].mean(), 0.0, atol=1e-6)
    np.testing.assert_allclose(normal[VALID].std(), 1.0, rtol=1e-5)
    assert np.all(normal[~VALID] == 0)
    np.testing.assert_array_equal(losses.normalise(jnp.full(N, 3.0), VALID), 0.0)


def test_running_moments_equal_the_whole_sample_at_first():
    rewards = jnp.asarray(RNG.normal(90.0, 2.0, (5, 8)), jnp.float32)
    scale = scales.init()
    for row in rewards:
        scale = scales.update(scale, row, jnp.ones(8, bool), 0.9)
    np.testing.assert_allclose(scale.mean, rewards.mean(), rtol=1e-6)
    np.testing.assert_allclose(scale.variance, rewards.var(), rtol=1e-3)


def test_running_moments_forget_and_skip_failures():
    scale = scales.init()
    for mean in (0.0,) * 20 + (50.0,) * 60:
        scale = scales.update(scale, mean + jnp.array([-1.0, 1.0]), jnp.ones(2, bool), 0.8)
    np.testing.assert_allclose(scale.mean, 50.0, rtol=1e-3)
    np.testing.assert_allclose(scale.variance, 1.0, rtol=1e-2)
    same = scales.update(scale, jnp.zeros(2), jnp.zeros(2, bool), 0.8)
    assert all(np.array_equal(a, b) for a, b in zip(scale, same))


@pytest.mark.parametrize("standardise", scales.STANDARDISE)
def test_scaling_is_invariant_to_the_unit(standardise):
    def scaled(reward):
        everyone = jnp.ones(8, bool)
        scale = scales.update(scales.init(), reward, everyone, 0.9)
        centre, spread = scales.centre_and_spread(standardise, scale, reward, everyone)
        return (reward - centre) / spread

    reward = jnp.asarray(RNG.normal(size=8).astype(np.float32))
    other = scaled(100.0 * reward + 7.0)
    if standardise == "none":
        np.testing.assert_allclose(other, 100.0 * reward + 7.0, rtol=1e-6)
    else:
        np.testing.assert_allclose(other, scaled(reward), rtol=1e-4, atol=1e-4)
    assert np.all(np.isfinite(scaled(jnp.full(8, 3.0))))


def test_unknown_scaling_is_refused():
    with pytest.raises(UserError, match="standardise"):
        scales.check("whiten")


def test_clipping_scales_the_gradient_and_nan_is_dropped():
    params = {"a": jnp.zeros(3), "b": jnp.zeros(())}
    grads = {"a": jnp.full(3, 3.0), "b": jnp.float32(3.0)}
    _, state, norm = optimise.step(params, optimise.init(params), grads, 0.1, 1.5)
    np.testing.assert_allclose(norm, 6.0, rtol=1e-6)
    np.testing.assert_allclose(state.mu["a"], 0.1 * 3.0 * 1.5 / 6.0, rtol=1e-5)
    moved, _, _ = optimise.step(params, optimise.init(params), grads, 0.1, 100.0)
    np.testing.assert_allclose(moved["a"], -0.1, rtol=1e-4)  # Adam's first step is lr
    broken = {"a": jnp.array([0.0, jnp.nan, 1.0]), "b": jnp.float32(1.0)}
    unmoved, state, _ = optimise.step(params, optimise.init(params), broken, 0.1, 1.0)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves((unmoved, state.mu, state.nu)))


def test_collapse_detector():
    rows = jnp.array([[0, 1], [0, 1], [1, 1], [0, 1]])
    assert collapse.unique_fraction(rows) == 0.5
    assert collapse.unique_fraction(jnp.arange(8).reshape(4, 2)) == 1.0
    assert collapse.unique_fraction(jnp.zeros((4, 2), jnp.int32)) == 0.25
    one, low = jnp.float32(1.0), jnp.float32(collapse.ENTROPY_FLOOR / 2)
    assert collapse.collapsed(one, one) == 0.0
    assert collapse.collapsed(low, one) == 1.0
    assert collapse.collapsed(one, jnp.float32(collapse.UNIQUE_FLOOR)) == 1.0
