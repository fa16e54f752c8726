"""A larger budget for a run that is there: the bits of a run that had it from the start.

The update that spends a budget is cut short, and the controller has learned from what was
left of it: nothing can go on from there and be the longer run. So the longer run is made
from its beginning, with every answer that a host oracle gave to the shorter one, beside it
in ``raising``; it takes its place once it is finished and has asked the same architectures
in the same order (``docs/decisions/0028-raised-budget.md``).
"""

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.core.algorithm import Algorithm
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Oracle
from jaxnas.run import distributed
from jaxnas.run import store as folders
from jaxnas.run.options import RunOptions
from jaxnas.run.result import Result
from jaxnas.run.search import checked_budget, made_options, search


def raise_budget(
    algo: Algorithm, oracle: Oracle, options: RunOptions | None = None, **settings: Any
) -> Result:
    """Returns a run of a larger budget, which replaces a smaller one in its directory.

    Everything else must be as it was. A run that was interrupted is finished first, and one
    that has this budget is resumed or returned, as by :func:`~jaxnas.run.search.search`.
    The smaller run stays readable until the larger one is finished; the same call again
    goes on from the last checkpoint. A host oracle is not asked again about an architecture
    that either has asked about.

    Args:
        algo: as it was.
        oracle: as it was.
        options: ``out``, the new ``budget``, and the rest as it was; or give its fields by
            name. ``max_proposals`` may be raised too, and is 8 x budget when None.
        **settings: fields of :class:`~jaxnas.run.options.RunOptions`.

    Raises:
        UserError: a smaller budget, another option than before, or a run that does not
            repeat itself here because it was made on other hardware; nothing is lost.
    """
    options = made_options(options, settings)
    if options.out is None or options.resume == "never":
        raise UserError("A budget is raised in the directory of a run; give out.")
    bounded = checked_budget(algo, oracle, options)
    path = Path(options.out)
    old = distributed.first(lambda: _recorded(path))
    if old is None or old["budget"] == bounded.budget:
        return search(algo, oracle, options)
    _check_raised(path, old, bounded.budget, bounded.max_proposals)
    limits = {name: old[name] for name in ("budget", "max_proposals", "chunk")}
    search(algo, oracle, dataclasses.replace(options, **limits))
    longer = dataclasses.replace(
        options,
        out=path / folders.RAISING,
        layout=old.get("layout", options.layout),
        width=old.get("width", options.width),
        answers=None if oracle.traced else path,
    )
    result = search(algo, oracle, longer)
    distributed.first(lambda: _settle(path))
    return dataclasses.replace(result, path=path)


def _recorded(path: Path) -> dict[str, Any] | None:
    """Returns the configuration of the run that is there, a finished raise settled."""
    _settle(path)
    return folders.read_config(path)


def _check_raised(path: Path, old: dict[str, Any], budget: int, proposals: int) -> None:
    """Raises where a limit would fall, or where the run is being raised to another one."""
    wanted = {"budget": budget, "max_proposals": proposals}
    for name, new in wanted.items():
        if new < old[name]:
            raise UserError(
                f"{path} ran with {name} {old[name]:,}, which can be raised and not "
                f"lowered to {new:,}; use another --name for a shorter run."
            )
    begun = folders.read_config(path / folders.RAISING)
    if begun is not None and any(begun[name] != new for name, new in wanted.items()):
        raise UserError(
            f"{path} is being raised to a budget of {begun['budget']:,}; finish that "
            f"first, with --budget {begun['budget']}, or delete {path / folders.RAISING}."
        )


def _settle(path: Path) -> None:
    """Puts a finished longer run into the place of the shorter one.

    ``results.npz`` comes last: a process that dies before it does the rest the next time.

    Raises:
        UserError: the longer run asked something else; both stay where they are.
    """
    longer = path / folders.RAISING
    if not (longer / "results.npz").exists():
        return
    _check_repeats(path, longer)
    with contextlib.closing(folders.RunDirectory(path)):
        names = [p.name for p in longer.iterdir() if p.is_file() and p.name[0] != "."]
        for stale in path.glob("rows.*.jsonl"):
            if stale.name not in names:
                stale.unlink()
        for name in sorted(names, key=lambda name: (name == "results.npz", name)):
            os.replace(longer / name, path / name)
        shutil.rmtree(longer)


def _check_repeats(path: Path, longer: Path) -> None:
    """Raises unless the longer run begins with all that the shorter one has asked."""
    old = folders.read_arrays(path / "results.npz")
    new = folders.read_arrays(longer / "results.npz")
    for name in ("tokens", "objectives"):
        short = old[name]
        begins = new[name][:, : short.shape[1]]
        there = np.arange(short.shape[1]) < old["count"][:, None]
        if not np.array_equal(begins[there], short[there], equal_nan=True):
            raise UserError(
                f"{path} does not repeat itself on this machine, so that its budget "
                f"cannot be raised here: other {name} came out. It stays as it was; the "
                f"longer run is in {longer}."
            )
