"""Which values the 22 decisions of AnalogNAS may take, as tables by token.

Three descriptions of the space exist and must not be confused; two are here.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxnas.core.errors import UserError, unknown_name

GROUPS = 5  # groups that the 22 columns have room for
FEATURES = (  # published name of each column, in the order that every published model uses
    "out_channel0",
    "M",
    *(f"R{i}" for i in range(1, 6)),
    *(f"{name}{i}" for i in range(1, 6) for name in ("convblock", "widenfact", "B")),
)
M = 1  # column of the number of groups
R = np.arange(2, 7)  # columns of the residual blocks of each group
TYPE, WIDEN, BRANCHES = np.arange(7, 22).reshape(5, 3).T
"""Columns of each group's convolution type, widening factor and parallel branches."""


@dataclass(frozen=True)
class Ranges:
    """Values of the decisions of one published description of the space."""

    channels: tuple[int, ...]
    groups: int
    blocks: int
    types: str
    widenings: tuple[float, ...]
    branches: int
    fewest: int  # lowest number of blocks of the second group and those after it
    divides: bool
    """Whether channels are divided by the widening factor, rounded down, or multiplied."""

    def widen(self, channels: int, factor: float) -> int:
        """Returns the channels after a group, by the published floating-point formula."""
        return round(channels // factor) if self.divides else round(channels * factor)


VARIANTS = {  # IBM's code, its real factors on a grid; its figure and the circulating table
    "ibm": Ranges(
        channels=(8, 12, 16, 32, 48, 64),
        groups=4,
        blocks=15,
        types="AB",
        widenings=(0.5, 0.6, 0.7, 0.8),
        branches=4,
        fewest=0,
        divides=True,
    ),
    "csv": Ranges(
        channels=tuple(range(8, 129)),
        groups=5,
        blocks=16,
        types="ABCD",
        widenings=(1.0, 2.0, 3.0, 4.0),
        branches=12,
        fewest=1,
        divides=False,
    ),
}


LIMITS = ("channels", "groups", "blocks", "types", "widenings", "branches")


def restrict(variant: str, chosen: Any) -> Ranges:
    """Returns the ranges of a variant with only the values chosen, None leaving all.

    ``chosen`` has an attribute for each of :data:`LIMITS`.

    Raises:
        UserError: an unknown variant, or values that it does not have.
    """
    if variant not in VARIANTS:
        raise unknown_name("variant of analog-resnet", variant, VARIANTS)
    full = VARIANTS[variant]
    limits = {n: getattr(chosen, n) for n in LIMITS if getattr(chosen, n) is not None}
    for name, value in limits.items():
        allowed: Any = getattr(full, name)
        if isinstance(allowed, int):
            if not 1 <= value <= allowed:
                raise UserError(
                    f"Analog-resnet {variant!r} has 1 to {allowed} {name}, got {value}."
                )
        elif not value or not set(value) <= set(allowed):
            raise UserError(
                f"Choose {name} of analog-resnet {variant!r} from {allowed}, got {value}."
            )
    return replace(full, **limits)


@functools.cache
def column_values(variant: str) -> tuple[tuple[float, ...], ...]:
    """Returns the value behind each token of each of the 22 columns of a variant."""
    ranges = VARIANTS[variant]
    columns = {0: ranges.channels, M: range(1, ranges.groups + 1)}
    columns |= dict.fromkeys(R.tolist(), range(ranges.blocks + 1))
    columns |= dict.fromkeys(TYPE.tolist(), range(len(ranges.types) + 1))
    columns |= dict.fromkeys(WIDEN.tolist(), (0.0, *ranges.widenings))
    columns |= dict.fromkeys(BRANCHES.tolist(), range(ranges.branches + 1))
    return tuple(tuple(map(float, columns[c])) for c in range(len(FEATURES)))


@functools.cache
def value_table(variant: str) -> Float[np.ndarray, "L V"]:
    """Returns the value behind each token, 0 in the padding."""
    columns = column_values(variant)
    table = np.zeros((len(columns), max(map(len, columns))), np.float32)
    for place, column in enumerate(columns):
        table[place, : len(column)] = column
    return table


@functools.lru_cache(maxsize=32)
def legal_table(variant: str, ranges: Ranges) -> Bool[np.ndarray, "G L V"]:
    """Returns the legal tokens of each column, by the token of ``M``."""
    columns = column_values(variant)
    legal = np.zeros((GROUPS, *value_table(variant).shape), bool)
    legal[:, 0, [columns[0].index(c) for c in ranges.channels]] = True
    legal[:, M, : ranges.groups] = True
    kinds = [VARIANTS[variant].types.index(kind) + 1 for kind in ranges.types]
    widenings = [columns[WIDEN[0]].index(factor) for factor in ranges.widenings]
    for token, group in np.ndindex(GROUPS, GROUPS):
        if group > token:
            legal[token, [c[group] for c in (R, TYPE, WIDEN, BRANCHES)], 0] = True
            continue
        fewest = ranges.fewest if group else 1
        legal[token, R[group], fewest : ranges.blocks + 1] = True
        legal[token, TYPE[group], kinds] = True
        legal[token, WIDEN[group], widenings] = True
        legal[token, BRANCHES[group], 1 : ranges.branches + 1] = True
    return legal


def group_ways(variant: str, ranges: Ranges) -> list[int]:
    """Returns how many ways the groups can be filled, for each legal number of them."""
    sizes = legal_table(variant, ranges).sum(axis=2)
    return [math.prod(sizes[token, 2:].tolist()) for token in range(ranges.groups)]


@functools.lru_cache(maxsize=32)
def share_table(variant: str, ranges: Ranges) -> Float[np.ndarray, "G L V"]:
    """Returns the share of the architectures behind each token, by the token of ``M``.

    Uniform over the legal tokens of all columns but ``M``: exact integers, divided once.
    """
    legal = legal_table(variant, ranges)
    shares = legal / legal.sum(axis=2, keepdims=True)
    ways = group_ways(variant, ranges)
    shares[:, M, : len(ways)] = [number / sum(ways) for number in ways]
    return shares.astype(np.float32)


@functools.lru_cache(maxsize=32)
def nearest_table(
    variant: str, ranges: Ranges
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m l"], Int[np.ndarray, "L V"]]:
    """Returns what finds the legal token nearest to a number, by counting midpoints below.

    Of the columns of groups that are there: the midpoints of neighbouring legal values,
    infinite in the padding, first of the stem's channels, which are many, then of all
    other columns; and the token for each count. An absent group has token 0.
    """
    columns, legal = column_values(variant), legal_table(variant, ranges)
    width = value_table(variant).shape[1]
    middle = np.full((width - 1, len(columns)), np.inf, np.float32)
    token = np.zeros((len(columns), width), np.int32)
    for place, column in enumerate(columns):
        allowed = np.flatnonzero(legal[-1, place])
        order = allowed[np.argsort(np.asarray(column)[allowed])]
        values = np.asarray(column)[order]
        middle[: len(order) - 1, place] = (values[1:] + values[:-1]) / 2
        token[place, : len(order)] = order
    most = int(np.isfinite(middle[:, 1:]).any(axis=1).sum())
    return middle[:, 0], middle[:most, 1:], token


@functools.cache
def column_groups() -> Int[np.ndarray, "L"]:
    """Returns the group that each column belongs to; 0 for the stem and ``M``."""
    group = np.zeros(len(FEATURES), np.int32)
    for columns in (R, TYPE, WIDEN, BRANCHES):
        group[columns] = np.arange(GROUPS)
    return group
