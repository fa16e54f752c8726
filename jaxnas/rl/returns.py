"""Advantages of one stream of experience; ``vmap`` for more.

Termination (the episode is over, nothing follows) and truncation (it was cut off, the
value of what would have followed counts) are distinct throughout: ``next_value`` is the
value of the observation *before* any automatic reset.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

UNROLL = 16
"""Steps of a reverse scan compiled as straight code; a loop turn on CPU costs more."""

Scalar = float | Float[Array, ""]


def gae(
    reward: Float[Array, "T"],
    value: Float[Array, "T"],
    next_value: Float[Array, "T"],
    terminated: Bool[Array, "T"],
    truncated: Bool[Array, "T"],
    gamma: Scalar,
    gae_lambda: Scalar,
) -> Float[Array, "T"]:
    """Returns the generalised advantage estimates.

        delta_t = r_t + gamma (1 - terminated_t) v'_t - v_t
        A_t = delta_t + gamma lambda (1 - terminated_t) (1 - truncated_t) A_{t+1}

    Args:
        reward: of each step.
        value: of the observation that each step acted on.
        next_value: of the observation that followed, before any reset.
        terminated: nothing follows this step; ``next_value`` is not read.
        truncated: the stream restarts after this step; ``next_value`` is still owed.
        gamma: discount.
        gae_lambda: 0 is one-step, 1 is the whole return.
    Reference: Schulman et al., 2016, equation 16.
    """
    alive = 1.0 - terminated.astype(reward.dtype)
    follows = jnp.where(terminated, 0.0, next_value)
    delta = reward + gamma * follows - value
    decay = gamma * gae_lambda * alive * (1.0 - truncated.astype(reward.dtype))

    def step(
        following: Float[Array, ""], xs: tuple[Float[Array, ""], Float[Array, ""]]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        advantage = xs[0] + xs[1] * following
        return advantage, advantage

    unroll = min(UNROLL, max(1, reward.shape[0]))
    start = jnp.zeros((), delta.dtype)
    return jax.lax.scan(step, start, (delta, decay), reverse=True, unroll=unroll)[1]
