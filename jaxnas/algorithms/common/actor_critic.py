"""Batches for learners with a value head, and their advantages on written architectures."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from jaxnas.algorithms.common import scale as scales
from jaxnas.algorithms.common.policy import Episodes, per_token
from jaxnas.algorithms.common.returns import gae

Scalar = float | Float[Array, ""]


class PolicyBatch(NamedTuple):
    """Experience to learn from, samples on the first axis of every leaf.

    ``*n`` is ``[N]`` for single steps and ``[N, L]`` for whole sequences.
    """

    obs: PyTree
    mask: Bool[Array, "*n V"] | None
    """Legal actions; None where all are."""
    action: Array
    """``int[*n]``, or ``float[*n, D]`` where actions are continuous."""
    log_prob: Float[Array, "*n"]
    """Under the policy that acted, nats."""
    value: Float[Array, "*n"]
    """What the critic said then."""
    advantage: Float[Array, "*n"]
    target: Float[Array, "*n"]
    """What the critic should have said."""
    valid: Bool[Array, "*n"]
    """Samples that are not valid teach nothing."""


def architecture_advantages(
    reward: Float[Array, "B"], value: Float[Array, "B L"], gamma: Scalar, gae_lambda: Scalar
) -> Float[Array, "B L"]:
    """Returns the advantage of every token when the reward comes after the last."""
    length = value.shape[1]
    last = jnp.arange(length) == length - 1
    follows = jnp.roll(value, -1, axis=1)

    def lane(
        reward: Float[Array, ""], value: Float[Array, "L"], follows: Float[Array, "L"]
    ) -> Float[Array, "L"]:
        rewards = jnp.where(last, reward, 0.0)
        never = jnp.zeros_like(last)
        return gae(rewards, value, follows, last, never, gamma, gae_lambda)

    return jax.vmap(lane)(reward, value, follows)


def architecture_batch(
    episodes: Episodes,
    standardise: str,
    scale: scales.RewardScale,
    gamma: Scalar,
    gae_lambda: Scalar,
) -> PolicyBatch:
    """Returns written architectures as a batch of sequences with scaled rewards."""
    reward, valid = episodes.reward, episodes.valid
    centre, spread = scales.centre_and_spread(standardise, scale, reward, valid)
    scaled = jnp.where(valid, (reward - centre) / spread, 0.0)
    advantage = architecture_advantages(scaled, episodes.value, gamma, gae_lambda)
    return PolicyBatch(
        obs=episodes.tokens,
        mask=episodes.mask,
        action=episodes.tokens,
        log_prob=episodes.log_prob,
        value=episodes.value,
        advantage=advantage,
        target=advantage + episodes.value,
        valid=per_token(valid, episodes.tokens),
    )
