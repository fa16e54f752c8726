"""Operations on texts: rules and flax forms of embedding, GRU, mask and global pooling.

A text is a vector ``[T]`` of word ids, whole numbers as float32: 0 is padding and stands at
the end, 1 is an unknown word. An embedding makes an image ``[T, 1, C]`` of it, so that
windows of width 1 are 1-D convolutions and every operation of images applies. Operations
that must know where a text ends take its ids as their last input; the places that stand for
padding alone follow from them at any length that windows with a stride left
(:func:`kept`).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnas.children.rules import Attributes, Count, Shape, Shapes, dense, one_image
from jaxnas.core.errors import UserError
from jaxnas.data.texts.words import PADDING


def kept(ids: Float[Array, "B T"], places: int) -> Bool[Array, "B N"]:
    """Returns which of ``places`` stand for more than padding; the first always does.

    Of n ids up to the last that is no padding, place i stands for id ``i T / N``.
    """
    length = ids.shape[1]
    ends = jnp.where(ids != PADDING, jnp.arange(1, length + 1, dtype=jnp.int32), 1)
    used = jnp.max(ends, axis=1, keepdims=True)
    return jnp.arange(places, dtype=jnp.int32) * length < used * places


def _with_ids(inputs: Shapes) -> Shape:
    """Returns the shape of an image that comes alone or with the ids of its text."""
    if len(inputs) == 2 and len(inputs[1]) == 1:
        shape = one_image(inputs[:1])
        if shape[1] == 1:
            return shape
    elif len(inputs) == 1:
        return one_image(inputs)
    raise UserError(
        "needs one image, or a sequence [places, 1, channels] and the ids of its text, got "
        f"{list(inputs)}"
    )


def count_embedding(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts the table; looking rows up is free of multiplications."""
    if len(inputs) != 1 or len(inputs[0]) != 1:
        raise UserError(f"needs the ids of one text, got {list(inputs)}")
    features = attributes["features"]
    table = ("table", (attributes["vocabulary"], features))
    return Count((*inputs[0], 1, features), arrays=(table,))


def count_gru(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts the two matrices, each used at every place; gates are free by convention."""
    shape = _with_ids(inputs)
    if shape[1] != 1:
        raise UserError(f"needs a sequence [places, 1, channels], got {list(inputs)}")
    places, features = shape[0], attributes["features"]
    parts = (
        dense("input", shape[2], 3 * features, places),
        dense("hidden", features, 3 * features, places),
    )
    return Count(
        (places, 1, features),
        sum(part.flops for part in parts),
        tuple(array for part in parts for array in part.arrays),
        tuple(matrix for part in parts for matrix in part.matrices),
    )


def count_mask(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts a sequence whose padding is set to zero."""
    if len(inputs) != 2:
        raise UserError(f"needs a sequence and the ids of its text, got {list(inputs)}")
    return Count(_with_ids(inputs))


def count_global_pool(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts a mean or a maximum over all places; free of multiplications by convention."""
    return Count(_with_ids(inputs)[2:])


class Table(nn.Module):
    """One row of weights a word."""

    vocabulary: int
    features: int

    @nn.compact
    def __call__(self, ids: Float[Array, "B T"]) -> Float[Array, "B T F"]:
        """Returns the rows; ids beyond the table are read as its last."""
        start = nn.initializers.normal(self.features**-0.5)
        table = self.param("table", start, (self.vocabulary, self.features))
        rows = jnp.take(table, ids.astype(jnp.int32), axis=0, mode="clip")
        return rows * (ids != PADDING)[..., None]


class Recurrence(nn.Module):
    """The part of a GRU that goes from place to place."""

    features: int
    backward: bool

    @nn.compact
    def __call__(
        self, gates: Float[Array, "B T G"], keep: Bool[Array, "B T"]
    ) -> Float[Array, "B T F"]:
        """Returns the states; where nothing is kept, the state before."""
        features = self.features
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (features, 3 * features)
        )
        bias = self.param("bias", nn.initializers.zeros, (3 * features,))

        def step(state: Array, item: tuple[Array, Array]) -> tuple[Array, Array]:
            given, there = item
            r, z, n = jnp.split(given, 3, axis=-1)
            hr, hz, hn = jnp.split(state @ kernel + bias, 3, axis=-1)
            update = nn.sigmoid(z + hz)
            new = jnp.tanh(n + nn.sigmoid(r + hr) * hn)
            made = (1.0 - update) * new + update * state
            state = jnp.where(there[:, None], made, state)
            return state, state

        start = jnp.zeros((gates.shape[0], features), gates.dtype)
        items = (jnp.moveaxis(gates, 1, 0), keep.T)
        _, states = jax.lax.scan(step, start, items, reverse=self.backward)
        return jnp.moveaxis(states, 0, 1)


def embedding(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """The row of each word as an image ``[B, T, 1, F]``; zeros for padding."""
    return Table(a["vocabulary"], a["features"], name=path)(xs[0])[:, :, None]


def gru(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """The states of a GRU, from the first place on or from the last.

    Cho et al., 2014, in the form of cuDNN and torch, whose reset gate scales the product
    with the state; gates in the order reset, update, new. Over the padding of a text whose
    ids are given the state stays as it is.
    """
    x = xs[0][:, :, 0]
    whole = jnp.ones(x.shape[:2], bool)
    keep = kept(xs[1], x.shape[1]) if len(xs) > 1 else whole
    gates = nn.Dense(3 * a["features"], name=f"{path}.input")(x)
    backward = bool(a.get("backward"))
    states = Recurrence(a["features"], backward, name=f"{path}.hidden")(gates, keep)
    return states[:, :, None]


def mask(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """A sequence with zeros where the text has ended."""
    keep = kept(xs[1], xs[0].shape[1])[:, :, None, None]
    return jnp.where(keep, xs[0], 0.0)


def global_avg_pool(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """The mean over an image, or over the places of a text whose ids are given."""
    if len(xs) == 1:
        return jnp.mean(xs[0], axis=(1, 2))
    count = jnp.sum(kept(xs[1], xs[0].shape[1]), axis=1, keepdims=True)
    return jnp.sum(mask(xs, a, path, train), axis=(1, 2)) / count


def global_max_pool(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """The maximum over an image, or over the places of a text whose ids are given."""
    if len(xs) == 1:
        return jnp.max(xs[0], axis=(1, 2))
    keep = kept(xs[1], xs[0].shape[1])[:, :, None, None]
    return jnp.max(jnp.where(keep, xs[0], -jnp.inf), axis=(1, 2))
