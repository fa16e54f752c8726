"""Operators on architectures written as token vectors, all derived from one legality mask.

A space gives ``mask(tokens, t)``, the legal tokens at position ``t`` after the prefix
``tokens[:t]``. Everything here follows from it, stays inside the space without rejection
loops, and works under ``jit`` and ``vmap``.
"""

import functools
import hashlib
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from jaxnas.core.errors import UserError
from jaxnas.core.space import Counted, Mutable, SearchSpace, Sized

WIDE, BLOCK = 32, 16
"""Choices from which a cumulative sum is taken in blocks, and the size of a block."""
ENUMERABLE = 2**20
"""Largest space that is ever held as a table of its members."""


def inverse_cdf(u: Float[Array, "*b"], weights: Float[Array, "*b V"]) -> Int[Array, "*b"]:
    """Returns an index drawn with probability ``weights / sum(weights)`` from one uniform.

    An entry of weight zero is never returned, whatever ``u`` in [0, 1). One uniform a draw
    instead of ``V`` Gumbel variables is several times cheaper on CPU.
    """
    if weights.shape[-1] >= WIDE:
        return _wide_inverse_cdf(u, weights)
    cdf = jnp.cumsum(weights, axis=-1)
    total = cdf[..., -1:]
    index = jnp.sum(cdf <= u[..., None] * total, axis=-1, dtype=jnp.int32)
    places = jnp.arange(weights.shape[-1], dtype=jnp.int32)
    last = jnp.max(jnp.where(weights > 0, places, 0), axis=-1)
    return jnp.minimum(index, last)


