"""Shape rules and counts of the operations: what a node makes of its inputs and costs.

Images are ``[H, W, C]`` (channels last) and vectors ``[F]``, without the batch. A rule
raises ``UserError`` with the end of a sentence that begins with the node's name.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxnas.core.errors import UserError
from jaxnas.core.types import Matrix

Shape = tuple[int, ...]
"""Height, width, channels of an image, or the features of a vector; no batch axis."""
Attributes = Mapping[str, Any]
Shapes = Sequence[Shape]


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


def _one(inputs: Shapes) -> Shape:
    if len(inputs) != 1:
        raise UserError(f"needs one input, got {list(inputs)}")
    return inputs[0]


def one_image(inputs: Shapes) -> Shape:
    """Returns the only input, an image."""
    if len(inputs) != 1 or len(inputs[0]) != 3:
        raise UserError(f"needs one image (height, width, channels), got {list(inputs)}")
    return inputs[0]


def window(attributes: Attributes) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns kernel and padding of height and width, alike where only one is given."""
    kernel, padding = attributes["kernel"], attributes["padding"]
    wide, pad = attributes.get("kernel_width"), attributes.get("padding_width")
    sides = (kernel, wide or kernel), (padding, padding if pad is None else pad)
    return sides


def _sides(shape: Shape, attributes: Attributes) -> tuple[int, int]:
    """Returns height and width that a window of a kernel, a stride and a padding leaves."""
    made = []
    for size, kernel, padding in zip(shape, *window(attributes)):
        free = size + 2 * padding - kernel
        if free < 0:
            raise UserError(
                f"has a kernel of {kernel} for a side of {size} padded by {padding}"
            )
        made.append(free // attributes["stride"] + 1)
    return made[0], made[1]


def conv(inputs: Shapes, attributes: Attributes, name: str = "") -> Count:
    """Counts a convolution; ``features`` None keeps the number of channels."""
    shape = one_image(inputs)
    channels = shape[2]
    features = attributes.get("features") or channels
    groups, kernel = attributes.get("groups") or 1, window(attributes)[0]
    if channels % groups or features % groups:
        raise UserError(f"cannot split {channels} -> {features} channels into {groups}")
    out = (*_sides(shape, attributes), features)
    pixels, dot = out[0] * out[1], f"{name}." if name else ""
    weight: Shape = (features, channels // groups, *kernel)
    arrays: list[tuple[str, Shape]] = [(f"{dot}weight", weight)]
    if attributes.get("bias", False):
        arrays.append((f"{dot}bias", (features,)))
    rows = math.prod(kernel) * channels // groups
    matrix = Matrix(name, rows, features // groups, pixels, groups)
    flops = pixels * sum(math.prod(shape) for _, shape in arrays)
    return Count(out, flops, tuple(arrays), (matrix,))


def depthwise_conv(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts a convolution of each channel by itself, without bias."""
    return conv(inputs, {**attributes, "groups": one_image(inputs)[2]})


def _norm_arrays(features: int, name: str = "") -> tuple[tuple[str, Shape], ...]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return tuple((f"{name}.{part}" if name else part, (features,)) for part in parts)


def relu_conv_bn(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts ReLU, a convolution without bias and batch norm."""
    made = conv(inputs, attributes, "conv")
    norm = _norm_arrays(made.shape[-1], "norm")
    return made._replace(arrays=made.arrays + norm)


def batch_norm(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts scale and shift; the arithmetic folds into the layer before."""
    shape = _one(inputs)
    return Count(shape, arrays=_norm_arrays(shape[-1]))


def pool(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts a mean or a maximum over windows; free of multiplications by convention."""
    shape = one_image(inputs)
    if 2 * attributes["padding"] > attributes["kernel"]:
        raise UserError(
            f"has a padding of {attributes['padding']}, more than half of its kernel of "
            f"{attributes['kernel']}, so that some windows would hold no pixel"
        )
    return Count((*_sides(shape, attributes), shape[2]))


def flatten(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts an image read as one vector: rows, then columns, then channels."""
    return Count((math.prod(one_image(inputs)),))


def concat(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts the channels of images of one size, joined."""
    if len({shape[:-1] for shape in inputs}) != 1 or len(inputs[0]) != 3:
        raise UserError(f"joins the channels of different images {list(inputs)}")
    return Count((*inputs[0][:-1], sum(shape[-1] for shape in inputs)))


def shift(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts an image moved up and left by ``pixels``, zeros where nothing arrives."""
    shape = one_image(inputs)
    if attributes["pixels"] >= min(shape[:2]):
        raise UserError(
            f"moves an image of {shape[0]} x {shape[1]} by {attributes['pixels']} pixels, "
            "which leaves nothing of it"
        )
    return Count(shape)


def linear(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts a dense layer with bias."""
    if len(inputs) != 1 or len(inputs[0]) != 1:
        raise UserError(f"needs one vector, got {list(inputs)}")
    rows, features = inputs[0][0], attributes["features"]
    arrays = (("weight", (features, rows)), ("bias", (features,)))
    matrix = Matrix("", rows, features, 1)
    return Count((features,), (rows + 1) * features, arrays, (matrix,))


def add(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts the sum of values of one shape."""
    if len(set(inputs)) != 1:
        raise UserError(f"adds values of different shapes {list(inputs)}")
    return Count(inputs[0])


def zero(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts zeros in place of every ``stride``-th row and column."""
    shape, stride = _one(inputs), attributes.get("stride") or 1
    if stride == 1:
        return Count(shape)
    height, width, channels = one_image(inputs)
    return Count((-(-height // stride), -(-width // stride), channels))


def same(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts an operation that keeps the shape and costs nothing."""
    return Count(_one(inputs))


def multi_scale_pool(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts a mean of means over windows of 1, 3, 5, ... pixels, stride 1."""
    return Count(one_image(inputs))


def channel_norm(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts scale and shift of each channel; statistics are those of one input."""
    shape = _one(inputs)
    return Count(shape, arrays=(("weight", shape[-1:]), ("bias", shape[-1:])))


def instance_norm(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts :func:`channel_norm`; a vector has nothing to take statistics over."""
    if len(_one(inputs)) < 2:
        raise UserError(f"needs an image or a sequence, got {list(inputs)}")
    return channel_norm(inputs, attributes)


def norm_groups(channels: int, attributes: Attributes) -> int:
    """Returns the groups of a group norm: as asked for, else what divides, at most 8."""
    return attributes.get("groups") or math.gcd(channels, 8)


def group_norm(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts :func:`channel_norm` where the groups divide the channels."""
    channels = _one(inputs)[-1]
    if channels % norm_groups(channels, attributes):
        raise UserError(
            f"cannot split {channels} channels into {norm_groups(channels, attributes)}"
        )
    return channel_norm(inputs, attributes)


def pad_concat(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts the channels of images, each padded below and right to the largest."""
    if any(len(shape) != 3 for shape in inputs):
        raise UserError(f"joins images, got {list(inputs)}")
    height, width = (max(shape[i] for shape in inputs) for i in (0, 1))
    return Count((height, width, sum(shape[2] for shape in inputs)))


def dense(name: str, rows: int, features: int, uses: int) -> Count:
    """Counts a dense layer that is used at many places; the shape is left empty."""
    arrays = ((f"{name}.weight", (features, rows)), (f"{name}.bias", (features,)))
    matrix = Matrix(name, rows, features, uses)
    return Count((), uses * (rows + 1) * features, arrays, (matrix,))


def gated_skip(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts a gate between two values of one shape: a dense layer on means, one output."""
    if len(inputs) != 2 or inputs[0] != inputs[1]:
        raise UserError(f"chooses between two values of one shape, got {list(inputs)}")
    return dense("gate", inputs[0][-1], 1, 1)._replace(shape=inputs[0])


def attention_edge(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts attention of one head from each place of a value to all of another.

    FLOPs are those of the three projections and of the two products, scores and sum. The
    ids of a text, as a last input, say to which places none attends.
    """
    inputs = inputs[:-1] if len(inputs) > 1 and len(inputs[-1]) == 1 else inputs
    if len(inputs) not in (1, 2) or any(len(shape) < 2 for shape in inputs):
        raise UserError(f"needs one or two images or sequences, got {list(inputs)}")
    (*places, features), (*others, rows) = inputs[0], inputs[-1]
    n, m = math.prod(places), math.prod(others)
    parts = (
        dense("query", features, features, n),
        dense("key", rows, features, m),
        dense("value", rows, features, m),
    )
    flops = sum(part.flops for part in parts) + 2 * n * m * features
    arrays = tuple(array for part in parts for array in part.arrays)
    matrices = tuple(matrix for part in parts for matrix in part.matrices)
    return Count(inputs[0], flops, arrays, matrices)
