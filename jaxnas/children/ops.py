"""The operation table: what each operation of a spec is, costs, and looks like in flax.

An entry holds the attributes that an operation has, its rule (shape, parameters, FLOPs,
arrays, matrices) and its flax form. The torch forms stand under the same names in
``jaxnas/analog/bridge/torch_net.py``, which runs without this package.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from jaxnas.children import forms, rules
from jaxnas.children.rules import Attributes, Count, Shapes
from jaxnas.core.errors import UserError


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


_WINDOW = {"kernel": Attribute(1), "stride": Attribute(1), "padding": Attribute(0)}
_FEATURES = {"features": Attribute(1, optional=True)}
_GROUPS = {"groups": Attribute(1, optional=True)}

OPS: dict[str, Op] = {  # operation name -> its entry
    "conv": Op(
        rules.conv,
        lambda xs, a, path, train: forms.conv_layer(xs[0], a, path),
        {**_WINDOW, **_FEATURES, **_GROUPS, "bias": Attribute(optional=True, flag=True)},
    ),
    "relu_conv_bn": Op(
        rules.relu_conv_bn, forms.relu_conv_bn, {**_WINDOW, **_FEATURES, **_GROUPS}
    ),
    "batch_norm": Op(
        rules.batch_norm, lambda xs, a, path, train: forms.norm_layer(xs[0], path, train)
    ),
    "relu": Op(rules.same, forms.plain(lambda xs: nn.relu(xs[0]))),
    "identity": Op(rules.same, forms.plain(lambda xs: xs[0])),
    "zero": Op(rules.zero, forms.zero, {"stride": Attribute(1, optional=True)}),
    "avg_pool": Op(rules.avg_pool, forms.avg_pool, _WINDOW),
    "global_avg_pool": Op(
        lambda shapes, a: Count((rules.one_image(shapes)[2],)),
        forms.plain(lambda xs: jnp.mean(xs[0], axis=(1, 2))),
    ),
    "flatten": Op(rules.flatten, forms.plain(lambda xs: xs[0].reshape(xs[0].shape[0], -1))),
    "concat": Op(rules.concat, forms.plain(lambda xs: jnp.concatenate(xs, axis=-1))),
    "shift": Op(rules.shift, forms.shift, {"pixels": Attribute(1)}),
    "linear": Op(rules.linear, forms.linear, {"features": Attribute(1)}),
    "sum": Op(rules.add, forms.plain(lambda xs: functools.reduce(operator.add, xs))),
}
