"""More features at one node of a spec: which channels copy which, followed to the logits.

A value of the wider network has at each of its channels a channel of the old network. The
walk carries these origins from node to node and copies weights as it goes, so that what a
copy reaches (norms, concatenations, a flattened image, the next layers) follows by itself.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from jaxnas.children.channels import copied, mixed, origins
from jaxnas.children.count import layers
from jaxnas.children.walk import walk
from jaxnas.core.errors import UserError
from jaxnas.core.types import Spec

WIDE = ("conv", "relu_conv_bn", "linear")
"""Operations that make features of their own, every one from all that arrive."""
EACH = (
    "batch_norm", "relu", "identity", "zero", "avg_pool", "global_avg_pool", "shift",
    "max_pool", "multi_scale_pool", "tanh", "sigmoid", "swish", "gelu", "instance_norm",
    "dropout", "depthwise_conv",
)  # fmt: skip
"""Operations that treat each channel by itself, with or without weights for it."""
JOINING = ("concat", "pad_concat")


class Channels(NamedTuple):
    """What stands in the channels of a value of the wider network."""

    origin: Int[np.ndarray, "n"]
    """Channel of the old value that each is a copy of."""
    old: int
    """Channels of the old value."""

    @property
    def plain(self) -> bool:
        """Whether nothing was copied."""
        same = len(self.origin) == self.old
        return same and bool((self.origin == np.arange(self.old)).all())


def _plain(channels: int) -> Channels:
    return Channels(np.arange(channels, dtype=np.int32), channels)


class _Walk(NamedTuple):
    """What one walk reads and writes."""

    tied: Sequence[str]
    """Nodes that are widened alike."""
    chosen: Int[np.ndarray, "n"]
    """Origins of their features."""
    shapes: Mapping[str, tuple[int, ...]]
    variables: dict[str, dict[str, Any]]
    """Changed in place."""
    features: dict[str, int]
    """Filled: features of nodes whose attribute must say them."""
    key: Key[Array, ""]


def widened(
    spec: Spec,
    variables: Mapping[str, Any],
    name: str,
    features: int,
    key: Key[Array, ""],
) -> tuple[Spec, dict[str, Any]]:
    """Returns spec and variables with ``features`` at a node: see ``morph.widen``.

    Raises:
        UserError: something that copies would change; the text names the node.
    """
    shapes = {path: count.shape for path, count in layers(spec)}
    shapes.update({n: tuple(kind["shape"]) for n, kind in spec["inputs"].items()})
    tied = _tied(spec, shapes, name)
    pick, split = jax.random.split(key)
    drawn = jax.random.uniform(pick, (features,), jnp.float32)
    chosen = np.asarray(origins(drawn, shapes[name][-1], features))
    made = {group: dict(inner) for group, inner in variables.items()}
    state = _Walk(tied, chosen, shapes, made, {}, split)
    start = {n: _plain(shapes[n][-1]) for n in spec["inputs"]}
    values = walk(spec, start, lambda *node: _visit(state, *node))
    for output in spec["outputs"]:
        if not values[output].plain:
            raise UserError(
                f"The features of {name!r} are those of the output {output!r}, which stay "
                "as many; widen an earlier node."
            )
    nodes = [
        {**item, "attributes": {**item["attributes"], "features": state.features[n]}}
        if (n := item["name"]) in state.features
        else item
        for item in spec["nodes"]
    ]
    return {**spec, "nodes": nodes}, made


def _tied(spec: Spec, shapes: Mapping[str, tuple[int, ...]], name: str) -> list[str]:
    """Returns the nodes whose features are added to those of a node, itself among them."""
    parent: dict[str, str] = {}

    def root(label: str) -> str:
        while label in parent:
            label = parent[label]
        return label

    def join(one: str, other: str) -> None:
        if root(one) != root(other):
            parent[root(one)] = root(other)

    def visit(
        op: str, attributes: Mapping[str, Any], inputs: tuple[tuple[str, ...], ...], at: str
    ) -> tuple[str, ...]:
        if op in EACH:
            return inputs[0]
        if op in JOINING:
            return tuple(itertools.chain(*inputs))
        if op != "sum":
            return (at,)
        for other in inputs[1:]:
            alike = len(other) == len(inputs[0])
            pairs = zip(inputs[0], other, strict=True) if alike else ()
            for pair in pairs or itertools.product(inputs[0], other):
                join(*pair)
        return inputs[0]

    walk(spec, {n: (n,) for n in spec["inputs"]}, visit)
    ops = {item["name"]: item["op"] for item in spec["nodes"]}
    tied = [label for label in (*spec["inputs"], *ops) if root(label) == root(name)]
    for other in tied:
        if ops.get(other) not in WIDE or shapes[other][-1] != shapes[name][-1]:
            raise UserError(
                f"The features of {name!r} are added to those of {other!r}, which cannot "
                "become more in the same way; widen another node."
            )
    return tied


def _visit(
    state: _Walk, op: str, attributes: Mapping[str, Any], inputs: Any, path: str
) -> Channels:
    """Copies the weights of one node; returns the origins of what it gives."""
    if op in WIDE:
        return _wide(state, op, attributes, inputs[0], path)
    if op in EACH:
        if not inputs[0].plain:
            _each(state, path, inputs[0].origin)
        return inputs[0]
    if op == "sum":
        if any(not np.array_equal(inputs[0].origin, v.origin) for v in inputs):
            raise UserError(
                f"The node {path!r} adds values whose channels would no longer belong "
                "together; widen another node."
            )
        return inputs[0]
    if op in JOINING:
        ends = itertools.accumulate((v.old for v in inputs), initial=0)
        parts = [v.origin + np.int32(end) for v, end in zip(inputs, ends)]
        return Channels(np.concatenate(parts), sum(v.old for v in inputs))
    if op == "flatten":
        (value,), pixels = inputs, state.shapes[path][0] // inputs[0].old
        places = np.arange(pixels, dtype=np.int32)[:, None] * np.int32(value.old)
        return Channels((places + value.origin).reshape(-1), pixels * value.old)
    if not all(value.plain for value in inputs):
        raise UserError(
            f"The node {path!r} ({op}) would compute something else of copied channels; "
            "widen a node that it does not read."
        )
    return _plain(state.shapes[path][-1])


def _wide(
    state: _Walk, op: str, attributes: Mapping[str, Any], came: Channels, path: str
) -> Channels:
    old = state.shapes[path][-1]
    gives = Channels(state.chosen, old) if path in state.tied else _plain(old)
    if came.plain and gives.plain:
        return gives
    if (groups := attributes.get("groups") or 1) != 1:
        raise UserError(
            f"The node {path!r} splits its channels into {groups} groups, which copies "
            "would mix; widen a node that no grouped convolution reads or makes."
        )
    params = state.variables["params"]
    layer = f"{path}.conv" if op == "relu_conv_bn" else path
    key = jax.random.fold_in(state.key, len(state.features))
    state.features[path] = len(gives.origin)
    goes, shape = jnp.asarray(gives.origin), (len(came.origin), len(gives.origin))
    drawn = jax.random.uniform(key, shape, jnp.float32)
    params[layer] = mixed(drawn, params[layer], jnp.asarray(came.origin), goes)
    if op == "relu_conv_bn":
        _each(state, f"{path}.norm", gives.origin)
    return gives


def _each(state: _Walk, layer: str, origin: Int[np.ndarray, "n"]) -> None:
    """Copies the channels of a layer in every collection that has it."""
    for group in state.variables.values():
        if layer in group:
            group[layer] = copied(group[layer], jnp.asarray(origin))
