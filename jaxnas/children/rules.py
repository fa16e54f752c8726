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


def _window(size: int, attributes: Attributes) -> int:
    """Returns the side that a window of a kernel, a stride and a padding leaves."""
    free = size + 2 * attributes["padding"] - attributes["kernel"]
    if free < 0:
        raise UserError(
            f"has a kernel of {attributes['kernel']} for a side of {size} padded by "
            f"{attributes['padding']}"
        )
    return free // attributes["stride"] + 1


def conv(inputs: Shapes, attributes: Attributes, name: str = "") -> Count:
    """Counts a square convolution; ``features`` None keeps the number of channels."""
    height, width, channels = one_image(inputs)
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


def relu_conv_bn(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts ReLU, a convolution without bias and batch norm."""
    made = conv(inputs, attributes, "conv")
    norm = _norm_arrays(made.shape[-1], "norm")
    return made._replace(arrays=made.arrays + norm)


def batch_norm(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts scale and shift; the arithmetic folds into the layer before."""
    shape = _one(inputs)
    return Count(shape, arrays=_norm_arrays(shape[-1]))


def avg_pool(inputs: Shapes, attributes: Attributes) -> Count:
    """Counts a mean over windows; free of multiplications by convention."""
    height, width, channels = one_image(inputs)
    if 2 * attributes["padding"] > attributes["kernel"]:
        raise UserError(
            f"has a padding of {attributes['padding']}, more than half of its kernel of "
            f"{attributes['kernel']}, so that some windows would hold no pixel"
        )
    return Count((_window(height, attributes), _window(width, attributes), channels))


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
