"""A flax network whose convolutions and dense layers run on tiles.

The module is not changed: ``flax.linen.intercept_methods`` replaces the forward pass of its
``nn.Conv`` and ``nn.Dense``. Batch norm, activations, pooling and additions stay digital
and exact; a bias is added digitally after all tiles. The groups of a grouped convolution
are alike, so what their tiles do is done once, over all groups.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PyTree, UInt32

from jaxnas.analog import noise
from jaxnas.analog.config import Hyper, Scalar
from jaxnas.analog.plan import Layer, Plan, Tile, tile_matrix, to_kernel
from jaxnas.analog.tile import folded, unfolded
from jaxnas.core.convolution import fast_conv


class TileValues(NamedTuple):
    """What all tiles of a network hold during a pass."""

    weights: Float[Array, "P"]  # normalised weights, tile after tile
    scale: Float[Array, "S"]
    alpha: Float[Array, "K"]  # drift compensation; 1 in training
    input_range: Float[Array, "K"]
    out_scale: Float[Array, "C"]


class Source(NamedTuple):
    """Where the noise of a pass comes from."""

    streams: UInt32[Array, "N 2"]  # one for each use of each tile
    kind: str  # see :data:`jaxnas.analog.noise.SOURCES`
    bank: Float[Array, "Z"] | None = None


Vectors = Callable[[], Float[Array, "..."]]
"""Builds the input vectors of a tile, [..., inputs], when they are needed."""


class Hooks:
    """What a pass does around each tile; evaluation does nothing."""

    straight = False  # whether gradients pass the converters
    layer: Any = None
    """The flax layer that is running; what a pass keeps goes into its variables."""

    def enter(self, tile: Tile, vectors: Vectors, b: Scalar) -> Scalar:
        """Returns the input range to use."""
        del tile, vectors
        return b

    def leave(
        self, tile: Tile, vectors: Vectors, y: Array, weights: Array, b: Scalar
    ) -> Array:
        """Returns the tile's output; ``weights`` map its input to it, digital units."""
        del tile, vectors, weights, b
        return y

    def enter_stack(
        self, tiles: tuple[Tile, ...], vectors: Vectors, b: Float[Array, "G"]
    ) -> Float[Array, "G"]:
        """Returns the input ranges of one tile of each group; vectors [..., G, inputs]."""
        del tiles, vectors
        return b

    def leave_stack(
        self,
        vectors: Vectors,
        y: Float[Array, "*b G O"],
        weights: Float[Array, "G O I"],
        b: Float[Array, "G"],
    ) -> Float[Array, "*b G O"]:
        """Returns the outputs of one tile of each group."""
        del vectors, weights, b
        return y


