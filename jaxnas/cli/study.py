"""``jaxnas study new | ask | tell | best``: a search that people or scripts drive."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from jaxnas.cli.common.console import console, headed
from jaxnas.cli.common.options import parse_options
from jaxnas.core.errors import UserError
from jaxnas.core.ranges import COUNT
from jaxnas.study.study import Study as Handle
from jaxnas.study.study import Trial


@dataclass(frozen=True)
class New:
    """Makes a study: jaxnas study new FILE --space mine.yaml --maximise accuracy."""

    file: Annotated[Path, tyro.conf.Positional]
    """The study, one SQLite file."""
    space: str
    """A space or a space file."""
    algorithm: str = "evolution"
    """What proposes; see jaxnas list."""
    maximise: tuple[str, ...] = ()
    """Objectives of which more is better; "score" when none is named."""
    minimise: tuple[str, ...] = ()
    """Objectives of which less is better."""
    pin: tuple[str, ...] = ()
    """Decisions with one value, such as edge12=nor_conv_3x3."""
    set: tuple[str, ...] = ()
    """Settings of the algorithm, such as batch=8."""
    seed: int = 0
    """Of the algorithm."""

    def run(self) -> int:
        """Makes the file."""
        if self.file.exists():
            raise UserError(f"{self.file} exists; ask it, or name another file.")
        up = {**dict.fromkeys(self.maximise, True), **dict.fromkeys(self.minimise, False)}
        if len(up) < len(self.maximise) + len(self.minimise):
            raise UserError("An objective is named twice.")
        study = Handle(
            self.space, self.algorithm, self.seed, up or None, self.file,
            pins=parse_options(self.pin), **parse_options(self.set),
        )  # fmt: skip
        study.close()
        print(f"made {self.file}; go on with: jaxnas study ask {self.file}")
        return 0


@dataclass(frozen=True)
class Ask:
    """Prints architectures to evaluate, each with the number to tell its value with."""

    file: Annotated[Path, tyro.conf.Positional]
    """The study."""
    n: int = 1
    """How many."""
    stale_after: float | None = None
    """Also those that were asked for so many seconds ago and never told."""
    json: bool = False
    """Print JSON lines."""
    RANGES: ClassVar = {"n": COUNT, "stale_after": "[0, inf)"}

    def run(self) -> int:
        """Asks."""
        study = Handle.load(self.file)
        for trial in study.ask(self.n, self.stale_after):
            _show(trial, self.json)
        return 0


@dataclass(frozen=True)
class Tell:
    """Says what an architecture is worth: jaxnas study tell FILE 3 accuracy=0.91."""

    file: Annotated[Path, tyro.conf.Positional]
    """The study."""
    trial: Annotated[str, tyro.conf.Positional]
    """Number of a trial, or an architecture as JSON, also one that was never asked for."""
    values: Annotated[tuple[str, ...], tyro.conf.Positional]
    """OBJECTIVE=NUMBER of each, or a single number; nan where it failed."""

    def run(self) -> int:
        """Tells."""
        study = Handle.load(self.file)
        what: Any = self.trial
        if what.isdigit():
            what = int(what)
        else:
            try:
                what = json.loads(what)
            except ValueError as error:
                raise UserError(
                    f"{what!r} is neither the number of a trial nor JSON."
                ) from error
        study.tell(what, self._values())
        print(f"{len(study)} architectures, the best: ", end="")
        done = study.top(1)
        print(_line(done[0]) if done else "none has a value")
        return 0

    def _values(self) -> Any:
        if len(self.values) == 1 and "=" not in self.values[0]:
            try:
                return float(self.values[0])
            except ValueError as error:
                raise UserError(f"{self.values[0]!r} is no number.") from error
        return parse_options(self.values)


@dataclass(frozen=True)
class Best:
    """Prints the best architectures, the front of several objectives, and what matters."""

    file: Annotated[Path, tyro.conf.Positional]
    """The study."""
    k: int = 5
    """How many."""
    front: bool = False
    """Only those that no other dominates."""
    importance: bool = False
    """How much each decision matters, too."""
    json: bool = False
    """Print JSON lines."""
    RANGES: ClassVar = {"k": COUNT}

    def run(self) -> int:
        """Prints them."""
        study = Handle.load(self.file)
        chosen = study.front if self.front else study.top(self.k)
        if self.json:
            for trial in chosen:
                _show(trial, True)
        else:
            names = [objective.name for objective in study.objectives]
            table = headed(None, ("trial", *names, "architecture"))
            for trial in chosen:
                values = trial.values or {}
                numbers = [f"{values[name]:.6g}" for name in names]
                table.add_row(str(trial.id), *numbers, _words(trial))
            console().print(table)
        if self.importance:
            table = headed("Importance", ("decision", "share"), right=True)
            for name, share in study.importance().items():
                table.add_row(name, f"{share:.3f}")
            console().print(table)
        return 0


def _words(trial: Trial) -> str:
    return json.dumps(trial.architecture)


def _line(trial: Trial) -> str:
    values = ", ".join(f"{n} {v:.6g}" for n, v in (trial.values or {}).items())
    return f"{trial.id}: {values}: {_words(trial)}"


def _show(trial: Trial, as_json: bool) -> None:
    if as_json:
        parts = {"id": trial.id, "architecture": trial.architecture}
        print(json.dumps({**parts, **({"values": trial.values} if trial.values else {})}))
    else:
        print(f"{trial.id}: {_words(trial)}")


@dataclass(frozen=True)
class Study:
    """Asks a method for architectures and tells it their values, one command at a time."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[New, tyro.conf.subcommand("new")]
        | Annotated[Ask, tyro.conf.subcommand("ask")]
        | Annotated[Tell, tyro.conf.subcommand("tell")]
        | Annotated[Best, tyro.conf.subcommand("best")]
    ]

    def run(self) -> int:
        """Runs the sub-command."""
        return self.command.run()
