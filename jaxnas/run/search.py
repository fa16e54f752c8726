"""``search``: one algorithm, one oracle, many controllers, resumable to the bit."""

import contextlib
import functools
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnas.core import rng, trees
from jaxnas.core import tokens as tk
from jaxnas.core.algorithm import Algorithm
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Described, Oracle
from jaxnas.core.scalarise import weighted_sum
from jaxnas.data.store.evaluations import Store
from jaxnas.oracles.budget import Budgeted
from jaxnas.run import store as folders
from jaxnas.run.config import describe_run, expand_hparams
from jaxnas.run.devices import population_mesh
from jaxnas.run.engine import Engine, Job
from jaxnas.run.host.cache import HostCache
from jaxnas.run.host.executor import Executor
from jaxnas.run.host.measurements import measuring_parts
from jaxnas.run.memory import check_results, controllers_that_fit
from jaxnas.run.population import Layout, Member, init_member, metric_names
from jaxnas.run.result import Result, best_distinct, gather
from jaxnas.run.waves import Callback, Wave, run_wave

ROWS = 20
"""Aggregate rows of a run by default: the chunk is a twentieth of the updates."""


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
    store: Store | str | Path | None = None,
    devices: Sequence[Any] | None = None,
    callbacks: Sequence[Callback] = (),
    resume: Literal["auto", "never"] = "auto",
    grid: Mapping[str, Sequence[float]] | None = None,
    grid_cells: Sequence[int] = (),
    label: str | None = None,
) -> Result:
    """Returns what ``G x seeds`` controllers found within ``budget`` distinct queries each.

    Controller ``g * seeds + s`` uses setting ``g`` of ``hparams`` and its own key, which
    depends on nothing but that number and ``seed0``. With a traced oracle everything runs
    in one compiled program; a host oracle is asked between two compiled halves.

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
        executor: where a host oracle's evaluations run; this process when None. Who made
            it closes it.
        store: where the evaluations of a measuring oracle are kept, so that none is made
            twice whichever run asked: an open store, or its file.
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
    _check_host_options(oracle, executor, store)
    settings, num_settings = expand_hparams(algo, hparams)
    if seeds < 1:
        raise UserError(f"At least one seed is needed, got {seeds}.")
    with contextlib.ExitStack() as held:
        directory = None
        if out is not None:
            directory = folders.RunDirectory(Path(out))
            held.callback(directory.close)
        if directory is not None and resume == "never":
            directory.clear()
        job = _plan(
            algo, budgeted, settings, num_settings, seeds, seed0, chunk, width, devices,
            label, directory,
        )  # fmt: skip
        config = describe_run(
            algo, budgeted, label=job.label, settings=settings, seeds=seeds, seed0=seed0,
            chunk=job.chunk, width=job.layout.width, wave=job.wave, grid=grid or {},
            cells=grid_cells, store=_store_path(store),
        )  # fmt: skip
        if directory is not None:
            directory.adopt(config)
            if (directory.path / "results.npz").exists():
                return load_result(directory.path)
        if store is not None and not isinstance(store, Store):
            store = held.enter_context(Store(store))
        return _run(job, config, directory, archive, executor, store, callbacks)


def load_result(path: str | Path) -> Result:
    """Returns a finished run from its directory.

    Raises:
        UserError: there is no finished run, or a file of it is damaged.
    """
    path = Path(path)
    arrays = folders.read_arrays(path / "results.npz")
    try:
        config = json.loads((path / "config.json").read_text())
        made = json.loads((path / "provenance.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a finished run: {error}.") from error
    timings = {name: made[name] for name in ("compile_s", "run_s")}
    best = folders.read_arrays(path / "archive.npz")
    return Result(config, arrays, best, path, timings, made.get("evaluations"))


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
    devices: Sequence[Any] | None,
    label: str | None,
    directory: folders.RunDirectory | None,
) -> Job:
    """Returns the job; width and wave are taken over from a run that is being resumed."""
    mesh = population_mesh(devices)
    count = num_settings * seeds
    updates = -(-oracle.max_proposals // (algo.batch * algo.rounds))
    chunk = max(1, -(-updates // ROWS)) if chunk is None else chunk
    if chunk < 1 or (width is not None and width < 1):
        raise UserError(f"Chunk and width must be at least 1, got {chunk} and {width}.")
    row = oracle.space.length * 2 + len(oracle.objectives) * 4 + 8
    check_results(count, oracle.budget * row + 4 * updates * len(metric_names(algo)))
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


def _member_bytes(algo: Algorithm, oracle: Budgeted, updates: int, settings: PyTree) -> int:
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


def _run(
    job: Job,
    config: dict[str, Any],
    directory: folders.RunDirectory | None,
    archive: int,
    executor: Executor | None,
    store: Store | None,
    callbacks: Sequence[Callback],
) -> Result:
    """Runs all waves and writes what they leave."""
    made = folders.provenance() | {"data": _checksums(job.oracle.oracle)}
    total = config["controllers"]
    cache = None
    if not job.oracle.traced:
        warn = functools.partial(_warn, job.label, callbacks)
        cache = HostCache(job.oracle.oracle, executor, store, warn)
    engine = Engine(job, cache)
    parts: list[dict[str, np.ndarray]] = []
    timings = {"compile_s": 0.0, "run_s": 0.0}
    for number, first in enumerate(range(0, total, job.wave)):
        saved = directory.path / "waves" / f"{number:05d}.npz" if directory else None
        if saved is not None and saved.exists():
            parts.append(folders.read_arrays(saved))
            continue
        ids = engine.ids(first, min(job.wave, total - first))
        wave = Wave(number, ids, total, directory, callbacks)
        members = run_wave(engine, wave, timings)
        parts.append(gather(job.algo, job.oracle, members, ids, job.seeds))
        if saved is not None and total > job.wave:
            saved.parent.mkdir(exist_ok=True)
            folders.write_arrays(saved, parts[-1])
    arrays = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    best = best_distinct(job.oracle, engine.params, parts, archive)
    made |= {**timings, "finished": folders.now()}
    asked = None if cache is None else cache.summary()
    if asked is not None:
        made |= {"failed_evaluations": asked["failed"], "failures": asked["failures"]}
        made["evaluations"] = asked
    if directory is not None:
        _finish(directory, arrays, best, made)
    path = directory.path if directory else None
    return Result(config, arrays, best, path, timings, asked)


def _check_host_options(oracle: Oracle, executor: Any, store: Any) -> None:
    """Refuses what has no meaning for an oracle, rather than ignoring it."""
    if executor is not None and oracle.traced:
        raise UserError(
            f"The oracle {oracle.id!r} is compiled into the search, so nothing is left for "
            "workers to evaluate; leave the executor out."
        )
    if store is not None and not measuring_parts(oracle):
        raise UserError(
            f"The oracle {oracle.id!r} makes no measurements to store; leave the store out."
        )


def _store_path(store: Store | str | Path | None) -> str | None:
    """Returns the file of a store as text, for the record."""
    path = store.path if isinstance(store, Store) else store
    return None if path is None else str(path)


def _warn(label: str, callbacks: Sequence[Callback], text: str) -> None:
    """Tells the callbacks a sentence; where there are none, it is a Python warning."""
    if not callbacks:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    for callback in callbacks:
        callback({"event": "warning", "label": label, "text": text})


def _checksums(oracle: Oracle) -> dict[str, str]:
    """Returns the checksum of the data behind an oracle that names one."""
    facts = oracle.info() if isinstance(oracle, Described) else {}
    checksum = facts.get("checksum")
    return {str(facts.get("name", oracle.id)): str(checksum)} if checksum else {}


def _finish(
    directory: folders.RunDirectory,
    arrays: dict[str, np.ndarray],
    best: dict[str, np.ndarray],
    made: dict[str, Any],
) -> None:
    """Writes the results, ``results.npz`` last, and drops what only a resume needs."""
    folders.write_json(directory.path / "provenance.json", made)
    folders.write_arrays(directory.path / "archive.npz", best)
    folders.write_arrays(directory.path / "results.npz", arrays)
    shutil.rmtree(directory.path / "checkpoints", ignore_errors=True)
    shutil.rmtree(directory.path / "waves", ignore_errors=True)
