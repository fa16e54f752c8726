"""``jaxnas validate``: the best of a run, trained, put on chips and read for a month."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import tyro
from rich.console import Console

from jaxnas.core.errors import UserError
from jaxnas.core.ranges import FROM_ZERO
from jaxnas.run.devices import configure_host


@dataclass(frozen=True)
class Validate:
    """Trains the best architectures of a run and measures them on simulated chips.

    Each is trained digitally, fine-tuned on noisy weights by IBM's aihwkit, programmed and
    read at several times there, and the same weights are read by the JAX simulator. The
    report of the run gets a section with both. The same command again goes on where it was.
    Example: jaxnas validate runs/main --top 3 --data digits --size channels:8,cells:1
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directory of a search."""
    top: int = 3
    """How many of the best architectures."""
    data: str | None = None
    """Image task; what the search trained on, or digits. See `jaxnas data list`."""
    size: str | None = None
    """Sizes that were not searched; those of the search, or channels:8,cells:1."""
    epochs: int = 20
    """Of digital training."""
    hwa_epochs: int = 10
    """Of hardware-aware training; 0 programs the digital network."""
    hwa_lr: float = 0.02
    """Its largest step size."""
    repetitions: int = 10
    """Chips that aihwkit programs."""
    draws: int = 25
    """Chips that the JAX simulator programs."""
    times: tuple[float, ...] = (60.0, 3600.0, 86400.0, 2592000.0)
    """Seconds since programming."""
    seed: int = 0
    """Of training, programming and noise."""
    workers: int = 2
    """aihwkit processes at a time."""
    python: str = sys.executable
    """Interpreter with torch and aihwkit."""
    json: bool = False
    """Print progress and result as JSON lines."""
    RANGES: ClassVar = {
        "hwa_epochs": FROM_ZERO, "hwa_lr": "(0, 1]", "times": "[0, inf)"
    }  # fmt: skip

    def run(self) -> int:
        """Validates and builds the report."""
        configure_host(1)
        from jaxnas import report
        from jaxnas.handoff.validate import Settings, validate
        from jaxnas.report.read.architectures import top_found
        from jaxnas.report.say.validation_section import FOLDER, summary

        settings = Settings(
            epochs=self.hwa_epochs, lr=self.hwa_lr, repetitions=self.repetitions,
            draws=self.draws, times=self.times, seed=self.seed, python=self.python,
            workers=self.workers,
        )  # fmt: skip
        study = one_study(self.run_dir)
        best = top_found(study, self.top)
        if not best:
            raise UserError(f"{self.run_dir} has found no architecture yet.")
        oracle = training_oracle(study, self.data, self.size, self.epochs, self.seed)
        name = study.task.objective.name
        record = validate(
            oracle,
            [np.asarray(item.tokens) for item in best],
            _folder(study) / FOLDER,
            settings,
            self._tell,
            [{name: float(item.value)} for item in best],
        )
        built = report.build([str(r.path) for r in study.runs], _folder(study))
        if self.json:
            found = {"event": "report", "html": str(built.html_path)}
            print(json.dumps({**found, "validation": summary(record)}))
            return 0
        from jaxnas.report.say import validation_section
        from jaxnas.report.say.cells import to_rich

        console = Console(width=None if Console().is_terminal else 110)
        console.print(to_rich(validation_section.table(record)))
        print(f"report: {built.html_path}")
        return 0

    def _tell(self, event: dict[str, Any]) -> None:
        if self.json:
            print(json.dumps(event), flush=True)
            return
        where = f"{event['candidate']} of {event['of']}: " if "candidate" in event else ""
        kind = event["event"]
        text = {
            "probe": lambda: event["message"],
            "train": lambda: "training",
            "digital": lambda: f"digital test accuracy {100 * event['accuracy']:.2f} %",
            "epoch": lambda: (
                f"hardware-aware epoch {event['epoch']}, loss {event['loss']:.4f}"
            ),
            "repetition": lambda: (
                f"chip {event['repetition']}: "
                + ", ".join(f"{100 * a:.1f}" for a in event["accuracy"])
            ),
            "simulate": lambda: "simulating",
        }[kind]()
        print(f"{where}{text}", flush=True)


def training_oracle(
    study: Any, data: str | None, size: str | None, epochs: int, seed: int
) -> Any:
    """Returns how candidates are trained: as in the search, where it trained."""
    from jaxnas import registry
    from jaxnas.oracles.child import ChildOracle

    described = study.runs[0].config["oracle"]
    options: dict[str, Any] = {"data": "digits", "size": "channels:8,cells:1"}
    if described.get("name") in ("child", "analog"):
        known = described.get("options") or {}
        shared = (
            "data", "size", "batch", "augment", "lr", "weight_decay", "limit", "optimiser",
            "schedule", "smoothing", "cutout", "mixup",
        )  # fmt: skip
        options |= {"size": ""} | {k: known[k] for k in shared if k in known}
    given = {"data": data, "size": size}
    options |= {k: v for k, v in given.items() if v is not None}
    options |= {"epochs": epochs, "seed": seed}
    made = registry.make_oracle("child", space=study.task.space, **options)
    assert isinstance(made, ChildOracle)
    return made


def one_study(run_dir: Path) -> Any:
    """Returns the search in a directory.

    Raises:
        UserError: none there, or several questions.
    """
    from jaxnas.report.read.compare import studies
    from jaxnas.report.read.load import load

    (study, *others) = studies(load(run_dir))
    if others:
        raise UserError(
            f"{run_dir} holds searches of {1 + len(others)} questions; name one."
        )
    return study


def _folder(study: Any) -> Path:
    return study.runs[0].path.parent
