"""A complete environment from dynamics that build architectures and an oracle."""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.protocols import Environment, Oracle
from jaxnas.core.rng import stream
from jaxnas.core.types import OK, Timestep
from jaxnas.envs.base import Writer, default_params, done
from jaxnas.moo.scalarise import WeightedSum, weighted_sum


class ScoredState(NamedTuple):
    """State of the dynamics and of the oracle; every episode starts with a fresh oracle."""

    dynamics: PyTree
    oracle: PyTree
    over: Bool[Array, ""]
    """The episode has ended and was paid for."""


@dataclass(frozen=True)
class ScoredEnv:
    """Dynamics whose finished architecture is scored by an oracle.

    Observations are float vectors ``[F]`` (the dynamics' ``flatten``); actions, masks and
    termination are the dynamics'. The reward is zero until the episode terminates, then the
    oracle's objective with the sign that makes larger better (several objectives: a
    weighted sum), or ``penalty`` where the episode ended without a legal architecture or
    the evaluation failed.

    The task is traced: :meth:`params` is ``{"dynamics": ..., "oracle": oracle.params()}``,
    so another objective or data set of the same shape does not recompile, and tasks can be
    mapped by ``vmap``. The *sign* of an objective belongs to the configuration: tasks that
    share a program are all maximised or all minimised.

    Args:
        dynamics: an environment that builds architectures, such as ``TokenEnv``.
        oracle: scores them; it must be traced.
        penalty: reward of an illegal or failed episode. Zero by default; it must be given
            where an objective is minimised, since zero may then be the best reward.
        scalariser: objectives to reward; weights of one by default.

    Raises:
        UserError: an oracle that needs the host, dynamics that build nothing, or a missing
            or non-finite penalty.
    """

    dynamics: Any
    oracle: Oracle
    penalty: float | None = None
    scalariser: WeightedSum | None = None

    def __post_init__(self) -> None:
        if not (
            isinstance(self.dynamics, Environment) and isinstance(self.dynamics, Writer)
        ):
            raise UserError(
                f"{type(self.dynamics).__name__} builds no architecture to score; give "
                "dynamics with `queries`, `complete` and `flatten`, such as TokenEnv."
            )
        if not self.oracle.traced:
            raise UserError(
                f"The oracle {self.oracle.id!r} runs on the host and cannot be part of an "
                "environment; use `jaxnas.search` with it."
            )
        if self.penalty is None:
            if not all(objective.maximise for objective in self.oracle.objectives):
                raise UserError(
                    f"The oracle {self.oracle.id!r} minimises an objective; give "
                    "`penalty`, the reward of an illegal episode, below any other reward."
                )
            object.__setattr__(self, "penalty", 0.0)
        elif not np.isfinite(self.penalty):
            raise UserError(f"penalty must be a finite number, not {self.penalty}.")
        if self.scalariser is None:
            object.__setattr__(self, "scalariser", weighted_sum(self.oracle.objectives))

    @property
    def num_actions(self) -> int:
        """Number of actions of the dynamics, ``A``."""
        return self.dynamics.num_actions

    @property
    def id(self) -> str:
        """Versioned name."""
        return f"scored-v1:{self.dynamics.id}:{self.oracle.id}"

    @property
    def observation_size(self) -> int:
        """Number of features, ``F``."""
        return self.dynamics.flat_size

    @property
    def observation_bounds(self) -> tuple[float, float]:
        """Least and greatest value of any feature."""
        return self.dynamics.flat_bounds

    def params(self) -> dict[str, PyTree]:
        """Returns the default task: ``dynamics`` and ``oracle`` parameters."""
        return {"dynamics": default_params(self.dynamics), "oracle": self.oracle.params()}

    def reset(
        self, key: Key[Array, ""], params: dict[str, PyTree]
    ) -> tuple[ScoredState, Timestep]:
        """Returns the first state and time step of an episode."""
        inner, timestep = self.dynamics.reset(stream(key, "dynamics"), params["dynamics"])
        oracle = self.oracle.init(stream(key, "oracle"), params["oracle"])
        return ScoredState(inner, oracle, jnp.asarray(False)), self._see(timestep)

    def step(
        self,
        key: Key[Array, ""],
        state: ScoredState,
        action: Int[Array, ""],
        params: dict[str, PyTree],
    ) -> tuple[ScoredState, Timestep]:
        """Returns the state and time step after ``action``, scored at the episode's end."""
        inner, timestep = self.dynamics.step(
            stream(key, "dynamics"), state.dynamics, action, params["dynamics"]
        )
        ends = done(timestep) & ~state.over
        finished = ends & self.dynamics.complete(inner)
        oracle, score = self._score(
            stream(key, "oracle"), params["oracle"], state.oracle, inner, finished
        )
        failed = ends & timestep.terminated & ~finished
        reward = jnp.where(finished, score, jnp.where(failed, self._penalty, 0.0))
        timestep = timestep._replace(reward=timestep.reward + reward)
        return ScoredState(inner, oracle, state.over | ends), self._see(timestep)

    def queries(self, state: ScoredState) -> Int[Array, "L"]:
        """Returns the tokens held right now."""
        return self.dynamics.queries(state.dynamics)

    def complete(self, state: ScoredState) -> Bool[Array, ""]:
        """Returns whether they are a finished, legal architecture."""
        return self.dynamics.complete(state.dynamics)

    def _score(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: PyTree,
        dynamics: PyTree,
        finished: Bool[Array, ""],
    ) -> tuple[PyTree, Float[Array, ""]]:
        """Returns the oracle's state and the reward of what the dynamics hold."""
        tokens = self.dynamics.queries(dynamics)
        state, found = self.oracle.evaluate(
            key, params, state, tokens[None], jnp.zeros(1, jnp.int32), finished[None]
        )
        scalariser = cast(WeightedSum, self.scalariser)
        reward = scalariser(found.objectives, found.violation)[0]
        usable = (found.status[0] == OK) & jnp.isfinite(reward)
        return state, jnp.where(usable, reward, self._penalty)

    @property
    def _penalty(self) -> float:
        """Reward of an episode that earned none."""
        return cast(float, self.penalty)

    def _see(self, timestep: Timestep) -> Timestep:
        """Returns the time step with observations as vectors."""
        flatten = self.dynamics.flatten
        obs, final = flatten(timestep.obs), flatten(timestep.final_obs)
        return timestep._replace(obs=obs, final_obs=final)
