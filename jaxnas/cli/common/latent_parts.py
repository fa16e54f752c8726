"""What the ``jaxnas latent`` commands share: samples, a timed fit, and files."""

import csv
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas import registry
from jaxnas.cli.common.options import parse_axis
from jaxnas.cli.common.progress import Reporter
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.files import replacing
from jaxnas.core.ranges import check_hparams
from jaxnas.core.rng import root_key

SHOWN = (
    ("match", "exact reconstruction", "{:.4f} of {heldout:,} held-out architectures"),
    ("validity", "validity", "{:.4f} of latents that no encoder wrote"),
    ("live_codes", "codes in use", "{:.0f} of {codes}"),
    ("perplexity", "perplexity", "{:.2f} of {codes}"),
    ("smoothness", "smoothness", "{:.3f} (correlation with latent neighbours' score)"),
    ("token_smoothness", "  by tokens", "{:.3f} (the same, neighbours by tokens)"),
    ("score_r2", "score head", "R2 {:.3f} held out, from {labels:,} labels"),
    ("step_tokens", "one write", "changes {:.2f} tokens"),
    ("idle_steps", "idle writes", "{:.3f}"),
    ("spread", "latent spread", "{:.3f} around {mean:.3f}"),
)


@dataclass(frozen=True)
class Data:
    """Which architectures are learned from, labelled, and held out."""

    oracle: str = "analog-nasbench"
    """What scores the labelled ones and measures smoothness; see `jaxnas list`."""
    objective: str = "analog_1month"
    """Metric that is the label."""
    space: str | None = None
    """Search space; the oracle's own when not given."""
    samples: int = 8192
    """Architectures to learn to reconstruct; their scores are not read."""
    labels: int = 150
    """Those of them whose score is read: each is one query."""
    heldout: int = 2000
    """Architectures that no fit sees, on which everything printed is measured."""
    seed: int = 0
    """Which architectures, and the fit's random numbers."""
    quiet: bool = False
    """Print the result only."""

    @property
    def reporter(self) -> Reporter:
        """How progress is shown."""
        return Reporter("quiet" if self.quiet else "auto")

    def make(self) -> "Made":
        """Returns the samples with their scores.

        Raises:
            UserError: more than one objective, or numbers that do not fit the space.
        """
        from jaxnas.latent.dataset import split

        space = None if self.space is None else registry.make_space(self.space)
        oracle = registry.make_oracle(self.oracle, space=space, objective=self.objective)
        if len(oracle.objectives) != 1:
            raise UserError("A latent space has one label: give a single --objective.")
        if not 1 <= self.labels <= self.samples:
            raise UserError(
                f"Between 1 and --samples={self.samples} of the samples can be labelled, "
                f"not {self.labels}."
            )
        drawn = split(oracle.space, self.samples, self.heldout, self.seed)
        labelled = drawn.train[: self.labels]
        known, truth = _scores(oracle, labelled), _scores(oracle, drawn.heldout)
        return Made(oracle, drawn.train, labelled, known, drawn.heldout, truth)


class Made(NamedTuple):
    """Samples and scores; numpy."""

    oracle: Any
    train: np.ndarray
    labelled: np.ndarray
    scores: np.ndarray
    heldout: np.ndarray
    truth: np.ndarray


def parse_hparams(pairs: Sequence[str]) -> Any:
    """Returns the default hyperparameters with ``NAME=VALUE`` replaced.

    Raises:
        UserError: an unknown name, or a value out of its range.
    """
    from jaxnas.latent.fit import Hparams

    changes: dict[str, float] = {}
    for pair in pairs:
        name, values = parse_axis(pair)
        if name not in Hparams._fields:
            raise unknown_name("setting of a latent fit:", name, Hparams._fields)
        if len(values) != 1 or not isinstance(values[0], int | float):
            raise UserError(f"The setting {name!r} needs one number: {pair!r}.")
        changes[name] = float(values[0])
    check_hparams(Hparams, changes)
    return Hparams()._replace(**changes)