def apply(
    module: nn.Module,
    plan: Plan,
    variables: PyTree,
    values: TileValues,
    x: Float[Array, "B ..."],
    source: Source,
    hyper: Hyper,
    *,
    hooks: Hooks | None = None,
    **options: Any,
) -> Any:
    """Returns what ``module.apply(variables, x, **options)`` does, on tiles.

    Biases and batch norm are read from ``variables``, what the tiles hold from ``values``;
    ``hooks`` act around each tile. Not inside ``nn.scan``, ``nn.remat`` or ``nn.jit``.
    """
    hooks = hooks or Hooks()
    used = 0

    def swap(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal used
        layer = plan.find(context.module.path)
        if context.method_name != "__call__" or layer is None:
            return next_fun(*args, **kwargs)
        streams = source.streams[used : used + len(layer.tiles)]
        used += len(layer.tiles)
        return _run_layer(
            context.module, layer, plan, values, args[0], source, streams, hyper, hooks
        )

    with nn.intercept_methods(swap):
        return module.apply(variables, x, **options)


class _Pass(NamedTuple):
    """What all tiles of a layer share in one pass."""

    layer: Layer
    window: tuple[int, ...]
    geometry: dict[str, Any] | None
    """Arguments of the convolution; None of a dense layer."""
    plan: Plan
    values: TileValues
    source: Source
    hyper: Hyper
    hooks: Hooks


def _run_layer(
    module: Any,
    layer: Layer,
    plan: Plan,
    values: TileValues,
    x: Float[Array, "..."],
    source: Source,
    streams: UInt32[Array, "n 2"],
    hyper: Hyper,
    hooks: Hooks,
) -> Float[Array, "..."]:
    """Returns a layer's output: partial outputs of its tiles summed after their ADCs."""
    geometry = conv_geometry(module) if isinstance(module, nn.Conv) else None
    window, hooks.layer = layer.kernel[:-2], module
    own = _Pass(layer, window, geometry, plan, values, source, hyper, hooks)
    whole: list[Array] = []

    def all_vectors() -> Array:
        if not whole:
            whole.append(x if geometry is None else unfold(x, window, geometry))
        return whole[0]

    run = _run_tile if layer.groups == 1 else _run_stack
    sums: dict[tuple[int, int], Array] = {}
    for piece, stack in enumerate(layer.stacks):
        y = run(own, stack, x, all_vectors, streams[piece :: len(layer.stacks)])
        first = stack[0].outputs
        sums[first] = sums[first] + y if first in sums else y
    parts = list(sums.values())
    out = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
    out = out if layer.groups == 1 else out.reshape(*out.shape[:-2], -1)
    return out + module.get_variable("params", "bias") if module.use_bias else out


def _run_tile(
    own: _Pass,
    stack: tuple[Tile, ...],
    x: Array,
    all_vectors: Vectors,
    streams: UInt32[Array, "1 2"],
) -> Array:
    """Returns the output of the only tile of a stack."""
    (tile,), hooks, values = stack, own.hooks, own.values
    structure, periphery = own.plan.structure, own.hyper.periphery
    vectors = lambda: all_vectors()[..., slice(*tile.inputs)]
    weights = tile_matrix(values.weights, tile)
    columns = slice(tile.column, tile.column + tile.columns)
    wide = structure.scaling == "columnwise"
    scales = slice(tile.scale, tile.scale + (tile.columns if wide else 1))
    gain = values.scale[scales] * values.alpha[tile.index]
    if structure.out_scale:
        gain = gain * values.out_scale[columns]
    b: Scalar = 1.0
    if structure.input_range:
        b = hooks.enter(tile, vectors, values.input_range[tile.index])
    draw = functools.partial(_draw, own.source, streams[0])
    b_fixed = jax.lax.stop_gradient(b)
    if structure.unfolded:
        y = unfolded(
            vectors(), weights, b_fixed, gain, draw, periphery, structure, hooks.straight
        )
    else:
        if own.geometry is None:
            piece, product = vectors(), lambda u, w: u @ w.T
        else:
            piece, product = _convolution(x, tile, own.window, own.geometry)
        y = folded(
            piece, weights, product, b_fixed, gain, draw, periphery, structure,
            hooks.straight,
        )  # fmt: skip
    return hooks.leave(tile, vectors, y, weights * gain[:, None], b)


def _run_stack(
    own: _Pass,
    stack: tuple[Tile, ...],
    x: Float[Array, "B H W C"],
    all_vectors: Vectors,
    streams: UInt32[Array, "G 2"],
) -> Float[Array, "B h w G O"]:
    """Returns the outputs of the same piece of every group of a convolution.

    Each group has its own weights, scale, input range and compensation. The folded route
    divides an image by the ranges beforehand and puts them into the gain.
    """
    values, hooks, groups = own.values, own.hooks, len(stack)
    structure, periphery = own.plan.structure, own.hyper.periphery
    geometry, (first, *_) = own.geometry, stack
    assert geometry is not None

    def vectors() -> Float[Array, "B h w G I"]:
        return _by_group(all_vectors(), groups)[..., slice(*first.inputs)]

    across = functools.partial(_across, own.layer, stack)
    weights = across(values.weights, "offset", first.rows * first.columns)
    weights = weights.reshape(groups, first.columns, first.rows)
    wide = first.columns if structure.scaling == "columnwise" else 1
    gain = across(values.scale, "scale", wide) * across(values.alpha, "index", 1)
    if structure.out_scale:
        gain = gain * across(values.out_scale, "column", first.columns)
    b = jnp.ones(groups, jnp.float32)
    if structure.input_range:
        ranges = across(values.input_range, "index", 1)[:, 0]
        b = hooks.enter_stack(stack, vectors, ranges)
    b_fixed = jax.lax.stop_gradient(b)

    def alone(v: Array, w: Array, b: Array, gain: Array, stream: Array) -> Array:
        draw = functools.partial(_draw, own.source, stream)
        return unfolded(v, w, b, gain, draw, periphery, structure, hooks.straight)

    if structure.unfolded:
        one_of_each = jax.vmap(alone, in_axes=(-2, 0, 0, 0, 0), out_axes=-2)
        y = one_of_each(vectors(), weights, b_fixed, gain, streams)
    else:
        draw = functools.partial(_draw, own.source, streams[0])
        piece, product = _convolution(x, first, own.window, geometry, groups)
        by_channel = jnp.repeat(b_fixed, piece.shape[-1] // groups)
        gains = jnp.broadcast_to(gain * b_fixed[:, None], (groups, first.columns)).ravel()
        matrix = weights.reshape(-1, first.rows)
        y = folded(
            piece / by_channel, matrix, product, 1.0, gains, draw, periphery, structure,
            hooks.straight,
        )  # fmt: skip
        y = _by_group(y, groups)
    return hooks.leave_stack(vectors, y, weights * gain[..., None], b)


def _across(
    layer: Layer, stack: tuple[Tile, ...], values: Float[Array, "n"], place: str, size: int
) -> Float[Array, "G size"]:
    """Returns what belongs to each tile of a stack; ``place`` is the field of its start."""
    start, here, later = (getattr(t, place) for t in (layer.tiles[0], stack[0], stack[1]))
    each = later - here  # groups are alike: they follow at equal distances
    by_group = values[start : start + each * layer.groups].reshape(layer.groups, each)
    return by_group[:, here - start : here - start + size]


def _by_group(values: Float[Array, "*b n"], groups: int) -> Float[Array, "*b G m"]:
    """Returns the last axis cut into groups."""
    return values.reshape(*values.shape[:-1], groups, -1)


def _draw(
    source: Source, stream: UInt32[Array, "2"], shape: tuple[int, ...], repeat: int | Array
) -> Float[Array, "..."]:
    """Draws with the batch as the fastest axis, which is how a convolution holds it."""
    own = stream + jnp.asarray(repeat, jnp.uint32)
    held = list(shape)
    held[0], held[-1] = shape[-1], shape[0]
    return jnp.swapaxes(noise.normal(own, tuple(held), source.kind, source.bank), 0, -1)


def conv_geometry(conv: nn.Conv) -> dict[str, Any]:
    """Returns the static arguments of ``lax.conv_general_dilated`` for a 2-D layer."""

    def pair(value: Any) -> tuple[int, int]:
        if value is None or isinstance(value, int):
            return (value or 1, value or 1)
        return (value[0], value[1])

    padding = conv.padding
    if isinstance(padding, int):
        padding = [(padding, padding)] * 2
    elif not isinstance(padding, str):
        padding = [(p, p) if isinstance(p, int) else tuple(p) for p in padding]
    return {
        "window_strides": pair(conv.strides),
        "padding": padding,
        "lhs_dilation": pair(conv.input_dilation),
        "rhs_dilation": pair(conv.kernel_dilation),
        "precision": conv.precision,
    }


def _convolution(
    x: Float[Array, "B H W C"],
    tile: Tile,
    window: tuple[int, ...],
    geometry: dict[str, Any],
    groups: int = 1,
) -> tuple[Array, Callable[[Array, Array], Array]]:
    """Returns the channels that a tile sees and the convolution with its weights.

    A piece may begin and end inside a channel's window; the missing weights are zero. With
    groups it is the same piece of each, the weights one group after another.
    """
    size = math.prod(window)
    first, last = tile.inputs[0] // size, -(-tile.inputs[1] // size)
    margin = (tile.inputs[0] - first * size, last * size - tile.inputs[1])

    def product(image: Array, weights: Array) -> Array:
        padded = jnp.pad(weights, ((0, 0), margin)) if any(margin) else weights
        kernel = to_kernel(padded, window)
        return fast_conv(image, kernel, feature_group_count=groups, **geometry)

    if groups == 1:
        return x[..., first:last], product
    seen = _by_group(x, groups)[..., first:last]
    return seen.reshape(*x.shape[:-1], -1), product


def unfold(
    x: Float[Array, "B H W C"], window: tuple[int, ...], geometry: dict[str, Any]
) -> Float[Array, "B Ho Wo I"]:
    """Returns the input vector of every output pixel: channel, row, column."""
    strides, dilation = geometry["window_strides"], geometry["rhs_dilation"]
    padding = geometry["padding"]
    inner = [(n - 1) * d + 1 for n, d in zip(x.shape[1:3], geometry["lhs_dilation"])]
    span = [(k - 1) * d + 1 for k, d in zip(window, dilation)]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(inner, span, strides, padding)
    grow = [(lo, hi, d - 1) for (lo, hi), d in zip(padding, geometry["lhs_dilation"])]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *grow, (0, 0, 0)])
    out = [(n - s) // t + 1 for n, s, t in zip(x.shape[1:3], span, strides)]
    taps = []
    for i in range(window[0]):
        for j in range(window[1]):
            begin = (i * dilation[0], j * dilation[1])
            rows, columns = (
                slice(a, a + (n - 1) * t + 1, t) for a, n, t in zip(begin, out, strides)
            )
            taps.append(x[:, rows, columns, :])
    stacked = jnp.stack(taps, axis=-1)
    return stacked.reshape(*stacked.shape[:3], -1)
