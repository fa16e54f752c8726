"""The set of architectures that one controller has paid for, as arrays of fixed size.

A bitmap over the mixed-radix index where that has at most ``2**20`` values, else an
open-addressing hash table of 64-bit digests. Either gives every known architecture a
*slot*, an integer by which other per-architecture arrays are addressed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt32

from jaxnas.core import tokens as tk
from jaxnas.core.space import SearchSpace


class Visited(NamedTuple):
    """Which architectures are known; exactly one of the two stores has a size."""

    words: UInt32[Array, "W"]
    """Bitmap: bit ``i % 32`` of word ``i // 32`` is architecture ``i``."""
    keys: UInt32[Array, "C 2"]
    used: Bool[Array, "C"]


def uses_bitmap(space: SearchSpace) -> bool:
    """Returns whether the space is small enough for a bitmap."""
    return space.vocab**space.length <= tk.ENUMERABLE


def num_slots(space: SearchSpace, capacity: int) -> int:
    """Returns how many slots a set has that must hold ``capacity`` architectures."""
    if uses_bitmap(space):
        return space.vocab**space.length
    return 1 << max(4, (4 * capacity - 1).bit_length())


def empty(space: SearchSpace, capacity: int) -> Visited:
    """Returns a set with room for ``capacity`` architectures."""
    slots = num_slots(space, capacity)
    if uses_bitmap(space):
        return Visited(
            jnp.zeros((slots + 31) // 32, jnp.uint32),
            jnp.zeros((0, 2), jnp.uint32),
            jnp.zeros(0, bool),
        )
    return Visited(
        jnp.zeros(0, jnp.uint32), jnp.zeros((slots, 2), jnp.uint32), jnp.zeros(slots, bool)
    )


def insert(
    space: SearchSpace,
    visited: Visited,
    tokens: Int[Array, "B L"],
    active: Bool[Array, "B"],
    room: Int[Array, ""],
) -> tuple[Visited, Bool[Array, "B"], Bool[Array, "B"], Int[Array, "B"]]:
    """Adds the active architectures not known yet, in lane order, at most ``room``.

    Returns:
        The new set; which lanes were added (the first lane of equal ones); which active
        lanes are known now; and every lane's slot, meaningless where it is not known.
    """
    if uses_bitmap(space):
        return _insert_bits(space, visited, tokens, active, room)
    return _insert_hashed(space, visited, tokens, active, room)


def _insert_bits(
    space: SearchSpace,
    visited: Visited,
    tokens: Int[Array, "B L"],
    active: Bool[Array, "B"],
    room: Int[Array, ""],
) -> tuple[Visited, Bool[Array, "B"], Bool[Array, "B"], Int[Array, "B"]]:
    """:func:`insert` on the bitmap."""
    slot = tk.index(space, tokens)
    word, bit = slot >> 5, jnp.uint32(1) << (slot & 31).astype(jnp.uint32)
    seen = (visited.words[word] & bit) != 0
    lanes = jnp.arange(slot.shape[0], dtype=jnp.int32)
    same_before = (slot[:, None] == slot[None, :]) & (lanes[None, :] < lanes[:, None])
    repeated = jnp.any(same_before & active[None, :], axis=1)
    new = active & ~seen & ~repeated
    added = new & (jnp.cumsum(new, dtype=jnp.int32) <= room)
    words = visited.words.at[word].add(jnp.where(added, bit, jnp.uint32(0)))
    known = active & ((words[word] & bit) != 0)
    return visited._replace(words=words), added, known, slot


def _insert_hashed(
    space: SearchSpace,
    visited: Visited,
    tokens: Int[Array, "B L"],
    active: Bool[Array, "B"],
    room: Int[Array, ""],
) -> tuple[Visited, Bool[Array, "B"], Bool[Array, "B"], Int[Array, "B"]]:
    """:func:`insert` on the hash table: linear probing, one lane after the other."""
    words = jax.vmap(lambda row: tk.digest(space, row))(tokens)
    mask = visited.used.shape[0] - 1

    def lane(
        carry: tuple[UInt32[Array, "C 2"], Bool[Array, "C"], Int[Array, ""]],
        item: tuple[UInt32[Array, "2"], Bool[Array, ""]],
    ) -> tuple[
        tuple[UInt32[Array, "C 2"], Bool[Array, "C"], Int[Array, ""]],
        tuple[Bool[Array, ""], Bool[Array, ""], Int[Array, ""]],
    ]:
        keys, used, room = carry
        word, on = item
        start = (word[0] & jnp.uint32(mask)).astype(jnp.int32)
        place = jax.lax.while_loop(
            lambda p: used[p] & jnp.any(keys[p] != word), lambda p: (p + 1) & mask, start
        )
        found = used[place]
        added = on & ~found & (room > 0)
        keys = keys.at[place].set(jnp.where(added, word, keys[place]))
        used = used.at[place].set(found | added)
        return (keys, used, room - added), (added, on & (found | added), place)

    carry = (visited.keys, visited.used, jnp.asarray(room, jnp.int32))
    (keys, used, _), (added, known, slot) = jax.lax.scan(lane, carry, (words, active))
    return visited._replace(keys=keys, used=used), added, known, slot
