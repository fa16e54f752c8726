"""Where a search evaluates and what it stores, as asked for on the command line."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from jaxnas.cli.common.progress import Reporter
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Oracle
from jaxnas.run.devices import configure_host, cores

STORE = "evaluations.sqlite"
"""Name of the default store, in the folder where run directories live."""


@dataclass(frozen=True)
class Evaluating:
    """Options about evaluations outside the compiled search."""

    workers: int | None = None
    """Worker processes of an oracle that trains or measures; CPU devices to use with one
    that is compiled into the search, all cores when not given."""
    executor: Literal["serial", "processes", "ray"] | None = None
    """Where an oracle that trains or measures is asked: here, in worker processes, or on
    the Ray cluster that RAY_ADDRESS names. Processes when --workers is above 1."""
    store: Path | None = None
    """File that stores measurements, so that none is made twice; evaluations.sqlite under
    --out when not given."""
    timeout: float | None = None
    """Seconds after which an evaluation in a worker is a failure; no limit if not given."""

    RANGES: ClassVar = {"timeout": "(0, inf)"}

    def configure(self) -> None:
        """Sets up the devices of this process; call it before any JAX computation."""
        apart = self.executor in ("processes", "ray")
        configure_host(None if apart else self.workers)

    @contextlib.contextmanager
    def open(
        self,
        oracle: Oracle,
        out: Path,
        runs: Sequence[Path],
        fresh: bool,
        reporter: Reporter,
    ) -> Iterator[dict[str, Any]]:
        """Yields ``executor`` and ``store`` for a search; both are closed afterwards.

        Nothing is opened where every run is finished and only shown again.

        Raises:
            UserError: an option means nothing for this oracle, or the store is refused.
        """
        self._refuse(oracle)
        done = not fresh and all((run / "results.npz").exists() for run in runs)
        if oracle.traced or done:
            yield {}
            return
        from jaxnas.data.store.evaluations import Store
        from jaxnas.run.host.measurements import measuring_parts

        with contextlib.ExitStack() as held:
            found: dict[str, Any] = {"executor": self._executor()}
            held.callback(found["executor"].close)
            if measuring_parts(oracle):
                store = held.enter_context(Store(self.store or out / STORE))
                found["store"] = store
                reporter.say(f"evaluations: {found['executor']}, stored in {store.path}")
            yield found

    def _refuse(self, oracle: Oracle) -> None:
        """Raises where an option would be ignored."""
        given = {"--executor": self.executor, "--store": self.store}
        given["--timeout"] = self.timeout
        for option, value in given.items():
            if oracle.traced and value is not None:
                raise UserError(
                    f"The oracle {oracle.id!r} is compiled into the search and has no "
                    f"evaluations of its own; leave {option} out."
                )
        kind = self._kind()
        if not oracle.traced and kind == "serial":
            if (self.workers or 1) > 1:
                raise UserError("--executor serial has no workers; leave --workers out.")
            if self.timeout is not None:
                raise UserError(
                    "A timeout needs workers that can be ended; add --executor processes."
                )

    def _kind(self) -> str:
        return self.executor or ("processes" if (self.workers or 1) > 1 else "serial")

    def _executor(self) -> Any:
        """Returns the executor; a missing Ray is refused here."""
        kind = self._kind()
        if kind == "processes":
            from jaxnas.run.host.processes import Processes

            return Processes(self.workers or cores(), timeout_s=self.timeout)
        if kind == "ray":
            from jaxnas.run.host.ray_cluster import RayExecutor

            return RayExecutor(workers=self.workers, timeout_s=self.timeout)
        from jaxnas.run.host.executor import Serial

        return Serial()
