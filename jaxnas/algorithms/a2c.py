"""Advantage actor-critic, synchronous (Mnih et al., 2016)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxnas.algorithms.common import collapse, losses, optimise
from jaxnas.algorithms.common import scale as scales
from jaxnas.algorithms.common.actor_critic import PolicyBatch, architecture_batch
from jaxnas.algorithms.common.policy import PolicyState, TokenPolicy, sequence
from jaxnas.controllers.actions import Choose, choose
from jaxnas.core.trees import one_at_a_time
from jaxnas.core.types import PolicyOutput


class A2CHparams(NamedTuple):
    """Traced settings of A2C."""

    lr: float | Float[Array, ""] = 3e-3
    entropy: float | Float[Array, ""] = 0.03
    """Weight of the entropy bonus, per nat a token."""
    temperature: float | Float[Array, ""] = 1.0
    gamma: float | Float[Array, ""] = 1.0
    gae_lambda: float | Float[Array, ""] = 0.95
    value_weight: float | Float[Array, ""] = 0.5
    reward_decay: float | Float[Array, ""] = 0.95
    """Of the running moments that scale rewards."""
    max_grad_norm: float | Float[Array, ""] = 0.5


@dataclass(frozen=True)
class A2C(TokenPolicy):
    """A2C whose episode is one written architecture, each prefix with a learned value."""

    id: str = "a2c-v1"
    preferred_width: int = 8
    replays: ClassVar[bool] = True

    def default_hparams(self) -> A2CHparams:
        """Returns the preset."""
        return A2CHparams()

    def learn(
        self, key: Key[Array, ""], state: PolicyState
    ) -> tuple[PolicyState, dict[str, Float[Array, ""]]]:
        """Returns the state after one gradient step on the last batch."""
        episodes, hparams = state.episodes, state.hparams
        scale = scales.update(
            state.scale, episodes.reward, episodes.valid, hparams.reward_decay
        )
        batch = architecture_batch(
            episodes, self.standardise, scale, hparams.gamma, hparams.gae_lambda
        )
        batch = batch._replace(obs=(episodes.tokens, episodes.aux))
        params, adam, metrics = one_at_a_time(self._train)(
            state.params, state.adam, batch, hparams
        )
        unique = collapse.unique_fraction(episodes.tokens)
        collapsed = collapse.collapsed(metrics["entropy"], unique)
        metrics = {**metrics, "unique": unique, "collapsed": collapsed}
        return state._replace(params=params, adam=adam, scale=scale), metrics

    def _train(
        self, params: PyTree, adam: PyTree, batch: PolicyBatch, hparams: A2CHparams
    ) -> tuple[PyTree, PyTree, dict[str, Float[Array, ""]]]:
        """Returns what :func:`a2c_update` does to the controller."""
        module = self.module
        apply = lambda params, obs: sequence(module, params, *obs)
        return a2c_update(apply, params, adam, batch, hparams)


def a2c_loss(
    params: PyTree,
    apply: Callable[[PyTree, PyTree], PolicyOutput],
    batch: PolicyBatch,
    hparams: Any,
    choice: Choose = choose,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Returns policy-gradient + weighted value loss - entropy bonus, and its parts."""
    out = apply(params, batch.obs)
    drawn = choice(out.logits, batch.mask, hparams.temperature, batch.action)
    policy = losses.policy_gradient(drawn.log_prob, batch.advantage, batch.valid)
    value = losses.value_loss(out.value, batch.target, batch.valid)
    entropy = jnp.mean(drawn.entropy)
    loss = policy + hparams.value_weight * value - hparams.entropy * entropy
    return loss, {"loss": loss, "value_loss": value, "entropy": entropy}


def a2c_update(
    apply: Callable[[PyTree, PyTree], PolicyOutput],
    params: PyTree,
    adam: PyTree,
    batch: PolicyBatch,
    hparams: Any,
    choice: Choose = choose,
) -> tuple[PyTree, PyTree, dict[str, Float[Array, ""]]]:
    """Returns parameters, optimiser state and metrics after one step on a whole batch.

    Args:
        apply: policy and value of the observations, logits before masking.
        params: of the policy.
        adam: optimiser state, :func:`optimise.init`.
        batch: fresh experience: the policy that acted is ``params``.
        hparams: anything with the fields ``lr``, ``entropy``, ``temperature``,
            ``value_weight`` and ``max_grad_norm``.
        choice: what logits mean; a choice among tokens or actions by default.
    """
    gradient = jax.value_and_grad(a2c_loss, has_aux=True)
    (_, parts), grads = gradient(params, apply, batch, hparams, choice)
    params, adam, norm = optimise.step(
        params, adam, grads, hparams.lr, hparams.max_grad_norm
    )
    return params, adam, {**parts, "grad_norm": norm}
