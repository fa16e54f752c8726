"""The policies that a search learned: gathered, saved, read, and started from.

``policies.npz`` holds the last parameters of the controllers, the best first by the true
value of what each recommends: of all of them, or of as many as fit ``LIMIT``.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnas import registry
from jaxnas.core.algorithm import Algorithm, PolicyBased
from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace
from jaxnas.core.trees import num_bytes
from jaxnas.core.types import PolicyOutput
from jaxnas.data.formats.npz import FileKind, content_checksum, named_leaves
from jaxnas.run.population import Member

LIMIT = 64 * 2**20
"""Bytes of parameters that a run saves."""
FILE = "policies.npz"
KIND = FileKind(
    "set of policies",
    "jaxnas-policies-v1",
    "name the folder of a finished run of a method that learns one.",
)
LEAF, CONTROLLER, SCORE = "policy:", "policy_controller", "policy_score"


class Policy(NamedTuple):
    """A controller's policy: ``apply(params, obs)`` gives logits and value.

    ``obs`` is ``int32[n, L]`` tokens for a method that writes them, whose logits
    ``[n, L, V]`` at each place follow from the tokens before it (illegal ones not yet
    masked); and ``float32[n, F]`` observations for one that moves through a latent space.
    """

    apply: Callable[[PyTree, Any], PolicyOutput]
    params: PyTree


class Initial(NamedTuple):
    """Policies to start from."""

    params: PyTree
    """Leaves ``[K, ...]``, the best first."""
    checksum: str


def gathered(
    algo: Algorithm, members: Member, ids: np.ndarray, limit: int | None = None
) -> dict[str, np.ndarray]:
    """Returns the best policies of some members, as arrays to be saved; none of others.

    ``members`` are ``[blocks, width, ...]``, ``ids`` their global ids ``[blocks * width]``,
    -1 for padding; ``limit`` is in bytes of all parameters, ``LIMIT`` if None.
    """
    if not isinstance(algo, PolicyBased):
        return {}
    score = np.asarray(members.oracle.ledger.best_true).reshape(-1)
    params = jax.vmap(jax.vmap(algo.policy))(members.algorithm)
    each = num_bytes(params) // ids.size
    rows = np.flatnonzero(ids >= 0)
    order = np.argsort(-np.nan_to_num(score[rows], nan=-np.inf), kind="stable")
    rows = rows[order][: max(1, (LIMIT if limit is None else limit) // max(1, each))]
    pick = lambda leaf: np.asarray(leaf.reshape((-1, *leaf.shape[2:]))[rows])
    leaves = named_leaves(jax.tree.map(pick, params))
    arrays = {f"{LEAF}{name}": leaf for name, leaf in leaves.items()}
    return {CONTROLLER: ids[rows].astype(np.int64), SCORE: score[rows], **arrays}


def taken(arrays: dict[str, np.ndarray], limit: int | None = None) -> dict[str, np.ndarray]:
    """Removes the policies of all waves from a run's arrays and returns the best."""
    names = [n for n in arrays if n.startswith(LEAF) or n in (CONTROLLER, SCORE)]
    found = {name: arrays.pop(name) for name in names}
    if not found:
        return {}
    leaves = [leaf for name, leaf in found.items() if name.startswith(LEAF)]
    each = sum(leaf[:1].nbytes for leaf in leaves)
    score = np.nan_to_num(found[SCORE], nan=-np.inf)
    order = np.lexsort((found[CONTROLLER], -score))
    order = order[: max(1, (LIMIT if limit is None else limit) // max(1, each))]
    return {name: leaf[order] for name, leaf in found.items()}


def described(algo: Any) -> dict[str, Any]:
    """Returns what policies of an algorithm belong to, and how to make it again."""
    name, options = registry.recipe(algo) or (None, {})
    options = {n: v for n, v in options.items() if n != "space"}
    try:
        json.dumps(options)
    except TypeError:  # made with an object, such as a module: only its maker has it
        name, options = None, {}
    return {"name": name, "options": options, **_identity(algo)}


def _identity(algo: Any) -> dict[str, Any]:
    """Returns what must be equal for a policy to fit, as JSON gives it back."""
    space = f"{algo.space.id} {algo.space!r}"
    said = {"algorithm": algo.id, "space": space, "policy": algo.policy_config}
    return json.loads(json.dumps(said))


def write(folder: Path, algo: Algorithm, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the policies of a run, if it has any."""
    if arrays:
        KIND.write(folder / FILE, described(algo), arrays)


def one(arrays: Mapping[str, np.ndarray], i: int, algo: Any) -> Policy:
    """Returns controller ``i``'s policy.

    Raises:
        UserError: it was not saved.
    """
    rows = np.flatnonzero(arrays[CONTROLLER] == i)
    if not rows.size:
        saved = arrays[CONTROLLER]
        raise UserError(
            f"The policy of controller {i} was not saved: the run has those of its best "
            f"{len(saved)} controllers, such as {saved[:3].tolist()}."
        )
    mine = {name: np.asarray(leaf[rows[0]]) for name, leaf in arrays.items()}
    return Policy(algo.act, KIND.fill(FILE, _like(algo), mine, LEAF))


def remade(header: Mapping[str, Any], space: SearchSpace | None) -> Any:
    """Returns the algorithm of a run that was read from its folder.

    Raises:
        UserError: it was not made by name.
    """
    if header["name"] is None or space is None:
        raise UserError(
            f"{header['algorithm']!r} or its space was not made by name, so that it cannot "
            "be made again here; pass it: result.policy(i, algo)."
        )
    return registry.make_algorithm(header["name"], space=space, **header["options"])


def initial(run: str | Path, algo: Algorithm) -> Initial:
    """Returns the policies of a run for controllers of another to start from.

    Raises:
        UserError: the run has none, or they are of another method, space or controller.
    """
    path = Path(run) / FILE
    if not isinstance(algo, PolicyBased):
        raise UserError(
            f"The method {algo.id!r} learns no policy and starts from none; leave init out."
        )
    header, arrays = KIND.read(path)
    check_fits(path, header, algo)
    return Initial(stacked(path, algo, arrays), content_checksum(arrays))


def check_fits(path: Path, header: Mapping[str, Any], algo: Any) -> None:
    """Raises a UserError where saved policies are of another algorithm, space or policy."""
    for part, here in _identity(algo).items():
        if header.get(part) != here:
            raise UserError(
                f"The policies in {path} are of another {part} ({header.get(part)}) than "
                f"what is here ({here}); take those of the same."
            )


def stacked(path: Path, algo: Any, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """Returns the parameters of all saved policies, leaves ``[K, ...]``, best first.

    Raises:
        UserError: their shapes are not those of the algorithm; the text names ``path``.
    """
    count = len(arrays[CONTROLLER])
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), _like(algo)
    )
    return jax.tree.map(np.asarray, KIND.fill(path, like, arrays, LEAF))


def _like(algo: Any) -> PyTree:
    hparams = jax.tree.map(jnp.float32, algo.default_hparams())
    make = lambda key: algo.policy(algo.init(key, hparams))
    return jax.eval_shape(make, jax.random.key(0))
