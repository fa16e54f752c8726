"""The flax forms of the operations: (inputs, attributes, path, train) -> output.

Called inside a compact module. Images are ``[B, H, W, C]`` (channels last), vectors
``[B, F]``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from jaxnas.children.rules import Attributes
from jaxnas.core.convolution import fast_conv

MOMENTUM, EPSILON = 0.9, 1e-5
"""Of batch norm: share of the old statistics in the running ones; added to the variance."""


def conv_layer(x: Array, attributes: Attributes, name: str) -> Array:
    """Returns a convolution; weights start He-normal over the fan-out of their own group.

    He et al., 2015: ``var = 2 / (kernel^2 * features / groups)``. flax and torch leave out
    the groups, which makes a depthwise layer of 64 channels start 8 times too small.
    """
    groups, kernel = attributes.get("groups") or 1, attributes["kernel"]
    side = (attributes["padding"],) * 2
    return nn.Conv(
        features=attributes.get("features") or x.shape[-1],
        kernel_size=(kernel, kernel),
        strides=attributes["stride"],
        padding=(side, side),
        feature_group_count=groups,
        use_bias=bool(attributes.get("bias", False)),
        kernel_init=nn.initializers.variance_scaling(2.0 * groups, "fan_out", "normal"),
        conv_general_dilated=fast_conv,
        name=name,
    )(x)


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
