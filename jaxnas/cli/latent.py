"""``jaxnas latent``: train, sweep, look into and import learned latent spaces."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import tyro

from jaxnas import registry
from jaxnas.cli.common import latent_parts as parts
from jaxnas.cli.common.latent_parts import Data, Made, Place
from jaxnas.cli.common.options import parse_axis
from jaxnas.core.ranges import FROM_ZERO
from jaxnas.core.rng import root_key
from jaxnas.run.devices import configure_host
from jaxnas.run.store import write_json


@dataclass(frozen=True)
class Train:
    """Trains a supervised VQ-VAE and reports its quality on held-out architectures.

    Writes the model, metrics.json, curves.csv and two figures; under a minute with the
    defaults.
    """

    data: Annotated[Data, tyro.conf.arg(name="")] = field(default_factory=Data)
    mode: Literal["instance", "label"] = "instance"
    """Nearest codes, or the original's: the code is the bin of the score."""
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
    """How many times narrower each further layer is; the original's halve."""
    codebook: Literal["ema", "gradient"] = "ema"
    """Codes as moving averages, or trained by their gradient."""
    steps: int = 2000
    """Gradient steps; a multiple of 40."""
    batch: int = 128
    """Architectures a step."""
    set: tuple[str, ...] = ()
    """Settings such as lr=0.003 commitment=1 divergence=0.25 dropout=0.1 score=0.3."""
    projection: Literal["pca", "tsne", "umap"] = "pca"
    """How the figure gets two dimensions; t-SNE and UMAP need the extra `plots`."""
    out: Path | None = None
    """A directory, or a .npz file; runs/latent/ORACLE-OBJECTIVE when not given."""

    RANGES: ClassVar = {
        "codes": "[2, 2147483647]", "positions": FROM_ZERO, "layers": FROM_ZERO
    }  # fmt: skip

    def run(self) -> int:
        """Trains, measures and writes."""
        configure_host(1)
        import jax

        from jaxnas.latent import files, quality
        from jaxnas.latent.fit import Plan

        made = self.data.make()
        model, labels, bins = self._model(made)
        hparams = parts.parse_hparams(self.set)
        plan = Plan(steps=self.steps, batch=self.batch)
        where = Place.of(self.out, self.data)
        tokens = made.train if bins is None else made.labelled
        say = self.data.reporter.say
        say(
            f"latent: {len(tokens):,} architectures to learn from, {self.data.labels:,} "
            f"of them labelled with {self.data.objective}, {len(made.heldout):,} held out"
        )
        fitted, seconds = parts.fit_timed(
            model, self.data.seed, tokens, labels, hparams, plan, bins
        )
        say(
            f"latent: compile time {seconds[0]:.1f} s, {plan.steps:,} steps in "
            f"{seconds[1]:.1f} s"
        )
        found = jax.device_get(parts.measure(model, fitted.params, self.data.seed, made))
        curves = jax.device_get(fitted.curves)
        metrics = {n: float(v) for n, v in found._asdict().items()}
        facts = {
            "oracle": self.data.oracle,
            "objective": self.data.objective,
            "samples": len(tokens),
            "labels": self.data.labels,
            "heldout": len(made.heldout),
            "seed": self.data.seed,
            "labelled": made.labelled.tolist(),
            "hparams": hparams._asdict(),
            "plan": dataclasses.asdict(plan),
            "fit_s": seconds[1],
            "quality": metrics,
        }
        files.save(where.model, model, fitted.params, curves, facts)
        write_json(where.metrics, {"model": files.describe(model), **facts})
        parts.write_curves(where.curves, curves, plan.steps)
        say("latent: drawing")
        drawn = _draw(model, fitted.params, made, curves, plan.steps, self)
        figures = where.figures(drawn)
        counts = {"codes": model.codes, "labels": self.data.labels}
        parts.print_quality(metrics, {**counts, "heldout": len(made.heldout)})
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
        import jax.numpy as jnp

        from jaxnas.latent import labels, sweep
        from jaxnas.latent.fit import Plan
        from jaxnas.latent.vqvae import VQVAE
        from jaxnas.report.say import latent_figures

        axes = dict(parse_axis(text) for text in self.grid)
        grid = sweep.check_grid(axes)
        made = self.data.make()
        usual = parts.default_folder(self.data.oracle, self.data.objective)
        folder = self.out or usual.with_name(f"{usual.name}-sweep")
        trials = sweep.sweep(
            VQVAE(made.oracle.space),
            Plan(steps=self.steps),
            root_key(self.data.seed),
            jnp.asarray(made.train),
            labels.make_labels(made.labelled, made.scores),
            jnp.asarray(made.heldout),
            jnp.asarray(made.truth, jnp.float32),
            grid,
            hparams=parts.parse_hparams(self.set),
            trials=self.trials,
            seeds=self.seeds,
            seed=self.data.seed,
            tell=lambda text: self.data.reporter.say(f"sweep {text}"),
        )
        rows = [{**t.setting, **t.quality, "loss": t.loss} for t in trials]
        parts.make_folder(folder)
        write_json(folder / "sweep.json", {"best": rows[0], "trials": rows})
        parts.write_rows(folder / "sweep.csv", rows)
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
    """Imports the VQ-VAE + PPO project's torch checkpoints; needs jaxnas[analog]."""

    decoder: Annotated[Path, tyro.conf.Positional]
    """Checkpoint of the decoder."""
    codebook: Annotated[Path, tyro.conf.Positional]
    """Checkpoint of the codebook."""
    out: Path = Path("runs/latent/imported.npz")
    """The file that is written."""

    def run(self) -> int:
        """Reads both checkpoints and writes a model file."""
        from jaxnas.latent import files, vqvae_checkpoint

        space = registry.make_space("analog-resnet", variant="csv")
        model, params = vqvae_checkpoint.read(self.decoder, self.codebook, space)
        where = Place.of(self.out, None).model
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


def _draw(
    model: Any, params: Any, made: Made, curves: Any, steps: int, asked: Train
) -> list[Any]:
    import jax
    import jax.numpy as jnp

    from jaxnas.report.say import latent_figures

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
