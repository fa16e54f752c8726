"""Convolution as one matrix product, which XLA's CPU backend runs many times faster.

Inside a loop (``scan``, ``map``) that backend runs ``lax.conv_general_dilated`` and above
all its gradients on one naive path: forward and gradient of a 3x3 convolution of 8 to 64
channels took 11 to 43 times as long as the product of patches and kernel, on one core
(``benchmarks/children.py conv``). On other devices the native convolution is used.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def fast_conv(
    lhs: Float[Array, "B H W C"],
    rhs: Float[Array, "kh kw c F"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> Float[Array, "B h w F"]:
    """Returns the convolution of ``lax.conv_general_dilated`` in NHWC and HWIO layout.

    Takes the place of that function in ``nn.Conv(conv_general_dilated=fast_conv)``. On CPU
    it is a product of patches; up to rounding the numbers are the same.

    Args:
        lhs: images.
        rhs: kernel; ``c`` is ``C`` over the number of groups.
        window_strides: of both axes.
        padding: (before, after) of both axes, as numbers.
        lhs_dilation: 1 or None; others go to the native convolution.
        rhs_dilation: 1 or None; others go to the native convolution.
        dimension_numbers: NHWC, HWIO, NHWC, as flax writes them.
        feature_group_count: groups of channels.
        **options: passed on to the native convolution.
    """
    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    numeric = not isinstance(padding, str) and all(len(p) == 2 for p in padding)
    if jax.default_backend() != "cpu" or dilated or not numeric:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers or ("NHWC", "HWIO", "NHWC"),
            feature_group_count,
            **options,
        )
    parts = windows(lhs, rhs.shape[:2], window_strides, padding)
    kernel = rhs.reshape(-1, *rhs.shape[2:])
    if feature_group_count == lhs.shape[-1] == rhs.shape[-1]:
        return sum(part * kernel[i, 0] for i, part in enumerate(parts))  # pyright: ignore[reportReturnType]
    if feature_group_count == 1:
        patches = jnp.concatenate(parts, axis=-1)
        flat = patches.reshape(-1, patches.shape[-1])
        product = flat @ kernel.reshape(-1, kernel.shape[-1])
        return product.reshape(*patches.shape[:-1], -1)
    grouped = jnp.stack(parts, axis=-2)
    shape = (*grouped.shape[:-1], feature_group_count, rhs.shape[2])
    by_group = kernel.reshape(*kernel.shape[:2], feature_group_count, -1)
    made = jnp.einsum("bhwkgc,kcgf->bhwgf", grouped.reshape(shape), by_group)
    return made.reshape(*made.shape[:3], -1)


def windows(
    images: Float[Array, "B H W C"],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> list[Float[Array, "B h w C"]]:
    """Returns what each place of a kernel sees, row by row; zeros where there is padding.

    Args:
        images: channels last.
        kernel: height and width.
        strides: of both axes.
        padding: (before, after) of both axes.
    """
    padded = images
    if any(max(p) for p in padding):
        padded = jnp.pad(images, ((0, 0), *map(tuple, padding), (0, 0)))
    rows, columns = (
        (padded.shape[1 + axis] - kernel[axis]) // strides[axis] + 1 for axis in (0, 1)
    )
    return [
        lax.slice(
            padded,
            (0, i, j, 0),
            (
                padded.shape[0],
                i + strides[0] * (rows - 1) + 1,
                j + strides[1] * (columns - 1) + 1,
                padded.shape[3],
            ),
            (1, strides[0], strides[1], 1),
        )
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
