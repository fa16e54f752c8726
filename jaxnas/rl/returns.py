"""Returns and advantages of one stream of experience; ``vmap`` for more.

Termination (the episode is over, nothing follows) and truncation (it was cut off, the
value of what would have followed counts) are kept apart throughout: ``next_value`` is the
value of the observation *before* any automatic reset.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

UNROLL = 16
"""Steps of a reverse scan compiled as straight code; a loop turn on CPU costs more."""

Scalar = float | Float[Array, ""]


def _reverse_linear(
    inputs: Float[Array, "T"], decay: Float[Array, "T"], last: Scalar = 0.0
) -> Float[Array, "T"]:
    """Returns ``y_t = inputs_t + decay_t y_{t+1}`` with ``y_T = last``."""

    def step(
        following: Float[Array, ""], xs: tuple[Float[Array, ""], Float[Array, ""]]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        value = xs[0] + xs[1] * following
        return value, value

    start = jnp.asarray(last, inputs.dtype)
    unroll = min(UNROLL, max(1, inputs.shape[0]))
    return jax.lax.scan(step, start, (inputs, decay), reverse=True, unroll=unroll)[1]


def discounted_returns(
    reward: Float[Array, "T"], discount: Float[Array, "T"], bootstrap: Scalar = 0.0
) -> Float[Array, "T"]:
    """Returns ``G_t = r_t + discount_t G_{t+1}`` with ``G_T = bootstrap``.

    Args:
        reward: of each step.
        discount: ``gamma``, or 0 where the episode terminated at that step.
        bootstrap: value after the last step.
    """
    return _reverse_linear(reward, discount, bootstrap)


def n_step_returns(
    reward: Float[Array, "T"],
    discount: Float[Array, "T"],
    next_value: Float[Array, "T"],
    n: int,
) -> Float[Array, "T"]:
    """Returns the ``n``-step bootstrapped returns, fewer steps near the end.

        G_t = r_t + d_t r_{t+1} + ... + (d_t ... d_{t+m-1}) v_{t+m},  m = min(n, T - t)

    Args:
        reward: of each step.
        discount: of each step, 0 where the episode terminated.
        next_value: value of what follows each step.
        n: static, >= 1.
    Reference: Sutton and Barto, 2018, equation 7.1.
    """
    result = next_value
    length = reward.shape[0]
    for age in range(n):
        follows = jnp.append(result[1:], next_value[-1]) if age else next_value
        result = reward + discount * follows
        if age + 1 >= length:
            break
    return result


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
    goes_on = alive * (1.0 - truncated.astype(reward.dtype))
    return _reverse_linear(delta, gamma * gae_lambda * goes_on)
