"""``jaxnas surrogate fit | eval``: a model of an oracle, and how far it can be trusted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import tyro
from rich.table import Table

from jaxnas import registry
from jaxnas.cli.common.console import console, headed, pairs
from jaxnas.cli.common.labels import (
    Labels,
    read_csv,
    read_measured,
    read_oracle,
    read_store,
)
from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace

UNKNOWN = "not said by the file: these rows may be among them"
"""What the labels of a model are that does not name them."""
SINGLES = 64
"""Rows that are predicted alone and compared with the batch."""
NAMES = {
    "rmse": "RMSE (unit of the label)",
    "r2": "R2",
    "kendall": "Kendall tau-b",
    "kendall_top_decile": "Kendall tau-b within the true top decile",
    "spearman": "Spearman",
    "coverage_50": "labels inside the 50 % interval",
    "coverage_90": "labels inside the 90 % interval",
    "nll": "negative log likelihood (nats a label)",
    "extrapolating": "fraction flagged as extrapolating",
}
"""What the measures of quality are called in the table."""


@dataclass(frozen=True)
class Fit:
    """Fits an ensemble to some labels and shows how good it is on all others.

    The labels are drawn at random and are what the model cost: each is one query. Example:
    jaxnas surrogate fit --objective analog_1month --labels 500 --features graph --seed 0
    --out surrogate.npz
    """

    oracle: str = "analog-nasbench"
    """What gives the labels; see `jaxnas list`."""
    objective: str | None = None
    """Metric to predict, several with commas; analog_1month, or all of a --csv."""
    space: str | None = None
    """Search space; the oracle's own when not given."""
    csv: Path | None = None
    """Labels from a table of the analog-resnet space instead of an oracle."""
    store: Path | None = None
    """Labels from an evaluation store of `jaxnas search`; needs --space and --objective."""
    measured: str | None = None
    """Labels from measurements that come with jaxnas: digits-resnets."""
    match: str = ""
    """Part of the id of the oracle whose evaluations in the --store are used."""
    labels: int = 500
    """Architectures whose labels are used."""
    features: Literal["auto", "one-hot", "numeric", "graph"] = "auto"
    """What the model sees; auto is numeric where the space has numbers, else graph."""
    seed: int = 0
    """Decides the labelled rows, the first weights and the minibatches."""
    members: int = 5
    """Networks of the ensemble."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    steps: int = 400
    """Minibatch steps of each network."""
    lr: float = 2e-2
    """Adam's first step size."""
    weight_decay: float = 0.3
    """Decoupled weight decay."""
    rank: float = 0.3
    """Weight of the pairwise rank loss beside the squared error's 1."""
    targets: Literal["ranks", "values"] = "ranks"
    """Whether the networks learn normal scores of the labels or the labels themselves."""
    out: Path = Path("surrogate.npz")
    """Where the model goes."""
    overwrite: bool = False
    """Replace a model that is there."""
    json: bool = False
    """Print JSON instead of a table."""
    RANGES: ClassVar = {
        "lr": "(0, 1]", "weight_decay": "[0, 10]", "rank": "[0, inf)",
        "members": "[2, 2147483647]",
    }  # fmt: skip

    def run(self) -> int:
        """Fits, evaluates on what was not used, saves and prints."""
        if self.out.exists() and not self.overwrite:
            raise UserError(
                f"The file {self.out} exists; choose another --out or add --overwrite."
            )
        if not self.out.parent.is_dir():
            raise UserError(f"The folder {self.out.parent} of --out does not exist.")
        space = None if self.space is None else registry.make_space(self.space)
        _one_source(self)
        return self._fit(_read(self, space, self.objective, self.labels))

    def _fit(self, data: Labels) -> int:
        from jaxnas.surrogates import ensemble as en
        from jaxnas.surrogates import fit as sf
        from jaxnas.surrogates.features import make_encoder

        train, held = data.split(self.seed, self.labels)
        kind = self.features
        kind = sf.auto_features(data.space) if kind == "auto" else kind
        encoder = make_encoder(kind, data.space)
        config = en.Ensemble(self.members, self.hidden, self.steps, labels=self.targets)
        sizes = {"lr": self.lr, "weight_decay": self.weight_decay, "rank": self.rank}
        hparams = en.EnsembleHparams(**sizes)
        rows = sf.Rows(train.tokens, train.values, data.objectives)
        fitted = sf.fit_surrogate(encoder, rows, config, hparams, self.seed)
        facts = {
            "labels": len(train.tokens),
            "held_out": len(held.tokens),
            "source": data.source,
            "seed": self.seed,
            "features": encoder.id,
            "compile_s": round(fitted.compile_s, 3),
            "fit_s": round(fitted.fit_s, 3),
        }
        quality = assess(fitted.oracle, fitted.params, held)
        sf.keep(self.out, fitted, {**facts, "quality": quality})
        facts["model"] = str(self.out)
        return show(facts, quality, data.notice, self.json)


