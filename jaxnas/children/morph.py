"""Morphs of a trained network that keep its function: wider, deeper, with new skips.

Each takes a spec without blocks and its variables and returns both anew; the logits of the
new network equal those of the old one up to rounding, and training can go on from there.
References: Chen, Goodfellow and Shlens, Net2Net, ICLR 2016; Wei, Wang, Rui and Chen,
Network Morphism, ICML 2016.

What is preserved is the network in evaluation. In training batch norm divides by the
statistics of the batch: :func:`widen` and :func:`add_skip` keep that function too, since
copies have their origin's statistics; :func:`deepen` keeps it only as far as those of a
batch are those it was given ``images`` to measure. The momentum of an optimiser is not
carried over: :func:`jaxnas.children.train.fit` begins every training with none.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxnas.children.build import build
from jaxnas.children.count import layers
from jaxnas.children.forms import EPSILON
from jaxnas.children.rules import Shape
from jaxnas.children.walk import walk
from jaxnas.children.weights import from_arrays, to_arrays
from jaxnas.children.widening import WIDE, widened
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.types import Spec
from jaxnas.spaces.growth import WIDEST

RECTIFYING = ("relu", "relu_conv_bn")
"""Operations that take nothing of their input but its positive part."""


class Network(NamedTuple):
    """A network and its weights."""

    spec: Spec
    """Without blocks: see :func:`inlined`."""
    variables: dict[str, Any]
    """As :class:`jaxnas.children.build.Child` takes them, NumPy or JAX."""


def inlined(spec: Spec, variables: Mapping[str, Any]) -> Network:
    """Returns the same network without blocks: each use of one becomes nodes of its own.

    The node ``edge12`` of the block that ``cell0`` calls is ``cell0__edge12``.

    Raises:
        UserError: weights that are not the spec's, or two nodes that get one name.
    """
    checked = _checked(spec, variables)
    nodes: list[dict[str, Any]] = []
    paths: dict[str, str] = {}

    def visit(
        op: str, attributes: Mapping[str, Any], inputs: tuple[str, ...], path: str
    ) -> str:
        name = path.replace(".", "__")
        if name in paths.values() or name in spec["inputs"]:
            raise UserError(f"Two nodes would be called {name!r}; rename one of them.")
        paths[path] = name
        nodes.append(_node(name, op, inputs, attributes))
        return name

    values = walk(spec, {name: name for name in spec["inputs"]}, visit)
    outputs = {values[name]: kind for name, kind in spec["outputs"].items()}
    moved = {**spec, "blocks": {}, "nodes": nodes, "outputs": outputs}
    renamed = {
        collection: {_renamed(path, paths): layer for path, layer in group.items()}
        for collection, group in checked.variables.items()
    }
    return Network(moved, renamed)


def widen(
    spec: Spec,
    variables: Mapping[str, Any],
    name: str,
    features: int,
    key: Key[Array, ""],
) -> Network:
    """Returns the network with more features at a node, and at all that are added to it.

    Args:
        spec: without blocks.
        variables: of the network.
        name: a ``conv``, ``relu_conv_bn`` or ``linear``.
        features: wanted, more than there are.
        key: which channels are copied, and into which shares (see
            :mod:`jaxnas.children.channels`).

    Raises:
        UserError: no such node, one that makes no features, too few of them, the node
            feeds the output or the image is added to it, or something in the way whose
            function copies change: grouped convolutions, norms over channels, attention.
    """
    network = _flat(spec, variables)
    standing = _standing(network.spec, name)
    if standing["op"] not in WIDE:
        raise UserError(
            f"The node {name!r} ({standing['op']}) makes no features of its own; widen one "
            f"of {', '.join(n['name'] for n in spec['nodes'] if n['op'] in WIDE)}."
        )
    there = _shapes(network.spec)[name][-1]
    if not there < features <= WIDEST:
        raise UserError(
            f"The node {name!r} has {there} features and cannot be widened to {features}; "
            f"give more than it has, at most {WIDEST}."
        )
    return _checked(*widened(network.spec, network.variables, name, features, key))


def deepen(
    spec: Spec,
    variables: Mapping[str, Any],
    name: str,
    images: Float[Array | np.ndarray, "B *shape"] | None = None,
    kernel: int = 3,
) -> Network:
    """Returns the network with one more layer behind a node, which begins as identity.

    Behind a ``relu`` of images: convolution, batch norm, ReLU; of vectors: ``linear``,
    ReLU. Behind another node that ReLUs alone read: ``relu_conv_bn``. The rectified value
    is rectified again, which changes nothing.

    Args:
        spec: without blocks.
        variables: of the network.
        name: the node, called ``NAME_deepK`` behind.
        images: inputs ``[B, ...]`` from which the new batch norm takes its statistics, so
            that training sees nearly the same function too; mean 0 and variance 1 if None.
        kernel: side of the convolution, odd.

    Raises:
        UserError: no such node, an even kernel, or no ReLU that would follow the layer.
    """
    network = _flat(spec, variables)
    standing, shape = _standing(network.spec, name), _shapes(network.spec)[name]
    largest = 2 * max(shape[:2]) + 1
    if kernel % 2 == 0 or not 1 <= kernel <= largest:
        raise UserError(
            "The kernel must be odd, for its middle to be one, and at most "
            f"{largest}, which sees the whole value; not {kernel}."
        )
    window = {"kernel": kernel, "stride": 1, "padding": kernel // 2}
    new, features = _free(network.spec, f"{name}_deep"), {"features": shape[-1]}
    norm = None
    if standing["op"] == "relu" and len(shape) == 1:
        nodes = [_node(new, "linear", [name], features)]
        nodes.append(_node(f"{new}_relu", "relu", [new], {}))
        conv = new
    elif standing["op"] == "relu":
        attributes = {**window, **features, "bias": False}
        conv, norm = new, f"{new}_norm"
        nodes = [
            _node(conv, "conv", [name], attributes),
            _node(norm, "batch_norm", [conv], {}),
            _node(f"{new}_relu", "relu", [norm], {}),
        ]
    elif len(shape) == 3 and _all_rectify(network.spec, name):
        nodes = [_node(new, "relu_conv_bn", [name], {**window, **features})]
        conv, norm = f"{new}.conv", f"{new}.norm"
    else:
        raise UserError(
            f"A layer behind {name!r} ({standing['op']}) would have no ReLU before and "
            "after it; deepen at a relu, or at an image that only ReLUs read."
        )
    grown = _inserted(network.spec, name, nodes)
    params = {conv: _identity(kernel if len(shape) == 3 else 0, shape[-1])}
    made = _with(network.variables, params)
    if norm is None:
        return _checked(grown, made)
    zeros, ones = np.zeros(shape[-1], np.float32), np.ones(shape[-1], np.float32)
    made = _normed(made, norm, zeros, ones)
    if images is not None:
        made = _normed(made, norm, *_statistics(grown, made, conv, images))
    return _checked(grown, made)


def add_skip(spec: Spec, variables: Mapping[str, Any], source: str, target: str) -> Network:
    """Returns the network with a skip from one node to a later one.

    What read ``target`` now reads ``target + W source``, with ``W`` a convolution of 1x1,
    or a dense layer of vectors, that is zero at first. Its gradient is not zero.

    Raises:
        UserError: no such node, images of different sides, or a target that is not later
            or is the network's output.
    """
    network = _flat(spec, variables)
    order = [*spec["inputs"], *(item["name"] for item in spec["nodes"])]
    for name in (source, target):
        if name not in order:
            raise unknown_name("node", name, order)
    if order.index(source) >= order.index(target) or target in spec["inputs"]:
        raise UserError(
            f"A skip must lead to a later node; {target!r} is not behind {source!r}."
        )
    shapes = {**_shapes(spec), **{n: tuple(k["shape"]) for n, k in spec["inputs"].items()}}
    before, after = shapes[source], shapes[target]
    if before[:-1] != after[:-1]:
        raise UserError(
            f"A skip needs values of one height and width; {source!r} is {before} and "
            f"{target!r} is {after}."
        )
    new, features = _free(spec, f"{target}_skip"), {"features": after[-1]}
    shape = (before[-1], after[-1])
    if len(after) == 3:
        window = {"kernel": 1, "stride": 1, "padding": 0}
        layer = _node(new, "conv", [source], {**window, **features, "bias": False})
        weights = {"kernel": np.zeros((1, 1, *shape), np.float32)}
    else:
        layer = _node(new, "linear", [source], features)
        weights = {"kernel": np.zeros(shape), "bias": np.zeros(shape[1:])}
        weights = {leaf: value.astype(np.float32) for leaf, value in weights.items()}
    summed = _node(f"{new}_sum", "sum", [target, new], {})
    grown = _inserted(network.spec, target, [layer, summed])
    return _checked(grown, _with(network.variables, {new: weights}))


def _checked(spec: Spec, variables: Mapping[str, Any]) -> Network:
    """Returns the network with its weights in NumPy; refuses those that are not its own."""
    return Network(spec, from_arrays(build(spec), to_arrays(variables)))


def _flat(spec: Spec, variables: Mapping[str, Any]) -> Network:
    """Returns a checked network, which must have no blocks."""
    network = _checked(spec, variables)
    if any(item["op"] == "call" for item in spec["nodes"]):
        raise UserError(
            "The network has blocks, which are one description for several places; make "
            "them nodes with `inlined` before a morph."
        )
    return network


def _node(
    name: str, op: str, inputs: Sequence[str], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    return {"name": name, "op": op, "inputs": list(inputs), "attributes": dict(attributes)}


def _standing(spec: Spec, name: str) -> dict[str, Any]:
    """Returns a node that is not the output; UserError where there is none."""
    found = {item["name"]: item for item in spec["nodes"]}
    if name not in found:
        raise unknown_name("node", name, found)
    if name in spec["outputs"]:
        raise UserError(f"The node {name!r} is the network's output, which stays as it is.")
    return found[name]


def _shapes(spec: Spec) -> dict[str, Shape]:
    return {path: count.shape for path, count in layers(spec)}


def _free(spec: Spec, stem: str) -> str:
    """Returns ``STEM1``, or the next one that no node's name begins with."""
    names = [item["name"] for item in spec["nodes"]]
    numbers = (f"{stem}{i}" for i in itertools.count(1))
    return next(n for n in numbers if not any(name.startswith(n) for name in names))


