"""NAS-Bench-201 cells: six edges, five operations, 15,625 architectures.

Tokens are in the encoding of AnalogNAS-Bench: edges 1->2, 1->3, 1->4, 2->3, 2->4, 3->4
(node 1 is the cell's input, node 4 its output), operations 0 skip, 1 none, 2 conv 3x3,
3 conv 1x1, 4 average pool 3x3. The NAS-Bench-201 string lists the edges in another order;
:func:`to_string` and :func:`from_string` convert.
"""

import functools
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.space import Value
from jaxnas.core.types import Graph, Spec
from jaxnas.spaces import spec as sp

EDGES = ((1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4))
"""Edge of each token, as (from node, to node)."""
OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
"""Published name of each token value."""
SKIP, NONE = 0, 1
_STRING_EDGES = (0, 1, 3, 2, 4, 5)
_ARRIVING = {2: (0,), 3: (1, 3), 4: (2, 4, 5)}
_SPEC_OPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("identity", {}),
    ("zero", {}),
    ("relu_conv_bn", {"kernel": 3, "stride": 1, "padding": 1, "features": None}),
    ("relu_conv_bn", {"kernel": 1, "stride": 1, "padding": 0, "features": None}),
    ("avg_pool", {"kernel": 3, "stride": 1, "padding": 1}),
)


