"""The masked categorical distribution over the next token: probabilities, entropy, draws.

Plain ``jax.numpy`` on the hot path; distrax, imported on first use, gives the same
distribution as an object for those who want one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.controllers.initialisers import orthogonal
from jaxnas.core.tokens import inverse_cdf
from jaxnas.core.types import PolicyOutput

ILLEGAL = -1e30
"""Logit of an illegal token: its probability is exactly zero and its gradient finite."""


class Choice(NamedTuple):
    """What a policy thinks of the tokens that were drawn."""

    log_prob: Float[Array, "*b"]  # nats
    entropy: Float[Array, "*b"]  # nats; zero where one token is legal


def masked(
    logits: Float[Array, "*b V"],
    mask: Bool[Array, "*b V"],
    temperature: float | Float[Array, ""] = 1.0,
) -> Float[Array, "*b V"]:
    """Returns ``logits / temperature`` with illegal tokens at :data:`ILLEGAL`.

    Logits are finite where legal, and each row has a legal token. The temperature is > 0;
    above one flattens the policy.
    """
    return jnp.where(mask, logits / temperature, ILLEGAL)


def _log_softmax(
    logits: Float[Array, "*b V"], mask: Bool[Array, "*b V"]
) -> tuple[Float[Array, "*b V"], Float[Array, "*b V"]]:
    """Returns probabilities and log-probabilities, both zero on illegal tokens."""
    safe = jnp.where(mask, logits, ILLEGAL)
    shifted = safe - jax.lax.stop_gradient(jnp.max(safe, axis=-1, keepdims=True))
    weights = jnp.exp(shifted)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / total, jnp.where(mask, shifted - jnp.log(total), 0.0)


def choice(
    logits: Float[Array, "*b V"], mask: Bool[Array, "*b V"], action: Int[Array, "*b"]
) -> Choice:
    """Returns the log-probability of ``action`` and the entropy, sharing one softmax.

    The log-probability of an illegal action is reported as zero, never as NaN.
    """
    probabilities, logs = _log_softmax(logits, mask)
    picked = action[..., None] == jnp.arange(logits.shape[-1], dtype=jnp.int32)
    return Choice(
        log_prob=jnp.sum(jnp.where(picked, logs, 0.0), axis=-1),
        entropy=-jnp.sum(probabilities * logs, axis=-1),
    )


def log_prob(
    logits: Float[Array, "*b V"], mask: Bool[Array, "*b V"], action: Int[Array, "*b"]
) -> Float[Array, "*b"]:
    """Returns the log-probability of ``action`` in nats."""
    return choice(logits, mask, action).log_prob


def entropy(logits: Float[Array, "*b V"], mask: Bool[Array, "*b V"]) -> Float[Array, "*b"]:
    """Returns the entropy over the legal tokens in nats."""
    probabilities, logs = _log_softmax(logits, mask)
    return -jnp.sum(probabilities * logs, axis=-1)


def sample(
    uniform: Float[Array, "*b"], logits: Float[Array, "*b V"], mask: Bool[Array, "*b V"]
) -> Int[Array, "*b"]:
    """Returns a legal token drawn by inverse CDF from one uniform in [0, 1).

    An illegal token is never drawn, whatever the uniform and the logits.
    """
    safe = jnp.where(mask, logits, ILLEGAL)
    weights = jnp.exp(safe - jnp.max(safe, axis=-1, keepdims=True))
    return inverse_cdf(uniform, jnp.where(mask, weights, 0.0))


def distribution(logits: Float[Array, "*b V"], mask: Bool[Array, "*b V"]) -> Any:
    """Returns the masked policy as a ``distrax.Categorical``.

    Slower to trace and to draw from than :func:`sample`; nothing in jaxnas calls it.

    Raises:
        ModuleNotFoundError: distrax is not installed.
    """
    import distrax  # pulls tensorflow-probability, so only on request

    return distrax.Categorical(logits=masked(logits, mask))


class PolicyValueHead(nn.Module):
    """Logits and value from one product: the value is the last column.

    Orthogonal kernels, 0.01 for the policy, so that it starts near uniform, and 1 for the
    value; zero biases (Andrychowicz et al., 2021, section 3.2).
    """

    num_actions: int

    @nn.compact
    def __call__(self, features: Float[Array, "*b H"]) -> PolicyOutput:
        """Returns logits ``[*b, A]`` and value ``[*b]``."""
        shape = (features.shape[-1], self.num_actions + 1)
        kernel = self.param("kernel", _head_kernel, shape)
        bias = self.param("bias", nn.initializers.zeros, shape[1:], jnp.float32)
        both = features @ kernel + bias
        return PolicyOutput(both[..., :-1], both[..., -1])


def _head_kernel(key: Key[Array, ""], shape: tuple[int, int]) -> Float[Array, "H K"]:
    """Returns the policy columns at scale 0.01 and the value column at scale 1."""
    value = jnp.arange(shape[1], dtype=jnp.int32) == shape[1] - 1
    return orthogonal()(key, shape) * jnp.where(value, 1.0, 0.01)
