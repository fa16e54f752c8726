"""What environments share: batches, automatic reset, and observations as plain vectors.

An environment is dynamics only. ``terminated`` (the episode is over, nothing follows) and
``truncated`` (it was cut off, what would have followed still counts) are never both True.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.environment import Environment
from jaxnas.core.space import SearchSpace
from jaxnas.core.trees import select
from jaxnas.core.types import Timestep


@runtime_checkable
class Parametrised(Protocol):
    """An environment that knows its own task."""

    def params(self) -> PyTree:
        """Returns the traced parameters: switching them does not recompile."""
        ...


@runtime_checkable
class Vectorial(Protocol):
    """An environment whose observations are float vectors ``[F]`` between two bounds."""

    @property
    def observation_size(self) -> int:
        """Number of features, ``F``."""
        ...

    @property
    def observation_bounds(self) -> tuple[float, float]:
        """Least and greatest value of any feature."""
        ...


@runtime_checkable
class Writer(Protocol):
    """Dynamics that build an architecture, to be scored by whoever holds an oracle."""

    @property
    def space(self) -> SearchSpace:
        """The space of the architectures."""
        ...

    def queries(self, state: PyTree, params: PyTree) -> Int[Array, "L"]:
        """Returns the tokens held right now."""
        ...

    def complete(self, state: PyTree) -> Bool[Array, ""]:
        """Returns whether they are a finished, legal architecture."""
        ...

    @property
    def flat_size(self) -> int:
        """Number of features of a flattened observation, ``F``."""
        ...

    @property
    def flat_bounds(self) -> tuple[float, float]:
        """Least and greatest value of any of them."""
        ...

    def flatten(self, obs: PyTree) -> Float[Array, "F"]:
        """Returns an observation as a float vector."""
        ...


@runtime_checkable
class Editor(Protocol):
    """Dynamics that hold a whole architecture at every step, and only ever edit it.

    An action that terminates the episode changes nothing.
    """

    @property
    def edits(self) -> bool:
        """True."""
        ...


@runtime_checkable
class Continuous(Protocol):
    """An environment whose actions are vectors ``[D]`` in [-1, 1], all of them legal.

    Its ``num_actions`` is ``D`` as well, and its masks have one entry a component, True.
    """

    @property
    def action_size(self) -> int:
        """Components of an action, ``D``; 0 where actions are discrete after all."""
        ...


@runtime_checkable
class Unrestricted(Protocol):
    """An environment that may allow every action always: its masks then say nothing."""

    @property
    def always_legal(self) -> bool:
        """Whether all masks are all True, so that a learner need not keep them."""
        ...


@runtime_checkable
class Limited(Protocol):
    """An environment whose episodes are never longer than it says."""

    @property
    def max_steps(self) -> int:
        """Steps of the longest episode."""
        ...


@runtime_checkable
class Deferring(Protocol):
    """An environment whose rewards nothing later depends on: they may be paid afterwards.

    Stepping ``unpaid()`` and then ``evaluate_rollout`` for the whole rollout gives what
    ``step`` gives one at a time, but scores all architectures of the rollout at once.
    """

    def defers(self, params: PyTree) -> bool:
        """Returns whether that holds for this task."""
        ...

    def unpaid(self) -> Environment:
        """Returns the same environment without rewards."""
        ...

    def evaluate_rollout(
        self, key: Key[Array, ""], params: PyTree, moves: "Moves", ledger: Float[Array, "E"]
    ) -> "Paid":
        """Returns the rewards of a rollout, and what else is known once it is paid.

        ``key`` is the oracle's; ``ledger``, where the running episodes stand, is not read
        where one begins.
        """
        ...


class Paid(NamedTuple):
    """What a rollout earned."""

    reward: Float[Array, "T E"]
    before: Float[Array, "T E"]
    """Potential that each step started from: a reward is ``after - before``, so that a
    critic may estimate what an episode will end with instead of what is still to come."""
    after: Float[Array, "T E"]
    ledger: Float[Array, "E"]
    """Where the running episodes stand."""


class Moves(NamedTuple):
    """What happened in a rollout of ``unpaid()``."""

    before: PyTree
    """States that were acted on, ``[T, E, ...]``."""
    after: PyTree
    """States that followed, before any reset."""
    begins: Bool[Array, "T E"]
    """The step was the first of its episode."""
    terminated: Bool[Array, "T E"]


@runtime_checkable
class Continuing(Protocol):
    """An environment that restarts itself; ``final_obs`` is from before the restart."""

    @property
    def continuing(self) -> bool:
        """True: ``step`` after a finished episode acts in a new one."""
        ...


def default_params(env: Any, given: PyTree = None) -> PyTree:
    """Returns ``given``, or if None what an environment declares, or an empty tuple."""
    if given is not None:
        return given
    return cast(Parametrised, env).params() if isinstance(env, Parametrised) else ()


def action_size(env: Environment) -> int:
    """Returns the components of an environment's actions, 0 where they are discrete."""
    return env.action_size if isinstance(env, Continuous) else 0


