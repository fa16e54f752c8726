"""The macro ResNet space of AnalogNAS: 22 decisions on a network of up to five groups.

Tokens stand in the published order of the features: ``out_channel0``, ``M``, ``R1..R5``,
then ``convblock, widenfact, B`` of each group. Token ``k`` is the ``k``-th value of its
column, and what a group beyond ``M`` does not have is token 0, value 0. Only ``M`` decides
which later tokens are legal.

Reference: Benmeziane et al., AnalogNAS, IEEE EDGE 2023, arXiv:2305.10459. Where figure,
code and data disagree and what is ours is in ``docs/decisions/0009-analog-resnet.md``.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxnas.core.errors import UserError
from jaxnas.core.space import Value
from jaxnas.core.types import Graph, Spec
from jaxnas.spaces import analog_ranges as ar
from jaxnas.spaces import spec as sp
from jaxnas.spaces.analog_ranges import BRANCHES, FEATURES, GROUPS, TYPE, WIDEN, M, R
from jaxnas.spaces.residual import TYPES, branch, residual_blocks

STEM = {"kernel": 7, "stride": 1, "padding": 1}
"""Window of the first convolution; with this padding it takes four pixels off each side."""


@dataclass(frozen=True)
class AnalogResNet:
    """The AnalogNAS ResNet macro space: 22 decisions, groups beyond M absent.

    A stem of 7x7, up to five groups of residual blocks of parallel branches, average pool,
    linear head; no down-sampling (see :mod:`jaxnas.spaces.residual` for the blocks).
    Restrictions remove values and never change what a token means.

    Args:
        variant: ``"ibm"``, the ranges of IBM's code (channels grow 1.1 to 2 times a group;
            the real factors 0.5 to 0.8 are on a grid of 0.1), or ``"csv"``, those of its
            figure and of the circulating table (channels grow 1 to 4 times).
        channels: of the stem, to choose from; None, here and below, leaves all.
        groups: most groups.
        blocks: most residual blocks of a group.
        types: convolution types to choose from, such as ``"A"``: the networks that IBM's
            code really builds.
        widenings: widening factors to choose from.
        branches: most parallel branches of a block.
        num_classes: of the data set.
        image: height, width and channels of an input.
        pool: side of the average pool before the head, stride 1; 8 in IBM's code.

    Raises:
        UserError: an unknown variant, values that the variant does not have, or an image
            smaller than stem and pool need.
    """

    variant: str = "ibm"
    channels: tuple[int, ...] | None = None
    groups: int | None = None
    blocks: int | None = None
    types: str | None = None
    widenings: tuple[float, ...] | None = None
    branches: int | None = None
    num_classes: int = 10
    image: tuple[int, int, int] = (32, 32, 3)
    pool: int = 8

    def __post_init__(self) -> None:
        _ = self.ranges
        if len(self.image) != 3 or min(self.num_classes, self.pool, *self.image) < 1:
            raise UserError(
                "Classes, pool and image (height, width, channels) must be at least 1."
            )
        if min(self.image[:2]) - 4 < self.pool:
            raise UserError(
                f"The stem leaves 4 pixels less than the sides {self.image[:2]} of the "
                f"image, too few for the pool of {self.pool}; choose a smaller pool."
            )

    @property
    def id(self) -> str:
        """Versioned name, one for each variant: their tokens mean different things."""
        return f"analog-resnet-{self.variant}-v1"

    @property
    def length(self) -> int:
        """Number of decisions, 22."""
        return len(FEATURES)

    @property
    def vocab(self) -> int:
        """Values of the longest column: 16 (ibm) or 121 (csv)."""
        return ar.value_table(self.variant).shape[1]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Published names of the features, in order."""
        return FEATURES

    @property
    def depth_positions(self) -> tuple[int, ...]:
        """Number of groups, and the blocks of each."""
        return (M, *map(int, R))

    @property
    def width_positions(self) -> tuple[int, ...]:
        """Channels of the stem, widening factors and branches."""
        return (0, *map(int, WIDEN), *map(int, BRANCHES))

    @property
    def decision_names(self) -> tuple[str, ...]:
        """Published names of the features, in order."""
        return FEATURES

    @property
    def decision_values(self) -> tuple[tuple[Value, ...], ...]:
        """Published numbers, whole ones as integers; 0 where a group is absent."""
        columns = ar.column_values(self.variant)
        return tuple(tuple(int(v) if v == int(v) else v for v in c) for c in columns)

    @property
    def ranges(self) -> ar.Ranges:
        """The values left to choose from."""
        return ar.restrict(self.variant, self)

    def for_images(
        self, image: tuple[int, int, int], num_classes: int, **size: int
    ) -> "AnalogResNet":
        """Returns the same architectures for other images.

        Args:
            image: height, width, channels.
            num_classes: of the data set.
            **size: ``pool``, the side of the last average pool; the largest that fits, at
                most the space's own, when left out.
        """
        size.setdefault("pool", max(1, min(self.pool, min(image[:2]) - 4)))
        return sp.resized(self, ("pool",), image, num_classes, size)

    def mask(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Bool[Array, "V"]:
        """Returns the legal tokens: the column's values, or only 0 in an absent group."""
        return jnp.asarray(self._legal)[_groups_token(tokens, t), t]

    def count(self) -> int:
        """Returns the exact number: stem choices times the ways to fill 1 to M groups."""
        return len(set(self.ranges.channels)) * sum(
            ar.group_ways(self.variant, self.ranges)
        )

    def completions(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Float[Array, "V"]:
        """Returns the share of the architectures after ``tokens[:t]`` behind each token."""
        shares = jnp.asarray(ar.share_table(self.variant, self.ranges))
        return shares[_groups_token(tokens, t), t]

    def canonical(self, tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        """Returns the same tokens for the same network.

        Where IBM's code builds one block for ``R = 0`` the form is ``R = 1``. A group of
        widening factor 1 and of the type and branches of the one before only goes on with
        it: the blocks of both are packed into as few groups as hold them, full ones first.
        """
        active = jnp.arange(GROUPS, dtype=jnp.int32) <= tokens[M]
        tokens = tokens.at[R].set(jnp.where(active, jnp.maximum(tokens[R], 1), 0))
        if self.ranges.divides or 1.0 not in self.ranges.widenings:
            return tokens
        keeps = ar.column_values(self.variant)[WIDEN[0]].index(1.0)
        return _pack(tokens, active, keeps, self.ranges.blocks)

    def features(self, tokens: Int[Array, "L"]) -> Float[Array, "F"]:
        """Returns the 22 published numbers: 0 where absent, types A = 1 to D = 4."""
        return jnp.asarray(ar.value_table(self.variant))[
            jnp.arange(self.length, dtype=jnp.int32), tokens
        ]

    def project(self, features: Float[Array, "F"]) -> Int[Array, "L"]:
        """Returns the canonical architecture nearest to any 22 numbers, column by column.

        ``M`` first, which decides the groups that are there; then the nearest legal value
        of each column, the lower of two that are equally near. NaN reads as 0.
        ``project(features(t)) == canonical(t)``.
        """
        stem, others, token = ar.nearest_table(self.variant, self.ranges)
        numbers = jnp.nan_to_num(features.astype(jnp.float32), nan=0.0)
        count = jnp.sum(numbers[1:] > others, axis=0)
        count = jnp.append(jnp.sum(numbers[0] > stem), count)
        tokens = jnp.asarray(token)[jnp.arange(self.length, dtype=jnp.int32), count]
        tokens = jnp.where(ar.column_groups() <= tokens[M], tokens, 0)
        return self.canonical(tokens)

    def tokens_from_features(
        self, features: Float[np.ndarray, "n F"]
    ) -> Int[np.ndarray, "n L"]:
        """Returns the tokens of rows of published numbers as they are; host side.

        Raises:
            UserError: another number of columns, or a value that is not legal where it is.
        """
        rows = np.asarray(features, np.float64)
        if rows.shape[1] != self.length:
            raise UserError(
                f"A row of {self.id} has {self.length} features, not {rows.shape[1]}."
            )
        gaps = np.abs(rows[:, :, None] - ar.value_table(self.variant).astype(np.float64))
        gaps = np.where(np.isnan(gaps), np.inf, gaps)
        tokens = np.argmin(gaps, axis=2).astype(np.int32)
        place = np.arange(self.length)
        near = gaps[np.arange(len(rows))[:, None], place, tokens] < 1e-6
        wrong = ~(near & self._legal[tokens[:, [M]], place, tokens])
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise UserError(
                f"Row {row} has {FEATURES[column]} = {rows[row, column]:g}, which "
                f"{self.id} does not allow with M = {rows[row, M]:g}."
            )
        return tokens

    def to_graph(self, tokens: Int[Array, "L"]) -> Graph:
        """Returns the canonical form as a chain of decisions, ``N = 23``.

        Input (op 1), the stem's channels, then widening, type, branches and blocks of each
        group, and the output (op 2); absent groups are padding. Each value of each kind of
        decision has its own operation id. Branches are not drawn one by one: that would be
        up to 960 nodes, nearly all of them padding.
        """
        tokens = self.canonical(tokens)
        columns = ar.column_values(self.variant)
        sizes = [len(columns[0])]
        sizes += [len(columns[c[0]]) - 1 for c in (WIDEN, TYPE, BRANCHES)]
        first = 3 + np.cumsum([0, *sizes])
        groups = jnp.stack([tokens[c] for c in (WIDEN, TYPE, BRANCHES, R)], axis=1)
        stem, group_ops = first[0] + tokens[:1], (first[1:] + groups - 1).ravel()
        ops = jnp.concatenate([jnp.array([1]), stem, group_ops, jnp.array([2])])
        ends = jnp.ones(1, bool)
        present = jnp.concatenate([ends, ends, (groups > 0).ravel(), ends])
        rank = jnp.cumsum(present)
        follows = rank[None, :] == rank[:, None] + 1
        adjacency = follows & present[:, None] & present[None, :]
        return Graph(jnp.where(present, ops, 0).astype(jnp.int32), adjacency, present)

    def to_spec(self, tokens: np.ndarray) -> Spec:
        """Returns the whole network as IBM's code builds it, in blocks ``group1``, ...

        Two things differ: factors multiply in the csv variant, and types are built, by
        :func:`jaxnas.spaces.residual.branch`. One block for ``R = 0`` is named ``block0``.
        """
        columns = ar.column_values(self.variant)
        chosen = [columns[c][int(token)] for c, token in enumerate(tokens)]
        channels, blocks, last = int(chosen[0]), {}, "stem"
        stem = {**STEM, "features": channels, "bias": False}
        nodes = [
            sp.node("stem_conv", "conv", ["image"], **stem),
            sp.node("stem", "batch_norm", ["stem_conv"]),
        ]
        for m in range(int(chosen[M])):
            group, kind = f"group{m + 1}", TYPES[int(chosen[TYPE[m]]) - 1]
            features = self.ranges.widen(channels, chosen[WIDEN[m]])
            sizes = int(chosen[R[m]]), int(chosen[BRANCHES[m]])
            blocks |= _group(group, kind, channels, features, *sizes)
            nodes.append(sp.node(group, "call", [last], block=group))
            channels, last = features, group
        pool = {"kernel": self.pool, "stride": 1, "padding": 0}
        nodes += [
            sp.node("head_relu", "relu", [last]),
            sp.node("head_pool", "avg_pool", ["head_relu"], **pool),
            sp.node("head_flat", "flatten", ["head_pool"]),
            sp.node("logits", "linear", ["head_flat"], features=self.num_classes),
        ]
        return sp.image_spec(self, blocks, nodes)

    def from_spec(self, spec: Spec) -> np.ndarray:
        """Returns the tokens that ``to_spec`` was given.

        Raises:
            UserError: not a spec of this space, or an architecture outside its ranges.
        """
        sp.body(spec, self.id, "group1")
        wrong = UserError(f"This spec is no network of {self.id} within its ranges.")
        try:
            tokens = _read(self.variant, spec)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise wrong from error
        legal = self._legal[tokens[M], np.arange(self.length), tokens].all()
        if not legal or self.to_spec(tokens)["blocks"] != spec["blocks"]:
            raise wrong
        return tokens

    @property
    def _legal(self) -> Bool[np.ndarray, "G L V"]:
        return ar.legal_table(self.variant, self.ranges)


def _groups_token(tokens: Int[Array, "L"], t: Int[Array, ""]) -> Int[Array, ""]:
    """Returns the token of ``M``, 0 before it is written."""
    return jnp.where(t > M, jnp.clip(tokens[M], 0, GROUPS - 1), 0)


def _pack(
    tokens: Int[Array, "L"], active: Bool[Array, "G"], keeps: int, most: int
) -> Int[Array, "L"]:
    """Returns the tokens with the blocks of like groups in as few groups as hold them.

    Args:
        tokens: at least one block in each active group.
        active: which groups there are.
        keeps: token of the widening factor 1.
        most: blocks of a full group.
    """
    place = jnp.arange(GROUPS, dtype=jnp.int32)
    kind, widen, branches = tokens[TYPE], tokens[WIDEN], tokens[BRANCHES]
    goes_on = (widen == keeps) & (kind == jnp.roll(kind, 1))
    goes_on = goes_on & (branches == jnp.roll(branches, 1)) & (place > 0)
    run = jnp.cumsum(~goes_on) - 1
    member = (run == place[:, None]) & active  # [run, group]
    blocks = jnp.sum(member * tokens[R], axis=1)
    ends = jnp.cumsum(-(-blocks // most))
    # Each new group: the run it is of, and how many groups of that run come before it.
    source = jnp.minimum(jnp.sum(ends <= place[:, None], axis=1), GROUPS - 1)
    rank = place - jnp.where(source > 0, ends[source - 1], 0)
    head = jnp.argmax(member, axis=1)[source]
    there = place < ends[-1]
    packed = (
        (R, jnp.minimum(blocks[source] - rank * most, most)),
        (TYPE, kind[head]),
        (WIDEN, jnp.where(rank > 0, keeps, widen[head])),
        (BRANCHES, branches[head]),
    )
    for columns, values in packed:
        tokens = tokens.at[columns].set(jnp.where(there, values, 0))
    return tokens.at[M].set(ends[-1] - 1)


def _group(
    name: str, kind: str, channels: int, features: int, blocks: int, branches: int
) -> dict[str, dict[str, Any]]:
    """Returns the blocks of one group: itself, its first residual block and the rest."""
    made = residual_blocks(f"{name}_first", kind, channels, features, branches)
    if blocks > 1:
        made |= residual_blocks(f"{name}_rest", kind, features, features, branches)
    start = "block1" if blocks else "block0"
    nodes = [sp.node(start, "call", ["in"], block=f"{name}_first")]
    for i in range(2, blocks + 1):
        nodes.append(sp.node(f"block{i}", "call", [f"block{i - 1}"], block=f"{name}_rest"))
    return {name: sp.block(["in"], nodes, [nodes[-1]["name"]]), **made}


def _read(variant: str, spec: Spec) -> Int[np.ndarray, "L"]:
    """Returns the tokens of a spec; fails in some way on what ``to_spec`` did not write."""
    ranges, columns, blocks = (
        ar.VARIANTS[variant],
        ar.column_values(variant),
        spec["blocks"],
    )
    tokens = np.zeros(len(FEATURES), np.int32)
    channels = spec["nodes"][0]["attributes"]["features"]
    tokens[0] = columns[0].index(channels)
    tokens[M] = sum(f"group{m + 1}" in blocks for m in range(GROUPS)) - 1
    for m in range(tokens[M] + 1):
        group = blocks[f"group{m + 1}"]["nodes"]
        first = blocks[f"group{m + 1}_first"]["nodes"]
        choices = [(kind, factor) for kind in ranges.types for factor in ranges.widenings]
        built = [branch(k, channels, ranges.widen(channels, f)) for k, f in choices]
        kind, factor = choices[built.index(blocks[f"group{m + 1}_first_branch"])]
        tokens[R[m]] = 0 if group[0]["name"] == "block0" else len(group)
        tokens[TYPE[m]] = ranges.types.index(kind) + 1
        tokens[WIDEN[m]] = columns[WIDEN[m]].index(factor)
        tokens[BRANCHES[m]] = sum(item["name"].startswith("branch") for item in first)
        channels = ranges.widen(channels, factor)
    return tokens
