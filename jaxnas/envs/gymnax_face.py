"""To and from gymnax: the 1.0 signature, in which terminated and truncated are apart."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.environment import Environment
from jaxnas.core.errors import UserError
from jaxnas.core.types import Timestep
from jaxnas.envs import base

UNLIMITED = 2**30
"""Step limit of an environment that has none."""


class GymnaxState(NamedTuple):
    """State of the environment, and the legal actions, which gymnax's signature lacks."""

    inner: PyTree
    mask: Bool[Array, "A"] | None
    time: Int[Array, ""]
    """Steps of the episode."""


@struct.dataclass
class EnvParams:
    """What gymnax calls parameters; both fields are traced."""

    max_steps_in_episode: Any
    """Steps after which an episode is truncated."""
    task: PyTree
    """The environment's own parameters."""


@dataclass(frozen=True)
class GymnaxFace:
    """An environment under gymnax 1.0's signature, for others' training loops.

    ``step`` restarts a finished episode; ``info`` has ``terminated``, ``truncated``,
    ``final_observation`` (before the restart), ``discount`` (0 where terminated) and
    ``action_mask``, the actions that are legal *next*, also found in ``state.mask``.
    Nothing traced can refuse an action out of range: what it does is the environment's
    (one that writes tokens ends the episode, a latent one moves nothing).

    Args:
        env: an environment with vector observations, such as ``ScoredEnv``.
        joined: whether ``step`` gives five values with one ``done``, as gymnax 0 did and
            rejax unpacks, instead of six with ``terminated`` and ``truncated``.

    Raises:
        UserError: its observations are not vectors.
    """

    env: Environment
    joined: bool = False

    def __post_init__(self) -> None:
        check_vectorial(self.env)

    @property
    def name(self) -> str:
        """Name of the environment."""
        return type(self.env).__name__

    @property
    def num_actions(self) -> int:
        """Number of actions, ``A``."""
        return self.env.num_actions

    @property
    def default_params(self) -> EnvParams:
        """The environment's own task, and its step limit where it has one."""
        limit = self.env.max_steps if isinstance(self.env, base.Limited) else UNLIMITED
        return EnvParams(limit, base.default_params(self.env))

    def reset(
        self, key: Key[Array, ""], params: EnvParams | None = None
    ) -> tuple[PyTree, GymnaxState]:
        """Returns the first observation ``[F]`` and state; the default task if None."""
        params = self.default_params if params is None else params
        state, seen = self.env.reset(key, params.task)
        return seen.obs, GymnaxState(state, seen.mask, jnp.int32(0))

    def step(
        self,
        key: Key[Array, ""],
        state: GymnaxState,
        action: int | float | Array,
        params: EnvParams | None = None,
    ) -> tuple[Any, ...]:
        """Returns observation, state, reward, terminated, truncated and ``info``."""
        params = self.default_params if params is None else params
        kind = jnp.float32 if base.action_size(self.env) else jnp.int32
        step_key, reset_key = jax.random.split(key)
        inner, after = self.env.step(
            step_key, state.inner, jnp.asarray(action, kind), params.task
        )
        time = state.time + 1
        cut = after.truncated | (time >= params.max_steps_in_episode)
        after = after._replace(truncated=cut & ~after.terminated)
        inner, seen = base.restart(inner, after, *self.env.reset(reset_key, params.task))
        over = base.done(seen)
        info = {
            "terminated": seen.terminated,
            "truncated": seen.truncated,
            "final_observation": seen.final_obs,
            "discount": jnp.where(seen.terminated, 0.0, 1.0),
            "action_mask": seen.mask,
        }
        state = GymnaxState(inner, seen.mask, jnp.where(over, 0, time))
        ends = (over,) if self.joined else (seen.terminated, seen.truncated)
        return (seen.obs, state, seen.reward, *ends, info)

    def action_space(self, params: EnvParams | None = None) -> Any:
        """Returns gymnax's ``Discrete(A)``, or the ``Box`` of continuous actions.

        Raises:
            UserError: gymnax is not installed.
        """
        if size := base.action_size(self.env):
            return gymnax_spaces().Box(-1.0, 1.0, (size,), jnp.float32)
        return gymnax_spaces().Discrete(self.num_actions)

    def observation_space(self, params: EnvParams | None = None) -> Any:
        """Returns ``gymnax.environments.spaces.Box`` of the features ``[F]``.

        Raises:
            UserError: gymnax is not installed.
        """
        env = cast(base.Vectorial, self.env)
        low, high = env.observation_bounds
        shape = (env.observation_size,)
        return gymnax_spaces().Box(low, high, shape, jnp.float32)

    def state_space(self, params: EnvParams | None = None) -> Any:
        """Returns gymnax's ``Dict`` of the state's leaves by path, each a ``Box``.

        Raises:
            UserError: gymnax is not installed.
        """
        state = jax.eval_shape(self.reset, jax.random.key(0), params)[1]
        spaces = gymnax_spaces()
        found, _ = jax.tree_util.tree_flatten_with_path(state)
        box = lambda leaf: spaces.Box(*_bounds(leaf.dtype), leaf.shape, leaf.dtype)
        named = {jax.tree_util.keystr(path): box(leaf) for path, leaf in found}
        return spaces.Dict(named)


