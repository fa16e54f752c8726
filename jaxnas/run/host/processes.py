"""Evaluations in worker processes of this machine, any of which may die."""

import collections
import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection as pipes
from multiprocessing.reduction import ForkingPickler
from typing import Any

from jaxnas.core.errors import JaxnasError, UserError
from jaxnas.run.devices import worker_environment
from jaxnas.run.host.executor import RETRIES, Failure, Outcome, Request

STARTS = 3
"""Workers that may die in a row before one is ready."""
CLOSE_S = 5.0
"""Time that a worker has to end before it is killed."""


class Processes:
    """Evaluates in ``workers`` spawned processes, each with one CPU device of its own.

    They start with the first request, are sent the oracle once, and stay until
    :meth:`close`. A request whose worker dies (killed, out of memory, segmentation fault)
    goes to another one; no outcome that had arrived is touched, and every request has
    exactly one outcome. Ctrl-C, or leaving :meth:`map` early, ends the workers.

    Args:
        workers: how many, at least 1.
        retries: how often a request is tried again after its worker died.
        timeout_s: seconds after which a request is a failure and its worker is killed;
            None for no limit.

    Raises:
        UserError: a number out of range.
    """

    def __init__(
        self, workers: int, *, retries: int = RETRIES, timeout_s: float | None = None
    ) -> None:
        check_limits(workers, retries, timeout_s)
        self.workers, self.retries, self.timeout_s = workers, retries, timeout_s
        self._team: list[_Worker] = []
        self._payload = b""
        self._bad_starts = 0

    def __str__(self) -> str:
        return f"{self.workers} processes"

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers; a later :meth:`map` starts new ones."""
        for worker in self._team:
            worker.end()
        self._team = []

    def map(
        self, function: Callable[[Request], Outcome], requests: Iterable[Request]
    ) -> Iterator[tuple[int, Outcome]]:
        """Yields index and outcome of every request, in the order in which they arrive.

        Raises:
            UserError: the oracle cannot be sent to another process.
            JaxnasError: workers die before they are ready.
            RuntimeError: the function has a defect; the text is the worker's traceback.
        """
        todo = list(requests)
        self._equip(function)
        waiting = collections.deque(range(len(todo)))
        tries = [0] * len(todo)
        left = len(todo)
        try:
            while left:
                self._hand_out(todo, waiting)
                for place, outcome in self._collect():
                    tries[place] += 1
                    if isinstance(outcome, _Death):
                        if tries[place] <= self.retries:
                            waiting.append(place)
                            continue
                        outcome = outcome.failure(tries[place])
                    left -= 1
                    yield place, outcome
        finally:
            if left:
                self.close()

    def _equip(self, function: Callable[[Request], Outcome]) -> None:
        """Makes ``function`` what the workers do; those that do something else end."""
        try:
            payload = bytes(ForkingPickler.dumps(function))
        except Exception as error:  # pickling fails with whatever the object raises
            raise UserError(
                "The oracle cannot be pickled, so it cannot be sent to another process; "
                "define it at the top of a module, or use the serial executor."
            ) from error
        if payload != self._payload:
            self.close()
        self._payload = payload

    def _hand_out(self, todo: list[Request], waiting: "collections.deque[int]") -> None:
        for worker in self._team:
            if worker.ready and worker.place is None and waiting:
                worker.give(waiting.popleft(), todo, self.timeout_s)
        starting = sum(not worker.ready for worker in self._team)
        missing = min(self.workers - len(self._team), len(waiting) - starting)
        self._team += [_Worker(self._payload) for _ in range(missing)]

    def _collect(self) -> "list[tuple[int, Outcome | _Death]]":
        deadlines = [w.deadline for w in self._team if w.deadline is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        handles = [h for w in self._team for h in (w.pipe, w.process.sentinel)]
        ready = set(pipes.wait(handles, patience))
        found: list[tuple[int, Outcome | _Death]] = []
        for worker in list(self._team):
            alive = True
            if worker.pipe in ready or worker.process.sentinel in ready:
                alive = self._read(worker, found)
            elif worker.place is not None and worker.late():
                alive = False
                text = f"TimeoutError: no answer within {self.timeout_s:g} s"
                found.append((worker.place, Failure(text)))
            if not alive:
                self._team.remove(worker)
                worker.end()
        return found

    def _read(self, worker: "_Worker", found: "list[tuple[int, Outcome | _Death]]") -> bool:
        """Takes a worker's message; returns whether it lives."""
        place, message = worker.place, worker.take()
        if message is None:
            cause = worker.cause_of_death()
            if place is not None:
                found.append((place, _Death(cause)))
            elif not worker.ready:
                self._count_bad_start(cause)
            return False
        kind, content = message
        if kind == "unreadable":
            raise UserError(
                f"The oracle cannot be read in a worker process ({content}); define it in "
                "a module that can be imported, or use the serial executor."
            )
        if kind == "defect":
            raise RuntimeError(f"An evaluation raised in a worker process:\n{content}")
        if kind == "ready":
            self._bad_starts = 0
        elif place is not None:
            found.append((place, content))
        return True

    def _count_bad_start(self, cause: str) -> None:
        self._bad_starts += 1
        if self._bad_starts >= STARTS:
            self._bad_starts = 0
            raise JaxnasError(
                f"{STARTS} worker processes in a row ended before they were ready (the "
                f"last by {cause}); in a script, call the search under if __name__ == "
                '"__main__":, and see that there is memory for the workers.'
            )


