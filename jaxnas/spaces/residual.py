"""Residual blocks of the AnalogNAS macro network, as blocks of a spec.

Branch types A and B are those of the figure in the AnalogNAS tutorial. C and D stand in it
without a description anywhere, so theirs are **ours**: a depthwise-separable and a single
convolution. IBM's code reads the type and builds A whatever it is.
"""

from typing import Any

from jaxnas.spaces import spec as sp

TYPES = "ABCD"
"""A two 3x3; B bottleneck 1x1, 3x3, 1x1; C depthwise 3x3, 1x1 (ours); D one 3x3 (ours)."""
BOTTLENECK = 4  # output channels of a bottleneck over its inner ones, as in He et al., 2016


def branch(kind: str, channels: int, features: int) -> dict[str, Any]:
    """Returns one branch; ReLU comes first and batch norm after the last convolution.

    Weights, with ``i`` channels in, ``o`` features out and ``m = max(1, o // 4)``::

        A: 9 i o + 9 o^2 + 4 o              B: i m + 9 m^2 + m o + 4 m + 2 o
        C: 9 i + i o + 2 o                  D: 9 i o + 2 o
    """
    inner = max(1, features // BOTTLENECK)
    if kind == "A":
        nodes = [_conv("conv_a", "in", 3, features), _conv("conv_b", "conv_a", 3, features)]
    elif kind == "B":
        nodes = [
            _conv("reduce", "in", 1, inner),
            _conv("conv", "reduce", 3, inner),
            _conv("expand", "conv", 1, features),
        ]
    elif kind == "C":
        nodes = [
            sp.node("relu", "relu", ["in"]),
            _plain("depthwise", "relu", 3, channels, groups=channels),
            _plain("pointwise", "depthwise", 1, features),
            sp.node("norm", "batch_norm", ["pointwise"]),
        ]
    else:
        nodes = [_conv("conv", "in", 3, features)]
    return sp.block(["in"], nodes, [nodes[-1]["name"]])


def skip(features: int) -> dict[str, Any]:
    """Returns the skip of a block that changes the channels, ``i o + 2 o`` weights.

    Half of the features come from the rectified map and the other half from the map itself
    moved by one pixel, each through a 1x1 convolution (the skip of Gastaldi, 2017).
    """
    half = features // 2
    nodes = [
        sp.node("relu", "relu", ["in"]),
        _plain("conv_relu", "relu", 1, half),
        sp.node("shift", "shift", ["in"], pixels=1),
        _plain("conv_shift", "shift", 1, features - half),
        sp.node("concat", "concat", ["conv_relu", "conv_shift"]),
        sp.node("norm", "batch_norm", ["concat"]),
    ]
    return sp.block(["in"], nodes, ["norm"])


def residual_blocks(
    prefix: str, kind: str, channels: int, features: int, branches: int
) -> dict[str, dict[str, Any]]:
    """Returns the blocks ``prefix``, its branch and, where channels change, its skip.

    The value of a residual block is the sum of its parallel branches and of the skip.
    """
    nodes = [
        sp.node(f"branch{i + 1}", "call", ["in"], block=f"{prefix}_branch")
        for i in range(branches)
    ]
    summed = [item["name"] for item in nodes]
    blocks = {f"{prefix}_branch": branch(kind, channels, features)}
    if channels == features:
        summed.append("in")
    else:
        nodes.append(sp.node("skip", "call", ["in"], block=f"{prefix}_skip"))
        summed.append("skip")
        blocks[f"{prefix}_skip"] = skip(features)
    nodes.append(sp.node("out", "sum", summed))
    return {prefix: sp.block(["in"], nodes, ["out"]), **blocks}


def _conv(name: str, source: str, kernel: int, features: int) -> dict[str, Any]:
    """Returns ReLU, a convolution that keeps the image's sides, batch norm."""
    window = {"kernel": kernel, "stride": 1, "padding": kernel // 2}
    return sp.node(name, "relu_conv_bn", [source], **window, features=features)


def _plain(
    name: str, source: str, kernel: int, features: int, groups: int = 1
) -> dict[str, Any]:
    """Returns a convolution without bias that keeps the image's sides."""
    window = {"kernel": kernel, "stride": 1, "padding": kernel // 2}
    sizes = {**window, "features": features, "groups": groups, "bias": False}
    return sp.node(name, "conv", [source], **sizes)
