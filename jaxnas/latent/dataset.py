"""Architectures of a fit and of its evaluation: disjoint, drawn once; host."""

from typing import NamedTuple, cast

import jax
import numpy as np
from jaxtyping import Int

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.rng import root_key
from jaxnas.core.space import Counted, SearchSpace

_TRIES = 8
"""Rounds of drawing before a space is said to hold too few architectures."""


class Split(NamedTuple):
    """Disjoint samples of a space, in random order."""

    train: Int[np.ndarray, "N L"]
    heldout: Int[np.ndarray, "H L"]


def split(space: SearchSpace, num_train: int, num_heldout: int, seed: int = 0) -> Split:
    """Returns different architectures, uniformly drawn where the space can do that.

    No score is read, so they cost no query; ``seed`` decides which.

    Raises:
        UserError: a number below 1, or more than the space holds.
    """
    wanted = num_train + num_heldout
    size = tk.count(space)
    if min(num_train, num_heldout) < 1 or (size is not None and wanted > size):
        has = "an unknown number of" if size is None else f"{size:,}"
        raise UserError(
            f"The space {space.id!r} has {has} architectures, and {num_train:,} to train "
            f"on and {num_heldout:,} to hold out were asked for; at least 1 each is needed."
        )
    if size is not None and size <= tk.ENUMERABLE:
        rows = np.random.default_rng(seed).permutation(size)[:wanted]
        chosen = tk.enumerate_space(space)[rows]
    else:
        chosen = _draw(space, wanted, seed)
    return Split(chosen[:num_train], chosen[num_train:])


def _draw(space: SearchSpace, wanted: int, seed: int) -> Int[np.ndarray, "n L"]:
    draw = tk.sample_uniform if isinstance(cast(object, space), Counted) else tk.sample
    batch = jax.vmap(lambda key: draw(key, space))
    found = np.zeros((0, space.length), np.int32)
    for attempt in range(_TRIES):
        key = jax.random.fold_in(root_key(seed), attempt)
        fresh = np.asarray(batch(jax.random.split(key, wanted)))
        both = np.concatenate([found, fresh])
        _, first = np.unique(both, axis=0, return_index=True)
        found = both[np.sort(first)]
        if len(found) >= wanted:
            return found[:wanted]
    raise UserError(
        f"Drawing from the space {space.id!r} found {len(found):,} different architectures "
        f"of the {wanted:,} asked for; ask for fewer."
    )
