"""``search``: one algorithm, one oracle, any number of controllers, resumable to the bit."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxnas.core import rng, trees
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.protocols import Algorithm, Oracle
from jaxnas.moo.scalarise import weighted_sum
from jaxnas.oracles.budget import Budgeted
from jaxnas.run import store
from jaxnas.run.checkpoint import Checkpoints
from jaxnas.run.config import describe_run, expand_hparams
from jaxnas.run.devices import population_mesh
from jaxnas.run.fanout import Executor, HostCache
from jaxnas.run.memory import controllers_that_fit
from jaxnas.run.population import Layout, Member, Programs, init_member, metric_names
from jaxnas.run.result import Result, best_distinct, gather, to_host

Event = dict[str, Any]
"""What a callback is told: ``{"event": "compiled" | "progress" | "row" | "done", ...}``."""
Callback = Callable[[Event], None]

CHECKPOINT_EVERY_S = 30.0
"""Least time between two checkpoints; a run never loses more than this and one slice."""
SLICE_S = 2.0
"""Aim for the time between two looks at the progress."""
ROWS = 20
"""Aggregate rows of a run by default: the chunk is a twentieth of the updates."""


@dataclass(frozen=True)
class Job:
    """Everything that decides a run, checked."""

    algo: Algorithm
    oracle: Budgeted
    settings: PyTree
    seeds: int
    seed0: int
    updates: int
    chunk: int
    layout: Layout
    wave: int
    mesh: Mesh
    label: str


def search(
    algo: Algorithm,
    oracle: Oracle,
    *,
    budget: int,
    seeds: int = 1,
    seed0: int = 0,
    hparams: Any = None,
    out: str | Path | None = None,
    max_proposals: int | None = None,
    weights: tuple[float, ...] | None = None,
    chunk: int | None = None,
    width: int | None = None,
    archive: int = 256,
    executor: Executor | None = None,
    devices: Sequence[jax.Device] | None = None,
    callbacks: Sequence[Callback] = (),
    resume: Literal["auto", "never"] = "auto",
    grid: Mapping[str, Sequence[float]] | None = None,
    grid_cells: Sequence[int] = (),
    label: str | None = None,
) -> Result:
    """Returns what ``G x seeds`` controllers found within ``budget`` distinct queries each.

    Controller ``g * seeds + s`` uses setting ``g`` of ``hparams`` and its own key, which
    depends on nothing but that number and ``seed0``. With a traced oracle everything runs in
    one compiled program; a host oracle is asked between two compiled halves.

    Args:
        algo: proposes and learns.
        oracle: scores; its space must be the algorithm's.
        budget: distinct queries of each controller.
        seeds: controllers of each setting.
        seed0: seed of the whole run.
        hparams: None for the preset, or names to numbers or ``[G]`` sequences.
        out: run directory. The same call again resumes it, or returns what is there.
        max_proposals: proposals after which a controller stops even if it keeps repeating
            itself; 8 x budget when None.
        weights: of the objectives in the reward, one each; all 1 when None.
        chunk: updates between two rows and callbacks; a twentieth of all when None.
        width: controllers that a device advances together; measured default when None.
        archive: best distinct architectures kept.
        executor: where a host oracle's evaluations run; this process when None.
        devices: devices to spread over; all local ones when None.
        callbacks: called with progress events between two compiled calls.
        resume: ``"never"`` deletes what ``out`` holds first.
        grid: the axes of a sweep, for the record.
        grid_cells: the setting of every cell of ``grid``, for the record.
        label: name in tables; the algorithm's when None.

    Raises:
        UserError: something cannot be done as asked; nothing was started.
        DiskFullError: a write failed; the last checkpoint stands.
    """
    budgeted = _budgeted(algo, oracle, budget, max_proposals, weights)
    settings, num_settings = expand_hparams(algo, hparams)
    if seeds < 1:
        raise UserError(f"At least one seed is needed, got {seeds}.")
    directory = None
    if out is not None:
        directory = store.RunDirectory(Path(out))
        if resume == "never":
            directory.clear()
    try:
        job = _plan(
            algo, budgeted, settings, num_settings, seeds, seed0, chunk, width, devices,
            label, directory,
        )  # fmt: skip
        config = describe_run(
            algo, budgeted, label=job.label, settings=settings, seeds=seeds, seed0=seed0,
            chunk=job.chunk, width=job.layout.width, wave=job.wave, grid=grid or {},
            cells=grid_cells,
        )  # fmt: skip
        if directory is not None:
            directory.adopt(config)
            if (directory.path / "results.npz").exists():
                return load_result(directory.path)
        return _run(job, config, directory, archive, executor, callbacks)
    finally:
        if directory is not None:
            directory.close()


def load_result(path: str | Path) -> Result:
    """Returns a finished run from its directory.

    Raises:
        UserError: there is no finished run, or a file of it is damaged.
    """
    import json

    path = Path(path)
    arrays = store.read_arrays(path / "results.npz")
    try:
        config = json.loads((path / "config.json").read_text())
        made = json.loads((path / "provenance.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a finished run: {error}.") from error
    timings = {name: made[name] for name in ("compile_s", "run_s")}
    return Result(config, arrays, store.read_arrays(path / "archive.npz"), path, timings)


def _budgeted(
    algo: Algorithm,
    oracle: Oracle,
    budget: int,
    max_proposals: int | None,
    weights: tuple[float, ...] | None,
) -> Budgeted:
    """Returns the oracle under its budget, after checking that both fit together."""
    if algo.space != oracle.space:
        raise UserError(
            f"The algorithm proposes from {algo.space.id!r} but the oracle scores "
            f"{oracle.space.id!r}; make both with the same space."
        )
    cap = 8 * budget if max_proposals is None else max_proposals
    scalariser = weighted_sum(oracle.objectives, weights)
    budgeted = Budgeted(oracle, scalariser, budget, cap)
    total = tk.count(oracle.space)
    if total is not None and budget > total and not budgeted.resample:
        raise UserError(
            f"A budget of {budget:,} distinct queries is more than the {total:,} "
            f"architectures of {oracle.space.id!r}; ask for at most {total:,}."
        )
    return budgeted


def _plan(
    algo: Algorithm,
    oracle: Budgeted,
    settings: PyTree,
    num_settings: int,
    seeds: int,
    seed0: int,
    chunk: int | None,
    width: int | None,
    devices: Sequence[jax.Device] | None,
    label: str | None,
    directory: store.RunDirectory | None,
) -> Job:
    """Returns the job; width and wave are taken over from a run that is being resumed."""
    mesh = population_mesh(devices)
    count = num_settings * seeds
    updates = -(-oracle.max_proposals // (algo.batch * algo.rounds))
    chunk = max(1, -(-updates // ROWS)) if chunk is None else chunk
    if chunk < 1 or (width is not None and width < 1):
        raise UserError(f"Chunk and width must be at least 1, got {chunk} and {width}.")
    here = (directory.config if directory else None) or {}
    if width is None:
        width = here.get("width")
    if width is None:
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        width = algo.preferred_width if on_cpu else 4096
        width = max(1, min(width, -(-count // mesh.size)))
    wave = here.get("wave")
    if wave is None:
        bytes_each = _member_bytes(algo, oracle, updates, settings)
        wave = controllers_that_fit(count, bytes_each, width * mesh.size)
    layout = Layout(min(wave, count), width, mesh.size)
    name = label or algo.id.rsplit("-v", 1)[0]
    return Job(
        algo, oracle, settings, seeds, seed0, updates, chunk, layout, wave, mesh, name
    )


def _member_bytes(
    algo: Algorithm, oracle: Budgeted, updates: int, settings: PyTree
) -> int:
    """Returns the bytes of one controller's state, without computing anything."""
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((), x.dtype), settings)
    names = metric_names(algo)
    root = jax.random.key_data(rng.root_key(0))

    def make(hparams: PyTree, params: PyTree) -> Member:
        return init_member(
            algo, oracle, updates, names, root, params, jnp.int32(0), hparams,
            jnp.asarray(False),
        )  # fmt: skip

    return trees.num_bytes(jax.eval_shape(make, one, oracle.params()))


