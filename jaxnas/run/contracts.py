"""What an algorithm and an oracle must be, checked once before a search computes anything.

Shapes and dtypes are checked by ``jax.eval_shape``, which computes nothing. What only
numbers show is checked on the first ones: the tokens of the first batch, and the first
answer of a host oracle. Every error names the method and the leaf.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PyTree

from jaxnas.core import tokens as tk
from jaxnas.core.algorithm import Algorithm
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Oracle
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Proposal

ROWS = 64
"""Distinct architectures of a first batch whose legality is checked."""
KINDS = {"f": "float32", "i": "int32", "b": "bool"}
"""The dtype of a leaf by its kind."""


def check_algorithm(algo: Any) -> None:
    """Checks what shows without a call of ``init``: fields, methods, hyperparameters.

    Raises:
        UserError: a method is missing, it is no frozen dataclass, or its hyperparameters
            are no NamedTuple of numbers.
    """
    name = _check_members(algo, Algorithm)
    settings: Any = getattr(algo, "__dataclass_params__", None)
    if settings is None or not settings.frozen:
        raise UserError(f"{name} must be a dataclass with frozen=True.")
    _check_hash(algo)
    for field in ("batch", "rounds", "preferred_width"):
        value = getattr(algo, field)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{name}.{field} must be a positive int, got {value!r}.")
    preset = algo.default_hparams()
    if not (isinstance(preset, tuple) and hasattr(preset, "_fields")):
        raise UserError(
            f"{name}.default_hparams must return a NamedTuple of numbers, got "
            f"{type(preset).__name__}."
        )
    for leaf, value in zip(preset._fields, preset, strict=True):  # pyright: ignore[reportAttributeAccessIssue]
        number = np.asarray(value)
        if number.shape != () or number.dtype.kind not in "fiub":
            raise UserError(
                f"{name}.default_hparams must return numbers, but {leaf} is {value!r}."
            )


def check_oracle(oracle: Any) -> None:
    """Checks what shows without a call of ``evaluate``.

    Raises:
        UserError: a method is missing, or it cannot be hashed.
    """
    name = _check_members(oracle, Oracle)
    _check_hash(oracle)
    if not (isinstance(oracle.objectives, tuple) and oracle.objectives):
        raise UserError(f"{name}.objectives must be a tuple of at least one Objective.")


def _check_hash(made: Any) -> None:
    try:
        hash(made)
    except TypeError as error:
        raise UserError(
            f"{type(made).__name__} must be hashable ({error}): a dataclass with "
            "frozen=True whose fields are, none of them an array."
        ) from error


def _check_members(made: Any, protocol: type) -> str:
    """Returns the name of the class, after checking that no member is missing."""
    name = type(made).__name__
    if isinstance(made, type):
        raise UserError(f"{made.__name__} is a class; make one: {made.__name__}(...).")
    for member in vars(protocol):
        if not member.startswith("_") and not hasattr(made, member):
            raise UserError(
                f"{name} has no {member!r}, which every {protocol.__name__} needs; see "
                f"{protocol.__module__}.{protocol.__name__}."
            )
    return name


@functools.lru_cache(maxsize=64)
def check_shapes(algo: Algorithm, oracle: Oracle) -> None:
    """Checks the shapes and dtypes of everything that the search hands on.

    Of an oracle on the host ``evaluate`` is not called.

    Raises:
        UserError: a leaf of another shape or dtype, with method and leaf.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    name, lanes = type(algo).__name__, algo.batch
    hparams = jax.tree.map(
        lambda _: jax.ShapeDtypeStruct((), jnp.float32), algo.default_hparams()
    )
    state = jax.eval_shape(algo.init, key, hparams)
    asked, proposal = _pair(f"{name}.ask", jax.eval_shape(algo.ask, key, state))
    _same(f"{name}.ask", state, asked)
    _record(
        f"{name}.ask", proposal, Proposal,
        tokens=((lanes, algo.space.length), "i"), fidelity=((lanes,), "i"),
        active=((lanes,), "b"),
    )  # fmt: skip
    if oracle.traced:
        params = oracle.params()
        own = jax.eval_shape(oracle.init, key, params)
        evaluate = f"{type(oracle).__name__}.evaluate"
        answer = jax.eval_shape(oracle.evaluate, key, params, own, *proposal[:3])
        after, found = _pair(evaluate, answer)
        _same(evaluate, own, after)
        check_evaluation(oracle, found, lanes)
    leaf: Any = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    seen = Evaluation(
        objectives=leaf((lanes, len(oracle.objectives))), violation=leaf((lanes,)),
        cost=leaf((lanes,)), status=leaf((lanes,), dtype=jnp.int32), reward=leaf((lanes,)),
    )  # fmt: skip
    _same(f"{name}.tell", state, jax.eval_shape(algo.tell, key, state, proposal, seen))
    learnt, metrics = _pair(f"{name}.learn", jax.eval_shape(algo.learn, key, state))
    _same(f"{name}.learn", state, learnt)
    if not isinstance(metrics, Mapping):
        raise UserError(
            f"{name}.learn must return (state, metrics by name), got {_shown(metrics)}."
        )
    for metric, value in metrics.items():
        _leaf(f"{name}.learn", f"the metric {metric!r}", value, (), "f")


