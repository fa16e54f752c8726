"""Reads run directories, and checks what ``search`` left there before it is used."""

import glob
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.core.constraints import Limit
from jaxnas.core.errors import UserError
from jaxnas.core.types import Objective
from jaxnas.data.formats.npz import read_npz
from jaxnas.run.store import RAISING, join_rows

FORMAT = 1
"""The only layout of a run directory that this version reads."""

_CONFIG_KEYS = {
    **dict.fromkeys(("label", "space"), str),
    **dict.fromkeys(("algorithm", "oracle", "hparams"), dict),
    "objectives": list,
    **dict.fromkeys(("seeds", "controllers", "budget"), int),
}
_NAMES = {"regularized-evolution": "evolution", "random-search": "random"}
_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class Results:
    """Raw arrays of every controller; see ``load`` for the shapes.

    Attributes:
        controller: global id, ``[P]``.
        setting: index of its hyperparameter setting, ``[P]``.
        seed: index of its seed, ``[P]``.
        count: distinct queries that it spent, ``[P]``.
        proposals: architectures that it proposed, repeats included, ``[P]``.
        curve: true value of what it would recommend after each query, ``[P, Q]``; NaN
            where not reached.
        tokens: its queries in order, ``[P, Q, L]``; -1 where not reached.
        objectives: what was measured at each, ``[P, Q, M]``.
        best_tokens: what it recommends at the end, ``[P, L]``.
        best_true: the true value of that, ``[P]``.
        violation: how far each query broke the constraints, ``[P, Q]``; 0 where it met
            them, NaN where not reached or not recorded.
        limited: value of each limited metric at each query, ``[P, Q, K]``; NaN where
            not reached, not recorded or failed.
        metrics: logged scalars by name, ``[P, U]``; NaN where frozen.
        kept: what the algorithm keeps of its own, by name, ``[P, ...]``.
    """

    controller: np.ndarray
    setting: np.ndarray
    seed: np.ndarray
    count: np.ndarray
    proposals: np.ndarray
    curve: np.ndarray
    tokens: np.ndarray
    objectives: np.ndarray
    best_tokens: np.ndarray
    best_true: np.ndarray
    violation: np.ndarray
    limited: np.ndarray
    metrics: dict[str, np.ndarray]
    kept: dict[str, np.ndarray]


@dataclass(frozen=True)
class RunData:
    """One run directory: one method on one task.

    Attributes:
        path: the directory.
        config: ``config.json``.
        provenance: ``provenance.json``; empty where the run has not written it yet.
        rows: aggregate rows of the chunks.
        results: raw arrays, or None where the run has not finished.
        archive: ``tokens [C, L]`` and ``objectives [C, M]``; None as above.
        finished: whether the run came to its end.
    """

    path: Path
    config: dict[str, Any]
    provenance: dict[str, Any]
    rows: list[dict[str, Any]]
    results: Results | None
    archive: dict[str, np.ndarray] | None
    finished: bool

    @property
    def label(self) -> str:
        """What the method is called in tables."""
        return plain_text(self.config["label"])

    @property
    def algorithm(self) -> str:
        """The algorithm's registered name, or its id without the version."""
        entry = self.config["algorithm"]
        plain = str(entry.get("id", self.label)).rpartition("-v")[0]
        return str(entry.get("name") or _NAMES.get(plain, plain))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What was measured, in order."""
        return tuple(
            Objective(
                name=plain_text(o["name"]),
                unit=plain_text(o.get("unit", "")),
                maximise=bool(o.get("maximise", True)),
                meaning=plain_text(o.get("meaning", "")),
                predicted=bool(o.get("predicted", False)),
            )
            for o in self.config["objectives"]
        )

    @property
    def constraints(self) -> tuple[str, ...]:
        """What an architecture has to meet, such as ``"params<=1e6"``."""
        entry = self.config["oracle"]
        asked = (entry.get("options") or {}).get("constraints")
        if asked is None:  # built in Python: its id names them
            asked = re.findall(r"\|([^|+]+)", str(entry.get("id", "")))
        return tuple(map(plain_text, asked))

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits in the order of ``results.limited``; none where not recorded."""
        found = self.config.get("limits") or ()
        return tuple((plain_text(name), sign, float(bound)) for name, sign, bound in found)

    @property
    def hparams(self) -> dict[str, np.ndarray]:
        """Traced hyperparameters by name, ``[G]``."""
        columns = self.config["hparams"].items()
        return {name: np.atleast_1d(np.asarray(v, np.float64)) for name, v in columns}

    @property
    def num_settings(self) -> int:
        """Hyperparameter settings, ``G``."""
        return int(self.config["controllers"]) // max(int(self.config["seeds"]), 1)

    @property
    def preset(self) -> int | None:
        """The setting that was fixed before the run, or None.

        Settings that were given one by one, without a grid, have no preset among them.
        """
        if self.num_settings == 1:
            return 0
        value = self.config.get("preset") if self.config.get("grid") else None
        return None if value is None else int(value)

    @property
    def task(self) -> str:
        """A key that is equal for runs that may be compared."""
        names = ("oracle", "space", "objectives", "weights", "scalarise")
        return json.dumps({n: self.config.get(n) for n in names}, sort_keys=True)


