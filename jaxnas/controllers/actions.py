"""What a controller's logits mean: a choice among actions, or a vector of bounded moves."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnas.controllers import heads
from jaxnas.controllers.heads import Choice

Scalar = float | Float[Array, ""]
Logits = Float[Array, "*b V"]
Mask = Bool[Array, "*b A"] | None  # legal actions, or components of one
Choose = Callable[[Array, Array | None, Scalar, Array], Choice]
"""``(logits, mask, temperature, action) -> Choice``."""
FIRST_LOG_STD = -0.7
"""Added to the predicted log-deviation, so that fresh moves use half of their range."""
LEAST_LOG_STD, GREATEST_LOG_STD = -4.0, 1.0


def choose(
    logits: Logits, mask: Mask, temperature: Scalar, action: Int[Array, "*b"]
) -> Choice:
    """Returns log-probability and entropy of discrete actions, nats."""
    mask = _all(logits) if mask is None else mask
    return heads.choice(heads.masked(logits, mask, temperature), mask, action)


@runtime_checkable
class ActionHead(Protocol):
    """How logits become actions; a mask of None allows all of them."""

    @property
    def num_actions(self) -> int:
        """Width of a mask: actions, or components of one."""
        ...

    @property
    def num_logits(self) -> int:
        """Logits that a controller must give."""
        ...

    @property
    def num_uniforms(self) -> tuple[int, ...]:
        """Shape of the uniforms that draw one action."""
        ...

    def sample(
        self, uniform: Float[Array, "..."], logits: Logits, mask: Mask, temperature: Scalar
    ) -> Array:
        """Returns an action for each row of logits."""
        ...

    def best(self, logits: Logits, mask: Mask) -> Array:
        """Returns the most likely action of each row."""
        ...

    def choice(
        self, logits: Logits, mask: Mask, temperature: Scalar, action: Array
    ) -> Choice:
        """Returns log-probability of the actions and the entropy, nats."""
        ...


@dataclass(frozen=True)
class Categorical:
    """One of ``num_actions`` discrete actions, illegal ones never."""

    num_actions: int

    @property
    def num_logits(self) -> int:
        """``A``."""
        return self.num_actions

    @property
    def num_uniforms(self) -> tuple[int, ...]:
        """One."""
        return ()

    def sample(
        self, uniform: Float[Array, "*b"], logits: Logits, mask: Mask, temperature: Scalar
    ) -> Int[Array, "*b"]:
        """Returns legal actions."""
        mask = _all(logits) if mask is None else mask
        return heads.sample(uniform, heads.masked(logits, mask, temperature), mask)

    def best(self, logits: Logits, mask: Mask) -> Int[Array, "*b"]:
        """Returns the most likely legal action."""
        mask = _all(logits) if mask is None else mask
        return jnp.argmax(heads.masked(logits, mask), axis=-1).astype(jnp.int32)

    def choice(
        self, logits: Logits, mask: Mask, temperature: Scalar, action: Int[Array, "*b"]
    ) -> Choice:
        """Returns log-probability and entropy."""
        return choose(logits, mask, temperature, action)


@dataclass(frozen=True)
class Gaussian:
    """A vector of ``size`` independent normal components: means, then log-deviations.

    Actions are drawn without a bound, and environments cut them to theirs; the density is
    that of the uncut action, as in most PPO implementations. The temperature multiplies
    the standard deviation.
    """

    size: int

    @property
    def num_actions(self) -> int:
        """``D``."""
        return self.size

    @property
    def num_logits(self) -> int:
        """``2 D``."""
        return 2 * self.size

    @property
    def num_uniforms(self) -> tuple[int, ...]:
        """``D``."""
        return (self.size,)

    def sample(
        self, uniform: Float[Array, "*b D"], logits: Logits, mask: Mask, temperature: Scalar
    ) -> Float[Array, "*b D"]:
        """Returns drawn actions; every component is legal."""
        mean, log_std = self._moments(logits, temperature)
        # A float32 uniform may be 0, whose normal quantile is minus infinity.
        normal = jax.scipy.special.ndtri(jnp.clip(uniform, 1e-6, 1.0 - 1e-6))
        return mean + jnp.exp(log_std) * normal

    def best(self, logits: Logits, mask: Mask) -> Float[Array, "*b D"]:
        """Returns the means."""
        return logits[..., : self.size]

    def choice(
        self, logits: Logits, mask: Mask, temperature: Scalar, action: Float[Array, "*b D"]
    ) -> Choice:
        """Returns log-density and differential entropy."""
        mean, log_std = self._moments(logits, temperature)
        score = (action - mean) * jnp.exp(-log_std)
        constant = 0.5 * math.log(2.0 * math.pi)
        density = -0.5 * jnp.square(score) - log_std - constant
        entropy = log_std + constant + 0.5
        return Choice(jnp.sum(density, axis=-1), jnp.sum(entropy, axis=-1))

    def _moments(
        self, logits: Logits, temperature: Scalar
    ) -> tuple[Float[Array, "*b D"], Float[Array, "*b D"]]:
        mean, raw = logits[..., : self.size], logits[..., self.size :]
        log_std = jnp.clip(raw + FIRST_LOG_STD, LEAST_LOG_STD, GREATEST_LOG_STD)
        return mean, log_std + jnp.log(temperature)


def action_head(num_actions: int, action_size: int) -> ActionHead:
    """Returns the head of an environment: Gaussian where its actions have components."""
    return Gaussian(action_size) if action_size else Categorical(num_actions)


def _all(logits: Logits) -> Bool[Array, "*b V"]:
    return jnp.ones(logits.shape, bool)
