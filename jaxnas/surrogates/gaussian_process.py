"""A Gaussian process over architectures, whose kernel is a mixture over three views."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PyTree

from jaxnas.surrogates.views import View

JITTER = 1e-4
"""Variance added to every observation, of labels of variance one."""


class Kernel(NamedTuple):
    """What is fitted; logarithms, but for ``mixture``, whose softmax weighs the parts."""

    edges: Float[Array, "L"]
    """Log weight of a difference in each token."""
    paths: Float[Array, ""]
    """Log length scale of the path counts."""
    summary: Float[Array, "Z"]
    """Log length scale of each summary."""
    mixture: Float[Array, "3"]
    scale: Float[Array, ""]
    """Log variance of the function."""
    noise: Float[Array, ""]
    """Log variance of an observation around it."""


class Posterior(NamedTuple):
    """What observations, masked rows among them, say about the function."""

    views: View
    """Of the observations, ``N`` rows."""
    inverse: Float[Array, "N N"]
    """Inverse of the Cholesky factor of their covariance."""
    weights: Float[Array, "N"]
    """Covariance inverse times labels."""


def prior(length: int, view: View) -> Kernel:
    """Returns the means of the priors, where a fit begins."""
    summaries = view.summary.shape[-1]
    return Kernel(
        edges=jnp.full(length, jnp.log(2.0 / length), jnp.float32),
        paths=jnp.float32(jnp.log(2.0)),
        summary=jnp.full(summaries, 0.5 * jnp.log(2.0 * summaries), jnp.float32),
        mixture=jnp.zeros(3, jnp.float32),
        scale=jnp.float32(0.0),
        noise=jnp.float32(jnp.log(0.02)),
    )


SPREAD = Kernel(1.0, 0.7, 0.7, 1.0, 0.7, 1.5)  # pyright: ignore[reportArgumentType]
"""Standard deviations of the priors, all normal in the logarithm."""


def covariance(kernel: Kernel, a: View, b: View) -> Float[Array, "n m"]:
    """Returns the covariance of the function at two lists of architectures.

    ``scale`` times the softmax-weighted sum of: the exponential of minus the weighted
    Hamming distance of the tokens; squared exponentials of paths and of summaries.
    """
    weights = jnp.exp(kernel.edges)
    root = jnp.repeat(jnp.sqrt(weights), a.tokens.shape[-1] // weights.shape[0])
    agree = (a.tokens * root) @ (b.tokens * root).T
    exponents = (
        agree - jnp.sum(weights),
        -_squared(a.paths, b.paths, kernel.paths) / 2,
        -_squared(a.summary, b.summary, kernel.summary) / 2,
    )
    shares = jax.nn.softmax(kernel.mixture) * jnp.exp(kernel.scale)
    tokens, paths, summary = (
        w * jnp.exp(x) for w, x in zip(shares, exponents, strict=True)
    )
    return tokens + paths + summary


def _squared(
    a: Float[Array, "n F"], b: Float[Array, "m F"], scale: Float[Array, "*F"]
) -> Float[Array, "n m"]:
    """Returns squared distances in units of length scales, given by their logarithms."""
    a, b = a * jnp.exp(-scale), b * jnp.exp(-scale)
    found = jnp.sum(a**2, 1)[:, None] + jnp.sum(b**2, 1)[None] - 2 * a @ b.T
    return jnp.maximum(found, 0.0)


def _factor(kernel: Kernel, views: View, held: Bool[Array, "N"]) -> Float[Array, "N N"]:
    """Returns the Cholesky factor of the covariance; rows not held are independent."""
    both = held[:, None] & held[None]
    noise = jnp.exp(kernel.noise) + JITTER
    eye = jnp.eye(held.shape[0], dtype=jnp.float32)
    cov = jnp.where(both, covariance(kernel, views, views), 0.0)
    return jnp.linalg.cholesky(cov + eye * jnp.where(held, noise, 1.0))


def log_posterior(
    kernel: Kernel,
    start: Kernel,
    views: View,
    labels: Float[Array, "N"],
    held: Bool[Array, "N"],
) -> Float[Array, ""]:
    """Returns log marginal likelihood plus log prior, up to a constant."""
    factor = _factor(kernel, views, held)
    known = jnp.where(held, labels, 0.0)
    z = jax.scipy.linalg.solve_triangular(factor, known, lower=True)
    likelihood = -0.5 * jnp.sum(z**2) - jnp.sum(jnp.log(jnp.diagonal(factor)))
    penalty = jax.tree.map(
        lambda x, m, s: jnp.sum(((x - m) / s) ** 2), kernel, start, SPREAD
    )
    return likelihood - 0.5 * sum(jax.tree.leaves(penalty))


def fit(
    kernel: Kernel,
    start: Kernel,
    views: View,
    labels: Float[Array, "N"],
    held: Bool[Array, "N"],
    steps: int,
    rate: float = 0.1,
) -> Kernel:
    """Returns the kernel after some steps of Adam up the log posterior, from a kernel."""
    optimiser = optax.adam(rate, b1=0.8, b2=0.95)
    gradient = jax.grad(lambda k: -log_posterior(k, start, views, labels, held))

    def step(carry: PyTree, _: None) -> tuple[PyTree, None]:
        kernel, state = carry
        slope = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0.0), gradient(kernel))
        updates, state = optimiser.update(slope, state)
        return (optax.apply_updates(kernel, updates), state), None

    carry = (kernel, optimiser.init(kernel))
    (kernel, _), _ = jax.lax.scan(step, carry, length=steps)
    return kernel


def condition(
    kernel: Kernel, views: View, labels: Float[Array, "N"], held: Bool[Array, "N"]
) -> Posterior:
    """Returns the posterior after observations."""
    factor = _factor(kernel, views, held)
    eye = jnp.eye(held.shape[0], dtype=jnp.float32)
    inverse = jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
    inverse = jnp.where(held[:, None] & held[None], inverse, 0.0)
    return Posterior(views, inverse, inverse.T @ (inverse @ jnp.where(held, labels, 0.0)))


def predict(
    kernel: Kernel, posterior: Posterior, views: View
) -> tuple[Float[Array, "M"], Float[Array, "M"]]:
    """Returns mean and standard deviation of the function, noise left out."""
    cross = covariance(kernel, posterior.views, views)
    mean = posterior.weights @ cross
    explained = jnp.sum((posterior.inverse @ cross) ** 2, axis=0)
    return mean, jnp.sqrt(jnp.maximum(jnp.exp(kernel.scale) - explained, 1e-10))