def plain_text(value: object) -> str:
    """Returns text from outside without what no page, terminal or file can hold.

    Control characters and halves of characters (an undecodable command line) become
    visible escapes; what each format takes for markup is escaped where it is written.
    """
    return "".join(
        c if c.isprintable() or c == "\xa0" else c.encode("unicode_escape").decode()
        for c in str(value)
    )


def load(patterns: str | Path | Iterable[str | Path]) -> list[RunData]:
    """Returns every run that some directories, parents of directories or globs name.

    A directory is a run when it holds ``config.json``; one that does not is searched one
    and two levels down. Order is by path within a pattern; a run named twice comes once.

    Args:
        patterns: for example ``"runs/demo"``, ``"runs/demo/ppo"`` or ``"runs/*/ppo"``.

    Raises:
        UserError: nothing there, or a file that is missing, damaged, or of another format.
    """
    if isinstance(patterns, str | Path):
        patterns = [patterns]
    found: dict[Path, Path] = {}
    for pattern in patterns:
        for path in _directories(str(pattern)):
            found.setdefault(path.resolve(), path)
    if not found:
        raise UserError("No run directory was named; give one, for example runs/demo.")
    return [read_run(path) for path in found.values()]


def _directories(pattern: str) -> list[Path]:
    if Path(pattern).exists():
        roots = [Path(pattern)]
    elif _MAGIC & set(pattern):
        roots = map(Path, sorted(glob.glob(pattern, recursive=True)))
    else:
        raise UserError(
            f"{pattern} does not exist; run `jaxnas search --out {pattern}` first."
        )
    runs = [run for root in roots if root.is_dir() for run in _below(root)]
    if not runs:
        raise UserError(
            f"{pattern} holds no run: no config.json was found in it or two levels below."
        )
    return runs


def _below(root: Path) -> list[Path]:
    """Returns ``root`` if it is a run, else the runs one or two levels below it.

    The one that a run is being replaced by is none of them before it is finished.
    """
    if root.name == RAISING:
        return []
    if (root / "config.json").exists():
        return [root]
    nested = [*root.glob("*/config.json"), *root.glob("*/*/config.json")]
    return sorted(p.parent for p in nested if p.parent.name != RAISING)


def read_run(path: Path) -> RunData:
    """Returns the run in one directory.

    Raises:
        UserError: a file is missing, damaged or of another format; the text names it.
    """
    config = _read_json(path / "config.json")
    _check_config(path / "config.json", config)
    provenance = {}
    if (path / "provenance.json").exists():
        provenance = _read_json(path / "provenance.json")
    results = archive = None
    if (path / "results.npz").exists():
        results = _results(path / "results.npz", config)
    finished = bool(provenance.get("finished")) and results is not None
    if (path / "archive.npz").exists():
        archive = _read_arrays(path / "archive.npz")
        _need(path / "archive.npz", archive, ("tokens", "objectives"))
    rows = _joined_rows(path, config, finished=finished)
    return RunData(path, config, provenance, rows, results, archive, finished)


