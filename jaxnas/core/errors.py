"""Errors whose text is one sentence for a person, and the exit codes that go with them."""

import difflib
from collections.abc import Iterable


class JaxnasError(Exception):
    """Something outside the program went wrong; the text says what to do. Exit code 1."""

    exit_code = 1


class UserError(JaxnasError, ValueError):
    """What was asked for cannot be done as asked; the text says how to ask. Exit code 2."""

    exit_code = 2


class ContractError(UserError):
    """What a user brought does not do what it must, ever; a search ends at once."""


class DiskFullError(JaxnasError):
    """A write did not fit; nothing that was already saved is touched. Exit code 1."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Returns the error for a name that is not among ``known``, with the nearest match."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listing = ", ".join(choices)
    return UserError(f"Unknown {kind} {name!r}.{hint} Available: {listing}.")
