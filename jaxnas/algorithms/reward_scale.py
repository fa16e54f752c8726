"""Rewards on one scale: a running mean and variance, so that a preset transfers."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnas.core.errors import UserError
from jaxnas.core.trees import masked_mean

STANDARDISE = ("running", "batch", "none")
"""How rewards are scaled before they teach: see :func:`centre_and_spread`."""


class RewardScale(NamedTuple):
    """Running moments of the rewards seen so far, in their natural unit."""

    mean: Float[Array, ""]
    variance: Float[Array, ""]
    batches: Float[Array, ""]
    """Batches with at least one reward."""


def check(standardise: str) -> None:
    """Raises a UserError where ``standardise`` is not one of :data:`STANDARDISE`."""
    if standardise not in STANDARDISE:
        raise UserError(f"standardise is {standardise!r}, but must be in {STANDARDISE}.")


def init() -> RewardScale:
    """Returns the scale before any reward."""
    zero = jnp.zeros((), jnp.float32)
    return RewardScale(zero, zero, zero)


def batch_moments(
    reward: Float[Array, "B"], valid: Bool[Array, "B"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns mean and variance of the valid rewards, zeros where there is none."""
    mean = masked_mean(reward, valid)
    return mean, masked_mean(jnp.square(reward - mean), valid)


def update(
    scale: RewardScale,
    reward: Float[Array, "B"],
    valid: Bool[Array, "B"],
    decay: float | Float[Array, ""],
) -> RewardScale:
    """Returns the moments after a batch: a plain average at first, then exponential.

    The weight of a batch is ``max(1 / n, 1 - decay)``, which needs no bias correction. A
    batch without a valid reward changes nothing.
    """
    mean, variance = batch_moments(reward, valid)
    weight = jnp.maximum(1.0 / (scale.batches + 1.0), 1.0 - decay)
    gap = mean - scale.mean
    updated = RewardScale(
        scale.mean + weight * gap,
        (1.0 - weight) * (scale.variance + weight * jnp.square(gap)) + weight * variance,
        scale.batches + 1.0,
    )
    some = jnp.any(valid)
    return RewardScale(*(jnp.where(some, a, b) for a, b in zip(updated, scale)))


def centre_and_spread(
    standardise: str, scale: RewardScale, reward: Float[Array, "B"], valid: Bool[Array, "B"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns what to subtract from a reward and what to divide it by.

    ``running`` uses the moments of the whole search so far, this batch included, so that
    the signal fades as the policy converges; ``batch`` those of this batch alone; ``none``
    leaves natural units.
    """
    if standardise == "none":
        return jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32)
    mean, variance = scale.mean, scale.variance
    if standardise == "batch":
        mean, variance = batch_moments(reward, valid)
    spread = jnp.sqrt(variance)
    return mean, jnp.where(spread > 1e-6, spread, 1.0)
