"""Which cells of which tile hold which weight: the static map of a network onto tiles.

A layer is the matrix [outputs, inputs]; the inputs of a convolution are ordered channel,
kernel row, kernel column. An axis longer than a tile is cut into near-equal pieces. A
grouped convolution is one matrix for each group, on tiles of its own, group after group: a
tile computes all products of its rows and columns, so groups that shared one would fill
most of it with zeros, which have noise too. The weights of all tiles lie in one flat array,
tile after tile, each [outputs, inputs].
"""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from jaxnas.analog.config import Scalar, Structure
from jaxnas.analog.device import tile_maximum
from jaxnas.core.errors import UserError

Path = tuple[str, ...]
DIGITAL = ("table",)
"""Names of weights that are looked up, and so need no tile."""


@dataclass(frozen=True)
class Tile:
    """One tile: a rectangle of a layer's matrix, and where its numbers are stored."""

    index: int  # number of the tile in the network
    inputs: tuple[int, int]  # first and one past the last input of its group's matrix
    outputs: tuple[int, int]  # first and one past the last output of the layer
    offset: int  # where its weights begin in the flat array
    scale: int  # where its digital scales begin
    column: int  # where its learned output scales begin

    @property
    def rows(self) -> int:
        """Number of inputs."""
        return self.inputs[1] - self.inputs[0]

    @property
    def columns(self) -> int:
        """Number of outputs."""
        return self.outputs[1] - self.outputs[0]


@dataclass(frozen=True)
class Layer:
    """One convolution or dense layer."""

    path: Path  # names from the root of the module
    kernel: tuple[int, ...]  # shape of the flax kernel, [*window, inputs, outputs]
    tiles: tuple[Tile, ...]
    """Group after group; in each the pieces of the inputs, in each of these the outputs."""
    calls: int = 1  # how often the network uses it in one pass
    groups: int = 1  # of a convolution; above 1 the kernel's inputs are those of one group

    @property
    def stacks(self) -> tuple[tuple[Tile, ...], ...]:
        """Tiles that hold the same piece of different groups; of one group, each tile."""
        each = len(self.tiles) // self.groups
        return tuple(self.tiles[piece::each] for piece in range(each))

    def inputs_of(self, tile: Tile) -> slice:
        """Returns where a tile's inputs are among those of all groups."""
        group = (tile.index - self.tiles[0].index) // len(self.stacks)
        start = group * math.prod(self.kernel[:-1])
        return slice(start + tile.inputs[0], start + tile.inputs[1])


@dataclass(frozen=True)
class Plan:
    """All tiles of a network; hashable, a static argument."""

    structure: Structure
    layers: tuple[Layer, ...]

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """Every tile in order."""
        return tuple(tile for layer in self.layers for tile in layer.tiles)

    @property
    def num_weights(self) -> int:
        """Weights on all tiles."""
        return sum(t.rows * t.columns for t in self.tiles)

    @property
    def num_tiles(self) -> int:
        """Number of tiles."""
        return len(self.tiles)

    @property
    def num_columns(self) -> int:
        """Columns of all tiles."""
        return sum(t.columns for t in self.tiles)

    @property
    def num_scales(self) -> int:
        """Digital scales of all tiles."""
        by_column = self.structure.scaling == "columnwise"
        return self.num_columns if by_column else self.num_tiles

    @property
    def num_streams(self) -> int:
        """Noise streams of one forward pass."""
        return sum(layer.calls * len(layer.tiles) for layer in self.layers)

    @cached_property
    def tile_of(self) -> np.ndarray:
        """Tile of each weight, int32 [num_weights], sorted."""
        sizes = [t.rows * t.columns for t in self.tiles]
        return np.repeat(np.arange(self.num_tiles, dtype=np.int32), sizes)

    @cached_property
    def scale_of(self) -> np.ndarray:
        """Digital scale of each weight, int32 [num_weights], sorted."""
        by_column = self.structure.scaling == "columnwise"
        return self.column_of if by_column else self.tile_of

    @cached_property
    def column_of(self) -> np.ndarray:
        """Column of each weight among those of all tiles, int32 [num_weights], sorted."""
        rows = [t.rows for t in self.tiles for _ in range(t.columns)]
        return np.repeat(np.arange(self.num_columns, dtype=np.int32), rows)

    def find(self, path: Path) -> Layer | None:
        """Returns the layer at a path, or None where it stays digital."""
        return self._by_path.get(path)

    @cached_property
    def _by_path(self) -> dict[Path, Layer]:
        return {layer.path: layer for layer in self.layers}