class _Wave:
    """One wave of controllers: as many as fit in memory, from first update to last."""

    def __init__(
        self, job: Job, first: int, count: int, params: PyTree, cache: HostCache | None
    ) -> None:
        self.job, self.params, self.cache = job, params, cache
        self.layout = Layout(count, job.layout.width, job.layout.devices)
        padded = np.full(self.layout.padded, -1, np.int64)
        padded[:count] = np.arange(first, first + count)
        self.ids = padded
        self.programs = Programs(job.algo, job.oracle, self.layout, job.mesh, job.updates)
        self.compile_s = 0.0
        self._run: Any = None

    def start(self) -> Member:
        """Returns the members before the first update."""
        setting = np.maximum(self.ids, 0) // self.job.seeds
        hparams = jax.tree.map(lambda x: x[setting], self.job.settings)
        root = jax.random.key_data(rng.root_key(self.job.seed0))
        ids = jnp.asarray(self.ids, jnp.int32)
        begun = time.perf_counter()
        members = self.programs.init(root, self.params, ids, hparams)
        jax.block_until_ready(members)
        self.compile_s += time.perf_counter() - begun
        return members

    def compile(self, members: Member) -> None:
        """Compiles the programs that advance the members; the time is kept apart."""
        begun = time.perf_counter()
        if self.cache is None:
            zero = jnp.int32(0)
            program = self.programs.run_program()
            self._run = program.lower(members, self.params, zero, zero).compile()
        else:
            self._ask = self.programs.ask_program()
            self._tell = self.programs.tell_program()
            self._learn = self.programs.learn_program()
        self.compile_s += time.perf_counter() - begun

    def advance(self, members: Member, start: int, stop: int) -> Member:
        """Returns the members after updates ``start`` to ``stop - 1``."""
        if self.cache is None:
            members = self._run(members, self.params, jnp.int32(start), jnp.int32(stop))
            return jax.block_until_ready(members)
        for step in range(start, stop):
            members = self._split_update(members, jnp.int32(step))
        return members

    def _split_update(self, old: Member, step: jax.Array) -> Member:
        """Returns the members after one update with a host oracle."""
        assert self.cache is not None
        members = old
        for r in range(self.job.algo.rounds):
            turn = jnp.int32(r)
            members, proposal, admission = self._ask(members, step, turn)
            shape = proposal.active.shape
            found = self.cache.evaluate(
                np.asarray(proposal.tokens).reshape(-1, self.job.oracle.space.length),
                np.asarray(proposal.fidelity).reshape(-1),
                np.asarray(admission.scored).reshape(-1),
            )
            found = type(found)(*(x.reshape(shape + x.shape[1:]) for x in found))
            items = (members, proposal, admission, self.programs.place(found))
            members = self._tell(items, step, turn)
        return self._learn((old, members), step)


