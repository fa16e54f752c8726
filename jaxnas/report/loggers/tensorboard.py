"""Histories as TensorBoard's event files, by tensorboardX, without TensorFlow.

Its ``SummaryWriter`` writes in a thread of its own, where a full disk is not heard of; the
writer below that one writes at once and raises.
"""

import importlib
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnas.report.loggers.histories import History, rows
from jaxnas.report.read.load import RunData

FOLDER = "tensorboard"
"""Where the event files are, in the run's directory."""


def write(run: RunData, found: Sequence[History]) -> str:
    """Writes event files into ``RUN/tensorboard`` and returns how to look at them.

    A run of several settings has a folder for each. What an earlier call wrote is replaced.

    Raises:
        OSError: a file could not be written; what was there before stays.
    """
    target = run.path / FOLDER
    made = run.path / f".{FOLDER}.{secrets.token_hex(4)}"
    try:
        for history in found:
            folder = made / f"setting-{history.setting}" if len(found) > 1 else made
            folder.mkdir(parents=True)
            _write(folder, history)
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return f"tensorboard --logdir {run.path.parent}"


def _write(folder: Path, history: History) -> None:
    load: Any = importlib.import_module  # optional: the checker may not have it
    event = load("tensorboardX.proto.event_pb2").Event
    summary = load("tensorboardX.proto.summary_pb2").Summary
    writer = load("tensorboardX.event_file_writer").EventsWriter(str(folder / "events"))
    try:
        for _, step, values in rows(history):
            named = [summary.Value(tag=n, simple_value=v) for n, v in values.items()]
            made = summary(value=named)
            writer.write_event(event(wall_time=time.time(), step=step, summary=made))
    finally:
        writer.close()
