"""Builds the bit-mask table of :mod:`jaxnas.oracles.trees` on the host."""

from typing import Any

import numpy as np

from jaxnas.data.xgboost_model import TreeModel

FINEST = 16
"""The finest grid is a sixteenth; halves are what exact split finding gives on integers."""
CELLS = 4096
"""The longest grid; beyond it a feature's bin is searched."""
BYTES = 1 << 19
"""Groups of features are joined while the table stays below this: half of a common L2."""
LARGEST = 1 << 25
"""A table above this many bytes is not built unless asked for."""


def depth(model: TreeModel) -> int:
    """Returns the number of decisions on the longest path of any tree."""
    level, at = 0, model.starts[:-1]
    while True:
        at = at[model.feature[at] >= 0]
        if at.size == 0:
            return level
        at = np.concatenate([model.left[at], model.right[at]])
        level += 1


def breakpoints(model: TreeModel) -> list[np.ndarray]:
    """Returns, for each feature, the ascending values at which any decision changes."""
    points = []
    for feature in range(model.num_feature):
        here = model.feature == feature
        listed = [model.categories[slice(*s)] for s in model.span[here & model.categorical]]
        codes = np.concatenate([np.zeros(0, np.int32), *listed])
        numeric = model.threshold[here & ~model.categorical]
        every = np.concatenate([numeric, codes, codes + 1]).astype(np.float32)
        points.append(np.unique(every + np.float32(0)))
    return points