def _run(
    job: Job,
    config: dict[str, Any],
    directory: store.RunDirectory | None,
    archive: int,
    executor: Executor | None,
    callbacks: Sequence[Callback],
) -> Result:
    """Runs all waves and writes what they leave."""
    made = store.provenance()
    total = config["controllers"]
    cache = None if job.oracle.traced else HostCache(job.oracle.oracle, executor)
    params = job.oracle.params()
    if cache is None:
        params = jax.device_put(
            params, Programs(job.algo, job.oracle, job.layout, job.mesh, 1).replicated
        )
    parts: list[dict[str, np.ndarray]] = []
    timings = {"compile_s": 0.0, "run_s": 0.0}
    for number, first in enumerate(range(0, total, job.wave)):
        saved = directory.path / "waves" / f"{number:05d}.npz" if directory else None
        if saved is not None and saved.exists():
            parts.append(store.read_arrays(saved))
            continue
        wave = _Wave(job, first, min(job.wave, total - first), params, cache)
        members = _run_wave(wave, number, total, directory, callbacks, timings)
        parts.append(gather(job.oracle, to_host(members), wave.ids, job.seeds))
        if saved is not None and total > job.wave:
            saved.parent.mkdir(exist_ok=True)
            store.write_arrays(saved, parts[-1])
    arrays = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    best = best_distinct(job.oracle, params, parts, archive)
    made |= {**timings, "finished": store.now()}
    if cache is not None:
        made["failed_evaluations"] = len(cache.failures)
        made["failures"] = sorted(set(cache.failures))[:10]
    if directory is not None:
        _finish(directory, arrays, best, made)
    path = directory.path if directory else None
    return Result(config, arrays, best, path, timings)


def _finish(
    directory: store.RunDirectory,
    arrays: dict[str, np.ndarray],
    best: dict[str, np.ndarray],
    made: dict[str, Any],
) -> None:
    """Writes the results, ``results.npz`` last, and drops what only a resume needs."""
    import shutil

    store.write_json(directory.path / "provenance.json", made)
    store.write_arrays(directory.path / "archive.npz", best)
    store.write_arrays(directory.path / "results.npz", arrays)
    shutil.rmtree(directory.path / "checkpoints", ignore_errors=True)
    shutil.rmtree(directory.path / "waves", ignore_errors=True)


