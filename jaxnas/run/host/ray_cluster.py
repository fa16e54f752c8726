"""Evaluations on a Ray cluster, with the interface of the worker processes."""

import collections
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxnas.core.errors import UserError
from jaxnas.run.devices import worker_environment
from jaxnas.run.host.executor import RETRIES, Failure, Outcome, Request
from jaxnas.run.host.processes import check_limits


class RayExecutor:
    """Evaluates as Ray tasks of one CPU each, on this machine or on a cluster.

    A task whose worker or node dies is submitted again, ``retries`` times; every request
    has exactly one outcome. jaxnas must be installed on every node.

    Args:
        address: of the cluster, such as ``"auto"``; what ``RAY_ADDRESS`` names, else a
            cluster of its own on this machine when None.
        workers: tasks in flight at a time; the cluster's CPUs when None.
        retries: how often a request is tried again after its worker died.
        timeout_s: seconds from submission after which a request is a failure; None for
            no limit.

    Raises:
        UserError: Ray is not installed, the cluster is not there, or a number is out of
            range.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        retries: int = RETRIES,
        timeout_s: float | None = None,
    ) -> None:
        check_limits(1 if workers is None else workers, retries, timeout_s)
        self.retries, self.timeout_s = retries, timeout_s
        self._ray = _import_ray()
        self._own = not self._ray.is_initialized()
        if self._own:
            _connect(self._ray, address, workers)
        cpus = int(self._ray.cluster_resources().get("CPU", 1))
        self.workers = cpus if workers is None else workers
        self._task = self._ray.remote(
            num_cpus=1, max_retries=0, runtime_env={"env_vars": worker_environment()}
        )(_call)

    def __str__(self) -> str:
        return f"ray, {self.workers} workers"

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the cluster, unless the program was connected before."""
        if self._own:
            self._ray.shutdown()

    def map(
        self, function: Callable[[Request], Outcome], requests: Iterable[Request]
    ) -> Iterator[tuple[int, Outcome]]:
        """Yields index and outcome of every request, in the order in which they arrive.

        Raises:
            RuntimeError: the function has a defect; the text is the worker's traceback.
        """
        ray, todo = self._ray, list(requests)
        shared = ray.put(function)
        waiting = collections.deque(range(len(todo)))
        tries = [0] * len(todo)
        running: dict[Any, tuple[int, float]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    place = waiting.popleft()
                    tries[place] += 1
                    task = self._task.remote(shared, todo[place])
                    running[task] = place, time.monotonic()
                for task in self._arrived(running):
                    place, _ = running.pop(task)
                    outcome = self._outcome(task, tries[place])
                    if outcome is None:
                        waiting.append(place)
                    else:
                        yield place, outcome
                for task in self._late(running):
                    place, _ = running.pop(task)
                    ray.cancel(task, force=True)
                    text = f"TimeoutError: no answer within {self.timeout_s:g} s"
                    yield place, Failure(text)
        finally:
            for task in running:
                ray.cancel(task, force=True)

    def _arrived(self, running: dict[Any, tuple[int, float]]) -> list[Any]:
        """Waits for news, at most until the next deadline, and returns finished tasks."""
        patience = None
        if self.timeout_s is not None:
            oldest = min(begun for _, begun in running.values())
            patience = max(0.0, oldest + self.timeout_s - time.monotonic())
        done, _ = self._ray.wait(list(running), num_returns=1, timeout=patience)
        return done

    def _late(self, running: dict[Any, tuple[int, float]]) -> list[Any]:
        if self.timeout_s is None:
            return []
        now, limit = time.monotonic(), self.timeout_s
        return [task for task, (_, begun) in running.items() if now - begun >= limit]

    def _outcome(self, task: Any, tries: int) -> Outcome | None:
        """Returns what a finished task brought; None where it must be tried again."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)
        except errors.RayTaskError as error:
            raise RuntimeError(f"An evaluation raised in a Ray worker:\n{error}") from error
        except errors.RayError as error:
            if tries <= self.retries:
                return None
            cause = f"{type(error).__name__}, {str(error).splitlines()[0]}"
            return Failure(
                f"WorkerDied: the Ray worker ended ({cause}) in each of {tries} tries"
            )


def _call(function: Callable[[Request], Outcome], request: Request) -> Outcome:
    return function(request)


def _import_ray() -> Any:
    """Returns the module.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(
            'Ray is not installed; install it with pip install "jaxnas[ray]", or use the '
            "executor processes."
        ) from error
    return ray


def _connect(ray: Any, address: str | None, workers: int | None) -> None:
    """Joins a cluster, or starts one on this machine."""
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"No Ray cluster answers at {address!r} ({str(error).splitlines()[0]}); start "
            "one with ray start --head, or leave the address out."
        ) from error
