"""What every search space must do, as checks that raise ``AssertionError``.

``SPACE_CHECKS`` lists them; a test suite runs each on each space::

    @pytest.mark.parametrize("check", SPACE_CHECKS)
    def test_space(check):
        check(MySpace())
"""

import functools
import json
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.space import Counted, Featured, Mutable, Projectable, SearchSpace, Sized
from jaxnas.testing import expect
from jaxnas.testing.stats import P_MIN, chi_square_p

BATCH = 64
DRAWS = 60_000
"""Draws of a frequency check; nb201 then expects 3.8 of each architecture, pooled."""
FULL = 4096
"""Largest space whose architectures are compared one by one; larger ones by first token."""

Sampler = Callable[[Key[Array, ""], SearchSpace], Int[Array, "L"]]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw(sampler: Sampler, space: SearchSpace, keys: Key[Array, "B"]) -> Int[Array, "B L"]:
    return jax.vmap(lambda key: sampler(key, space))(keys)


@functools.partial(jax.jit, static_argnums=0)
def _masks(space: SearchSpace, tokens: Int[Array, "B L"]) -> Bool[Array, "B L V"]:
    return jax.vmap(lambda row: tk.masks(space, row))(tokens)


def samples(space: SearchSpace, seed: int = 0) -> Int[Array, "B L"]:
    """Returns ``BATCH`` random architectures; compiled once for each space."""
    return _draw(tk.sample, space, jax.random.split(jax.random.key(seed), BATCH))


