"""``jaxnas export``: a network as files for others, each compared before it counts."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxnas.core.errors import UserError
from jaxnas.run.devices import configure_host


@dataclass(frozen=True)
class Export:
    """Writes a network as spec, torch, onnx, stablehlo, safetensors or aihwkit files.

    Each format is written to its own folder, read back in another process and compared with
    the network on 32 fixed images; one that fails leaves nothing, and the others stay.
    Weights are those of a validation of the run where there is one; else the network is
    trained first, or has initial weights with --untrained.
    Example: jaxnas export best --run runs/digits --to spec,torch,onnx
    """

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")]
    """best, of --run; tokens such as 2,2,0,4,2,1, of --space; or a folder with spec.json
    and weights.npz."""
    to: str = "spec"
    """Formats with commas: spec, torch, onnx, stablehlo, safetensors, aihwkit; or all."""
    run_dir: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Run directory; the newest one in runs when not given."""
    rank: int = 1
    """Which of the best architectures."""
    space: str = "nb201"
    """Space of the tokens."""
    out: Path | None = None
    """Where the folders go; exports/NAME when not given."""
    untrained: bool = False
    """Initial weights instead of a training."""
    data: str | None = None
    """Image or text task to train on; what the search trained on, or digits."""
    size: str | None = None
    """Sizes that were not searched; those of the search, or channels:8,cells:1. With
    --untrained those of the space."""
    epochs: int = 20
    """Of training."""
    seed: int = 0
    """Of training or initial weights."""
    python: str = sys.executable
    """Interpreter with torch, onnx and aihwkit."""
    overwrite: bool = False
    """Replace formats that are there."""
    json: bool = False
    """Print the outcomes as JSON lines."""

    def run(self) -> int:
        """Exports; the exit code is 1 or 2 where a format failed."""
        configure_host(1)
        from jaxnas.handoff.export import check_request, export
        from jaxnas.handoff.formats import FORMATS

        kinds = list(FORMATS) if self.to == "all" else self.to.split(",")
        find, name = self._source(kinds)
        out = self.out or Path("exports") / name
        check_request(out, kinds, self.overwrite)
        candidate = find()
        said = {"event": "network", "weights": candidate.state, **candidate.facts}
        self._tell(said, _line(candidate))
        how: dict[str, Any] = {"python": self.python, "overwrite": self.overwrite}
        made = export(candidate, out, kinds, callback=self._progress, **how)
        return min((one.error.exit_code for one in made if one.error), default=0)

    def _progress(self, event: dict[str, Any]) -> None:
        from jaxnas.handoff.formats import TOLERANCE

        if event["event"] != "done":
            return
        made = event["outcome"]
        found = {"format": made.kind, "folder": str(made.folder)}
        if made.error is not None:
            record = {"event": "failed", **found, "error": str(made.error)}
            self._tell(record, f"{made.kind}: not exported")
            print(f"jaxnas: {made.error}", file=sys.stderr, flush=True)
            return
        self._tell(
            {"event": "exported", **found, "difference": made.difference},
            f"{made.kind}: {made.folder}, read back, logits differ by "
            f"{made.difference:.1e} (at most {TOLERANCE:g})",
        )

    def _tell(self, event: dict[str, Any], text: str) -> None:
        print(json.dumps(event) if self.json else text, flush=True)

    def _source(self, kinds: list[str]) -> tuple[Any, str]:
        """Returns what gives the network, and a name for its folder."""
        from jaxnas.handoff import source as es

        folder = Path(self.what)
        if self.what == "best":
            return self._best(kinds)
        if es.is_network(folder):
            return (lambda: es.from_folder(folder)), folder.resolve().name
        parts = self.what.split(",")
        if not all(part.strip().isdecimal() for part in parts):
            raise UserError(
                f"{self.what!r} is neither 'best', nor tokens such as 2,2,0,4,2,1, nor a "
                "folder with spec.json and weights.npz."
            )
        from jaxnas import registry

        space = registry.make_space(self.space)
        tokens = np.array([int(part) for part in parts], np.int64)
        _check_tokens(space, tokens)
        tokens = tokens.astype(np.int32)
        _check_convertible(space, tokens, kinds)
        name = f"{self.space}-{'-'.join(map(str, tokens))}"
        if self.untrained:
            return (lambda: self._initial(space, tokens, {})), name
        options = {"data": "digits", "size": "channels:8,cells:1"}
        given = {"data": self.data, "size": self.size}
        options |= {k: v for k, v in given.items() if v is not None}
        oracle = registry.make_oracle(
            "child", space=space, epochs=self.epochs, seed=self.seed, **options
        )
        return (lambda: es.trained(oracle, tokens)), name  # pyright: ignore[reportArgumentType]

    def _best(self, kinds: list[str]) -> tuple[Any, str]:
        """Returns what gives the best network of a run, and a name for its folder."""
        from jaxnas.cli.validate import one_study, training_oracle
        from jaxnas.core import tokens as tk
        from jaxnas.handoff import source as es
        from jaxnas.report.read.architectures import top_found
        from jaxnas.report.say.validation_section import FOLDER

        if self.rank < 1:
            raise UserError(f"The best has rank 1, got --rank {self.rank}.")
        run_dir = self.run_dir or _newest(Path("runs"))
        study = one_study(run_dir)
        best = top_found(study, self.rank)
        if len(best) < self.rank:
            raise UserError(
                f"{run_dir} has found {len(best)} architectures; there is no rank "
                f"{self.rank}."
            )
        item, space = best[-1], study.task.space
        tokens = np.asarray(item.tokens, np.int32)
        if space is None:
            raise UserError(f"{run_dir} searched a space that is not installed here.")
        _check_convertible(space, tokens, kinds)
        facts = {
            "run": str(run_dir),
            "rank": self.rank,
            "searched": {study.task.objective.name: float(item.value)},
            "recorded": {"by": study.task.oracle, "metrics": dict(item.metrics)},
        }
        digest = tk.digest_host(space, tokens)[:16]
        folder = study.runs[0].path.parent / FOLDER / digest
        name = f"{Path(run_dir).resolve().name}-{self.rank}"
        with_facts = lambda found: found._replace(facts={**facts, **found.facts})
        if self.untrained:
            return (lambda: with_facts(self._initial(space, tokens, facts))), name
        if (
            (self.data, self.size) == (None, None)
            and es.is_network(folder)
            and _finished(folder)
        ):
            return (lambda: with_facts(es.from_folder(folder))), name
        oracle = training_oracle(study, self.data, self.size, self.epochs, self.seed)
        return (lambda: with_facts(es.trained(oracle, tokens))), name

    def _initial(self, space: Any, tokens: np.ndarray, facts: dict[str, Any]) -> Any:
        from jaxnas.data.tasks import load_task
        from jaxnas.handoff.source import initial
        from jaxnas.oracles.child import parse_size

        data = test = None
        if self.data is not None:
            data = load_task(self.data)
            test = {"x_test": data.x_test, "y_test": data.y_test}
        made = initial(space, tokens, self.seed, parse_size(self.size or ""), data)
        return made._replace(test=test)