def _damaged(path: Path, why: object) -> UserError:
    return UserError(f"{path} is damaged ({why}); run the search again with --fresh.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(value, dict):
        raise _damaged(path, "it holds no object")
    return value


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    if config.get("format") != FORMAT:
        raise UserError(
            f"{path} has run format {config.get('format')!r} and this jaxnas reads format "
            f"{FORMAT}; use the jaxnas that made it, or run the search again."
        )
    for key, kind in _CONFIG_KEYS.items():
        if not isinstance(config.get(key), kind):
            raise _damaged(path, f"no valid {key!r}")
    if not config["objectives"] or any("name" not in o for o in config["objectives"]):
        raise _damaged(path, "no valid 'objectives'")
    if min(config["seeds"], config["controllers"], config["budget"]) < 1:
        raise _damaged(path, "counts below one")
    if config["controllers"] % config["seeds"]:
        raise _damaged(path, "controllers are not a multiple of seeds")
    settings = config["controllers"] // config["seeds"]
    for name, column in config["hparams"].items():
        if np.size(column) != settings:
            raise _damaged(path, f"hparams[{name!r}] has {np.size(column)} of {settings}")


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of an npz file, without pickle."""
    try:
        return read_npz(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _need(path: Path, arrays: Mapping[str, np.ndarray], names: Iterable[str]) -> None:
    for name in names:
        if name not in arrays:
            raise _damaged(path, f"no array {name!r}")


def _results(path: Path, config: Mapping[str, Any]) -> Results:
    """Returns the raw arrays after checking every shape against the configuration."""
    arrays = _read_arrays(path)
    names = [n for n in Results.__dataclass_fields__ if n not in ("metrics", "kept")]
    if "curve" in arrays:
        arrays.setdefault("violation", np.full(arrays["curve"].shape, np.nan))
        wide = (*arrays["curve"].shape, len(config.get("limits") or ()))
        arrays.setdefault("limited", np.full(wide, np.nan))
    _need(path, arrays, names)
    P, Q, M = config["controllers"], config["budget"], len(config["objectives"])
    K = len(config.get("limits") or ())
    L = arrays["tokens"].shape[-1]
    shapes = {"curve": (P, Q), "violation": (P, Q), "tokens": (P, Q, L)}
    shapes |= {"objectives": (P, Q, M), "limited": (P, Q, K), "best_tokens": (P, L)}
    for name in names:
        wanted = shapes.get(name, (P,))
        if arrays[name].shape != wanted:
            raise _damaged(path, f"{name!r} is {arrays[name].shape}, expected {wanted}")
    metrics, kept = (
        {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        for prefix in ("metric_", "artifact_")
    )
    for name, column in metrics.items():
        if column.ndim != 2 or column.shape[0] != P:
            raise _damaged(path, f"'metric_{name}' is {column.shape}, expected ({P}, U)")
    return Results(metrics=metrics, kept=kept, **{name: arrays[name] for name in names})


def _joined_rows(
    path: Path, config: Mapping[str, Any], *, finished: bool
) -> list[dict[str, Any]]:
    """Returns the aggregate rows, those of several processes as one each."""
    rows = _read_rows(path / "rows.jsonl", finished=finished)
    parts: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for file in sorted(path.glob("rows.*.jsonl")):
        for row in _read_rows(file, finished=finished):
            parts.setdefault((row.get("wave"), row.get("update")), []).append(row)
    goals = config["objectives"]
    upward = len(goals) > 1 or bool(goals[0].get("maximise", True))
    same = lambda row: parts.get((row.get("wave"), row.get("update")), [])
    return [join_rows([row, *same(row)], upward=upward) for row in rows]


def _read_rows(path: Path, *, finished: bool) -> list[dict[str, Any]]:
    """Returns the aggregate rows; a run that goes on may have half a row at its end."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines) and not finished:
                break
            raise _damaged(path, f"line {number} is no JSON") from error
    return rows
