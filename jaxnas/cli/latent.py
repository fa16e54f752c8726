"""``jaxnas latent``: train, sweep, look into and import learned latent spaces."""

import csv
import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import numpy as np
import tyro

from jaxnas import registry
from jaxnas.cli.options import parse_axis
from jaxnas.cli.progress import Reporter
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.run.devices import configure_host

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
    """What scores the labelled ones and judges smoothness; see `jaxnas list`."""
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


@dataclass(frozen=True)
class Train:
    """Trains a supervised VQ-VAE and says what it is worth on held-out architectures.

    Writes the model, metrics.json, curves.csv and two figures; under a minute with the
    defaults.
    """

    data: Annotated[Data, tyro.conf.arg(name="")] = field(default_factory=Data)
    mode: Literal["instance", "label"] = "instance"
    """Nearest codes, or the ancestor's: the code is the bin of the score."""
    codes: int | None = None
    """Codes in the codebook; 10, and 14 in label mode."""
    positions: int = 0
    """Codes of an architecture; 0 for one a token."""
    dims: int | None = None
    """Numbers of a code; 3, and 8 in label mode."""
    hidden: int = 128
    """Units of the first hidden layer."""
    layers: int = 1
    """Further hidden layers."""
    shrink: int = 1
    """How many times narrower each further layer is; the ancestor's halve."""
    codebook: Literal["ema", "gradient"] = "ema"
    """Codes as moving averages, or trained by their gradient."""
    steps: int = 1600
    """Gradient steps; a multiple of 40."""
    batch: int = 128
    """Architectures a step."""
    set: tuple[str, ...] = ()
    """Settings such as lr=0.003 commitment=1 divergence=0.25 dropout=0.1 score=0.3."""
    projection: Literal["pca", "tsne", "umap"] = "pca"
    """How the figure gets two dimensions; t-SNE and UMAP need the extra `plots`."""
    out: Path | None = None
    """A directory, or a .npz file; runs/latent/ORACLE-OBJECTIVE when not given."""

    def run(self) -> int:
        """Trains, measures and writes."""
        configure_host(1)
        import jax

        from jaxnas.latent import files, quality
        from jaxnas.latent.fit import Plan

        made = self.data.make()
        model, labels, bins = self._model(made)
        hparams = parse_hparams(self.set)
        plan = Plan(steps=self.steps, batch=self.batch)
        where = _Place.of(self.out, self.data)
        tokens = made.train if bins is None else made.labelled
        say = self.data.reporter.say
        say(
            f"latent: {len(tokens):,} architectures to learn from, {self.data.labels:,} "
            f"of them labelled with {self.data.objective}, {len(made.heldout):,} held out"
        )
        fitted, seconds = _fit(model, self.data.seed, tokens, labels, hparams, plan, bins)
        say(
            f"latent: compile time {seconds[0]:.1f} s, {plan.steps:,} steps in "
            f"{seconds[1]:.1f} s"
        )
        found = jax.device_get(_assess(model, fitted.params, self.data.seed, made))
        curves = jax.device_get(fitted.curves)
        metrics = {n: float(v) for n, v in found._asdict().items()}
        facts = {
            "oracle": self.data.oracle,
            "objective": self.data.objective,
            "samples": len(tokens),
            "labels": self.data.labels,
            "heldout": len(made.heldout),
            "seed": self.data.seed,
            "hparams": {n: v for n, v in hparams._asdict().items()},
            "plan": dataclasses.asdict(plan),
            "fit_s": seconds[1],
            "quality": metrics,
        }
        files.save(where.model, model, fitted.params, curves, facts)
        _write_json(where.metrics, {"model": files.describe(model), **facts})
        _write_curves(where.curves, curves, plan.steps)
        say("latent: drawing")
        drawn = _draw(model, fitted.params, made, curves, plan.steps, self)
        figures = where.figures(drawn)
        counts = {"codes": model.codes, "labels": self.data.labels}
        _print_quality(metrics, {**counts, "heldout": len(made.heldout)})
        quality.warn_if_collapsed(model, found)
        print(f"latent: {where.model}, {where.metrics}, {where.curves}")
        print(f"figures: {', '.join(map(str, figures))}")
        return 0

    def _model(self, made: Made) -> tuple[Any, Any, np.ndarray | None]:
        """Returns the configuration, the labels, and the bins of label mode."""
        from jaxnas.latent import labels
        from jaxnas.latent.vqvae import VQVAE

        in_bins = self.mode == "label"
        codes = self.codes or (14 if in_bins else 10)
        model = VQVAE(
            made.oracle.space,
            mode=self.mode,
            codes=codes,
            positions=self.positions,
            dims=self.dims or (8 if in_bins else 3),
            hidden=self.hidden,
            layers=self.layers,
            shrink=self.shrink,
            ema=self.codebook == "ema",
        )
        bins = None
        if in_bins:
            edges = labels.quantile_edges(made.scores, codes)
            bins = labels.bin_scores(made.scores, codes, edges)
        return model, labels.make_labels(made.labelled, made.scores), bins


