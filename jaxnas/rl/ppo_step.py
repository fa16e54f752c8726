"""The learning step of proximal policy optimisation (Schulman et al., 2017)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxnas.controllers.actions import Choose, choose
from jaxnas.core.errors import UserError
from jaxnas.core.types import PolicyOutput
from jaxnas.rl import losses, optimise
from jaxnas.rl.batch import PolicyBatch
from jaxnas.rl.shuffle import pack

Apply = Callable[[PyTree, PyTree], PolicyOutput]
"""``(params, obs) -> PolicyOutput``, logits before masking."""


def check_minibatches(samples: int, epochs: int, minibatches: int) -> None:
    """Raises a UserError where a batch cannot be cut into equal minibatches."""
    if epochs < 1 or minibatches < 1:
        raise UserError(
            f"epochs is {epochs} and minibatches is {minibatches}; both must be positive."
        )
    if samples % minibatches:
        raise UserError(
            f"{minibatches} minibatches do not divide a batch of {samples}; "
            "choose a divisor."
        )


def ppo_loss(
    params: PyTree,
    apply: Apply,
    batch: PolicyBatch,
    hparams: Any,
    *,
    normalise: bool,
    clip_value: bool,
    choice: Choose = choose,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Returns clipped surrogate + weighted value loss - entropy bonus, and its parts.

    Reference: Schulman et al., 2017, equation 9, with the sign of a loss.
    """
    out = apply(params, batch.obs)
    drawn = choice(out.logits, batch.mask, hparams.temperature, batch.action)
    advantage, valid = batch.advantage, batch.teaches
    if normalise:
        advantage = losses.normalise(advantage, valid)
    policy = losses.ppo_clip(drawn.log_prob, batch.log_prob, advantage, hparams.clip, valid)
    if clip_value:
        value = losses.clipped_value_loss(
            out.value, batch.value, batch.target, hparams.clip, valid
        )
    else:
        value = losses.value_loss(out.value, batch.target, valid)
    entropy = jnp.mean(drawn.entropy)
    loss = policy + hparams.value_weight * value - hparams.entropy * entropy
    return loss, {"loss": loss, "value_loss": value, "entropy": entropy}


def ppo_update(
    apply: Apply,
    params: PyTree,
    adam: PyTree,
    orders: Int[Array, "E N"],
    batch: PolicyBatch,
    hparams: Any,
    *,
    minibatches: int,
    normalise: bool = True,
    clip_value: bool = False,
    choice: Choose = choose,
) -> tuple[PyTree, PyTree, dict[str, Float[Array, ""]]]:
    """Returns parameters and optimiser state after ``E * minibatches`` gradient steps.

    Args:
        apply: policy and value of a minibatch of observations, logits before masking.
        params: of the policy.
        adam: optimiser state, :func:`optimise.init`.
        orders: an order of the samples for each of ``E`` passes; with one minibatch only
            their number matters.
        batch: ``N`` samples, ``N`` divisible by ``minibatches``.
        hparams: anything with the fields ``lr``, ``entropy``, ``temperature``, ``clip``,
            ``value_weight`` and ``max_grad_norm``.
        minibatches: equal parts of each pass.
        normalise: advantages to mean zero and deviation one within each minibatch.
        clip_value: also keep the value near its old one.
        choice: what logits mean; a choice among tokens or actions by default.

    Returns:
        Parameters, optimiser state, and metrics: means over the steps of ``loss``,
        ``value_loss``, ``entropy`` and ``grad_norm``.
    """
    gradient = jax.value_and_grad(ppo_loss, has_aux=True)

    def step(carry: PyTree, part: PolicyBatch) -> tuple[PyTree, dict[str, Array]]:
        params, adam = carry
        (_, parts), grads = gradient(
            params, apply, part, hparams, normalise=normalise, clip_value=clip_value,
            choice=choice,
        )  # fmt: skip
        params, adam, norm = optimise.step(
            params, adam, grads, hparams.lr, hparams.max_grad_norm
        )
        return (params, adam), {**parts, "grad_norm": norm}

    if minibatches == 1:
        carry, metrics = jax.lax.scan(
            lambda carry, _: step(carry, batch), (params, adam), length=orders.shape[0]
        )
        return *carry, jax.tree.map(jnp.mean, metrics)
    table, unpack = pack(batch)

    def epoch(carry: PyTree, order: Int[Array, "N"]) -> tuple[PyTree, dict[str, Array]]:
        rows = table[order].reshape(minibatches, -1, table.shape[1])
        return jax.lax.scan(lambda c, rows: step(c, unpack(rows)), carry, rows)

    carry, metrics = jax.lax.scan(epoch, (params, adam), orders)
    return *carry, jax.tree.map(jnp.mean, metrics)
