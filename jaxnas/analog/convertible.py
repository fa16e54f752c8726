"""Where each operation of a network goes on analog hardware, or why it cannot go there.

The one table of it: the JAX simulator, aihwkit and every exported format ask here, before a
search, a validation or an export begins. An operation that the table lacks is refused by
everything analog, so one that is new is never silently left digital.
"""

from collections.abc import Mapping
from typing import NamedTuple

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.operations import OPERATIONS
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Spec
from jaxnas.spaces.operations import operations_of, ops_of

TARGETS: Mapping[str, str] = {
    "analog": "the JAX simulator (the oracle analog, jaxnas validate)",
    "aihwkit": "aihwkit's torch tile (jaxnas validate, the export aihwkit)",
    "torch": "the export torch",
    "onnx": "the export onnx",
    "stablehlo": "the export stablehlo",
    "safetensors": "the export safetensors",
    "spec": "the export spec",
}  # where a network can go
ON_TILES = ("analog", "aihwkit")
"""Targets with tiles; the others are digital and take every operation there is."""


class Placement(NamedTuple):
    """What becomes of one operation on analog hardware."""

    tiles: str  # what the tiles hold; empty where nothing
    digital: str  # what stays digital and exact
    refused: Mapping[str, str] = {}
    """Reason by target that cannot take it, the end of a sentence after *because*."""


_DIGITAL = Placement("", "all of it")
TABLE: Mapping[str, Placement] = {
    "conv": Placement("its kernel, one matrix a group", "its bias"),
    "depthwise_conv": Placement("its kernel, one matrix a channel", ""),
    "relu_conv_bn": Placement("its kernel, one matrix a group", "ReLU and batch norm"),
    "linear": Placement("its weights", "its bias"),
    "gated_skip": Placement(
        "the gate's weights, one column", "its bias, the means, the sigmoid, the mixture"
    ),
    "attention_edge": Placement(
        "the weights of query, key and value, each used at every place",
        "their biases, the scores, the softmax, the weighted sum",
    ),
    "gru": Placement(
        "the two matrices, that of the state used at every place",
        "their biases and the gates",
        {"analog": "its state goes from place to place in a loop of its own"},
    ),
    "embedding": Placement("", "its table, whose rows are looked up"),
    **dict.fromkeys(
        (
            "batch_norm", "relu", "identity", "zero", "avg_pool", "global_avg_pool",
            "flatten", "concat", "shift", "sum", "max_pool", "multi_scale_pool", "tanh",
            "sigmoid", "swish", "gelu", "layer_norm", "instance_norm", "group_norm",
            "dropout", "pad_concat", "mask", "global_max_pool",
        ),
        _DIGITAL,
    ),
}  # fmt: skip
"""The placement of each operation."""


def refusal(
    operation: str, target: str, table: Mapping[str, Placement] = TABLE
) -> str | None:
    """Returns why a target cannot take an operation, or None where it can.

    Raises:
        UserError: an unknown target.
    """
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    if operation in table:
        return table[operation].refused.get(target)
    if target in ON_TILES:
        return "nobody has said what of it tiles hold (jaxnas/analog/convertible.py)"
    return None if operation in OPERATIONS else "it is no operation of this jaxnas"


def check_space(
    space: SearchSpace, target: str, table: Mapping[str, Placement] = TABLE
) -> None:
    """Refuses a space that can name an operation which a target cannot take.

    Raises:
        UserError: one sentence with the operation, the decision and the reason.
    """
    found = refused(space, target, table)
    if not found:
        return
    operation, (where, reason) = min(found.items())
    raise UserError(
        f"The space {space.id!r} cannot go to {TARGETS[target]}: {operation!r}, put there "
        f"by {where}, is refused because {reason}; leave it out of the space, or pin what "
        "decides it to another value."
    )


def refused(
    space: SearchSpace, target: str, table: Mapping[str, Placement] = TABLE
) -> dict[str, tuple[str, str]]:
    """Returns what puts each operation there that a target cannot take, and the reason."""
    found = {op: (w, refusal(op, target, table)) for op, w in operations_of(space).items()}
    return {op: (where, reason) for op, (where, reason) in found.items() if reason}


def check_spec(spec: Spec, target: str, table: Mapping[str, Placement] = TABLE) -> None:
    """Refuses a network with an operation that a target cannot take.

    Raises:
        UserError: one sentence with the node, the operation and the reason.
    """
    for operation in ops_of(spec):
        reason = refusal(operation, target, table)
        if reason:
            decided = f" of {spec['choices']}" if spec.get("choices") else ""
            raise UserError(
                f"The network{decided} cannot go to {TARGETS[target]}: {operation!r} is "
                f"refused because {reason}; choose an architecture without it."
            )
