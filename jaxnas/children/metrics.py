"""How a trained network fails: by class, under attack, under noise, and how surely.

Pure functions of a network and labelled images, inside jit; pixels are in [0, 1].
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.children.train import Forward, cross_entropy

BINS = 15
"""Bins of equal width of the calibration error, as in Guo et al., 2017."""
NAMES = ("worst_class", "fgsm_accuracy", "noise_accuracy", "ece", "brier")


def assess(
    forward: Forward,
    variables: PyTree,
    x: Float[Array, "n H W C"],
    y: Int[Array, "n"],
    key: Key[Array, ""],
    epsilon: float | Array,
    sigma: float | Array,
    *,
    names: Sequence[str],
    num_classes: int,
    batch: int = 256,
) -> dict[str, Float[Array, ""]]:
    """Returns some of ``NAMES``; nothing is computed for the others.

    ``worst_class``: least accuracy of a class that has images. ``fgsm_accuracy``: accuracy
    on images moved by ``epsilon`` along the sign of the loss's gradient and cut to [0, 1]
    (Goodfellow et al., 2015). ``noise_accuracy``: accuracy with normal noise of standard
    deviation ``sigma`` on every pixel, not cut. ``ece``: expected calibration error, the
    mean distance of confidence and accuracy over bins. ``brier``: mean squared distance of
    the probabilities from the label, summed over classes. Accuracies and ``ece`` are
    fractions.

    Args:
        forward: of the network.
        variables: trained.
        x: images.
        y: their classes.
        key: of the noise.
        epsilon: in units of the pixels.
        sigma: in units of the pixels.
        names: what is wanted; static.
        num_classes: of the data; static.
        batch: images at a time; static.
    """
    n = x.shape[0]
    batch = min(batch, n)
    count = -(-n // batch)
    order = jnp.arange(count * batch, dtype=jnp.int32)
    rows = jnp.minimum(order, n - 1).reshape(count, batch)
    real = (order < n).reshape(count, batch).astype(jnp.float32)
    keys = jax.random.split(key, count)

    def right(images: Array, labels: Array) -> Array:
        logits, _ = forward(variables, images, None)
        return (jnp.argmax(logits, axis=1) == labels).astype(jnp.float32)

    def one(item: tuple[Array, Array, Array]) -> dict[str, Array]:
        chosen, there, own = item
        images, labels = x[chosen], y[chosen]
        logits, _ = forward(variables, images, None)
        made = _plain_sums(logits, labels, there, num_classes)
        if "fgsm_accuracy" in names:
            moved = attack(forward, variables, images, labels, epsilon)
            made["fgsm_accuracy"] = jnp.sum(right(moved, labels) * there)
        if "noise_accuracy" in names:
            noise = jax.random.normal(own, images.shape, images.dtype)
            seen = right(images + sigma * noise, labels)
            made["noise_accuracy"] = jnp.sum(seen * there)
        return made

    sums = jax.tree.map(lambda a: jnp.sum(a, axis=0), lax.map(one, (rows, real, keys)))
    shares = sums["class_right"] / jnp.maximum(sums["class_count"], 1.0)
    made: dict[str, Any] = {
        "worst_class": jnp.min(jnp.where(sums["class_count"] > 0, shares, jnp.inf)),
        "ece": jnp.sum(jnp.abs(sums["bin_right"] - sums["bin_confidence"])) / n,
        "brier": sums["brier"] / n,
    }
    attacked = ("fgsm_accuracy", "noise_accuracy")
    made |= {name: sums[name] / n for name in attacked if name in sums}
    return {name: made[name] for name in names}


def attack(
    forward: Forward,
    variables: PyTree,
    images: Float[Array, "B H W C"],
    labels: Int[Array, "B"],
    epsilon: float | Array,
) -> Float[Array, "B H W C"]:
    """Returns images after one step of the fast gradient sign method, cut to [0, 1]."""

    def loss(given: Array) -> Array:
        logits, _ = forward(variables, given, None)
        return jnp.sum(cross_entropy(logits, labels))

    return jnp.clip(images + epsilon * jnp.sign(jax.grad(loss)(images)), 0.0, 1.0)


def _plain_sums(
    logits: Float[Array, "B classes"],
    labels: Int[Array, "B"],
    there: Float[Array, "B"],
    num_classes: int,
) -> dict[str, Array]:
    """Returns sums over the images of a batch that are there."""
    chances = jax.nn.softmax(logits)
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    right = (jnp.argmax(logits, axis=1) == labels).astype(jnp.float32) * there
    confidence = jnp.max(chances, axis=1)
    # A bin holds its upper edge, (i / BINS, (i + 1) / BINS].
    place = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
    into = jax.nn.one_hot(place, BINS, dtype=jnp.float32)
    return {
        "class_right": right @ one_hot,
        "class_count": there @ one_hot,
        "bin_right": right @ into,
        "bin_confidence": (confidence * there) @ into,
        "brier": jnp.sum(jnp.sum(jnp.square(chances - one_hot), axis=1) * there),
    }
