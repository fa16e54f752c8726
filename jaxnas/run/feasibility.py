"""What a search says where nothing that it asked meets the constraints, and before it asks.

Whether anything can meet them is proven where the oracle lists its limited metrics over a
whole space, and is unknown elsewhere.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float

from jaxnas.core.constraints import Limit, Limiting, excess, worded
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Oracle, capability

LARGEST = 4
"""Most limits that are looked at together for those that exclude each other."""


def listed(oracle: Oracle) -> list[tuple[Limit, Float[np.ndarray, "n"]]]:
    """Returns the limits whose metric is known of every architecture, with its values."""
    limiting = capability(oracle, Limiting)
    if limiting is None:
        return []
    columns = limiting.limited_columns()
    return [(limit, columns[limit[0]]) for limit in limiting.bounds if limit[0] in columns]


def meeting(limit: Limit, values: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Returns which values meet a limit, in the 32 bits in which a search compares them."""
    return excess(limit, values.astype(np.float32)) <= 0  # NaN meets nothing


def impossible(oracle: Oracle) -> str:
    """Returns why no architecture can meet the limits, empty where one can or who knows.

    Names each limit that nothing meets, else the smallest sets of limits, up to
    ``LARGEST``, that exclude each other, with how far the last metric of a set goes where
    the others hold.
    """
    known = listed(oracle)
    met = [meeting(limit, values) for limit, values in known]
    if not met or np.logical_and.reduce(met).any():
        return ""
    sets: list[tuple[int, ...]] = []
    for size in range(1, min(len(known), LARGEST) + 1):
        for some in itertools.combinations(range(len(known)), size):
            smaller = any(set(found) <= set(some) for found in sets)
            if not smaller and not np.logical_and.reduce([met[i] for i in some]).any():
                sets.append(some)
    sets = sets or [tuple(range(len(known)))]
    parts = [_excluded([known[i] for i in some], [met[i] for i in some]) for some in sets]
    return f"none of all {len(met[0]):,} architectures meets {'; nor '.join(parts)}"


def _excluded(
    some: list[tuple[Limit, np.ndarray]], met: list[Bool[np.ndarray, "n"]]
) -> str:
    """Returns limits that nothing meets together, and how near the last one can be met."""
    *others, (last, values) = some
    names = " and ".join(worded(limit) for limit, _ in some)
    if not others:
        low, high = _number(np.nanmin(values)), _number(np.nanmax(values))
        return f"{names} ({last[0]} is {low} to {high})"
    there = values[np.logical_and.reduce(met[:-1])]
    where = " and ".join(worded(limit) for limit, _ in others)
    if np.isnan(there).all():
        return f"{names}, which exclude each other"
    least = last[1] == "<="
    end = _number(np.nanmin(there) if least else np.nanmax(there))
    most = f"{last[0]} is at {'least' if least else 'most'} {end} where {where}"
    return f"{names}, which exclude each other ({most})"


def possible(oracle: Oracle) -> tuple[int, int] | None:
    """Returns how many architectures meet all limits, and of how many; None if unknown."""
    limiting, known = capability(oracle, Limiting), listed(oracle)
    if limiting is None or not known or len(known) < len(limiting.bounds):
        return None
    met = np.logical_and.reduce([meeting(limit, values) for limit, values in known])
    return int(met.sum()), len(met)


def check_possible(oracle: Oracle) -> str:
    """Returns a warning where it is proven that nothing meets the limits, empty elsewhere.

    Raises:
        UserError: it is, and the oracle lives on the host, where each query may be
            expensive; in a compiled search they cost next to nothing, and it runs.
    """
    why = impossible(oracle)
    if why and not oracle.traced:
        raise UserError(
            f"No query was made, since {why}; relax a constraint, or leave it out."
        )
    return f"The search will recommend nothing, since {why}." if why else ""


def succeeded(
    objectives: Float[np.ndarray, "*b M"], violation: Float[np.ndarray, "*b"]
) -> Bool[np.ndarray, "*b"]:
    """Returns which queries were made and gave every objective."""
    return np.isfinite(objectives).all(axis=-1) & np.isfinite(violation)


def nearest(
    limits: Sequence[Limit],
    limited: Float[np.ndarray, "n K"] | None,
    violation: Float[np.ndarray, "n"],
) -> str:
    """Returns how near the query of the least violation came, such as ``params 73,306``.

    Args:
        limits: of the run, ``K``.
        limited: values of the limited metrics; None where they are not recorded.
        violation: of queries that succeeded, at least one.
    """
    best = int(np.argmin(violation))
    if limited is None or not limits:
        return f"the least violation was {violation[best]:.3g}"
    parts: dict[str, str] = {}
    for limit, value in zip(limits, limited[best], strict=True):
        over = float(excess(limit, value))
        beyond = "over" if limit[1] == "<=" else "under"
        unit = f"{over:.3g}" if not limit[2] else f"{_number(100 * over, 3)} %"
        text = f"{limit[0]} {_number(value)}"
        if over > 0:
            parts[limit[0]] = f"{text} ({unit} {beyond})"
        parts.setdefault(limit[0], text)
    return f"the nearest had {', '.join(parts.values())}"


def sentence(oracle: Oracle, arrays: Mapping[str, np.ndarray]) -> str:
    """Returns what to say of a search that found nothing feasible: one sentence.

    Names the constraints, how near the best query came, and whether anything meets them.
    """
    limiting = capability(oracle, Limiting)
    limits = () if limiting is None else limiting.bounds
    there = succeeded(arrays["objectives"], arrays["violation"])
    limited = arrays["limited"][there] if "limited" in arrays else None
    near = nearest(limits, limited, arrays["violation"][there])
    wanted = " and ".join(map(worded, limits)) or "the constraints"
    text = f"Nothing that was queried meets {wanted}: {near}"
    why, count = impossible(oracle), possible(oracle)
    if why:
        return f"{text}; it is impossible: {why}."
    if count is not None:
        few, all_ = count
        return (
            f"{text}; {few:,} of all {all_:,} architectures do, so search longer, or with "
            "another handling."
        )
    return f"{text}; whether any architecture does is not known."


def verdict(oracle: Oracle, arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Returns sentence and least violation where nothing met the constraints, else None.

    None too where no evaluation succeeded: then the constraints are not why.
    """
    there = succeeded(arrays["objectives"], arrays["violation"])
    least = float(arrays["violation"][there].min(initial=np.inf))
    if not 0 < least < np.inf:
        return None
    return {"text": sentence(oracle, arrays), "violation": least}


def nearest_of(found: Sequence[Mapping[str, Any] | None]) -> str:
    """Returns the sentence of the method that came nearest, empty where any found one."""
    if not found or not all(found):
        return ""
    every = [cast(Any, one) for one in found]
    return str(min(every, key=lambda one: one["violation"])["text"])


def _number(value: Any, digits: int = 6) -> str:
    """Returns a number with so many significant digits, large ones as whole numbers."""
    value = float(value)
    large = abs(value) >= 10.0 ** (digits - 1)
    return f"{value:,.0f}" if large else f"{value:,.{digits}g}"
