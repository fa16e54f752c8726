"""Runs one wave of controllers from its newest checkpoint to its end, in slices.

The order of writes decides what a crash can cost: first the row, then the checkpoint that
records the rows' length, then the callbacks. A resume truncates the rows to that length, so
whatever happened after the checkpoint happens again, to the same bits.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.types import Objective
from jaxnas.run import distributed, store
from jaxnas.run.checkpoint import Checkpoints
from jaxnas.run.engine import Engine
from jaxnas.run.population import Member

Event = dict[str, Any]
"""What a callback is told: ``{"event": "compiled" | "progress" | "done" | "warning"}``
and more; a warning has a ``text``."""
Callback = Callable[[Event], None]

CHECKPOINT_EVERY_S = 30.0
"""Least time between two checkpoints; a run never loses more than this and one slice."""
SLICE_S = 2.0
"""Aim for the time between two looks at the progress."""


class Wave(NamedTuple):
    """Which controllers run together, of how many, and where they are saved."""

    number: int
    ids: np.ndarray
    """Global controller ids ``[padded]``, -1 for padding."""
    total: int
    directory: store.RunDirectory | None
    callbacks: Sequence[Callback]


class Progress(NamedTuple):
    """Where a wave stands."""

    members: Member
    step: int
    rows: int
    """Length of this process's ``rows.jsonl`` in bytes."""
    spent_s: float


def run_wave(engine: Engine, wave: Wave, timings: dict[str, float]) -> Member:
    """Returns the members after the last update; adds to ``timings``.

    Raises:
        DiskFullError: a write failed; the last checkpoint stands.
    """
    saved = None
    if wave.directory is not None:
        folder = wave.directory.path / "checkpoints" / f"{wave.number:05d}"
        saved = Checkpoints(folder)
    try:
        at = _begin(engine, wave, saved, timings)
        return _advance(engine, wave, saved, at, timings)
    finally:
        if saved is not None:
            saved.close()


def _begin(
    engine: Engine, wave: Wave, saved: Checkpoints | None, timings: dict[str, float]
) -> Progress:
    before = engine.compile_s
    at = Progress(engine.start(wave.ids), 0, 0, 0.0)
    timings["compile_s"] += engine.compile_s - before
    if wave.directory is not None and saved is not None:
        lengths = wave.directory.row_lengths() if wave.number else []
        if saved.latest() is not None:
            at, lengths = _restore(engine, saved, at)
        at = at._replace(rows=wave.directory.truncate_rows(lengths))
    tell(engine, wave, "compiled", at.step, seconds=engine.compile_s - before)
    return at