def _check_convertible(space: Any, tokens: np.ndarray, kinds: list[str]) -> None:
    """Raises a UserError where a format cannot take a network, before it is trained."""
    from jaxnas.analog.convertible import TARGETS, check_spec

    for kind in (kind for kind in kinds if kind in TARGETS):
        check_spec(space.to_spec(tokens), kind)


def _check_tokens(space: Any, tokens: np.ndarray) -> None:
    """Raises a UserError where tokens are no architecture of a space."""
    import jax.numpy as jnp

    from jaxnas.core import tokens as tk

    given = ",".join(map(str, tokens))
    if len(tokens) != space.length or tokens.max() >= space.vocab:
        raise UserError(
            f"An architecture of {space.id!r} has {space.length} tokens from 0 to "
            f"{space.vocab - 1}, not {given}."
        )
    if not tk.is_valid(space, jnp.asarray(tokens, jnp.int32)):
        raise UserError(
            f"The tokens {given} are no architecture of {space.id!r}: one is not allowed "
            "after those before it; see 'jaxnas info'."
        )


def _newest(root: Path) -> Path:
    """Returns the search directory whose results are newest."""
    results = [*root.glob("*/results.npz"), *root.glob("*/*/results.npz")]
    if not results:
        raise UserError(
            f"{root} holds no finished search; name one with --run, or run 'jaxnas search'."
        )
    run = max(results, key=lambda path: path.stat().st_mtime).parent
    return run if run.parent == root else run.parent


def _finished(folder: Path) -> bool:
    """Returns whether a candidate's training came to its end."""
    return (folder / "key.txt").is_file() and (folder / "training.json").is_file()


def _line(candidate: Any) -> str:
    """Returns what a person must know of the network before it is exported."""
    from jaxnas.handoff.source import INITIAL, TRAINED

    tokens = candidate.facts.get("tokens")
    name = f"tokens {','.join(map(str, tokens))}" if tokens else "the network"
    if candidate.state == INITIAL:
        return (
            f"{name}: INITIAL WEIGHTS, nothing was trained; accuracies in the manifest, "
            "where there are any, are recorded ones of the architecture."
        )
    if candidate.state == TRAINED and candidate.tuned is not None:
        return f"{name}: trained weights; for aihwkit those after hardware-aware training"
    if candidate.state == TRAINED:
        return f"{name}: trained weights"
    return f"{name}: weights of unknown origin"