@dataclass(frozen=True)
class Sweep:
    """Searches the nine hyperparameters, ranked by held-out reconstruction and smoothness.

    Numeric axes (lr, weight_decay, commitment, divergence, dropout) are vmapped; batch,
    embed_dim, hidden and layers compile once a combination. Writes sweep.json, sweep.csv
    and the parallel coordinates.
    """

    data: Annotated[Data, tyro.conf.arg(name="")] = field(default_factory=Data)
    grid: tuple[str, ...] = ()
    """Axes with other values than the default ones, such as lr=log:1e-3:1e-1:5."""
    trials: int = 32
    """Settings that are tried, drawn from the grid without repeats."""
    seeds: int = 1
    """Fits of each setting; it is ranked by their mean."""
    steps: int = 800
    """Gradient steps of each fit; a multiple of 40."""
    set: tuple[str, ...] = ()
    """Settings that are no axis, such as score=0.3."""
    out: Path | None = None
    """A directory; runs/latent/ORACLE-OBJECTIVE-sweep when not given."""

    def run(self) -> int:
        """Runs all trials, prints the best and writes the figure."""
        configure_host(1)
        import jax
        import jax.numpy as jnp

        from jaxnas.latent import labels, sweep
        from jaxnas.latent.fit import Plan
        from jaxnas.latent.vqvae import VQVAE
        from jaxnas.report import latent_figures

        axes = dict(parse_axis(text) for text in self.grid)
        grid = sweep.check_grid(axes)
        made = self.data.make()
        folder = self.out or _default(self.data).with_name(
            f"{_default(self.data).name}-sweep"
        )
        trials = sweep.sweep(
            VQVAE(made.oracle.space),
            Plan(steps=self.steps),
            jax.random.key(self.data.seed),
            jnp.asarray(made.train),
            labels.make_labels(made.labelled, made.scores),
            jnp.asarray(made.heldout),
            jnp.asarray(made.truth, jnp.float32),
            grid,
            hparams=parse_hparams(self.set),
            trials=self.trials,
            seeds=self.seeds,
            seed=self.data.seed,
            tell=lambda text: self.data.reporter.say(f"sweep {text}"),
        )
        rows = [{**t.setting, **t.quality, "loss": t.loss} for t in trials]
        _make_folder(folder)
        _write_json(folder / "sweep.json", {"best": rows[0], "trials": rows})
        _write_rows(folder / "sweep.csv", rows)
        drawing = latent_figures.draw_sweep(
            [t.setting for t in trials], [t.quality for t in trials]
        )
        figures = latent_figures.write(drawing, folder)
        print("rank  match  smooth  setting")
        for place, trial in enumerate(trials[:8], start=1):
            shown = " ".join(f"{n}={v:g}" for n, v in trial.setting.items())
            got = trial.quality
            print(f"{place:4d} {got['match']:6.3f}  {got['smoothness']:6.3f}  {shown}")
        print(f"sweep: {folder / 'sweep.csv'}, {', '.join(map(str, figures))}")
        return 0


