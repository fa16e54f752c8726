"""Every step is scored: the reward is how much better the architecture became."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Oracle
from jaxnas.core.rng import stream
from jaxnas.core.scalarise import weighted_sum
from jaxnas.core.types import Timestep
from jaxnas.envs.base import Editor, EnvWrapper, Moves, Paid, default_params, done
from jaxnas.envs.scored import OracleEnv, ScoredEnv

REWARDS = ("delta_from_start", "delta_from_zero")
STARTS_AT_ONCE = 32
"""First architectures that :meth:`ChangeEnv.evaluate_rollout` scores together."""


class ChangeState(NamedTuple):
    """State of the dynamics and of the oracle; every episode starts with a fresh oracle."""

    dynamics: PyTree
    oracle: PyTree
    score: Float[Array, ""]
    """Of the architecture held, as far as it was scored; 0 before that."""
    over: Bool[Array, ""]
    """The episode has ended."""


@dataclass(frozen=True)
class ChangeEnv(OracleEnv):
    """Dynamics that edit an architecture, paid by the change of its score.

        r_t = score(after step t) - score(before step t)

    The action that terminates an episode changes nothing and pays nothing. Undiscounted
    rewards telescope, and the two modes differ in what they telescope *to*:

    * ``delta_from_start``: the first ``before`` is the score of the architecture that the
      episode began with. The return is final minus first score: the improvement.
    * ``delta_from_zero``: the first ``before`` is 0, as in the original. The return is the
      final score (0 where the first action terminates), and the first step is paid the
      whole score of wherever the episode began, whatever it did.

    A failed evaluation counts as a score of ``penalty``.

    Arguments are those of :class:`OracleEnv`, with dynamics that edit architectures, such
    as ``LatentEnv``; and ``reward``, the mode.

    Raises:
        UserError: an unknown mode, dynamics that do not hold an architecture at every
            step, or what ``OracleEnv`` refuses.
    """

    reward: str = "delta_from_start"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward not in REWARDS:
            raise UserError(
                f"Unknown reward {self.reward!r}; choose one of {[*REWARDS, 'final']}."
            )
        if not isinstance(self.dynamics, Editor):
            raise UserError(
                f"{type(self.dynamics).__name__} holds no whole architecture before its "
                "last step, so that steps cannot be scored; use ScoredEnv."
            )

    @property
    def id(self) -> str:
        """Versioned name."""
        return f"change-v1:{self.reward}:{self.dynamics.id}:{self.oracle.id}"

    def reset(
        self, key: Key[Array, ""], params: Any = None
    ) -> tuple[ChangeState, Timestep]:
        """Returns the first state and time step of an episode."""
        params = default_params(self, params)
        inner, timestep = self.dynamics.reset(stream(key, "dynamics"), params["dynamics"])
        oracle = self.oracle.init(stream(key, "oracle"), params["oracle"])
        state = ChangeState(inner, oracle, jnp.float32(0), jnp.asarray(False))
        if self.reward == "delta_from_start":
            state = self._held(stream(key, "start"), params, state, jnp.asarray(True))
        return state, self.see(timestep)

    def step(
        self, key: Key[Array, ""], state: ChangeState, action: Array, params: Any = None
    ) -> tuple[ChangeState, Timestep]:
        """Returns the state and time step after ``action``, paid."""
        params = default_params(self, params)
        inner, timestep = self.dynamics.step(
            stream(key, "dynamics"), state.dynamics, action, params["dynamics"]
        )
        counts = ~state.over & ~timestep.terminated
        after = state._replace(dynamics=inner, over=state.over | done(timestep))
        after = self._held(stream(key, "oracle"), params, after, counts)
        timestep = timestep._replace(reward=after.score - state.score)
        return after, self.see(timestep)

    def defers(self, params: dict[str, PyTree]) -> bool:
        """Returns whether the oracle remembers nothing between evaluations."""
        memory = jax.eval_shape(self.oracle.init, jax.random.key(0), params["oracle"])
        return not jax.tree.leaves(memory)

    def unpaid(self) -> "Unpaid":
        """Returns the same environment without rewards."""
        return Unpaid(self)

    def evaluate_rollout(
        self,
        key: Key[Array, ""],
        params: dict[str, PyTree],
        moves: Moves,
        ledger: Float[Array, "E"],
    ) -> Paid:
        """Returns the rewards of a rollout, and the scores that it went through."""
        after_key, start_key = jax.random.split(key)
        shape, rows = moves.begins.shape, moves.begins.size
        flat = lambda tree: jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), tree)
        counts = ~moves.terminated
        scored = self.score(after_key, params, flat(moves.after), flat(counts))
        if self.reward == "delta_from_start":
            starts = flat(moves.before)
            first = self._score_starts(start_key, params, starts, flat(moves.begins))
            first = first.reshape(shape)
        else:
            first = jnp.zeros(shape, jnp.float32)

        def pay(held: Float[Array, "E"], step: Any) -> tuple[Array, tuple[Array, Array]]:
            begins, first, counts, scored = step
            before = jnp.where(begins, first, held)
            after = jnp.where(counts, scored, before)
            return after, (before, after)

        steps = (moves.begins, first, counts, scored.reshape(shape))
        ledger, (before, after) = jax.lax.scan(pay, ledger, steps)
        return Paid(after - before, before, after, ledger)

    def _held(
        self,
        key: Key[Array, ""],
        params: dict[str, PyTree],
        state: ChangeState,
        counts: Bool[Array, ""],
    ) -> ChangeState:
        tokens = self.dynamics.queries(state.dynamics, params["dynamics"])
        oracle, score = self._scores(
            key, params["oracle"], state.oracle, tokens[None], counts[None]
        )
        held = jnp.where(counts, score[0], state.score)
        return state._replace(oracle=oracle, score=held)

    def _score_starts(
        self,
        key: Key[Array, ""],
        params: dict[str, PyTree],
        states: PyTree,
        begins: Bool[Array, "n"],
    ) -> Float[Array, "n"]:
        """Returns the scores where an episode begins, 0 elsewhere; a few states at a time.

        Episodes are longer than one step, so most states are no start.
        """
        size = min(STARTS_AT_ONCE, begins.shape[0])
        rank = jnp.cumsum(begins, dtype=jnp.int32)

        def some(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            done, scores = carry
            wanted = done + 1 + jnp.arange(size, dtype=jnp.int32)
            rows = jnp.searchsorted(rank, wanted)
            present = wanted <= rank[-1]
            rows = jnp.where(present, rows, 0)
            part = jax.tree.map(lambda leaf: leaf[rows], states)
            here = jax.random.fold_in(key, done)
            found = self.score(here, params, part, present)
            return done + size, scores.at[rows].add(jnp.where(present, found, 0.0))

        begin = (jnp.int32(0), jnp.zeros(begins.shape[0], jnp.float32))
        return jax.lax.while_loop(lambda carry: carry[0] < rank[-1], some, begin)[1]


@dataclass(frozen=True)
class Unpaid(EnvWrapper):
    """The dynamics of a ``ChangeEnv`` with observations as vectors, all rewards zero."""

    def reset(
        self, key: Key[Array, ""], params: dict[str, PyTree]
    ) -> tuple[PyTree, Timestep]:
        """Returns the first state and time step of an episode."""
        dynamics, key = self.env.dynamics, stream(key, "dynamics")
        state, timestep = dynamics.reset(key, params["dynamics"])
        return state, self.env.see(timestep)

    def step(
        self, key: Key[Array, ""], state: PyTree, action: Array, params: dict[str, PyTree]
    ) -> tuple[PyTree, Timestep]:
        """Returns the state and time step after ``action``."""
        dynamics, key = self.env.dynamics, stream(key, "dynamics")
        state, timestep = dynamics.step(key, state, action, params["dynamics"])
        return state, self.env.see(timestep)


def scored(
    dynamics: Any,
    oracle: Oracle,
    reward: str | None = None,
    penalty: float | None = None,
    weights: tuple[float, ...] | None = None,
) -> OracleEnv:
    """Returns dynamics that an oracle pays.

    Args:
        dynamics: build architectures, such as ``TokenEnv``.
        oracle: scores them; traced.
        reward: ``final`` (``ScoredEnv``), ``delta_from_start`` or ``delta_from_zero``
            (``ChangeEnv``); when None, ``delta_from_start`` where the dynamics hold an
            architecture at every step and ``final`` elsewhere.
        penalty: score of what is illegal or failed; needed where an objective is minimised.
        weights: of the objectives, one each; all 1 when None.

    Raises:
        UserError: what ``ScoredEnv`` and ``ChangeEnv`` refuse.
    """
    scalariser = weighted_sum(oracle.objectives, weights)
    if reward is None:
        reward = REWARDS[0] if isinstance(dynamics, Editor) else "final"
    if reward == "final":
        return ScoredEnv(dynamics, oracle, penalty, scalariser)
    return ChangeEnv(dynamics, oracle, penalty, scalariser, reward)
