"""Latent models as files: one npz of arrays and a JSON header, no pickle."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxnas import registry
from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace
from jaxnas.data.formats.npz import FileKind, named_leaves
from jaxnas.latent.vqvae import VQVAE, Params

KIND = FileKind("latent model", "jaxnas-latent-v1", "make one: jaxnas latent train")


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
    """Writes a model, whole or not at all; UserError where it cannot be written."""
    arrays = {f"params{n}": leaf for n, leaf in named_leaves(params).items()}
    arrays |= {f"history.{n}": np.asarray(v) for n, v in (history or {}).items()}
    name, options = registry.recipe(model.space) or (None, {})
    header = {
        "model": model.id,
        "space": {"id": model.space.id, "name": name, "options": options},
        "config": _config(model),
        "parts": [n for n in ("encoder", "head") if getattr(params, n) is not None],
        "facts": facts or {},
    }
    KIND.write(path, header, arrays)


def load(path: str | Path, space: SearchSpace | None = None) -> Stored:
    """Returns a saved model, of ``space`` or its own; UserError if damaged or other."""
    path = Path(path)
    header, arrays = KIND.read(path)
    space = _space(path, header["space"], space)
    try:
        model = VQVAE(space, **header["config"])
    except TypeError as error:
        raise UserError(f"{path} describes a model that this version lacks.") from error
    like = jax.eval_shape(model.init, jax.random.key(0))
    missing = {n: None for n in ("encoder", "head") if n not in header["parts"]}
    params = KIND.fill(path, like._replace(**missing), arrays, "params")
    history = {
        n.removeprefix("history."): v for n, v in arrays.items() if n.startswith("history.")
    }
    return Stored(model, params, history, header["facts"])


def checksum_of(path: str | Path) -> str:
    """Returns the SHA-256 of a model file; UserError where there is none."""
    if not Path(path).is_file():
        raise UserError(f"There is no {KIND.noun} at {path}; {KIND.mend}")
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@functools.lru_cache(maxsize=8)
def load_encoder(path: str, checksum: str, space: SearchSpace) -> Stored:
    """Returns a model with an encoder, read once; UserError as :func:`load` or without."""
    if checksum_of(path) != checksum:
        raise UserError(f"{path} has changed since it was named; start again with it.")
    stored = load(path, space)
    if stored.params.encoder is None:
        raise UserError(
            f"The latent model {path} was imported without an encoder, so a search cannot "
            "start from architectures; train one with: jaxnas latent train"
        )
    return stored


@dataclasses.dataclass(frozen=True)
class FileModel:
    """A fitted latent model that knows its parameters: those of its file, read once."""

    path: str
    checksum: str = ""

    def __post_init__(self) -> None:
        if not self.checksum:
            object.__setattr__(self, "checksum", checksum_of(self.path))

    @property
    def stored(self) -> Stored:
        """What the file holds."""
        return _load_once(self.path, self.checksum)

    @property
    def space(self) -> SearchSpace:
        """The space that it embeds."""
        return self.stored.model.space

    @property
    def latent_size(self) -> int:
        """Numbers that describe an architecture, ``Z``."""
        return self.stored.model.latent_size

    @property
    def num_codes(self) -> int:
        """Codes in the codebook, ``K``."""
        return self.stored.model.num_codes

    def params(self) -> Params:
        """Returns what was learned."""
        return self.stored.params

    def entries(self, params: Params) -> Float[Array, "K Z"]:
        """Returns the value that code ``k`` writes into latent dimension ``z``."""
        return self.stored.model.entries(params)

    def encode(self, params: Params, tokens: Int[Array, "L"]) -> Float[Array, "Z"]:
        """Returns what the decoder is given for an architecture."""
        return self.stored.model.encode(params, tokens)

    def decode(self, params: Params, latent: Float[Array, "Z"]) -> Int[Array, "L"]:
        """Returns a valid architecture, for any float vector."""
        return self.stored.model.decode(params, latent)


@functools.lru_cache(maxsize=8)
def _load_once(path: str, checksum: str) -> Stored:
    if checksum_of(path) != checksum:
        raise UserError(f"{path} has changed since it was named; start again with it.")
    return load(path)


def describe(model: VQVAE) -> dict[str, Any]:
    """Returns a configuration as JSON-able facts."""
    sizes = {"latent": model.latent_size, "codes": model.codes}
    return {"id": model.id, "space": model.space.id, **sizes, "config": _config(model)}


def _config(model: VQVAE) -> dict[str, Any]:
    fields = (f.name for f in dataclasses.fields(model) if f.name != "space")
    return {name: getattr(model, name) for name in fields}


def _space(path: Path, wanted: dict[str, Any], space: SearchSpace | None) -> SearchSpace:
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
