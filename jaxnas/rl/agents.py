"""Trained agents: what they achieve over whole episodes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.trees import select
from jaxnas.envs.base import Continuing, done
from jaxnas.envs.change import ChangeEnv
from jaxnas.rl.rollout import head_of, policy
from jaxnas.rl.training import EnvTraining


class Episodes(NamedTuple):
    """``N`` whole episodes."""

    returns: Float[Array, "N"]
    """Undiscounted."""
    length: Int[Array, "N"]
    terminated: Bool[Array, "N"]
    """False where an episode was cut off."""
    score: Float[Array, "N"]
    """Of the architecture that a ``ChangeEnv`` ended with; NaN of other environments."""
    state: PyTree
    """Of the environment at the end."""
    begun: PyTree
    """Of the environment at the beginning."""
    entropy: Float[Array, "N"]
    """Of the policy, mean over the steps; nats."""


def evaluate(
    key: Key[Array, ""],
    training: EnvTraining,
    params: PyTree,
    env_params: PyTree,
    *,
    episodes: int = 100,
    horizon: int = 200,
    greedy: bool = True,
    temperature: float | Float[Array, ""] = 1.0,
) -> Episodes:
    """Returns what a trained controller does in ``episodes`` fresh episodes; pure.

    ``params`` are the controller's, ``TrainState.params``; an episode counts as cut off
    after ``horizon`` steps; actions are the most likely, or draws at ``temperature``.

    Raises:
        UserError: an environment that restarts itself, so that its episodes have no end.
    """
    if isinstance(training.env, Continuing):
        raise UserError("An environment that restarts itself has no episodes; unwrap it.")
    settings = (horizon, greedy, temperature)
    one = lambda key: _episode(key, training, params, env_params, *settings)
    return jax.vmap(one)(jax.random.split(key, episodes))


def _episode(
    key: Key[Array, ""],
    training: EnvTraining,
    params: PyTree,
    env_params: PyTree,
    horizon: int,
    greedy: bool,
    temperature: float | Float[Array, ""],
) -> Episodes:
    env: Any = training.env
    module: Any = training.module
    head = head_of(env)
    reset_key, act_key, env_key, score_key = jax.random.split(key, 4)

    def act(
        key: Array, memory: PyTree, seen: Any, first: Array
    ) -> tuple[PyTree, Array, Array]:
        obs, mask = jax.tree.map(lambda x: x[None], (seen.obs, seen.mask))
        memory, out = policy(module, params, memory, obs, first[None])
        if greedy:
            action = head.best(out.logits, mask)
        else:
            uniform = jax.random.uniform(key, (1, *head.num_uniforms), dtype=jnp.float32)
            action = head.sample(uniform, out.logits, mask, temperature)
        entropy = head.choice(out.logits, mask, temperature, action).entropy
        return memory, action[0], entropy[0]

    def step(carried: PyTree, t: Int[Array, ""]) -> tuple[PyTree, None]:
        state, seen, memory, played = carried
        at = lambda key: jax.random.fold_in(key, t)
        memory, action, entropy = act(at(act_key), memory, seen, t == 0)
        after, new = env.step(at(env_key), state, action, env_params)
        running = ~done(seen)
        played = played._replace(
            returns=played.returns + jnp.where(running, new.reward, 0.0),
            length=played.length + running,
            entropy=played.entropy + jnp.where(running, entropy, 0.0),
        )
        state, seen = select(running, (after, new), (state, seen))
        return (state, seen, memory, played), None

    state, seen = env.reset(reset_key, env_params)
    no, zero = jnp.asarray(False), jnp.float32(0.0)
    played = Episodes(zero, jnp.int32(0), no, jnp.float32(jnp.nan), (), (), zero)
    first, begin = state, (state, seen, module.initial_carry(1), played)
    (state, seen, _, played), _ = jax.lax.scan(
        step, begin, jnp.arange(horizon, dtype=jnp.int32)
    )
    if isinstance(env, ChangeEnv):
        held = jax.tree.map(lambda x: x[None], state.dynamics)
        score = env.score(score_key, env_params, held, jnp.ones(1, bool))[0]
        played = played._replace(score=score)
    entropy = played.entropy / jnp.maximum(played.length, 1)
    played = played._replace(begun=first, entropy=entropy)
    return played._replace(terminated=seen.terminated, state=state)
