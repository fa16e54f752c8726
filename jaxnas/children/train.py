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
"""(variables, images ``[B H W C]`` or ids ``[B T]``, key) ->
logits ``[B classes]``, variables.

With a key, of its dropout, it trains and returns the variables with new running statistics.
"""
AUGMENTATIONS = ("none", "shift", "shift-flip")
SCHEDULES = ("cosine", "constant", "step")
OPTIMISERS = ("sgd", "adam", "adamw")
STEP_EPOCHS, STEP_FACTOR = 5, 0.2
"""Of the schedule ``step``: the step size falls to a fifth every five epochs."""


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
    schedule: str = "cosine"
    """To zero after a linear warm-up; or ``"constant"``, or ``"step"``, a fifth every five
    epochs."""
    optimiser: str = "sgd"
    """With Nesterov momentum and coupled decay; ``"adam"`` (coupled decay) or ``"adamw"``
    (decoupled: Loshchilov and Hutter, 2019), with ``momentum`` as beta1."""
    cutout: int = 0
    """Side of the square that is set to zero at a random place of each image (DeVries and
    Taylor, 2017); none when 0."""
    mixup: float = 0.0
    """Alpha of mixing each image and its label with another one's (Zhang et al., 2018); not
    at all when 0."""

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.pixels) < 1:
            raise UserError("Epochs, batch and pixels of a training must be at least 1.")
        if self.cutout < 0 or not 0 <= self.mixup < float("inf"):
            raise UserError("Cutout and mixup of a training must be 0 or more.")
        for what, name, known in (
            ("augmentation", self.augment, AUGMENTATIONS),
            ("schedule", self.schedule, SCHEDULES),
            ("optimiser", self.optimiser, OPTIMISERS),
        ):
            if name not in known:
                raise UserError(
                    f"The {what} {name!r} is unknown; choose one of {', '.join(known)}."
                )


class Hparams(NamedTuple):
    """Traced numbers of a training run."""

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
    """Training and validation images ``[n H W C]`` or texts ``[n T]``, on the device."""

    x_train: Float[Array, "n ..."]
    y_train: Int[Array, "n"]
    x_val: Float[Array, "m ..."]
    y_val: Int[Array, "m"]


def step_size(training: Training, hparams: Hparams, step: Array, steps: int) -> Array:
    """Returns the step size of a step: linear warm-up, then as the schedule says."""
    done = jnp.asarray(step + 1, jnp.float32) / steps
    rise = jnp.minimum(1.0, done / jnp.maximum(hparams.warmup, 1e-9))
    if training.schedule == "constant":
        return hparams.lr * rise
    if training.schedule == "step":
        epoch = jnp.asarray(step, jnp.int32) // (steps // training.epochs)
        falls = (epoch // STEP_EPOCHS).astype(jnp.float32)
        return hparams.lr * rise * STEP_FACTOR**falls
    left = (done - hparams.warmup) / jnp.maximum(1.0 - hparams.warmup, 1e-9)
    fall = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(left, 0.0, 1.0)))
    return hparams.lr * rise * fall


def augment(
    key: Key[Array, ""], images: Float[Array, "B ..."], training: Training
) -> Float[Array, "B ..."]:
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


def cut_out(
    key: Key[Array, ""], images: Float[Array, "B H W C"], side: int
) -> Float[Array, "B H W C"]:
    """Returns images with a square of zeros each, its middle anywhere in the image."""
    B, H, W, _ = images.shape
    middle = jax.random.randint(
        key, (2, B, 1), 0, jnp.asarray([H, W], jnp.int32)[:, None, None], dtype=jnp.int32
    )
    far = []
    for axis, size in enumerate((H, W)):
        first = middle[axis] - side // 2
        place = jnp.arange(size, dtype=jnp.int32)
        far.append((place < first) | (place >= first + side))
    keep = far[0][:, :, None] | far[1][:, None, :]
    return jnp.where(keep[..., None], images, 0.0)


def mix_up(
    key: Key[Array, ""], images: Float[Array, "B H W C"], alpha: float
) -> tuple[Float[Array, "B H W C"], Float[Array, ""], Int[Array, "B"]]:
    """Returns mixed images, the share of their own, and which others they are mixed with.

    One share a batch, from Beta(alpha, alpha), as in the paper's own code.
    """
    share_key, order_key = jax.random.split(key)
    share = jax.random.beta(share_key, alpha, alpha, dtype=jnp.float32)
    order = jax.random.permutation(order_key, jnp.arange(len(images), dtype=jnp.int32))
    return share * images + (1.0 - share) * images[order], share, order


def optimiser(training: Training, hparams: Hparams) -> optax.GradientTransformation:
    """Returns the rule whose updates are still to be multiplied by minus the step size."""
    decay = optax.add_decayed_weights(hparams.weight_decay)
    if training.optimiser == "sgd":
        return optax.chain(decay, optax.trace(hparams.momentum, nesterov=True))
    adam = optax.scale_by_adam(b1=hparams.momentum)
    parts = (decay, adam) if training.optimiser == "adam" else (adam, decay)
    return optax.chain(*parts)


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
    x: Float[Array, "n ..."],
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
        share: float | Array = 1.0
        order: Any = None
        if training.mixup:
            x, share, order = mix_up(jax.random.fold_in(key, 1), x, training.mixup)
        logits, updated = forward({**rest, "params": params}, x, key)
        losses = cross_entropy(logits, y, hparams.label_smoothing)
        if training.mixup:
            other = cross_entropy(logits, y[order], hparams.label_smoothing)
            losses = share * losses + (1.0 - share) * other
        loss = jnp.mean(losses)
        return loss, {k: v for k, v in updated.items() if k != "params"}

    def step(carry: tuple, item: tuple[Array, Array]) -> tuple[tuple, Array]:
        variables, momentum = carry
        number, rows = item
        own = jax.random.fold_in(key, number)
        x = augment(own, images.x_train[rows], training)
        if training.cutout:
            x = cut_out(jax.random.fold_in(own, 2), x, training.cutout)
        params = variables["params"]
        rest = {k: v for k, v in variables.items() if k != "params"}
        grad = jax.value_and_grad(loss_of, has_aux=True)
        noise = jax.random.fold_in(own, 1)
        (loss, rest), gradient = grad(params, rest, x, images.y_train[rows], noise)
        size = step_size(training, hparams, number, steps)
        rule = optax.chain(optimiser(training, hparams), optax.scale(-size))
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

    rule = optax.chain(optimiser(training, hparams), optax.scale(1.0))
    start = (variables, rule.init(variables["params"]))
    (variables, _), curves = lax.scan(
        epoch, start, jnp.arange(training.epochs, dtype=jnp.int32)
    )
    return variables, Curves(*curves)
