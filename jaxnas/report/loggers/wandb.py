"""Histories as runs of Weights & Biases; offline where ``WANDB_MODE=offline``."""

import importlib
import os
from collections.abc import Sequence

from jaxnas.report.loggers.histories import History, rows
from jaxnas.report.read.load import RunData

PROJECT = "jaxnas"
"""Where ``WANDB_PROJECT`` names no other."""


def write(run: RunData, found: Sequence[History]) -> str:
    """Logs each setting of a run as a run there, and returns where they are."""
    wandb = importlib.import_module("wandb")  # optional: the checker may not have it
    folder = run.path.absolute().parent.name
    name, places = f"{folder} {run.label}", []
    for history in found:
        setting = f" setting {history.setting}" if len(found) > 1 else ""
        made = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(run.path),
            name=name + setting,
            group=folder,
            config={**run.config, "hparams": history.hparams},
            settings=wandb.Settings(silent=True, console="off"),
            reinit="create_new",
        )
        try:
            for curve in history.curves:
                made.define_metric(curve.axis)
                made.define_metric(curve.name, step_metric=curve.axis)
            for axis, step, values in rows(history):
                made.log({axis: step, **values})
            places.append(str(made.url or made.dir))
        finally:
            made.finish()
    return f"wandb: {', '.join(places)}"
