"""Evaluating on the host: requests go out, answers come back, nothing is asked twice."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import numpy as np

from jaxnas.core import tokens as tk
from jaxnas.core.protocols import Oracle
from jaxnas.core.types import FAILED, OK, Evaluation


class Request(NamedTuple):
    """One evaluation as plain data; ``key`` makes a retry recognisable."""

    key: str
    tokens: np.ndarray
    fidelity: int


class Answer(NamedTuple):
    """What came back for one request; ``status`` is FAILED where it raised."""

    objectives: np.ndarray
    violation: float
    cost: float
    status: int


@runtime_checkable
class Executor(Protocol):
    """Runs a function over requests, in any order."""

    def map(
        self, function: Any, requests: Iterable[Request]
    ) -> Iterator[tuple[int, Answer]]:
        """Yields the index and the answer of every request."""
        ...


class Serial:
    """Evaluates one request after the other in this process."""

    def map(
        self, function: Any, requests: Iterable[Request]
    ) -> Iterator[tuple[int, Answer]]:
        """Yields the answers in order."""
        for i, request in enumerate(requests):
            yield i, function(request)


class HostCache:
    """Every answer of a run by (oracle, architecture, fidelity); saved with checkpoints.

    Args:
        oracle: a host oracle, which takes and returns numpy arrays.
        executor: where the evaluations run.
    """

    def __init__(self, oracle: Oracle, executor: Executor | None = None) -> None:
        self.oracle = oracle
        self.executor = executor or Serial()
        self.failures: list[str] = []
        self._params = oracle.params()
        self._answers: dict[str, tuple[Request, Answer]] = {}

    def _key(self, tokens: np.ndarray, fidelity: int) -> str:
        digest = tk.digest_host(self.oracle.space, tokens)
        return f"{self.oracle.id}:{digest}:{fidelity}"

    def _ask(self, request: Request) -> Answer:
        """Evaluates one request; an exception is a failed evaluation, not a lost run."""
        missing = np.full(len(self.oracle.objectives), np.nan, np.float32)
        try:
            _, found = self.oracle.evaluate(
                jax.random.key(0),
                self._params,
                (),
                cast(Any, request.tokens[None].astype(np.int32)),
                cast(Any, np.asarray([request.fidelity], np.int32)),
                cast(Any, np.ones(1, bool)),
            )
        except (ArithmeticError, RuntimeError, ValueError, OSError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            return Answer(missing, 0.0, 0.0, FAILED)
        return Answer(
            np.asarray(found.objectives[0], np.float32),
            float(found.violation[0]),
            float(found.cost[0]),
            int(found.status[0]),
        )

    def evaluate(
        self, tokens: np.ndarray, fidelity: np.ndarray, scored: np.ndarray
    ) -> Evaluation:
        """Returns the evaluation of ``[n, L]`` architectures; unscored lanes are empty."""
        keys = [
            self._key(t, int(f)) if on else ""
            for t, f, on in zip(tokens, fidelity, scored, strict=True)
        ]
        new: dict[str, Request] = {}
        for key, row, fid in zip(keys, tokens, fidelity, strict=True):
            if key and key not in self._answers and key not in new:
                new[key] = Request(key, row, int(fid))
        requests = list(new.values())
        for i, answer in self.executor.map(self._ask, requests):
            self._answers[requests[i].key] = (requests[i], answer)
        missing = np.full(len(self.oracle.objectives), np.nan, np.float32)
        empty = Answer(missing, 0.0, 0.0, OK)
        answers = [self._answers[key][1] if key else empty for key in keys]
        return Evaluation(
            objectives=np.stack([a.objectives for a in answers]),  # pyright: ignore[reportArgumentType]
            violation=np.asarray([a.violation for a in answers], np.float32),  # pyright: ignore[reportArgumentType]
            cost=np.asarray([a.cost for a in answers], np.float32),  # pyright: ignore[reportArgumentType]
            status=np.asarray([a.status for a in answers], np.int32),  # pyright: ignore[reportArgumentType]
            reward=np.full(len(answers), np.nan, np.float32),  # pyright: ignore[reportArgumentType]
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns all answers as arrays, for a checkpoint."""
        M, L = len(self.oracle.objectives), self.oracle.space.length
        pairs = list(self._answers.values())
        return {
            "tokens": np.asarray([r.tokens for r, _ in pairs], np.int32).reshape(-1, L),
            "fidelity": np.asarray([r.fidelity for r, _ in pairs], np.int32),
            "objectives": np.asarray([a.objectives for _, a in pairs], np.float32).reshape(
                -1, M
            ),
            "violation": np.asarray([a.violation for _, a in pairs], np.float32),
            "cost": np.asarray([a.cost for _, a in pairs], np.float32),
            "status": np.asarray([a.status for _, a in pairs], np.int32),
        }

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes answers back from a checkpoint."""
        for i in range(len(arrays["status"])):
            row, fidelity = arrays["tokens"][i], int(arrays["fidelity"][i])
            request = Request(self._key(row, fidelity), row, fidelity)
            answer = Answer(
                arrays["objectives"][i],
                float(arrays["violation"][i]),
                float(arrays["cost"][i]),
                int(arrays["status"][i]),
            )
            self._answers[request.key] = (request, answer)
