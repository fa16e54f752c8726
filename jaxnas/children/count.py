"""Exact counts of a network, by a walk over its spec: costs, arrays, matrices."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxnas.children.ops import lookup
from jaxnas.children.rules import Count, Shape
from jaxnas.children.walk import Descend, walk
from jaxnas.core.errors import UserError
from jaxnas.core.types import Matrix, Spec

MOST_VISITS = 100_000
"""Operations in blocks of different inputs that a walk looks at before it gives up."""


class Costs(NamedTuple):
    """Exact totals of one network."""

    params: int
    flops: int


class Totals(NamedTuple):
    """Sums over all operations of a network; activations and FLOPs are for one input."""

    params: int = 0
    flops: int = 0
    nodes: int = 0
    activations: int = 0  # numbers that all operations together give out


def count_costs(spec: Spec) -> Costs:
    """Returns the exact costs of the network that a spec describes, by one walk over it.

    FLOPs are multiply-accumulates of convolutions and linear layers for one input, one
    FLOP each, biases included, as NAS-Bench-201 counts them.

    Raises:
        UserError: an operation without a rule, a value that no node makes, or shapes that
            cannot work; the text names the node.
    """
    totals = count_totals(spec)
    return Costs(totals.params, totals.flops)


def count_totals(spec: Spec) -> Totals:
    """Returns all sums, a block counted once for each shape; raises as ``count_costs``."""
    sums = [Totals()]  # of the blocks around a node, the innermost last
    visits = itertools.count(1)
    seen: dict[tuple[str, tuple[Shape, ...]], tuple[Shape, Totals]] = {}

    def visit(
        op: str, attributes: Mapping[str, Any], shapes: tuple[Shape, ...], path: str
    ) -> Shape:
        if next(visits) > MOST_VISITS:
            raise UserError(
                f"The network has more than {MOST_VISITS} different operations."
            )
        one = count_node(op, attributes, shapes, path)
        sums[-1] = _plus(sums[-1], Totals(one.params, one.flops, 1, math.prod(one.shape)))
        return one.shape

    def call(name: str, shapes: tuple[Shape, ...], path: str, descend: Descend) -> Shape:
        if (name, shapes) not in seen:
            sums.append(Totals())
            shape = descend()
            seen[name, shapes] = shape, sums.pop()
        shape, added = seen[name, shapes]
        sums[-1] = _plus(sums[-1], added)
        return shape

    check_outputs(spec, walk(spec, input_shapes(spec), visit, call))
    return sums[0]


def matrices(spec: Spec) -> tuple[Matrix, ...]:
    """Returns the matrices in order, by their full paths; raises as ``count_costs``."""
    return tuple(
        item._replace(path=f"{path}.{item.path}" if item.path else path)
        for path, count in layers(spec)
        for item in count.matrices
    )


def arrays(spec: Spec) -> dict[str, Shape]:
    """Returns the shape of every array in torch's layout, by its full name, in order.

    Convolutions ``[out, in / groups, rows, columns]``, linear ``[out, in]``, batch norm
    ``weight``, ``bias``, ``running_mean`` and ``running_var``, each ``[features]``.

    Raises:
        UserError: as :func:`count_costs`.
    """
    return {
        f"{path}.{name}": shape
        for path, count in layers(spec)
        for name, shape in count.arrays
    }


def layers(spec: Spec) -> list[tuple[str, Count]]:
    """Returns path and counts of every operation, in order; raises as ``count_costs``."""
    found: list[tuple[str, Count]] = []

    def visit(
        op: str, attributes: Mapping[str, Any], shapes: tuple[Shape, ...], path: str
    ) -> Shape:
        found.append((path, count_node(op, attributes, shapes, path)))
        return found[-1][1].shape

    check_outputs(spec, walk(spec, input_shapes(spec), visit))
    return found


def count_node(
    op: str, attributes: Mapping[str, Any], shapes: tuple[Shape, ...], path: str
) -> Count:
    """Returns the counts of one node.

    Raises:
        UserError: no such operation, or shapes that it cannot take; names the node.
    """
    entry = lookup(op, path)
    try:
        return entry.rule(shapes, attributes)
    except UserError as error:
        raise UserError(f"The node {path!r} ({op}) {error}.") from error


def input_shapes(spec: Spec) -> dict[str, Shape]:
    """Returns the declared shape of each input."""
    return {name: tuple(kind["shape"]) for name, kind in spec["inputs"].items()}


def check_outputs(spec: Spec, shapes: Mapping[str, Shape]) -> None:
    """Refuses a spec whose outputs are not of the declared shapes.

    Raises:
        UserError: the text names the output.
    """
    for name, kind in spec["outputs"].items():
        if shapes.get(name) != tuple(kind["shape"]):
            raise UserError(
                f"The output {name!r} of the spec has shape {shapes.get(name)} instead of "
                f"{tuple(kind['shape'])}."
            )


def _plus(a: Totals, b: Totals) -> Totals:
    return Totals(*(x + y for x, y in zip(a, b, strict=True)))
