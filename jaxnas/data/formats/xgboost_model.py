"""Boosted trees as XGBoost saves them in JSON, read into plain arrays.

XGBoost itself is not needed. A file is data and never trusted: child pointers are checked
to form one tree, features and categories to be in range, numbers to be finite.

Reference: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.errors import UserError

IDENTITY = (
    "reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
    "reg:linear", "binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map",
)  # fmt: skip
"""Objectives whose prediction is the sum of the leaves and the base score."""
LOGISTIC = ("binary:logistic", "reg:logistic")
"""Objectives whose prediction is the logistic function of that sum."""
EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie")
"""Objectives whose prediction is the exponential of that sum."""
OBJECTIVES = (*IDENTITY, *LOGISTIC, *EXPONENTIAL)
MAX_CATEGORY = 1 << 24
"""XGBoost holds a category as a float32, so codes end here."""
CONVERT = (
    "load it with xgboost 3.0.x (pip install 'xgboost-cpu==3.0.5'; "
    "b = xgboost.Booster(); b.load_model(OLD)) and save it with b.save_model('NEW.json')"
)


class TreeModel(NamedTuple):
    """Boosted trees, all nodes of all trees in one row; children are absolute indices."""

    starts: np.ndarray
    """``int32[T + 1]``: tree ``t`` has nodes ``starts[t] .. starts[t + 1]``, root first."""
    feature: np.ndarray
    """``int32[n]``: the feature that a node asks for; -1 at a leaf."""
    threshold: np.ndarray
    """``float32[n]``: a numeric node sends ``x < threshold`` to the left."""
    left: np.ndarray
    """``int32[n]``; a leaf is its own child."""
    right: np.ndarray
    """``int32[n]``; a leaf is its own child."""
    default_left: np.ndarray
    """``bool[n]``: whether a missing value goes to the left."""
    categorical: np.ndarray
    """``bool[n]``: the node sends the categories listed for it to the right."""
    span: np.ndarray
    """``int32[n, 2]``: where in ``categories`` a node's list begins and ends."""
    categories: np.ndarray
    """``int32[c]``: category codes, ascending within a node."""
    value: np.ndarray
    """``float32[n]``: what a leaf adds; 0 elsewhere."""
    base_score: float
    """Before the inverse of the output transform, as XGBoost stores it."""
    objective: str
    num_feature: int
    feature_names: tuple[str, ...]
    """Empty where the model was fitted on unnamed columns."""
    feature_types: tuple[str, ...]
    """``q``, ``int``, ``float``, ``i`` or ``c`` (categorical); may be empty."""
    version: tuple[int, ...]
    """The version of XGBoost that saved it."""

    @property
    def num_trees(self) -> int:
        """The number of trees."""
        return len(self.starts) - 1


