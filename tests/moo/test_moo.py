"""Fronts, crowding, hypervolume and archives against moocore and against brute force."""

import itertools

import jax
import jax.numpy as jnp
import moocore
import numpy as np
import pytest

from jaxnas import Objective, UserError
from jaxnas.moo import archive, hypervolume, pareto

# what is given as NumPy is an array of JAX inside
dominates, ranks = jax.jit(pareto.dominates), jax.jit(pareto.ranks)
present, crowding = jax.jit(pareto.present), jax.jit(pareto.crowding)
volume_of, strips = jax.jit(hypervolume.hypervolume), jax.jit(hypervolume.strips)
hypervolume_after = jax.jit(hypervolume.hypervolume_after)
contributions = jax.jit(hypervolume.contributions)
improvements, insert = jax.jit(hypervolume.improvements), jax.jit(archive.insert)
REFERENCE = {2: (-0.2, 0.1), 3: (-0.2, 0.1, 0.0)}


def clouds(dim, count=12, rows=40):
    """Random sets with ties, copies, and points below the reference."""
    rng = np.random.default_rng(dim)
    for i in range(count):
        points = rng.normal(0.5, 1, (rows, dim))
        if i % 3 == 0:
            points = np.round(points, 1)  # ties in single coordinates
        if i % 4 == 0:
            points[rows // 2 :] = points[: rows // 2]  # copies
        if i % 6 == 5:
            points = np.minimum(points, -0.5)  # all below the reference
        yield points.astype(np.float32)


@pytest.mark.parametrize("dim", [2, 3])
def test_fronts_are_those_of_moocore(dim):
    rank = lambda p: ranks(dominates(p), present(p))
    for points in clouds(dim):
        wanted = moocore.pareto_rank(points, maximise=True)
        np.testing.assert_array_equal(rank(points), wanted)
        front = moocore.is_nondominated(points, maximise=True, keep_weakly=True)
        np.testing.assert_array_equal(pareto.nondominated(points), front)


@pytest.mark.parametrize("dim", [2, 3])
def test_hypervolume_is_that_of_moocore(dim):
    reference = np.array(REFERENCE[dim], np.float32)

    for points in clouds(dim):
        wanted = moocore.hypervolume(points, ref=reference, maximise=True)
        assert float(volume_of(points, reference)) == pytest.approx(wanted, rel=2e-5)


def test_hypervolume_of_one_objective_is_the_best_value():
    points = jnp.array([[2.0], [5.0], [jnp.nan]])
    assert float(volume_of(points, jnp.array([1.5]))) == 3.5


def test_contributions_are_those_of_moocore():
    reference = np.array(REFERENCE[2], np.float32)
    for points in clouds(2):
        wanted = moocore.hv_contributions(points, ref=reference, maximise=True)
        found = contributions(points, reference)
        np.testing.assert_allclose(found, wanted, atol=3e-5)


def test_improvements_are_differences_of_hypervolumes():
    reference = np.array(REFERENCE[2], np.float32)
    rng = np.random.default_rng(0)
    for points in clouds(2):
        new = rng.normal(0.7, 1, (30, 2)).astype(np.float32)
        new[:5] = points[:5]
        new[5] = np.nan
        found = improvements(new, strips(points, reference))
        volume = lambda p: moocore.hypervolume(p, ref=reference, maximise=True)
        wanted = [volume(np.vstack([points, row])) - volume(points) for row in new]
        wanted[5] = 0.0
        np.testing.assert_allclose(found, wanted, atol=5e-5)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_hypervolume_after_each_point(dim):
    reference = np.array(REFERENCE[3][:dim], np.float32)
    points = next(clouds(dim, rows=20))
    places = np.array([1, 2, 7, 20])
    found = hypervolume_after(points, reference, places.astype(np.int32))
    wanted = [
        moocore.hypervolume(
            np.hstack([points[:q], points[:q]]) if dim == 1 else points[:q],
            ref=np.tile(reference, 2) if dim == 1 else reference,
            maximise=True,
        )
        ** (0.5 if dim == 1 else 1.0)
        for q in places
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("dim", [2, 3])
def test_what_is_masked_or_not_finite_is_absent(dim):
    """Poisoned rows change nothing of the others and have rank n."""
    reference = jnp.array(REFERENCE[dim])
    for i, points in enumerate(clouds(dim, count=4)):
        rng = np.random.default_rng(i)
        lost = rng.random(len(points)) < 0.4
        mask = ~lost | (rng.random(len(points)) < 0.5)
        poisoned = np.where((lost & mask)[:, None], np.nan, points)
        poisoned[lost & ~mask] = 99.0
        kept = points[~lost]
        rank = ranks(dominates(poisoned, mask=mask), present(poisoned, mask=mask))
        own = ranks(dominates(kept), present(kept))
        np.testing.assert_array_equal(rank[~lost], own)
        assert (rank[lost] == len(points)).all()
        near = crowding(poisoned, rank)
        np.testing.assert_allclose(near[~lost], crowding(kept, own), rtol=1e-5)
        found = volume_of(poisoned, reference, mask)
        wanted = volume_of(kept, reference)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_nothing_at_all():
    none = jnp.zeros(6, bool)
    points = jnp.ones((6, 2))
    zero = jnp.zeros(2)
    assert (ranks(dominates(points, mask=none), none) == 6).all()
    assert float(volume_of(points, zero, none)) == 0.0
    left = strips(points, zero, none)
    np.testing.assert_allclose(improvements(points, left), 1.0)
    assert not pareto.nondominated(np.full((3, 2), np.nan)).any()
    assert pareto.nondominated(np.zeros((0, 2))).shape == (0,)


def test_nondominated_keeps_equal_rows():
    table = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [0.0, 2.0]])
    assert pareto.nondominated(table).tolist() == [True, True, True, False]


