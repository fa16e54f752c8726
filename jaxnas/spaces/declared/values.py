"""Tokens as nested names and values, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.spaces.declared.decisions import Decision, Item, Layout, Repeat, Slot


def to_values(layout: Layout, tokens: Sequence[int]) -> dict[str, Any]:
    """Returns what was chosen, by name: repeats as lists of tables, subsets as lists.

    A decision that has no value is left out.
    """
    return _values(layout.slots, layout.items, tokens)


def _values(
    slots: Sequence[Slot], items: Sequence[Item], tokens: Sequence[int]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        if isinstance(item, Repeat):
            rounds = [_values(slots, inner, tokens) for inner in item.rounds]
            while rounds and not rounds[-1]:
                rounds.pop()
            found[item.name] = rounds
        elif item.members is None:
            slot, token = slots[item.slots[0]], int(tokens[item.slots[0]])
            if token < len(slot.choices):
                found[item.name] = slot.choices[token]
        elif item.slots and int(tokens[item.slots[0]]) < 2:
            chosen = [int(tokens[s]) == 1 for s in item.slots]
            found[item.name] = [m for m, yes in zip(item.members, chosen) if yes]
    return found


def from_values(layout: Layout, values: Mapping[str, Any]) -> np.ndarray:
    """Returns the tokens of named values, int32 ``[L]``; what is left out is absent.

    Raises:
        UserError: an unknown name or value, or something left out that must be there.
    """
    tokens = np.full(len(layout.slots), -1, np.int32)
    _fill(layout.slots, layout.items, values, "", tokens)
    for slot, token in zip(layout.slots, tokens, strict=True):
        if token < 0 and not slot.absent:
            raise UserError(
                f"The decision {slot.name!r} is missing; choose one of "
                f"{', '.join(map(str, slot.choices))}."
            )
    absent = np.array([len(slot.choices) for slot in layout.slots], np.int32)
    return np.where(tokens < 0, absent, tokens)


def _fill(
    slots: Sequence[Slot],
    items: Sequence[Item],
    values: Any,
    where: str,
    tokens: np.ndarray,
) -> None:
    if not isinstance(values, Mapping):
        raise UserError(f"{where or 'An architecture'} must be a table of names.")
    names = [item.name for item in items]
    for name in values:
        if name not in names:
            raise unknown_name("decision", f"{where}{name}", [where + n for n in names])
    for item in items:
        if item.name not in values:
            continue
        value, here = values[item.name], f"{where}{item.name}"
        if isinstance(item, Repeat):
            if not isinstance(value, list | tuple) or len(value) > len(item.rounds):
                raise UserError(
                    f"{here!r} must be a list of at most {len(item.rounds)} tables, not "
                    f"{value!r}."
                )
            for i, (inner, one) in enumerate(zip(item.rounds, value), 1):
                _fill(slots, inner, one, f"{here}{i}.", tokens)
        else:
            _fill_decision(slots, item, value, here, tokens)


def _fill_decision(
    slots: Sequence[Slot], item: Decision, value: Any, here: str, tokens: np.ndarray
) -> None:
    if item.members is None:
        slot = slots[item.slots[0]]
        token = slot.token(value)
        if token is None:
            known = map(str, slot.choices)
            raise unknown_name(f"value of {here!r}:", str(value), known)
        tokens[item.slots[0]] = token
        return
    wrong = not isinstance(value, list | tuple)
    if wrong or any(member not in item.members for member in value):
        raise UserError(
            f"{here!r} must be a list of some of {list(item.members)}, not {value!r}."
        )
    for slot, member in zip(item.slots, item.members, strict=True):
        tokens[slot] = int(member in value)