def check_evaluation(oracle: Oracle, found: Any, lanes: int) -> None:
    """Checks an evaluation, real or abstract.

    Raises:
        UserError: a leaf of another shape or dtype, with oracle and leaf.
    """
    each = ((lanes,), "f")
    _record(
        f"{type(oracle).__name__}.evaluate", found, Evaluation,
        objectives=((lanes, len(oracle.objectives)), "f"), violation=each, cost=each,
        status=((lanes,), "i"), reward=each,
    )  # fmt: skip


def check_tokens(algo: Algorithm, tokens: Int[np.ndarray, "n L"]) -> None:
    """Checks that the architectures of a first batch are in the space; host side.

    Raises:
        UserError: a token beyond the vocabulary, or one that the mask forbids.
    """
    space, name = algo.space, type(algo).__name__
    outside = np.argwhere((tokens < 0) | (tokens >= space.vocab))
    if len(outside):
        row, place = outside[0]
        raise UserError(
            f"{name}.ask returned the token {tokens[row, place]} at position {place} of "
            f"{tuple(tokens[row].tolist())}; the tokens of {space.id!r} are 0 to "
            f"{space.vocab - 1}."
        )
    some = np.unique(tokens, axis=0)[:ROWS].astype(np.int32)
    padded = np.resize(some, (ROWS, space.length)) if len(some) else some
    legal = np.asarray(_legal(space, padded)) if len(some) else np.ones((0, 0), bool)
    wrong = np.argwhere(~legal)
    if len(wrong):
        row, place = wrong[0]
        raise UserError(
            f"{name}.ask returned {tuple(padded[row].tolist())}, but the mask of "
            f"{space.id!r} forbids its token {padded[row, place]} at position {place}; "
            "draw tokens under space.mask, or repair them (jaxnas.core.tokens.repair)."
        )


@functools.partial(jax.jit, static_argnums=0)
def _legal(space: SearchSpace, tokens: Any) -> Any:
    masks = jax.vmap(lambda row: tk.masks(space, row))(tokens)
    return jnp.take_along_axis(masks, tokens[..., None], -1)[..., 0]


def _pair(where: str, got: Any) -> tuple[Any, Any]:
    """Returns both parts of what should be a pair that begins with the state."""
    if not (isinstance(got, tuple) and not hasattr(got, "_fields") and len(got) == 2):
        raise UserError(f"{where} must return a pair (state, ...), got {_shown(got)}.")
    return got


def _record(where: str, got: Any, kind: type, **leaves: Any) -> None:
    """Checks the leaves of a record, each ``name=(shape, kind of dtype)``."""
    if not isinstance(got, kind):
        raise UserError(
            f"{where} must return the record {kind.__name__}, got {_shown(got)}."
        )
    for name, (shape, dtype) in leaves.items():
        _leaf(where, name, getattr(got, name), shape, dtype)


def _leaf(where: str, name: str, got: Any, shape: tuple[int, ...], kind: str) -> None:
    """Checks one array; 64 bits are as good as 32 where JAX has them switched on."""
    got = got if hasattr(got, "dtype") else np.asarray(got)
    small = got.dtype.kind != "b" and got.dtype.itemsize < 4
    if got.shape != shape or got.dtype.kind != kind or small:
        raise UserError(
            f"{where} returned {name} as {_shown(got)}; it must be "
            f"{KINDS[kind]}{list(shape)}."
        )


def _same(where: str, before: PyTree, after: PyTree) -> None:
    old, was = jax.tree.flatten_with_path(before)
    new, now = jax.tree.flatten_with_path(after)
    if was != now:
        raise UserError(
            f"{where} returned a state of another structure than init: {now}, not {was}."
        )
    for (path, a), (_, b) in zip(old, new, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise UserError(
                f"{where} returned the leaf state{jax.tree_util.keystr(path)} as "
                f"{_shown(b)}; it must stay {_shown(a)}, as init made it."
            )


def _shown(got: Any) -> str:
    if hasattr(got, "dtype") and hasattr(got, "shape"):
        return f"{got.dtype}{list(got.shape)}"
    return type(got).__name__