def _all_rectify(spec: Spec, name: str) -> bool:
    readers = [item["op"] for item in spec["nodes"] if name in item["inputs"]]
    return bool(readers) and all(op in RECTIFYING for op in readers)


def _inserted(spec: Spec, name: str, nodes: list[dict[str, Any]]) -> Spec:
    """Returns the spec with nodes behind another, the last of them in its place.

    Raises:
        UserError: the node is the network's output.
    """
    _standing(spec, name)
    last, made = nodes[-1]["name"], []
    for item in spec["nodes"]:
        inputs = [last if value == name else value for value in item["inputs"]]
        made.append({**item, "inputs": inputs})
        if item["name"] == name:
            made += nodes
    return {**spec, "nodes": made}


def _identity(kernel: int, features: int) -> dict[str, np.ndarray]:
    """Returns weights of a convolution that changes nothing; of a dense layer when 0."""
    one = np.eye(features, dtype=np.float32)
    if not kernel:
        return {"kernel": one, "bias": np.zeros(features, np.float32)}
    weights = np.zeros((kernel, kernel, features, features), np.float32)
    weights[kernel // 2, kernel // 2] = one
    return {"kernel": weights}


def _with(variables: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    return {**variables, "params": {**variables["params"], **params}}


def _normed(
    variables: Mapping[str, Any], name: str, mean: np.ndarray, var: np.ndarray
) -> dict[str, Any]:
    """Returns variables with a batch norm that undoes its own normalisation."""
    made = _with(variables, {name: {"scale": np.sqrt(var + EPSILON), "bias": mean}})
    statistics = {**variables.get("batch_stats", {}), name: {"mean": mean, "var": var}}
    return {**made, "batch_stats": statistics}


def _statistics(
    spec: Spec, variables: Mapping[str, Any], name: str, images: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance of each channel that a convolution gives for images."""
    _, kept = build(spec).apply(
        variables, jnp.asarray(images), capture_intermediates=lambda m, _: m.name == name,
        mutable=["intermediates"],
    )  # fmt: skip
    values: Any = kept["intermediates"][name]["__call__"][0]
    axes = tuple(range(values.ndim - 1))
    return np.asarray(jnp.mean(values, axes)), np.asarray(jnp.var(values, axes))


def _renamed(layer: str, paths: Mapping[str, str]) -> str:
    """Returns the name of a layer, ``PATH`` or ``PATH.part``, without blocks."""
    if layer in paths:
        return paths[layer]
    path, _, part = layer.rpartition(".")
    return f"{paths[path]}.{part}"