@dataclass(frozen=True)
class NB201:
    """The NAS-Bench-201 cell space, in the published network of 16 channels and 5 cells.

    Args:
        channels: of the first stage; they double twice.
        cells: per stage.
        num_classes: of the data set.
        image: height, width and channels of an input.

    Raises:
        UserError: a size that no network has.
    """

    channels: int = 16
    cells: int = 5
    num_classes: int = 10
    image: tuple[int, int, int] = (32, 32, 3)

    def __post_init__(self) -> None:
        if min(self.channels, self.cells, self.num_classes, *self.image) < 1:
            raise UserError("Channels, cells, classes and image sizes must be at least 1.")
        if len(self.image) != 3 or min(self.image[:2]) < 4:
            raise UserError(
                "The image must be (height, width, channels) with sides of at least 4, "
                f"because it is halved twice; got {self.image}."
            )

    @property
    def id(self) -> str:
        """Versioned name."""
        return "nb201-v1"

    @property
    def length(self) -> int:
        """Number of edges."""
        return 6

    @property
    def vocab(self) -> int:
        """Number of operations."""
        return 5

    @property
    def decision_names(self) -> tuple[str, ...]:
        """Edges by their ends, ``edge12`` to ``edge34``."""
        return tuple(f"edge{source}{target}" for source, target in EDGES)

    @property
    def decision_values(self) -> tuple[tuple[Value, ...], ...]:
        """Published names of the operations, for each edge."""
        return (OPERATIONS,) * self.length

    @property
    def additive_costs(self) -> bool:
        """Costs are a constant plus one term a token, whatever the other tokens are."""
        return True

    @property
    def passing_ops(self) -> tuple[int, ...]:
        """The skip connection."""
        return (3 + SKIP,)

    def for_images(
        self, image: tuple[int, int, int], num_classes: int, **size: int
    ) -> "NB201":
        """Returns the same cells in networks for other images."""
        return sp.resized(self, ("channels", "cells"), image, num_classes, size)

    def mask(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Bool[Array, "V"]:
        """Returns all True: every operation is legal on every edge."""
        return jnp.ones(self.vocab, bool)

    def count(self) -> int:
        """Returns how many there are: every operation on every edge."""
        return self.vocab**self.length

    def canonical(self, tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        """Returns the lexicographically first member of the isomorphism class.

        The rule is that of :func:`classes`. A gather from a table of all architectures.
        """
        first = jnp.asarray(_representatives(self.classes()))
        return tk.from_index(self, first[tk.index(self, tokens)])

    def classes(self) -> Int[np.ndarray, "15625"]:
        """Returns the isomorphism class of every architecture in lexicographic order."""
        return classes()

    def to_graph(self, tokens: Int[Array, "L"]) -> Graph:
        """Returns the cell with operations as nodes and what is dead marked absent.

        ``N = 8``: input (op 1), the six edges in token order (op 3 + token), output (op 2).
        An edge is dead when its operation is none, when no signal reaches it, or when
        nothing it feeds reaches the output.
        """
        alive = _alive(tokens)
        ends = jnp.ones(1, bool)
        present = jnp.concatenate([ends, alive, ends])
        ops = jnp.concatenate([jnp.array([1]), 3 + tokens, jnp.array([2])])
        wired = jnp.asarray(_WIRING) & present[:, None] & present[None, :]
        return Graph(jnp.where(present, ops, 0).astype(jnp.int32), wired, present)

    def to_spec(self, tokens: np.ndarray) -> Spec:
        """Returns the whole network; block ``cell`` holds the architecture.

        Stem, three stages of ``cells`` cells with a residual block that halves the image
        and doubles the channels before the second and the third, then batch norm, ReLU,
        mean over the image and a linear head.
        """
        window = {"kernel": 3, "stride": 1, "padding": 1}
        stem = {**window, "features": self.channels, "bias": False}
        nodes = [
            sp.node("stem_conv", "conv", ["image"], **stem),
            sp.node("stem", "batch_norm", ["stem_conv"]),
        ]
        for stage in range(3):
            if stage:
                name, last = f"reduce{stage}", nodes[-1]["name"]
                nodes.append(sp.node(name, "call", [last], block=name))
            for cell in range(self.cells):
                name, last = f"stage{stage}_cell{cell}", nodes[-1]["name"]
                nodes.append(sp.node(name, "call", [last], block="cell"))
        nodes += [
            sp.node("head_norm", "batch_norm", [nodes[-1]["name"]]),
            sp.node("head_relu", "relu", ["head_norm"]),
            sp.node("head_pool", "global_avg_pool", ["head_relu"]),
            sp.node("logits", "linear", ["head_pool"], features=self.num_classes),
        ]
        blocks = {f"reduce{i}": _reduction(self.channels * 2**i) for i in (1, 2)}
        return sp.image_spec(self, {"cell": _cell(tokens), **blocks}, nodes)

    def from_spec(self, spec: Spec) -> np.ndarray:
        """Returns the tokens that ``to_spec`` was given.

        Raises:
            UserError: not a spec of this space.
        """
        nodes = sp.body(spec, self.id, "cell")
        known = list(_SPEC_OPS)
        tokens = []
        for source, target in EDGES:
            item = nodes.get(f"edge{source}{target}", {})
            found = (item.get("op", ""), item.get("attributes", {}))
            if found not in known:
                raise UserError(
                    f"The edge {source}->{target} of this spec is {found[0]!r}, which is "
                    "no operation of nb201."
                )
            tokens.append(known.index(found))
        return np.array(tokens, np.int32)


def to_string(tokens: np.ndarray) -> str:
    """Returns the NAS-Bench-201 string, such as ``|skip_connect~0|+|none~0|...``."""
    names = [OPERATIONS[int(tokens[place])] for place in _STRING_EDGES]
    parts, at = [], 0
    for node in (1, 2, 3):
        inputs = [f"{names[at + i]}~{i}" for i in range(node)]
        parts.append("|" + "|".join(inputs) + "|")
        at += node
    return "+".join(parts)


def from_string(text: str) -> np.ndarray:
    """Returns the tokens of a NAS-Bench-201 string.

    Raises:
        UserError: not such a string.
    """
    found = re.findall(r"([a-z0-9_]+)~(\d)", text)
    tokens = np.full(6, -1, np.int32)
    for place, (name, _) in zip(_STRING_EDGES, found, strict=False):
        tokens[place] = OPERATIONS.index(name) if name in OPERATIONS else -1
    if tokens.min() < 0 or to_string(tokens) != text:
        raise UserError(f"{text!r} is not a NAS-Bench-201 architecture string.")
    return tokens


@functools.cache
def classes() -> Int[np.ndarray, "15625"]:
    """Returns the isomorphism class of every architecture, numbered by first appearance.

    Each node is written as the sorted sum of what arrives at it, a skip passing its node's
    text on unchanged; what carries no signal is left out. Two architectures are in one
    class when node 4 reads the same: 5,390 classes. This is the published NAS-Bench-201
    rule, which finds 6,466, except that it keeps a term for every dead input ("none").
    Like that rule it does not resort a sum that a skip carries into another sum; doing so
    (:func:`equal_functions`) would merge more, into 4,930.
    """
    return numbered(_written)


@functools.cache
def equal_functions() -> Int[np.ndarray, "15625"]:
    """Returns one number for all cells that compute the same function of the same weights.

    As :func:`classes`, with every sum flattened, because addition is commutative and
    associative: 4,930 classes, each a union of classes of :func:`classes`.
    """
    return numbered(_flattened)


def numbered(rule: Callable[[tuple[int, ...]], object], length: int = 6) -> np.ndarray:
    """Returns the number of each cell's class under a rule, int32, by first appearance."""
    seen: dict[object, int] = {}
    rows = itertools.product(range(5), repeat=length)
    ids = np.array([seen.setdefault(rule(row), len(seen)) for row in rows], np.int32)
    ids.setflags(write=False)
    return ids


def _written(tokens: tuple[int, ...]) -> str:
    """Returns what node 4 computes as text; empty where no signal reaches it."""
    text = {1: "0", 2: "", 3: "", 4: ""}
    for node, places in _ARRIVING.items():
        terms = []
        for place in places:
            op, signal = tokens[place], text[EDGES[place][0]]
            if op != NONE and signal:
                terms.append(signal if op == SKIP else f"({signal})@{OPERATIONS[op]}")
        text[node] = "+".join(sorted(terms))
    return text[4]


def _flattened(tokens: tuple[int, ...]) -> tuple[str, ...]:
    """Returns the sorted terms whose sum is node 4."""
    terms: dict[int, tuple[str, ...]] = {1: ("0",)}
    for node, places in _ARRIVING.items():
        found: list[str] = []
        for place in places:
            op, signal = tokens[place], terms[EDGES[place][0]]
            if op == SKIP:
                found += signal
            elif op != NONE and signal:
                found.append(f"({'+'.join(signal)})@{OPERATIONS[op]}")
        terms[node] = tuple(sorted(found))
    return terms[4]


def _representatives(classes: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(classes, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int32)


def _wiring() -> np.ndarray:
    """Returns which of input, six edges and output feed which, before anything is dead."""
    ends = [(0, 1), *EDGES, (4, 5)]
    wired = [[target == source for source, _ in ends] for _, target in ends]
    return np.array(wired, bool)


_WIRING = _wiring()


def _alive(tokens: Int[Array, "L"]) -> Bool[Array, "L"]:
    """Returns the edges that carry a signal which reaches the output."""
    open_ = tokens != NONE
    e12, e13, e14, e23, e24, e34 = (open_[i] for i in range(6))
    reached3 = e13 | (e12 & e23)
    useful2 = e24 | (e23 & e34)
    return jnp.stack(
        [e12 & useful2, e13 & e34, e14, e12 & e23 & e34, e12 & e24, reached3 & e34]
    )


def _cell(tokens: np.ndarray) -> dict[str, Any]:
    nodes = []
    for target in (2, 3, 4):
        arriving = []
        for (source, end), token in zip(EDGES, tokens, strict=True):
            if end == target:
                op, attributes = _SPEC_OPS[int(token)]
                name = f"edge{source}{end}"
                nodes.append(sp.node(name, op, [f"node{source}"], **attributes))
                arriving.append(name)
        nodes.append(sp.node(f"node{target}", "sum", arriving))
    return sp.block(["node1"], nodes, ["node4"])


def _reduction(features: int) -> dict[str, Any]:
    first = {"kernel": 3, "stride": 2, "padding": 1, "features": features}
    second = {"kernel": 3, "stride": 1, "padding": 1, "features": features}
    shortcut = {"kernel": 1, "stride": 1, "padding": 0, "features": features, "bias": False}
    nodes = [
        sp.node("conv_a", "relu_conv_bn", ["in"], **first),
        sp.node("conv_b", "relu_conv_bn", ["conv_a"], **second),
        sp.node("pool", "avg_pool", ["in"], kernel=2, stride=2, padding=0),
        sp.node("shortcut", "conv", ["pool"], **shortcut),
        sp.node("out", "sum", ["conv_b", "shortcut"]),
    ]
    return sp.block(["in"], nodes, ["out"])
