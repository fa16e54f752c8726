"""The learning step of proximal policy optimisation (Schulman et al., 2017)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.controllers.actions import Choose, choose
from jaxnas.core.errors import UserError
from jaxnas.core.types import PolicyOutput
from jaxnas.rl import losses, optimise
from jaxnas.rl.batch import PolicyBatch

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
    advantage, valid = batch.advantage, batch.valid
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
    parts = {"loss": loss, "value_loss": value, "entropy": entropy}
    return loss, parts


def ppo_update(
    key: Key[Array, ""],
    apply: Apply,
    params: PyTree,
    adam: PyTree,
    batch: PolicyBatch,
    hparams: Any,
    *,
    epochs: int,
    minibatches: int,
    normalise: bool = True,
    clip_value: bool = False,
    shuffle: bool = True,
) -> tuple[PyTree, PyTree, dict[str, Float[Array, ""]]]:
    """Returns parameters and optimiser state after ``epochs * minibatches`` steps.

    Args:
        key: of the shuffles; not used with one minibatch or ``shuffle=False``.
        apply: policy and value of a minibatch of observations.
        params: of the policy.
        adam: optimiser state, :func:`optimise.init`.
        batch: ``N`` samples, ``N`` divisible by ``minibatches``.
        hparams: anything with the fields ``lr``, ``entropy``, ``temperature``, ``clip``,
            ``value_weight`` and ``max_grad_norm``.
        epochs: passes over the batch.
        minibatches: equal parts of each pass.
        normalise: advantages to mean zero and deviation one within each minibatch.
        clip_value: also keep the value near its old one.
        shuffle: a new order of samples each pass.

    Returns:
        Parameters, optimiser state, and metrics: means over the steps of ``loss``,
        ``value_loss``, ``entropy`` and ``grad_norm``.
    """
    samples = batch.action.shape[0]
    check_minibatches(samples, epochs, minibatches)

    def step(carry: PyTree, rows: PyTree) -> tuple[PyTree, dict[str, Float[Array, ""]]]:
        params, adam = carry
        part = batch if rows is None else jax.tree.map(lambda leaf: leaf[rows], batch)
        (_, parts), grads = jax.value_and_grad(ppo_loss, has_aux=True)(
            params, apply, part, hparams, normalise=normalise, clip_value=clip_value
        )
        params, adam, norm = optimise.step(
            params, adam, grads, hparams.lr, hparams.max_grad_norm
        )
        return (params, adam), {**parts, "grad_norm": norm}

    rows = None
    if minibatches > 1:
        order = shuffled(key, samples, epochs) if shuffle else _in_order(samples, epochs)
        rows = order.reshape(epochs * minibatches, samples // minibatches)
    steps = epochs * minibatches
    (params, adam), metrics = jax.lax.scan(step, (params, adam), rows, length=steps)
    return params, adam, jax.tree.map(jnp.mean, metrics)


def shuffled(key: Key[Array, ""], samples: int, epochs: int) -> Int[Array, "E N"]:
    """Returns a random order of the samples for each pass, from one PRNG call."""
    uniforms = jax.random.uniform(key, (epochs * samples,)).reshape(epochs, samples)
    return jnp.argsort(uniforms, axis=1)


def _in_order(samples: int, epochs: int) -> Int[Array, "E N"]:
    """Returns the given order for each pass."""
    return jnp.broadcast_to(jnp.arange(samples), (epochs, samples))