@dataclass(frozen=True)
class InfoOf:
    """Shows what a latent model file holds."""

    file: Annotated[Path, tyro.conf.Positional]
    """What `jaxnas latent train` or `import` wrote."""
    json: bool = False
    """Print it as JSON."""

    def run(self) -> int:
        """Prints the facts."""
        from jaxnas.latent import files

        stored = files.load(self.file)
        facts = {**files.describe(stored.model), **stored.facts}
        facts["encoder"] = stored.params.encoder is not None
        if self.json:
            print(json.dumps(facts))
            return 0
        for name, value in facts.items():
            if isinstance(value, dict):
                value = ", ".join(
                    f"{n} {v:.4g}" if isinstance(v, float) else f"{n} {v}"
                    for n, v in value.items()
                )
            print(f"{name:>12}  {value}")
        return 0


@dataclass(frozen=True)
class Import:
    """Imports the ancestor's decoder and codebook checkpoints; no torch is needed."""

    decoder: Annotated[Path, tyro.conf.Positional]
    """Checkpoint of the decoder."""
    codebook: Annotated[Path, tyro.conf.Positional]
    """Checkpoint of the codebook."""
    out: Path = Path("runs/latent/ancestor.npz")
    """The file that is written."""

    def run(self) -> int:
        """Reads both checkpoints and writes a model file."""
        from jaxnas.latent import ancestor, files

        space = registry.make_space("analog-resnet", variant="csv")
        model, params = ancestor.read(self.decoder, self.codebook, space)
        where = _Place.of(self.out, None).model
        sources = {"decoder": self.decoder.name, "codebook": self.codebook.name}
        files.save(where, model, params, facts={"imported": sources})
        codes = np.asarray(params.codes)
        print(
            f"latent: {model.codes} codes of {model.dims} numbers, standard deviation "
            f"{codes.std():.3f}; it decodes to {space.id} and has no encoder"
        )
        print(f"latent: {where}")
        return 0


