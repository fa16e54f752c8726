"""Assertions that say what was expected, of which leaf, and how to mend it."""

import re
from typing import Any

import numpy as np


def shaped(name: str, leaf: Any, shape: tuple[int, ...], dtype: Any = None) -> None:
    """Asserts the shape and, where given, the dtype of an array called ``name``."""
    wanted = f"{'' if dtype is None else np.dtype(dtype)}{list(shape)}"
    found = f"{leaf.dtype}{list(leaf.shape)}"
    ok = leaf.shape == shape and (dtype is None or leaf.dtype == dtype)
    assert ok, f"{name} is {found}; make it {wanted}"


def same(found: Any, wanted: Any, text: str) -> None:
    """Asserts that two arrays are equal, NaN for NaN; ``text`` says what must be."""
    np.testing.assert_array_equal(found, wanted, err_msg=text)


def every(ok: Any, text: str) -> None:
    """Asserts that all of ``ok`` are true; the message counts those that fail."""
    ok = np.asarray(ok)
    if not ok.all():
        first = [int(i) for i in np.argwhere(~ok)[0]]
        raise AssertionError(f"{text} ({np.sum(~ok)} of {ok.size} fail, first at {first})")


def static(made: Any, protocol: type) -> None:
    """Asserts what every space, oracle and algorithm is: complete, hashable, described."""
    name = type(made).__name__
    lacks = [n for n in vars(protocol) if n[0] != "_" and not hasattr(made, n)]
    assert not lacks, f"{name} has no {lacks[0]}; a {protocol.__name__} needs it"
    mend = "make it a dataclass with frozen=True and hashable fields"
    assert type(made).__hash__ is not None, f"{name} cannot be hashed; {mend}"
    assert hash(made) == hash(made), f"the hash of {name} changes; {mend}"
    assert re.search(r"-v\d", made.id), f"the id {made.id!r} lacks a version, as in 'my-v1'"
    assert type(made).__doc__, f"{name} has no docstring; say in a line what it is"
