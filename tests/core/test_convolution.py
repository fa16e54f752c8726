"""The product of patches is XLA's convolution, in value and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from jaxnas.core.convolution import fast_conv, native_convolutions

CASES = {
    "3x3": ((2, 7, 6, 4), (3, 3, 4, 5), (1, 1), ((1, 1), (1, 1)), 1),
    "1x1": ((2, 7, 6, 4), (1, 1, 4, 5), (1, 1), ((0, 0), (0, 0)), 1),
    "stride": ((2, 8, 7, 3), (3, 3, 3, 6), (2, 2), ((1, 1), (1, 1)), 1),
    "stem": ((2, 12, 12, 3), (7, 7, 3, 4), (1, 1), ((1, 1), (1, 1)), 1),
    "uneven": ((1, 5, 9, 2), (2, 3, 2, 3), (1, 2), ((0, 1), (2, 0)), 1),
    "groups": ((2, 6, 6, 6), (3, 3, 2, 9), (1, 1), ((1, 1), (1, 1)), 3),
    "depthwise": ((2, 6, 6, 5), (3, 3, 1, 5), (1, 1), ((1, 1), (1, 1)), 5),
    "multiplier": ((2, 6, 6, 3), (3, 3, 1, 6), (1, 1), ((1, 1), (1, 1)), 3),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_native_convolution(case):
    image, kernel, strides, padding, groups = CASES[case]
    x = jax.random.normal(jax.random.key(0), image)
    w = jax.random.normal(jax.random.key(1), kernel) / np.prod(kernel[:3]) ** 0.5
    names = ("NHWC", "HWIO", "NHWC")

    def loss(convolution, x, w):
        y = convolution(
            x, w, strides, padding, dimension_numbers=names, feature_group_count=groups
        )
        return jnp.sum(jnp.sin(y)), y

    for value, native in zip(
        jax.tree.leaves(jax.grad(loss, (1, 2), has_aux=True)(fast_conv, x, w)),
        jax.tree.leaves(
            jax.grad(loss, (1, 2), has_aux=True)(lax.conv_general_dilated, x, w)
        ),
        strict=True,
    ):
        np.testing.assert_allclose(value, native, rtol=2e-4, atol=2e-5)


def test_dilation_goes_to_the_native_convolution():
    x = jax.random.normal(jax.random.key(0), (1, 9, 9, 2))
    w = jax.random.normal(jax.random.key(1), (3, 3, 2, 2))
    names = ("NHWC", "HWIO", "NHWC")
    arguments = ((1, 1), ((2, 2), (2, 2)), (1, 1), (2, 2), names)
    found = fast_conv(x, w, *arguments)
    np.testing.assert_array_equal(found, lax.conv_general_dilated(x, w, *arguments))


def test_a_program_that_is_exported_runs_elsewhere():
    """Nothing in it is understood by this process alone."""
    shape = jax.ShapeDtypeStruct((2, 6, 6, 3), jnp.float32)
    w = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    program = jax.jit(lambda x: fast_conv(x, w, (1, 1), ((1, 1), (1, 1))))
    with native_convolutions():
        made = export.export(program, platforms=("cpu", "tpu"))(shape)
    back = export.deserialize(made.serialize())
    x = jax.random.normal(jax.random.key(0), shape.shape)
    here = fast_conv(x, w, (1, 1), ((1, 1), (1, 1)))
    np.testing.assert_allclose(back.call(x), here, rtol=1e-4, atol=1e-5)
