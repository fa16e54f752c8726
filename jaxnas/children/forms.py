"""The flax forms of the operations: (inputs, attributes, path, train) -> output.

Called inside a compact module. Images are ``[B, H, W, C]`` (channels last), vectors
``[B, F]``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from jaxnas.children.rules import Attributes, norm_groups, window
from jaxnas.children.sequences import kept
from jaxnas.core.convolution import fast_conv

MOMENTUM, EPSILON = 0.9, 1e-5
"""Of batch norm: share of the old statistics in the running ones; added to the variance."""


def conv_layer(x: Array, attributes: Attributes, name: str) -> Array:
    """Returns a convolution; weights start He-normal over the fan-out of their own group.

    He et al., 2015: ``var = 2 / (kernel^2 * features / groups)``. flax and torch leave out
    the groups, which makes a depthwise layer of 64 channels start 8 times too small.
    """
    groups, (kernel, padding) = attributes.get("groups") or 1, window(attributes)
    return nn.Conv(
        features=attributes.get("features") or x.shape[-1],
        kernel_size=kernel,
        strides=attributes["stride"],
        padding=tuple((side, side) for side in padding),
        feature_group_count=groups,
        use_bias=bool(attributes.get("bias", False)),
        kernel_init=nn.initializers.variance_scaling(2.0 * groups, "fan_out", "normal"),
        conv_general_dilated=fast_conv,
        name=name,
    )(x)


def depthwise_conv(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """A convolution of each channel by itself."""
    return conv_layer(xs[0], {**a, "groups": xs[0].shape[-1]}, path)


def norm_layer(x: Array, name: str, train: bool) -> Array:
    """Returns batch norm by the batch (training) or by the running statistics."""
    return nn.BatchNorm(not train, momentum=MOMENTUM, epsilon=EPSILON, name=name)(x)


def relu_conv_bn(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """ReLU, convolution without bias, batch norm."""
    made = conv_layer(nn.relu(xs[0]), a, f"{path}.conv")
    return norm_layer(made, f"{path}.norm", train)


def linear(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """A dense layer with bias."""
    return nn.Dense(a["features"], name=path)(xs[0])


def avg_pool(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Mean over the pixels of a window; padding is not counted, as in NAS-Bench-201."""
    window, stride = (a["kernel"],) * 2, (a["stride"],) * 2
    sides: Any = ((a["padding"],) * 2,) * 2
    pooled = nn.avg_pool(xs[0], window, stride, sides, count_include_pad=False)
    return pooled.astype(xs[0].dtype)


def shift(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """An image moved up and left, zeros where nothing arrives."""
    n = a["pixels"]
    return jnp.pad(xs[0][:, n:, n:], ((0, 0), (0, n), (0, n), (0, 0)))


def zero(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Zeros, also where the input is not finite."""
    stride = a.get("stride") or 1
    return jnp.zeros_like(xs[0] if stride == 1 else xs[0][:, ::stride, ::stride])


def plain(function: Callable[[Sequence[Array]], Array]) -> Callable[..., Array]:
    """Returns the flax form of a function of the inputs alone."""
    return lambda xs, attributes, path, train: function(xs)


def max_pool(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Maximum over the pixels of a window."""
    window, stride = (a["kernel"],) * 2, (a["stride"],) * 2
    sides: Any = ((a["padding"],) * 2,) * 2
    return nn.max_pool(xs[0], window, stride, sides)


def multi_scale_pool(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Mean of the means over windows of 1, 3, 5, ... pixels; padding is not counted."""
    sizes = [2 * i + 1 for i in range(1, a["scales"])]
    windows = [{"kernel": k, "stride": 1, "padding": k // 2} for k in sizes]
    pooled = [avg_pool(xs, window, path, train) for window in windows]
    return sum(pooled, xs[0]) / a["scales"]


def layer_norm(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Normalises the channels of each place by their own mean and variance."""
    return nn.LayerNorm(EPSILON, use_fast_variance=False, name=path)(xs[0])


def group_norm(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Normalises each group of channels over all places of one input."""
    groups = norm_groups(xs[0].shape[-1], a)
    return nn.GroupNorm(groups, epsilon=EPSILON, use_fast_variance=False, name=path)(xs[0])


def instance_norm(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Normalises each channel over all places of one input."""
    return group_norm(xs, {"groups": xs[0].shape[-1]}, path, train)


def dropout(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Sets a share of the values to zero in training, which needs the key ``dropout``."""
    return nn.Dropout(a["rate"], deterministic=not train, name=path)(xs[0])


def pad_concat(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Joins the channels of images, each padded with zeros below and right."""
    height, width = (max(x.shape[i] for x in xs) for i in (1, 2))
    room = [(height - x.shape[1], width - x.shape[2]) for x in xs]
    padded = [
        jnp.pad(x, ((0, 0), (0, h), (0, w), (0, 0)))
        for x, (h, w) in zip(xs, room, strict=True)
    ]
    return jnp.concatenate(padded, axis=-1)


def gated_skip(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """``g x + (1 - g) y``, one ``g`` an example: a sigmoid of a dense layer on y's means.

    The gate sees the value that skips, so that it can be known before the layer is
    computed. Reference: Wang et al., SkipNet, ECCV 2018, with the soft gate of training.
    """
    new, old = xs
    means = jnp.mean(old, axis=tuple(range(1, old.ndim - 1)))
    gate = nn.sigmoid(nn.Dense(1, name=f"{path}.gate")(means))
    gate = gate.reshape(-1, *(1,) * (old.ndim - 1))
    return gate * new + (1.0 - gate) * old


def attention_edge(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """``x + softmax(Q K' / sqrt(d)) V``: queries from the first value.

    Keys and values come from the last. One head; places in the order of rows, then columns.
    None attends to the padding of a text whose ids are the last input.
    """
    ids = xs[-1] if xs[-1].ndim == 2 else None
    xs = xs if ids is None else xs[:-1]
    x, y = (v.reshape(v.shape[0], -1, v.shape[-1]) for v in (xs[0], xs[-1]))
    features = x.shape[-1]
    query = nn.Dense(features, name=f"{path}.query")(x)
    key = nn.Dense(features, name=f"{path}.key")(y)
    value = nn.Dense(features, name=f"{path}.value")(y)
    scores = jnp.einsum("bnd,bmd->bnm", query, key) / features**0.5
    if ids is not None:
        scores = jnp.where(kept(ids, y.shape[1])[:, None], scores, -jnp.inf)
    return xs[0] + (nn.softmax(scores) @ value).reshape(xs[0].shape)
