"""Evaluating on the host: what is sent out, what comes back, and in which process."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import PyTree

from jaxnas.core.errors import ContractError, UserError
from jaxnas.core.oracle import Measuring, Oracle
from jaxnas.core.rng import root_key
from jaxnas.core.types import Measurement
from jaxnas.run.contracts import check_evaluation

RETRIES = 2
"""How often a request is tried again after its worker died."""


class Request(NamedTuple):
    """One evaluation as plain data; ``key`` makes a retry recognisable."""

    key: str
    tokens: np.ndarray
    fidelity: int


class Answer(NamedTuple):
    """What an oracle's ``evaluate`` said about one request."""

    objectives: np.ndarray
    violation: float
    cost: float
    status: int
    limited: np.ndarray | None = None
    """Value of each limited metric; None where there is none, or where it failed."""


class Failure(NamedTuple):
    """A request without an answer: it raised, took too long, or its workers died."""

    message: str
    broken: bool = False
    """Whether the oracle broke its contract, which ends the run."""


Outcome = Answer | Measurement | Failure
"""What comes back for one request."""


@runtime_checkable
class Executor(Protocol):
    """Runs a function over requests, in any order, each to exactly one outcome."""

    def map(
        self, function: Callable[[Request], Outcome], requests: Iterable[Request]
    ) -> Iterator[tuple[int, Outcome]]:
        """Yields the index and the outcome of every request, as soon as it is there."""
        ...


class Serial:
    """Evaluates one request after the other in this process."""

    def map(
        self, function: Callable[[Request], Outcome], requests: Iterable[Request]
    ) -> Iterator[tuple[int, Outcome]]:
        """Yields the outcomes in order."""
        for i, request in enumerate(requests):
            yield i, function(request)

    def close(self) -> None:
        """Does nothing: there are no workers."""

    def __str__(self) -> str:
        return "serial"


FAILURES = (ArithmeticError, RuntimeError, ValueError, OSError, MemoryError)
"""What an oracle may raise without ending the run; anything else is a defect."""


@dataclass(frozen=True)
class Evaluate:
    """Asks an oracle's ``evaluate`` for one architecture; sent to each worker once."""

    oracle: Oracle

    def __call__(self, request: Request) -> Outcome:
        """Returns the answer; an exception is a failed evaluation, not a lost run."""
        try:
            params, state = _started(self.oracle)
            tokens: Any = request.tokens[None].astype(np.int32)
            level: Any = np.asarray([request.fidelity], np.int32)
            on: Any = np.ones(1, bool)
            _, found = self.oracle.evaluate(root_key(0), params, state, tokens, level, on)
        except ContractError as error:
            return Failure(str(error), broken=True)
        except FAILURES as error:
            return Failure(f"{type(error).__name__}: {error}")
        try:
            check_evaluation(self.oracle, found, 1)
        except UserError as error:
            return Failure(str(error), broken=True)
        return Answer(
            np.asarray(found.objectives[0], np.float32),
            float(found.violation[0]),
            float(found.cost[0]),
            int(found.status[0]),
            None if found.limited is None else np.asarray(found.limited[0], np.float32),
        )


@dataclass(frozen=True)
class Measure:
    """Asks an oracle's ``measure`` for one architecture; sent to each worker once."""

    oracle: Measuring

    def __call__(self, request: Request) -> Outcome:
        """Returns the measurement; an exception is a failed evaluation."""
        try:
            return self.oracle.measure(request.tokens.astype(np.int32), request.fidelity)
        except FAILURES as error:
            return Failure(f"{type(error).__name__}: {error}")


@functools.lru_cache(maxsize=4)
def _started(oracle: Oracle) -> tuple[PyTree, PyTree]:
    params = oracle.params()
    return params, oracle.init(root_key(0), params)
