"""The operation table: what each operation of a spec is, costs, and looks like in flax.

An entry holds the attributes that an operation has, its rule (shape, parameters, FLOPs,
arrays, matrices) and its flax form. The torch forms stand under the same names in
``jaxnas/analog/bridge/torch_net.py``, which runs without this package.

Images are ``[B, H, W, C]`` (channels last), vectors ``[B, F]``; shapes leave out the batch.
"""

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from jaxnas.core.convolution import fast_conv
from jaxnas.core.errors import UserError
from jaxnas.core.types import Matrix

Shape = tuple[int, ...]
"""Height, width, channels of an image, or the features of a vector; no batch axis."""
Attributes = Mapping[str, Any]
Shapes = Sequence[Shape]

MOMENTUM, EPSILON = 0.9, 1e-5
"""Of batch norm: share of the old statistics in the running ones; added to the variance."""


class Count(NamedTuple):
    """What one node makes of its inputs, and what that costs."""

    shape: Shape
    flops: int = 0
    arrays: tuple[tuple[str, Shape], ...] = ()
    """Name behind the node's path and shape of each array, in torch's layout."""
    matrices: tuple[Matrix, ...] = ()
    """Weight matrices; paths are relative to the node's own."""

    @property
    def params(self) -> int:
        """Trainable numbers: all arrays but running statistics."""
        sizes = [math.prod(s) for name, s in self.arrays if "running_" not in name]
        return sum(sizes)


class Attribute(NamedTuple):
    """What an attribute may be: a whole number or a flag, left out where it says so."""

    least: int = 1
    optional: bool = False  # whether it may be left out or null
    flag: bool = False  # true or false instead of a number


class Op(NamedTuple):
    """One operation: its attributes, its rule and its flax form."""

    rule: Callable[[Shapes, Attributes], Count]
    """Raises UserError with the end of a sentence that begins with the node's name."""
    flax: Callable[[Sequence[Array], Attributes, str, bool], Array]
    """(inputs, attributes, path, train) -> output, inside a compact module."""
    attributes: Mapping[str, Attribute] = {}


def lookup(op: str, path: str, lack: str = "which has no cost rule") -> Op:
    """Returns the entry of an operation.

    Raises:
        UserError: there is none; the text names the node.
    """
    if op not in OPS:
        raise UserError(f"The node {path!r} is {op!r}, {lack}; known are {', '.join(OPS)}.")
    return OPS[op]


def _one(inputs: Shapes) -> Shape:
    if len(inputs) != 1:
        raise UserError(f"needs one input, got {list(inputs)}")
    return inputs[0]


def _image(inputs: Shapes) -> Shape:
    if len(inputs) != 1 or len(inputs[0]) != 3:
        raise UserError(f"needs one image (height, width, channels), got {list(inputs)}")
    return inputs[0]


def _window(size: int, attributes: Attributes) -> int:
    """Returns the side that a window of a kernel, a stride and a padding leaves."""
    free = size + 2 * attributes["padding"] - attributes["kernel"]
    if free < 0:
        raise UserError(
            f"has a kernel of {attributes['kernel']} for a side of {size} padded by "
            f"{attributes['padding']}"
        )
    return free // attributes["stride"] + 1


