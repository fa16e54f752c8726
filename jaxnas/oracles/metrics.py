"""Choosing metrics by name, and the numbers that every oracle reports about itself."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import FAILED, OK, SKIPPED, Evaluation, Objective

UNIT = "units"
"""Of numbers whose unit nobody told us."""
Tokens = Int[Array | np.ndarray, "B L"]
"""Architectures, on a device or on the host."""


def choose(
    oracle: str,
    objective: str | Sequence[str],
    names: Sequence[str],
    aliases: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Returns canonical metric names; UserError on an unknown one, none, or one twice."""
    parts = objective.split(",") if isinstance(objective, str) else list(objective)
    known = {**{name: name for name in names}, **(aliases or {})}
    chosen = []
    for part in (part.strip() for part in parts):
        if part not in known:
            raise unknown_name(f"metric of oracle {oracle!r}:", part, names)
        chosen.append(known[part])
    if not chosen or len(set(chosen)) != len(chosen):
        raise UserError(
            f"The objectives of oracle {oracle!r} must be at least one and all different, "
            f"got {', '.join(chosen) or 'none'}."
        )
    return tuple(chosen)


def members_of(space: SearchSpace) -> Int[np.ndarray, "n L"]:
    """Returns all architectures; UserError, at once, on more than ``ENUMERABLE``."""
    size = tk.count(space)
    if size is None or size > tk.ENUMERABLE:
        raise UserError(
            f"The space {space.id!r} has more than {tk.ENUMERABLE:,} architectures, so "
            "their metrics cannot be listed."
        )
    return tk.enumerate_space(space)


def measured(
    objectives: Float[Array, "B M"], cost: Float[Array, "B"], active: Bool[Array, "B"]
) -> Evaluation:
    """Returns an evaluation without constraints: a lane that is not finite has FAILED.

    Inactive lanes are SKIPPED; lanes that are not OK carry NaN and cost nothing.
    """
    finite = jnp.all(jnp.isfinite(objectives), axis=1)
    ok = active & finite
    status = jnp.where(active, jnp.where(finite, OK, FAILED), SKIPPED)
    return Evaluation(
        objectives=jnp.where(ok[:, None], objectives, jnp.nan),
        violation=jnp.zeros_like(cost),
        cost=jnp.where(ok, cost, 0.0),
        status=status.astype(jnp.int32),
        reward=jnp.full_like(cost, jnp.nan),
    )


def described(item: Objective) -> dict[str, object]:
    """Returns unit, meaning and direction of a metric, for people."""
    better = "higher" if item.maximise else "lower"
    return {"unit": item.unit, "meaning": item.meaning, "better": better}


def summarise(
    space: SearchSpace, objectives: Sequence[Objective], columns: Mapping[str, np.ndarray]
) -> dict[str, dict[str, object]]:
    """Returns unit, meaning, direction, range and optimum of each metric, for people."""
    members = members_of(space)
    facts = {}
    for item in objectives:
        column = columns[item.name]
        best = np.nanargmax(column) if item.maximise else np.nanargmin(column)
        facts[item.name] = {
            **described(item),
            "min": float(np.nanmin(column)),
            "max": float(np.nanmax(column)),
            "optimum": tuple(int(token) for token in members[best]),
        }
    return facts
