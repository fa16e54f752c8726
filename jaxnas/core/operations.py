"""The operations that a spec can name and their attributes: the grammar of a network.

What an operation costs and computes in flax stands under the same name in
``jaxnas/children/ops.py``, in torch in ``jaxnas/analog/bridge/torch_net.py``.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Attribute(NamedTuple):
    """What an attribute may be: a whole number, a real one or a flag."""

    least: int = 1
    optional: bool = False  # whether it may be left out or null
    flag: bool = False  # true or false instead of a number
    share: bool = False  # a real number from 0 to below 1


_WINDOW = {"kernel": Attribute(1), "stride": Attribute(1), "padding": Attribute(0)}
_WIDE = {  # of a window that is not square; those of the height where left out
    "kernel_width": Attribute(1, optional=True),
    "padding_width": Attribute(0, optional=True),
}
_FEATURES = {"features": Attribute(1, optional=True)}
_GROUPS = {"groups": Attribute(1, optional=True)}

OPERATIONS: Mapping[str, Mapping[str, Attribute]] = {
    "conv": {
        **_WINDOW, **_WIDE, **_FEATURES, **_GROUPS,
        "bias": Attribute(optional=True, flag=True),
    },
    "depthwise_conv": _WINDOW,
    "relu_conv_bn": {**_WINDOW, **_FEATURES, **_GROUPS},
    "batch_norm": {},
    "relu": {},
    "identity": {},
    "zero": {"stride": Attribute(1, optional=True)},
    "avg_pool": _WINDOW,
    "global_avg_pool": {},
    "flatten": {},
    "concat": {},
    "shift": {"pixels": Attribute(1)},
    "linear": {"features": Attribute(1)},
    "sum": {},
    "max_pool": _WINDOW,
    "multi_scale_pool": {"scales": Attribute(2)},
    "tanh": {},
    "sigmoid": {},
    "swish": {},
    "gelu": {},
    "layer_norm": {},
    "instance_norm": {},
    "group_norm": _GROUPS,
    "dropout": {"rate": Attribute(share=True)},
    "pad_concat": {},
    "gated_skip": {},
    "attention_edge": {},
    "embedding": {"vocabulary": Attribute(3), "features": Attribute(1)},
    "gru": {"features": Attribute(1), "backward": Attribute(optional=True, flag=True)},
    "mask": {},
    "global_max_pool": {},
}  # fmt: skip
