"""Latent models as files: one npz of arrays and a JSON header, no pickle."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnas import registry
from jaxnas.core.errors import UserError
from jaxnas.core.files import replacing
from jaxnas.core.space import SearchSpace
from jaxnas.data.formats.npz import read_npz
from jaxnas.data.recipes import content_checksum
from jaxnas.latent.vqvae import VQVAE, Params

FORMAT = "jaxnas-latent"
VERSION = 1
_HEADER = "header"


class Stored(NamedTuple):
    """What a model file holds."""

    model: VQVAE
    params: Params
    history: dict[str, np.ndarray]
    """Training curves ``[R]`` by name; empty for an imported model."""
    facts: dict[str, Any]
    """How it came about: samples, hyperparameters, held-out measurements."""


def save(
    path: Path,
    model: VQVAE,
    params: Params,
    history: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Writes a model, whole or not at all.

    Args:
        path: the file; its folder is made.
        model: configuration.
        params: what was learned.
        history: curves by name.
        facts: JSON-able, for people and programs.

    Raises:
        UserError: it cannot be written there.
    """
    arrays = {f"params{n}": np.asarray(leaf) for n, leaf in _leaves(params)}
    arrays |= {f"history.{n}": np.asarray(v) for n, v in (history or {}).items()}
    name, options = registry.recipe(model.space) or (None, {})
    header = {
        "format": FORMAT,
        "version": VERSION,
        "model": model.id,
        "space": {"id": model.space.id, "name": name, "options": options},
        "config": _config(model),
        "parts": [n for n in ("encoder", "head") if getattr(params, n) is not None],
        "checksum": content_checksum(arrays),
        "facts": facts or {},
    }
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as handle:
            np.savez(handle, **cast(Any, {**arrays, _HEADER: text}))
    except OSError as error:
        raise UserError(
            f"The latent model cannot be written to {path} ({error.strerror}); choose "
            "another --out."
        ) from error


def load(path: str | Path, space: SearchSpace | None = None) -> Stored:
    """Returns a model from its file.

    Args:
        path: what :func:`save` wrote.
        space: the space that it must be of; made from the header when None.

    Raises:
        UserError: no such file, damaged, of another format, version or space.
    """
    path = Path(path)
    arrays = _read(path)
    header = _header(path, arrays)
    space = _space(path, header["space"], space)
    try:
        model = VQVAE(space, **header["config"])
    except TypeError as error:
        raise UserError(f"{path} describes a model that this version lacks.") from error
    like = jax.eval_shape(model.init, jax.random.key(0))
    missing = {n: None for n in ("encoder", "head") if n not in header["parts"]}
    params = _fill(path, like._replace(**missing), arrays)
    history = {
        n.removeprefix("history."): v for n, v in arrays.items() if n.startswith("history.")
    }
    return Stored(model, params, history, header["facts"])


def checksum_of(path: str | Path) -> str:
    """Returns the SHA-256 of a model file.

    Raises:
        UserError: there is none.
    """
    if not Path(path).is_file():
        raise _absent(Path(path))
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@functools.lru_cache(maxsize=8)
def load_encoder(path: str, checksum: str, space: SearchSpace) -> Stored:
    """Returns a model that can encode, read once for each content of the file.

    Args:
        path: what :func:`save` wrote.
        checksum: :func:`checksum_of` the file; another content is read anew.
        space: the space that it must be of.

    Raises:
        UserError: as :func:`load`; the file has changed; or it holds no encoder.
    """
    if checksum_of(path) != checksum:
        raise UserError(f"{path} has changed since it was named; start again with it.")
    stored = load(path, space)
    if stored.params.encoder is None:
        raise UserError(
            f"The latent model {path} was imported without an encoder, so a search cannot "
            "start from architectures; train one with: jaxnas latent train"
        )
    return stored


def describe(model: VQVAE) -> dict[str, Any]:
    """Returns a configuration as JSON-able facts."""
    sizes = {"latent": model.latent_size, "codes": model.codes}
    return {"id": model.id, "space": model.space.id, **sizes, "config": _config(model)}


def _config(model: VQVAE) -> dict[str, Any]:
    """Returns the fields of a configuration without the space."""
    fields = (f.name for f in dataclasses.fields(model) if f.name != "space")
    return {name: getattr(model, name) for name in fields}


def _leaves(params: PyTree) -> list[tuple[str, Any]]:
    """Returns the leaves with their paths as text."""
    found, _ = jax.tree_util.tree_flatten_with_path(params)
    return [(jax.tree_util.keystr(place), leaf) for place, leaf in found]


def _read(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file."""
    if not path.is_file():
        raise _absent(path)
    try:
        return read_npz(path)
    except (OSError, ValueError) as error:
        raise _damaged(path) from error


def _absent(path: Path) -> UserError:
    """Returns the error for a file that is not there."""
    return UserError(f"There is no latent model at {path}; make one: jaxnas latent train")


def _damaged(path: Path) -> UserError:
    """Returns the error for a file that is not what it should be."""
    return UserError(
        f"{path} is not a latent model or is damaged; train one with: jaxnas latent train"
    )


def _header(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the header of a file after checking format, version and checksum."""
    try:
        header = json.loads(arrays.pop(_HEADER).tobytes())
        if header["format"] != FORMAT:
            raise ValueError(header["format"])
        version = header["version"]
        intact = version != VERSION or header["checksum"] == content_checksum(arrays)
        if not intact:
            raise ValueError("checksum")
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(path) from error
    if version != VERSION:
        raise UserError(
            f"{path} has format version {version} and this jaxnas reads {VERSION}; train "
            "it again, or use the version that wrote it."
        )
    return header


def _space(path: Path, wanted: dict[str, Any], space: SearchSpace | None) -> SearchSpace:
    """Returns the space of a model: the given one if it is the same, else a new one."""
    if space is None:
        if wanted["name"] is None:
            raise UserError(
                f"{path} is of the space {wanted['id']!r}, which no name stands for; load "
                "it with that space: load(path, space)."
            )
        space = registry.make_space(wanted["name"], **wanted["options"])
    if space.id != wanted["id"]:
        raise UserError(
            f"{path} is a latent model of the space {wanted['id']!r}, not of {space.id!r}; "
            "train one for this space with: jaxnas latent train"
        )
    return space


def _fill(path: Path, like: Params, arrays: dict[str, np.ndarray]) -> Params:
    """Returns the arrays in the structure of ``like``, every shape checked."""
    names = _leaves(like)
    leaves = []
    for name, shape in names:
        found = arrays.get(f"params{name}")
        if found is None or found.shape != shape.shape:
            raise UserError(
                f"{path} does not fit its space and configuration at {name}; train it "
                "again with: jaxnas latent train"
            )
        leaves.append(jnp.asarray(found, shape.dtype))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
