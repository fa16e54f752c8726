"""A fitted model as an oracle: our ensembles, and XGBoost's trees over numeric features.

What a search sees is a prediction. Where the true values are known (``truth``), curves
show the true value of what the surrogate recommends, never the prediction itself.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core import oracle as kinds
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Oracle, capability, required
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Objective
from jaxnas.oracles.metrics import Tokens, choose, measured, members_of, summarise
from jaxnas.surrogates import file as surrogate_file
from jaxnas.surrogates import trees
from jaxnas.surrogates.ensemble import Ensemble, EnsembleParams, Prediction, predict
from jaxnas.surrogates.features import Encoder
from jaxnas.surrogates.trees import TreeParams

CHUNK = 1024
"""Rows of one prediction when the whole space is listed."""
PREDICTION = "predicted by a surrogate and not measured"
"""What the meaning of every metric begins with where no truth is known."""


@dataclass(frozen=True)
class Trees:
    """Stands for an XGBoost model: one output, no spread, flags nothing."""


class SurrogateParams(NamedTuple):
    """What is traced: the model, and the true values where they are known."""

    model: EnsembleParams | TreeParams
    truth: PyTree = None


@dataclass(frozen=True)
class Surrogate:
    """Scores architectures by a fitted model; holds no arrays.

    From a file use :func:`jaxnas.surrogates.open.surrogate`. For a model fitted in
    memory give ``encoder``, ``config`` and ``metrics`` and hand ``SurrogateParams`` to
    every call, one for each lane of a ``vmap`` if need be; :meth:`params` then refuses.

    Args:
        encoder: what the model sees of an architecture.
        config: static part of the model.
        metrics: everything that it predicts, in order.
        chosen: which of them are the objectives; all when empty.
        table: an oracle that knows the true values of the objectives.
        source: the model file; empty in memory.
        checksum: SHA-256 of that file, checked whenever it is read.
        remarks: further facts for :meth:`info`, name and text.

    Raises:
        UserError: a truth on another space, or one that does not know its own values.
    """

    encoder: Encoder
    config: Ensemble | Trees
    metrics: tuple[Objective, ...]
    chosen: tuple[int, ...] = ()
    table: Oracle | None = None
    source: str = ""
    checksum: str = ""
    remarks: tuple[tuple[str, str], ...] = ()
    traced = True

    def __post_init__(self) -> None:
        if self.table is None:
            return
        if capability(self.table, kinds.Truthful) is None or self.table.space != self.space:
            raise UserError(
                f"The oracle {self.table.id!r} does not know the true values of "
                f"{self.space.id!r}; name a table of that space as the truth."
            )

    @property
    def id(self) -> str:
        """Versioned name with the start of the file's checksum."""
        return f"surrogate-v1-{self.checksum[:12] or 'memory'}"

    @property
    def space(self) -> SearchSpace:
        """The space that the features encode."""
        return self.encoder.space

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The chosen metrics, marked as predictions where no table knows the truth."""
        return tuple(self._metrics[place] for place in self._places)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Everything that the model predicts."""
        return tuple(item.name for item in self.metrics)

    def select(self, objective: str | Sequence[str]) -> "Surrogate":
        """Returns the same model with other objectives."""
        names = choose("surrogate", objective, self.metric_names)
        places = tuple(self.metric_names.index(name) for name in names)
        table = self.table
        if table is not None and names != tuple(o.name for o in self.objectives):
            table = required(table, kinds.Selectable).select(names)
        return dataclasses.replace(self, chosen=places, table=table)

    def params(self) -> SurrogateParams:
        """Returns the arrays of the file and of the truth; UserError if in memory."""
        if not self.source:
            raise UserError(
                "This surrogate was fitted in memory; give its SurrogateParams to the call."
            )
        truth = None if self.table is None else self.table.params()
        model = surrogate_file.read_params(self.source, self.checksum)
        return SurrogateParams(model, truth)

    def init(self, key: Key[Array, ""], params: SurrogateParams) -> tuple[()]:
        """Returns nothing: a model remembers nothing about who asks."""
        return ()

    def capability(self, kind: type) -> Any:
        """Returns itself; it has columns only where its truth has them."""
        lacks = kind is kinds.Enumerated and self.table and not capability(self.table, kind)
        return self if isinstance(self, kind) and not lacks else None

    def features(self, tokens: Int[Array, "B L"]) -> Float[Array, "B F"]:
        """Returns what the model sees of each architecture, coded one by one."""
        return jax.vmap(self.encoder)(tokens)

    def predict(self, params: SurrogateParams, tokens: Int[Array, "B L"]) -> Prediction:
        """Returns mean, spreads and extrapolation flag of every metric, chosen or not."""
        return predict_features(self.config, params.model, self.features(tokens))

    def evaluate(
        self,
        key: Key[Array, ""],
        params: SurrogateParams,
        state: tuple[()],
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[tuple[()], Evaluation]:
        """Returns the predictions; an evaluation stands for no time at all."""
        mean = self.predict(params, tokens).mean[:, jnp.asarray(self._places)]
        return state, measured(mean, jnp.zeros(tokens.shape[0], jnp.float32), active)

    def truth(self, params: SurrogateParams, tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the true values where a table knows them, else the predictions."""
        tokens = jnp.asarray(tokens)
        if self.table is None:
            return self.predict(params, tokens).mean[:, jnp.asarray(self._places)]
        return required(self.table, kinds.Truthful).truth(params.truth, tokens)

    def spread(self, params: SurrogateParams, tokens: Tokens) -> Float[Array, "B M"]:
        """Returns how far a label may lie from its prediction, both spreads together."""
        predicted = self.predict(params, jnp.asarray(tokens))
        total = jnp.sqrt(predicted.epistemic**2 + predicted.aleatoric**2)
        return total[:, jnp.asarray(self._places)]

    def columns(self) -> dict[str, np.ndarray]:
        """Returns the truth's columns or predictions; UserError on too large a space."""
        if self.table is not None:
            return required(self.table, kinds.Enumerated).columns()
        mean = predict_rows(self, self.params(), members_of(self.space)).mean
        return {name: np.asarray(mean[:, k]) for k, name in enumerate(self.metric_names)}

    def info(self) -> dict[str, Any]:
        """Returns what the model file says of itself."""
        facts = {
            "id": self.id,
            "space": self.space.id,
            "features": f"{self.encoder.id}, {len(self.encoder.names)} columns",
            "source": self.source or "fitted in memory",
            "version": "1",
            "licence": "that of the labels",
            "citation": "none",
            "checksum": f"sha256 {self.checksum}" if self.checksum else "none: in memory",
            "truth": "none" if self.table is None else self.table.id,
        }
        if self.source and isinstance(self.config, Ensemble):
            content = surrogate_file.content_of(self.source, self.checksum)
            header = surrogate_file.parse(content, self.source).header
            fit = dict(header.training)
            quality = fit.pop("quality", {})
            facts |= {f"fit: {name}": value for name, value in fit.items()}
            facts |= {f"held out: {n}": _in_words(found) for n, found in quality.items()}
        metrics: dict[str, Any] = {
            item.name: {"unit": item.unit, "meaning": item.meaning}
            for item in self._metrics
        }
        if self.source and self.table is None and _listable(self.space):
            metrics = summarise(self.space, self._metrics, self.columns())
        return {**facts, **dict(self.remarks), "metrics": metrics}

    @property
    def _metrics(self) -> tuple[Objective, ...]:
        if self.table is not None:
            return self.metrics
        said = (", ".join(filter(None, (PREDICTION, o.meaning))) for o in self.metrics)
        return tuple(
            dataclasses.replace(o, predicted=True, meaning=meaning)
            for o, meaning in zip(self.metrics, said, strict=True)
        )

    @property
    def _places(self) -> tuple[int, ...]:
        return self.chosen or tuple(range(len(self.metrics)))


def _in_words(found: Mapping[str, Any]) -> str:
    show = lambda e: f"{e['value']:.3f} [{e['low']:.3f}, {e['high']:.3f}]"
    return f"Kendall tau {show(found['kendall'])}, RMSE {show(found['rmse'])}"


def predict_features(
    config: Ensemble | Trees, model: EnsembleParams | TreeParams, x: Float[Array, "B F"]
) -> Prediction:
    """Returns what either kind of model says of rows of features; pure."""
    if isinstance(config, Ensemble):
        return predict(config, cast(EnsembleParams, model), x)
    mean = trees.predict(cast(TreeParams, model), x)[:, None]
    zero = jnp.zeros_like(mean)
    return Prediction(mean, zero, zero, jnp.zeros(x.shape[0], bool))


def predict_rows(
    oracle: Surrogate, params: SurrogateParams, tokens: Int[np.ndarray, "n L"]
) -> Prediction:
    """Returns the predictions for many architectures as numpy arrays; host side."""
    padded = np.zeros((-(-len(tokens) // CHUNK) * CHUNK, tokens.shape[1]), np.int32)
    padded[: len(tokens)] = tokens
    parts = [
        _tell(oracle, params, jnp.asarray(padded[i : i + CHUNK]))
        for i in range(0, len(padded), CHUNK)
    ]
    joined = [np.concatenate(leaf)[: len(tokens)] for leaf in zip(*parts, strict=True)]
    return Prediction(*cast(Any, joined))


_tell = jax.jit(Surrogate.predict, static_argnums=0)
"""The predictions for a chunk; compiled once for each oracle."""


def _listable(space: SearchSpace) -> bool:
    size = tk.count(space)
    return size is not None and size <= tk.ENUMERABLE
