"""Input ranges for a network that was put on tiles and never trained there."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from jaxnas.analog.config import Scalar
from jaxnas.analog.layers import conv_geometry, unfold
from jaxnas.analog.plan import Plan
from jaxnas.analog.variables import check_converted, flax_variables
from jaxnas.core.errors import UserError, unknown_name

METHODS = ("std", "max", "quantile")


def calibrate(
    variables: PyTree,
    images: Float[Array, "n ..."],
    *,
    module: nn.Module,
    plan: Plan,
    method: str = "std",
    batch: int = 100,
    deviations: Scalar = 3.0,
    quantile: Scalar = 0.99995,
) -> dict[str, Any]:
    """Returns the variables with input ranges set from data, the network run digitally.

    ``"std"``: ``deviations`` standard deviations of a tile's inputs, mean over batches;
    ``"max"``: the largest magnitude over all batches; ``"quantile"``: that quantile of the
    magnitudes, mean over batches. A tile whose inputs are all zero keeps its range. Not for
    layers inside a lifted transformation such as ``nn.switch``.

    Raises:
        UserError: an unknown method, digital variables, tiles without ranges or no image.
    """
    check_converted(variables)
    if method not in METHODS:
        raise unknown_name("calibration", method, METHODS)
    if not plan.structure.input_range:
        raise UserError(
            "These tiles have no input range to calibrate; choose a preset with "
            "input_range=True."
        )
    if not images.shape[0]:
        raise UserError("Calibration needs at least one image.")
    batch = min(batch, images.shape[0])
    count = images.shape[0] // batch
    batches = images[: count * batch].reshape(count, batch, *images.shape[1:])

    def statistic(vectors: Float[Array, "..."]) -> Float[Array, ""]:
        if method == "std":
            return deviations * jnp.std(vectors, ddof=1)
        size = jnp.abs(vectors)
        return jnp.max(size) if method == "max" else jnp.quantile(size, quantile)

    def one_batch(x: Array) -> Float[Array, "K"]:
        found: dict[int, Array] = {}

        def watch(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
            layer = plan.find(context.module.path)
            if context.method_name == "__call__" and layer is not None:
                vectors = args[0]
                if isinstance(context.module, nn.Conv):
                    geometry = conv_geometry(context.module)
                    vectors = unfold(vectors, layer.kernel[:-2], geometry)
                for tile in layer.tiles:
                    found[tile.index] = statistic(vectors[..., layer.inputs_of(tile)])
            return next_fun(*args, **kwargs)

        with nn.intercept_methods(watch):
            module.apply(flax_variables(variables), x)
        return jnp.stack([found[i] for i in range(plan.num_tiles)])

    each = jax.lax.map(one_batch, batches)
    b = jnp.max(each, axis=0) if method == "max" else jnp.mean(each, axis=0)
    learned = variables["analog"]
    b = jnp.where(b > 0, b, learned.input_range)
    return {**variables, "analog": learned._replace(input_range=b)}