def _advance(
    engine: Engine,
    wave: Wave,
    saved: Checkpoints | None,
    at: Progress,
    timings: dict[str, float],
) -> Member:
    job, pace = engine.job, 1
    begun = saved_at = time.perf_counter()
    members, step, rows, _ = at
    ended = step >= job.updates
    wall_s = at.spent_s
    while not ended:
        boundary = min(job.updates, (step // job.chunk + 1) * job.chunk)
        stop = min(boundary, step + pace)
        slice_begun = time.perf_counter()
        members = engine.advance(members, step, stop)
        slice_s = max(1e-6, time.perf_counter() - slice_begun)
        wall_s = at.spent_s + time.perf_counter() - begun
        row = aggregate(engine, wave, members, stop, wall_s)
        due = time.perf_counter() - saved_at > CHECKPOINT_EVERY_S
        spent = bool(engine.spent(members).all())
        every = distributed.exchange([row, slice_s, due, spent])
        parts, slices, dues, spents = zip(*every, strict=True)
        pace = max(1, int(min(4 * pace, SLICE_S * (stop - step) / max(slices))))
        step = stop
        ended = step >= job.updates or all(spents)
        if wave.directory is not None and (step == boundary or ended):
            rows = wave.directory.append_row(row)
        if saved is not None and dues[0]:
            _save(engine, saved, Progress(members, step, rows, wall_s))
            saved_at = time.perf_counter()
        whole = store.join_rows(parts, upward=upward(job.oracle.objectives))
        tell(engine, wave, "progress", step, row=whole)
    timings["run_s"] += wall_s
    parts = distributed.exchange(aggregate(engine, wave, members, step, wall_s))
    whole = store.join_rows(parts, upward=upward(job.oracle.objectives))
    tell(engine, wave, "done", step, row=whole)
    return members


def _save(engine: Engine, saved: Checkpoints, at: Progress) -> None:
    answers = engine.answers()
    shapes = {name: list(a.shape) for name, a in answers.items()}
    rows = distributed.exchange(at.rows)
    record = {"step": at.step, "rows": rows, "run_s": at.spent_s, "answers": shapes}
    saved.save(at.step, (at.members, answers), record)


def _restore(
    engine: Engine, saved: Checkpoints, at: Progress
) -> tuple[Progress, list[int]]:
    """Returns what the newest checkpoint holds, and the lengths of the rows' files."""
    record = saved.record()
    answers: dict[str, Any] = {}
    if engine.cache is not None:
        empty = engine.answers()
        shapes = record["answers"].items()
        answers = {name: np.zeros(shape, empty[name].dtype) for name, shape in shapes}
    members, answers = saved.restore((at.members, answers))
    engine.recall(answers)
    if engine.programs.sharded.is_fully_addressable:
        members = engine.programs.place(members)
    return Progress(members, record["step"], 0, record["run_s"]), record["rows"]


def aggregate(
    engine: Engine, wave: Wave, members: Member, step: int, wall_s: float
) -> dict[str, Any]:
    """Returns one row: budgets, best values, entropy and collapse of this process's."""
    job, local = engine.job, distributed.local
    real = engine.my_ids(wave.ids) >= 0
    ledger = members.oracle.ledger
    best = job.oracle.scalariser.natural(local(ledger.best_true)[real])
    known = best[~np.isnan(best)]
    best_of = np.max if upward(job.oracle.objectives) else np.min
    count = local(ledger.queries)[real]
    row: dict[str, Any] = {
        "label": job.label,
        "update": step,
        "wave": wave.number,
        "controllers": int(real.sum()),
        "proposals": int(local(ledger.proposals)[real].sum()),
        "queries": int(count.sum()),
        "best_mean": float(known.mean()) if known.size else None,
        "best_max": float(best_of(known)) if known.size else None,
        "finished": _mean(engine.spent(members)[real]),
        "spent": _mean(count >= job.oracle.budget),
        "queries_per_s": round(int(count.sum()) / max(wall_s, 1e-9), 1),
        "wall_s": round(wall_s, 3),
    }
    for name in ("entropy", "unique", "collapsed"):
        row[name] = _newest(members.log.get(name), real)
    return row


def upward(objectives: Sequence[Objective]) -> bool:
    """Returns whether a greater best value is a better one; a reward always is."""
    return objectives[0].maximise or len(objectives) > 1


def _mean(flags: np.ndarray) -> float:
    return float(flags.mean()) if flags.size else 1.0


def _newest(column: Any, real: np.ndarray) -> float | None:
    """Returns the mean over controllers of each one's newest logged value."""
    if column is None:
        return None
    values = distributed.local(column)[real]
    places = np.where(np.isnan(values), -1, np.arange(values.shape[1])).max(axis=1)
    seen = places >= 0
    if not seen.any():
        return None
    return float(values[np.flatnonzero(seen), places[seen]].mean())


def tell(engine: Engine, wave: Wave, event: str, step: int, **more: Any) -> None:
    """Calls every callback."""
    job, first = engine.job, int(wave.ids[0])
    said = {"event": event, "label": job.label, "update": step, "updates": job.updates}
    for callback in wave.callbacks:
        callback({**said, "first": first, "controllers": wave.total, **more})
