"""The versions of torch and aihwkit that fit together, by the Python that they are for.

aihwkit's wheels are built against one torch each. The 1.1 line has none for Python 3.12 and
later, and its input ranges stop learning with torch 2.14, whose gradient of a clamp is zero
at the bound; the 1.2 line works around that.
"""

import sys
from typing import NamedTuple

Version = tuple[int, int]


class Pair(NamedTuple):
    """One line of aihwkit and the torch that it goes with."""

    torch: str
    aihwkit: str
    tried: bool
    """Whether this project's bridge was run with it; see docs/decisions/0029."""

    @property
    def install(self) -> str:
        """The command that installs the pair and what it needs when it runs."""
        needs = "numpy scipy 'requests>=2.32,<3' protobuf tqdm"
        return (
            f"pip install torch=={self.torch} {needs} && "
            f"pip install --no-deps aihwkit=={self.aihwkit}"
        )


PAIRS: dict[Version, Pair] = {
    (3, 11): Pair("2.13.0", "1.1.0", True),
    (3, 12): Pair("2.14.1", "1.2.0", False),
    (3, 13): Pair("2.14.1", "1.2.0", True),
}
NEWEST = max(PAIRS)


def pair_for(python: Version = sys.version_info[:2]) -> Pair | None:
    """Returns the pair for a Python, or None where none is known to fit."""
    return PAIRS.get(python)


def install_for(python: Version = sys.version_info[:2]) -> str:
    """Returns the command that installs the pair for a Python.

    Where there is none it names the Pythons that have one.
    """
    pair = pair_for(python)
    if pair is not None:
        return pair.install
    known = ", ".join(f"{major}.{minor}" for major, minor in sorted(PAIRS))
    return f"use Python {known} (validate --python PATH): {PAIRS[NEWEST].install}"


def mismatch(python: Version, torch: str, aihwkit: str) -> str | None:
    """Returns what does not fit of three versions, or None where they are a known pair.

    A torch is compared by its first two numbers, without what stands behind a plus.
    """
    pair = pair_for(python)
    name = f"Python {python[0]}.{python[1]}"
    if pair is None:
        return f"no pair of torch and aihwkit is known for {name}"
    minor = lambda version: version.partition("+")[0].split(".")[:2]
    if minor(aihwkit) != minor(pair.aihwkit):
        return f"aihwkit {aihwkit} is not the line for {name}, which is {pair.aihwkit}"
    if minor(torch) != minor(pair.torch):
        return f"torch {torch} is not the one for aihwkit {aihwkit}, which is {pair.torch}"
    return None
