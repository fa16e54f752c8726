"""Less than a full training: what a fidelity is, written as text, and ladders of them."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxnas.core.errors import UserError, unknown_name


class Fidelity(NamedTuple):
    """How much of a full training an evaluation is given."""

    epochs: int
    images: int | None = None
    """Training images used; all when None."""
    channels: int | None = None
    """The network's size of that name; the oracle's own when None."""


def read_levels(given: Any, epochs: int) -> tuple[Fidelity, ...]:
    """Returns fidelities given as such, as lists (read from a run), or as text.

    Raises:
        UserError: a text of another form.
    """
    if not isinstance(given, str):
        return tuple(Fidelity(*level) for level in given)
    found = []
    for part in filter(None, given.split(";")):
        sizes = dict(parse_size(part))
        for name in sizes:
            if name not in Fidelity._fields:
                raise unknown_name("size of a fidelity:", name, Fidelity._fields)
        found.append(Fidelity(**{"epochs": epochs, **sizes}))
    return tuple(found)


@functools.lru_cache(maxsize=16)
def parse_size(text: str) -> Mapping[str, int]:
    """Returns ``"channels:8,cells:1"`` as numbers by name; UserError on another form."""
    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition(":")
        if not value.isdecimal() or name in found:
            raise UserError(
                f"Cannot read the size {text!r}; write NAME:NUMBER with commas between, "
                "such as channels:8,cells:1."
            )
        found[name] = int(value)
    return found


def ladder(resource: str, whole: int, eta: float, least: int) -> list[int]:
    """Returns rising amounts below a whole, each ``eta`` times less than the next.

    Raises:
        UserError: none of them reaches the least.
    """
    amounts: list[int] = []
    part = whole / eta
    while round(part) >= max(1, least):
        if round(part) < (amounts[-1] if amounts else whole):
            amounts.append(round(part))
        part /= eta
    if not amounts:
        raise UserError(
            f"A full training has {whole} {resource}, and {eta:g} times less is below the "
            f"least of {least}; use a smaller least, or more {resource}."
        )
    return amounts[::-1]
