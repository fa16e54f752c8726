"""Environments under gymnasium's interface: one at a time, or any number in one program.

Needs gymnasium (extra ``gym``); importing this module without it is a ``UserError``.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.environment import Environment
from jaxnas.core.errors import UserError
from jaxnas.core.rng import root_key
from jaxnas.core.types import Timestep
from jaxnas.envs.base import action_size, default_params, done, restart
from jaxnas.envs.gymnax_face import check_vectorial

try:
    import gymnasium
    from gymnasium import spaces
    from gymnasium.vector import AutoresetMode
    from gymnasium.vector.utils import batch_space
except ModuleNotFoundError as error:
    raise UserError(
        "The gymnasium face needs gymnasium: run `pip install 'jaxnas[gym]'`."
    ) from error


class Lane(NamedTuple):
    """One copy of the environment, and the place in its stream of random numbers.

    Step ``t`` of episode ``e`` uses ``fold_in(fold_in(key, e), t)``, reset being ``t = 0``.
    So a lane of a batch and an environment of its own meet the same numbers.
    """

    key: Key[Array, ""]
    episode: Int[Array, ""]
    time: Int[Array, ""]
    state: PyTree


def _open(
    env: Environment, params: PyTree, key: Key[Array, ""], episode: Int[Array, ""]
) -> tuple[Lane, Timestep]:
    here = jax.random.fold_in(jax.random.fold_in(key, episode), 0)
    state, timestep = env.reset(here, params)
    return Lane(key, jnp.asarray(episode, jnp.int32), jnp.int32(0), state), timestep


def _advance(
    env: Environment, params: PyTree, lane: Lane, action: Array
) -> tuple[Lane, Timestep]:
    time = lane.time + 1
    here = jax.random.fold_in(jax.random.fold_in(lane.key, lane.episode), time)
    state, timestep = env.step(here, lane.state, action, params)
    return lane._replace(time=time, state=state), timestep


def _advance_restarting(
    env: Environment, params: PyTree, lane: Lane, action: Array
) -> tuple[Lane, Timestep, Array | None]:
    """Returns a lane after one action and its reset where due, and the mask before that."""
    lane, after = _advance(env, params, lane, action)
    fresh, opening = _open(env, params, lane.key, lane.episode + 1)
    return *restart(lane, after, fresh, opening), after.mask


_open_one = functools.partial(jax.jit, static_argnums=0)(_open)
_advance_one = functools.partial(jax.jit, static_argnums=0)(_advance)


@functools.partial(jax.jit, static_argnums=0)
def _open_all(
    env: Environment, params: PyTree, keys: Key[Array, "E"], episode: Int[Array, "E"]
) -> tuple[Lane, Timestep]:
    return jax.vmap(lambda key, e: _open(env, params, key, e))(keys, episode)


@functools.partial(jax.jit, static_argnums=0)
def _advance_all(
    env: Environment, params: PyTree, lanes: Lane, actions: Array
) -> tuple[Lane, Timestep, Array | None]:
    return jax.vmap(lambda lane, a: _advance_restarting(env, params, lane, a))(
        lanes, actions
    )


class GymnasiumEnv(gymnasium.Env):
    """A ``gymnasium.Env`` over an environment with vector observations.

    ``info["action_mask"]`` is ``int8[A]``, 1 where an action is legal next, as
    ``action_space.sample(mask)`` takes it. ``task`` may be replaced between episodes by
    parameters of the same shapes without compiling again.

    Args:
        env: the environment, such as ``ScoredEnv``.
        task: its traced parameters; its own by default.

    Raises:
        UserError: observations that are not vectors.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # gymnasium's type

    def __init__(self, env: Environment, task: PyTree | None = None) -> None:
        check_vectorial(env)
        self.env = env
        self.task = default_params(env) if task is None else task
        self.observation_space = _box(env)
        self.action_space = _actions(env)
        self._key: Array | None = None
        self._mask: np.ndarray | None = None
        self._episode = 0
        self._lane: Lane | None = None

    def reset(
        self, *, seed: SupportsIndex | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, "F"], dict[str, Any]]:
        """Returns the first observation of a new episode; ``options`` are not used."""
        seed = None if seed is None else operator.index(seed)
        super().reset(seed=seed)
        if seed is not None or self._key is None:
            chosen = int(self.np_random.integers(2**31)) if seed is None else seed
            self._key, self._episode = _seeded(chosen), 0
        else:
            self._episode += 1
        self._lane, timestep = _open_one(
            self.env, self.task, self._key, jnp.int32(self._episode)
        )
        return np.asarray(timestep.obs), self._info(timestep)

    def action_masks(self) -> Bool[np.ndarray, "A"]:
        """Returns the actions that are legal next, as sb3-contrib's MaskablePPO asks.

        Raises:
            UserError: ``reset`` was never called.
        """
        if self._mask is None:
            raise UserError("Call `reset` before `action_masks`.")
        return self._mask.astype(bool)

    def _info(self, timestep: Timestep) -> dict[str, Any]:
        self._mask = _legal(self.env, timestep.mask)
        return {"action_mask": self._mask}

    def step(
        self, action: Any
    ) -> tuple[Float[np.ndarray, "F"], float, bool, bool, dict[str, Any]]:
        """Returns what an action leads to; the episode is not restarted.

        Raises:
            UserError: ``reset`` was never called, or an action out of range.
        """
        if self._lane is None:
            raise UserError("Call `reset` before `step`.")
        action = jnp.asarray(_checked(self.env, action, ()))
        self._lane, timestep = _advance_one(self.env, self.task, self._lane, action)
        return (
            np.asarray(timestep.obs),
            float(timestep.reward),
            bool(timestep.terminated),
            bool(timestep.truncated),
            self._info(timestep),
        )


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv):
    """``num_envs`` copies behind one vmapped program, gymnasium's ``SAME_STEP`` autoreset.

    Lane ``i`` seeded with ``s + i`` does what ``GymnasiumEnv`` seeded with ``s + i`` does.
    Where an episode ended, ``obs`` and ``info["action_mask"]`` belong to the next one, and
    ``info["final_obs"]`` and ``info["final_info"]`` to the one that ended.

    Args:
        env: the environment, such as ``ScoredEnv``.
        num_envs: number of copies, at least 1.
        task: traced parameters that all copies share; the environment's own by default.

    Raises:
        UserError: observations that are not vectors, or no copies.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  # gymnasium's type
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, env: Environment, num_envs: int, task: PyTree | None = None) -> None:
        check_vectorial(env)
        if num_envs < 1:
            raise UserError(f"num_envs must be at least 1, not {num_envs}.")
        self.env, self.num_envs = env, num_envs
        self.task = default_params(env) if task is None else task
        self.single_observation_space = _box(env)
        self.single_action_space = _actions(env)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._keys: Array | None = None
        self._lanes: Lane | None = None

    def reset(
        self,
        *,
        seed: SupportsIndex | Sequence[SupportsIndex | None] | np.ndarray | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Float[np.ndarray, "E F"], dict[str, Any]]:
        """Returns the first observations of new episodes in all lanes.

        Args:
            seed: ``s`` seeds lane ``i`` with ``s + i``; a sequence seeds each lane (None
                goes on with its stream); None goes on with all streams.
            options: not used; a ``reset_mask`` is refused, as lanes restart by themselves.

        Raises:
            UserError: a ``reset_mask``, or another number of seeds than of lanes.
        """
        if options and "reset_mask" in options:
            raise UserError(
                "Lanes restart by themselves (autoreset_mode SAME_STEP); call `reset` "
                "without a `reset_mask`."
            )
        if seed is not None and not isinstance(seed, Sequence | np.ndarray):
            seed = operator.index(seed)
        super().reset(seed=seed if isinstance(seed, int) else None)
        keys, episodes = self._streams(seed)
        self._keys = keys
        self._lanes, timestep = _open_all(self.env, self.task, keys, episodes)
        return np.asarray(timestep.obs), self._info(timestep.mask)

    def step(
        self, actions: Any
    ) -> tuple[
        Float[np.ndarray, "E F"],
        Float[np.ndarray, "E"],
        np.ndarray,
        np.ndarray,
        dict[str, Any],
    ]:
        """Returns what one action a lane leads to.

        Raises:
            UserError: ``reset`` was never called, another number of actions than lanes, or
                an action out of range.
        """
        if self._lanes is None:
            raise UserError("Call `reset` before `step`.")
        actions = jnp.asarray(_checked(self.env, actions, (self.num_envs,)))
        self._lanes, seen, ended_mask = _advance_all(
            self.env, self.task, self._lanes, actions
        )
        seen, ended_mask = jax.device_get((seen, ended_mask))
        over = np.asarray(done(seen))
        info = self._info(seen.mask)
        if over.any():
            ended = _legal(self.env, ended_mask, (self.num_envs,))
            info.update(_final(seen.final_obs, ended, over))
        reward = np.asarray(seen.reward, np.float64)
        return np.asarray(seen.obs), reward, seen.terminated, seen.truncated, info

    def _info(self, mask: Any) -> dict[str, Any]:
        legal = _legal(self.env, mask, (self.num_envs,))
        return {"action_mask": legal, "_action_mask": np.ones(len(legal), bool)}

    def _streams(self, seed: Any) -> tuple[Key[Array, "E"], Int[Array, "E"]]:
        if isinstance(seed, int):
            seeds: list[int | None] = [seed + i for i in range(self.num_envs)]
        else:
            given = [None] * self.num_envs if seed is None else list(seed)
            seeds = [None if s is None else operator.index(s) for s in given]
        if len(seeds) != self.num_envs:
            raise UserError(
                f"Give one seed for each of the {self.num_envs} lanes, not {len(seeds)}."
            )
        if self._keys is None or self._lanes is None:
            fresh = self.np_random.integers(2**31, size=self.num_envs)
            seeds = [int(f) if s is None else s for s, f in zip(seeds, fresh, strict=True)]
            return jnp.stack([_seeded(s) for s in seeds if s is not None]), jnp.zeros(
                self.num_envs, jnp.int32
            )
        keys = [self._keys[i] if s is None else _seeded(s) for i, s in enumerate(seeds)]
        kept = jnp.asarray([s is None for s in seeds])
        return jnp.stack(keys), jnp.where(kept, self._lanes.episode + 1, 0)


def _box(env: Any) -> spaces.Box:
    low, high = env.observation_bounds
    return spaces.Box(low, high, (env.observation_size,), np.float32)


def _actions(env: Environment) -> spaces.Discrete | spaces.Box:
    if size := action_size(env):
        return spaces.Box(-1.0, 1.0, (size,), np.float32)
    return spaces.Discrete(env.num_actions)


def _checked(env: Environment, actions: Any, lanes: tuple[int, ...]) -> np.ndarray:
    """Returns actions as an array of the environment's type.

    Raises:
        UserError: another shape, or values out of range.
    """
    size = action_size(env)
    given = np.asarray(actions)
    shape = (*lanes, size) if size else lanes
    if given.shape != shape:
        raise UserError(
            f"Give one action for each of the {lanes[0] if lanes else 1} lanes, an array "
            f"of shape {shape} in all, not of shape {given.shape}."
        )
    low, high = (-1, 1) if size else (0, env.num_actions - 1)
    if not ((given >= low) & (given <= high)).all():
        worst = given.flat[np.argmax(~((given >= low) & (given <= high)))]
        raise UserError(f"The action {worst} is out of range; choose from {low} to {high}.")
    return given.astype(np.float32 if size else np.int32)


def _seeded(seed: int) -> Key[Array, ""]:
    key = root_key(seed % 2**32)
    return jax.random.fold_in(key, seed >> 32) if seed >> 32 else key


def _legal(env: Environment, mask: Any, lanes: tuple[int, ...] = ()) -> np.ndarray:
    """Returns a mask ``int8[*lanes, A]``, the type that ``Discrete.sample`` takes."""
    if mask is None:
        return np.ones((*lanes, env.num_actions), np.int8)
    return np.asarray(mask).astype(np.int8)


def _final(final_obs: np.ndarray, mask: np.ndarray, over: np.ndarray) -> dict[str, Any]:
    observations = np.full(len(over), None, dtype=object)
    for lane in np.flatnonzero(over):
        observations[lane] = final_obs[lane]
    legal = np.where(over[:, None], mask, 0).astype(np.int8)
    return {
        "final_obs": observations,
        "_final_obs": over,
        "final_info": {"action_mask": legal, "_action_mask": over},
        "_final_info": over,
    }
