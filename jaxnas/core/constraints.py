"""Limits on metrics, and what breaking them does to the reward that a method learns from.

A handling changes the reward of what breaks a constraint and never that of what meets all:
recommendations are among the feasible whatever is chosen. What it remembers belongs to one
controller and is part of the ledger, so it is mapped, saved and resumed with it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.ranges import check

Limit = tuple[str, Literal["<=", ">="], float]
"""Metric, direction, bound in the metric's unit."""


@runtime_checkable
class Limiting(Protocol):
    """An oracle under limits, whose evaluations say what each limited metric was."""

    @property
    def bounds(self) -> tuple[Limit, ...]:
        """Every limit, in the order of ``Evaluation.limited``."""
        ...

    def limited_columns(self) -> dict[str, np.ndarray]:
        """Returns limited metrics of all architectures, ``[n]``, those that are listed."""
        ...


def excess(limit: Limit, value: Any) -> Any:
    """Returns by how much values exceed a limit, in units of the bound; negative inside.

    The unit is ``max(|bound|, 1e-12)``, and 1 where the bound is 0, so that limits in
    different units weigh alike.
    """
    _, sign, bound = limit
    beyond = value - bound if sign == "<=" else bound - value
    return beyond / (max(abs(bound), 1e-12) if bound else 1.0)


def worded(limit: Limit) -> str:
    """Returns a limit as text, such as ``"params <= 500,000"``."""
    metric, sign, bound = limit
    return f"{metric} {sign} {bound:,.10g}"


@dataclass(frozen=True)
class Handling(ABC):
    """What breaking constraints does to the reward; its fields are its options."""

    name: ClassVar[str]
    RANGES: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        for option, interval in self.RANGES.items():
            check(f"The option {option!r} of {self.name}", getattr(self, option), interval)

    def init(self) -> PyTree:
        """Returns what one controller remembers before its first evaluation."""
        return ()

    @abstractmethod
    def __call__(
        self,
        state: PyTree,
        value: Float[Array, "B"],
        violation: Float[Array, "B"],
        ok: Bool[Array, "B"],
    ) -> tuple[PyTree, Float[Array, "B"]]:
        """Returns the new state and the rewards of one proposal.

        Args:
            state: of this controller.
            value: reward without constraints; NaN where there is none.
            violation: summed excess, 0 where every constraint holds.
            ok: lanes with a value.
        """


@dataclass(frozen=True)
class Penalty(Handling):
    """``value - factor * violation``: a static penalty.

    Args:
        factor: reward lost for a violation of 1, a bound exceeded by its own size.
    """

    factor: float = 100.0
    name = "penalty"
    RANGES: ClassVar = {"factor": "[0, inf)"}

    def __call__(
        self,
        state: PyTree,
        value: Float[Array, "B"],
        violation: Float[Array, "B"],
        ok: Bool[Array, "B"],
    ) -> tuple[PyTree, Float[Array, "B"]]:
        """Returns the penalised values."""
        return state, value - self.factor * violation


@dataclass(frozen=True)
class Death(Handling):
    """One reward for everything that breaks a constraint, however much: the death penalty.

    The preset of -1000 is the usual one of weighted rewards.

    Args:
        reward: of what is infeasible.
    """

    reward: float = -1000.0
    name = "death"
    RANGES: ClassVar = {"reward": "(-inf, inf)"}

    def __call__(
        self,
        state: PyTree,
        value: Float[Array, "B"],
        violation: Float[Array, "B"],
        ok: Bool[Array, "B"],
    ) -> tuple[PyTree, Float[Array, "B"]]:
        """Returns the values, those of the infeasible replaced."""
        return state, jnp.where(violation > 0, jnp.float32(self.reward), value)


class LagrangianState(NamedTuple):
    """The multiplier of one controller and how it moves, all traced."""

    multiplier: Float[Array, ""]
    """Reward lost for a violation of 1."""
    step: Float[Array, ""]
    """Step size of the dual ascent."""
    tolerance: Float[Array, ""]
    """Violation of a proposal at which the multiplier stays as it is."""


