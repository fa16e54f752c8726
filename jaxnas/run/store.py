"""One directory a run: configuration, provenance, rows, raw arrays; one writer."""

import datetime
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.files import lock, replacing
from jaxnas.core.version import VERSION
from jaxnas.data.formats.npz import read_npz
from jaxnas.run import distributed
from jaxnas.run.checkpoint import disk_errors

FORMAT = 1
"""Version of the directory's layout; a reader refuses any other."""
ANSWERS = "answers.npz"
"""What a host oracle said of every architecture that a run asked about."""
RAISING = "raising"
"""Where the run of a larger budget is made, inside the directory of the smaller one."""
PLACES = ("store",)
"""Entries of a configuration that no number depends on: they may change on resuming."""


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file atomically."""
    with disk_errors(path.name, path.parent), replacing(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an npz file atomically."""
    with disk_errors(path.name, path.parent), replacing(path) as file:
        np.savez(file, **cast(Any, arrays))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of an npz file, without pickle.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return read_npz(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is missing or damaged; run the search again with --fresh."
        ) from error


class RunDirectory:
    """A run's directory, locked for one writer.

    Args:
        path: the directory; made when absent. Of several processes, process 0 locks it.

    Raises:
        UserError: it is a file, not writable, or another process is writing to it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, None
        if distributed.index():
            return
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{path} is not a directory; choose another --out.") from error
        except PermissionError as error:
            raise UserError(
                f"No permission to create {path}; choose another --out."
            ) from error
        with disk_errors("the run's lock", path):
            self._lock = open(path / ".lock", "w")  # noqa: SIM115 (held for the run)
        try:
            lock(self._lock)
        except OSError as error:
            self._lock.close()
            raise UserError(
                f"Another process is writing to {path}; wait or choose another --out."
            ) from error

    def close(self) -> None:
        """Gives the directory back."""
        if self._lock is not None:
            self._lock.close()

    def clear(self) -> None:
        """Deletes everything that a run has written here.

        Raises:
            UserError: the directory holds something else.
        """
        self._refuse_strangers()
        if self.path.is_symlink():
            raise UserError(
                f"{self.path} is a link, and what lies elsewhere is not deleted; name the "
                "folder itself, or another --out."
            )
        for child in self.path.iterdir():
            if child.name == ".lock":
                continue
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()

    def adopt(self, config: dict[str, Any]) -> None:
        """Makes this the run's configuration, or checks that it already is.

        Raises:
            UserError: another configuration is here; the text lists what differs.
        """
        here = read_config(self.path)
        if here is None:
            self._refuse_strangers()
            write_json(self.path / "config.json", config)
            return
        wanted = json.loads(json.dumps(config))
        old, new = ({k: v for k, v in c.items() if k not in PLACES} for c in (here, wanted))
        changed = differences(old, new)
        if changed:
            raise UserError(
                f"{self.path} holds a run with another configuration and is not resumed: "
                + "; ".join(changed)
                + ". Use another --out, or --fresh to start over."
            )

    def _refuse_strangers(self) -> None:
        others = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
        if others and not (self.path / "config.json").exists():
            raise UserError(
                f"{self.path} holds files that are not a run ({others[0]}); choose another "
                "--out."
            )

    @property
    def rows_path(self) -> Path:
        """The aggregate rows of this process."""
        return self._rows_of(distributed.index())

    def _rows_of(self, process: int) -> Path:
        return self.path / (f"rows.{process}.jsonl" if process else "rows.jsonl")

    def append_row(self, row: dict[str, Any]) -> int:
        """Appends one row and returns the file's length in bytes."""
        with disk_errors("a row", self.path), open(self.rows_path, "ab") as handle:
            handle.write((json.dumps(row) + "\n").encode())
            handle.flush()
            os.fsync(handle.fileno())
            return handle.tell()

    def row_lengths(self) -> list[int]:
        """Returns the bytes of the rows of all processes that have written any."""
        found = (self._rows_of(i) for i in itertools.count())
        return [p.stat().st_size for p in itertools.takewhile(Path.exists, found)]

    def truncate_rows(self, lengths: Sequence[int]) -> int:
        """Drops what was appended after the checkpoint that is being resumed.

        ``lengths`` are the bytes of each process's rows then; returned are those of this
        one. Process 0 also sees to the rows of processes that there are no more.
        """
        me, total = distributed.index(), distributed.count()
        mine = [me] if me else [0, *range(total, len(self.row_lengths()))]
        for i in mine:
            if self._rows_of(i).exists():
                length = lengths[i] if i < len(lengths) else 0
                os.truncate(self._rows_of(i), length)
        return self.rows_path.stat().st_size if self.rows_path.exists() else 0


def join_rows(rows: Sequence[dict[str, Any]], *, upward: bool) -> dict[str, Any]:
    """Returns the row of all controllers from those of each process, at one update.

    ``upward`` says whether a greater best value is a better one.
    """
    if len(rows) == 1:
        return rows[0]
    whole = dict(rows[0])
    for name in ("controllers", "proposals", "queries"):
        whole[name] = sum(row[name] for row in rows)
    whole["wall_s"] = max(row["wall_s"] for row in rows)
    whole["queries_per_s"] = round(whole["queries"] / max(whole["wall_s"], 1e-9), 1)
    for name in ("best_mean", "finished", "spent", "entropy", "unique", "collapsed"):
        known = [(row[name], row["controllers"]) for row in rows if row[name] is not None]
        total = sum(n for _, n in known)
        whole[name] = sum(value * n for value, n in known) / total if total else None
    tops = [row["best_max"] for row in rows if row["best_max"] is not None]
    whole["best_max"] = (max if upward else min)(tops) if tops else None
    return whole


def read_config(directory: Path) -> dict[str, Any] | None:
    """Returns the configuration of the run in a directory, if any.

    Raises:
        UserError: it is damaged.
    """
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text())
        if not isinstance(config, dict):
            raise ValueError("no JSON object")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged; run again with --fresh.") from error
    return config


def read_answers(directory: Path, config: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """Returns a finished run's answers of a host oracle; None where it left none.

    Args:
        directory: of the finished run.
        config: of the run that takes them over.

    Raises:
        UserError: there is no run, its oracle is another, or the answers are damaged.
    """
    theirs = read_config(directory) or {}
    for part in ("space", "space_options", "oracle", "objectives", "measuring"):
        if theirs.get(part) != json.loads(json.dumps(config.get(part))):
            raise UserError(
                f"{directory} holds no answers of this oracle: its {part!r} is another."
            )
    path = directory / ANSWERS
    return read_arrays(path) if path.exists() else None


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Returns ``"name: old -> new"`` for every leaf that two JSON values differ in."""
    if isinstance(old, dict) and isinstance(new, dict):
        inner = lambda n: differences(old.get(n), new.get(n), f"{path}.{n}".lstrip("."))
        return [line for name in sorted(set(old) | set(new)) for line in inner(name)]
    if old == new:
        return []
    short = lambda text: text if len(text) <= 60 else text[:57] + "..."
    return [f"{path}: {short(json.dumps(old))} -> {short(json.dumps(new))}"]


def provenance(devices: Sequence[Any]) -> dict[str, Any]:
    """Returns who made a run: command, versions, devices, commit, time."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "jaxnas": VERSION,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "os": platform.platform(),
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "cpu_count": os.cpu_count(),
        "git": _commit(),
        "started": now(),
    }


def now() -> str:
    """Returns the time in ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
