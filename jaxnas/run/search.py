"""``search``: one algorithm, one oracle, many controllers, resumable to the bit."""

import contextlib
import dataclasses
import functools
import json
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnas.core import rng, trees
from jaxnas.core import tokens as tk
from jaxnas.core.algorithm import Algorithm, prepare
from jaxnas.core.constraints import make_handling
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.jax_settings import check_settings
from jaxnas.core.layout import resolve
from jaxnas.core.oracle import Described, Oracle, capability
from jaxnas.core.space import SearchSpace
from jaxnas.data.store.evaluations import Store
from jaxnas.oracles.budget import Budgeted, budgeted
from jaxnas.run import contracts, distributed, feasibility, policies, tables
from jaxnas.run import memory as mem
from jaxnas.run import store as folders
from jaxnas.run.config import describe_run, expand_hparams
from jaxnas.run.devices import population_mesh
from jaxnas.run.engine import Engine, Job
from jaxnas.run.halving import check_halving
from jaxnas.run.host.cache import HostCache
from jaxnas.run.host.measurements import measuring_parts
from jaxnas.run.options import RunOptions
from jaxnas.run.population import Layout, Member, init_member, metric_names
from jaxnas.run.result import Result, best_distinct, gather
from jaxnas.run.waves import Callback, Wave, run_wave

ROWS = 20
"""Aggregate rows of a run by default: the chunk is a twentieth of the updates."""


def search(
    algo: Algorithm, oracle: Oracle, options: RunOptions | None = None, **settings: Any
) -> Result:
    """Returns what ``G x seeds`` controllers found within ``budget`` distinct queries each.

    Controller ``g * seeds + s`` uses setting ``g`` of ``hparams`` and its own key, which
    depends on nothing but that number and ``seed0``. With a traced oracle everything runs
    in one compiled program; a host oracle is asked between two compiled halves.

    Args:
        algo: proposes and learns.
        oracle: scores; its space must be the algorithm's.
        options: what is asked for; or give its fields by name.
        **settings: fields of :class:`RunOptions`: ``budget``, ``seeds``, ``out``, ...

    Where nothing that was queried meets the constraints ``result.infeasible`` says so, and
    a warning where there are no callbacks. Where it is proven beforehand that nothing can,
    a warning comes first, and with a host oracle the search is refused.

    Raises:
        UserError: something cannot be done as asked; nothing was started.
        DiskFullError: a write failed; the last checkpoint stands.
    """
    check_settings()
    options = made_options(options, settings)
    contracts.check_oracle(oracle)
    algo = prepare(algo, oracle.objectives)
    budgeted = checked_budget(algo, oracle, options)
    _check_host_options(oracle, options)
    hopeless = feasibility.check_possible(oracle)
    if hopeless and not options.callbacks and not distributed.index():
        warnings.warn(hopeless, RuntimeWarning, stacklevel=2)
    if options.halving is not None:
        check_halving(options.halving, oracle, algo.batch, options.budget)
    here = distributed.first(functools.partial(_planned, options))
    job = _plan(algo, budgeted, options, here)
    config = describe_run(job, options)
    distributed.same(config)
    with contextlib.ExitStack() as held:
        directory, finished = _open(options, config, held)
        if directory is not None and finished:
            return load_result(directory.path)
        if options.store is not None and not isinstance(options.store, Store):
            store = held.enter_context(Store(options.store))
            options = dataclasses.replace(options, store=store)
        return _run(job, config, directory, options)


def _planned(options: RunOptions) -> dict[str, Any]:
    """Returns layout, width and wave of the run that is to be resumed, if there is one."""
    if options.out is None and distributed.count() > 1:
        raise UserError("A search by several processes needs out, a folder they share.")
    if options.out is None or options.resume == "never":
        return {}
    config = folders.read_config(Path(options.out)) or {}
    return {name: config[name] for name in ("layout", "width", "wave") if name in config}