def read(path: str | Path) -> TreeModel:
    """Returns the model in an XGBoost file in JSON, whatever its name.

    All trees count, as in ``Booster.predict``; a ``best_iteration`` is not applied.

    Raises:
        UserError: the file is no such model, is damaged, or is of a kind that
            :mod:`jaxnas.surrogates.trees` cannot evaluate; the text says which and what
            to do.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"The model {path} cannot be read: {error.strerror}.") from error
    return parse(content, path.name)


def parse(content: bytes, name: str) -> TreeModel:
    """Returns the model in a file's bytes, as :func:`read`; errors call it ``name``."""
    document = _document(content, name)
    try:
        learner = document["learner"]
        booster = learner["gradient_booster"]
        kind = str(booster["name"])
        objective = str(learner["objective"]["name"])
        _supported(learner, kind, objective, name)
        model = booster["model"]
        trees = [_tree(tree, name, k) for k, tree in enumerate(model["trees"])]
        facts = learner["learner_model_param"]
        num_feature = int(facts["num_feature"])
        if not trees or not 0 < num_feature < MAX_CATEGORY:
            raise _broken(name, "it holds no trees or no features")
        joined = _join(trees)
        if joined["feature"].max() >= num_feature:
            raise _broken(name, f"a node asks for a feature beyond the {num_feature}")
        columns = (learner.get(f"feature_{of}", ()) for of in ("names", "types"))
        names, types = (tuple(map(str, column)) for column in columns)
        if {len(names), len(types)} - {0, num_feature}:
            raise _broken(name, "names or types of the features do not fit their number")
        version = tuple(int(v) for v in document.get("version", ()))
        base = _base_score(facts["base_score"], objective, name)
    except UserError:
        raise
    except KeyError as error:
        raise _broken(name, f"it has no {error.args[0]!r}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _broken(name, "a value in it has another type than XGBoost writes") from error
    return TreeModel(**joined, base_score=base, objective=objective,
                     num_feature=num_feature, feature_names=names, feature_types=types,
                     version=version)  # fmt: skip


def _broken(name: str, why: str) -> UserError:
    return UserError(
        f"The file {name} is not a usable XGBoost model ({why}); save it again with "
        "Booster.save_model('model.json')."
    )


def _document(content: bytes, name: str) -> dict[str, Any]:
    if _is_old_binary(content):
        raise UserError(
            f"The file {name} is in XGBoost's old binary format, which no current version "
            f"reads; {CONVERT}."
        )
    if content[:1] == b"{" and content[1:2] in (b"i", b"U", b"I", b"l", b"L", b"$", b"#"):
        raise UserError(
            f"The file {name} is in UBJSON; convert it to JSON with xgboost: "
            "b = xgboost.Booster(model_file=OLD); b.save_model('model.json')."
        )
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        looks = content.lstrip()[:1] == b"{"
        what = "is damaged or cut short" if looks else "is not an XGBoost model"
        raise UserError(
            f"The file {name} {what} ({type(error).__name__}); give a model saved with "
            "Booster.save_model('model.json')."
        ) from error
    if not isinstance(document, dict) or "learner" not in document:
        raise UserError(
            f"The file {name} is not an XGBoost model: it has no 'learner'; give a model "
            "saved with Booster.save_model('model.json')."
        )
    return document


def _is_old_binary(content: bytes) -> bool:
    """Returns whether the bytes begin as the format that ended with XGBoost 3.0.

    An optional ``binf``, a parameter block of 136 bytes, a length and an objective's name.
    """
    body = content[4:] if content[:4] == b"binf" else content
    length = int.from_bytes(body[136:144], "little")
    named = b":" in body[144 : 144 + length] and body[144 : 144 + length].isascii()
    return content[:4] in (b"binf", b"bs64") or (0 < length < 64 and named)


def _supported(learner: dict[str, Any], kind: str, objective: str, name: str) -> None:
    if kind != "gbtree":
        raise UserError(
            f"The file {name} holds a {kind!r} booster, and only 'gbtree' is supported; "
            "fit it again with booster='gbtree'."
        )
    if objective not in OBJECTIVES:
        raise UserError(
            f"The file {name} was fitted for the objective {objective!r}, whose output "
            f"transform is unknown here; use one of {', '.join(OBJECTIVES)}."
        )
    facts = learner["learner_model_param"]
    groups = learner["gradient_booster"]["model"].get("tree_info", [0])
    counts = (facts.get("num_class", 0), facts.get("num_target", 1), max(groups) + 1)
    outputs = max(map(int, counts))
    if outputs > 1:
        raise UserError(
            f"The file {name} predicts {outputs} values a row, and only one is supported; "
            "save one model for each."
        )


def _base_score(stored: Any, objective: str, name: str) -> float:
    """Returns the base score, a number before XGBoost 3.1 and a list of one since."""
    values = json.loads(stored) if isinstance(stored, str) else stored
    values = np.atleast_1d(np.asarray(values, np.float32))
    proper = values.shape == (1,) and np.isfinite(values).all()
    if proper and objective in LOGISTIC:
        proper = 0 < values[0] < 1
    if proper and objective in EXPONENTIAL:
        proper = values[0] > 0
    if not proper:
        raise _broken(name, f"its base score is {str(stored)[:40]}")
    return float(values[0])


def _vector(tree: dict[str, Any], key: str, kind: type) -> np.ndarray:
    """Returns one column of a tree; integers must be integers that fit."""
    column = np.asarray(tree[key])
    if column.ndim != 1:
        raise ValueError(f"{key} is not a list of numbers")
    if column.size == 0:
        return np.zeros(0, kind)
    if column.dtype.kind not in "buif":
        raise ValueError(f"{key} is not a list of numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = column.astype(kind)
    if not np.issubdtype(kind, np.floating) and not np.array_equal(converted, column):
        raise ValueError(f"{key} holds a number that does not fit")
    return converted


def _tree(tree: dict[str, Any], name: str, k: int) -> dict[str, np.ndarray]:
    """Returns the columns of one tree, children counted from its own root."""
    left, right = (_vector(tree, f"{s}_children", np.int32) for s in ("left", "right"))
    condition = _vector(tree, "split_conditions", np.float32)
    feature = _vector(tree, "split_indices", np.int32)
    default = _vector(tree, "default_left", np.int32) != 0
    n = len(left)
    kind = _vector(tree, "split_type", np.int32) if "split_type" in tree else 0 * left
    columns = (right, condition, feature, default, kind)
    if n == 0 or any(len(column) != n for column in columns):
        raise _broken(name, f"the columns of tree {k} differ in length")
    if int(tree.get("tree_param", {}).get("size_leaf_vector", 1)) > 1:
        raise UserError(
            f"The file {name} has leaves that hold vectors, which are not supported; fit "
            "it with multi_strategy='one_output_per_tree' and save one model a target."
        )
    leaf = left == -1
    _check_shape(left, right, leaf, name, k)
    own = np.arange(n, dtype=np.int32)
    inner = ~leaf
    categorical = inner & (kind == 1)  # their condition is NaN in older files
    if not np.isfinite(condition[~categorical]).all():
        raise _broken(name, f"tree {k} has a threshold or a leaf that is not finite")
    if inner.any() and feature[inner].min() < 0:
        raise _broken(name, f"tree {k} asks for a negative feature")
    span, categories = _categories(tree, categorical, name, k)
    return {
        "feature": np.where(leaf, -1, feature).astype(np.int32),
        "threshold": np.where(inner & ~categorical, condition, 0).astype(np.float32),
        "left": np.where(leaf, own, left),
        "right": np.where(leaf, own, right),
        "default_left": default & inner,
        "categorical": categorical,
        "span": span,
        "categories": categories,
        "value": np.where(leaf, condition, 0).astype(np.float32),
    }


def _check_shape(
    left: np.ndarray, right: np.ndarray, leaf: np.ndarray, name: str, k: int
) -> None:
    """Raises unless every node but the root is the child of at most one node.

    With that and the root nobody's child, what is reached from the root is a tree: a cycle
    would need a node with two parents or the root as a child.
    """
    children = np.concatenate([left[~leaf], right[~leaf]])
    if not np.array_equal(leaf, right == -1):
        raise _broken(name, f"a node of tree {k} has one child")
    if children.size and (children.min() < 1 or children.max() >= len(left)):
        raise _broken(name, f"tree {k} points outside itself")
    if np.unique(children).size != children.size:
        raise _broken(name, f"a node of tree {k} has two parents")


def _categories(
    tree: dict[str, Any], categorical: np.ndarray, name: str, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns, for each node, where its categories lie, and the categories."""
    span = np.zeros((len(categorical), 2), np.int32)
    if not categorical.any():
        return span, np.zeros(0, np.int32)
    nodes, begin, size, listed = (
        _vector(tree, f"categories{key}", np.int64)
        for key in ("_nodes", "_segments", "_sizes", "")
    )
    n = len(listed)
    proper = (
        len(nodes) == len(begin) == len(size)
        and np.array_equal(np.unique(nodes), np.flatnonzero(categorical))
        and len(nodes) == categorical.sum()
        and ((begin >= 0) & (size >= 0) & (begin <= n) & (size <= n - begin)).all()
        and ((listed >= 0) & (listed < MAX_CATEGORY)).all()
    )
    if not proper:
        raise _broken(name, f"the categories of tree {k} do not fit its nodes")
    span[nodes, 0], span[nodes, 1] = begin, begin + size
    return span, listed.astype(np.int32)


def _join(trees: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    nodes = np.cumsum([0] + [len(tree["left"]) for tree in trees])
    lists = np.cumsum([0] + [len(tree["categories"]) for tree in trees])
    if nodes[-1] >= 2**31 or lists[-1] >= 2**31:
        raise ValueError("more nodes than 32 bits can count")
    for tree, node, at in zip(trees, nodes, lists, strict=False):
        tree["left"] = tree["left"] + np.int32(node)
        tree["right"] = tree["right"] + np.int32(node)
        tree["span"] = tree["span"] + np.int32(at)
    joined = {key: np.concatenate([tree[key] for tree in trees]) for key in trees[0]}
    return {"starts": nodes.astype(np.int32), **joined}