def _wide_inverse_cdf(
    u: Float[Array, "*b"], weights: Float[Array, "*b V"]
) -> Int[Array, "*b"]:
    """Returns what :func:`inverse_cdf` does, by sums within blocks and over blocks.

    Both are products with a triangle of ones, which on CPU take half the time of the
    passes that a long cumulative sum becomes. Rounding differs between blocks, so an entry
    is chosen only where its own weight is positive.
    """
    count = weights.shape[-1]
    blocks = -(-count // BLOCK)
    padding = [(0, 0)] * (weights.ndim - 1) + [(0, blocks * BLOCK - count)]
    padded = jnp.pad(weights, padding)
    inside = padded.reshape(*weights.shape[:-1], blocks, BLOCK) @ _ones_above(BLOCK, 0)
    before = inside[..., -1] @ _ones_above(blocks, 1)
    cdf = (inside + before[..., None]).reshape(padded.shape)
    places = jnp.arange(padded.shape[-1], dtype=jnp.int32)
    last = jnp.max(jnp.where(padded > 0, places, 0), axis=-1, keepdims=True)
    beyond = (cdf > u[..., None] * cdf[..., -1:]) & (padded > 0)
    return jnp.min(jnp.where(beyond, places, last), axis=-1).astype(jnp.int32)


def _ones_above(size: int, offset: int) -> Float[np.ndarray, "n n"]:
    return np.triu(np.ones((size, size), np.float32), offset)


def sample(key: Key[Array, ""], space: SearchSpace) -> Int[Array, "L"]:
    """Returns a random architecture, each token uniform over the legal ones.

    This is *not* uniform over architectures where the mask depends on the prefix; see
    :func:`sample_uniform`.
    """
    uniforms = jax.random.uniform(key, (space.length,), dtype=jnp.float32)

    def write(t: Int[Array, ""], tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        legal = space.mask(tokens, t).astype(jnp.float32)
        return tokens.at[t].set(inverse_cdf(uniforms[t], legal))

    return jax.lax.fori_loop(0, space.length, write, jnp.zeros(space.length, jnp.int32))


def sample_uniform(key: Key[Array, ""], space: SearchSpace) -> Int[Array, "L"]:
    """Returns an architecture drawn exactly uniformly from the space.

    Tokens are weighted by how many architectures follow them (``Counted.completions``); a
    small space without that capability is drawn from its enumeration.

    Raises:
        UserError: the space is neither counted nor small enough to enumerate.
    """
    if isinstance(space, Counted):
        counted = cast(Counted, space)
        uniforms = jax.random.uniform(key, (space.length,), dtype=jnp.float32)

        def write(t: Int[Array, ""], tokens: Int[Array, "L"]) -> Int[Array, "L"]:
            weights = counted.completions(tokens, t)
            return tokens.at[t].set(inverse_cdf(uniforms[t], weights))

        return jax.lax.fori_loop(0, space.length, write, jnp.zeros(space.length, jnp.int32))
    members = jnp.asarray(enumerate_space(space))
    row = jax.random.randint(key, (), 0, members.shape[0], dtype=jnp.int32)
    return members[row]


def latin(key: Key[Array, ""], space: SearchSpace, count: int) -> Int[Array, "n L"]:
    """Returns a Latin hypercube sample: each decision's quantiles are hit once each.

    Decision ``t`` of the architectures is drawn from ``count`` uniforms of which one lies
    in each of ``count`` equal parts of [0, 1), in random order (McKay, Beckman and Conover
    1979). Each architecture alone is distributed as by :func:`sample_uniform` where the
    space is counted, and as by :func:`sample` elsewhere.
    """
    place_key, within = jax.random.split(key)
    shape = (space.length, count)
    drawn = jax.random.uniform(place_key, shape, dtype=jnp.float32)
    parts = jnp.argsort(jnp.argsort(drawn, axis=1), axis=1).T.astype(jnp.float32)
    inside = jax.random.uniform(within, (count, space.length), dtype=jnp.float32)
    uniforms = (parts + inside) / count

    def one(row: Float[Array, "L"]) -> Int[Array, "L"]:
        def write(t: Int[Array, ""], tokens: Int[Array, "L"]) -> Int[Array, "L"]:
            if isinstance(space, Counted):
                weights = cast(Counted, space).completions(tokens, t)
            else:
                weights = space.mask(tokens, t).astype(jnp.float32)
            return tokens.at[t].set(inverse_cdf(row[t], weights))

        start = jnp.zeros(space.length, jnp.int32)
        return jax.lax.fori_loop(0, space.length, write, start)

    return jax.vmap(one)(uniforms)


@functools.partial(jax.jit, static_argnums=0)
def draw(space: SearchSpace, keys: Key[Array, "n"]) -> Int[Array, "n L"]:
    """Returns an architecture for each key, uniform where the space can count."""
    sampler = sample_uniform if isinstance(space, Counted) else sample
    return jax.vmap(lambda key: sampler(key, space))(keys)


def repair(
    key: Key[Array, ""], space: SearchSpace, tokens: Int[Array, "L"]
) -> Int[Array, "L"]:
    """Returns ``tokens``, each illegal one replaced by a random legal one, left to right.

    A legal architecture is returned unchanged.
    """
    uniforms = jax.random.uniform(key, (space.length,), dtype=jnp.float32)
    return _fix(space, tokens, uniforms)


def _fix(
    space: SearchSpace, tokens: Int[Array, "L"], uniforms: Float[Array, "L"]
) -> Int[Array, "L"]:
    """Replaces illegal tokens left to right by inverse-CDF draws from ``uniforms``."""

    def visit(t: Int[Array, ""], tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        legal = space.mask(tokens, t)
        token = jnp.clip(tokens[t], 0, space.vocab - 1)
        keep = legal[token] & (token == tokens[t])
        drawn = inverse_cdf(uniforms[t], legal.astype(jnp.float32))
        return tokens.at[t].set(jnp.where(keep, token, drawn))

    return jax.lax.fori_loop(0, space.length, visit, tokens)


def masks(space: SearchSpace, tokens: Int[Array, "L"]) -> Bool[Array, "L V"]:
    """Returns the legal tokens at every position of an architecture."""
    places = jnp.arange(space.length, dtype=jnp.int32)
    return jax.vmap(lambda t: space.mask(tokens, t))(places)


def is_valid(space: SearchSpace, tokens: Int[Array, "L"]) -> Bool[Array, ""]:
    """Returns whether every token is legal after its prefix."""
    in_range = (tokens >= 0) & (tokens < space.vocab)
    safe = jnp.where(in_range, tokens, 0)
    legal = masks(space, safe)[jnp.arange(space.length, dtype=jnp.int32), safe]
    return jnp.all(in_range & legal)


def mutate(
    key: Key[Array, ""], space: SearchSpace, tokens: Int[Array, "L"]
) -> Int[Array, "L"]:
    """Returns a valid architecture that differs at one position, repaired after it.

    The position is uniform over those with an alternative and the new token uniform over
    the alternatives, so the work is bounded and the result always differs (unless the space
    has one member).
    """
    return mutate_among(key, space, tokens, np.ones(space.length, bool))


def mutate_among(
    key: Key[Array, ""],
    space: SearchSpace,
    tokens: Int[Array, "L"],
    among: Bool[Array | np.ndarray, "L"],
) -> Int[Array, "L"]:
    """Returns what :func:`mutate` does, the position drawn among some places.

    Among all where none of them has an alternative.
    """
    uniforms = jax.random.uniform(key, (space.length + 2,), dtype=jnp.float32)
    places = jnp.arange(space.length, dtype=jnp.int32)
    legal = masks(space, tokens)
    others = legal & (jnp.arange(space.vocab, dtype=jnp.int32) != tokens[:, None])
    open_positions = jnp.any(others, axis=1)
    wanted = open_positions & among
    wanted = jnp.where(jnp.any(wanted), wanted, open_positions)
    position = inverse_cdf(uniforms[0], wanted.astype(jnp.float32))
    token = inverse_cdf(uniforms[1], others[position].astype(jnp.float32))
    token = jnp.where(jnp.any(open_positions), token, tokens[position])
    changed = jnp.where(places == position, token, tokens)
    return _fix(space, changed, uniforms[2:])


def mutate_within(
    key: Key[Array, ""], space: SearchSpace, tokens: Int[Array, "L"]
) -> Int[Array, "L"]:
    """Returns what the space's own mutation gives, or :func:`mutate` where it has none."""
    if isinstance(space, Mutable):
        return cast(Mutable, space).mutate(key, tokens)
    return mutate(key, space, tokens)


def crossover(
    key: Key[Array, ""], space: SearchSpace, first: Int[Array, "L"], second: Int[Array, "L"]
) -> Int[Array, "L"]:
    """Returns a uniform crossover of two architectures, repaired left to right."""
    uniforms = jax.random.uniform(key, (2, space.length), dtype=jnp.float32)
    mixed = jnp.where(uniforms[0] < 0.5, first, second)
    return _fix(space, mixed, uniforms[1])


def neighbours(
    space: SearchSpace, tokens: Int[Array, "L"]
) -> tuple[Int[Array, "R L"], Bool[Array, "R"]]:
    """Returns all single-position changes, ``R = L (V - 1)`` rows, and which are real.

    A change may make later tokens illegal; those become the lowest legal token, so a row
    is always valid and differs from ``tokens``. Rows of illegal changes are marked False.
    """
    length, vocab = space.length, space.vocab
    legal = masks(space, tokens)
    position = jnp.repeat(jnp.arange(length, dtype=jnp.int32), vocab - 1)
    shift = jnp.tile(jnp.arange(1, vocab, dtype=jnp.int32), length)
    token = (tokens[position] + shift) % vocab

    def change(p: Int[Array, ""], v: Int[Array, ""]) -> Int[Array, "L"]:
        changed = jnp.where(jnp.arange(length, dtype=jnp.int32) == p, v, tokens)
        return _fix(space, changed, jnp.zeros(length, jnp.float32))

    return jax.vmap(change)(position, token), legal[position, token]


@functools.lru_cache(maxsize=32)
def enumerate_space(space: SearchSpace) -> Int[np.ndarray, "n L"]:
    """Returns every architecture of a space in lexicographic order; host side, cached.

    Raises:
        UserError: the space has more than ``ENUMERABLE`` members.
    """
    too_many = UserError(
        f"The space {space.id!r} has more than {ENUMERABLE:,} architectures and cannot be "
        "enumerated; use sampling instead."
    )
    if isinstance(space, Sized) and cast(Sized, space).count() > ENUMERABLE:
        raise too_many
    members = np.zeros((1, space.length), np.int32)
    with jax.ensure_compile_time_eval():
        for t in range(space.length):
            legal = jax.vmap(space.mask, (0, None))(jnp.asarray(members), jnp.asarray(t))
            rows, choices = np.nonzero(np.asarray(legal))
            if len(rows) > ENUMERABLE:
                raise too_many
            members = members[rows].copy()
            members[:, t] = choices
    members.setflags(write=False)
    return members


def count(space: SearchSpace) -> int | None:
    """Returns the number of architectures, or None where only enumeration could tell."""
    if isinstance(space, Sized):
        return cast(Sized, space).count()
    if space.vocab**space.length <= ENUMERABLE:
        return len(enumerate_space(space))
    return None


def indexable(space: SearchSpace) -> bool:
    """Returns whether the mixed-radix index of a token vector fits in 31 bits."""
    return space.vocab**space.length < 2**31


def index(space: SearchSpace, tokens: Int[Array, "*b L"]) -> Int[Array, "*b"]:
    """Returns the mixed-radix index, first token most significant; exact and invertible.

    Raises:
        UserError: ``V**L`` does not fit in 31 bits; use :func:`digest` instead.
    """
    if not indexable(space):
        raise UserError(f"The space {space.id!r} is too large for a 31-bit index.")
    radix = space.vocab ** np.arange(space.length - 1, -1, -1)
    return jnp.sum(tokens * jnp.asarray(radix, jnp.int32), axis=-1, dtype=jnp.int32)


def from_index(space: SearchSpace, number: Int[Array, "*b"]) -> Int[Array, "*b L"]:
    """Returns the token vector of a mixed-radix index, the inverse of :func:`index`."""
    if not indexable(space):
        raise UserError(f"The space {space.id!r} is too large for a 31-bit index.")
    radix = jnp.asarray(space.vocab ** np.arange(space.length - 1, -1, -1), jnp.int32)
    return (number[..., None] // radix % space.vocab).astype(jnp.int32)


def digest(space: SearchSpace, tokens: Int[Array, "L"]) -> UInt32[Array, "2"]:
    """Returns two 32-bit words that identify an architecture inside jit.

    The exact index in the first word where it fits, else two independent multiplicative
    hashes (murmur3's finaliser), whose joint collision chance is ``n^2 / 2^65``.
    """
    if indexable(space):
        low = index(space, tokens).astype(jnp.uint32)
        return jnp.stack([low, jnp.zeros_like(low)])

    def absorb(
        h: UInt32[Array, "2"], token: Int[Array, ""]
    ) -> tuple[UInt32[Array, "2"], None]:
        h = h ^ (token.astype(jnp.uint32) + jnp.uint32(0x9E3779B9) + (h << 6) + (h >> 2))
        h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
        h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
        return h ^ (h >> 16), None

    start = jnp.asarray([0x243F6A88, 0x13198A2E], jnp.uint32)
    words, _ = jax.lax.scan(absorb, start, tokens)
    return words


def digest_host(space: SearchSpace, tokens: Int[np.ndarray, "L"]) -> str:
    """Returns the SHA-256 of a space's id and tokens, for keys that outlive a run."""
    text = f"{space.id}:" + ",".join(str(int(token)) for token in tokens)
    return hashlib.sha256(text.encode()).hexdigest()