def _open(
    options: RunOptions, config: dict[str, Any], held: contextlib.ExitStack
) -> tuple[folders.RunDirectory | None, bool]:
    """Returns the run directory, which is this run's now, and whether it was finished."""
    if options.out is None:
        return None, False
    path, directory = Path(options.out), None

    def own() -> bool:
        nonlocal directory
        directory = folders.RunDirectory(path)
        held.callback(directory.close)
        if options.resume == "never":
            directory.clear()
        directory.adopt(config)
        return (path / "results.npz").exists()

    finished = distributed.first(own)
    _check_shared(path / "config.json")
    return directory or folders.RunDirectory(path), finished


def _check_shared(written: Path) -> None:
    """Raises where a process does not see the file that process 0 has written."""
    limit = time.monotonic() + 10.0  # a network file system may take its time
    while not written.exists() and time.monotonic() < limit:
        time.sleep(0.5)
    seen = distributed.exchange(written.exists())
    if not all(seen):
        raise distributed.AgreedError(
            f"Process {seen.index(False)} does not see {written}, which process 0 wrote; "
            "choose an --out in a folder that all of them share."
        )


def made_options(options: RunOptions | None, settings: dict[str, Any]) -> RunOptions:
    """Returns options with some fields replaced, or made of them alone.

    Raises:
        UserError: an unknown field, or no budget.
    """
    names = [field.name for field in dataclasses.fields(RunOptions)]
    for name in settings:
        if name not in names:
            raise unknown_name("option of search:", name, names)
    if options is not None:
        return dataclasses.replace(options, **settings)
    if "budget" not in settings:
        raise UserError("search needs a budget: distinct queries of each controller.")
    return RunOptions(**settings)


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
        raise UserError(
            f"{path} is not a finished run: config.json or provenance.json is missing or "
            "damaged; run the search again with --fresh."
        ) from error
    timings = {name: made[name] for name in ("compile_s", "run_s")}
    best = folders.read_arrays(path / "archive.npz")
    none = (made.get("infeasible") or {}).get("text")
    return Result(
        config, arrays, best, path, timings, made.get("evaluations"), infeasible=none
    )


def checked_budget(algo: Algorithm, oracle: Oracle, options: RunOptions) -> Budgeted:
    """Returns the oracle under its budget, after checking that both keep their contracts.

    Raises:
        UserError: one does not (see :mod:`jaxnas.run.contracts`), or they do not fit.
    """
    contracts.check_algorithm(algo)
    contracts.check_oracle(oracle)
    if algo.space != oracle.space:
        raise UserError(
            f"The algorithm proposes from {algo.space.id!r} but the oracle scores "
            f"{oracle.space.id!r}; make both with the same space."
        )
    bounded = budgeted(
        oracle, options.budget, options.max_proposals, options.weights, options.scalarise,
        options.ideal, options.scale, make_handling(options.handling),
    )  # fmt: skip
    total = tk.count(oracle.space)
    if total is not None and options.budget > total and not bounded.resample:
        raise UserError(
            f"A budget of {options.budget:,} distinct queries is more than the {total:,} "
            f"architectures of {oracle.space.id!r}; ask for at most {total:,}."
        )
    contracts.check_shapes(algo, oracle)
    return bounded


