"""A complete environment from dynamics that build architectures and an oracle.

``ScoredEnv`` pays for the finished architecture; ``jaxnas.envs.change`` pays every step.
"""

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.environment import Environment
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Oracle
from jaxnas.core.rng import stream
from jaxnas.core.scalarise import WeightedSum, weighted_sum
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import OK, Timestep
from jaxnas.envs.base import Writer, action_size, always_legal, default_params, done


class ScoredState(NamedTuple):
    """State of the dynamics and of the oracle; every episode starts with a fresh oracle."""

    dynamics: PyTree
    oracle: PyTree
    over: Bool[Array, ""]
    """The episode has ended and was paid for."""


@dataclass(frozen=True)
class OracleEnv(abc.ABC):
    """Dynamics and an oracle: what the rules that pay for architectures share.

    Observations are float vectors ``[F]`` (the dynamics' ``flatten``); actions, masks and
    termination are the dynamics'.

    The task is traced: :meth:`params` is ``{"dynamics": ..., "oracle": oracle.params()}``,
    so another objective or data set of the same shape does not recompile, and tasks can be
    mapped by ``vmap``. The *sign* of an objective belongs to the configuration: tasks that
    share a program are all maximised or all minimised.

    Args:
        dynamics: an environment that builds architectures, such as ``TokenEnv``.
        oracle: scores them; it must be traced.
        penalty: score of an architecture that is illegal or whose evaluation failed. Zero
            by default; it must be given where an objective is minimised, since zero may
            then be the best score.
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
        if self.dynamics.space != self.oracle.space:
            raise UserError(
                f"The environment builds architectures of {self.dynamics.space.id!r} and "
                f"the oracle scores {self.oracle.space.id!r}; make both with one space."
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

    @abc.abstractmethod
    def reset(self, key: Key[Array, ""], params: Any = None) -> tuple[Any, Timestep]:
        """Returns the first state and time step of an episode."""

    @abc.abstractmethod
    def step(
        self, key: Key[Array, ""], state: Any, action: Array, params: Any = None
    ) -> tuple[Any, Timestep]:
        """Returns the state and time step after ``action``."""

    @property
    def space(self) -> SearchSpace:
        """The space of the architectures."""
        return self.oracle.space

    @property
    def num_actions(self) -> int:
        """Number of actions of the dynamics, ``A``."""
        return self.dynamics.num_actions

    @property
    def action_size(self) -> int:
        """Components of an action, 0 where actions are discrete."""
        return action_size(self.dynamics)

    @property
    def max_steps(self) -> int:
        """As the dynamics."""
        return self.dynamics.max_steps

    @property
    def always_legal(self) -> bool:
        """As the dynamics."""
        return always_legal(self.dynamics)

    @property
    def observation_size(self) -> int:
        """Number of features, ``F``."""
        return self.dynamics.flat_size

    @property
    def observation_bounds(self) -> tuple[float, float]:
        """Least and greatest value of any feature."""
        return self.dynamics.flat_bounds

    def params(self, dynamics: PyTree = None) -> dict[str, PyTree]:
        """Returns the task: parameters of dynamics (their own if None) and oracle."""
        own = default_params(self.dynamics) if dynamics is None else dynamics
        return {"dynamics": own, "oracle": self.oracle.params()}

    def queries(self, state: Any, params: dict[str, PyTree]) -> Int[Array, "L"]:
        """Returns the tokens held right now."""
        return self.dynamics.queries(state.dynamics, params["dynamics"])

    def complete(self, state: Any) -> Bool[Array, ""]:
        """Returns whether they are a finished, legal architecture."""
        return self.dynamics.complete(state.dynamics)

    def score(
        self,
        key: Key[Array, ""],
        params: dict[str, PyTree],
        states: PyTree,
        wanted: Bool[Array, "n"],
    ) -> Float[Array, "n"]:
        """Returns the scores of what many states of the dynamics hold, by a fresh oracle.

        ``states`` are those of the *dynamics*, ``[n, ...]``; what is returned where a state
        is not ``wanted`` means nothing. ``key`` is the oracle's.
        """
        queries = jax.vmap(self.dynamics.queries, in_axes=(0, None))
        tokens = queries(states, params["dynamics"])
        oracle = self.oracle.init(key, params["oracle"])
        return self._scores(key, params["oracle"], oracle, tokens, wanted)[1]

    def see(self, timestep: Timestep) -> Timestep:
        """Returns the time step with observations as vectors."""
        flatten = self.dynamics.flatten
        obs, final = flatten(timestep.obs), flatten(timestep.final_obs)
        return timestep._replace(obs=obs, final_obs=final)

    def _scores(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: PyTree,
        tokens: Int[Array, "B L"],
        active: Bool[Array, "B"],
    ) -> tuple[PyTree, Float[Array, "B"]]:
        """Returns the oracle's state and scores; those not ``active`` mean nothing."""
        fidelity = jnp.zeros(tokens.shape[0], jnp.int32)
        state, found = self.oracle.evaluate(key, params, state, tokens, fidelity, active)
        scalariser = cast(WeightedSum, self.scalariser)
        score = scalariser(found.objectives, found.violation)
        usable = (found.status == OK) & jnp.isfinite(score)
        return state, jnp.where(usable, score, self._penalty).astype(jnp.float32)

    @property
    def _penalty(self) -> float:
        return cast(float, self.penalty)


@dataclass(frozen=True)
class ScoredEnv(OracleEnv):
    """Dynamics whose finished architecture is scored by an oracle.

    The reward is zero until the episode ends, then the oracle's objective with the sign
    that makes larger better (several objectives: a weighted sum), or ``penalty`` where the
    episode terminated without a legal architecture or the evaluation failed.

    Arguments are those of :class:`OracleEnv`.
    """

    @property
    def id(self) -> str:
        """Versioned name."""
        return f"scored-v1:{self.dynamics.id}:{self.oracle.id}"

    def reset(
        self, key: Key[Array, ""], params: Any = None
    ) -> tuple[ScoredState, Timestep]:
        """Returns the first state and time step of an episode."""
        params = default_params(self, params)
        inner, timestep = self.dynamics.reset(stream(key, "dynamics"), params["dynamics"])
        oracle = self.oracle.init(stream(key, "oracle"), params["oracle"])
        return ScoredState(inner, oracle, jnp.asarray(False)), self.see(timestep)

    def step(
        self, key: Key[Array, ""], state: ScoredState, action: Array, params: Any = None
    ) -> tuple[ScoredState, Timestep]:
        """Returns the state and time step after ``action``, scored at the episode's end."""
        params = default_params(self, params)
        inner, timestep = self.dynamics.step(
            stream(key, "dynamics"), state.dynamics, action, params["dynamics"]
        )
        ends = done(timestep) & ~state.over
        finished = ends & self.dynamics.complete(inner)
        tokens = self.dynamics.queries(inner, params["dynamics"])
        oracle, score = self._scores(
            stream(key, "oracle"), params["oracle"], state.oracle, tokens[None],
            finished[None],
        )  # fmt: skip
        failed = ends & timestep.terminated & ~finished
        reward = jnp.where(finished, score[0], jnp.where(failed, self._penalty, 0.0))
        timestep = timestep._replace(reward=timestep.reward + reward)
        return ScoredState(inner, oracle, state.over | ends), self.see(timestep)
