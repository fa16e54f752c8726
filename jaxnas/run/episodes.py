"""What the policies of a finished run do when they only act: whole episodes, no learning.

All controllers play in one compiled program, which scores what they end with as well where
the oracle is traced. A host oracle is asked afterwards, once for each distinct
architecture, and not about those that the run itself has asked about.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxnas.core import rng
from jaxnas.core import tokens as tk
from jaxnas.core.algorithm import Played, Playing
from jaxnas.core.errors import JaxnasError, UserError
from jaxnas.core.files import LATENT
from jaxnas.core.oracle import Oracle, Truthful, required
from jaxnas.core.scalarise import recorded
from jaxnas.core.types import OK, Evaluation
from jaxnas.data.formats.npz import content_checksum
from jaxnas.data.store.evaluations import Store
from jaxnas.oracles.budget import Budgeted
from jaxnas.run import policies, remade
from jaxnas.run import store as folders
from jaxnas.run.host.cache import HostCache
from jaxnas.run.host.executor import Executor
from jaxnas.run.result import Result
from jaxnas.run.search import load_result

BLOCK = 16
"""Controllers that play side by side; one block after another."""
KNOWN = 16
"""Best architectures of a controller that its episodes may begin with."""
MOST = 10**7
"""Episodes of all controllers together."""


class Episodes(NamedTuple):
    """``N`` episodes of each of ``K`` controllers, the best of the run first."""

    controller: Int[np.ndarray, "K"]
    setting: Int[np.ndarray, "K"]
    tokens: Int[np.ndarray, "K N L"]
    """The architectures that the episodes end with."""
    value: Float[np.ndarray, "K N"]
    """What the search optimised, natural units; true where the oracle knows the truth. NaN
    where an evaluation failed or a constraint is broken."""
    returns: Float[np.ndarray, "K N"]
    """The reward of that architecture; in a latent space, less that of the first one."""
    failed: np.ndarray
    """``bool[K, N]``: the evaluation gave no value."""
    infeasible: np.ndarray
    """``bool[K, N]``: a constraint is broken."""
    entropy: Float[np.ndarray, "K N"]
    """Mean over the decisions, nats."""
    checksum: str
    """Of the policies that played."""
    asked: int
    """New evaluations of a host oracle."""


def play(
    run: str | Path,
    episodes: int = 100,
    *,
    greedy: bool = False,
    top: int | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    store: Store | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Result, Episodes]:
    """Returns a finished run, and episodes of its policies as they were saved.

    Args:
        run: directory of one method.
        episodes: of each policy.
        greedy: whether every decision is the most likely one, and not drawn.
        top: policies of the best controllers only; of all that were saved when None.
        seed: of the draws.
        executor: where a host oracle is asked; this process when None.
        store: of measurements, which are not made twice.
        warn: told one sentence where something is not as it should be.

    Raises:
        UserError: no finished run, no policies, ones that do not fit its space, an oracle
            that cannot be made again here, or more episodes than there is room for.
    """
    result = load_result(run)
    path = Path(run) / policies.FILE
    if not path.exists():
        raise UserError(
            f"{run} ({result.config['label']}) learned no policy, so none can be played; "
            "name the run of a policy-gradient method."
        )
    header, arrays = policies.KIND.read(path)
    algo = _algorithm(result, header, path)
    if top is not None:
        arrays = {name: leaf[:top] for name, leaf in arrays.items()}
    controllers = arrays[policies.CONTROLLER]
    if len(controllers) * episodes > MOST:
        raise UserError(
            f"{episodes:,} episodes of {len(controllers):,} policies are more than "
            f"{MOST:,}; choose fewer --episodes, or --top N."
        )
    oracle = oracle_of(result)
    book = Budgeted(oracle, recorded(oracle.objectives, result.config), 1, 8)
    at = np.searchsorted(result.arrays["controller"], controllers)
    settings = result.arrays["setting"][at]
    columns = {n: np.asarray(c, np.float32) for n, c in result.config["hparams"].items()}
    hparams = type(algo.default_hparams())(**{n: c[settings] for n, c in columns.items()})
    root = rng.root_key(seed)
    keys = jax.vmap(lambda c: rng.controller_key(root, c))(controllers.astype(np.int32))
    items = (
        jax.random.key_data(keys),
        policies.stacked(path, algo, arrays),
        hparams,
        _known(result, book, at),
    )
    program = _program(algo, book, episodes, greedy)
    played, found, begun = program(items, book.params() if book.traced else ())
    asked = 0
    if not book.traced:
        cache = HostCache(book.oracle, executor, store, warn)
        answers = folders.read_answers(Path(run), result.config)
        before = len(answers["status"]) if answers is not None else 0
        if answers is not None:
            cache.load(answers)
        found, begun = (_on_host(cache, book, x) for x in (played.tokens, played.begun))
        asked = cache.summary()["evaluations"] - before
    reward, violation, failed = map(np.asarray, found)
    first = np.zeros_like(reward) if begun is None else np.asarray(begun[0])
    value = np.where(violation > 0, np.nan, book.scalariser.natural(reward))
    made = Episodes(
        controllers, settings, np.asarray(played.tokens), value, reward - first, failed,
        (violation > 0) & ~failed, np.asarray(played.entropy), content_checksum(arrays),
        asked,
    )  # fmt: skip
    return result, made


def _algorithm(result: Result, header: dict[str, Any], path: Path) -> Any:
    """Returns the method that learned the policies, made again.

    A latent model that stands beside the runs of a search is taken from there, wherever
    the search has been moved to.
    """
    copied = path.parent.parent / LATENT
    if "latent" in header["options"] and copied.is_file():
        header = {**header, "options": {**header["options"], "latent": str(copied)}}
    algo = policies.remade(header, result.space)
    policies.check_fits(path, header, algo)
    if not isinstance(algo, Playing):
        raise UserError(
            f"The method {algo.id!r} has no play(), by which its policies could act; see "
            "jaxnas.core.algorithm.Playing."
        )
    return algo


def oracle_of(result: Result) -> Oracle:
    """Returns what a run asked, made again; UserError where that cannot be."""
    try:
        return remade.oracle_of(result.config)
    except (JaxnasError, ImportError) as error:
        raise UserError(
            f"The oracle of {result.path} could not be made again here: {error}"
        ) from error


def _known(result: Result, book: Budgeted, at: np.ndarray) -> np.ndarray:
    """Returns the best architectures of some controllers, ``int32[K, KNOWN, L]``.

    The best come again from the first where a controller knows fewer.
    """
    tokens, violation = (result.arrays[name][at] for name in ("tokens", "violation"))
    objectives = jnp.asarray(result.arrays["objectives"][at], jnp.float32)
    reward = np.asarray(book.scalariser(objectives, jnp.zeros(violation.shape)))
    reward = np.where((violation <= 0) & np.isfinite(reward), reward, -np.inf)
    order = np.argsort(-reward, axis=1, kind="stable")
    some = np.maximum(1, np.isfinite(reward).sum(axis=1))
    rank = np.arange(KNOWN)[None] % some[:, None]
    rows = np.take_along_axis(order, rank, axis=1)
    return np.take_along_axis(tokens, rows[..., None], axis=1).astype(np.int32)


@functools.lru_cache(maxsize=8)
def _program(algo: Any, book: Budgeted, episodes: int, greedy: bool) -> Any:
    """Returns the compiled episodes of all controllers, with scores of a traced oracle."""

    def one(item: PyTree) -> Played:
        key, params, hparams, known = item
        return algo.play(rng.wrap(key), params, hparams, known, episodes, greedy)

    def play_all(items: PyTree, params: PyTree) -> tuple[Played, PyTree, PyTree]:
        played = jax.lax.map(one, items, batch_size=BLOCK)
        if not book.traced:
            return played, None, None
        first = None if played.begun is None else _scored(book, params, played.begun)
        return played, _scored(book, params, played.tokens), first

    return jax.jit(play_all)


def _scored(
    book: Budgeted, params: PyTree, tokens: Int[Array, "K N L"]
) -> tuple[Array, Array, Array]:
    """Returns reward, violation and whether it failed, ``[K, N]`` each, in a program."""
    flat = tokens.reshape(-1, tokens.shape[-1])
    key, on = rng.root_key(0), jnp.ones(len(flat), bool)
    state = book.oracle.init(key, params)
    levels = jnp.zeros(len(flat), jnp.int32)
    _, found = book.oracle.evaluate(key, params, state, flat, levels, on)
    if book.truthful:
        truth = required(book.oracle, Truthful).truth(params, flat)
        found = found._replace(objectives=truth)
    return _judged(book, found, tokens.shape[:2])


def _on_host(cache: HostCache, book: Budgeted, tokens: Any) -> Any:
    """Returns what :func:`_scored` does from a host oracle, which hears each one once."""
    if tokens is None:
        return None
    flat = np.asarray(tokens).reshape(-1, tokens.shape[-1])
    rows, back = np.unique(flat, axis=0, return_inverse=True)
    found = cache.evaluate(rows, np.zeros(len(rows), np.int32), np.ones(len(rows), bool))
    found = jax.tree.map(lambda x: jnp.asarray(x)[back.reshape(-1)], found)
    return _judged(book, found, tokens.shape[:2])


def _judged(
    book: Budgeted, found: Evaluation, shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    violation = jnp.where(found.status == OK, found.violation, 0.0)
    ended = book.finish(jnp.ones(len(found.status), bool), found)
    failed = ended.status != OK
    return ended.reward.reshape(shape), violation.reshape(shape), failed.reshape(shape)


def distinct(tokens: Int[np.ndarray, "K N L"]) -> Int[np.ndarray, "K"]:
    """Returns how many different architectures each controller's episodes end with."""
    return np.array([len(np.unique(rows, axis=0)) for rows in tokens])


def invalid(result: Result, tokens: Int[np.ndarray, "K N L"]) -> np.ndarray:
    """Returns whether each architecture is none of the space, ``bool[K, N]``."""
    space = result.space
    assert space is not None
    flat = jnp.asarray(tokens.reshape(-1, tokens.shape[-1]))
    valid = jax.jit(jax.vmap(lambda row: tk.is_valid(space, row)))(flat)
    return ~np.asarray(valid).reshape(tokens.shape[:2])
