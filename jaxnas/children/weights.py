"""Weights of a child as plain arrays and back, under torch's names and in its layout.

=====================  ==============================  ============================
array                  shape                           flax
=====================  ==============================  ============================
``PATH.weight``        ``[out, in/groups, row, col]``  ``kernel`` turned around
``PATH.weight``        ``[out, in]``                   ``kernel`` turned around
``PATH.weight``        ``[features]`` of batch norm    ``scale``
``PATH.bias``          ``[features]``                  ``bias``
``PATH.table``         ``[vocabulary, features]``      ``table`` of an embedding
``PATH.running_mean``  ``[features]``                  ``mean`` in ``batch_stats``
``PATH.running_var``   ``[features]``                  ``var`` in ``batch_stats``
=====================  ==============================  ============================

On disk a network is a folder of ``spec.json`` and ``weights.npz`` (uncompressed, float32),
which :mod:`jaxnas.analog.bridge.torch_net` reads without this package.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.children.build import Child, build
from jaxnas.children.count import arrays as array_shapes
from jaxnas.children.rules import Shape
from jaxnas.core.errors import UserError
from jaxnas.core.types import Spec

SPEC_FILE, WEIGHTS_FILE = "spec.json", "weights.npz"
_PLACES = {
    "bias": ("params", "bias"),
    "table": ("params", "table"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
_WEIGHTS = {1: "scale", 2: "kernel", 4: "kernel"}
_PARTS = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    **{place: part for part, place in _PLACES.items()},
}
_AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}


def to_arrays(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the weights of a child in torch's names and layout.

    Of ``params`` and, where there is batch norm, ``batch_stats``.

    Raises:
        UserError: an array that no layer of a child has.
    """
    found = {}
    for collection in ("params", "batch_stats"):
        for path, layer in variables.get(collection, {}).items():
            for leaf, value in layer.items():
                part = _PARTS.get((collection, leaf))
                rank = np.ndim(value)
                if part is None or rank not in _AXES:
                    raise UserError(
                        f"The variable {leaf!r} of {path!r} in {collection!r} belongs "
                        "to no layer of a child network."
                    )
                axes = _AXES[rank] if part == "weight" else range(rank)
                turned = np.transpose(np.asarray(value), axes)
                found[f"{path}.{part}"] = np.ascontiguousarray(turned)
    return found


def from_arrays(child: Child, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the flax variables of arrays in torch's names and layout.

    Batch norm's ``num_batches_tracked`` of a torch state is left out: nothing reads it.

    Raises:
        UserError: an array that is missing, left over, of another shape, not
            finite, or a variance below zero.
    """
    given = {
        name: np.asarray(value)
        for name, value in arrays.items()
        if not name.endswith(".num_batches_tracked")
    }
    variables: dict[str, Any] = {"params": {}}
    for name in _check_arrays(child.spec, given):
        path, _, part = name.rpartition(".")
        value = np.asarray(given[name], np.float32)
        if part == "weight":
            collection, leaf = "params", _WEIGHTS[value.ndim]
            value = np.transpose(value, np.argsort(_AXES[value.ndim]))
        else:
            collection, leaf = _PLACES[part]
        variables.setdefault(collection, {}).setdefault(path, {})[leaf] = value
    return variables


def save_network(folder: str | Path, spec: Spec, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes ``spec.json`` and ``weights.npz`` into a folder, which is made.

    Raises:
        UserError: arrays that do not belong to the spec.
    """
    _check_arrays(spec, arrays)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPEC_FILE).write_text(json.dumps(spec, indent=1, allow_nan=False))
    with zipfile.ZipFile(folder / WEIGHTS_FILE, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                plain = np.ascontiguousarray(value, np.float32)
                np.lib.format.write_array(file, plain, allow_pickle=False)


def load_network(folder: str | Path) -> tuple[Child, dict[str, Any]]:
    """Returns the network and the variables that :func:`save_network` wrote.

    Raises:
        UserError: a file that is missing or damaged, or arrays of another network.
    """
    folder = Path(folder)
    try:
        spec = json.loads((folder / SPEC_FILE).read_text())
        with open(folder / WEIGHTS_FILE, "rb") as file:
            archive = np.lib.npyio.NpzFile(file, allow_pickle=False)
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{folder} is no saved network: {SPEC_FILE} or {WEIGHTS_FILE} is missing or "
            "damaged; save it again, or name another folder."
        ) from error
    if not isinstance(spec, dict):
        raise UserError(f"{folder / SPEC_FILE} holds no JSON object.")
    child = build(spec)
    return child, from_arrays(child, arrays)


def _check_arrays(spec: Spec, arrays: Mapping[str, np.ndarray]) -> dict[str, Shape]:
    """Returns the shapes of the network's arrays; refuses arrays that are not those."""
    shapes = array_shapes(spec)
    missing = [name for name in shapes if name not in arrays]
    extra = [name for name in arrays if name not in shapes]
    if missing:
        raise UserError(f"The weights lack {missing[0]!r}, one of {len(missing)} missing.")
    if extra:
        raise UserError(
            f"The weights have {extra[0]!r}, one of {len(extra)} arrays that the network "
            "does not have."
        )
    for name, shape in shapes.items():
        value = np.asarray(arrays[name])
        if value.shape != shape or value.dtype.kind != "f":
            raise UserError(
                f"The array {name!r} has shape {value.shape} of {value.dtype}; the network "
                f"needs floating point numbers of shape {shape}."
            )
        if not np.isfinite(value).all():
            raise UserError(f"The array {name!r} has a value that is not finite.")
        if name.endswith(".running_var") and (value < 0).any():
            raise UserError(f"The array {name!r} has a negative value.")
    return shapes
