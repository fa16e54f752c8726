"""Asking a host oracle: memory first, then the store, then the executor; nothing twice."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from jaxnas.core import tokens as tk
from jaxnas.core.constraints import Limiting
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Measuring, Oracle, capability
from jaxnas.core.types import FAILED, OK, Evaluation, Measurement
from jaxnas.data.store.evaluations import Key, Store
from jaxnas.run.host import measurements as ms
from jaxnas.run.host.executor import (
    Answer,
    Evaluate,
    Executor,
    Failure,
    Measure,
    Outcome,
    Request,
    Serial,
)
from jaxnas.run.host.persistent import StoreAccess

Warn = Callable[[str], None]
"""Told one sentence about something that went wrong without ending the run."""


class HostCache:
    """Every answer of a run by what it depends on; saved with checkpoints.

    A :class:`~jaxnas.core.oracle.Measuring` oracle, also one inside another, is asked
    through ``measure`` and its measurements are stored in ``store`` one by one as they
    arrive; any other through ``evaluate``. What an executor could not get (a raised error,
    a dead worker, a timeout) is a failure of this run only and is not stored.

    Args:
        oracle: a host oracle, which takes and returns numpy arrays.
        executor: where the evaluations run.
        store: where measurements are stored.
        warn: told once where something is not stored.
    """

    def __init__(
        self,
        oracle: Oracle,
        executor: Executor | None = None,
        store: Store | None = None,
        warn: Warn | None = None,
    ) -> None:
        self.oracle = oracle
        self.executor = executor or Serial()
        self.kept = StoreAccess(store, warn or (lambda text: None))
        self.failures: list[str] = []
        self._parts = ms.measuring_parts(oracle)
        limiting = capability(oracle, Limiting)
        self._limits = 0 if limiting is None else len(limiting.bounds)
        self._answers: dict[str, tuple[Request, Answer]] = {}
        self._found: set[str] = set()

    def _key(self, tokens: np.ndarray, fidelity: int) -> str:
        digest = tk.digest_host(self.oracle.space, tokens)
        parts = "".join(f":{p.oracle}:{p.seed}:{p.checksum}" for p in self._parts)
        return f"{self.oracle.id}:{digest}:{fidelity}{parts}"

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
        ask = self._measure if self._parts else self._evaluate
        ask(list(new.values()))
        empty = Answer(ms.missing(self.oracle), 0.0, 0.0, OK)
        answers = [self._answers[key][1] if key else empty for key in keys]
        return ms.stacked(answers, self._limits)

    def _evaluate(self, requests: list[Request]) -> None:
        for i, got in self.executor.map(Evaluate(self.oracle), requests):
            self._note(got)
            self._answers[requests[i].key] = (requests[i], ms.pick(self.oracle, got))

    def _measure(self, requests: list[Request]) -> None:
        """Answers requests through ``measure`` of each part: store, then executor."""
        readings: ms.Readings = {}
        made: set[str] = set()
        for part, leaf in self._parts.items():
            absent = []
            for request in requests:
                known = self.kept.get(self._store_key(part, request))
                if known is None:
                    absent.append(request)
                    continue
                self._note(known)
                readings[ms.place(part, request.tokens, request.fidelity)] = known
            for i, got in self.executor.map(Measure(leaf), absent):
                request = absent[i]
                made.add(request.key)
                if isinstance(got, Measurement):
                    self.kept.put(self._store_key(part, request), request.tokens, got)
                self._note(got)
                where = ms.place(part, request.tokens, request.fidelity)
                readings[where] = cast(Measurement | Failure, got)
        whole = None
        if not isinstance(self.oracle, Measuring):
            whole = Evaluate(ms.recalling(self.oracle, readings))
        for request in requests:
            self._answers[request.key] = (request, self._answer(request, readings, whole))
            if request.key not in made:
                self._found.add(request.key)

    def _answer(self, request: Request, readings: ms.Readings, whole: Any) -> Answer:
        if whole is None:
            (part,) = self._parts
            where = ms.place(part, request.tokens, request.fidelity)
            return ms.pick(self.oracle, readings[where])
        got = whole(request)
        if isinstance(got, Failure):
            self._note(got)
        return ms.pick(self.oracle, got)

    def _note(self, outcome: Outcome) -> None:
        """Remembers the message of a failure; one against the contract ends the run."""
        if isinstance(outcome, Answer):
            return
        if isinstance(outcome, Failure) and outcome.broken:
            raise UserError(outcome.message)
        if isinstance(outcome, Failure) or outcome.status != OK:
            self.failures.append(outcome.message or "failed without a message")

    def _store_key(self, part: ms.Part, request: Request) -> Key:
        digest = tk.digest_host(self.oracle.space, request.tokens)
        return Key(part.oracle, digest, request.fidelity, part.seed, part.checksum)

    def summary(self) -> dict[str, Any]:
        """Returns where the run's evaluations came from, as JSON-able data.

        ``evaluations`` are distinct ones of the run, ``found`` of them in the store and
        ``made`` by the executor; ``not_kept`` could not be written, ``conflicts`` differ
        from what the store holds.
        """
        self.kept.flush()
        failed = sum(answer.status == FAILED for _, answer in self._answers.values())
        return {
            "executor": str(self.executor),
            "evaluations": len(self._answers),
            "found": len(self._found),
            "made": len(self._answers) - len(self._found),
            "failed": failed,
            "failures": sorted(set(self.failures))[:10],
            **self.kept.summary(),
        }

    @property
    def measures(self) -> bool:
        """Whether what an evaluation costs is a time that was measured."""
        return bool(self._parts)

    def answers(self) -> list[tuple[Request, Answer]]:
        """Returns every distinct evaluation of the run, in the order of asking."""
        return list(self._answers.values())

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
            **self._limited([a for _, a in pairs]),
            "found": np.asarray([r.key in self._found for r, _ in pairs], bool),
        }

    def _limited(self, answers: list[Answer]) -> dict[str, np.ndarray]:
        return {"limited": ms.limited_of(answers, self._limits)} if self._limits else {}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes answers back from a checkpoint."""
        found = arrays.get("found", np.zeros(len(arrays["status"]), bool))
        for i in range(len(arrays["status"])):
            row, fidelity = arrays["tokens"][i], int(arrays["fidelity"][i])
            request = Request(self._key(row, fidelity), row, fidelity)
            violation, cost = float(arrays["violation"][i]), float(arrays["cost"][i])
            status = int(arrays["status"][i])
            limited = arrays["limited"][i] if "limited" in arrays else None
            answer = Answer(arrays["objectives"][i], violation, cost, status, limited)
            self._answers[request.key] = (request, answer)
            if found[i]:
                self._found.add(request.key)