def _bounds(dtype: Any) -> tuple[Any, Any]:
    if jnp.issubdtype(dtype, jnp.bool_):
        return 0, 1
    facts: Any = jnp.finfo if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo
    return facts(dtype).min, facts(dtype).max


@dataclass(frozen=True, eq=False)
class _OfGymnax:
    """What both forms of a gymnax environment have: every action is legal."""

    env: Any

    @property
    def num_actions(self) -> int:
        """Number of actions, ``A``."""
        return self.env.num_actions

    @property
    def always_legal(self) -> bool:
        """True."""
        return True

    def params(self) -> PyTree:
        """Returns gymnax's default parameters as float32 and int32 arrays."""
        return jax.tree.map(jnp.asarray, self.env.default_params)

    def reset(self, key: Key[Array, ""], params: PyTree = None) -> tuple[PyTree, Timestep]:
        """Returns the first state and time step of an episode."""
        obs, state = self._reset(key, base.default_params(self, params))
        return jax.tree.map(jnp.asarray, state), base.timestep(obs, self._mask)

    @property
    def _reset(self) -> Any:
        return self.env.reset

    @property
    def _mask(self) -> Bool[Array, "A"]:
        return jnp.ones(self.num_actions, bool)


class FromGymnax(_OfGymnax):
    """Anything with gymnax 1.0's ``reset`` and ``step``, wrappers too; it restarts itself.

    Every action is legal. Where gymnax reports a step as both terminated and truncated it
    counts as terminated. :func:`from_gymnax` chooses the faster form where there is one.
    """

    @property
    def continuing(self) -> bool:
        """True."""
        return True

    def step(
        self, key: Key[Array, ""], state: PyTree, action: Int[Array, ""], params: Any = None
    ) -> tuple[PyTree, Timestep]:
        """Returns the state and time step after ``action`` and, where due, the reset."""
        params = base.default_params(self, params)
        obs, after, reward, terminated, truncated, info = self.env.step(
            key, state, action, params
        )
        seen = base.timestep(obs, self._mask, _scalar(reward), terminated, truncated)
        seen = seen._replace(final_obs=info["final_observation"])
        return jax.tree.map(_as_before, after, state), seen


class FromGymnaxDynamics(_OfGymnax):
    """The dynamics of a gymnax environment without its automatic reset.

    Whoever steps it decides when to draw new episodes, which a rollout does all at once:
    random bits inside a step loop cost more on CPU than a small environment does. It must
    be an instance of gymnax's ``Environment`` that does not override ``step``.
    """

    @property
    def _reset(self) -> Any:
        return self.env.reset_env

    def step(
        self, key: Key[Array, ""], state: PyTree, action: Int[Array, ""], params: Any = None
    ) -> tuple[PyTree, Timestep]:
        """Returns the state and time step after ``action``."""
        params = base.default_params(self, params)
        obs, after, reward, terminated, _ = self.env.step_env(key, state, action, params)
        truncated = self.env.is_truncated(after, params)
        seen = base.timestep(obs, self._mask, _scalar(reward), terminated, truncated)
        return jax.tree.map(_as_before, after, state), seen


def from_gymnax(env: Any) -> FromGymnax | FromGymnaxDynamics:
    """Returns a gymnax 1.0 environment, or a wrapper, under this library's protocol."""
    try:
        from gymnax.environments.environment import Environment as GymnaxEnvironment
    except ModuleNotFoundError:  # the signature without the package
        return FromGymnax(env)
    own_step = (
        isinstance(env, GymnaxEnvironment) and type(env).step is GymnaxEnvironment.step
    )
    return FromGymnaxDynamics(env) if own_step else FromGymnax(env)


def _scalar(reward: Any) -> Float[Array, ""]:
    """Returns a reward as a float32 scalar; some environments give ``[1]``."""
    return jnp.asarray(reward, jnp.float32).reshape(())


def _as_before(new: Any, old: Array) -> Array:
    """Returns a leaf of the state in the type that it had, as a scan needs it."""
    if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        return new
    return jnp.asarray(new, old.dtype)


def check_vectorial(env: Environment) -> None:
    """Raises a UserError where observations are not float vectors."""
    if not isinstance(env, base.Vectorial):
        raise UserError(
            f"The observations of {type(env).__name__} are not vectors; wrap it in "
            "ScoredEnv, or give it `observation_size` and `observation_bounds`."
        )


@functools.cache
def gymnax_spaces() -> Any:
    """Returns gymnax's own module of spaces, so that its wrappers recognise them.

    Raises:
        UserError: gymnax is not installed.
    """
    try:
        from gymnax.environments import spaces
    except ModuleNotFoundError as error:
        raise UserError(
            "gymnax's spaces need gymnax: run `pip install 'gymnax>=1.0.1'`."
        ) from error
    return spaces
