"""What every oracle promises, as checks that raise ``AssertionError``.

``ORACLE_CHECKS`` lists them; each takes an oracle, traced or host. Lanes are random valid
architectures of its space, always ``BATCH`` of them, so that few programs are compiled.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core import tokens as tk
from jaxnas.core.protocols import Enumerated, Oracle, Truthful, Uncertain
from jaxnas.core.types import FAILED, OK, SKIPPED, Evaluation
from jaxnas.registry import lookup, make_oracle, make_space
from jaxnas.testing.spaces import enumerable, samples

BATCH = 6


def example(name: str) -> Oracle:
    """Returns a registered oracle with its defaults, on the toy space if it needs one."""
    wanted = inspect.signature(lookup("oracle", name)).parameters
    needs_space = "space" in wanted and wanted["space"].default is inspect.Parameter.empty
    return make_oracle(name, space=make_space("toy") if needs_space else None)


@functools.lru_cache(maxsize=64)
def _evaluator(oracle: Oracle) -> Callable[..., Any]:
    """Returns ``evaluate``, compiled once where it can be."""
    return jax.jit(oracle.evaluate) if oracle.traced else oracle.evaluate


def ask(
    oracle: Oracle, tokens: np.ndarray, active: np.ndarray | None = None, seed: int = 0
) -> Evaluation:
    """Returns a fresh controller's evaluation of some architectures, as numpy arrays."""
    key, lanes = jax.random.key(seed), len(tokens)
    params = oracle.params()
    state = oracle.init(jax.random.key(seed + 1), params)
    convert = jnp.asarray if oracle.traced else np.asarray
    batch = (
        convert(tokens),
        convert(np.zeros(lanes, np.int32)),
        convert(np.ones(lanes, bool) if active is None else active),
    )
    _, evaluation = _evaluator(oracle)(key, params, state, *batch)
    return _map(np.asarray, evaluation)


def _map(function: Callable[..., Any], *evaluations: Evaluation) -> Evaluation:
    """Returns an evaluation made field by field."""
    leaves: list[Any] = [function(*leaf) for leaf in zip(*evaluations, strict=True)]
    return Evaluation(*leaves)


def lanes_of(oracle: Oracle, seed: int = 0, batch: int = BATCH) -> np.ndarray:
    """Returns random architectures of an oracle's space."""
    return np.asarray(samples(oracle.space, seed))[:batch]


def _same(first: Evaluation, second: Evaluation) -> None:
    """Asserts that two evaluations are identical, NaN for NaN."""
    for name, a, b in zip(Evaluation._fields, first, second, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def check_static_argument(oracle: Oracle) -> None:
    """An oracle is hashable, has a versioned id and distinct objectives with units."""
    assert isinstance(oracle, Oracle)
    assert hash(oracle) == hash(oracle)
    assert "-v" in oracle.id
    names = [item.name for item in oracle.objectives]
    assert names
    assert len(set(names)) == len(names)
    assert all(item.unit and item.meaning for item in oracle.objectives)


def check_record(oracle: Oracle) -> None:
    """An evaluation has the declared shapes and types; a bare oracle gives no reward."""
    evaluation = ask(oracle, lanes_of(oracle))
    assert evaluation.objectives.shape == (BATCH, len(oracle.objectives))
    for name in ("objectives", "violation", "cost", "reward"):
        assert getattr(evaluation, name).dtype == np.float32, name
    for name in ("violation", "cost", "status", "reward"):
        assert getattr(evaluation, name).shape == (BATCH,), name
    assert evaluation.status.dtype == np.int32
    assert np.isnan(evaluation.reward).all()
    assert (evaluation.violation >= 0).all()
    assert (evaluation.cost >= 0).all()


def check_batch_equals_loop(oracle: Oracle) -> None:
    """A batch and its lanes one by one give the same numbers."""
    tokens = lanes_of(oracle)
    whole = ask(oracle, tokens)
    parts = [ask(oracle, tokens[i : i + 1]) for i in range(BATCH)]
    _same(whole, _map(lambda *lanes: np.concatenate(lanes), *parts))


def check_permutation(oracle: Oracle) -> None:
    """Permuting the lanes permutes the answers."""
    tokens, order = lanes_of(oracle), np.roll(np.arange(BATCH), 2)
    whole = ask(oracle, tokens)
    _same(ask(oracle, tokens[order]), _map(lambda leaf: leaf[order], whole))


def check_finite_or_flagged(oracle: Oracle) -> None:
    """Scores are finite exactly where the status is OK."""
    evaluation = ask(oracle, lanes_of(oracle, 1))
    ok = evaluation.status == OK
    assert np.isfinite(evaluation.objectives[ok]).all()
    assert np.isnan(evaluation.objectives[~ok]).all()
    assert np.isin(evaluation.status, (OK, FAILED, SKIPPED)).all()


def check_same_key_same_score(oracle: Oracle) -> None:
    """The same keys give the same numbers, and repeats in a batch agree."""
    tokens = np.repeat(lanes_of(oracle, 2, BATCH // 2), 2, axis=0)
    first = ask(oracle, tokens)
    _same(first, ask(oracle, tokens))
    _same(_map(lambda leaf: leaf[::2], first), _map(lambda leaf: leaf[1::2], first))


def check_inactive_skipped(oracle: Oracle) -> None:
    """Inactive lanes are SKIPPED with NaN, cost nothing, and do not change the others."""
    tokens = lanes_of(oracle)
    active = np.arange(BATCH) % 2 == 0
    part, whole = ask(oracle, tokens, active), ask(oracle, tokens)
    assert (part.status[~active] == SKIPPED).all()
    assert np.isnan(part.objectives[~active]).all()
    assert (part.cost[~active] == 0).all()
    _same(_map(lambda leaf: leaf[active], part), _map(lambda leaf: leaf[active], whole))


def check_truth(oracle: Oracle) -> None:
    """Where the truth is known it is what was measured, and the spread is not negative."""
    if not isinstance(oracle, Truthful):
        return
    tokens, params = jnp.asarray(lanes_of(oracle)), oracle.params()
    truth = np.asarray(cast(Truthful, oracle).truth(params, tokens))
    assert truth.shape == (BATCH, len(oracle.objectives))
    np.testing.assert_array_equal(truth, ask(oracle, np.asarray(tokens)).objectives)
    if isinstance(oracle, Uncertain):
        spread = np.asarray(cast(Uncertain, oracle).spread(params, tokens))
        assert spread.shape == truth.shape
        assert (spread >= 0).all()


def check_columns(oracle: Oracle) -> None:
    """A table's columns list the whole space in order and agree with ``evaluate``."""
    if not (isinstance(oracle, Enumerated) and enumerable(oracle.space)):
        return
    members = tk.enumerate_space(oracle.space)
    columns = cast(Enumerated, oracle).columns()
    rows = np.linspace(0, len(members) - 1, BATCH).astype(int)
    measured = ask(oracle, members[rows]).objectives
    for place, objective in enumerate(oracle.objectives):
        column = columns[objective.name]
        assert column.shape == (len(members),)
        np.testing.assert_allclose(measured[:, place], column[rows], rtol=1e-6)


ORACLE_CHECKS: tuple[Callable[[Oracle], None], ...] = (
    check_static_argument,
    check_record,
    check_batch_equals_loop,
    check_permutation,
    check_finite_or_flagged,
    check_same_key_same_score,
    check_inactive_skipped,
    check_truth,
    check_columns,
)
"""Every promise of an oracle."""