@dataclass(frozen=True)
class Eval:
    """Shows how good a model is on architectures that it was not fitted on."""

    model: Annotated[str, tyro.conf.Positional]
    """A file of `jaxnas surrogate fit`, or an XGBoost model in JSON."""
    oracle: str = "analog-nasbench"
    """What gives the true labels."""
    csv: Path | None = None
    """True labels from a table of the analog-resnet space instead of an oracle."""
    store: Path | None = None
    """True labels from an evaluation store instead of an oracle."""
    measured: str | None = None
    """True labels from measurements that come with jaxnas: digits-resnets."""
    match: str = ""
    """Part of the id of the oracle whose evaluations in the --store are used."""
    objective: str = ""
    """Which predictions; all of the model's. For XGBoost, the name of what it predicts."""
    space: str | None = None
    """Search space; the model's or the table's own when not given."""
    seed: int = 0
    """Decides which architectures are asked where a space is too large to list."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Loads, evaluates and prints."""
        from jaxnas.surrogates.file import rows_of
        from jaxnas.surrogates.open import surrogate

        _one_source(self)
        space = None if self.space is None else registry.make_space(self.space)
        if self.csv is not None and space is None:
            space = registry.make_space("analog-resnet", variant="csv")
        made = surrogate(self.model, space, self.objective)
        metric = ",".join(item.name for item in made.objectives)
        data = _read(self, made.space, metric, 0)
        seen = rows_of(made.source, made.checksum)
        held = data if seen is None else data.without(seen)
        facts = {
            "model": self.model,
            "id": made.id,
            "labels": UNKNOWN if seen is None else len(seen),
            "rows" if seen is None else "held_out": len(held.tokens),
            "source": data.source,
            "features": made.encoder.id,
        }
        quality = assess(made, made.params(), held)
        return show(facts, quality, data.notice, self.json)


@dataclass(frozen=True)
class Surrogate:
    """Fits a model to labels of an oracle, or shows how good a model is."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Fit, tyro.conf.subcommand("fit")]
        | Annotated[Eval, tyro.conf.subcommand("eval")]
    ]

    def run(self) -> int:
        """Runs the sub-command."""
        return self.command.run()


def _one_source(asked: "Fit | Eval") -> None:
    """Refuses labels from two places with a UserError."""
    if sum(x is not None for x in (asked.csv, asked.store, asked.measured)) > 1:
        raise UserError(
            "Labels come from a --csv, from a --store or from --measured networks; name "
            "one of them."
        )


def _read(
    asked: "Fit | Eval", space: SearchSpace | None, metric: str | None, labels: int
) -> Labels:
    """Returns the labels from the one place that is named, else from the oracle."""
    if asked.csv is not None:
        return read_csv(asked.csv, space, metric)
    if asked.store is not None:
        return read_store(asked.store, space, metric, asked.match)
    if asked.measured is not None:
        return read_measured(asked.measured, space, metric)
    return read_oracle(asked.oracle, space, metric or "analog_1month", asked.seed, labels)


def assess(oracle: Any, params: Any, held: Labels) -> dict[str, dict[str, Any]]:
    """Returns the quality of every objective on held-out rows, JSON-able."""
    import jax

    from jaxnas.surrogates import quality as q
    from jaxnas.surrogates.oracle import predict_rows

    held.check()
    predicted = predict_rows(oracle, params, held.tokens)
    mean = np.asarray(predicted.mean, np.float64)
    spread = np.hypot(predicted.epistemic, predicted.aleatoric).astype(np.float64)
    alone, few = jax.jit(oracle.predict), held.tokens[:SINGLES]
    singles = [np.asarray(alone(params, row[None]).mean)[0] for row in few]
    apart = np.abs(np.stack(singles) - mean[: len(few)]).max(axis=0)
    names = [item.name for item in oracle.metrics]
    found = {}
    for place, item in enumerate(oracle.objectives):
        k = names.index(item.name)
        outside = np.asarray(predicted.extrapolates)
        rows = q.Scored(held.values[:, place], mean[:, k], spread[:, k], outside)
        measures = q.quality(rows, item.maximise)
        found[item.name] = {
            "unit": item.unit,
            **{name: estimate._asdict() for name, estimate in measures.items()},
            "distinct_predictions": q.num_distinct(rows),
            "single_row_against_batch": float(apart[k]),
        }
    return found


def show(
    facts: dict[str, Any], quality: dict[str, dict[str, Any]], notice: str, as_json: bool
) -> int:
    """Prints facts and quality, as JSON (NaN as null) or as tables."""
    if as_json:
        known = {**facts, "notice": notice, "quality": quality}
        print(json.dumps(_finite(known), indent=1))
        return 0
    out = console()
    if notice:
        out.print(f"Notice: {notice}")
    text = lambda value: f"{value:,}" if isinstance(value, int) else str(value)
    out.print(pairs({name: text(value) for name, value in facts.items()}))
    for objective, measures in quality.items():
        known = facts["labels"] != UNKNOWN
        about = "held-out rows only" if known else "rows it may have been fitted on"
        out.print(_table(f"{objective} ({measures['unit']}), {about}", measures))
    return 0


def _table(title: str, measures: dict[str, Any]) -> Table:
    table = headed(title, ("measure", "value", "95 % interval"))
    for name, label in NAMES.items():
        one, row = measures[name], ("none", "")
        if np.isfinite(one["value"]):
            row = f"{one['value']:.4g}", f"{one['low']:.4g} to {one['high']:.4g}"
        table.add_row(label, *row)
    table.add_row("distinct predictions", f"{measures['distinct_predictions']:,}", "")
    apart = measures["single_row_against_batch"]
    table.add_row("largest single-row difference from the batch", f"{apart:.1e}", "")
    return table


def _finite(value: Any) -> Any:
    """Returns a JSON value with null for what is not a finite number."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