def pieces(size: int, limit: int) -> list[tuple[int, int]]:
    """Returns the pieces ``[start, stop)`` of an axis on tiles of at most ``limit``.

    ``ceil(size / limit)`` pieces; the first ones are one larger where it does not divide.
    A limit of 0 leaves the axis whole.
    """
    count = -(-size // limit) if limit > 0 else 1
    base, extra = divmod(size, count)
    stops = np.cumsum([base + (i < extra) for i in range(count)])
    return [(int(b) - base - (i < extra), int(b)) for i, b in enumerate(stops)]


def make_plan(
    module: nn.Module,
    variables: Mapping[str, PyTree],
    image_shape: tuple[int, ...],
    structure: Structure,
) -> Plan:
    """Returns the tiles of a network made of ``nn.Conv`` and ``nn.Dense``.

    Nothing is computed: the module, which maps a batch of inputs to logits, is traced once
    to see its layers in order; of ``variables`` only shapes are read. ``image_shape`` is
    that of one input, without the batch axis.

    Raises:
        UserError: a layer that tiles cannot hold, with its path.
    """
    found: dict[Path, Layer] = {}
    digital: set[Path] = set()

    def watch(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        if context.method_name == "__call__" and isinstance(layer, nn.Conv | nn.Dense):
            if _stays_digital(layer, args[0], structure):
                digital.add(layer.path)
            else:
                kernel = tuple(layer.get_variable("params", "kernel").shape)
                calls = 1 + (found[layer.path].calls if layer.path in found else 0)
                groups = getattr(layer, "feature_group_count", 1)
                found[layer.path] = Layer(layer.path, kernel, (), calls, groups)
        return next_fun(*args, **kwargs)

    def trace(variables: PyTree, x: Float[Array, "..."]) -> Any:
        with nn.intercept_methods(watch):
            return module.apply(variables, x)

    own = {k: v for k, v in variables.items() if k not in ("analog", "tiles")}
    jax.eval_shape(trace, own, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    _check_all_found(variables["params"], set(found) | digital)
    if not found:
        raise UserError(
            "The network has no convolution or dense layer, so there is nothing to put on "
            "analog tiles; choose another architecture."
        )
    return Plan(structure, tuple(_lay_out(found.values(), structure)))


def _lay_out(found: Iterable[Layer], structure: Structure) -> list[Layer]:
    """Returns the layers with their tiles."""
    layers: list[Layer] = []
    index = offset = column = 0
    for layer in found:
        tiles = []
        for rows, columns in _rectangles(layer, structure):
            scale = column if structure.scaling == "columnwise" else index
            tile = Tile(index, rows, columns, offset, scale, column)
            tiles.append(tile)
            index += 1
            offset += tile.rows * tile.columns
            column += tile.columns
        layers.append(replace(layer, tiles=tuple(tiles)))
    return layers


def _rectangles(
    layer: Layer, structure: Structure
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yields inputs and outputs of each tile: groups, in each inputs, then outputs."""
    outputs, inputs = layer.kernel[-1] // layer.groups, math.prod(layer.kernel[:-1])
    for first in range(0, layer.kernel[-1], outputs):
        for rows in pieces(inputs, structure.tile_inputs):
            for start, stop in pieces(outputs, structure.tile_outputs):
                yield rows, (first + start, first + stop)


def _stays_digital(layer: nn.Conv | nn.Dense, x: Any, structure: Structure) -> bool:
    """Returns whether a layer is not analog; refuses what no tile can hold."""
    if isinstance(layer, nn.Dense):
        return False
    name = ".".join(layer.path)
    if layer.feature_group_count > 1 and structure.digital_depthwise:
        return True
    if (
        x.ndim != 4
        or layer.mask is not None
        or (isinstance(layer.padding, str) and (layer.padding not in ("SAME", "VALID")))
    ):
        raise UserError(
            f"The analog simulator runs 2-D convolutions with zero padding and no mask; "
            f"{name!r} is another kind, so replace it or keep the network digital."
        )
    return False


def _check_all_found(params: PyTree, known: set[Path]) -> None:
    """Refuses a network with a weight matrix that is in no known layer."""
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        path = tuple(str(k.key) for k in keys)
        if leaf.ndim >= 2 and path[:-1] not in known and path[-1] not in DIGITAL:
            raise UserError(
                f"The analog simulator knows nn.Conv and nn.Dense; the weights "
                f"{'.'.join(path)!r} are in another kind of layer or are never used, so "
                "build the network from those two."
            )


def to_matrix(kernel: Float[Array, "..."]) -> Float[Array, "O I"]:
    """Returns a flax kernel [*window, inputs, outputs] as [outputs, inputs x window]."""
    moved = jnp.moveaxis(kernel, (-1, -2), (0, 1))
    return moved.reshape(kernel.shape[-1], -1)


def to_kernel(matrix: Float[Array, "O I"], window: tuple[int, ...]) -> Float[Array, "..."]:
    """Returns the flax kernel of a matrix: the inverse of :func:`to_matrix`."""
    full = matrix.reshape(matrix.shape[0], -1, *window)
    return jnp.moveaxis(full, (0, 1), (-1, -2))


def flatten(plan: Plan, params: PyTree) -> Float[Array, "P"]:
    """Returns all analog weights of a network, tile after tile."""
    parts = []
    for layer in plan.layers:
        at = functools.reduce(lambda tree, name: tree[name], layer.path, params)
        matrix = to_matrix(at["kernel"])
        parts += [matrix[slice(*t.outputs), slice(*t.inputs)].ravel() for t in layer.tiles]
    return jnp.concatenate(parts)


def tile_matrix(flat: Float[Array, "P"], tile: Tile) -> Float[Array, "O I"]:
    """Returns one tile's weights, [outputs, inputs], from the flat array."""
    size = tile.rows * tile.columns
    part = jax.lax.slice(flat, (tile.offset,), (tile.offset + size,))
    return part.reshape(tile.columns, tile.rows)


def unflatten(plan: Plan, flat: Float[Array, "P"], params: PyTree) -> PyTree:
    """Returns ``params`` with every analog kernel replaced from the flat array."""
    kernels = {}
    for layer in plan.layers:
        shape = (layer.kernel[-1], math.prod(layer.kernel[:-1]))
        matrix = jnp.zeros(shape, flat.dtype)
        for t in layer.tiles:
            block = tile_matrix(flat, t)
            matrix = matrix.at[slice(*t.outputs), slice(*t.inputs)].set(block)
        kernels[(*layer.path, "kernel")] = to_kernel(matrix, layer.kernel[:-2])

    def choose(keys: Any, leaf: Array) -> Array:
        return kernels.get(tuple(str(k.key) for k in keys), leaf)

    return jax.tree_util.tree_map_with_path(choose, params)


def largest_scale(plan: Plan, flat: Float[Array, "P"], omega: Scalar) -> Float[Array, "S"]:
    """Returns the digital scales, ``s = max|W| / omega`` over a tile or a column.

    All ones with ``scaling="none"``, and where all weights are zero.
    """
    if plan.structure.scaling == "none":
        return jnp.ones(plan.num_scales, jnp.float32)
    largest = tile_maximum(flat, jnp.asarray(plan.scale_of), plan.num_scales)
    return jnp.where(largest > 0, largest / omega, 1.0)
