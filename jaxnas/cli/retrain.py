"""``jaxnas retrain``: the best of a search trained in full, beside what people draw."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import tyro
from rich.console import Console

from jaxnas.cli.common import options as opts
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.run.devices import configure_host


@dataclass(frozen=True)
class Retrain:
    """Trains the best architectures in full, several times each, and tests them.

    A VGG-like, a ResNet-like and a hand-made network are trained in the same way on the
    same images. Test accuracy is mean ± 2 standard deviations over the trainings. The same
    command again goes on where it was.
    Example: jaxnas retrain runs/child-val_accuracy --top 2 --runs 5 --epochs 30
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directory of a search, or a file of evaluations, with --space."""
    top: int = 2
    """How many of the best architectures."""
    runs: int = 5
    """Trainings of each network, with seeds --seed, --seed + 1, ..."""
    epochs: int = 30
    """Of each training."""
    train_on: Literal["train+validation", "train"] = "train+validation"
    """Splits that are trained on; the test images are only measured on."""
    set: tuple[str, ...] = ()
    """How to train, such as lr=0.05 batch=32 augment=shift optimiser=adamw; as in the
    search, where it trained, when not given."""
    data: str | None = None
    """Image task; what the search trained on, or digits. See `jaxnas data list`."""
    size: str | None = None
    """Sizes that were not searched; those of the search, or channels:8,cells:1."""
    limit: int | None = None
    """Most images of each split; all when not given, also where the search had a limit."""
    width: int = 16
    """Channels of the first layer of the references."""
    references: bool = True
    """Whether the references are trained as well."""
    seed: int = 0
    """Of the first training."""
    space: str | None = None
    """Space of the architectures in a file of evaluations."""
    metric: str = "val_accuracy"
    """What is best in a file of evaluations."""
    out: Path | None = None
    """Where retrain.json and retrain.csv go; RUN when not given, or beside a file."""
    json: bool = False
    """Print progress and result as JSON lines."""
    RANGES: ClassVar = {}

    def run(self) -> int:
        """Trains, prints the table, and builds the report of a run."""
        configure_host(1)
        from jaxnas.handoff.retrain import Retraining, found, retrain
        from jaxnas.report.say import retrain_section
        from jaxnas.report.say.cells import to_rich

        settings = Retraining(
            self.runs, self.train_on, self.seed, self.references, self.width
        )
        study = None
        if self.source.is_file():
            oracle, tokens, searched = self._stored()
            out = self.out or self.source.with_name(f"{self.source.stem}-retrain")
        else:
            study, oracle, tokens, searched = self._searched()
            out = self.out or study.runs[0].path.parent
        networks = found(oracle, tokens, searched)
        record = retrain(oracle, networks, out, settings, _Teller(self.json))
        html = None if study is None or self.out else _report(study, out)
        if self.json:
            said = {"event": "retrained", "networks": retrain_section.summary(record)}
            print(json.dumps({**said, "out": str(out), "html": html}))
            return 0
        console = Console(width=None if Console().is_terminal else 110)
        console.print(to_rich(retrain_section.table(record)))
        print(f"written: {out / 'retrain.json'} and retrain.csv")
        if html is not None:
            print(f"report: {html}")
        return 0

    def _searched(self) -> tuple[Any, Any, list[np.ndarray], list[dict[str, float]]]:
        """Returns study and oracle of a run, and its best architectures."""
        from jaxnas.cli.validate import one_study, training_oracle
        from jaxnas.report.read.architectures import top_found

        if self.space is not None:
            raise UserError(
                f"{self.source} is no file of evaluations and knows its space; leave "
                "--space out."
            )
        study = one_study(self.source)
        best = top_found(study, self.top)
        _check_top(self.source, len(best), self.top)
        if study.task.space is None:
            raise UserError(f"{self.source} searched a space that is not installed here.")
        settings = {"limit": self.limit, **self._settings()}
        oracle = training_oracle(
            study, self.data, self.size, self.epochs, self.seed, **settings
        )
        name = study.task.objective.name
        searched = [{name: float(item.value)} for item in best]
        return study, oracle, [np.asarray(item.tokens) for item in best], searched

    def _stored(self) -> tuple[Any, list[np.ndarray], list[dict[str, float]]]:
        """Returns how to train, and the best architectures of a file of evaluations."""
        from jaxnas import registry
        from jaxnas.cli.db import check_metrics
        from jaxnas.cli.validate import child_oracle, small_size
        from jaxnas.core import tokens as tk
        from jaxnas.data.store.evaluations import Query, Store

        if self.space is None:
            raise UserError(
                f"{self.source} holds evaluations of any space; name the one to retrain "
                "from, such as --space nb201."
            )
        space = registry.make_space(self.space)
        size = small_size(space) if self.size is None else self.size
        options = {"data": self.data or "digits", "size": size, "limit": self.limit}
        oracle = child_oracle(
            space, {**options, **self._settings()}, self.epochs, self.seed
        )
        up = getattr(oracle.known.get(self.metric), "maximise", True)
        with Store(self.source, write=False) as store:
            check_metrics(store, [self.metric])
            query = Query(order=self.metric, maximise=up, failed=False, fidelity=0)
            best: dict[str, Any] = {}
            for record in store.rows(query):
                row = np.asarray(record.tokens, np.int32)
                fits = len(row) == space.length
                if fits and tk.digest_host(space, row) == record.key.digest:
                    best.setdefault(record.key.digest, record)
        chosen = list(best.values())[: self.top]
        _check_top(self.source, len(chosen), self.top)
        tokens = [np.asarray(record.tokens, np.int32) for record in chosen]
        return oracle, tokens, [{self.metric: r.metrics[self.metric]} for r in chosen]

    def _settings(self) -> dict[str, Any]:
        from jaxnas.cli.validate import TRAINING

        given = opts.parse_options(self.set)
        for name in given:
            if name not in TRAINING:
                raise unknown_name("setting of a training:", name, TRAINING)
        return given


class _Teller:
    """Says which training runs and what it gave."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.begun = time.perf_counter()
        self.trained = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Shows one event."""
        if self.as_json:
            print(json.dumps(event), flush=True)
            return
        where = f"{event['training']} of {event['of']}: {event['network']}"
        if event["event"] == "train":
            self.trained += 1
            elapsed = time.perf_counter() - self.begun
            before = event["training"] - 1
            left = ""
            if self.trained > 1:
                each = elapsed / (self.trained - 1)
                left = f", {each * (event['of'] - before):.0f} s left at most"
            print(f"{where}{left}", flush=True)
            return
        accuracy = event["test_accuracy"]
        said = "diverged" if accuracy is None else f"test accuracy {100 * accuracy:.2f} %"
        print(f"{where}, seed {event['seed']}: {said}", flush=True)


def _check_top(source: Path, there: int, top: int) -> None:
    """Raises where fewer architectures are there than were asked for."""
    if not there:
        raise UserError(f"{source} holds no architecture to retrain.")
    if there < top:
        raise UserError(
            f"{source} holds {there} architectures to retrain and not {top}; use --top "
            f"{there}."
        )


def _report(study: Any, out: Path) -> str:
    """Builds the report of a run anew and returns its page."""
    from jaxnas import report

    paths: Sequence[str] = [str(r.path) for r in study.runs]
    return str(report.build(paths, out).html_path)
