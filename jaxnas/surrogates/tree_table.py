"""Builds the bit-mask table of :mod:`jaxnas.surrogates.trees` on the host, with NumPy."""

import heapq
from typing import Any

import numpy as np

from jaxnas.data.formats.xgboost_model import TreeModel

FINEST = 16
"""The finest grid is a sixteenth; halves are what exact split finding gives on integers."""
CELLS = 4096
"""The longest grid; beyond it a feature's bin is searched."""
BYTES = 1 << 19
"""Groups of features are joined while the table stays below this: half of a common L2."""
LARGEST = 1 << 25
"""A table of more bytes is not built unless asked for."""
MOST_GROUPS = 256
"""The AND is unrolled over the groups; beyond this it takes long to compile."""
LANES = 8
"""Words a row are a multiple of this, so that the vector loop has no remainder."""


def depth(model: TreeModel) -> int:
    """Returns the number of decisions on the longest path of any tree."""
    level, at = 0, model.starts[:-1]
    while True:
        at = at[model.feature[at] >= 0]
        if at.size == 0:
            return level
        at = np.concatenate([model.left[at], model.right[at]])
        level += 1


def breakpoints(model: TreeModel) -> dict[int, np.ndarray]:
    """Returns, for each feature asked for, the ascending values where a decision changes.

    A model that asks for nothing gets its first feature, without any such value.
    """
    inner = np.flatnonzero(model.feature >= 0)
    inner = inner[np.argsort(model.feature[inner], kind="stable")]
    asked, begin = np.unique(model.feature[inner], return_index=True)
    points = {}
    for feature, here in zip(asked, np.split(inner, begin[1:]), strict=False):
        spans = model.span[here[model.categorical[here]]]
        codes = [model.categories[slice(*span)] for span in spans]
        numeric = model.threshold[here[~model.categorical[here]]]
        every = np.concatenate([numeric, *codes, *(c + 1 for c in codes)])
        points[int(feature)] = np.unique(every.astype(np.float32) + np.float32(0))
    return points or {0: np.zeros(0, np.float32)}