@dataclass(frozen=True)
class Lagrangian(Handling):
    """``value - multiplier * violation``, the multiplier raised by dual ascent.

    After each proposal ``multiplier = max(0, multiplier + step * sum(violation -
    tolerance))`` over its evaluated lanes, repeats included: the constraint is on what the
    method proposes now, as in reward-constrained policy optimisation (Tessler et al.
    2019), whose two time scales are the learning rate and ``step``. A batch is
    paid with the multiplier from before it. One multiplier for the sum of all excesses,
    which are in units of their bounds; theirs is one expected cost as well.

    Args:
        start: first multiplier.
        step: of the ascent; in the state it is traced and may differ between controllers.
        tolerance: mean violation that is accepted.
    """

    start: float = 1.0
    step: float = 1.0
    tolerance: float = 0.05
    name = "lagrangian"
    RANGES: ClassVar = {"start": "[0, inf)", "step": "[0, inf)", "tolerance": "[0, inf)"}

    def init(self) -> LagrangianState:
        """Returns the first multiplier."""
        return LagrangianState(*map(jnp.float32, (self.start, self.step, self.tolerance)))

    def __call__(
        self,
        state: LagrangianState,
        value: Float[Array, "B"],
        violation: Float[Array, "B"],
        ok: Bool[Array, "B"],
    ) -> tuple[LagrangianState, Float[Array, "B"]]:
        """Returns the multiplier after the proposal, and rewards by the one before it."""
        reward = value - state.multiplier * violation
        slope = jnp.sum(jnp.where(ok, violation - state.tolerance, 0.0))
        multiplier = jnp.maximum(state.multiplier + state.step * slope, 0.0)
        return state._replace(multiplier=multiplier), reward


class FeasibleFirstState(NamedTuple):
    """The worst values that one controller has seen; infinity before there is one."""

    feasible: Float[Array, ""]
    """Worst value that met every constraint."""
    every: Float[Array, ""]
    """Worst value of all, which stands in before anything was feasible."""


@dataclass(frozen=True)
class FeasibleFirst(Handling):
    """Everything feasible before everything infeasible, and less violation before more.

    An infeasible architecture has the worst feasible value so far, this proposal's
    included, less its violation: its own value counts for nothing. Deb 2000, "An efficient
    constraint handling method for genetic algorithms". Before anything was feasible the
    worst value of all stands in (Deb has 0, which is above a feasible value that is
    negative), so that what was paid earlier never outranks a feasible value of that size.
    """

    name = "feasible-first"

    def init(self) -> FeasibleFirstState:
        """Returns a state that has seen nothing."""
        return FeasibleFirstState(jnp.float32(jnp.inf), jnp.float32(jnp.inf))

    def __call__(
        self,
        state: FeasibleFirstState,
        value: Float[Array, "B"],
        violation: Float[Array, "B"],
        ok: Bool[Array, "B"],
    ) -> tuple[FeasibleFirstState, Float[Array, "B"]]:
        """Returns the worst values so far, and the rewards."""
        worst = lambda where: jnp.min(jnp.where(where, value, jnp.inf))
        met = ok & (violation <= 0)
        state = FeasibleFirstState(
            jnp.minimum(state.feasible, worst(met)), jnp.minimum(state.every, worst(ok))
        )
        base = jnp.where(jnp.isfinite(state.feasible), state.feasible, state.every)
        return state, jnp.where(violation > 0, base - violation, value)


HANDLINGS: dict[str, Callable[..., Handling]] = {
    kind.name: kind for kind in (Penalty, Death, Lagrangian, FeasibleFirst)
}
"""Ways to handle constraints, by name; the first is the default."""


DEFAULT = Penalty()


def make_handling(handling: str | Handling, **options: Any) -> Handling:
    """Returns a way to handle constraints, ``make_handling("lagrangian", step=2.0)``.

    Raises:
        UserError: an unknown name or option, or a value out of its range.
    """
    if isinstance(handling, Handling):
        if options:
            raise UserError(f"Options of {handling.name} are given where it is made.")
        return handling
    if handling not in HANDLINGS:
        raise unknown_name("handling of constraints", handling, HANDLINGS)
    known = asdict(HANDLINGS[handling]())
    for option, value in options.items():
        if option not in known:
            raise unknown_name(f"option of {handling}:", option, known)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"The option {option!r} of {handling} must be a number.")
    return HANDLINGS[handling](**{name: float(v) for name, v in options.items()})
