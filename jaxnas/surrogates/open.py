"""Opens a model file as an oracle, refusing what does not fit the space."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from jaxnas import registry
from jaxnas.core.errors import UserError
from jaxnas.core.space import Featured, SearchSpace
from jaxnas.core.types import Objective
from jaxnas.data.formats import xgboost_model as xm
from jaxnas.surrogates import file as surrogate_file
from jaxnas.surrogates.features import Numeric, make_encoder
from jaxnas.surrogates.oracle import Surrogate, Trees

ANALOG_RESNET = {
    item.name: item
    for item in (
        Objective("1_day_accuracy", "fraction", True, "accuracy one day after programming"),
        Objective("1_day_accuracy_std", "fraction", False, "its spread over noise draws"),
        Objective("AVM", "% points", False, "accuracy lost between a second and a month"),
    )
}
"""What the models published for the analog-resnet space predict, by name."""
FIRST_CATEGORY = {"convblock1": 1.0}
"""Value that categorical columns of those models count from, where it is not 0.

A model stores codes and no categories. Theirs come from the whole table, where the first
group is never absent, so that its type A is 0 and everywhere else it is 1.
"""


def surrogate(
    model: str,
    space: SearchSpace | None = None,
    objective: str | Sequence[str] = "",
    truth: str = "",
) -> Surrogate:
    """A fitted model: an ensemble of 'jaxnas surrogate fit', or XGBoost's trees.

    Args:
        model: the file; an XGBoost model needs a space with numeric features, which it is
            given in the space's order.
        space: what is scored; the model's own when None.
        objective: which predictions are objectives, all when empty; for an XGBoost model,
            which does not say, the name of what it predicts.
        truth: name of an oracle that knows the true values of these objectives.

    Raises:
        UserError: no such file, no model, one of another space or version, features that do
            not fit, an unknown objective, or a truth that does not know it.
    """
    path = str(Path(model).absolute())
    content = surrogate_file.content_of(path)
    checksum = hashlib.sha256(content).hexdigest()
    if content[:2] == b"PK":
        made = _from_ensemble(path, content, checksum, space)
        chosen = made.select(objective) if objective else made
    else:
        chosen = _from_trees(path, content, checksum, space, objective)
    if not truth:
        return chosen
    names = tuple(item.name for item in chosen.objectives)
    table = registry.make_oracle(truth, space=chosen.space, objective=",".join(names))
    return dataclasses.replace(chosen, table=table)


def _from_ensemble(
    path: str, content: bytes, checksum: str, space: SearchSpace | None
) -> Surrogate:
    header = surrogate_file.parse(content, path).header
    space = space_of(header, path) if space is None else space
    if space.id != header.space:
        raise UserError(
            f"The model {path} was fitted on architectures of {header.space!r}, not of "
            f"{space.id!r}."
        )
    encoder = make_encoder(header.encoder.rpartition("-v")[0], space)
    if encoder.id != header.encoder or encoder.names != header.features:
        raise UserError(
            f"The model {path} asks for {len(header.features)} features of "
            f"{header.encoder!r} and this space has {len(encoder.names)} of "
            f"{encoder.id!r}; use the space it was fitted on, or fit it again."
        )
    return Surrogate(
        encoder, header.config, header.objectives, source=path, checksum=checksum
    )


def _from_trees(
    path: str,
    content: bytes,
    checksum: str,
    space: SearchSpace | None,
    objective: str | Sequence[str],
) -> Surrogate:
    model = xm.parse(content, path)
    if space is None:
        raise UserError(
            f"The XGBoost model {path} does not say which space it scores; name one with "
            "numeric features, such as analog-resnet."
        )
    names = cast(Featured, space).feature_names if isinstance(space, Featured) else ()
    if model.num_feature != len(names) or model.feature_names not in ((), names):
        named = f" ({', '.join(model.feature_names)})" if model.feature_names else ""
        raise UserError(
            f"The XGBoost model {path} asks for {model.num_feature} features{named} and "
            f"the space {space.id!r} has {len(names)} numeric ones"
            + (f" ({', '.join(names)})." if names else ".")
        )
    kinds = zip(model.feature_types, names, strict=False)
    start = tuple(FIRST_CATEGORY.get(n, 0.0) if kind == "c" else 0.0 for kind, n in kinds)
    name = objective if isinstance(objective, str) else ",".join(objective)
    known = ANALOG_RESNET.get(name)
    item = known or Objective(
        name or "prediction", "unit of the labels", True, Path(path).name
    )
    encoder = Numeric(space, start if any(start) else ())
    return Surrogate(encoder, Trees(), (item,), source=path, checksum=checksum)


def space_of(header: surrogate_file.Header, path: str) -> SearchSpace:
    """Returns the space of the fit, made by name; UserError where that cannot be."""
    made = None
    if header.recipe is not None:
        name, options = header.recipe
        made = registry.make_space(name, **options)
    if made is None or made.id != header.space:
        raise UserError(
            f"The model {path} scores architectures of {header.space!r}; name that space."
        )
    return made
