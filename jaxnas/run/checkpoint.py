"""Atomic checkpoints of a whole population, by orbax.

A checkpoint holds every array of the population and a small JSON record (the next update,
the length of ``rows.jsonl``, the wave). It becomes visible by one rename, so that a process
killed at any moment leaves the previous one in force.
"""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from jaxnas.core.errors import DiskFullError, JaxnasError, UserError

_FULL_SIGNS = ("No space left on device", "ENOSPC", "Disk quota exceeded")


@contextlib.contextmanager
def disk_errors(what: str, where: Path) -> Iterator[None]:
    """Turns a full or unwritable disk into one sentence; other errors pass."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, JaxnasError):
            raise
        text = str(error)
        if any(sign in text for sign in _FULL_SIGNS):
            raise DiskFullError(
                f"The disk is full: {what} could not be written to {where}; free some "
                "space and run the same command again, it goes on from the last checkpoint."
            ) from error
        if isinstance(error, PermissionError):
            raise UserError(
                f"No permission to write {what} to {where}; choose another directory with "
                "--out."
            ) from error
        raise


def _flat(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves under their position, so that any pytree can be stored.

    Leaves without elements carry nothing, and orbax refuses them: they are left out.
    """
    leaves = enumerate(jax.tree.leaves(tree))
    return {f"{i:04d}": leaf for i, leaf in leaves if leaf.size}


class Checkpoints:
    """The checkpoints of one run directory, made on first use; only the newest is kept.

    Several processes share it, and each writes what its devices hold.
    """

    def __init__(self, directory: Path) -> None:
        # orbax logs every failure with its traceback before it raises it.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self.directory = directory.absolute()
        total = jax.process_count()
        # Named, processes wait by the coordinator, not by collectives.
        everyone = ocp.options.MultiprocessingOptions(
            active_processes=set(range(total)) if total > 1 else None
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1, enable_async_checkpointing=False, create=False,
            multiprocessing_options=everyone,
        )  # fmt: skip
        with disk_errors("a checkpoint", self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, arrays: PyTree, record: dict[str, Any]) -> None:
        """Writes a checkpoint and then removes the one before it.

        Raises:
            DiskFullError: it did not fit; the one before it stands.
        """
        flat = _flat(arrays)
        if jax.process_count() == 1:
            flat = jax.tree.map(np.asarray, flat)
        args = ocp.args.Composite(
            arrays=ocp.args.StandardSave(flat), record=ocp.args.JsonSave(record)
        )
        with disk_errors("a checkpoint", self.directory):
            needed = sum(array.nbytes for array in flat.values()) + 2**20
            if shutil.disk_usage(self.directory).free < needed:
                raise OSError(errno.ENOSPC, "No space left on device")
            self._manager.save(step, args=args, force=True)
            self._manager.wait_until_finished()

    def latest(self) -> int | None:
        """Returns the newest complete checkpoint's step, or None."""
        return self._manager.latest_step()

    def record(self) -> dict[str, Any]:
        """Returns the JSON record of the newest checkpoint."""
        args = ocp.args.Composite(record=ocp.args.JsonRestore())
        return dict(self._read(args)["record"])

    def restore(self, like: PyTree) -> PyTree:
        """Returns the newest checkpoint's arrays in the structure of ``like``.

        Raises:
            UserError: the checkpoint cannot be read or has other shapes.
        """
        alone = jax.process_count() == 1

        def target(leaf: Any) -> Any:
            """Returns what tells orbax where a leaf goes, whoever has saved it."""
            if alone:
                return np.empty(leaf.shape, leaf.dtype)
            # Each process reads what its devices hold.
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)

        shapes = {name: target(leaf) for name, leaf in _flat(like).items()}
        args = ocp.args.Composite(arrays=ocp.args.StandardRestore(shapes))
        found = self._read(args)["arrays"]
        leaves = [
            found[f"{i:04d}"] if leaf.size else np.zeros(leaf.shape, leaf.dtype)
            for i, leaf in enumerate(jax.tree.leaves(like))
        ]
        if alone:
            leaves = [np.asarray(leaf) for leaf in leaves]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _read(self, args: Any) -> Any:
        """Returns the newest checkpoint, or one sentence about why it cannot be read."""
        step = self.latest()
        try:
            return self._manager.restore(step, args=args)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"The checkpoint {self.directory / str(step)} cannot be read "
                f"({type(error).__name__}); run again with --fresh to start over."
            ) from error

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()