def slow_order(points, violation):
    """Deb's definition, one pair after another."""
    n = len(points)
    wins = np.zeros((n, n), bool)
    for i, j in itertools.permutations(range(n), 2):
        if violation[i] <= 0 < violation[j]:
            wins[i, j] = True
        elif violation[i] > 0 and violation[j] > 0:
            wins[i, j] = violation[i] < violation[j]
        elif violation[i] <= 0 and violation[j] <= 0:
            no_worse = all(a >= b for a, b in zip(points[i], points[j], strict=True))
            wins[i, j] = no_worse and tuple(points[i]) != tuple(points[j])
    return wins


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_constrained_domination(dim):
    rng = np.random.default_rng(3)
    for points in clouds(dim, count=4, rows=24):
        violation = np.round(np.maximum(rng.normal(0, 1, 24), 0), 1).astype(np.float32)
        found = dominates(points, violation)
        np.testing.assert_array_equal(found, slow_order(points, violation))
        rank = np.asarray(ranks(found, present(points, violation)))
        # every point is beaten by one of the front before its own, and by none of its own
        for i, level in enumerate(rank):
            assert not found[rank == level][:, i].any()
            assert level == 0 or found[rank == level - 1][:, i].any()


def slow_crowding(front):
    """The published loop over one front."""
    near = np.zeros(len(front))
    for column in front.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        if span == 0:
            continue
        near[order[0]] = near[order[-1]] = np.inf
        for i in range(1, len(front) - 1):
            near[order[i]] += (column[order[i + 1]] - column[order[i - 1]]) / span
    return near


@pytest.mark.parametrize("dim", [2, 3])
def test_crowding_front_by_front(dim):
    rng = np.random.default_rng(5)
    points = rng.normal(size=(40, dim)).astype(np.float32)  # no ties: the order is unique
    rank = np.asarray(ranks(dominates(points), present(points)))
    found = np.asarray(crowding(points, rank))
    for level in np.unique(rank):
        here = rank == level
        np.testing.assert_allclose(found[here], slow_crowding(points[here]), rtol=1e-4)


