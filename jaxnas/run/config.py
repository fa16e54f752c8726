"""What a run is, as plain data: hyperparameter settings, grids and the JSON description."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnas import registry
from jaxnas.core.algorithm import Algorithm
from jaxnas.core.constraints import DEFAULT
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.ranges import check_hparams
from jaxnas.oracles.budget import Budgeted
from jaxnas.run.engine import Job
from jaxnas.run.host.measurements import measuring_parts
from jaxnas.run.options import RunOptions
from jaxnas.run.store import FORMAT


def hparam_names(algo: Algorithm) -> tuple[str, ...]:
    """Returns the names of an algorithm's traced hyperparameters."""
    return tuple(algo.default_hparams()._fields)


def expand_hparams(algo: Algorithm, overrides: Any) -> tuple[PyTree, int]:
    """Returns the preset with some values replaced, every leaf ``[G]``, and ``G``.

    Args:
        algo: gives the preset.
        overrides: None, a mapping from names to numbers or ``[G]`` sequences, or the
            algorithm's own record with such leaves.

    Raises:
        UserError: an unknown name, different lengths, or a value that is not finite.
    """
    preset = algo.default_hparams()
    if overrides is None:
        overrides = {}
    if not isinstance(overrides, Mapping):
        overrides = overrides._asdict()
    columns = {
        name: np.atleast_1d(np.asarray(v, float)) for name, v in preset._asdict().items()
    }
    check_hparams(preset, overrides)
    for name, value in overrides.items():
        if name not in columns:
            raise unknown_name(f"hyperparameter of {algo.id!r}:", name, columns)
        column = np.atleast_1d(np.asarray(value, float))
        if column.ndim != 1 or column.size == 0 or not np.all(np.isfinite(column)):
            raise UserError(
                f"The hyperparameter {name!r} needs finite numbers, got {value!r}."
            )
        columns[name] = column
    sizes = {name: column.size for name, column in columns.items() if column.size > 1}
    if len(set(sizes.values())) > 1:
        raise UserError(f"Hyperparameters differ in length: {sizes}; give each the same.")
    settings = max(sizes.values(), default=1)
    full = {n: np.broadcast_to(c, (settings,)) for n, c in columns.items()}
    return type(preset)(**full), settings


def grid_settings(
    algo: Algorithm,
    grid: Mapping[str, Sequence[float]],
    changes: Mapping[str, float] | None = None,
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Returns all combinations of a grid, the preset first, and each cell's setting.

    The preset is setting 0 whether it is a cell of the grid or not, so its controllers have
    the same ids, and so the same results, in every run of the same seeds. ``changes`` are
    values that replace the preset's own.

    Returns:
        Columns ``[G]`` by name, and for every cell of the grid, in row-major order of
        ``grid``, which setting it is.
    """
    preset = {n: float(np.asarray(v)) for n, v in algo.default_hparams()._asdict().items()}
    preset |= changes or {}
    for name in grid:
        if name not in preset:
            raise unknown_name(f"hyperparameter of {algo.id!r}:", name, preset)
    rows, cells = [preset], []
    for values in itertools.product(*grid.values()):
        row = {**preset, **dict(zip(grid, map(float, values), strict=True))}
        close = lambda r, row=row: all(
            np.isclose(r[n], row[n], rtol=1e-6, atol=0) for n in row
        )
        same = [i for i, r in enumerate(rows) if close(r)]
        if not same:
            rows.append(row)
        cells.append(same[0] if same else len(rows) - 1)
    columns = {name: np.asarray([row[name] for row in rows], np.float32) for name in preset}
    return columns, cells


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return repr(value)


def describe_run(job: Job, options: RunOptions) -> dict[str, Any]:
    """Returns the configuration that decides a run's numbers, as JSON-able data.

    ``store`` is the one entry that decides none and may change when a run is resumed.
    """
    algo, oracle = job.algo, job.oracle
    fields = {
        f.name: _plain(getattr(algo, f.name))
        for f in dataclasses.fields(algo)  # pyright: ignore[reportArgumentType]
        if f.name not in ("space", "id", "preferred_width", "objectives")
    }
    columns = {
        n: np.asarray(v).astype(float).tolist() for n, v in job.settings._asdict().items()
    }
    num_settings = len(next(iter(columns.values()), [0]))
    name, made = registry.recipe(oracle.oracle) or (None, {})
    space_name, space_made = registry.recipe(oracle.space) or (None, {})
    grid = options.grid or {}
    parts = [part._asdict() for part in measuring_parts(oracle.oracle)]
    return {
        "format": FORMAT,
        "jax": jax.__version__,
        "label": job.label,
        "algorithm": {"id": algo.id, "fields": fields},
        "oracle": {"name": name, "id": oracle.id, "options": _json_options(made)},
        "space": oracle.space.id,
        "space_name": space_name,
        "space_options": _json_options(space_made),
        "objectives": [dataclasses.asdict(o) for o in oracle.objectives],
        "weights": list(oracle.scalariser.weights),
        **({"scalarise": ruled} if (ruled := oracle.scalariser.record()) else {}),
        "hparams": columns,
        "preset": 0,
        "grid": {n: [float(v) for v in values] for n, values in grid.items()},
        "grid_cells": list(options.grid_cells),
        "seeds": job.seeds,
        "seed0": job.seed0,
        "controllers": job.seeds * num_settings,
        "budget": oracle.budget,
        "max_proposals": oracle.max_proposals,
        "chunk": job.chunk,
        "layout": job.layout.kind,
        "width": job.layout.width,
        "wave": job.wave,
        **_constraints(oracle),
        **({} if job.halving is None else {"halving": dataclasses.asdict(job.halving)}),
        **({} if job.init is None else {"init": job.init.checksum}),
        **({"measuring": parts, "store": options.store_path} if parts else {}),
    }


def _constraints(oracle: Budgeted) -> dict[str, Any]:
    """Returns the limits in the order of the arrays, and how breaking them is handled."""
    handling, bounds = oracle.handling, oracle.bounds
    if not bounds and handling == DEFAULT:
        return {}
    how = {"name": handling.name, **dataclasses.asdict(handling)}
    return {"limits": [list(limit) for limit in bounds], "handling": how}


def _json_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(v) for name, v in options.items() if name != "space"}