def _run_wave(
    wave: _Wave,
    number: int,
    total: int,
    directory: store.RunDirectory | None,
    callbacks: Sequence[Callback],
    timings: dict[str, float],
) -> Member:
    """Runs one wave from its newest checkpoint, or from the start, to its end."""
    job = wave.job
    members, step, rows, spent_s = wave.start(), 0, 0, 0.0
    if directory is not None and directory.rows_path.exists():
        rows = directory.rows_path.stat().st_size if number else 0
    checkpoints = None
    if directory is not None:
        checkpoints = Checkpoints(directory.path / "checkpoints" / f"{number:05d}")
        members, step, rows, spent_s = _restore(wave, checkpoints, members, rows)
        directory.truncate_rows(rows)
    wave.compile(members)
    _tell(callbacks, "compiled", wave, step, total, seconds=wave.compile_s)
    timings["compile_s"] += wave.compile_s
    clock = _Clock(spent_s)
    pace, saved_at = 1, time.perf_counter()
    try:
        while step < job.updates:
            boundary = min(job.updates, (step // job.chunk + 1) * job.chunk)
            stop = min(boundary, step + pace)
            begun = time.perf_counter()
            members = wave.advance(members, step, stop)
            elapsed = max(1e-6, time.perf_counter() - begun)
            pace = max(1, int(min(4 * pace, SLICE_S * (stop - step) / elapsed)))
            step = stop
            ended = bool(jnp.all(jax.vmap(jax.vmap(job.oracle.spent))(members.oracle)))
            row = _row(wave, members, step, clock.total())
            if directory is not None and (step == boundary or ended):
                rows = directory.append_row(row)
            due = time.perf_counter() - saved_at > CHECKPOINT_EVERY_S
            if checkpoints is not None and due and not ended:
                record = {"step": step, "rows": rows, "run_s": clock.total()}
                _save(wave, checkpoints, members, record)
                saved_at = time.perf_counter()
            _tell(callbacks, "progress", wave, step, total, row=row)
            if ended:
                break
    finally:
        if checkpoints is not None:
            checkpoints.close()
    timings["run_s"] += clock.total()
    _tell(callbacks, "done", wave, step, total, row=_row(wave, members, step, clock.total()))
    return members


class _Clock:
    """Running time, carried over interruptions."""

    def __init__(self, before: float) -> None:
        self._before, self._begun = before, time.perf_counter()

    def total(self) -> float:
        return self._before + time.perf_counter() - self._begun


def _save(
    wave: _Wave, checkpoints: Checkpoints, members: Member, record: dict[str, Any]
) -> None:
    """Saves the population and, with a host oracle, all answers so far."""
    cache = wave.cache.to_arrays() if wave.cache is not None else {}
    shapes = {name: list(a.shape) for name, a in cache.items()}
    checkpoints.save(record["step"], (members, cache), {**record, "cache": shapes})


def _restore(
    wave: _Wave, checkpoints: Checkpoints, members: Member, rows: int
) -> tuple[Member, int, int, float]:
    """Returns the members, the next update, the rows' length and the time spent."""
    if checkpoints.latest() is None:
        return members, 0, rows, 0.0
    record = checkpoints.record()
    cache: dict[str, Any] = {}
    if wave.cache is not None:
        like = wave.cache.to_arrays()
        cache = {
            name: np.zeros(shape, like[name].dtype) for name, shape in record["cache"].items()
        }
    members, cache = checkpoints.restore((members, cache))
    if wave.cache is not None:
        wave.cache.load(cache)
    return wave.programs.place(members), record["step"], record["rows"], record["run_s"]


def _row(wave: _Wave, members: Member, step: int, wall_s: float) -> dict[str, Any]:
    """Returns the aggregate of one moment: budgets, best values, entropy, collapse."""
    real = (wave.ids >= 0).reshape(wave.layout.blocks, wave.layout.width)
    ledger = members.oracle.ledger
    best = wave.job.oracle.scalariser.natural(np.asarray(ledger.best_true)[real])
    known = best[~np.isnan(best)]
    maximise = wave.job.oracle.objectives[0].maximise or len(wave.job.oracle.objectives) > 1
    queries = int(np.asarray(ledger.count)[real].sum())
    spent = np.asarray(jax.vmap(jax.vmap(wave.job.oracle.spent))(members.oracle))[real]
    full = np.asarray(ledger.count)[real] >= wave.job.oracle.budget
    row: dict[str, Any] = {
        "label": wave.job.label,
        "update": step,
        "controllers": int(real.sum()),
        "proposals": int(np.asarray(ledger.proposals)[real].sum()),
        "queries": queries,
        "best_mean": float(known.mean()) if known.size else None,
        "best_max": float(known.max() if maximise else known.min()) if known.size else None,
        "finished": float(spent.mean()),
        "spent": float(full.mean()),
        "queries_per_s": queries / max(wall_s, 1e-9),
        "wall_s": round(wall_s, 3),
    }
    for name in ("entropy", "unique", "collapsed"):
        row[name] = _last(members.log.get(name), real)
    return row


def _last(column: Any, real: np.ndarray) -> float | None:
    """Returns the mean over controllers of each one's newest logged value."""
    if column is None:
        return None
    values = np.asarray(column)[real]
    places = np.where(np.isnan(values), -1, np.arange(values.shape[1])).max(axis=1)
    seen = places >= 0
    if not seen.any():
        return None
    return float(values[np.flatnonzero(seen), places[seen]].mean())


def _tell(
    callbacks: Sequence[Callback], event: str, wave: _Wave, step: int, total: int, **more: Any
) -> None:
    """Calls every callback."""
    for callback in callbacks:
        callback(
            {
                "event": event,
                "label": wave.job.label,
                "update": step,
                "updates": wave.job.updates,
                "first": int(wave.ids[0]),
                "controllers": total,
                **more,
            }
        )