def _conv(inputs: Shapes, attributes: Attributes, name: str = "") -> Count:
    """Counts a square convolution; ``features`` None keeps the number of channels."""
    height, width, channels = _image(inputs)
    features = attributes.get("features") or channels
    groups, kernel = attributes.get("groups") or 1, attributes["kernel"]
    if channels % groups or features % groups:
        raise UserError(f"cannot split {channels} -> {features} channels into {groups}")
    out = (_window(height, attributes), _window(width, attributes), features)
    pixels, dot = out[0] * out[1], f"{name}." if name else ""
    weight: Shape = (features, channels // groups, kernel, kernel)
    arrays: list[tuple[str, Shape]] = [(f"{dot}weight", weight)]
    if attributes.get("bias", False):
        arrays.append((f"{dot}bias", (features,)))
    rows = kernel**2 * channels // groups
    matrix = Matrix(name, rows, features // groups, pixels, groups)
    flops = pixels * sum(math.prod(shape) for _, shape in arrays)
    return Count(out, flops, tuple(arrays), (matrix,))


def _norm_arrays(features: int, name: str = "") -> tuple[tuple[str, Shape], ...]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return tuple((f"{name}.{part}" if name else part, (features,)) for part in parts)


def _relu_conv_bn(inputs: Shapes, attributes: Attributes) -> Count:
    conv = _conv(inputs, attributes, "conv")
    norm = _norm_arrays(conv.shape[-1], "norm")
    return conv._replace(arrays=conv.arrays + norm)


def _batch_norm(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts scale and shift; the arithmetic folds into the layer before."""
    shape = _one(inputs)
    return Count(shape, arrays=_norm_arrays(shape[-1]))


def _avg_pool(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts a mean over windows; free of multiplications by convention."""
    height, width, channels = _image(inputs)
    if 2 * attributes["padding"] > attributes["kernel"]:
        raise UserError(
            f"has a padding of {attributes['padding']}, more than half of its kernel of "
            f"{attributes['kernel']}, so that some windows would hold no pixel"
        )
    return Count((_window(height, attributes), _window(width, attributes), channels))


def _flatten(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts an image read as one vector: rows, then columns, then channels."""
    return Count((math.prod(_image(inputs)),))


def _concat(inputs: Shapes, attributes: Attributes) -> Count:
    if len({shape[:-1] for shape in inputs}) != 1 or len(inputs[0]) != 3:
        raise UserError(f"joins the channels of different images {list(inputs)}")
    return Count((*inputs[0][:-1], sum(shape[-1] for shape in inputs)))


def _shift(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts an image moved up and left by ``pixels``, zeros where nothing arrives."""
    shape = _image(inputs)
    if attributes["pixels"] >= min(shape[:2]):
        raise UserError(
            f"moves an image of {shape[0]} x {shape[1]} by {attributes['pixels']} pixels, "
            "which leaves nothing of it"
        )
    return Count(shape)


def _linear(inputs: Shapes, attributes: Attributes) -> Count:
    if len(inputs) != 1 or len(inputs[0]) != 1:
        raise UserError(f"needs one vector, got {list(inputs)}")
    rows, features = inputs[0][0], attributes["features"]
    arrays = (("weight", (features, rows)), ("bias", (features,)))
    matrix = Matrix("", rows, features, 1)
    return Count((features,), (rows + 1) * features, arrays, (matrix,))


def _sum(inputs: Shapes, attributes: Attributes) -> Count:
    if len(set(inputs)) != 1:
        raise UserError(f"adds values of different shapes {list(inputs)}")
    return Count(inputs[0])


def _zero(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts zeros in place of every ``stride``-th row and column."""
    shape, stride = _one(inputs), attributes.get("stride") or 1
    if stride == 1:
        return Count(shape)
    height, width, channels = _image(inputs)
    return Count((-(-height // stride), -(-width // stride), channels))


def _same(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts an operation that keeps the shape and costs nothing."""
    return Count(_one(inputs))


def _conv_layer(x: Array, attributes: Attributes, name: str) -> Array:
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


def _norm_layer(x: Array, name: str, train: bool) -> Array:
    """Returns batch norm by the batch (training) or by the running statistics."""
    return nn.BatchNorm(not train, momentum=MOMENTUM, epsilon=EPSILON, name=name)(x)


def _flax_relu_conv_bn(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    made = _conv_layer(nn.relu(xs[0]), a, f"{path}.conv")
    return _norm_layer(made, f"{path}.norm", train)


def _flax_linear(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    return nn.Dense(a["features"], name=path)(xs[0])


def _flax_avg_pool(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Mean over the pixels of a window; padding is not counted, as in NAS-Bench-201."""
    window, stride = (a["kernel"],) * 2, (a["stride"],) * 2
    sides: Any = ((a["padding"],) * 2,) * 2
    pooled = nn.avg_pool(xs[0], window, stride, sides, count_include_pad=False)
    return pooled.astype(xs[0].dtype)


def _flax_shift(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    n = a["pixels"]
    return jnp.pad(xs[0][:, n:, n:], ((0, 0), (0, n), (0, n), (0, 0)))


def _flax_zero(xs: Sequence[Array], a: Attributes, path: str, train: bool) -> Array:
    """Zeros, also where the input is not finite."""
    stride = a.get("stride") or 1
    return jnp.zeros_like(xs[0] if stride == 1 else xs[0][:, ::stride, ::stride])


def _plain(function: Callable[[Sequence[Array]], Array]) -> Callable[..., Array]:
    """Returns the flax form of a function of the inputs alone."""
    return lambda xs, attributes, path, train: function(xs)


_WINDOW = {"kernel": Attribute(1), "stride": Attribute(1), "padding": Attribute(0)}
_FEATURES = {"features": Attribute(1, optional=True)}
_GROUPS = {"groups": Attribute(1, optional=True)}

OPS: dict[str, Op] = {  # operation name -> its entry
    "conv": Op(
        _conv,
        lambda xs, a, path, train: _conv_layer(xs[0], a, path),
        {**_WINDOW, **_FEATURES, **_GROUPS, "bias": Attribute(optional=True, flag=True)},
    ),
    "relu_conv_bn": Op(
        _relu_conv_bn, _flax_relu_conv_bn, {**_WINDOW, **_FEATURES, **_GROUPS}
    ),
    "batch_norm": Op(
        _batch_norm, lambda xs, a, path, train: _norm_layer(xs[0], path, train)
    ),
    "relu": Op(_same, _plain(lambda xs: nn.relu(xs[0]))),
    "identity": Op(_same, _plain(lambda xs: xs[0])),
    "zero": Op(_zero, _flax_zero, {"stride": Attribute(1, optional=True)}),
    "avg_pool": Op(_avg_pool, _flax_avg_pool, _WINDOW),
    "global_avg_pool": Op(
        lambda shapes, a: Count((_image(shapes)[2],)),
        _plain(lambda xs: jnp.mean(xs[0], axis=(1, 2))),
    ),
    "flatten": Op(_flatten, _plain(lambda xs: xs[0].reshape(xs[0].shape[0], -1))),
    "concat": Op(_concat, _plain(lambda xs: jnp.concatenate(xs, axis=-1))),
    "shift": Op(_shift, _flax_shift, {"pixels": Attribute(1)}),
    "linear": Op(_linear, _flax_linear, {"features": Attribute(1)}),
    "sum": Op(_sum, _plain(lambda xs: functools.reduce(operator.add, xs))),
}
