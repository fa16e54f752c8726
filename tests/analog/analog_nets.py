"""Small networks that the analog tests share."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxnas.analog.evaluate import forward
from jaxnas.analog.program import ideal
from jaxnas.analog.variables import convert


class Small(nn.Module):
    """Three convolutions with batch norm and one dense layer."""

    features: tuple[int, ...] = (8, 16, 16)
    classes: int = 10

    @nn.compact
    def __call__(self, x, train: bool = False):
        for i, width in enumerate(self.features):
            strides = 2 if i == 1 else 1
            conv = nn.Conv(width, (3, 3), strides, 1, use_bias=False, name=f"conv{i}")
            x = conv(x)
            x = nn.BatchNorm(use_running_average=not train, name=f"norm{i}")(x)
            x = nn.relu(x)
        return nn.Dense(self.classes, name="out")(jnp.mean(x, axis=(1, 2)))


def digital_parts(key, variables, images, hyper, *, module, plan):
    """Logits with exact weights: only converters and output noise act."""
    held = ideal(variables, plan)
    return forward(key, variables, held, images[None], hyper, module, plan)[0]


class OneConv(nn.Module):
    """One convolution with a bias, its output the logits."""

    features: int
    kernel: tuple[int, int] = (3, 3)
    strides: int = 1

    @nn.compact
    def __call__(self, x, train: bool = False):
        return nn.Conv(self.features, self.kernel, self.strides, 1, name="conv")(x)


class OneDense(nn.Module):
    """One dense layer with a bias."""

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x, train: bool = False):
        return nn.Dense(self.features, self.use_bias, name="dense")(x)


def start(module, shape, seed=0):
    """Initial variables of a module, biases and statistics not at their trivial values."""
    variables = jax.jit(module.init)(jax.random.key(seed), jnp.zeros((1, *shape)))

    def shift(v):
        v = np.asarray(v)
        return (
            jnp.asarray(v + np.float32(0.1) * np.cos(np.arange(v.size), dtype=v.dtype))
            if v.ndim == 1
            else jnp.asarray(v)
        )

    return jax.tree.map(shift, variables)


on_tiles = jax.jit(convert, static_argnums=0)
