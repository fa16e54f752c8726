"""Quality of a latent space, on architectures that the fit has not seen."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.latent import codebook as cb
from jaxnas.latent.networks import Scalar
from jaxnas.latent.vqvae import VQVAE, Params

NEIGHBOURS = 5
"""Nearest architectures that smoothness looks at."""
GARBAGE = 256
"""Latents that no encoder wrote, to test that they decode to something valid."""
COLLAPSED = 0.5
"""Share of live codes below which a codebook is called collapsed."""


class Quality(NamedTuple):
    """Measurements on held-out architectures; more is better unless said otherwise."""

    match: Scalar
    """Share that is reconstructed with every token right."""
    token_match: Scalar
    """Share of the tokens that is right."""
    validity: Scalar
    """Share of latents, most of them no encoding, that decode to a valid architecture."""
    live_codes: Scalar
    """Codes that some held-out architecture uses."""
    perplexity: Scalar
    """``exp(entropy)`` of code use, at most ``K``."""
    mean: Scalar
    """Of all latent numbers; 0 by construction up to sampling."""
    spread: Scalar
    """Root mean square around it; 1 by construction up to sampling."""
    step_tokens: Scalar
    """Tokens that change when one random entry is written; no better or worse side."""
    idle_steps: Scalar
    """Share of such writes that change nothing; less is better."""
    smoothness: Scalar
    """Correlation of true score with the mean of the 5 nearest in latent space."""
    token_smoothness: Scalar
    """The same with neighbours by differing tokens: what the space gives unlearned."""
    score_r2: Scalar
    """Of the score head; below 0 it is worse than the mean."""
    score_rank: Scalar
    """Spearman correlation of head and truth."""


def assess(
    model: VQVAE,
    params: Params,
    key: Key[Array, ""],
    tokens: Int[Array, "H L"],
    scores: Float[Array, "H"],
) -> Quality:
    """Returns all measurements on unseen ``tokens`` of true ``scores``; vmappable."""
    index = jax.vmap(lambda t: model.choose(params, t))(tokens)
    latent = params.codes[index].reshape(len(tokens), -1)
    decoded = jax.vmap(lambda z: model.decode(params, z))(latent)
    guess = jax.vmap(lambda z: model.score(params, z))(latent)
    right = decoded == tokens
    counts = cb.choice_counts(index, model.codes)
    changed = _step(model, params, jax.random.fold_in(key, 1), latent, decoded)
    spread = jnp.sum((scores - jnp.mean(scores)) ** 2)
    return Quality(
        match=jnp.mean(jnp.all(right, axis=1).astype(jnp.float32)),
        token_match=jnp.mean(right.astype(jnp.float32)),
        validity=validity(model, params, key),
        live_codes=jnp.sum(cb.live(counts).astype(jnp.float32)),
        perplexity=cb.perplexity(counts),
        mean=jnp.mean(latent),
        spread=jnp.std(latent),
        step_tokens=jnp.mean(changed.astype(jnp.float32)),
        idle_steps=jnp.mean((changed == 0).astype(jnp.float32)),
        smoothness=neighbour_correlation(latent, scores),
        token_smoothness=neighbour_correlation(_one_hot(model, tokens), scores),
        score_r2=1 - jnp.sum((scores - guess) ** 2) / spread,
        score_rank=correlation(_ranks(guess), _ranks(scores)),
    )


def validity(model: VQVAE, params: Params, key: Key[Array, ""]) -> Float[Array, ""]:
    """Returns the share of latents from four sources that decode to something valid.

    Standard normal; codes put together at random; a thousand times too large; not finite.
    """
    keys = jax.random.split(key, 2)
    normal = jax.random.normal(keys[0], (GARBAGE, model.latent_size), dtype=jnp.float32)
    pick = jax.random.randint(keys[1], normal.shape, 0, model.codes, dtype=jnp.int32)
    mixed = model.entries(params)[pick, jnp.arange(model.latent_size, dtype=jnp.int32)]
    broken = jnp.where(normal > 1, jnp.nan, jnp.where(normal < -1, -jnp.inf, normal))
    latent = jnp.concatenate([normal, mixed, 1000 * normal, broken])
    decoded = jax.vmap(lambda z: model.decode(params, z))(latent)
    valid = jax.vmap(lambda t: tk.is_valid(model.space, t))(decoded)
    return jnp.mean(valid.astype(jnp.float32))


def _one_hot(model: VQVAE, tokens: Int[Array, "H L"]) -> Float[Array, "H I"]:
    """Returns tokens as vectors whose squared distance counts differing tokens twice."""
    hot = jax.nn.one_hot(tokens, model.space.vocab, dtype=jnp.float32)
    return hot.reshape(len(tokens), -1)


def _step(
    model: VQVAE,
    params: Params,
    key: Key[Array, ""],
    latent: Float[Array, "H Z"],
    decoded: Int[Array, "H L"],
) -> Int[Array, "H"]:
    """Returns how many tokens change when one random entry is written into a latent."""
    place, code = jax.random.split(key)
    rows = jnp.arange(len(latent), dtype=jnp.int32)
    where = jax.random.randint(place, rows.shape, 0, model.latent_size, dtype=jnp.int32)
    which = jax.random.randint(code, rows.shape, 0, model.codes, dtype=jnp.int32)
    moved = latent.at[rows, where].set(model.entries(params)[which, where])
    after = jax.vmap(lambda z: model.decode(params, z))(moved)
    return jnp.sum(after != decoded, axis=1)


def neighbour_correlation(
    x: Float[Array, "H F"], scores: Float[Array, "H"]
) -> Float[Array, ""]:
    """Returns the correlation of a score with its nearest neighbours' mean score."""
    squares = jnp.sum(x**2, axis=1)
    gaps = squares[:, None] + squares[None] - 2 * x @ x.T
    gaps = gaps + jnp.diag(jnp.full(len(x), jnp.inf))
    _, near = jax.lax.top_k(-gaps, NEIGHBOURS)
    return correlation(scores, jnp.mean(scores[near], axis=1))


def correlation(a: Float[Array, "n"], b: Float[Array, "n"]) -> Float[Array, ""]:
    """Returns Pearson's correlation, 0 where one side does not vary."""
    a, b = a - jnp.mean(a), b - jnp.mean(b)
    size = jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2))
    return jnp.where(size > 0, jnp.sum(a * b) / jnp.where(size > 0, size, 1.0), 0.0)


def _ranks(x: Float[Array, "n"]) -> Float[Array, "n"]:
    """Returns the place of each value in ascending order; ties in the order given."""
    return jnp.argsort(jnp.argsort(x)).astype(jnp.float32)


def warn_if_collapsed(model: VQVAE, quality: Quality) -> None:
    """Warns where few codes are in use; host side."""
    live = int(np.asarray(quality.live_codes))
    if live < COLLAPSED * model.codes:
        warnings.warn(
            f"The codebook has collapsed: {live} of {model.codes} codes are in use; raise "
            "the divergence weight or the revival floor, or take fewer codes.",
            stacklevel=2,
        )
