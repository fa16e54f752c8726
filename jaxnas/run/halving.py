"""Halving, Hyperband and extrapolated curves: how many start where, and who goes on.

K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter
optimization", AISTATS 2016; L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh and
A. Talwalkar, "Hyperband: a novel bandit-based approach to hyperparameter optimization",
JMLR 18, 2018, Algorithm 1. What is evaluated is what an algorithm proposes, be that a
random draw or not. Stopping by extrapolation: B. Baker, O. Gupta, R. Raskar and N. Naik,
"Accelerating neural architecture search using performance prediction", 2017.
"""

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import numpy as np
import scipy.stats
from jaxtyping import Float

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.oracle import MultiFidelity, Oracle, capability
from jaxnas.core.ranges import check

KINDS = ("successive", "hyperband", "extrapolated")
WARM = 5
"""Full evaluations that an extrapolation is fitted to at least."""
RIDGE = 1e-2
"""Penalty on the slopes of an extrapolation, in standardised values, a row."""


@dataclass(frozen=True)
class Halving:
    """How evaluations are cut short: what :class:`jaxnas.RunOptions` takes.

    A proposal of the algorithm, its ``batch`` lanes, is one bracket (``"successive"``) or
    one round of brackets that start at every fidelity (``"hyperband"``). The lanes of a
    bracket are evaluated at its first fidelity, the best ``1 / eta`` of them at the next,
    and so on to the full evaluation.

    ``"extrapolated"`` has no brackets: at each fidelity an architecture goes on unless its
    values so far make it improbable that its full one beats the best full one of its
    controller; see :func:`chances`. The first :data:`WARM` are evaluated in full.

    Args:
        kind: ``"successive"``, ``"hyperband"`` or ``"extrapolated"``.
        eta: at each fidelity one in ``eta`` goes on; 2 or more. Of an extrapolation only
            how the fidelities of a command are spaced.
        chance: of beating the best, below which an extrapolated architecture stops.

    Raises:
        UserError: an unknown kind, an ``eta`` below 2, or a chance outside (0, 1).
    """

    kind: str = "successive"
    eta: float = 3.0
    chance: float = 0.1
    RANGES: ClassVar = {"eta": "[2, inf)", "chance": "(0, 1)"}

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("kind of halving:", self.kind, KINDS)
        for name, interval in self.RANGES.items():
            check(name, getattr(self, name), interval)

    def lanes(self, rungs: int) -> int:
        """Returns the fewest lanes of a proposal for a number of fidelities.

        With them one architecture of each bracket is evaluated in full.
        """
        if self.kind == "extrapolated":
            return 1
        if self.kind == "successive":
            return math.ceil(self.eta ** (rungs - 1) - 1e-9)
        return sum(size for _, size in hyperband(rungs, self.eta))


class Bracket(NamedTuple):
    """Lanes of a proposal that compete with each other."""

    first: int  # lane
    stop: int  # lane behind the last
    start: int  # rung, 0 the cheapest


def hyperband(rungs: int, eta: float) -> list[tuple[int, int]]:
    """Returns (first rung, architectures) of each bracket of one round of Hyperband.

    With ``s`` halvings to come, ``ceil((s_max + 1) / (s + 1) eta^s)`` architectures:
    every bracket costs about the same.
    """
    top = rungs - 1
    return [
        (top - s, math.ceil((top + 1) / (s + 1) * eta**s - 1e-9))
        for s in range(top, -1, -1)
    ]


def survivors(entered: int, eta: float, halvings: int) -> int:
    """Returns how many of a bracket are left: ``floor(n / eta^i)``, one at least."""
    return max(1, math.floor(entered / eta**halvings + 1e-9)) if entered else 0


def brackets(halving: Halving, rungs: int, lanes: int) -> tuple[Bracket, ...]:
    """Returns the brackets of a proposal; those of Hyperband again where lanes are left."""
    if halving.kind != "hyperband":
        return (Bracket(0, lanes, 0),)
    found, at = [], 0
    for start, size in itertools.cycle(hyperband(rungs, halving.eta)):
        if at >= lanes:
            return tuple(found)
        found.append(Bracket(at, min(at + size, lanes), start))
        at += size
    raise AssertionError("a cycle does not end")


def chances(
    finished: Float[np.ndarray, "n K"],
    begun: Float[np.ndarray, "m k"],
    best: float,
) -> Float[np.ndarray, "m"]:
    """Returns how probable it is that full evaluations will beat the best.

    A ridge regression of full values on those at the first ``k`` fidelities, fitted to
    what was evaluated in full; the errors are normal, with the spread that leaving each
    row out shows (Baker et al. 2017, who take more features of the curve).

    Args:
        finished: values at every fidelity, the full one last, of at least two rows.
        begun: values at the first ``k`` fidelities of those to be judged.
        best: largest full value so far.
    """
    k = begun.shape[1]
    x, y = finished[:, :k], finished[:, -1]
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    one = lambda rows: np.column_stack([np.ones(len(rows)), (rows - centre) / scale])
    a, n = one(x), len(x)
    penalty = np.diag([0.0, *[RIDGE * n] * k])
    solved = np.linalg.solve(a.T @ a + penalty, a.T)
    slopes, hat = solved @ y, np.sum(a * solved.T, axis=1)
    errors = (y - a @ slopes) / np.maximum(1.0 - hat, 1e-6)
    spread = np.sqrt(np.mean(errors**2))
    predicted = one(begun) @ slopes
    return scipy.stats.norm.sf(best, predicted, max(spread, 1e-9))


def check_halving(halving: Halving, oracle: Oracle, lanes: int, budget: int) -> None:
    """Checks that an oracle and an algorithm of so many lanes can be halved.

    Raises:
        UserError: no cheaper fidelities, or not rising ones; too few lanes, or a budget
            below them.
    """
    found = capability(oracle, MultiFidelity)
    if oracle.traced or found is None or found.num_fidelities < 2:
        lack = "has no cheaper fidelities" if found else "evaluates in one way only"
        raise UserError(
            f"The oracle {oracle.id!r} {lack}, so nothing can be halved; use one that "
            "trains, such as child with levels, or leave halving out."
        )
    rungs = found.num_fidelities
    probe = np.asarray(tk.sample(jax.random.key(0), oracle.space))
    efforts = [found.effort(probe, rung) for rung in order(rungs)]
    if any(a >= b for a, b in itertools.pairwise(efforts)):
        shares = ", ".join(f"{effort:.3g}" for effort in efforts)
        raise UserError(
            f"The fidelities of {oracle.id!r} cost {shares} "
            "of a full evaluation; list them cheapest first, each below the full one."
        )
    needed = halving.lanes(rungs)
    if lanes < needed:
        raise UserError(
            f"{rungs} fidelities and eta={halving.eta:g} need brackets of {needed} "
            f"architectures, and the algorithm proposes {lanes} at a time; make it with "
            f"batch={needed}, or use fewer fidelities."
        )
    if budget < lanes:
        raise UserError(
            f"A budget of {budget} is less than one bracket of {lanes} architectures; "
            f"ask for {lanes} or more, or use fewer fidelities."
        )


def order(rungs: int) -> tuple[int, ...]:
    """Returns the fidelity of each rung, the full one, 0, last."""
    return (*range(1, rungs), 0)
