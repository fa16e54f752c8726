"""Ours: forward and gradient of three 3x3 convolutions in a loop, by implementation."""

import argparse

import jax
import jax.numpy as jnp
from jax import lax
from worker import Region, serve

import jaxnas
from jaxnas.core.convolution import fast_conv

STEPS = 20


def prepare(args: argparse.Namespace) -> Region:
    """Returns the region: ``STEPS`` steps in one scan."""
    jaxnas.configure_host(1)
    function = fast_conv if args.kind == "product" else lax.conv_general_dilated
    side, channels = args.side, args.channels
    x = jax.random.normal(jax.random.key(0), (64, side, side, channels))
    start = 0.1 * jax.random.normal(jax.random.key(1), (3, 3, channels, channels))
    names = ("NHWC", "HWIO", "NHWC")

    def loss(w, x):
        for _ in range(3):
            y = function(x, w, (1, 1), ((1, 1), (1, 1)), dimension_numbers=names)
            x = jnp.tanh(y)
        return jnp.sum(x**2)

    @jax.jit
    def run(w):
        def step(w, _):
            to_w, to_x = jax.grad(loss, (0, 1))(w, x)
            return w - 1e-6 * to_w, jnp.sum(to_x)

        w, sums = lax.scan(step, w, None, length=STEPS)
        return jnp.sum(w) + jnp.sum(sums)

    run(start).block_until_ready()
    return Region(lambda _: float(run(start)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=("product", "native"), required=True)
    parser.add_argument("--channels", type=int, required=True)
    parser.add_argument("--side", type=int, required=True)
    args = parser.parse_args()
    serve(
        lambda: prepare(args),
        name="convolution",
        unit="convolution, forward and gradient",
        units=3 * STEPS,
        kind=args.kind,
    )
