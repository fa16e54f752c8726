"""Architectures as names and values, in spaces that have names and in those without."""

from collections.abc import Mapping
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.space import Named, Nested, SearchSpace, Value


def decision_names(space: SearchSpace) -> tuple[str, ...]:
    """Returns the name of each decision; ``token1``, ``token2``, ... where none has one."""
    if isinstance(space, Named):
        return cast(Named, space).decision_names
    return tuple(f"token{t + 1}" for t in range(space.length))


def decision_values(space: SearchSpace) -> tuple[tuple[Value, ...], ...]:
    """Returns what each token of each decision stands for; itself where nothing is said."""
    if isinstance(space, Named):
        return cast(Named, space).decision_values
    return (tuple(range(space.vocab)),) * space.length


def to_dict(space: SearchSpace, tokens: np.ndarray) -> dict[str, Any]:
    """Returns what an architecture decided, by name; JSON-able."""
    if isinstance(space, Nested):
        return cast(Nested, space).to_dict(np.asarray(tokens))
    return flat_dict(space, tokens)


def flat_dict(space: SearchSpace, tokens: np.ndarray) -> dict[str, Any]:
    """Returns one value a decision; those without one are left out."""
    names, values = decision_names(space), decision_values(space)
    chosen = {n: v[int(t)] for n, v, t in zip(names, values, tokens, strict=True)}
    return {name: value for name, value in chosen.items() if value is not None}


def from_dict(space: SearchSpace, values: Mapping[str, Any]) -> Int[np.ndarray, "L"]:
    """Returns the tokens of an architecture that is given by name.

    Raises:
        UserError: unknown names or values, or no architecture of the space.
    """
    if isinstance(space, Nested):
        return np.asarray(cast(Nested, space).from_dict(values), np.int32)
    return flat_tokens(space, values)


def flat_tokens(space: SearchSpace, values: Mapping[str, Any]) -> Int[np.ndarray, "L"]:
    """Returns the tokens of one value a decision; raises as :func:`from_dict`."""
    names = decision_names(space)
    for name in values:
        if name not in names:
            raise unknown_name("decision", str(name), names)
    known = zip(names, decision_values(space), strict=True)
    tokens = [token_of(name, choices, values.get(name)) for name, choices in known]
    made = np.array(tokens, np.int32)
    if not bool(tk.is_valid(space, jnp.asarray(made))):
        raise UserError(f"{dict(values)} is no architecture of {space.id!r}.")
    return made


def token_of(name: str, choices: tuple[Value, ...], value: Any) -> int:
    """Returns the token of a decision's value; numbers and texts are told apart.

    Raises:
        UserError: no such value, or None where the decision needs one.
    """
    for token, choice in enumerate(choices):
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return token
    if value is None:
        raise UserError(f"The decision {name!r} is missing; it needs a value.")
    known = [str(choice) for choice in choices if choice is not None]
    raise unknown_name(f"value of {name!r}:", str(value), known)
