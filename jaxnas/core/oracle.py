"""Oracles: the protocol, and the capabilities that an oracle may have as well."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Measurement, Objective

Kind = TypeVar("Kind")


@runtime_checkable
class Oracle(Protocol):
    """Scores architectures. A frozen, hashable configuration that holds no arrays.

    What all controllers share is ``params`` (traced: changing the task does not recompile);
    what belongs to one controller is ``state``, whose shapes and dtypes ``evaluate`` keeps.
    ``id``, ``objectives`` and ``traced`` are identity: nobody sets them by name. What
    ``--objective`` sets is the option ``objective`` of the constructor; it may be absent.

    ``search`` checks this once, before anything runs; of a host oracle it checks the first
    answer.
    """

    @property
    def id(self) -> str:
        """Versioned name; bump it when the numbers change."""
        ...

    @property
    def space(self) -> SearchSpace:
        """The space that it scores."""
        ...

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What it measures, in order."""
        ...

    @property
    def traced(self) -> bool:
        """Whether ``evaluate`` may live inside jit; else it takes and returns numpy."""
        ...

    def params(self) -> PyTree:
        """Returns what all controllers share: tables, trees, the task."""
        ...

    def init(self, key: Key[Array, ""], params: PyTree) -> PyTree:
        """Returns the state of one controller."""
        ...

    def evaluate(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: PyTree,
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[PyTree, Evaluation]:
        """Returns the new state and what was measured; inactive lanes are SKIPPED.

        ``objectives`` is ``float32[B, M]``, also where ``M`` is 1; ``violation``, ``cost``
        and ``reward`` are ``float32[B]``, ``status`` is ``int32[B]``, ``reward`` NaN.
        """
        ...


@runtime_checkable
class Measuring(Protocol):
    """A host oracle whose evaluations are expensive, so that each is stored for good.

    A measurement is a function of (oracle id, architecture, fidelity, seed, data checksum)
    and may be made in another process: the oracle is pickled there.
    """

    @property
    def seed(self) -> int:
        """Decides initial weights, order of the data and noise."""
        ...

    @property
    def data_checksum(self) -> str:
        """SHA-256 of the data and of their splits."""
        ...

    def measure(self, tokens: np.ndarray, fidelity: int) -> Measurement:
        """Returns every metric of ``int[L]`` tokens; a failure is a status, no error."""
        ...


@runtime_checkable
class Truthful(Protocol):
    """An oracle whose readings are noisy and whose true values are known."""

    def truth(self, params: PyTree, tokens: Int[Array, "B L"]) -> Float[Array, "B M"]:
        """Returns the objectives without measurement noise."""
        ...


@runtime_checkable
class Uncertain(Protocol):
    """An oracle that knows how far one measurement lies from the truth."""

    def truth(self, params: PyTree, tokens: Int[Array, "B L"]) -> Float[Array, "B M"]:
        """Returns the objectives without measurement noise."""
        ...

    def spread(self, params: PyTree, tokens: Int[Array, "B L"]) -> Float[Array, "B M"]:
        """Returns the standard deviation of one measurement, 0 where it is not known."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """An oracle that scores by a fitted model of numeric features.

    Its readings are predictions, so ``truth`` may differ from them; a row's numbers must
    not depend on what else is in the batch, up to rounding.
    """

    def features(self, tokens: Int[Array, "B L"]) -> Float[Array, "B F"]:
        """Returns what the model sees; every decision that is not redundant shows."""
        ...

    def predict(self, params: PyTree, tokens: Int[Array, "B L"]) -> Any:
        """Returns mean, epistemic and aleatoric spread, and the extrapolation flag."""
        ...


@runtime_checkable
class Repeating(Protocol):
    """An oracle that says what asking again does: ``"stored"`` or ``"resample"``."""

    @property
    def repeats(self) -> str:
        """``"resample"`` where each evaluation is a new reading and costs a query."""
        ...


@runtime_checkable
class Enumerated(Protocol):
    """An oracle that holds every architecture's metrics, so that regret is exact."""

    def columns(self) -> dict[str, np.ndarray]:
        """Returns every metric, ``[n]`` in the order of ``enumerate_space``; host side."""
        ...


@runtime_checkable
class Described(Protocol):
    """Something that can say where its numbers come from."""

    def info(self) -> dict[str, Any]:
        """Returns facts by name: size, source, licence, checksum, ...; host side."""
        ...


@runtime_checkable
class Spreading(Protocol):
    """An oracle that records the uncertainty of each of its metrics."""

    def spreads(self) -> dict[str, np.ndarray]:
        """Returns the standard deviation of one measurement of every metric, ``[n]``."""
        ...


@runtime_checkable
class Selectable(Protocol):
    """An oracle that can measure more than its objectives."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Everything that it can measure."""
        ...

    def select(self, objective: str | Sequence[str]) -> Oracle:
        """Returns the same oracle with other objectives."""
        ...


@runtime_checkable
class MultiFidelity(Protocol):
    """A host oracle that can give an architecture less than a full evaluation.

    Fidelity 0 is the full one; 1, 2, ... are cheaper, the cheapest first.
    """

    @property
    def num_fidelities(self) -> int:
        """How many there are, the full one included; 1 where none is cheaper."""
        ...

    def effort(self, tokens: np.ndarray, fidelity: int) -> float:
        """Returns what an evaluation costs as a share of a full one; 1 at fidelity 0."""
        ...


@runtime_checkable
class Scalable(Protocol):
    """An oracle that makes cheaper fidelities by itself."""

    def cheaper(self, resource: str, eta: float, least: int) -> dict[str, Any]:
        """Returns options of its constructor that give it cheaper fidelities.

        Each has ``eta`` times less of a resource than the next one, and the cheapest has
        ``least`` or more.

        Raises:
            UserError: an unknown resource, or less than two fidelities.
        """
        ...


CAPABILITIES: tuple[type, ...] = (
    Measuring, Truthful, Uncertain, Predictor, Repeating, Enumerated, Described, Spreading,
    Selectable, MultiFidelity, Scalable,
)  # fmt: skip
"""What an oracle may be able to do beyond scoring."""


@runtime_checkable
class Composed(Protocol):
    """An oracle made of others, whose methods alone do not say what it can do."""

    def capability(self, kind: type) -> Any:
        """Returns what has a capability, itself or one that it is made of, or None."""
        ...


def capability(oracle: Oracle, kind: type[Kind]) -> Kind | None:
    """Returns the object with a capability, found through wrappers, or None.

    Its methods take the ``params`` of ``oracle``. Ask this instead of ``isinstance``, for
    one of ``CAPABILITIES`` or any protocol that is checkable at run time.
    """
    if isinstance(oracle, Composed):
        return oracle.capability(kind)
    return oracle if isinstance(oracle, kind) else None


def required(oracle: Oracle, kind: type[Kind]) -> Kind:
    """Returns what :func:`capability` does.

    Raises:
        UserError: the oracle does not have it.
    """
    found = capability(oracle, kind)
    if found is None:
        lacking = ", ".join(name for name in vars(kind) if name[0] != "_")
        raise UserError(
            f"The oracle {oracle.id!r} is not {kind.__name__}: it has no {lacking}; use "
            "another."
        )
    return found


@dataclasses.dataclass(frozen=True)
class OracleWrapper:
    """An oracle around another: what a subclass does not define is that of the inner one.

    It has exactly the capabilities of what it wraps, so a subclass may define a
    capability's methods for any oracle: they count where the inner one has them too. A
    subclass whose ``params`` are not the inner one's defines every method that takes them.
    """

    oracle: Oracle

    adds: ClassVar[tuple[type, ...]] = ()
    """Capabilities that it has whatever it wraps."""
    hides: ClassVar[tuple[type, ...]] = ()
    """Capabilities that it takes away."""

    def capability(self, kind: type) -> Any:
        """Returns itself, the inner object with a capability, or None."""
        if kind in self.hides:
            return None
        found = capability(self.oracle, kind)
        has = kind in self.adds or found is not None
        return self if has and isinstance(self, kind) else found

    @property
    def id(self) -> str:
        """The inner oracle's id."""
        return self.oracle.id

    @property
    def space(self) -> SearchSpace:
        """The inner oracle's space."""
        return self.oracle.space

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The inner oracle's objectives."""
        return self.oracle.objectives

    @property
    def traced(self) -> bool:
        """As the inner oracle."""
        return self.oracle.traced

    def params(self) -> PyTree:
        """Returns the inner oracle's shared arrays."""
        return self.oracle.params()

    def init(self, key: Key[Array, ""], params: PyTree) -> PyTree:
        """Returns the inner oracle's state."""
        return self.oracle.init(key, params)

    def evaluate(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: PyTree,
        tokens: Any,
        fidelity: Any,
        active: Any,
    ) -> tuple[PyTree, Evaluation]:
        """Returns what the inner oracle does."""
        return self.oracle.evaluate(key, params, state, tokens, fidelity, active)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Everything that the inner oracle can measure."""
        return required(self.oracle, Selectable).metric_names

    def select(self, objective: str | Sequence[str]) -> "Oracle":
        """Returns the same wrapper around the inner oracle with other objectives."""
        inner = required(self.oracle, Selectable).select(objective)
        return dataclasses.replace(self, oracle=inner)
