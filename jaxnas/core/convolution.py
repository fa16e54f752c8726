"""Convolution as one matrix product, which XLA's CPU backend runs many times faster.

Inside a loop (``scan``, ``map``) that backend runs ``lax.conv_general_dilated`` and above
all its gradients on one naive path. Here the image is held with the batch as its fastest
axis, so that a patch is a run of memory to copy and arithmetic between layers is over runs
too, and the patches are multiplied by the kernel (``benchmarks/children.py conv``). On
other devices the native convolution is used.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

BATCH_FASTEST = Layout(major_to_minor=(3, 1, 2, 0))
"""Of an array ``[B, H, W, C]``: channels slowest in memory, then rows, columns, batch."""
_native: ContextVar[bool] = ContextVar("native", default=False)


@contextlib.contextmanager
def native_convolutions() -> Iterator[None]:
    """What is traced inside uses XLA's own convolution on every device.

    For programs that leave this process, such as ``jax.export``: they run on other devices,
    and a constraint on the layout has no portable form. A function that ``jit`` traced
    before keeps what it has.
    """
    token = _native.set(True)
    try:
        yield
    finally:
        _native.reset(token)


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
    it is a product of patches; up to rounding the numbers are the same. Dilations other
    than 1, and padding by name instead of (before, after) of both axes, go to the native
    one, as do ``options``; ``c`` is ``C`` over the groups, ``feature_group_count``.
    """
    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    numeric = not isinstance(padding, str) and all(len(p) == 2 for p in padding)
    native = _native.get() or jax.default_backend() != "cpu"
    if native or dilated or not numeric:
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation,
            dimension_numbers or ("NHWC", "HWIO", "NHWC"), feature_group_count, **options,
        )  # fmt: skip
    parts = windows(lhs, rhs.shape[:2], window_strides, padding)
    kernel = rhs.reshape(-1, *rhs.shape[2:])
    height, width, batch = parts[0].shape[1:]
    if feature_group_count == lhs.shape[-1] == rhs.shape[-1]:
        made = sum(part * kernel[i, 0][:, None, None, None] for i, part in enumerate(parts))
    elif feature_group_count == 1:
        patches = jnp.concatenate(parts) if len(parts) > 1 else parts[0]
        flat = patches.reshape(-1, height * width * batch)
        made = kernel.reshape(-1, kernel.shape[-1]).T @ flat
    else:
        taps, groups = jnp.stack(parts), feature_group_count
        by_group = kernel.reshape(*kernel.shape[:2], groups, -1)
        flat = taps.reshape(len(parts), groups, rhs.shape[2], -1)
        made = jnp.einsum("kgcm,kcgf->gfm", flat, by_group)
    made = jnp.reshape(made, (rhs.shape[3], height, width, batch))
    return jnp.transpose(made, (3, 1, 2, 0))


def windows(
    images: Float[Array, "B H W C"],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> list[Float[Array, "C h w B"]]:
    """Returns what each place of a kernel sees, row by row; zeros where there is padding.

    ``kernel`` and ``strides`` are of height and width, ``padding`` (before, after) of each.
    """
    # Without the constraint XLA copies whatever made the images into each of the windows.
    held = with_layout_constraint(images, BATCH_FASTEST)
    padded = jnp.transpose(held, (3, 1, 2, 0))
    if any(max(p) for p in padding):
        padded = jnp.pad(padded, ((0, 0), *map(tuple, padding), (0, 0)))
    rows, columns = (
        (padded.shape[1 + axis] - kernel[axis]) // strides[axis] + 1 for axis in (0, 1)
    )
    high, wide = strides[0] * (rows - 1) + 1, strides[1] * (columns - 1) + 1
    every, last = padded.shape[0], padded.shape[3]
    return [
        lax.slice(padded, (0, i, j, 0), (every, i + high, j + wide, last), (1, *strides, 1))
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
