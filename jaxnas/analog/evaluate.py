"""Accuracy on analog tiles over programming draws and times, in one compiled program."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.analog import noise
from jaxnas.analog.config import Hyper
from jaxnas.analog.layers import Source, apply
from jaxnas.analog.plan import Plan
from jaxnas.analog.program import Drifted, drift, program, tile_values
from jaxnas.analog.variables import check_converted, flax_variables
from jaxnas.core.errors import UserError, unknown_name

TIMES = (60.0, 3600.0, 86400.0, 2592000.0)
"""Seconds after programming that IBM's benchmark reads at: minute, hour, day, 30 days."""


@dataclass(frozen=True)
class Evaluation:
    """What is static about an evaluation.

    Raises:
        UserError: a number below 1, an unknown loop or noise source.
    """

    draws: int = 25  # number of programming draws, that is chips
    batch: int = 100  # images a pass; zeros that do not count fill up the last one
    loop: str = "auto"
    """Over draws, ``"map"`` (one after another), ``"vmap"`` (at once) or ``"auto"``: one
    after another on a CPU, where a batch of kernels makes a convolution a grouped one,
    several times slower."""
    noise: str = "counter"
    """Of the outputs: ``"counter"`` or ``"threefry"`` for independent numbers, ``"bank"``
    reuses a bank's and is for search only."""
    bank_size: int = 1 << 22  # at least 4 times the largest output of a batch
    reprogram: bool = False  # for each time, instead of reading one chip at all times
    logits: bool = False  # whether to return the logits too

    def __post_init__(self) -> None:
        noise.check_source(self.noise)
        if self.loop not in ("auto", "map", "vmap"):
            raise unknown_name("loop", self.loop, ("auto", "map", "vmap"))
        if min(self.draws, self.batch, self.bank_size) < 1:
            raise UserError(
                f"draws={self.draws}, batch={self.batch} and bank_size={self.bank_size} "
                "must all be 1 or more."
            )

    def over(self, function: Any, items: PyTree) -> PyTree:
        """Returns ``function`` of each of the items, stacked."""
        loop = self.loop
        if loop == "auto":
            loop = "map" if jax.default_backend() == "cpu" else "vmap"
        return jax.vmap(function)(items) if loop == "vmap" else jax.lax.map(function, items)


BENCHMARK = Evaluation()  # 25 chips, 100 images a pass


class Accuracy(NamedTuple):
    """What an evaluation found."""

    accuracy: Float[Array, "D T"]  # share of the images that are classified correctly
    logits: Float[Array, "D T n classes"] | None  # None unless asked for


def evaluate(
    key: Key[Array, ""],
    variables: PyTree,
    images: Float[Array, "n ..."],
    labels: Int[Array, "m"],
    times: Float[Array, "T"],
    hyper: Hyper,
    *,
    module: nn.Module,
    plan: Plan,
    settings: Evaluation = BENCHMARK,
) -> Accuracy:
    """Returns the accuracy of each chip at each time, in seconds since programming.

    Each draw programs a chip anew; the times share it, as on hardware, unless
    ``settings.reprogram``. Read noise is drawn at each time, output noise for each product.
    Draw ``d`` of a key is the same whatever the number of draws. Times, weights and numbers
    are traced, so that others do not compile again; the network is called as
    ``module.apply(variables, x)``.

    Raises:
        UserError: the variables are digital, or images and labels differ in number.
    """
    check_converted(variables)
    if images.shape[0] != labels.shape[0] or not labels.shape[0]:
        raise UserError(
            f"{images.shape[0]} images and {labels.shape[0]} labels do not go together; "
            "give one label for each image, and at least one."
        )
    batches = _in_batches(images, settings.batch)
    bank = None
    if settings.noise == "bank":
        bank = noise.make_bank(jax.random.fold_in(key, 0x62616E6B), settings.bank_size)
    weight_source = "counter" if settings.noise == "bank" else settings.noise

    def one_time(item: tuple[Any, Any, Array]) -> PyTree:
        own, chip, seconds = item
        drift_key, output_key = jax.random.split(own)
        if chip is None:
            drift_key, chip_key = jax.random.split(drift_key)
            chip = program(chip_key, variables, plan, hyper, source=weight_source)
        held = drift(drift_key, chip, seconds, plan, hyper, source=weight_source)
        logits = forward(
            output_key, variables, held, batches, hyper, module, plan, settings.noise, bank
        )
        logits = logits.reshape(-1, logits.shape[-1])[: labels.shape[0]]
        right = jnp.mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32))
        return (right, logits) if settings.logits else (right,)

    def one_draw(number: Array) -> PyTree:
        chip_key, time_key = jax.random.split(jax.random.fold_in(key, number))
        chip = None
        if not settings.reprogram:
            chip = program(chip_key, variables, plan, hyper, source=weight_source)
        keys = jax.random.split(time_key, times.shape[0])
        return jax.lax.map(lambda kt: one_time((kt[0], chip, kt[1])), (keys, times))

    found = settings.over(one_draw, jnp.arange(settings.draws, dtype=jnp.int32))
    return Accuracy(found[0], found[1] if settings.logits else None)


def forward(
    key: Key[Array, ""],
    variables: PyTree,
    held: Drifted,
    batches: Float[Array, "N B ..."],
    hyper: Hyper,
    module: nn.Module,
    plan: Plan,
    source: str = "counter",
    bank: Float[Array, "Z"] | None = None,
) -> Float[Array, "N B ..."]:
    """Returns the network's outputs with given weights on its tiles, batch after batch."""
    values = tile_values(variables, held)

    def one_batch(item: tuple[Array, Array]) -> Array:
        number, x = item
        streams = noise.streams(jax.random.fold_in(key, number), plan.num_streams)
        noise_source = Source(streams, source, bank)
        return apply(
            module, plan, flax_variables(variables), values, x, noise_source, hyper
        )

    return jax.lax.map(one_batch, (jnp.arange(batches.shape[0], dtype=jnp.int32), batches))


def _in_batches(images: Float[Array, "n ..."], size: int) -> Float[Array, "N B ..."]:
    """Returns the images in full batches, the last one filled up with zeros."""
    count = -(-images.shape[0] // size)
    missing = count * size - images.shape[0]
    padded = jnp.pad(images, [(0, missing)] + [(0, 0)] * (images.ndim - 1))
    return padded.reshape(count, size, *images.shape[1:])


evaluate_compiled = functools.partial(
    jax.jit, static_argnames=("module", "plan", "settings")
)(evaluate)
"""``evaluate`` as one compiled program; another network, plan or setting compiles anew."""