def widths(model: TreeModel) -> tuple[np.dtype, np.ndarray]:
    """Returns the type of a mask word and, for each tree, how many words it needs."""
    before = np.concatenate([[0], np.cumsum(model.feature < 0)])
    leaves = np.diff(before[model.starts])
    bits = next((b for b in (8, 16) if leaves.max() <= b), 32)
    return np.dtype(f"uint{bits}"), -(-leaves // bits)


def is_smaller(model: TreeModel) -> bool:
    """Returns whether the table is small enough and quicker than walking the trees.

    Nanoseconds a row on one core, coefficients fitted to measurements of nine shapes of
    model: a table moves ``G`` rows of masks and ``E`` rows of leaf values through vector
    registers of 32 bytes, and twice as slowly once it has left the cache; walking takes 5
    for each tree and level.
    """
    kind, words = widths(model)
    bins = {f: len(p) + 2 for f, p in breakpoints(model).items()}
    width, size = int(words.sum()), kind.itemsize
    total = sum(bins.values()) * width * size
    if total > LARGEST:
        return False
    groups = len(group(bins, width * size))
    table = 0.4 * width * (groups * size + 8 * size * 4) / 32 * (1 + (total > 2 * BYTES))
    walking = 5.0 * model.num_trees * depth(model)
    return groups <= MOST_GROUPS and table <= max(walking, 500.0)


def grid(points: np.ndarray) -> int:
    """Returns the scale on which all points are whole numbers, 0 where there is none."""
    if len(points) == 0:
        return 1
    scale = 1
    while scale <= FINEST:
        scaled = points.astype(np.float64) * scale
        if np.array_equal(scaled, np.floor(scaled)):
            near = np.abs(scaled).max() < 2**22 and np.ptp(scaled) < CELLS
            return scale if near else 0
        scale *= 2
    return 0


def group(bins: dict[int, int], row_bytes: int) -> list[list[int]]:
    """Returns features in groups, each of which has one row for each combination of bins.

    The two groups whose union costs the fewest extra rows are joined while it fits; the
    bins of a feature include the missing one.
    """
    groups = [(size, [feature]) for feature, size in bins.items()]
    heapq.heapify(groups)
    rows = sum(bins.values())
    while len(groups) > 1:
        a, one = heapq.heappop(groups)
        b, two = groups[0]
        rows += a * b - a - b
        if rows * row_bytes > BYTES:
            heapq.heappush(groups, (a, one))
            break
        heapq.heapreplace(groups, (a * b, one + two))
    return [features for _, features in sorted(groups)]


def build(model: TreeModel) -> dict[str, np.ndarray]:
    """Returns the fields of :class:`jaxnas.surrogates.trees.Table`."""
    points = breakpoints(model)
    single, leaves = masks(model, points)
    row_bytes = leaves.shape[1] * widths(model)[0].itemsize
    groups = group({f: len(table) for f, table in single.items()}, row_bytes)
    searched = [f for f in points if not grid(points[f])]
    longest = max((len(points[f]) for f in searched), default=0)
    thresholds = np.full((len(searched), 1 << longest.bit_length()), np.nan, np.float32)
    for s, f in enumerate(searched):
        thresholds[s, : len(points[f])] = points[f]
    return {
        "searched": np.array(searched, np.int32),
        "thresholds": thresholds,
        **_members(model, points, searched, groups),
        "masks": np.concatenate([_joint([single[f] for f in each]) for each in groups]),
        "leaves": leaves,
    }


def _members(
    model: TreeModel,
    points: dict[int, np.ndarray],
    searched: list[int],
    groups: list[list[int]],
) -> dict[str, np.ndarray]:
    """Returns how the values of a group's members give its row; padding contributes 0."""
    shape = (len(groups), max(map(len, groups)))
    feature, first = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    scale, low, high = (np.full(shape, v, np.float32) for v in (1, 0, 0))
    codes: list[np.ndarray] = [np.zeros(2, np.int32)]
    offset = length = 0
    for g, members in enumerate(groups):
        place = 1
        for n, f in enumerate(members):
            found = f in searched
            feature[g, n] = model.num_feature + searched.index(f) if found else f
            cells, low[g, n], scale[g, n] = _cells(points[f], found)
            length += len(codes[-1])
            first[g, n], high[g, n] = length, len(cells) - 2
            codes.append(place * cells + (offset if n == 0 else 0))
            place *= len(points[f]) + 2
        offset += place
    fields = {"feature": feature, "scale": scale, "low": low, "high": high, "first": first}
    return {**fields, "codes": np.concatenate(codes).astype(np.int32)}


def _cells(points: np.ndarray, searched: bool) -> tuple[np.ndarray, float, float]:
    """Returns the bin of each cell (the last is a missing value), first cell, scale."""
    n = len(points)
    if searched or n == 0:
        return np.arange(n + 2), 0.0, 1.0
    scale = grid(points)
    scaled = (points.astype(np.float64) * scale).astype(np.int64)
    low = scaled[0] - 1
    bins = np.searchsorted(scaled, np.arange(low, scaled[-1] + 1), side="right")
    return np.append(bins, n + 1), float(low), float(scale)


def _joint(tables: list[np.ndarray]) -> np.ndarray:
    """Returns the AND of every combination of rows, the first table's row fastest."""
    joint = tables[0]
    for table in tables[1:]:
        joint = (table[:, None] & joint[None]).reshape(-1, table.shape[1])
    return joint


def masks(
    model: TreeModel, points: dict[int, np.ndarray]
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Returns masks and leaf values.

    Returns:
        For each feature, ``[bins + 1, W]``: the leaves reachable from each bin, and last
        from a missing value. And ``[E, W]``: the value of each bit of each word.
    """
    kind, words = widths(model)
    bits = 8 * kind.itemsize
    columns = np.concatenate([[0], np.cumsum(words)])
    width = -(-columns[-1] // LANES) * LANES
    leaves = np.zeros((bits, width), np.float32)
    full = np.zeros(width, kind)
    tables = {f: np.full((len(p) + 2, width), ~kind.type(0)) for f, p in points.items()}
    for t, (root, column) in enumerate(zip(model.starts[:-1], columns[:-1], strict=True)):
        here, count = slice(column, columns[t + 1]), int(words[t])
        order, spans = _leaves_below(model, int(root))
        place = np.arange(len(order))
        leaves[place % bits, column + place // bits] = model.value[order]
        full[here] = _words(0, len(order), kind, count)
        for node, begin, middle, end in spans:
            f = int(model.feature[node])
            left = _goes_left(model, node, points[f])[:, None]
            off_left = ~_words(begin, middle, kind, count)
            off_right = ~_words(middle, end, kind, count)
            tables[f][:, here] &= np.where(left, off_right, off_left)
    return {f: table & full for f, table in tables.items()}, leaves


def _leaves_below(model: TreeModel, root: int) -> tuple[list[int], list[tuple[int, ...]]]:
    """Returns a tree's leaves from left to right, and each decision's ranges of them.

    The ranges are ``(node, begin, middle, end)``: ``begin .. middle`` lie to its left.
    """
    order: list[int] = []
    spans: list[tuple[int, ...]] = []
    stack: list[tuple[int, Any]] = [(root, ())]
    while stack:
        node, marks = stack.pop()
        marks = (*marks, len(order))
        if model.feature[node] < 0:
            order.append(node)
        elif len(marks) == 3:
            spans.append((node, *marks))
        else:
            child = (model.left, model.right)[len(marks) - 1][node]
            stack += [(node, marks), (int(child), ())]
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
