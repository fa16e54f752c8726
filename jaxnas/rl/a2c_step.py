"""The learning step of advantage actor-critic (Mnih et al., 2016)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnas.controllers.actions import Choose, choose
from jaxnas.core.types import PolicyOutput
from jaxnas.rl import losses, optimise
from jaxnas.rl.batch import PolicyBatch


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
    policy = losses.policy_gradient(drawn.log_prob, batch.advantage, batch.teaches)
    value = losses.value_loss(out.value, batch.target, batch.teaches)
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

    As :func:`jaxnas.rl.ppo_step.ppo_update`, but that ``batch`` must be fresh experience
    (the policy that acted is ``params``) and ``hparams`` need no ``clip``.
    """
    gradient = jax.value_and_grad(a2c_loss, has_aux=True)
    (_, parts), grads = gradient(params, apply, batch, hparams, choice)
    params, adam, norm = optimise.step(
        params, adam, grads, hparams.lr, hparams.max_grad_norm
    )
    return params, adam, {**parts, "grad_norm": norm}
