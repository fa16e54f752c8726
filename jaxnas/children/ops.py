"""The operation table: what each operation of a spec is, costs, and looks like in flax.

An entry holds the attributes that an operation has (``jaxnas/core/operations.py``), its
rule (shape, parameters, FLOPs, arrays, matrices) and its flax form. The torch forms stand
under the same names in ``jaxnas/analog/bridge/torch_net.py``, which runs without this
package.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from jaxnas.children import forms, rules, sequences
from jaxnas.children.rules import Attributes, Count, Shapes
from jaxnas.core.errors import UserError
from jaxnas.core.operations import OPERATIONS, Attribute


class Op(NamedTuple):
    """One operation: its attributes, its rule and its flax form."""

    rule: Callable[[Shapes, Attributes], Count]
    """Raises UserError with the end of a sentence that begins with the node's name."""
    flax: Callable[[Sequence[Array], Attributes, str, bool], Array]
    """(inputs, attributes, path, train) -> output, inside a compact module."""
    attributes: Mapping[str, Attribute]


def lookup(op: str, path: str, lack: str = "which has no cost rule") -> Op:
    """Returns the entry of an operation.

    Raises:
        UserError: there is none; the text names the node.
    """
    if op not in OPS:
        raise UserError(f"The node {path!r} is {op!r}, {lack}; known are {', '.join(OPS)}.")
    return OPS[op]


_TABLE: dict[str, tuple[Callable[..., Count], Callable[..., Array]]] = {
    "conv": (rules.conv, lambda xs, a, path, train: forms.conv_layer(xs[0], a, path)),
    "depthwise_conv": (rules.depthwise_conv, forms.depthwise_conv),
    "relu_conv_bn": (rules.relu_conv_bn, forms.relu_conv_bn),
    "batch_norm": (
        rules.batch_norm,
        lambda xs, a, path, train: forms.norm_layer(xs[0], path, train),
    ),
    "relu": (rules.same, forms.plain(lambda xs: nn.relu(xs[0]))),
    "identity": (rules.same, forms.plain(lambda xs: xs[0])),
    "zero": (rules.zero, forms.zero),
    "avg_pool": (rules.pool, forms.avg_pool),
    "global_avg_pool": (sequences.count_global_pool, sequences.global_avg_pool),
    "flatten": (rules.flatten, forms.plain(lambda xs: xs[0].reshape(xs[0].shape[0], -1))),
    "concat": (rules.concat, forms.plain(lambda xs: jnp.concatenate(xs, axis=-1))),
    "shift": (rules.shift, forms.shift),
    "linear": (rules.linear, forms.linear),
    "sum": (rules.add, forms.plain(lambda xs: functools.reduce(operator.add, xs))),
    "max_pool": (rules.pool, forms.max_pool),
    "multi_scale_pool": (rules.multi_scale_pool, forms.multi_scale_pool),
    "tanh": (rules.same, forms.plain(lambda xs: jnp.tanh(xs[0]))),
    "sigmoid": (rules.same, forms.plain(lambda xs: nn.sigmoid(xs[0]))),
    "swish": (rules.same, forms.plain(lambda xs: nn.swish(xs[0]))),
    "gelu": (rules.same, forms.plain(lambda xs: nn.gelu(xs[0], approximate=False))),
    "layer_norm": (rules.channel_norm, forms.layer_norm),
    "instance_norm": (rules.instance_norm, forms.instance_norm),
    "group_norm": (rules.group_norm, forms.group_norm),
    "dropout": (rules.same, forms.dropout),
    "pad_concat": (rules.pad_concat, forms.pad_concat),
    "gated_skip": (rules.gated_skip, forms.gated_skip),
    "attention_edge": (rules.attention_edge, forms.attention_edge),
    "embedding": (sequences.count_embedding, sequences.embedding),
    "gru": (sequences.count_gru, sequences.gru),
    "mask": (sequences.count_mask, sequences.mask),
    "global_max_pool": (sequences.count_global_pool, sequences.global_max_pool),
}  # operation name -> its rule and its flax form

OPS: dict[str, Op] = {name: Op(*parts, OPERATIONS[name]) for name, parts in _TABLE.items()}
