"""Written architectures as batches for learners with a value head."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnas.algorithms import reward_scale as scales
from jaxnas.algorithms.token_policy import PolicyState, per_token
from jaxnas.rl.batch import PolicyBatch
from jaxnas.rl.returns import gae

Scalar = float | Float[Array, ""]


def architecture_advantages(
    reward: Float[Array, "B"], value: Float[Array, "B L"], gamma: Scalar, gae_lambda: Scalar
) -> Float[Array, "B L"]:
    """Returns the advantage of every token when the reward comes after the last."""
    length = value.shape[1]
    last = jnp.arange(length, dtype=jnp.int32) == length - 1
    follows = jnp.roll(value, -1, axis=1)

    def lane(
        reward: Float[Array, ""], value: Float[Array, "L"], follows: Float[Array, "L"]
    ) -> Float[Array, "L"]:
        rewards = jnp.where(last, reward, 0.0)
        never = jnp.zeros_like(last)
        return gae(rewards, value, follows, last, never, gamma, gae_lambda)

    return jax.vmap(lane)(reward, value, follows)


def architecture_batch(
    state: PolicyState, standardise: str, scale: scales.RewardScale
) -> PolicyBatch:
    """Returns the last batch as sequences with scaled rewards and their advantages."""
    episodes, hparams = state.episodes, state.hparams
    reward, valid = episodes.reward, episodes.valid
    centre, spread = scales.centre_and_spread(standardise, scale, reward, valid)
    scaled = jnp.where(valid, (reward - centre) / spread, 0.0)
    discounts = (hparams.gamma, hparams.gae_lambda)
    advantage = architecture_advantages(scaled, episodes.value, *discounts)
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
