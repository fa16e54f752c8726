"""Losses of the policy-gradient family: means over the samples that are ``valid``.

Advantages, targets and old log-probabilities are constants: no gradient enters them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnas.core.trees import masked_mean

Scalar = float | Float[Array, ""]


def policy_gradient(
    log_prob: Float[Array, "*n"], advantage: Float[Array, "*n"], valid: Bool[Array, "*n"]
) -> Float[Array, ""]:
    """Returns ``-mean(A log pi)``, whose gradient is the REINFORCE estimate.

    Reference: Williams, 1992, equation 6.
    """
    return -masked_mean(log_prob * jax.lax.stop_gradient(advantage), valid)


def ppo_clip(
    log_prob: Float[Array, "*n"],
    old_log_prob: Float[Array, "*n"],
    advantage: Float[Array, "*n"],
    clip: Scalar,
    valid: Bool[Array, "*n"],
) -> Float[Array, ""]:
    """Returns the clipped surrogate ``-mean(min(r A, clip(r, 1 - c, 1 + c) A))``.

    Reference: Schulman et al., 2017, equation 7.
    """
    advantage = jax.lax.stop_gradient(advantage)
    gap = jnp.where(valid, log_prob - jax.lax.stop_gradient(old_log_prob), 0.0)
    ratio = jnp.exp(gap)
    clipped = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
    return -masked_mean(jnp.minimum(ratio * advantage, clipped * advantage), valid)


def value_loss(
    value: Float[Array, "*n"], target: Float[Array, "*n"], valid: Bool[Array, "*n"]
) -> Float[Array, ""]:
    """Returns half the mean squared error to ``target``."""
    error = value - jax.lax.stop_gradient(target)
    return 0.5 * masked_mean(jnp.square(error), valid)


def clipped_value_loss(
    value: Float[Array, "*n"],
    old_value: Float[Array, "*n"],
    target: Float[Array, "*n"],
    clip: Scalar,
    valid: Bool[Array, "*n"],
) -> Float[Array, ""]:
    """Returns the larger of the plain loss and that of a value clipped near the old one.

    Reference: the PPO implementation of Dhariwal et al., 2017 (OpenAI Baselines).
    """
    target = jax.lax.stop_gradient(target)
    old_value = jax.lax.stop_gradient(old_value)
    near = old_value + jnp.clip(value - old_value, -clip, clip)
    worst = jnp.maximum(jnp.square(value - target), jnp.square(near - target))
    return 0.5 * masked_mean(worst, valid)


def normalise(
    advantage: Float[Array, "*n"], valid: Bool[Array, "*n"]
) -> Float[Array, "*n"]:
    """Returns advantages of mean zero and standard deviation one over the valid ones."""
    mean = masked_mean(advantage, valid)
    centred = jnp.where(valid, advantage - mean, 0.0)
    spread = jnp.sqrt(masked_mean(jnp.square(centred), valid))
    return centred / (spread + 1e-8)