def always_legal(env: Environment) -> bool:
    """Returns whether an environment says that every action is always legal."""
    return isinstance(env, Unrestricted) and env.always_legal


def done(timestep: Timestep) -> Bool[Array, "*b"]:
    """Returns whether the episode is over, for either reason."""
    return jnp.logical_or(timestep.terminated, timestep.truncated)


def timestep(
    obs: PyTree,
    mask: Bool[Array, "A"] | None = None,
    reward: Any = 0.0,
    terminated: Any = False,
    truncated: Any = False,
) -> Timestep:
    """Returns a time step before any reset; with ``obs`` alone, one that opens an episode.

    Args:
        obs: what the agent sees, ``float32[F]`` or any pytree.
        mask: legal actions ``[A]``; None where every action always is.
        reward: of the step, a scalar.
        terminated: nothing follows.
        truncated: the episode was cut off; not where it terminates as well.
    """
    terminated = jnp.asarray(terminated, bool)
    truncated = jnp.asarray(truncated, bool) & ~terminated
    reward = jnp.asarray(reward, jnp.float32)
    return Timestep(obs, mask, reward, terminated, truncated, obs)


def restart(
    state: PyTree, after: Timestep, fresh: PyTree, opening: Timestep
) -> tuple[PyTree, Timestep]:
    """Returns ``state, after`` with a new episode begun where ``after`` ends one.

    ``fresh`` and ``opening`` are its first state and time step.
    """
    over = done(after)
    seen = after._replace(
        obs=select(over, opening.obs, after.obs),
        mask=select(over, opening.mask, after.mask),
    )
    return select(over, fresh, state), seen


@dataclass(frozen=True)
class EnvWrapper:
    """An environment around another, with the same actions."""

    env: Any

    @property
    def num_actions(self) -> int:
        """Number of actions, ``A``."""
        return self.env.num_actions

    @property
    def action_size(self) -> int:
        """Components of an action, 0 where actions are discrete."""
        return action_size(self.env)

    @property
    def always_legal(self) -> bool:
        """As the environment inside."""
        return always_legal(self.env)


@dataclass(frozen=True)
class AutoReset(EnvWrapper):
    """Starts a new episode in the step that ends one.

    ``obs`` and ``mask`` then belong to the new episode; ``reward``, ``terminated``,
    ``truncated`` and ``final_obs`` to the one that ended. Where nothing ended,
    ``final_obs`` equals ``obs``.
    """

    @property
    def continuing(self) -> bool:
        """True."""
        return True

    def params(self) -> PyTree:
        """Returns the parameters of the environment inside."""
        return default_params(self.env)

    def reset(self, key: Key[Array, ""], params: PyTree = None) -> tuple[PyTree, Timestep]:
        """Returns the first state and time step of an episode."""
        return self.env.reset(key, default_params(self.env, params))

    def step(
        self, key: Key[Array, ""], state: PyTree, action: Array, params: PyTree = None
    ) -> tuple[PyTree, Timestep]:
        """Returns the state and time step after ``action`` and, where due, the reset."""
        params = default_params(self.env, params)
        step_key, reset_key = jax.random.split(key)
        state, after = self.env.step(step_key, state, action, params)
        return restart(state, after, *self.env.reset(reset_key, params))


def continuing(env: Environment) -> Environment:
    """Returns ``env`` if it restarts itself, else ``AutoReset(env)``."""
    return env if isinstance(env, Continuing) else AutoReset(env)


@dataclass(frozen=True)
class Batch:
    """``width >= 1`` independent copies: states and time steps gain a first axis ``E``."""

    env: Environment
    width: int

    def reset(self, key: Key[Array, ""], params: PyTree) -> tuple[PyTree, Timestep]:
        """Returns the first states and time steps."""
        keys = jax.random.split(key, self.width)
        return jax.vmap(self.env.reset, in_axes=(0, None))(keys, params)

    def step(
        self, key: Key[Array, ""], state: PyTree, action: Array, params: PyTree
    ) -> tuple[PyTree, Timestep]:
        """Returns the states and time steps after one action each."""
        keys = jax.random.split(key, self.width)
        step: Any = jax.vmap(self.env.step, in_axes=(0, 0, 0, None))
        return step(keys, state, action, params)
