"""What every algorithm must do, as checks that raise ``AssertionError``.

``ALGORITHM_CHECKS`` lists those that need only an algorithm and a traced oracle over its
space; each costs at most two compilations, shared between the checks::

    @pytest.mark.parametrize("check", ALGORITHM_CHECKS)
    def test_algorithm(check):
        check(MyAlgorithm(space=space, batch=4), oracle)
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.core import tokens as tk
from jaxnas.core.algorithm import Algorithm
from jaxnas.core.oracle import Oracle
from jaxnas.core.types import FAILED, OK, SKIPPED, Evaluation
from jaxnas.testing import expect

SEEDS = 24
UPDATES = 60
ALIKE = 6
"""Updates over which one controller and one of many must propose the same."""
DISTINCT = 0.12
"""Least share of a controller's proposals that are distinct: below it, it has collapsed."""
LEVEL = 1e-3
"""Chance that an algorithm no better than random passes for better."""


class Trial(NamedTuple):
    """What ``SEEDS`` controllers did in ``UPDATES`` updates; ``P`` is ``SEEDS``."""

    state: PyTree
    early: PyTree
    """States after ``ALIKE`` updates."""
    tokens: Int[np.ndarray, "T P B L"]
    active: np.ndarray
    """``bool[T, P, B]``."""
    reward: Float[np.ndarray, "T P B"]
    """True rewards, maximised, of failed evaluations too."""


@functools.lru_cache(maxsize=64)
def _updater(algo: Algorithm, oracle: Oracle) -> Callable[..., Any]:
    """Returns one ask, evaluate, tell and learn; lanes fail with probability ``rate``."""
    sign = 1.0 if oracle.objectives[0].maximise else -1.0

    def update(
        key: Key[Array, ""], params: PyTree, state: PyTree, rate: Float[Array, ""]
    ) -> tuple[PyTree, PyTree]:
        *keys, learn_key = jax.random.split(key, 4 * algo.rounds + 1)
        seen = []
        for ask_key, score_key, fail_key, tell_key in zip(*[iter(keys)] * 4):
            state, proposal = algo.ask(ask_key, state)
            inner = oracle.init(score_key, params)
            _, found = oracle.evaluate(score_key, params, inner, *proposal[:3])
            reward = sign * found.objectives[:, 0]
            seen.append((proposal.tokens, proposal.active, reward))
            failed = jax.random.uniform(fail_key, reward.shape, dtype=jnp.float32) < rate
            found = _failing(found._replace(reward=reward), failed)
            state = algo.tell(tell_key, state, proposal, found)
        state, metrics = algo.learn(learn_key, state)
        return state, (jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen), metrics)

    return update


def _failing(found: Evaluation, failed: Array) -> Evaluation:
    """Returns the evaluation with some lanes failed: status and NaN, as an oracle does."""
    status = jnp.where(failed & (found.status != SKIPPED), FAILED, found.status)
    ok = status == OK
    return found._replace(
        objectives=jnp.where(ok[:, None], found.objectives, jnp.nan),
        reward=jnp.where(ok, found.reward, jnp.nan),
        status=status,
    )


def _keys(seed: int) -> Key[Array, "T P"]:
    return jax.random.split(jax.random.key(seed), UPDATES * SEEDS).reshape(UPDATES, SEEDS)


@functools.partial(jax.jit, static_argnums=0)
def _start(algo: Algorithm) -> PyTree:
    keys = jax.random.split(jax.random.key(7), SEEDS)
    return jax.vmap(algo.init, in_axes=(0, None))(keys, _preset(algo))


def _preset(algo: Algorithm) -> PyTree:
    """Returns the hyperparameters as a search hands them to init: float32 scalars."""
    return jax.tree.map(jnp.float32, algo.default_hparams())


