"""Networks that people draw, as specs, to be trained beside those that a search found.

Three of them, for any images: a shortened VGG (Simonyan and Zisserman, 2015), a residual
network of three stages of one block each (He et al., 2016, the form for CIFAR) and a plain
network such as one writes by hand. Batch norm stands behind every convolution, so that the
step sizes of the searched cells suit them too. An image is halved only while its shorter
side is 2 pixels or more.
"""

from collections.abc import Callable
from typing import Any

from jaxnas.core.errors import UserError
from jaxnas.core.types import Spec
from jaxnas.spaces import spec as sp

Image = tuple[int, int, int]
DENSE = 8
"""Units of the hidden layer of the VGG-like network, in multiples of the width."""
DROPOUT = 0.4
VGG_BLOCKS = 2
"""Blocks of the VGG-like network; large images get more, until a side is 8 or less."""
WIDEST = 8
"""Most channels of a layer, in multiples of the width."""


class _Net:
    """A network that is being written, node by node."""

    def __init__(self, image: Image) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.side = min(image[:2])
        self.last = "image"

    def add(self, op: str, *more: str, source: str | None = None, **attributes: Any) -> str:
        """Appends an operation on ``source``, or on what was made last, and names it."""
        name = f"{op}{len(self.nodes)}"
        inputs = [source or self.last, *more]
        self.nodes.append(sp.node(name, op, inputs, **attributes))
        self.last = name
        return name

    def conv(self, features: int, kernel: int = 3, stride: int = 1) -> str:
        """Appends a convolution without bias and batch norm."""
        window = {"kernel": kernel, "stride": stride, "padding": kernel // 2}
        sizes: dict[str, Any] = {**window, "features": features, "groups": 1, "bias": False}
        self.add("conv", **sizes)
        return self.add("batch_norm")

    def halve(self) -> None:
        """Appends max pooling where there is something to pool."""
        if self.side >= 2:
            self.add("max_pool", kernel=2, stride=2, padding=0)
            self.side //= 2


def vgg(image: Image, classes: int, width: int) -> list[dict[str, Any]]:
    """Returns blocks of two 3x3 convolutions and pooling, a hidden layer, dropout."""
    net = _Net(image)
    blocks = VGG_BLOCKS
    while net.side >> blocks > 8:
        blocks += 1
    for block in range(blocks):
        for _ in range(2):
            net.conv(width * min(2**block, WIDEST))
            net.add("relu")
        net.halve()
    net.add("flatten")
    net.add("linear", features=DENSE * width)
    net.add("relu")
    net.add("dropout", rate=DROPOUT)
    return _ended(net, classes)


def resnet(image: Image, classes: int, width: int) -> list[dict[str, Any]]:
    """Returns three stages of one basic block, halved by strides, and global pooling."""
    net = _Net(image)
    net.conv(width)
    net.add("relu")
    for stage in range(3):
        features, stride = width * 2**stage, 1 + (stage > 0)
        source = net.last
        net.conv(features, stride=stride)
        net.add("relu")
        main = net.conv(features)
        if stage:
            net.last = source
            source = net.conv(features, kernel=1, stride=stride)
        net.add("sum", source, source=main)
        net.add("relu")
    net.add("global_avg_pool")
    return _ended(net, classes)


def plain(image: Image, classes: int, width: int) -> list[dict[str, Any]]:
    """Returns three times convolution, batch norm, ReLU and pooling; global pooling."""
    net = _Net(image)
    for layer in range(3):
        net.conv(width * 2**layer)
        net.add("relu")
        if layer < 2:
            net.halve()
    net.add("global_avg_pool")
    return _ended(net, classes)


def _ended(net: _Net, classes: int) -> list[dict[str, Any]]:
    nodes = net.nodes
    return [*nodes, sp.node("logits", "linear", [net.last], features=classes)]


REFERENCES: dict[str, Callable[[Image, int, int], list[dict[str, Any]]]] = {
    "VGG-like": vgg,
    "ResNet-like": resnet,
    "hand-made CNN": plain,
}


def reference(name: str, image: Image, classes: int, width: int = 16) -> Spec:
    """Returns the spec of a reference network.

    Args:
        name: one of ``REFERENCES``.
        image: height, width, channels.
        classes: of the data set.
        width: channels of the first layer; later ones have multiples of it.

    Raises:
        UserError: a width or number of classes below 1.
    """
    if width < 1 or classes < 1:
        raise UserError(f"Width and classes must be at least 1, got {width}, {classes}.")
    return {
        "format": sp.FORMAT,
        "space": f"reference:{name}",
        "inputs": {"image": sp.image(*image)},
        "outputs": {"logits": sp.vector(classes)},
        "blocks": {},
        "nodes": REFERENCES[name](image, classes, width),
    }
