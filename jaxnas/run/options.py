"""Everything that a search may be told, in one frozen record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxnas.core import layout as layouts
from jaxnas.core.constraints import DEFAULT, Handling, make_handling
from jaxnas.core.ranges import COUNT, SEED, check
from jaxnas.data.store.evaluations import Store
from jaxnas.run.halving import Halving
from jaxnas.run.host.executor import Executor
from jaxnas.run.waves import Callback


@dataclass(frozen=True)
class RunOptions:
    """What a search is asked to do, beside its algorithm and its oracle.

    Args:
        budget: distinct queries of each controller, at least 1.
        seeds: controllers of each setting, at least 1.
        seed0: seed of the whole run, in [0, 2^32).
        hparams: None for the preset, or names to numbers or ``[G]`` sequences.
        out: run directory. The same call again resumes it, or returns what is there.
        max_proposals: proposals after which a controller stops even if it keeps repeating
            itself; 8 x budget when None.
        weights: of the objectives in the reward, one each; all 1 when None.
        scalarise: how several objectives become the reward: ``"weighted-sum"`` or
            ``"chebyshev"``; see :mod:`jaxnas.core.scalarise`.
        ideal: of ``"chebyshev"``, the best value of each objective in its own unit; when
            None that of the oracle's table, or of the unit (100 %).
        scale: of ``"chebyshev"``, the unit of distance in each; when None the width of the
            same range.
        handling: what breaking constraints does to the reward: ``"penalty"``, ``"death"``,
            ``"lagrangian"``, ``"feasible-first"``, or one that was made with options; see
            :mod:`jaxnas.core.constraints`.
        chunk: updates between two rows and callbacks; a twentieth of all when None.
        layout: ``"wide"``, ``"blocked"``, or ``"auto"`` by the devices; see
            :mod:`jaxnas.core.layout`.
        width: controllers that a device advances together; when None the measured default
            of a blocked layout, and as many as fit of a wide one.
        archive: best distinct architectures kept.
        executor: where a host oracle's evaluations run; this process when None. Who made
            it closes it.
        store: where the evaluations of a measuring oracle are stored, so that none is made
            twice whichever run asked: an open store, or its file.
        halving: evaluations of a host oracle with fidelities are cut short by brackets;
            all are full when None.
        devices: devices to spread over; all when None.
        init: directory of a finished run whose policies the controllers start from, of the
            same method, space and controller. The controllers of seed number ``s``, in
            every setting, take the policy ranked ``s`` (best first), and again from the
            first where there are fewer.
        callbacks: called with progress events between two compiled calls.
        resume: ``"never"`` deletes what ``out`` holds first.
        answers: directory of a finished run of the same host oracle, whose evaluations are
            taken over and not made again.
        grid: the axes of a sweep, for the record.
        grid_cells: the setting of every cell of ``grid``, for the record.
        label: name in tables; the algorithm's when None.

    Raises:
        UserError: a number out of its range, or an unknown layout.
    """

    budget: int
    seeds: int = 1
    seed0: int = 0
    hparams: Any = None
    out: str | Path | None = None
    max_proposals: int | None = None
    weights: tuple[float, ...] | None = None
    scalarise: str = "weighted-sum"
    ideal: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    handling: str | Handling = DEFAULT.name
    chunk: int | None = None
    layout: str = "auto"
    width: int | None = None
    archive: int = 256
    executor: Executor | None = None
    store: Store | str | Path | None = None
    halving: Halving | None = None
    devices: Sequence[Any] | None = None
    init: str | Path | None = None
    callbacks: Sequence[Callback] = ()
    resume: Literal["auto", "never"] = "auto"
    answers: str | Path | None = None
    grid: Mapping[str, Sequence[float]] | None = None
    grid_cells: Sequence[int] = ()
    label: str | None = None

    def __post_init__(self) -> None:
        layouts.check(self.layout)
        object.__setattr__(self, "handling", make_handling(self.handling))
        check("seed0", self.seed0, SEED)
        for name in ("budget", "seeds", "max_proposals", "chunk", "width", "archive"):
            if getattr(self, name) is not None:
                check(name, getattr(self, name), COUNT)

    @property
    def store_path(self) -> str | None:
        """The file of the store as text, for the record."""
        path = self.store.path if isinstance(self.store, Store) else self.store
        return None if path is None else str(path)
