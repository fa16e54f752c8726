"""Experience of one controller in a batch of environments, and its advantages.

The step loop runs the policy only. Of a feed-forward net, values are computed after it, for
the whole rollout in one pass; a separate critic is then never run inside the loop.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Key, PyTree

from jaxnas.controllers.actions import ActionHead, action_head
from jaxnas.core.environment import Environment
from jaxnas.core.layout import branch, per_controller
from jaxnas.core.trees import num_bytes
from jaxnas.core.types import PolicyOutput, Timestep
from jaxnas.envs import base
from jaxnas.rl.returns import gae

Scalar = float | Float[Array, ""]
DRAWN_BYTES = 2**20
"""New episodes of one rollout are drawn ahead where they take no more than this."""


class Stream(NamedTuple):
    """Where the experience of a controller stands, between two rollouts."""

    state: PyTree
    """Of ``E`` environments."""
    obs: PyTree
    mask: Bool[Array, "E A"] | None
    carry: PyTree
    """The controller's memory; no leaves where the net is feed-forward."""
    reset: Bool[Array, "E"]
    """An episode begins with the next observation."""
    returns: Float[Array, "E"]
    """Undiscounted rewards of the running episodes."""
    ledger: Float[Array, "E"]
    """Where a ``Deferring`` environment stands with its payments; zeros elsewhere."""


class Rollout(NamedTuple):
    """``T`` steps of ``E`` environments, in order of time."""

    obs: PyTree
    """What was acted on, ``[T, E, ...]``."""
    mask: Bool[Array, "T E A"] | None
    """None where the environment says that every action is legal."""
    reset: Bool[Array, "T E"]
    """The memory was cleared before this step."""
    action: Array
    """``int[T, E]``, or ``float[T, E, D]`` where actions are continuous."""
    logits: Float[Array, "T E V"]
    """Before masking and temperature."""
    value: Float[Array, "T E"] | None
    """What the critic of a recurrent net said at each step; else None."""
    carry: PyTree
    """The memory after each step, ``[T, E, ...]``."""
    reward: Float[Array, "T E"]
    terminated: Bool[Array, "T E"]
    truncated: Bool[Array, "T E"]
    final_obs: PyTree
    """The observation after each step, before any reset."""
    returns: Float[Array, "T E"]
    """Undiscounted return of an episode that ended here; not to be read elsewhere."""
    moves: tuple[PyTree, PyTree] | None
    """States acted on and states that followed, while rewards are not paid yet."""
    potential: tuple[Float[Array, "T E"], Float[Array, "T E"]] | None
    """Before and after each step, where rewards are changes of one; see ``Paid``."""


class Estimates(NamedTuple):
    """Values, advantages and log-probabilities of a rollout, ``[T, E]`` each."""

    value: Float[Array, "T E"]
    """What the critic said; its target is this plus the advantage."""
    advantage: Float[Array, "T E"]
    log_prob: Float[Array, "T E"]
    """Of the actions taken, nats."""


def is_recurrent(module: nn.Module) -> bool:
    """Returns whether a controller has memory."""
    controller: Any = module
    return bool(jax.tree.leaves(jax.eval_shape(lambda: controller.initial_carry(1))))


def policy(
    module: nn.Module, params: PyTree, carry: PyTree, obs: PyTree, reset: Bool[Array, "n"]
) -> tuple[PyTree, PolicyOutput]:
    """Returns the memory after, and the policy of, one step."""
    after: Any = module.apply(params, carry, obs, reset)
    return after


def head_of(env: Environment) -> ActionHead:
    """Returns what a controller's logits mean in an environment."""
    return action_head(env.num_actions, base.action_size(env))


def defers(env: Environment, env_params: PyTree) -> bool:
    """Returns whether an environment's rewards are paid after the rollout."""
    return isinstance(env, base.Deferring) and env.defers(env_params)


def acted_on(env: Environment, env_params: PyTree) -> Environment:
    """Returns what a rollout steps: the environment, or its form without rewards."""
    return cast(Any, env).unpaid() if defers(env, env_params) else env