@dataclass(frozen=True)
class Latent:
    """Learned latent spaces: architectures as vectors that a controller moves through."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Train, tyro.conf.subcommand("train")]
        | Annotated[Sweep, tyro.conf.subcommand("sweep")]
        | Annotated[InfoOf, tyro.conf.subcommand("info")]
        | Annotated[Import, tyro.conf.subcommand("import")]
    ]

    def run(self) -> int:
        """Runs the chosen command."""
        return self.command.run()


def parse_hparams(pairs: Sequence[str]) -> Any:
    """Returns the default hyperparameters with ``NAME=VALUE`` replaced.

    Raises:
        UserError: an unknown name, or a value that is no number from 0.
    """
    from jaxnas.latent.fit import Hparams

    changes: dict[str, float] = {}
    for pair in pairs:
        name, values = parse_axis(pair)
        if name not in Hparams._fields:
            raise unknown_name("setting of a latent fit:", name, Hparams._fields)
        value = values[0]
        below_one = name in ("dropout", "ema")
        good = len(values) == 1 and isinstance(value, int | float) and value >= 0
        if not good or not np.isfinite(value) or (below_one and value >= 1):
            limit = " below 1" if below_one else ""
            raise UserError(
                f"The setting {name!r} needs one number from 0{limit}: {pair!r}."
            )
        changes[name] = float(value)
    return Hparams()._replace(**changes)


def _scores(oracle: Any, tokens: np.ndarray) -> np.ndarray:
    """Returns the true scores of architectures, or readings where truth is not known."""
    import jax
    import jax.numpy as jnp

    from jaxnas.core.protocols import Truthful

    params, rows = oracle.params(), jnp.asarray(tokens)
    if isinstance(oracle, Truthful):
        return np.asarray(cast(Truthful, oracle).truth(params, rows))[:, 0]
    key = jax.random.key(0)
    size = len(tokens)
    state = oracle.init(key, params)
    zeros, active = jnp.zeros(size, jnp.int32), jnp.ones(size, bool)
    _, found = oracle.evaluate(key, params, state, rows, zeros, active)
    return np.asarray(found.objectives)[:, 0]


def _fit(
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
    arguments = (jax.random.key(seed), jnp.asarray(tokens), labels, hparams, rows)
    begun = time.perf_counter()
    compiled = jax.jit(train).lower(*arguments).compile()
    built = time.perf_counter()
    fitted = jax.block_until_ready(compiled(*arguments))
    return fitted, (built - begun, time.perf_counter() - built)


def _assess(model: Any, params: Any, seed: int, made: Made) -> Any:
    """Returns the held-out quality."""
    import jax
    import jax.numpy as jnp

    from jaxnas.latent.quality import assess

    measure = jax.jit(lambda p, key, x, y: assess(model, p, key, x, y))
    truth = jnp.asarray(made.truth, jnp.float32)
    return measure(params, jax.random.key(seed + 1), jnp.asarray(made.heldout), truth)


def _draw(
    model: Any, params: Any, made: Made, curves: Any, steps: int, asked: Train
) -> list[Any]:
    """Returns the figures of a trained model."""
    import jax
    import jax.numpy as jnp

    from jaxnas.report import latent_figures

    encode = jax.jit(jax.vmap(lambda tokens: model.encode(params, tokens)))
    latents = np.asarray(encode(jnp.asarray(made.heldout)))
    unit = made.oracle.objectives[0].unit
    picture = latent_figures.draw_space(
        latents,
        made.truth,
        np.asarray(model.entries(params)),
        method=asked.projection,
        score_name=asked.data.objective,
        unit=f" {unit}" if unit else "",
        seed=asked.data.seed,
    )
    return [picture, latent_figures.draw_training(curves, steps, model.codes)]


def _print_quality(metrics: dict[str, float], counts: dict[str, int]) -> None:
    """Prints the measurements, one a line."""
    for name, title, text in SHOWN:
        line = text.format(metrics[name], mean=metrics["mean"], **counts)
        print(f"{title:>22}  {line}")


def _default(data: Data) -> Path:
    """Returns the directory of an unnamed run."""
    return Path("runs/latent") / f"{data.oracle}-{data.objective}"


class _Place(NamedTuple):
    """Where the files of a model go."""

    model: Path
    metrics: Path
    curves: Path

    @classmethod
    def of(cls, out: Path | None, data: Data | None) -> "_Place":
        """Returns the files for a directory, or beside a ``.npz`` file."""
        out = out or (_default(data) if data else Path("."))
        if out.suffix == ".npz":
            folder, stem = out.parent, f"{out.stem}-"
            model = out
        else:
            folder, stem, model = out, "", out / "model.npz"
        _make_folder(folder)
        return cls(model, folder / f"{stem}metrics.json", folder / f"{stem}curves.csv")

    def figures(self, drawings: Sequence[Any]) -> list[Path]:
        """Writes figures beside the model and returns their files."""
        from jaxnas.report import latent_figures

        return [
            file
            for drawing in drawings
            for file in latent_figures.write(drawing, self.model.parent)
        ]


def _make_folder(folder: Path) -> None:
    """Makes a folder, or says in one sentence why not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The directory {folder} cannot be made ({error.strerror}); choose another "
            "--out."
        ) from error


def _write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    from jaxnas.run.store import write_json

    write_json(path, value)


def _write_rows(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Writes rows as CSV."""
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_curves(path: Path, curves: dict[str, np.ndarray], steps: int) -> None:
    """Writes the training curves as CSV, one row a record."""
    records = len(next(iter(curves.values())))
    each = steps // records
    rows = [
        {"step": (i + 1) * each, **{n: float(v[i]) for n, v in sorted(curves.items())}}
        for i in range(records)
    ]
    _write_rows(path, rows)
