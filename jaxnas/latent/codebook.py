"""The codebook: nearest code, straight-through gradient, upkeep and usage statistics.

Axis letters: ``K`` codes of ``D`` numbers each, ``S`` positions of an architecture that
each hold one code. All positions share the codebook.

Reference: van den Oord et al., 2017, section 3 and appendix A.1 (moving averages); the
revival of dead codes is that of Dhariwal et al., 2020, appendix B.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

Scalar = float | Float[Array, ""]
_EPS = 1e-5
MOMENTUM = 0.98
"""Of the running usage that says which codes are dead."""


class Codebook(NamedTuple):
    """The codes and the running averages behind them."""

    codes: Float[Array, "K D"]
    sums: Float[Array, "K D"]
    """Moving average of the sum of the encoder's outputs that chose each code."""
    counts: Float[Array, "K"]
    """Moving average of how many chose each code in a batch."""
    usage: Float[Array, "K"]
    """Moving average of the share that chose each code; sums to 1."""


def init(key: Key[Array, ""], num_codes: int, dims: int) -> Codebook:
    """Returns codes drawn from a standard normal, all equally used."""
    codes = jax.random.normal(key, (num_codes, dims), dtype=jnp.float32)
    ones = jnp.ones(num_codes, jnp.float32)
    return Codebook(codes, codes, ones, ones / num_codes)


def nearest(codes: Float[Array, "K D"], x: Float[Array, "*n D"]) -> Int[Array, "*n"]:
    """Returns the index of the code at the smallest Euclidean distance."""
    cross = jnp.einsum("...d,kd->...k", x, codes)
    return jnp.argmin(jnp.sum(codes**2, axis=1) - 2 * cross, axis=-1).astype(jnp.int32)


def straight_through(
    x: Float[Array, "*n D"], quantised: Float[Array, "*n D"]
) -> Float[Array, "*n D"]:
    """Returns ``quantised`` whose gradient is passed on to ``x`` unchanged."""
    return x + jax.lax.stop_gradient(quantised - x)


def codebook_loss(
    x: Float[Array, "*n D"], quantised: Float[Array, "*n D"]
) -> Float[Array, ""]:
    """Returns the mean squared distance that moves codes towards the encoder's outputs."""
    return jnp.mean((quantised - jax.lax.stop_gradient(x)) ** 2)


def commitment_loss(
    x: Float[Array, "*n D"], quantised: Float[Array, "*n D"]
) -> Float[Array, ""]:
    """Returns the mean squared distance that moves the encoder towards its codes."""
    return jnp.mean((x - jax.lax.stop_gradient(quantised)) ** 2)


def divergence_loss(codes: Float[Array, "K D"]) -> Float[Array, ""]:
    """Returns how crowded the codes are, in [0, 1]: mean of ``exp(-|e_i - e_j|^2 / D)``.

    The original pushed codes apart by subtracting a squared distance from the loss, which
    has no minimum: the codes can run away for ever. Here the reward for distance fades, so
    the loss stays bounded below and codes a few units apart feel nothing.
    """
    num, dims = codes.shape
    gaps = jnp.sum((codes[:, None] - codes[None]) ** 2, axis=-1)
    others = 1.0 - jnp.eye(num, dtype=jnp.float32)
    return jnp.sum(others * jnp.exp(-gaps / dims)) / max(num * (num - 1), 1)


def observe(book: Codebook, index: Int[Array, "n"]) -> Codebook:
    """Returns the codebook with its running usage updated by one batch of choices."""
    share = choice_counts(index, book.codes.shape[0]) / index.shape[0]
    return book._replace(usage=MOMENTUM * book.usage + (1 - MOMENTUM) * share)


def follow(
    book: Codebook, x: Float[Array, "n D"], index: Int[Array, "n"], decay: Scalar
) -> Codebook:
    """Returns the codebook after one moving-average step towards its encoder outputs."""
    num = book.codes.shape[0]
    chosen = jax.nn.one_hot(index, num, dtype=jnp.float32)
    counts = decay * book.counts + (1 - decay) * jnp.sum(chosen, axis=0)
    sums = decay * book.sums + (1 - decay) * chosen.T @ x
    # sum and count of a code that nobody chooses fade alike, so it stays where it is
    mean = sums / jnp.maximum(counts, _EPS)[:, None]
    codes = jnp.where(counts[:, None] > _EPS, mean, book.codes)
    return book._replace(codes=codes, sums=sums, counts=counts)


def revive(
    key: Key[Array, ""], book: Codebook, x: Float[Array, "n D"], floor: Scalar
) -> Codebook:
    """Returns the codebook with codes used below ``floor / K`` moved onto random ``x``."""
    num = book.codes.shape[0]
    dead = book.usage < floor / num
    rows = jax.random.randint(key, (num,), 0, x.shape[0], dtype=jnp.int32)
    codes = jnp.where(dead[:, None], x[rows], book.codes)
    counts = jnp.where(dead, 1.0, book.counts)
    sums = jnp.where(dead[:, None], x[rows], book.sums)
    return Codebook(codes, sums, counts, jnp.where(dead, 1.0 / num, book.usage))


def choice_counts(index: Int[Array, "*n"], num_codes: int) -> Float[Array, "K"]:
    """Returns how often each code was chosen."""
    return jnp.sum(jax.nn.one_hot(index.reshape(-1), num_codes, dtype=jnp.float32), axis=0)


def perplexity(counts: Float[Array, "K"]) -> Float[Array, ""]:
    """Returns ``exp(entropy)`` of code use: 1 for one code, ``K`` for all equally."""
    share = counts / jnp.maximum(jnp.sum(counts), 1.0)
    return jnp.exp(jnp.sum(jax.scipy.special.entr(share)))


def live(counts: Float[Array, "K"]) -> Bool[Array, "K"]:
    """Returns which codes were chosen at all."""
    return counts > 0
