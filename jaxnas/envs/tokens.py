"""Writing an architecture one token a step."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Timestep, TokenObs
from jaxnas.envs.base import timestep


class TokenState(NamedTuple):
    """The prefix written so far."""

    tokens: Int[Array, "L"]
    """Zero from ``position`` on."""
    position: Int[Array, ""]
    illegal: Bool[Array, ""]
    """An action was refused, which ended the episode."""


@dataclass(frozen=True)
class TokenEnv:
    """Token-writing episode: action ``v`` at step ``t`` makes ``v`` the token ``t``.

    * observation: ``TokenObs``, the prefix ``[L]`` and its length; see :meth:`flatten`.
    * action: a token, ``A = V``; the mask is the space's.
    * reward: zero; :class:`jaxnas.envs.scored.ScoredEnv` adds an oracle's.
    * termination: after ``L`` tokens, or at once after an action that is illegal or out of
      range. Such an action writes nothing and sets ``state.illegal``; the tokens held are
      then not an architecture (:meth:`complete` is False). Never truncated.
    * after the end every action is allowed and changes nothing: the state is absorbing.
    """

    space: SearchSpace

    @property
    def id(self) -> str:
        """Versioned name."""
        return f"tokens-v1:{self.space.id}"

    @property
    def num_actions(self) -> int:
        """Number of token values, ``V``."""
        return self.space.vocab

    @property
    def max_steps(self) -> int:
        """Steps of an episode, ``L``."""
        return self.space.length

    @property
    def flat_size(self) -> int:
        """Features of :meth:`flatten`, ``F = L V + 1``."""
        return self.space.length * self.space.vocab + 1

    @property
    def flat_bounds(self) -> tuple[float, float]:
        """Range of the features of :meth:`flatten`."""
        return 0.0, 1.0

    def params(self) -> tuple[()]:
        """Returns nothing: the dynamics have no parameters."""
        return ()

    def reset(
        self, key: Key[Array, ""], params: PyTree = ()
    ) -> tuple[TokenState, Timestep]:
        """Returns the empty prefix; ``key`` is not used."""
        tokens = jnp.zeros(self.space.length, jnp.int32)
        state = TokenState(tokens, jnp.int32(0), jnp.asarray(False))
        return state, timestep(self._observe(state), self._mask(state))

    def step(
        self,
        key: Key[Array, ""],
        state: TokenState,
        action: Int[Array, ""],
        params: PyTree = (),
    ) -> tuple[TokenState, Timestep]:
        """Returns the prefix with ``action`` appended if it may be; ``key`` is not used."""
        token = jnp.clip(action, 0, self.space.vocab - 1)
        legal = self._mask(state)[token] & (token == action)
        running = ~self._over(state)
        here = jnp.arange(self.space.length, dtype=jnp.int32) == state.position
        tokens = jnp.where(here & legal & running, token, state.tokens)
        state = TokenState(
            tokens.astype(jnp.int32),
            state.position + (legal & running),
            state.illegal | (running & ~legal),
        )
        never = jnp.asarray(False)
        return state, timestep(
            self._observe(state),
            self._mask(state),
            jnp.zeros((), jnp.float32),
            self._over(state),
            never,
        )

    def queries(self, state: TokenState, params: PyTree = ()) -> Int[Array, "L"]:
        """Returns the tokens held right now, zero where nothing is written yet."""
        return state.tokens

    def complete(self, state: TokenState) -> Bool[Array, ""]:
        """Returns whether all ``L`` tokens are written, each of them legal."""
        return state.position == self.space.length

    def flatten(self, obs: TokenObs) -> Float[Array, "F"]:
        """Returns one-hot tokens ``[L V]``, zero where unwritten, and the written share."""
        written = jnp.arange(self.space.length, dtype=jnp.int32) < obs.position
        one_hot = jax.nn.one_hot(obs.tokens, self.space.vocab, dtype=jnp.float32)
        one_hot *= written[:, None]
        share = obs.position.astype(jnp.float32) / self.space.length
        return jnp.append(one_hot.reshape(-1), share)

    def _over(self, state: TokenState) -> Bool[Array, ""]:
        return state.illegal | (state.position == self.space.length)

    def _mask(self, state: TokenState) -> Bool[Array, "V"]:
        """Returns the tokens that may follow; all of them after the end."""
        place = jnp.minimum(state.position, self.space.length - 1)
        return self.space.mask(state.tokens, place) | self._over(state)

    def _observe(self, state: TokenState) -> TokenObs:
        return TokenObs(state.tokens, state.position)