def _plan(
    algo: Algorithm, oracle: Budgeted, options: RunOptions, here: dict[str, Any]
) -> Job:
    """Returns the job; layout, width and wave are taken over from a run that is resumed."""
    settings, num_settings = expand_hparams(algo, options.hparams)
    mesh = population_mesh(options.devices)
    count = num_settings * options.seeds
    updates = -(-oracle.max_proposals // (algo.batch * algo.rounds))
    row = oracle.space.length * 2 + (len(oracle.objectives) + len(oracle.bounds)) * 4 + 8
    mem.check_results(count, oracle.budget * row + 4 * updates * len(metric_names(algo)))
    if options.layout == "auto" and "layout" in here:
        kind = here["layout"]
    else:
        kind = resolve(options.layout, mesh.devices.flat[0].platform)
    each = _member_bytes(algo, oracle, updates, settings) * mem.COPIES[kind]
    memory = distributed.shared(mem.free_memory(mesh.local_devices))
    share = -(-count // mesh.size)
    width = options.width or here.get("width")
    if width is None and kind == "wide":
        width = mem.controllers_that_fit(count, each, mesh.size, memory.free) // mesh.size
    width = max(1, min(width or algo.preferred_width, share))
    wave = here.get("wave")
    if wave is None:
        wave = mem.controllers_that_fit(count, each, width * mesh.size, memory.free)
    return Job(
        algo=algo, oracle=oracle, settings=settings, seeds=options.seeds,
        seed0=options.seed0, updates=updates,
        chunk=options.chunk or max(1, -(-updates // ROWS)),
        layout=Layout(min(wave, count), width, mesh.size, kind), wave=wave, mesh=mesh,
        init=None if options.init is None else policies.initial(options.init, algo),
        label=options.label or algo.id.rsplit("-v", 1)[0], memory=memory,
        halving=options.halving,
    )  # fmt: skip


def _member_bytes(algo: Algorithm, oracle: Budgeted, updates: int, settings: PyTree) -> int:
    one = jax.tree.map(lambda _: jax.ShapeDtypeStruct((), jnp.float32), settings)
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
    options: RunOptions,
) -> Result:
    callbacks = options.callbacks
    warn = functools.partial(_warn, job.label, callbacks)
    made = folders.provenance(list(job.mesh.devices.flat))
    made |= {"data": _checksums(job.oracle.oracle), "memory": str(job.memory)}
    made["layout"] = _layout_in_words(job)
    if job.memory.source == "assumed":
        warn(f"Memory is planned with {job.memory}.")
    total = config["controllers"]
    cache = None
    if not job.oracle.traced:
        store: Any = options.store
        cache = HostCache(job.oracle.oracle, options.executor, store, warn)
        if options.answers is not None:
            cache.load(_answers(Path(options.answers), config, warn))
    engine = Engine(job, cache)
    parts: list[dict[str, np.ndarray]] = []
    timings = {"compile_s": 0.0, "run_s": 0.0}
    for number, first in enumerate(range(0, total, job.wave)):
        saved = directory.path / "waves" / f"{number:05d}.npz" if directory else None
        if saved is not None and distributed.first(saved.exists):
            parts.append(folders.read_arrays(saved))
            continue
        ids = engine.ids(first, min(job.wave, total - first))
        wave = Wave(number, ids, total, directory, callbacks)
        members = run_wave(engine, wave, timings)
        mine = engine.mine(members, ids)
        parts.append(_collect(saved, gather(job.algo, job.oracle, *mine, job.seeds)))
        if saved is not None and total > job.wave and not distributed.index():
            saved.parent.mkdir(exist_ok=True)
            folders.write_arrays(saved, parts[-1])
    if distributed.index():
        assert directory is not None
        distributed.exchange("results are written")
        return load_result(directory.path)
    arrays = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    learned = policies.taken(arrays)
    params = engine.params
    if distributed.count() > 1:  # this process computes alone from here on
        params = jax.tree.map(lambda x: x.addressable_data(0), params)
    best = best_distinct(job.oracle, params, parts, options.archive)
    made |= {**timings, "finished": folders.now()}
    made["peak_memory"] = mem.peak_memory(job.mesh.local_devices)
    made["infeasible"] = none = feasibility.verdict(job.oracle, arrays)
    if none and not callbacks:
        warn(none["text"])
    asked = engine.summary()
    if asked is not None:
        made |= {"failed_evaluations": asked["failed"], "failures": asked["failures"]}
        made["evaluations"] = asked
    if directory is not None:
        policies.write(directory.path, job.algo, learned)
        if engine.promotion is not None:
            names = [objective["name"] for objective in config["objectives"]]
            rows = tables.halved_csv(job.oracle.space, names, engine.promotion.rows())
            folders.write_bytes(directory.path / "rungs.csv", rows)
        if cache is not None:
            folders.write_arrays(directory.path / folders.ANSWERS, cache.to_arrays())
        _finish(directory, job.oracle.space, config, arrays, best, made)
    distributed.exchange("results are written")
    path = directory.path if directory else None
    text = none["text"] if none else None
    return Result(config, arrays, best, path, timings, asked, learned, job.algo, text)


def _answers(
    run: Path, config: dict[str, Any], warn: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Returns the answers of an earlier run; a warning says where it left none."""
    found = folders.read_answers(run, config)
    if found is None:
        warn(f"{run} holds no {folders.ANSWERS}; its architectures are evaluated again.")
    return found or {"status": np.zeros(0, np.int32)}


def _collect(saved: Path | None, part: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a wave: in process 0 those of all processes, through files."""
    total, me = distributed.count(), distributed.index()
    if total == 1 or saved is None:
        return part
    names = [saved.with_suffix(f".{i}.npz") for i in range(total)]
    if me:
        saved.parent.mkdir(exist_ok=True)
        folders.write_arrays(names[me], part)
    distributed.exchange("parts are written")
    if me:
        return part
    parts = [part, *(folders.read_arrays(name) for name in names[1:])]
    for name in names[1:]:
        name.unlink()
    return {name: np.concatenate([p[name] for p in parts]) for name in part}


def _layout_in_words(job: Job) -> str:
    layout, total = job.layout, distributed.count()
    return (
        f"{layout.kind}, {layout.blocks} blocks of {layout.width} controllers on "
        f"{layout.devices} devices" + (f" of {total} processes" if total > 1 else "")
    )


def _check_host_options(oracle: Oracle, options: RunOptions) -> None:
    if not oracle.traced and distributed.count() > 1:
        raise UserError(
            f"The oracle {oracle.id!r} is not compiled into the search: one process asks "
            "it and workers evaluate; use --workers or --executor ray, not --coordinator."
        )
    if options.executor is not None and oracle.traced:
        raise UserError(
            f"The oracle {oracle.id!r} is compiled into the search, so nothing is left for "
            "workers to evaluate; leave the executor out."
        )
    if options.store is not None and not measuring_parts(oracle):
        raise UserError(
            f"The oracle {oracle.id!r} makes no measurements to store; leave the store out."
        )


def _warn(label: str, callbacks: Sequence[Callback], text: str) -> None:
    if not callbacks:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    for callback in callbacks:
        callback({"event": "warning", "label": label, "text": text})


def _checksums(oracle: Oracle) -> dict[str, str]:
    described = capability(oracle, Described)
    facts = {} if described is None else described.info()
    checksum = facts.get("checksum")
    return {str(facts.get("name", oracle.id)): str(checksum)} if checksum else {}


def _finish(
    directory: folders.RunDirectory,
    space: SearchSpace,
    config: dict[str, Any],
    arrays: dict[str, np.ndarray],
    best: dict[str, np.ndarray],
    made: dict[str, Any],
) -> None:
    folders.write_json(directory.path / "provenance.json", made)
    folders.write_arrays(directory.path / "archive.npz", best)
    names = [objective["name"] for objective in config["objectives"]]
    folders.write_bytes(directory.path / "results.csv", tables.as_csv(space, names, best))
    if "front_tokens" in best:
        front = {n: best[f"front_{n}"] for n in ("tokens", "objectives")}
        rows = tables.as_csv(space, names, front)
        folders.write_bytes(directory.path / "front.csv", rows)
    halving = (made.get("evaluations") or {}).get("halving")
    summary = tables.as_json(config, space, best, arrays, halving)
    if made["infeasible"]:
        summary["infeasible"] = made["infeasible"]["text"]
    folders.write_json(directory.path / "results.json", summary)
    folders.write_arrays(directory.path / "results.npz", arrays)
    shutil.rmtree(directory.path / "checkpoints", ignore_errors=True)
    shutil.rmtree(directory.path / "waves", ignore_errors=True)
