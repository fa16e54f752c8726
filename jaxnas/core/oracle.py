"""Oracles: the protocol, and the capabilities that an oracle may have as well."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.space import SearchSpace
from jaxnas.core.types import (
    Evaluation,
    Measurement,
    Objective,
)


@runtime_checkable
class Oracle(Protocol):
    """Scores architectures. A frozen, hashable configuration that holds no arrays.

    What all controllers share is ``params`` (traced: changing the task does not recompile);
    what belongs to one controller is ``state``.
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
        """Returns the new state and what was measured; inactive lanes are SKIPPED."""
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