def open_stream(
    key: Key[Array, ""],
    env: Environment,
    module: nn.Module,
    env_params: PyTree,
    num_envs: int,
) -> Stream:
    """Returns ``num_envs`` fresh episodes."""
    keys = jax.random.split(key, num_envs)
    env = acted_on(env, env_params)
    state, timestep = jax.vmap(env.reset, in_axes=(0, None))(keys, env_params)
    controller: Any = module
    return Stream(
        state=state, obs=timestep.obs, mask=timestep.mask,
        carry=controller.initial_carry(num_envs), reset=jnp.ones(num_envs, bool),
        returns=jnp.zeros(num_envs, jnp.float32), ledger=jnp.zeros(num_envs, jnp.float32),
    )  # fmt: skip


def collect(
    key: Key[Array, ""],
    env: Environment,
    module: nn.Module,
    params: PyTree,
    env_params: PyTree,
    stream: Stream,
    temperature: Scalar,
    num_steps: int,
) -> tuple[Stream, Rollout]:
    """Returns ``num_steps`` steps in each environment, and where the stream then stands.

    ``key`` is used up: all uniforms that choose actions come from one draw of it. The
    environment need not restart itself; ``env_params`` are shared by its ``E`` copies;
    ``temperature`` > 0 is the policy's; ``num_steps`` is ``T``.
    """
    shape, remembers = (num_steps, stream.reset.shape[0]), is_recurrent(module)
    act_key, env_key = jax.random.split(key)
    head, deferring, free = head_of(env), defers(env, env_params), base.always_legal(env)
    uniforms = jax.random.uniform(act_key, (*shape, *head.num_uniforms), dtype=jnp.float32)
    acted = acted_on(env, env_params)
    draws, advance = _dynamics(acted, env_params, env_key, shape)

    def step(stream: Stream, draw: tuple[Array, PyTree]) -> tuple[Stream, Rollout]:
        uniform, chance = draw
        carry, out = policy(module, params, stream.carry, stream.obs, stream.reset)
        mask = None if free else stream.mask
        action = head.sample(uniform, out.logits, mask, temperature)
        state, after, reached = advance(chance, stream.state, action)
        over = after.terminated | after.truncated
        returns = stream.returns + after.reward
        seen = Rollout(
            obs=stream.obs, mask=mask, reset=stream.reset, action=action, logits=out.logits,
            value=out.value if remembers else None, carry=carry, reward=after.reward,
            terminated=after.terminated, truncated=after.truncated,
            final_obs=after.final_obs, returns=returns,
            moves=(stream.state, reached) if deferring else None, potential=None,
        )  # fmt: skip
        running = jnp.where(over, 0.0, returns)
        ledger = stream.ledger
        return Stream(state, after.obs, after.mask, carry, over, running, ledger), seen

    after, rollout = jax.lax.scan(step, stream, (uniforms, draws))
    if not isinstance(env, base.Deferring) or not deferring:
        return after, rollout
    pay_key = jax.random.fold_in(env_key, num_steps)
    before, reached = rollout.moves or ((), ())
    moves = base.Moves(before, reached, rollout.reset, rollout.terminated)
    paid = per_controller(env.evaluate_rollout)(pay_key, env_params, moves, stream.ledger)
    ended = rollout.terminated | rollout.truncated
    running, returns = _running_returns(stream.returns, paid.reward, ended)
    after = after._replace(returns=running, ledger=paid.ledger)
    potential = (paid.before, paid.after)
    return after, rollout._replace(
        reward=paid.reward, returns=returns, moves=None, potential=potential
    )


