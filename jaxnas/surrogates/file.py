"""One file for a fitted ensemble: arrays and a JSON header in an npz, nothing executable.

    header          UTF-8 JSON as bytes: what the arrays mean and where they come from
    rows            architectures that it was fitted on, which no held-out measure may count
    kernel0, ...    and every other field of ``EnsembleParams`` under its own name

The header carries a checksum of the arrays, so that a damaged or edited file is refused.
"""

import functools
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxnas.core.errors import UserError
from jaxnas.core.types import Objective
from jaxnas.data.formats import xgboost_model as xm
from jaxnas.data.formats.npz import FileKind
from jaxnas.surrogates import trees
from jaxnas.surrogates.ensemble import GRID, Ensemble, EnsembleParams
from jaxnas.surrogates.trees import TreeParams

KIND = FileKind(
    "surrogate",
    "jaxnas-surrogate-v1",
    "fit it with 'jaxnas surrogate fit', or save an XGBoost model as JSON.",
)


@dataclass(frozen=True)
class Header:
    """What a model file says about its arrays."""

    space: str
    encoder: str
    """Versioned id of the features."""
    features: tuple[str, ...]
    """Their names, ``F`` of them."""
    objectives: tuple[Objective, ...]
    """What is predicted, ``K`` of them."""
    config: Ensemble
    recipe: tuple[str, Mapping[str, Any]] | None = None
    """Registered name and options of the space, where it was made by name."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the fit: rows, source, seed, data checksum, held-out metrics, ..."""


class Model(NamedTuple):
    """The contents of a model file."""

    header: Header
    params: EnsembleParams
    rows: Int[np.ndarray, "N L"]
    """Tokens of the architectures that it was fitted on."""


def save(path: Path, model: Model) -> None:
    """Writes a model whole or not at all; UserError where it cannot be written."""
    header, params, rows = model
    arrays = {"rows": rows.astype(np.int32), **_arrays(params)}
    KIND.write(path, asdict(header), arrays)


def parse(content: bytes, name: str) -> Model:
    """Returns the model in a file's bytes; UserError on damage or another version."""
    facts, arrays = KIND.read(content, name)
    try:
        header = _header(facts)
        return Model(header, _params(header, arrays), arrays["rows"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KIND.damaged(name) from error


def _header(facts: Mapping[str, Any]) -> Header:
    config = dict(facts["config"])
    config["hidden"] = tuple(config["hidden"])
    recipe = facts["recipe"]
    return Header(
        space=str(facts["space"]),
        encoder=str(facts["encoder"]),
        features=tuple(map(str, facts["features"])),
        objectives=tuple(Objective(**item) for item in facts["objectives"]),
        config=Ensemble(**config),
        recipe=None if recipe is None else (str(recipe[0]), dict(recipe[1])),
        training=dict(facts["training"]),
    )


def _arrays(params: EnsembleParams) -> dict[str, np.ndarray]:
    named = params._asdict()
    kernels, biases = named.pop("kernels"), named.pop("biases")
    named |= {f"kernel{i}": kernel for i, kernel in enumerate(kernels)}
    named |= {f"bias{i}": bias for i, bias in enumerate(biases)}
    return {name: np.asarray(array, np.float32) for name, array in named.items()}


def _params(header: Header, arrays: Mapping[str, np.ndarray]) -> EnsembleParams:
    """Returns the ensemble; ValueError on a wrong shape, KeyError on a missing array."""
    config, outputs = header.config, len(header.objectives)
    layers = range(len(config.hidden) + 1)
    plain = set(EnsembleParams._fields) - {"kernels", "biases"}
    params = EnsembleParams(
        kernels=tuple(jnp.asarray(arrays[f"kernel{i}"]) for i in layers),
        biases=tuple(jnp.asarray(arrays[f"bias{i}"]) for i in layers),
        **{name: jnp.asarray(arrays[name]) for name in plain},
    )
    wanted = shapes(config, len(header.features), outputs)
    found = jax.tree.map(lambda leaf: leaf.shape, params)
    if found != wanted:
        raise ValueError(f"shapes {found} instead of {wanted}")
    return params


def shapes(config: Ensemble, features: int, outputs: int) -> EnsembleParams:
    """Returns the shape of every array of an ensemble, in its place."""
    E, F, K = config.members, features, outputs
    sizes = (F, *config.hidden, 2 * K)
    layers: Any = tuple((E, i, o) for i, o in itertools.pairwise(sizes))
    biases: Any = tuple((E, o) for o in sizes[1:])
    wide, out, table = cast(Any, (F,)), cast(Any, (K,)), cast(Any, (len(GRID), K))
    return EnsembleParams(layers, biases, wide, wide, wide, wide, table, out, out)


def content_of(path: str, checksum: str = "") -> bytes:
    """Returns the bytes of a model file, refusing one that is not what it was."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"The model {path} cannot be read: {error.strerror}.") from error
    if checksum and hashlib.sha256(content).hexdigest() != checksum:
        raise UserError(f"The model {path} has changed since it was opened; open it again.")
    return content


@functools.lru_cache(maxsize=32)
def read_params(path: str, checksum: str) -> EnsembleParams | TreeParams:
    """Returns the arrays of a model file, read once."""
    content = content_of(path, checksum)
    if content[:2] == b"PK":
        return parse(content, path).params
    return trees.compile_trees(xm.parse(content, path))


def rows_of(path: str, checksum: str) -> Int[np.ndarray, "N L"] | None:
    """Returns the architectures a model was fitted on; None where the file does not say."""
    content = content_of(path, checksum)
    return parse(content, path).rows if content[:2] == b"PK" else None