@functools.lru_cache(maxsize=64)
def _many(algo: Algorithm, oracle: Oracle) -> Callable[..., Any]:
    update = jax.vmap(_updater(algo, oracle), in_axes=(0, None, 0, None))

    def run(
        params: PyTree, state: PyTree, keys: Key[Array, "T P"], rates: Float[Array, "T"]
    ) -> tuple[PyTree, PyTree, PyTree]:
        def step(carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
            state, early = carry
            number, keys, rate = xs
            state, (seen, _) = update(keys, params, state, rate)
            chosen = lambda new, old: jnp.where(number < ALIKE, new, old)
            return (state, jax.tree.map(chosen, state, early)), seen

        xs = (jnp.arange(UPDATES, dtype=jnp.int32), keys, rates)
        (state, early), seen = jax.lax.scan(step, (state, state), xs)
        return state, early, seen

    return jax.jit(run)


@functools.lru_cache(maxsize=64)
def _trial(algo: Algorithm, oracle: Oracle, flaky: bool) -> Trial:
    """Returns a trial; a flaky one loses 20 % of the lanes and three whole batches."""
    rates = np.full(UPDATES, 0.2 if flaky else 0.0, np.float32)
    if flaky:
        rates[[0, 10, 11]] = 1.0
    given = (oracle.params(), _start(algo), _keys(11), jnp.asarray(rates))
    state, early, seen = _many(algo, oracle)(*given)
    tokens, active, reward = (np.concatenate(np.moveaxis(x, 2, 1)) for x in seen)
    return Trial(state, early, tokens, active, reward)


def check_static_argument(algo: Algorithm, oracle: Oracle) -> None:
    """An algorithm is frozen, hashable, described and carries a versioned id."""
    expect.static(algo, Algorithm)
    for name in ("batch", "rounds"):
        found = getattr(algo, name)
        assert found >= 1, f"{name} is {found}; make it at least 1"
    differ = f"{algo.space.id} is not {oracle.space.id}; check both on one space"
    assert algo.space == oracle.space, differ


def check_state_fixed(algo: Algorithm, oracle: Oracle) -> None:
    """States keep structure, shapes and 32-bit types; metrics are named scalars."""
    key = jax.random.key(0)
    first = jax.eval_shape(algo.init, key, _preset(algo))
    update = _updater(algo, oracle)
    params = jax.eval_shape(oracle.params)
    then, (_, metrics) = jax.eval_shape(update, key, params, first, jnp.float32(0))
    last, (_, again) = jax.eval_shape(update, key, params, then, jnp.float32(0))
    changed = "ask, tell or learn returned a state of another structure than init; keep it"
    assert jax.tree.structure(first) == jax.tree.structure(then), changed
    for (path, a), *others in zip(*map(jax.tree.leaves_with_path, (first, then, last))):
        name = f"the leaf state{jax.tree_util.keystr(path)}"
        for where, (_, leaf) in zip(("one update", "two updates"), others):
            expect.shaped(f"{name} after {where}", leaf, a.shape, a.dtype)
        assert a.dtype.itemsize <= 8, f"{name} is {a.dtype}; make it of 32 bits"
        weak = f"{name} is weakly typed and compiles twice; write jnp.float32(...) in init"
        assert not getattr(a, "weak_type", False), weak
    names = f"learn returned the metrics {[*metrics]}, then {[*again]}; keep the names"
    assert metrics.keys() == again.keys(), names
    for name, metric in metrics.items():
        expect.shaped(f"the metric {name!r} of learn", metric, (), jnp.float32)


def check_hparams_in_state(algo: Algorithm, oracle: Oracle) -> None:
    """Hyperparameters live in the state, traced: a grid of them is one program."""
    hparams = _preset(algo)
    state = jax.eval_shape(algo.init, jax.random.key(0), hparams)
    stored = state.hparams
    lost = f"state.hparams is {stored}; make it the {type(hparams).__name__} given to init"
    assert jax.tree.structure(stored) == jax.tree.structure(hparams), lost
    for path, leaf in jax.tree.leaves_with_path(stored):
        expect.shaped(f"state.hparams{jax.tree_util.keystr(path)}", leaf, (), jnp.float32)


def check_single_and_one_trace(
    algo: Algorithm, oracle: Oracle, *, exact: bool = False
) -> None:
    """One controller alone does what it does among many, and compiles once.

    With ``exact`` all of its state must be equal; gradient algorithms round floats
    differently by width, and are held to a relative 1e-4.
    """
    trial = _trial(algo, oracle, False)
    traces = []

    @jax.jit
    def update(key: Any, params: Any, state: Any) -> Any:
        traces.append(1)
        return _updater(algo, oracle)(key, params, state, jnp.float32(0))

    state = jax.tree.map(lambda leaf: leaf[0], _start(algo))
    keys, params = _keys(11)[:, 0], oracle.params()
    for step in range(ALIKE):
        state, (seen, _) = update(keys[step], params, state)
        rows = slice(step * algo.rounds, (step + 1) * algo.rounds)
        text = f"update {step}: alone and among {SEEDS} it must propose the same tokens"
        expect.same(seen[0], trial.tokens[rows, 0], text)
    assert len(traces) == 1, (
        f"one update was traced {len(traces)} times; keep shapes, dtypes and weak types of "
        "the state"
    )
    both = zip(*map(jax.tree.leaves_with_path, (state, trial.early)))
    for (path, alone), (_, among) in both:
        name = jax.tree_util.keystr(path)
        text = f"state{name} must be the same alone and among {SEEDS} controllers"
        if exact or not jnp.issubdtype(alone.dtype, jnp.floating):
            expect.same(alone, among[0], text)
        else:
            np.testing.assert_allclose(alone, among[0], 1e-4, 1e-5, err_msg=text)


def check_valid(algo: Algorithm, oracle: Oracle) -> None:
    """Every proposed architecture is in the space, with failures and without."""
    for flaky in (False, True):
        trial = _trial(algo, oracle, flaky)
        rows = trial.tokens[trial.active]
        rows = np.unique(rows, axis=0)
        members = {tuple(row.tolist()) for row in tk.enumerate_space(algo.space)}
        wrong = {tuple(row.tolist()) for row in rows} - members
        assert not wrong, f"ask proposed {min(wrong)}, which the mask forbids; repair it"


def check_finite(algo: Algorithm, oracle: Oracle) -> None:
    """No NaN enters the state, and what began finite stays so, when evaluations fail."""
    first = _start(algo)
    last = _trial(algo, oracle, True).state
    both = zip(*map(jax.tree.leaves_with_path, (first, last)))
    for (path, before), (_, after) in both:
        if jnp.issubdtype(after.dtype, jnp.floating):
            name = f"state{jax.tree_util.keystr(path)}"
            mend = "leave lanes whose status is not OK out of tell and learn"
            assert not np.any(np.isnan(after)), f"NaN in {name}; {mend}"
            if np.all(np.isfinite(before)):
                assert np.all(np.isfinite(after)), f"an infinity in {name}; {mend}"


def check_beats_random(algo: Algorithm, oracle: Oracle) -> None:
    """It finds better architectures than uniform draws, and goes on finding them.

    Three parts, each over ``SEEDS`` seeds:

    - mean true reward of the proposals of the last quarter, against as many draws;
    - mean of the distinct architectures of the whole trial, against as many distinct draws;
    - no seed has collapsed: its distinct architectures are at least ``DISTINCT`` of its
      proposals, or of the space where that is smaller.

    In the first two the number of seeds that win must have a binomial tail below ``LEVEL``
    under a fair coin.
    """
    trial = _trial(algo, oracle, False)
    active, reward = trial.active, trial.reward
    late = active & (np.arange(len(active)) >= 3 * len(active) // 4)[:, None, None]
    assert late.any(axis=(0, 2)).all(), "nothing was proposed in the last quarter"
    sign = 1.0 if oracle.objectives[0].maximise else -1.0
    rewards, rng = sign * _all_rewards(oracle), np.random.default_rng(5)
    proposals, distinct = np.zeros((2, SEEDS)), np.zeros((2, SEEDS))
    for seed in range(SEEDS):
        mine, ours = active[:, seed], reward[:, seed]
        then = ours[late[:, seed]]
        proposals[:, seed] = then.mean(), rng.choice(rewards, then.size).mean()
        _, first = np.unique(trial.tokens[:, seed][mine], axis=0, return_index=True)
        least = math.ceil(DISTINCT * min(mine.sum(), len(rewards)))
        assert len(first) >= least, (
            f"seed {seed} has collapsed: {len(first)} distinct architectures among "
            f"{mine.sum()} proposals, expected {least} or more; explore for longer, such "
            "as by a larger entropy bonus or a smaller learning rate"
        )
        draws = rng.choice(rewards, len(first), replace=False)
        distinct[:, seed] = ours[mine][first].mean(), draws.mean()
    for what, (ours, theirs) in (
        ("the last quarter's proposals", proposals),
        ("equally many distinct architectures", distinct),
    ):
        wins = int(np.sum(ours > theirs))
        tail = sum(math.comb(SEEDS, k) for k in range(wins, SEEDS + 1)) / 2.0**SEEDS
        assert tail < LEVEL, (
            f"{wins} of {SEEDS} seeds beat random by the mean reward of {what}, "
            f"p = {tail:.2g}, expected p < {LEVEL:g}"
        )


def _all_rewards(oracle: Oracle) -> Float[np.ndarray, "n"]:
    members = jnp.asarray(tk.enumerate_space(oracle.space))
    params, key = oracle.params(), jax.random.key(0)
    lanes = jnp.zeros(len(members), jnp.int32)
    state = oracle.init(key, params)
    _, found = oracle.evaluate(key, params, state, members, lanes, lanes == 0)
    return np.asarray(found.objectives[:, 0])


ALGORITHM_CHECKS = (
    check_static_argument, check_state_fixed, check_hparams_in_state,
    check_single_and_one_trace, check_valid, check_finite, check_beats_random,
)  # fmt: skip