def _running_returns(
    start: Float[Array, "E"], reward: Float[Array, "T E"], ended: Bool[Array, "T E"]
) -> tuple[Float[Array, "E"], Float[Array, "T E"]]:
    def add(total: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        total = total + step[0]
        return jnp.where(step[1], 0.0, total), total

    return jax.lax.scan(add, start, (reward, ended))


def _dynamics(
    env: Environment, env_params: PyTree, key: Key[Array, ""], shape: tuple[int, int]
) -> tuple[PyTree, Callable[[PyTree, PyTree, Array], tuple[PyTree, Timestep, PyTree]]]:
    """Returns the chance of every step, ``[T, E, ...]``, and the step that it enters.

    The step gives state, time step, and the state before any reset that is not the
    environment's own.

    New episodes of an environment that does not restart itself are all drawn before the
    step loop where they are small: drawing random bits is many tiny operations, whose cost
    inside the loop is that of the rest of the step.
    """
    step_key, reset_key = jax.random.split(key)
    step_keys = jax.random.split(step_key, shape)
    step = jax.vmap(env.step, in_axes=(0, 0, 0, None))
    if isinstance(env, base.Continuing):

        def go_on(chance: PyTree, state: PyTree, action: Array) -> Any:
            state, after = step(chance, state, action, env_params)
            return state, after, state

        return step_keys, go_on
    reset = jax.vmap(env.reset, in_axes=(0, None))
    reset_keys = jax.random.split(reset_key, shape)

    def advance(chance: PyTree, state: PyTree, action: Array) -> Any:
        step_keys, fresh = chance
        if not drawn:
            fresh = reset(fresh, env_params)
        reached, after = step(step_keys, state, action, env_params)
        return *jax.vmap(base.restart)(reached, after, *fresh), reached

    everything = jax.vmap(reset, in_axes=(0, None))
    drawn = num_bytes(jax.eval_shape(everything, reset_keys, env_params)) <= DRAWN_BYTES
    return (step_keys, everything(reset_keys, env_params) if drawn else reset_keys), advance


def compute_gae(
    head: ActionHead,
    module: nn.Module,
    params: PyTree,
    rollout: Rollout,
    stream: Stream,
    temperature: Scalar,
    gamma: Scalar,
    gae_lambda: Scalar,
) -> Estimates:
    """Returns values, advantages and log-probabilities of a rollout.

    A truncated step is bootstrapped from its ``final_obs``, a terminated one from nothing,
    and the last step is followed by the observation of ``stream``.

    Where rewards are changes of a known potential, the critic's value ``U`` stands for the
    potential that an episode will end with, and what is still to come is ``U - potential``.
    The critic need not learn the potential, whose part that it cannot tell from the
    observation would be noise in every advantage.
    """
    value, next_value = per_controller(lambda *args: _values(module, *args))(
        params,
        (rollout.obs, rollout.final_obs, rollout.truncated),
        (rollout.value, rollout.carry),
        (stream.obs, stream.carry, stream.reset),
    )
    before, after = rollout.potential or (0.0, 0.0)
    lanes = jax.vmap(gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
    advantage = lanes(
        rollout.reward, value - before, next_value - after, rollout.terminated,
        rollout.truncated, gamma, gae_lambda,
    )  # fmt: skip
    drawn = head.choice(rollout.logits, rollout.mask, temperature, rollout.action)
    return Estimates(value, advantage, drawn.log_prob)


def _values(
    module: nn.Module,
    params: PyTree,
    seen: tuple[PyTree, PyTree, Bool[Array, "T E"]],
    remembered: tuple[Float[Array, "T E"] | None, PyTree],
    last: tuple[PyTree, PyTree, Bool[Array, "E"]],
) -> tuple[Float[Array, "T E"], Float[Array, "T E"]]:
    obs, final_obs, truncated = seen
    value, carries = remembered
    last_obs, last_carry, last_reset = last
    T, E = truncated.shape
    flat = lambda leaf: leaf.reshape(T * E, *leaf.shape[2:])
    if value is None:
        every = jax.tree.map(lambda a, b: jnp.concatenate([flat(a), b]), obs, last_obs)
        _, out = policy(module, params, last_carry, every, jnp.zeros((T + 1) * E, bool))
        value, last_value = out.value[: T * E].reshape(T, E), out.value[T * E :]
    else:
        last_value = policy(module, params, last_carry, last_obs, last_reset)[1].value
    following = jnp.concatenate([value[1:], last_value[None]])

    def of_final(params: PyTree, cut: PyTree, following: Array) -> Float[Array, "T E"]:
        carries, final_obs, truncated = cut
        carry, final = jax.tree.map(flat, (carries, final_obs))
        _, out = policy(module, params, carry, final, jnp.zeros(T * E, bool))
        return jnp.where(truncated, out.value.reshape(T, E), following)

    cut = (carries, final_obs, truncated)
    rest = lambda params, cut, following: following
    return value, branch(jnp.any(truncated), of_final, rest, params, cut, following)