def test_mapped_equals_one_by_one():
    batch = np.stack(list(clouds(3, count=5)))
    reference = jnp.array(REFERENCE[3])

    def both(points):
        rank = ranks(dominates(points), present(points))
        return rank, volume_of(points, reference)

    for points, rank, volume in zip(batch, *jax.vmap(both)(batch), strict=True):
        np.testing.assert_array_equal(both(points)[0], rank)
        np.testing.assert_allclose(both(points)[1], volume, rtol=1e-6)


def test_more_objectives_are_refused():
    with pytest.raises(UserError, match="up to 3 objectives, got 4"):
        volume_of(jnp.ones((2, 4)), jnp.zeros(4))
    with pytest.raises(UserError, match="for two objectives, got 3"):
        strips(jnp.ones((2, 3)), jnp.zeros(3))


def test_signs():
    objectives = (Objective("a", "", True), Objective("b", "", False))
    np.testing.assert_array_equal(pareto.signs(objectives), [1, -1])


def filled(capacity, stream, batch, dim=2):
    """An archive after a stream of points, each its own architecture."""

    kept = archive.empty(capacity, 2, dim)
    for start in range(0, len(stream), batch):
        rows = stream[start : start + batch]
        tokens = np.stack([np.arange(start, start + batch), np.zeros(batch)], 1)
        zero = np.zeros(batch, np.float32)
        kept = insert(kept, tokens.astype(np.int32), rows, zero, np.ones(batch, bool))
    return kept


@pytest.mark.parametrize("dim", [2, 3])
def test_a_large_archive_holds_the_front_of_everything(dim):
    stream = np.random.default_rng(1).normal(size=(120, dim)).astype(np.float32)
    kept = filled(120, stream, 8, dim)
    rows = np.sort(np.asarray(kept.tokens)[np.asarray(kept.filled), 0])
    wanted = moocore.is_nondominated(stream, maximise=True, keep_weakly=True)
    np.testing.assert_array_equal(rows, np.flatnonzero(wanted))


def test_a_full_archive_keeps_the_ends_and_most_of_the_volume():
    angle = np.random.default_rng(2).permutation(np.linspace(0, np.pi / 2, 96))
    stream = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    kept = filled(12, stream, 8)
    points = np.asarray(kept.objectives)
    assert kept.filled.all()
    assert pareto.nondominated(points).all()
    np.testing.assert_allclose(points.max(axis=0), 1.0, atol=1e-6)
    volume = lambda p: moocore.hypervolume(p, ref=[0, 0], maximise=True)
    assert volume(points) > 0.94 * volume(stream)
    worst = min(volume(stream[i : i + 12]) for i in range(0, 96, 12))
    assert volume(points) > worst


def test_an_archive_knows_its_own_and_prefers_what_is_feasible():
    one = np.ones(1, bool)
    point = lambda *values: np.array([values], np.float32)
    tokens = lambda *values: np.array([values], np.int32)
    broken = lambda value: np.array([value], np.float32)
    kept = archive.empty(4, 2, 2)
    kept = insert(kept, tokens(1, 1), point(9, 9), broken(2.0), one)
    kept = insert(kept, tokens(2, 2), point(1, 1), broken(1.0), one)
    assert np.asarray(kept.tokens)[np.asarray(kept.filled)].tolist() == [[2, 2]]
    kept = insert(kept, tokens(3, 3), point(0, 0), broken(0.0), one)
    kept = insert(kept, tokens(3, 3), point(5, 5), broken(0.0), one)  # the first one stays
    kept = insert(kept, tokens(4, 4), point(np.nan, 5), broken(0.0), one)
    kept = insert(kept, tokens(5, 5), point(5, 5), broken(0.0), ~one)
    assert np.asarray(kept.tokens)[np.asarray(kept.filled)].tolist() == [[3, 3]]
    assert np.asarray(kept.objectives)[np.asarray(kept.filled)].tolist() == [[0, 0]]
    assert int(kept.filled.sum()) == 1