def _scores(oracle: Any, tokens: np.ndarray) -> np.ndarray:
    """Returns the true scores of architectures, or readings where truth is not known."""
    import jax.numpy as jnp

    from jaxnas.core.oracle import Truthful, capability

    params, rows = oracle.params(), jnp.asarray(tokens)
    known = capability(oracle, Truthful)
    if known is not None:
        return np.asarray(known.truth(params, rows))[:, 0]
    key = root_key(0)
    size = len(tokens)
    state = oracle.init(key, params)
    zeros, active = jnp.zeros(size, jnp.int32), jnp.ones(size, bool)
    _, found = oracle.evaluate(key, params, state, rows, zeros, active)
    return np.asarray(found.objectives)[:, 0]


def fit_timed(
    model: Any,
    seed: int,
    tokens: np.ndarray,
    labels: Any,
    hparams: Any,
    plan: Any,
    bins: np.ndarray | None,
) -> tuple[Any, tuple[float, float]]:
    """Returns the fitted model with the seconds to compile and to run."""
    import jax
    import jax.numpy as jnp

    from jaxnas.latent.fit import fit

    rows = None if bins is None else jnp.asarray(bins)
    train = lambda key, x, known, settings, bins: fit(
        model, key, x, known, settings, plan, bins
    )
    arguments = (root_key(seed), jnp.asarray(tokens), labels, hparams, rows)
    begun = time.perf_counter()
    compiled = jax.jit(train).lower(*arguments).compile()
    built = time.perf_counter()
    fitted = jax.block_until_ready(compiled(*arguments))
    return fitted, (built - begun, time.perf_counter() - built)


def measure(model: Any, params: Any, seed: int, made: Made) -> Any:
    """Returns the held-out quality."""
    import jax
    import jax.numpy as jnp

    from jaxnas.latent.quality import assess

    run = jax.jit(lambda p, key, x, y: assess(model, p, key, x, y))
    truth = jnp.asarray(made.truth, jnp.float32)
    return run(params, root_key(seed + 1), jnp.asarray(made.heldout), truth)


def print_quality(metrics: dict[str, float], counts: dict[str, int]) -> None:
    """Prints the measurements, one a line."""
    for name, title, text in SHOWN:
        line = text.format(metrics[name], mean=metrics["mean"], **counts)
        print(f"{title:>22}  {line}")


def default_folder(oracle: str, objective: str) -> Path:
    """Returns the directory of an unnamed latent model."""
    return Path("runs/latent") / f"{oracle}-{objective}"


class Place(NamedTuple):
    """Where the files of a model go."""

    model: Path
    metrics: Path
    curves: Path

    @classmethod
    def of(cls, out: Path | None, data: Data | None) -> "Place":
        """Returns the files for a directory, or beside a ``.npz`` file."""
        out = out or (default_folder(data.oracle, data.objective) if data else Path("."))
        if out.suffix == ".npz":
            folder, stem = out.parent, f"{out.stem}-"
            model = out
        else:
            folder, stem, model = out, "", out / "model.npz"
        make_folder(folder)
        return cls(model, folder / f"{stem}metrics.json", folder / f"{stem}curves.csv")

    def figures(self, drawings: Sequence[Any]) -> list[Path]:
        """Writes figures beside the model and returns their files."""
        from jaxnas.report.say import latent_figures

        return [
            file
            for drawing in drawings
            for file in latent_figures.write(drawing, self.model.parent)
        ]


def make_folder(folder: Path) -> None:
    """Makes a folder, or says in one sentence why not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The directory {folder} cannot be made ({error.strerror}); choose another "
            "--out."
        ) from error


def copy_file(source: Path, target: Path) -> None:
    """Copies a file so that the copy is either whole or not there.

    Raises:
        UserError: it cannot be read or written.
    """
    try:
        with source.open("rb") as given, replacing(target) as file:
            shutil.copyfileobj(given, file)
    except OSError as error:
        raise UserError(
            f"{source} cannot be copied to {target} ({error.strerror}); choose another "
            "--out."
        ) from error


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows as CSV."""
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_curves(path: Path, curves: dict[str, np.ndarray], steps: int) -> None:
    """Writes the training curves as CSV, one row a record."""
    records = len(next(iter(curves.values())))
    each = steps // records
    rows = [
        {"step": (i + 1) * each, **{n: float(v[i]) for n, v in sorted(curves.items())}}
        for i in range(records)
    ]
    write_rows(path, rows)
