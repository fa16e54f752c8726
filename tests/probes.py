"""Five tiny environments with known values: a ladder on which learners are debugged.

Each adds one thing that a learner must get right. All have float-vector observations, no
parameters that change, and values that follow from one line of algebra
(:meth:`Probe.known`). The idea of the ladder is Andy Jones's ("Debugging RL, without the
agonizing pain", 2021).
"""

import abc
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.types import Timestep
from jaxnas.envs.base import timestep


class ProbeState(NamedTuple):
    """Where in the episode we are."""

    obs: Float[Array, "1"]
    time: Int[Array, ""]
    cut: Float[Array, ""]
    """A uniform of the episode, drawn at reset."""


class Outcome(NamedTuple):
    """What an action leads to."""

    obs: Float[Array, "1"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Known(NamedTuple):
    """What a learner must find."""

    obs: Float[np.ndarray, "n F"]
    value: Float[np.ndarray, "n"]
    """Under the best policy, discounted."""
    action: Int[np.ndarray, "n"]
    """The best action, -1 where all are equal."""


@dataclass(frozen=True)
class Probe(abc.ABC):
    """One rung: an observation of one feature, two actions, all of them always legal."""

    @property
    def id(self) -> str:
        """Versioned name."""
        return f"probe-{type(self).__name__}-v1"

    @property
    def num_actions(self) -> int:
        """Two."""
        return 2

    @property
    def always_legal(self) -> bool:
        """True."""
        return True

    @property
    def observation_size(self) -> int:
        """One feature."""
        return 1

    @property
    def observation_bounds(self) -> tuple[float, float]:
        """Range of the feature."""
        return -1.0, 1.0

    def params(self) -> tuple[()]:
        """Returns nothing."""
        return ()

    def reset(self, key: Key[Array, ""], params: PyTree) -> tuple[ProbeState, Timestep]:
        """Returns the first observation."""
        start, cut = jax.random.uniform(key, (2,), dtype=jnp.float32)
        obs = self.opening(start).astype(jnp.float32)[None]
        state = ProbeState(obs, jnp.int32(0), cut)
        return state, timestep(obs, jnp.ones(2, bool))

    def step(
        self, key: Key[Array, ""], state: ProbeState, action: Int[Array, ""], params: PyTree
    ) -> tuple[ProbeState, Timestep]:
        """Returns what the action leads to; ``key`` is not used."""
        out = self.outcome(state, action)
        state = ProbeState(out.obs, state.time + 1, state.cut)
        return state, timestep(
            out.obs, jnp.ones(2, bool), out.reward, out.terminated, out.truncated
        )

    @abc.abstractmethod
    def opening(self, uniform: Float[Array, ""]) -> Float[Array, ""]:
        """Returns the first observation of an episode, from one uniform."""

    @abc.abstractmethod
    def outcome(self, state: ProbeState, action: Int[Array, ""]) -> Outcome:
        """Returns what an action leads to."""

    @abc.abstractmethod
    def known(self, gamma: float) -> Known:
        """Returns the exact values and the best actions at every observation."""


def _once(state: ProbeState, reward: Float[Array, ""]) -> Outcome:
    """Returns the outcome of an episode of one step."""
    return Outcome(state.obs, reward, jnp.asarray(True), jnp.asarray(False))


class ConstantReward(Probe):
    """One step, always +1: does the value net move at all?"""

    def opening(self, uniform: Float[Array, ""]) -> Float[Array, ""]:
        """Returns zero."""
        return 0.0 * uniform

    def outcome(self, state: ProbeState, action: Int[Array, ""]) -> Outcome:
        """Returns reward 1."""
        return _once(state, jnp.float32(1.0))

    def known(self, gamma: float) -> Known:
        """V = 1."""
        return _known([0.0], [1.0], [-1])


class ObservedReward(Probe):
    """One step, the observation (-1 or +1) is the reward: does the value net see?"""

    def opening(self, uniform: Float[Array, ""]) -> Float[Array, ""]:
        """Returns -1 or +1."""
        return jnp.where(uniform < 0.5, -1.0, 1.0)

    def outcome(self, state: ProbeState, action: Int[Array, ""]) -> Outcome:
        """Returns the observation as reward."""
        return _once(state, state.obs[0])

    def known(self, gamma: float) -> Known:
        """V(o) = o."""
        return _known([-1.0, 1.0], [-1.0, 1.0], [-1, -1])


class DelayedReward(Probe):
    """Observation 0, then 1, then reward 1: are values carried back, and over a cut?

    Half of the episodes are *truncated* after the first step: the reward never comes, but
    what would have followed is still owed. The value of observation 0 is therefore gamma; a
    learner that takes truncation for termination finds gamma / 2, and one that bootstraps
    from the observation after the reset finds something else again.
    """

    def opening(self, uniform: Float[Array, ""]) -> Float[Array, ""]:
        """Returns zero."""
        return 0.0 * uniform

    def outcome(self, state: ProbeState, action: Int[Array, ""]) -> Outcome:
        """Returns observation 1, the second time with reward 1 and the end."""
        second = state.time == 1
        reward = jnp.where(second, 1.0, 0.0)
        return Outcome(
            jnp.ones(1, jnp.float32), reward, second, ~second & (state.cut < 0.5)
        )

    def known(self, gamma: float) -> Known:
        """V(0) = gamma, V(1) = 1."""
        return _known([0.0, 1.0], [gamma, 1.0], [-1, -1])


class ChosenReward(Probe):
    """One step, +1 for action 1, -1 for action 0: does the policy move the right way?"""

    def opening(self, uniform: Float[Array, ""]) -> Float[Array, ""]:
        """Returns zero."""
        return 0.0 * uniform

    def outcome(self, state: ProbeState, action: Int[Array, ""]) -> Outcome:
        """Returns the reward of the action."""
        return _once(state, jnp.where(action == 1, 1.0, -1.0))

    def known(self, gamma: float) -> Known:
        """V = 1."""
        return _known([0.0], [1.0], [1])


class MatchedReward(Probe):
    """One step, +1 where the action matches the observation, else -1: do both nets see?"""

    def opening(self, uniform: Float[Array, ""]) -> Float[Array, ""]:
        """Returns -1 or +1."""
        return jnp.where(uniform < 0.5, -1.0, 1.0)

    def outcome(self, state: ProbeState, action: Int[Array, ""]) -> Outcome:
        """Returns +1 for action 1 at +1 and for action 0 at -1."""
        matches = (action == 1) == (state.obs[0] > 0)
        return _once(state, jnp.where(matches, 1.0, -1.0))

    def known(self, gamma: float) -> Known:
        """V(o) = 1."""
        return _known([-1.0, 1.0], [1.0, 1.0], [0, 1])


def _known(obs: list[float], value: list[float], action: list[int]) -> Known:
    """Returns the record of lists."""
    features = np.asarray(obs, np.float32)[:, None]
    return Known(features, np.asarray(value, np.float32), np.asarray(action, np.int32))


LADDER: tuple[Probe, ...] = (
    ConstantReward(),
    ObservedReward(),
    DelayedReward(),
    ChosenReward(),
    MatchedReward(),
)
"""The probes in the order in which a learner should pass them."""
