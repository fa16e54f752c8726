"""Exact counting over conditions and forbidden combinations, by bucket elimination.

The slots are eliminated from the last to the first: the factors that end in a slot are
multiplied, and their sum over the slot's tokens is a factor on earlier slots. The product
says, for every way to fill the slots that matter, how many architectures follow each token,
and where it is zero the token leads nowhere: a mask made of it has no dead ends.

Reference: R. Dechter, Bucket elimination, Artificial Intelligence 113 (1999).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.spaces.declared.decisions import Layout, Slot, Terms

LARGEST = 2**18
"""Entries of one slot's table: its tokens by the ways to fill what it depends on."""


class Factor(NamedTuple):
    """A table of exact integers over the tokens of some slots, in order."""

    scope: tuple[int, ...]
    table: np.ndarray  # of Python integers, one axis a slot


class Bucket(NamedTuple):
    """What is known of one slot when all later ones are summed out."""

    parents: tuple[int, ...]
    """Earlier slots that it depends on, in order."""
    counts: np.ndarray
    """Architectures behind each token, ``[sizes of the parents, tokens]``, up to a factor
    that the parents alone decide."""
    factors: tuple[Factor, ...]
    """The product of which ``counts`` is."""
    message: Factor
    """The sum over the slot's tokens."""


class Counts(NamedTuple):
    """All buckets in the order of the slots, and the number of architectures."""

    buckets: tuple[Bucket, ...]
    total: int


def count(layout: Layout) -> Counts:
    """Returns the exact counts of a space.

    Raises:
        UserError: decisions that depend on too many others, or no architecture at all.
    """
    slots = layout.slots
    waiting: list[list[Factor]] = [[] for _ in slots]
    for i, slot in enumerate(slots):
        waiting[i].append(_local(slots, i, slot))
    for terms in layout.forbidden:
        factor = _forbidden(slots, terms)
        waiting[factor.scope[-1]].append(factor)
    buckets: list[Bucket] = []
    total = 1
    for i in reversed(range(len(slots))):
        factors = tuple(waiting[i])
        scope = tuple(sorted({s for factor in factors for s in factor.scope}))
        _check_size(slots, i, scope)
        table = _product(factors, scope)
        message = Factor(scope[:-1], np.asarray(table.sum(axis=-1), object))
        buckets.append(Bucket(scope[:-1], table, factors, message))
        if message.scope:
            waiting[message.scope[-1]].append(message)
        else:
            total *= int(message.table[()])
    if total == 0:
        raise UserError(
            "The space has no architecture: its conditions and forbidden combinations "
            "leave nothing; take some of them away."
        )
    return Counts(tuple(reversed(buckets)), total)


def marginals(counts: Counts) -> list[list[int]]:
    """Returns, for each slot, in how many architectures it has each token; exact."""
    outside: list[Factor] = []
    found = []
    for bucket in counts.buckets:
        message = bucket.message
        if message.scope:
            above = counts.buckets[message.scope[-1]], outside[message.scope[-1]]
            part = _outside(message, *above)
        else:
            rest = counts.total // int(message.table[()])
            part = Factor((), np.array(rest, object))
        outside.append(part)
        scope = (*bucket.parents, len(outside) - 1)
        joint = bucket.counts * _spread(part, scope, bucket.counts.ndim)
        found.append([int(n) for n in joint.reshape(-1, joint.shape[-1]).sum(axis=0)])
    return found


def _outside(message: Factor, above: Bucket, part: Factor) -> Factor:
    """Returns what multiplies a message in the total, over its own scope.

    Args:
        message: of an eliminated slot.
        above: bucket that the message went into.
        part: what multiplies the counts of that bucket.
    """
    scope = (*above.parents, message.scope[-1])
    others = [f for f in above.factors if f is not message]
    table = _product((*others, part), scope, above.counts.shape)
    axes = tuple(i for i, s in enumerate(scope) if s not in message.scope)
    return Factor(message.scope, table.sum(axis=axes) if axes else table)


def _local(slots: Sequence[Slot], index: int, slot: Slot) -> Factor:
    """Returns which tokens a slot's own condition leaves."""
    parents = tuple(sorted({s for terms in slot.when for s, _ in terms if s >= 0}))
    _check_size(slots, index, (*parents, index))
    shape = tuple(slots[p].size for p in parents)
    holds = np.full(shape, not slot.when)
    for terms in slot.when:
        holds |= _both(slots, parents, terms)
    table = np.zeros((*shape, slot.size), object)
    table[..., : len(slot.choices)] = holds[..., None].astype(int)
    if slot.absent:
        table[..., -1] = 1 if slot.stops else (~holds).astype(int)
    return Factor((*parents, index), table)


def _forbidden(slots: Sequence[Slot], terms: Terms) -> Factor:
    scope = tuple(sorted({s for s, _ in terms}))
    _check_size(slots, scope[-1], scope)
    return Factor(scope, (~_both(slots, scope, terms)).astype(int).astype(object))


def _both(slots: Sequence[Slot], scope: Sequence[int], terms: Terms) -> np.ndarray:
    """Returns where all terms hold, over the tokens of the slots of a scope."""
    holds = np.ones(tuple(slots[s].size for s in scope), bool)
    for wanted, tokens in terms:
        if wanted < 0:
            return np.zeros_like(holds)
        inside = np.isin(np.arange(slots[wanted].size), sorted(tokens))
        holds &= inside.reshape([-1 if s == wanted else 1 for s in scope])
    return holds


def _product(
    factors: Sequence[Factor], scope: tuple[int, ...], shape: tuple[int, ...] | None = None
) -> np.ndarray:
    table: Any = np.ones(shape or (1,) * len(scope), object)
    for factor in factors:
        table = table * _spread(factor, scope, len(scope))
    return table


def _spread(factor: Factor, scope: tuple[int, ...], rank: int) -> np.ndarray:
    """Returns the table of a factor with an axis for each slot of a larger scope."""
    sizes = dict(zip(factor.scope, factor.table.shape, strict=True))
    return factor.table.reshape([sizes.get(s, 1) for s in scope[:rank]])


def _check_size(slots: Sequence[Slot], index: int, scope: tuple[int, ...]) -> None:
    size = math.prod(slots[s].size for s in scope)
    if size > LARGEST:
        names = ", ".join(slots[s].name for s in scope[:-1][:12])
        raise UserError(
            f"The decision {slots[index].name!r} depends on {names} together, which can "
            f"be chosen in more than {LARGEST} ways; let conditions and forbidden "
            "combinations name fewer decisions, or ones that stand nearer to each other."
        )
