"""Training of one network in one compiled program: schedule, augmentation, curves.

What is trained is a :data:`Forward`: a function from variables and images to logits. A
plain child and a network whose architecture is an input are trained by the same loop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.core.errors import UserError

Forward = Callable[[PyTree, Array, Array | None], tuple[Array, PyTree]]
"""(variables, images ``[B H W C]``, key) -> logits ``[B classes]``, variables.

With a key, of its dropout, it trains and returns the variables with new running statistics.
"""
AUGMENTATIONS = ("none", "shift", "shift-flip")


def forward_of(module: nn.Module) -> Forward:
    """Returns a network whose call is ``(images, train)`` as what the loop trains."""

    def forward(variables: PyTree, x: Array, key: Array | None) -> tuple[Array, PyTree]:
        if key is None:
            return module.apply(variables, x, False), variables  # pyright: ignore[reportReturnType]
        rngs = {"dropout": key}
        logits, new = module.apply(variables, x, True, mutable=["batch_stats"], rngs=rngs)
        return logits, {**variables, **new}

    return forward


@dataclass(frozen=True)
class Training:
    """What decides the shape of a training run; numbers that are swept are in Hparams.

    Raises:
        UserError: a number below 1, or an unknown name.
    """

    epochs: int = 10  # passes over the training images
    batch: int = 64  # images a step; a last, smaller batch is left out of each epoch
    augment: str = "none"
    """Or ``"shift"`` (up to ``pixels`` each way, zeros at the border) or ``"shift-flip"``
    (and mirrored left to right, half of the time)."""
    pixels: int = 1  # largest shift
    schedule: str = "cosine"  # to zero after a linear warm-up, or ``"constant"``

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.pixels) < 1:
            raise UserError("Epochs, batch and pixels of a training must be at least 1.")
        if self.augment not in AUGMENTATIONS:
            raise UserError(
                f"The augmentation {self.augment!r} is unknown; choose one of "
                f"{', '.join(AUGMENTATIONS)}."
            )
        if self.schedule not in ("cosine", "constant"):
            raise UserError(
                f"The schedule {self.schedule!r} is unknown; choose cosine or constant."
            )


class Hparams(NamedTuple):
    """Traced numbers of a training run: SGD with Nesterov momentum."""

    lr: float | Array = 0.1
    momentum: float | Array = 0.9
    weight_decay: float | Array = 5e-4
    label_smoothing: float | Array = 0.0
    warmup: float | Array = 0.1  # share of all steps in which the step size rises from zero


class Curves(NamedTuple):
    """Learning curves, one number an epoch."""

    train_loss: Float[Array | np.ndarray, "E"]  # mean over the epoch's batches, nats
    val_loss: Float[Array | np.ndarray, "E"]
    val_accuracy: Float[Array | np.ndarray, "E"]  # fraction of the validation images


class Images(NamedTuple):
    """Training and validation images on the device."""

    x_train: Float[Array, "n H W C"]
    y_train: Int[Array, "n"]
    x_val: Float[Array, "m H W C"]
    y_val: Int[Array, "m"]


def step_size(training: Training, hparams: Hparams, step: Array, steps: int) -> Array:
    """Returns the step size of a step: linear warm-up, then cosine to zero or constant."""
    done = jnp.asarray(step + 1, jnp.float32) / steps
    rise = jnp.minimum(1.0, done / jnp.maximum(hparams.warmup, 1e-9))
    if training.schedule == "constant":
        return hparams.lr * rise
    left = (done - hparams.warmup) / jnp.maximum(1.0 - hparams.warmup, 1e-9)
    fall = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(left, 0.0, 1.0)))
    return hparams.lr * rise * fall


def augment(
    key: Key[Array, ""], images: Float[Array, "B H W C"], training: Training
) -> Float[Array, "B H W C"]:
    """Returns images shifted, each by its own whole number of pixels, and mirrored."""
    if training.augment == "none":
        return images
    B, H, W, _ = images.shape
    n = training.pixels
    shift_key, flip_key = jax.random.split(key)
    padded = jnp.pad(images, ((0, 0), (n, n), (n, n), (0, 0)))
    offsets = jax.random.randint(shift_key, (B, 2), 0, 2 * n + 1, dtype=jnp.int32)
    rows = offsets[:, :1] + jnp.arange(H, dtype=jnp.int32)
    columns = offsets[:, 1:] + jnp.arange(W, dtype=jnp.int32)
    if training.augment == "shift-flip":
        mirrored = jax.random.uniform(flip_key, (B, 1), jnp.float32) < 0.5
        columns = jnp.where(mirrored, columns[:, ::-1], columns)
    return padded[
        jnp.arange(B, dtype=jnp.int32)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]


def cross_entropy(
    logits: Float[Array, "B classes"],
    labels: Int[Array, "B"],
    smoothing: float | Array = 0.0,
) -> Float[Array, "B"]:
    """Returns the cross-entropy in nats; ``smoothing`` is spread over all classes."""
    one_hot = jax.nn.one_hot(labels, logits.shape[1], dtype=jnp.float32)
    target = (1.0 - smoothing) * one_hot + smoothing / logits.shape[1]
    return optax.softmax_cross_entropy(logits, target)


def evaluate(
    forward: Forward,
    variables: PyTree,
    x: Float[Array, "n H W C"],
    y: Int[Array, "n"],
    batch: int = 256,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns mean cross-entropy (nats) and accuracy (fraction), batch by batch."""
    n = x.shape[0]
    batch = min(batch, n)
    count = -(-n // batch)
    rows = jnp.minimum(jnp.arange(count * batch, dtype=jnp.int32), n - 1).reshape(
        count, batch
    )
    real = (jnp.arange(count * batch, dtype=jnp.int32) < n).reshape(count, batch)

    def one(item: tuple[Array, Array]) -> tuple[Array, Array]:
        chosen, there = item
        logits, _ = forward(variables, x[chosen], None)
        labels = y[chosen]
        right = jnp.argmax(logits, axis=1) == labels
        loss = cross_entropy(logits, labels)
        return jnp.sum(jnp.where(there, loss, 0.0)), jnp.sum(
            right & there, dtype=jnp.float32
        )

    loss, right = lax.map(one, (rows, real))
    return jnp.sum(loss) / n, jnp.sum(right, dtype=jnp.float32) / n


def fit(
    forward: Forward,
    variables: PyTree,
    images: Images,
    key: Key[Array, ""],
    training: Training,
    hparams: Hparams,
) -> tuple[PyTree, Curves]:
    """Returns the trained variables and the learning curves; pure, to be jitted.

    The same key gives the same bits: order of the images and augmentation are functions of
    (key, step).

    Raises:
        UserError: a batch larger than the training set.
    """
    n = images.x_train.shape[0]
    per_epoch = n // training.batch
    if not per_epoch:
        raise UserError(
            f"A batch of {training.batch} is more than the {n} training images; use a "
            "smaller batch."
        )
    steps = per_epoch * training.epochs

    def loss_of(params: PyTree, rest: PyTree, x: Array, y: Array, key: Array) -> Any:
        logits, updated = forward({**rest, "params": params}, x, key)
        loss = jnp.mean(cross_entropy(logits, y, hparams.label_smoothing))
        return loss, {k: v for k, v in updated.items() if k != "params"}

    def step(carry: tuple, item: tuple[Array, Array]) -> tuple[tuple, Array]:
        variables, momentum = carry
        number, rows = item
        own = jax.random.fold_in(key, number)
        x = augment(own, images.x_train[rows], training)
        params = variables["params"]
        rest = {k: v for k, v in variables.items() if k != "params"}
        grad = jax.value_and_grad(loss_of, has_aux=True)
        noise = jax.random.fold_in(own, 1)
        (loss, rest), gradient = grad(params, rest, x, images.y_train[rows], noise)
        size = step_size(training, hparams, number, steps)
        rule = optax.chain(
            optax.add_decayed_weights(hparams.weight_decay),
            optax.trace(hparams.momentum, nesterov=True),
            optax.scale(-size),
        )
        update, momentum = rule.update(gradient, momentum, params)
        variables = {**rest, "params": optax.apply_updates(params, update)}
        return (variables, momentum), loss

    def epoch(carry: tuple, number: Array) -> tuple[tuple, tuple]:
        order = jax.random.permutation(jax.random.fold_in(key, steps + number), n)
        rows = order[: per_epoch * training.batch].reshape(per_epoch, training.batch)
        numbers = number * per_epoch + jnp.arange(per_epoch, dtype=jnp.int32)
        carry, losses = lax.scan(step, carry, (numbers, rows))
        val_loss, accuracy = evaluate(forward, carry[0], images.x_val, images.y_val)
        return carry, (jnp.mean(losses), val_loss, accuracy)

    rule = optax.chain(
        optax.add_decayed_weights(0.0), optax.trace(0.9, nesterov=True), optax.scale(1.0)
    )
    start = (variables, rule.init(variables["params"]))
    (variables, _), curves = lax.scan(
        epoch, start, jnp.arange(training.epochs, dtype=jnp.int32)
    )
    return variables, Curves(*curves)
