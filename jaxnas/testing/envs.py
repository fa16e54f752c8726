"""What every environment must do; third-party environments can be checked with it too."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxnas.core.environment import Environment
from jaxnas.core.tokens import inverse_cdf
from jaxnas.envs.base import action_size
from jaxnas.testing import expect

STEPS = 40
LANES = 8


def _rollout(
    env: Environment, key: Key[Array, ""], params: PyTree, steps: int = STEPS
) -> PyTree:
    def step(carry: PyTree, i: Array) -> tuple[PyTree, PyTree]:
        state, mask = carry
        act_key, step_key = jax.random.split(jax.random.fold_in(key, i))
        if size := action_size(env):
            action = jax.random.uniform(act_key, (size,), jnp.float32, -1.0, 1.0)
        else:
            legal = jnp.ones(env.num_actions) if mask is None else mask
            drawn = jax.random.uniform(act_key, dtype=jnp.float32)
            action = inverse_cdf(drawn, legal.astype(jnp.float32))
        state, timestep = env.step(step_key, state, action, params)
        return (state, timestep.mask), (action, timestep)

    state, first = env.reset(key, params)
    numbers = jnp.arange(steps, dtype=jnp.int32)
    return first, jax.lax.scan(step, (state, first.mask), numbers)[1]


def _equal(a: PyTree, b: PyTree, text: str) -> None:
    pairs = zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True)
    for (path, x), y in pairs:
        leaf = f"{text}, and {jax.tree_util.keystr(path)} is not"
        np.testing.assert_allclose(x, y, rtol=1e-6, err_msg=leaf)


def check_vmap_equals_single_and_one_trace(env: Environment, params: PyTree) -> None:
    """Many keys at once do what each does alone, and a second call does not trace again."""
    traces = []

    def run(key: Key[Array, ""]) -> PyTree:
        traces.append(1)
        return _rollout(env, key, params)

    keys = jax.random.split(jax.random.key(0), LANES)
    single, many = jax.jit(run), jax.jit(jax.vmap(run))
    both = many(keys)
    for i in (0, LANES - 1):
        text = "an episode must be the same alone and under vmap"
        _equal(single(keys[i]), jax.tree.map(lambda x, i=i: x[i], both), text)
    again = f"traced {len(traces)} times for two programs; keep the state's dtypes"
    assert len(traces) == 2, again


def check_jit_equals_eager(env: Environment, params: PyTree) -> None:
    """Two steps without jit give what jit gives."""
    with jax.disable_jit():
        eager = _rollout(env, jax.random.key(1), params, steps=2)
    compiled = jax.jit(lambda k: _rollout(env, k, params, steps=2))(jax.random.key(1))
    _equal(eager, compiled, "two steps must be the same with and without jit")


def check_masks_and_ends(env: Environment, params: PyTree) -> None:
    """Some action is always legal, and an episode ends in one way at most."""
    keys = jax.random.split(jax.random.key(2), LANES)
    first, (_, steps) = jax.jit(jax.vmap(lambda k: _rollout(env, k, params)))(keys)
    if first.mask is not None:
        for name, mask in (("reset", first.mask), ("step", steps.mask)):
            legal = np.asarray(mask).any(axis=-1)
            expect.every(legal, f"{name} returned a mask without a legal action; leave one")
        found, wanted = steps.mask.shape[-1], env.num_actions
        assert found == wanted, f"mask has {found} entries; make it num_actions = {wanted}"
    running = ~np.asarray(first.terminated | first.truncated)
    expect.every(running, "reset returned an ended episode; start one that is not")
    one = ~np.asarray(steps.terminated & steps.truncated)
    expect.every(one, "step returned terminated and truncated together; choose one")
    finite = np.isfinite(np.asarray(steps.reward))
    expect.every(finite, "step returned a reward that is not finite; it must be, always")


def check_final_observation_kept(env: Environment, params: PyTree) -> None:
    """``final_obs`` is what was seen before any restart: elsewhere it equals ``obs``."""
    first, (_, steps) = jax.jit(lambda k: _rollout(env, k, params))(jax.random.key(3))
    _equal(first.obs, first.final_obs, "reset must return final_obs equal to obs")
    running = ~np.asarray(steps.terminated | steps.truncated)
    pick = lambda tree: jax.tree.map(lambda x: np.asarray(x)[running], tree)
    text = "while an episode runs, final_obs must be equal to obs"
    _equal(pick(steps.obs), pick(steps.final_obs), text)


ENV_CHECKS: tuple[Callable[[Any, PyTree], None], ...] = (
    check_vmap_equals_single_and_one_trace,
    check_jit_equals_eager,
    check_masks_and_ends,
    check_final_observation_kept,
)
"""Every check, each ``check(env, params)``; AssertionError says what is wrong."""
