"""``log``: finished runs for TensorBoard and Weights & Biases. One file a logger."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.report.loggers.histories import histories
from jaxnas.report.read.load import load
from jaxnas.report.read.task import make_task

LOGGERS = {
    "tensorboard": ("jaxnas.report.loggers.tensorboard", "tensorboardX"),
    "wandb": ("jaxnas.report.loggers.wandb", "wandb"),
}
"""Each logger's module, whose ``write(run, histories)`` says where they are, and the
package that it needs, which the extra of the logger's name installs."""


def check(names: Iterable[str]) -> None:
    """Raises a UserError where a logger is unknown or its package is missing."""
    for name in names:
        if name not in LOGGERS:
            raise unknown_name("logger", name, LOGGERS)
        package = LOGGERS[name][1]
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"--{name} needs the package {package}: pip install 'jaxnas[{name}]'."
            )


def log(
    paths: Sequence[str | Path], names: Iterable[str], say: Callable[[str], None]
) -> None:
    """Hands the histories of finished runs to loggers.

    Whatever goes wrong there (a full disk, no network, no account) is one sentence to
    ``say``: the runs are finished and keep their results.

    Args:
        paths: run directories, or parents of some.
        names: of :data:`LOGGERS`.
        say: told where each logger has put a run, or why it has not.

    Raises:
        UserError: an unknown logger, or one whose package is missing.
    """
    names = list(names)
    check(names)
    optima: dict[str, float | None] = {}
    for run in load(paths) if names else []:
        if run.task not in optima:
            known = make_task(run).known
            optima[run.task] = None if known is None else known.optimum
        found = histories(run, optima[run.task])
        for name in names:
            try:
                place = importlib.import_module(LOGGERS[name][0]).write(run, found)
            except Exception as error:
                why = " ".join(str(error).split()) or "no reason given"
                say(
                    f"{run.label}: --{name} wrote nothing ({type(error).__name__}: {why}); "
                    "the run itself is complete."
                )
            else:
                say(f"{run.label}: {place}")
