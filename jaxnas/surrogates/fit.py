"""Fitting a surrogate to labelled architectures, and keeping it as a file."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxnas import registry
from jaxnas.core.rng import root_key
from jaxnas.core.space import Featured, SearchSpace
from jaxnas.core.types import Objective
from jaxnas.data.formats.npz import content_checksum
from jaxnas.surrogates import ensemble as en
from jaxnas.surrogates.features import Encoder
from jaxnas.surrogates.file import Header, Model, save
from jaxnas.surrogates.oracle import Surrogate, SurrogateParams


class Rows(NamedTuple):
    """Labelled architectures."""

    tokens: Int[np.ndarray, "n L"]
    values: Float[np.ndarray, "n K"]
    """Labels in natural units."""
    objectives: tuple[Objective, ...]


class Fitted(NamedTuple):
    """A surrogate in memory, and what it came from."""

    oracle: Surrogate
    params: SurrogateParams
    rows: Rows
    hparams: en.EnsembleHparams
    compile_s: float
    fit_s: float


def auto_features(space: SearchSpace) -> str:
    """Returns the kind of features that suits a space: its own numbers, else its graph."""
    return "numeric" if isinstance(space, Featured) else "graph"


def fit_surrogate(
    encoder: Encoder,
    rows: Rows,
    config: en.Ensemble | None = None,
    hparams: en.EnsembleHparams | None = None,
    seed: int = 0,
) -> Fitted:
    """Returns an ensemble fitted to every row; UserError on too few or infinite labels."""
    config, hparams = config or en.Ensemble(), hparams or en.EnsembleHparams()
    oracle = Surrogate(encoder, config, rows.objectives)
    x = np.asarray(jax.jit(oracle.features)(jnp.asarray(rows.tokens, jnp.int32)))
    y, weight = rows.values.astype(np.float32), np.ones(len(x), np.float32)
    en.check_rows(x, y, weight)

    def task(key: Any, *data: Any) -> en.EnsembleParams:
        return en.fit(config, key, *data, hparams=hparams)

    arguments = (root_key(seed), x, y, weight)
    begin = time.perf_counter()
    compiled = jax.jit(task).lower(*arguments).compile()
    middle = time.perf_counter()
    params = jax.block_until_ready(compiled(*arguments))
    spent = time.perf_counter() - middle
    return Fitted(oracle, SurrogateParams(params), rows, hparams, middle - begin, spent)


def keep(path: Path, fitted: Fitted, facts: Mapping[str, Any]) -> None:
    """Writes a fitted surrogate whole or not at all; UserError if it cannot be written."""
    oracle, (tokens, values, objectives) = fitted.oracle, fitted.rows
    header = Header(
        space=oracle.space.id,
        encoder=oracle.encoder.id,
        features=oracle.encoder.names,
        objectives=objectives,
        config=cast(en.Ensemble, oracle.config),
        recipe=registry.recipe(oracle.space),
        training={
            **facts,
            "data_checksum": content_checksum({"tokens": tokens, "labels": values}),
            "hparams": {k: float(v) for k, v in fitted.hparams._asdict().items()},
        },
    )
    save(path, Model(header, cast(en.EnsembleParams, fitted.params.model), tokens))
