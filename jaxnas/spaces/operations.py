"""The operations that the networks of a space can have, before any is built."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, cast

import jax
import numpy as np

from jaxnas.core import naming
from jaxnas.core import tokens as tk
from jaxnas.core.rng import root_key
from jaxnas.core.space import Operated, SearchSpace
from jaxnas.core.types import Spec

PROBED = 64
"""Random architectures that are looked at where a space does not say."""


def operations_of(space: SearchSpace) -> Mapping[str, str]:
    """Returns the operations by name, and what puts each there: a choice, or the network.

    A declared space knows all of them. Of another one :data:`PROBED` random architectures
    are looked at, so that a rare operation may be missing. Empty where a space has no
    networks.
    """
    if not getattr(space, "has_network", True):
        return {}
    if isinstance(space, Operated):
        return cast(Operated, space).operations()
    return _probed(space)


@functools.lru_cache(maxsize=32)
def _probed(space: SearchSpace) -> Mapping[str, str]:
    rows = np.asarray(tk.draw(space, jax.random.split(root_key(0), PROBED)))
    counts: dict[str, int] = {}
    first: dict[str, np.ndarray] = {}
    for row in rows:
        for op in sorted(set(ops_of(space.to_spec(row)))):
            counts[op] = counts.get(op, 0) + 1
            first.setdefault(op, row)
    such = {
        op: f"an architecture such as {naming.to_dict(space, first[op])}" for op in counts
    }
    return {op: "its network" if n == len(rows) else such[op] for op, n in counts.items()}


def ops_of(spec: Spec) -> Iterator[str]:
    """Yields the operation of every node of a spec, those of its blocks too."""
    parts: list[Any] = [spec, *spec.get("blocks", {}).values()]
    for part in parts:
        yield from (node["op"] for node in part.get("nodes", ()) if node["op"] != "call")