class _Death:
    """What a worker died of."""

    def __init__(self, cause: str) -> None:
        self.cause = cause

    def failure(self, tries: int) -> Failure:
        """Returns the failure of a request that has killed all its workers."""
        return Failure(
            f"WorkerDied: the worker process ended by {self.cause} in each of {tries} tries"
        )


class _Worker:
    """One process and this end of its pipe."""

    def __init__(self, payload: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=serve, args=(there,), daemon=True)
        with _environment(worker_environment()):
            self.process.start()
        there.close()
        self.ready = False
        self.place: int | None = None
        self.deadline: float | None = None
        with contextlib.suppress(OSError):  # a worker that is already dead is seen later
            self.pipe.send_bytes(payload)

    def give(self, place: int, todo: list[Request], timeout_s: float | None) -> None:
        """Sends one request; the clock starts."""
        self.place = place
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            self.pipe.send(todo[place])

    def take(self) -> tuple[str, Any] | None:
        """Returns the next message, or None where the process has died."""
        try:
            message = self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):
            return None
        if message is not None:
            self.ready, self.place, self.deadline = True, None, None
        return message

    def late(self) -> bool:
        """Returns whether the request's time is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def cause_of_death(self) -> str:
        """Returns the signal or the exit code."""
        self.process.join(CLOSE_S)
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name} (often: out of memory)" if name == "SIGKILL" else name

    def end(self) -> None:
        """Ends the process, whatever it is doing."""
        self.pipe.close()
        self.process.terminate()
        self.process.join(CLOSE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def serve(pipe: Any) -> None:
    """Answers requests until the pipe is closed; what a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function = pipe.recv()
    except EOFError:
        return
    except Exception as error:  # whatever unpickling raises is told to the parent
        pipe.send(("unreadable", f"{type(error).__name__}: {error}"))
        return
    pipe.send(("ready", None))
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            message = ("outcome", function(request))
        except Exception:  # a defect: the parent raises it
            message = ("defect", traceback.format_exc())
        pipe.send(message)


def _end_with_parent() -> None:
    """Ends this process when its parent has died, also in the middle of a request."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def check_limits(workers: int, retries: int, timeout_s: float | None) -> None:
    """Raises where an executor's numbers are out of range.

    Raises:
        UserError: with the number.
    """
    if workers < 1:
        raise UserError(f"At least one worker is needed, got {workers}.")
    if retries < 0:
        raise UserError(f"Retries must be at least 0, got {retries}.")
    if timeout_s is not None and not timeout_s > 0:
        raise UserError(f"The timeout must be above 0 seconds, got {timeout_s}.")