def widths(model: TreeModel) -> tuple[np.dtype, np.ndarray]:
    """Returns the type of a mask word and, for each tree, how many words it needs."""
    leaf = np.concatenate([[0], np.cumsum(model.feature < 0)])
    leaves = np.diff(leaf[model.starts])
    bits = next((b for b in (8, 16) if leaves.max() <= b), 32)
    return np.dtype(f"uint{bits}"), -(-leaves // bits)


def fits(model: TreeModel) -> bool:
    """Returns whether the table is small enough, and worth it, for this model."""
    kind, words = widths(model)
    rows = sum(len(p) + 2 for p in breakpoints(model) if len(p))
    return rows * int(words.sum()) * kind.itemsize <= LARGEST


def grid(points: np.ndarray) -> int:
    """Returns the scale on which all points are whole numbers, 0 where there is none."""
    scale = 1
    while scale <= FINEST:
        scaled = points.astype(np.float64) * scale
        if np.array_equal(scaled, np.floor(scaled)):
            near = len(points) == 0 or (
                np.abs(scaled).max() < 2**22 and scaled[-1] - scaled[0] < CELLS
            )
            return scale if near else 0
        scale *= 2
    return 0


def group(bins: dict[int, int], row_bytes: int) -> list[list[int]]:
    """Returns features in groups, each of which has one row for each combination of bins.

    The two groups whose union costs the fewest extra rows are joined while it fits.

    Args:
        bins: bins of each feature, the missing one included.
        row_bytes: bytes of a row of the table.
    """
    groups = [([feature], size) for feature, size in bins.items()]
    rows = sum(bins.values())
    while len(groups) > 1:
        groups.sort(key=lambda pair: pair[1])
        (one, a), (two, b), *rest = groups
        rows += a * b - a - b
        if rows * row_bytes > BYTES:
            break
        groups = [(one + two, a * b), *rest]
    return [features for features, _ in groups]


def build(model: TreeModel) -> dict[str, Any]:
    """Returns the fields of :class:`jaxnas.oracles.trees.Table` as NumPy arrays."""
    points = breakpoints(model)
    kind, words = widths(model)
    asked = [f for f, p in enumerate(points) if len(p)] or [0]
    searched = [f for f in asked if not grid(points[f])]
    single, leaves = masks(model, points, kind, words)
    groups = group(
        {f: len(points[f]) + 2 for f in asked}, single[asked[0]].shape[1] * kind.itemsize
    )
    shape = (len(groups), max(map(len, groups)))
    feature, first = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    scale, low, high = np.ones(shape), np.zeros(shape), np.zeros(shape)
    codes, tables, offset = [np.zeros(2, np.int32)], [], 0
    for g, members in enumerate(groups):
        joint = None
        for n, f in enumerate(members):
            place = 1 if joint is None else len(joint)
            cells, low[g, n], scale[g, n] = _cells(points[f], f in searched)
            feature[g, n] = model.num_feature + searched.index(f) if f in searched else f
            first[g, n] = sum(map(len, codes))
            high[g, n] = len(cells) - 2
            codes.append(place * cells + (offset if n == 0 else 0))
            own = single[f]
            joint = (
                own
                if joint is None
                else (own[:, None] & joint[None]).reshape(-1, own.shape[1])
            )
        tables.append(joint)
        offset += len(joint)
    longest = max((len(points[f]) for f in searched), default=0)
    thresholds = np.full((len(searched), longest), np.nan, np.float32)
    for s, f in enumerate(searched):
        thresholds[s, : len(points[f])] = points[f]
    return {
        "searched": np.array(searched, np.int32),
        "thresholds": thresholds,
        "feature": feature,
        "scale": scale.astype(np.float32),
        "low": low.astype(np.float32),
        "high": high.astype(np.float32),
        "first": first,
        "codes": np.concatenate(codes).astype(np.int32),
        "masks": np.concatenate(tables),
        "leaves": leaves,
    }


def _cells(points: np.ndarray, searched: bool) -> tuple[np.ndarray, float, float]:
    """Returns the bin of each cell (the last is the missing one), first cell, scale."""
    n = len(points)
    if searched or n == 0:
        return np.arange(n + 2), 0.0, 1.0
    scale = grid(points)
    scaled = (points.astype(np.float64) * scale).astype(np.int64)
    low = scaled[0] - 1
    bins = np.searchsorted(scaled, np.arange(low, scaled[-1] + 1), side="right")
    return np.append(bins, n + 1), float(low), float(scale)


def masks(
    model: TreeModel, points: list[np.ndarray], kind: np.dtype, words: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns each feature's masks ``[bins + missing, W]`` and the leaf values ``[E, W]``."""
    bits = 8 * kind.itemsize
    columns = np.concatenate([[0], np.cumsum(words)])
    leaves = np.zeros((bits, columns[-1]), np.float32)
    full = np.zeros(columns[-1], kind)
    tables = [np.full((len(p) + 2, columns[-1]), ~kind.type(0)) for p in points]
    for t, (root, column) in enumerate(zip(model.starts[:-1], columns[:-1], strict=True)):
        here = slice(column, columns[t + 1])
        order, spans = _leaves_below(model, int(root))
        place = np.arange(len(order))
        leaves[place % bits, column + place // bits] = model.value[order]
        full[here] = _words(0, len(order), kind, words[t])
        for node, (begin, middle, end) in spans.items():
            f = model.feature[node]
            left = _goes_left(model, node, points[f])[:, None]
            off_left = ~_words(begin, middle, kind, words[t])
            off_right = ~_words(middle, end, kind, words[t])
            tables[f][:, here] &= np.where(left, off_right, off_left)
    return [table & full for table in tables], leaves


def _leaves_below(
    model: TreeModel, root: int
) -> tuple[list[int], dict[int, tuple[int, int, int]]]:
    """Returns a tree's leaves from left to right, and each node's range of them.

    A node's range is ``(begin, middle, end)``: its left side and its right side.
    """
    order: list[int] = []
    begin: dict[int, int] = {}
    spans: dict[int, tuple[int, int, int]] = {}
    middle: dict[int, int] = {}
    stack = [(root, 0)]
    while stack:
        node, visit = stack.pop()
        if model.feature[node] < 0:
            order.append(node)
        elif visit == 0:
            begin[node] = len(order)
            stack += [(node, 1), (int(model.left[node]), 0)]
        elif visit == 1:
            middle[node] = len(order)
            stack += [(node, 2), (int(model.right[node]), 0)]
        else:
            spans[node] = (begin[node], middle[node], len(order))
    return order, spans


def _words(begin: int, end: int, kind: np.dtype, count: int) -> np.ndarray:
    """Returns the words that have the bits ``begin .. end`` set."""
    number = (1 << end) - (1 << begin)
    content = number.to_bytes(count * kind.itemsize, "little")
    return np.frombuffer(content, kind.newbyteorder("<")).astype(kind)


def _goes_left(model: TreeModel, node: int, points: np.ndarray) -> np.ndarray:
    """Returns, for each bin and then for a missing value, whether a node sends it left."""
    if model.categorical[node]:
        listed = model.categories[slice(*model.span[node])]
        left = np.concatenate([[True], ~np.isin(points, listed)])
    else:
        last = np.searchsorted(points, model.threshold[node])
        left = np.arange(len(points) + 1) <= last
    return np.append(left, model.default_left[node])