def _legal(
    space: SearchSpace, tokens: Int[Array | np.ndarray, "*b L"]
) -> Bool[np.ndarray, "*b"]:
    """Returns which architectures are valid; padded to whole batches, to compile once."""
    flat = np.asarray(tokens).reshape(-1, space.length)
    inside = np.all((flat >= 0) & (flat < space.vocab), axis=1)
    padded = np.zeros((-(-len(flat) // BATCH) * BATCH, space.length), np.int32)
    padded[: len(flat)] = np.where(inside[:, None], flat, 0)
    legal = np.asarray(_masks(space, jnp.asarray(padded)))[: len(flat)]
    chosen = np.take_along_axis(legal, np.where(inside[:, None], flat, 0)[..., None], -1)
    return np.reshape(inside & chosen[..., 0].all(axis=1), tokens.shape[:-1])


def _all_legal(space: SearchSpace, tokens: Array | np.ndarray, name: str) -> None:
    text = f"{name} returned tokens beyond vocab or that space.mask forbids; it must not"
    expect.every(_legal(space, tokens), text)


def enumerable(space: SearchSpace) -> bool:
    """Returns whether a space is small enough to be listed."""
    if isinstance(space, Sized):
        return cast(Sized, space).count() <= tk.ENUMERABLE
    return space.vocab**space.length <= tk.ENUMERABLE


def check_static_argument(space: SearchSpace) -> None:
    """A space is frozen, hashable, described and carries a versioned id."""
    expect.static(space, SearchSpace)
    assert space.length >= 1, f"length is {space.length}; make it at least 1"
    assert space.vocab >= 2, f"vocab is {space.vocab}; make it at least 2"


def check_samples_valid(space: SearchSpace) -> None:
    """Every sample, also a uniform one where that is offered, is valid and int32."""
    tokens = samples(space)
    expect.shaped("sampled tokens", tokens, (BATCH, space.length), jnp.int32)
    _all_legal(space, tokens, "sample")
    if isinstance(space, Counted) or enumerable(space):
        keys = jax.random.split(jax.random.key(1), BATCH)
        _all_legal(space, _draw(tk.sample_uniform, space, keys), "sample_uniform")


def check_mask_reads_prefix_only(space: SearchSpace) -> None:
    """``mask`` and ``completions`` ignore tokens from ``t`` on, and some token is legal."""
    tokens = samples(space)
    noise = jax.random.randint(jax.random.key(2), tokens.shape, 0, space.vocab, jnp.int32)
    places = jnp.arange(space.length, dtype=jnp.int32)
    before = places[None, None, :] < places[None, :, None]
    scrambled = jnp.where(before, tokens[:, None], noise[:, None])

    def both(row: Int[Array, "L"], other: Int[Array, "T L"]) -> tuple[Array, Array]:
        plain = jax.vmap(lambda t: _rule(space, row, t))(places)
        return plain, jax.vmap(lambda r, t: _rule(space, r, t))(other, places)

    plain, fuzzed = jax.jit(jax.vmap(both))(tokens, scrambled)
    expect.same(plain, fuzzed, "mask and completions at t must read tokens[:t] only")
    some = np.asarray(plain)[..., 0].any(axis=-1)
    expect.every(some, "mask must leave some token legal at every position")


def _rule(space: SearchSpace, row: Int[Array, "L"], t: Int[Array, ""]) -> Array:
    """Returns mask and, where offered, completions, ``[V, 1 or 2]``."""
    parts = [space.mask(row, t).astype(jnp.float32)]
    if isinstance(space, Counted):
        parts.append(cast(Counted, space).completions(row, t))
    return jnp.stack(parts, axis=-1)


def check_mutation(space: SearchSpace) -> None:
    """Generic and own mutation return valid architectures that differ."""
    tokens = samples(space)
    keys = jax.random.split(jax.random.key(3), BATCH)
    operators: list[Callable[..., Array]] = [lambda key, row: tk.mutate(key, space, row)]
    if isinstance(space, Mutable):
        operators.append(cast(Mutable, space).mutate)
    for operator in operators:
        mutated = jax.jit(jax.vmap(operator))(keys, tokens)
        _all_legal(space, mutated, "mutate")
        differs = np.any(np.asarray(mutated != tokens), axis=1)
        expect.every(differs, "mutate must return another architecture")


def check_crossover_and_repair(space: SearchSpace) -> None:
    """Crossover is valid; repair mends anything and leaves a valid architecture alone."""
    first, second = samples(space, 4), samples(space, 5)
    keys = jax.random.split(jax.random.key(6), BATCH)
    wild = jax.random.randint(keys[0], first.shape, -2, space.vocab + 2, jnp.int32)

    def operate(key: Array, a: Array, b: Array, w: Array) -> tuple[Array, Array, Array]:
        mixed = tk.crossover(key, space, a, b)
        return mixed, tk.repair(key, space, a), tk.repair(key, space, w)

    mixed, same, mended = jax.jit(jax.vmap(operate))(keys, first, second, wild)
    expect.same(same, first, "repair must leave a valid architecture alone")
    _all_legal(space, mixed, "crossover")
    _all_legal(space, mended, "repair")


def check_neighbours(space: SearchSpace) -> None:
    """Neighbours are valid, differ from their origin, as many as the mask allows."""
    tokens = samples(space, 7)
    rows, real = jax.jit(jax.vmap(lambda row: tk.neighbours(space, row)))(tokens)
    shape = (BATCH, space.length * (space.vocab - 1), space.length)
    expect.shaped("neighbours", rows, shape)
    rows, real = np.asarray(rows), np.asarray(real)
    _all_legal(space, rows[real], "neighbours")
    differs = np.any(rows != np.asarray(tokens)[:, None], axis=2)[real]
    expect.every(differs, "a neighbour must differ from its origin")
    others = np.asarray(_masks(space, tokens)).sum(axis=(1, 2)) - space.length
    text = "there must be as many neighbours as the mask allows single changes"
    expect.same(real.sum(axis=1), others, text)


def check_canonical(space: SearchSpace) -> None:
    """The canonical form is valid, its own canonical form, and alike under vmap."""
    tokens = jnp.asarray(_members(space))
    canonical = jax.jit(jax.vmap(space.canonical))
    once = canonical(tokens)
    expect.shaped("canonical tokens", once, tokens.shape, jnp.int32)
    _all_legal(space, once, "canonical")
    expect.same(canonical(once), once, "a canonical form must be its own canonical form")
    text = "canonical must give the same eagerly and under jit and vmap"
    expect.same(space.canonical(tokens[0]), once[0], text)


def check_graph(space: SearchSpace) -> None:
    """Graphs have one shape, edges go forward between present nodes, padding is op 0."""
    graph = jax.jit(jax.vmap(space.to_graph))(samples(space))
    adjacency, present = np.asarray(graph.adjacency), np.asarray(graph.present)
    nodes = present.shape[1]
    expect.shaped("graph.adjacency", adjacency, (BATCH, nodes, nodes))
    expect.shaped("graph.ops", graph.ops, (BATCH, nodes), jnp.int32)
    order = "an edge goes backward in graph.adjacency; number nodes in topological order"
    assert not np.tril(adjacency).any(), order
    both = present[:, :, None] & present[:, None, :]
    expect.every(both | ~adjacency, "an edge must join two nodes that are present")
    expect.same(np.asarray(graph.ops) == 0, ~present, "op 0 must be padding, and only it")


def check_spec_round_trip(space: SearchSpace) -> None:
    """A spec survives JSON and gives the tokens back; a foreign one is refused."""
    rows = np.asarray(_members(space))
    for row in rows[:: max(1, len(rows) // 500)]:
        spec = json.loads(json.dumps(space.to_spec(row)))
        text = "from_spec must give the tokens back that to_spec was given"
        expect.same(space.from_spec(spec), row, text)
    foreign = {**space.to_spec(rows[0]), "space": "another-v1"}
    try:
        space.from_spec(foreign)
    except UserError:
        return
    raise AssertionError(
        "from_spec accepted a spec of another space; raise UserError where its 'space' is "
        "not this id"
    )


def check_count(space: SearchSpace) -> None:
    """The closed-form size is the number of distinct valid architectures."""
    if not enumerable(space):
        unknown = "a space that cannot be listed must know its size; give it count()"
        assert isinstance(space, Sized), unknown
        return
    members = tk.enumerate_space(space)
    distinct = len(np.unique(members, axis=0))
    assert distinct == len(members), f"{len(members) - distinct} members are listed twice"
    _all_legal(space, jnp.asarray(members), "enumerate_space")
    if isinstance(space, Sized):
        found = cast(Sized, space).count()
        text = f"count() is {found}, and {len(members)} architectures pass the mask"
        assert found == len(members), text


def check_completions(space: SearchSpace) -> None:
    """Completion shares are zero where illegal, sum to one and match the listing."""
    if not isinstance(space, Counted):
        return
    counted = cast(Counted, space)
    tokens = jnp.asarray(_members(space)[:FULL])
    places = jnp.arange(space.length, dtype=jnp.int32)
    each = lambda r: jax.vmap(lambda t: counted.completions(r, t))(places)
    shares = jax.jit(jax.vmap(each))(tokens)
    positive, legal = np.asarray(shares) > 0, _masks(space, tokens)
    expect.same(positive, legal, "completions must be above 0 under the mask")
    text, total = "completions must sum to one", np.asarray(shares).sum(axis=-1)
    np.testing.assert_allclose(total, 1.0, atol=1e-6, err_msg=text)
    if enumerable(space):
        chosen = np.asarray(tokens)[..., None]
        drawn = np.take_along_axis(np.asarray(shares), chosen, -1)[..., 0]
        size = len(tk.enumerate_space(space))
        text = "completions must make every architecture equally likely"
        np.testing.assert_allclose(drawn.prod(axis=1) * size, 1.0, 1e-5, err_msg=text)


def check_features(space: SearchSpace) -> None:
    """Features are finite, one a name, and a mutated architecture has others."""
    if not isinstance(space, Featured):
        return
    featured = cast(Featured, space)
    tokens = samples(space, 8)
    keys = jax.random.split(jax.random.key(9), BATCH)
    mutated = jax.jit(jax.vmap(lambda key, row: tk.mutate(key, space, row)))(keys, tokens)
    make = jax.jit(jax.vmap(featured.features))
    plain, other = np.asarray(make(tokens)), np.asarray(make(mutated))
    names = featured.feature_names
    expect.shaped("features", plain, (BATCH, len(names)))
    assert len(set(names)) == len(names), f"feature_names repeat a name: {names}"
    expect.every(np.isfinite(plain), "features must be finite")
    shows = np.any(plain != other, axis=1)
    expect.every(shows, "a changed token must show in the features")
    text = "features must be the same eagerly and under jit and vmap"
    expect.same(featured.features(tokens[0]), plain[0], text)


def check_projection(space: SearchSpace) -> None:
    """Any floats give a valid canonical architecture; its features give it back."""
    if not (isinstance(space, Featured) and isinstance(space, Projectable)):
        return
    featured, projectable = cast(Featured, space), cast(Projectable, space)
    shape = (BATCH, len(featured.feature_names))
    rng = np.random.default_rng(10)
    wild = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 5, shape)
    bad = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.5, 1.5, -0.0])
    wild = np.where(rng.random(shape) < 0.3, rng.choice(bad, shape), wild)
    wild[: len(bad)] = bad[:, None]

    def there_and_back(floats: Array, row: Array) -> tuple[Array, Array, Array, Array]:
        made = projectable.project(floats)
        again = projectable.project(featured.features(made))
        mended = projectable.project(featured.features(row))
        return made, again, mended, space.canonical(row)

    outcome = jax.jit(jax.vmap(there_and_back))(jnp.float32(wild), samples(space, 12))
    made, again, mended, canonical = map(np.asarray, outcome)
    expect.shaped("projected tokens", made, (BATCH, space.length), np.int32)
    _all_legal(space, made, "project")
    expect.same(again, made, "project(features(tokens)) must give projected tokens back")
    text = "project(features(tokens)) must be canonical(tokens)"
    expect.same(mended, canonical, text)


def check_sampling_frequencies(space: SearchSpace) -> None:
    """``sample`` and ``sample_uniform`` draw with exactly the stated probabilities."""
    claims = [(tk.sample, False, "each legal token"), (tk.sample_uniform, True, "each one")]
    known = isinstance(space, Counted) or enumerable(space)
    for sampler, uniform, claim in claims[: 1 + known]:
        p = sampling_p(space, sampler, uniform=uniform)
        text = f"{sampler.__name__} must draw {claim} equally often, p = {p:.2g}"
        assert p > P_MIN, text


def sampling_p(
    space: SearchSpace, sampler: Sampler, *, uniform: bool, seed: int = 11
) -> float:
    """Returns the two-sided chi-square p-value of a sampler's frequencies.

    An enumerable space of at most ``FULL`` architectures is compared architecture by
    architecture, any other by its first token, for which a quarter of the draws is enough.
    ``uniform`` claims equal shares of architectures, else of legal tokens.
    """
    draws = DRAWS if enumerable(space) else DRAWS // 4
    keys = jax.random.split(jax.random.key(seed), draws)
    drawn = np.asarray(_draw(sampler, space, keys))
    if enumerable(space) and len(tk.enumerate_space(space)) <= FULL:
        members = tk.enumerate_space(space)
        order = {tuple(row): i for i, row in enumerate(members.tolist())}
        rows, times = np.unique(drawn, axis=0, return_counts=True)
        observed = np.zeros(len(members), np.int64)
        observed[[order[tuple(row)] for row in rows.tolist()]] = times
        even = np.full(len(members), 1 / len(members))
        return chi_square_p(observed, even if uniform else _token_uniform(space, members))
    first = jnp.zeros(space.length, jnp.int32), jnp.int32(0)
    shares = np.asarray(space.mask(*first), np.float64)
    if uniform and isinstance(space, Counted):
        shares = np.asarray(cast(Counted, space).completions(*first), np.float64)
    elif uniform:
        shares = np.bincount(tk.enumerate_space(space)[:, 0], minlength=space.vocab) * 1.0
    observed = np.bincount(drawn[:, 0], minlength=space.vocab)
    return chi_square_p(observed, shares / shares.sum())


def _token_uniform(
    space: SearchSpace, members: Int[np.ndarray, "n L"]
) -> Float[np.ndarray, "n"]:
    """Returns the probability of each architecture when legal tokens are equally likely."""
    legal = np.asarray(_masks(space, jnp.asarray(members)), np.float64)
    return np.prod(1.0 / legal.sum(axis=-1), axis=-1)


def _members(space: SearchSpace) -> Int[np.ndarray, "n L"]:
    return tk.enumerate_space(space) if enumerable(space) else np.asarray(samples(space))


SPACE_CHECKS: tuple[Callable[[SearchSpace], None], ...] = (
    check_static_argument, check_samples_valid, check_mask_reads_prefix_only,
    check_mutation, check_crossover_and_repair, check_neighbours, check_canonical,
    check_graph, check_spec_round_trip, check_count, check_completions, check_features,
    check_projection, check_sampling_frequencies,
)  # fmt: skip
"""Every check of a space."""
