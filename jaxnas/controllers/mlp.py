"""A feed-forward controller over the written prefix or a vector observation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, PyTree

from jaxnas.controllers.heads import PolicyValueHead
from jaxnas.controllers.initialisers import orthogonal
from jaxnas.controllers.inputs import check_sizes, masked_prefix, num_tokens
from jaxnas.core.errors import UserError
from jaxnas.core.types import PolicyOutput

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


class MLP(nn.Module):
    """Dense layers over the one-hot prefix and position, or a vector observation.

    Weights are orthogonal, scaled by sqrt(2), and the heads as in ``PolicyValueHead``.

    Attributes:
        num_actions: logits, ``V`` or ``A``.
        length: tokens in a sequence; 0 where observations are vectors ``[B, F]``.
        vocab: values of an observed token; 0 means ``num_actions``.
        hidden: units a layer.
        layers: hidden layers, of the policy and of the value each.
        activation: ``tanh`` or ``relu``.
        separate: whether the value has layers of its own instead of the policy's.
    """

    num_actions: int
    length: int = 0
    vocab: int = 0
    hidden: int = 64
    layers: int = 2
    activation: str = "tanh"
    separate: bool = False

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.layers < 1 or self.activation not in ACTIVATIONS:
            raise UserError(
                "An MLP needs at least one layer and an activation of "
                f"{list(ACTIVATIONS)}, not {self.layers} and {self.activation!r}."
            )
        super().__post_init__()

    def initial_carry(self, batch: int) -> tuple[()]:
        """Returns no memory."""
        return ()

    def __call__(
        self, carry: tuple[()], obs: PyTree, reset: Bool[Array, "B"]
    ) -> tuple[tuple[()], PolicyOutput]:
        """Returns the policy for one step; there is no memory to reset."""
        del reset
        if self.length:
            obs = masked_prefix(obs.tokens, obs.position, num_tokens(self))
        return carry, self._network(obs)

    def sequence(self, obs: Array) -> PolicyOutput:
        """Returns logits ``[B, L, V]`` and values ``[B, L]``, all positions at once.

        Inputs are tokens ``[B, L]`` (teacher forcing: position ``t`` sees the tokens before
        it) or vectors ``[B, L, F]``.
        """
        if self.length:
            position = jnp.broadcast_to(
                jnp.arange(obs.shape[1], dtype=jnp.int32), obs.shape
            )
            prefixes = jnp.broadcast_to(obs[:, None], (*obs.shape, obs.shape[1]))
            obs = masked_prefix(prefixes, position, num_tokens(self))
        return self._network(obs)

    @nn.compact
    def _network(self, features: Float[Array, "*b F"]) -> PolicyOutput:
        policy = self._trunk(features, "policy")
        if not self.separate:
            return PolicyValueHead(self.num_actions, name="head")(policy)
        init = orthogonal(0.01)
        logits = nn.Dense(self.num_actions, kernel_init=init, name="logits")(policy)
        own = self._trunk(features, "value")
        value = nn.Dense(1, kernel_init=orthogonal(), name="value")(own)
        return PolicyOutput(logits, value[..., 0])

    def _trunk(self, x: Float[Array, "*b F"], name: str) -> Float[Array, "*b H"]:
        activation = ACTIVATIONS[self.activation]
        for i in range(self.layers):
            init = orthogonal(2.0**0.5)
            x = activation(nn.Dense(self.hidden, kernel_init=init, name=f"{name}_{i}")(x))
        return x
