"""Moving through a latent space: write one dimension at a time, or take bounded steps.

The dynamics only move a vector. What it stands for is decoded by :meth:`queries` when
somebody asks, so that a learner may decode and score a whole rollout at once.
"""

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Timestep
from jaxnas.envs.base import Parametrised, default_params, timestep
from jaxnas.latent.files import FileModel
from jaxnas.latent.model import LatentModel

STARTS = ("normal", "codebook", "data")
NONE = -1
"""An action of the history that was never taken."""
BOUND = 16.0
"""Greatest feature of an observed latent vector: asinh of four million spreads."""
FLAT = 1e-6
"""A latent dimension whose entries spread less than this is observed as it is."""


class LatentParams(NamedTuple):
    """What is traced: another model or step size of the same shapes does not recompile."""

    model: PyTree
    """Parameters of the latent model."""
    entries: Float[Array, "K Z"]
    """What code ``k`` writes into dimension ``z``."""
    spread: Float[Array, "Z"]
    """Of the latent vectors that episodes begin with, the unit of observations: 1 where
    ``start`` is ``"normal"``, else the standard deviation of each dimension's entries."""
    data: Float[Array, "N Z"]
    """Encoded architectures to start from, read where ``start`` is ``"data"``."""
    step: Float[Array, "Z"]
    """Latent units of a continuous action of 1."""


class LatentObs(NamedTuple):
    """What the controller sees."""

    latent: Float[Array, "*b Z"]
    """In units of ``spread``, through asinh."""
    actions: Array | None
    """The last ``k``, newest first: ``int[k]`` with -1 where there was none yet, or
    ``float[k, Z]`` with zeros; None where ``k`` is 0, as no leaf should be empty."""


class LatentState(NamedTuple):
    """Where in the latent space the episode stands."""

    latent: Float[Array, "Z"]
    actions: Array | None
    """As in ``LatentObs``."""
    time: Int[Array, ""]
    """Steps taken."""
    ended: Bool[Array, ""]
    """The terminal action was taken."""


@dataclass(frozen=True)
class Latent(abc.ABC):
    """What both environments share: the start, the history, the decoder, the step limit.

    Args:
        model: the latent space, or the file of a fitted one (`jaxnas latent train`); its
            parameters belong to :meth:`params`.
        history: number of past actions in an observation, ``k >= 0``.
        max_steps: the episode is truncated, never terminated, after so many.
        start: where an episode begins. ``normal``: N(0, 1) in every dimension, which may
            lie far outside what the decoder was trained on (25 spreads with the original's
            codebook). ``codebook``: each dimension one of its entries, independently, as
            actions could have written it. ``data``: one of ``params.data``; whole rows of
            a codebook are ``data=entries``.

    Raises:
        UserError: a negative history, no steps, or an unknown start.
    """

    model: LatentModel | Any
    history: int = 0
    max_steps: int = 200
    start: str = "codebook"

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            object.__setattr__(self, "model", FileModel(self.model))
        if self.history < 0 or self.max_steps < 1:
            raise UserError(
                f"history is {self.history} and max_steps is {self.max_steps}; give "
                "history >= 0 and max_steps >= 1."
            )
        if self.start not in STARTS:
            raise UserError(f"Unknown start {self.start!r}; choose one of {list(STARTS)}.")

    @property
    @abc.abstractmethod
    def flat_size(self) -> int:
        """Number of features of a flattened observation, ``F``."""

    @abc.abstractmethod
    def flatten(self, obs: LatentObs) -> Float[Array, "F"]:
        """Returns an observation as a float vector."""

    @abc.abstractmethod
    def _no_action(self) -> Array:
        """Returns the history entry that stands for no action."""

    @property
    def space(self) -> SearchSpace:
        """The search space that the model decodes into."""
        return self.model.space

    @property
    def edits(self) -> bool:
        """True: what stops the episode moves nothing."""
        return True

    @property
    def always_legal(self) -> bool:
        """True."""
        return True

    @property
    def flat_bounds(self) -> tuple[float, float]:
        """Range of the features of :meth:`flatten`."""
        return -BOUND, BOUND

    def params(
        self,
        model: PyTree = None,
        data: Float[Array, "N Z"] | None = None,
        step: float | Float[Array, ""] | None = None,
    ) -> LatentParams:
        """Returns the traced parameters for a fitted model.

        Args:
            model: parameters of ``self.model``; its own ``params()`` where it has them.
            data: latent vectors to start from; see :meth:`encode`.
            step: latent units of a continuous action of 1; by default half the spread of
                each dimension.

        Raises:
            UserError: parameters or data that are needed and missing.
        """
        own: Any = self.model
        if model is None and isinstance(own, Parametrised):
            model = own.params()
        if model is None:
            raise UserError(
                "The latent environment needs the parameters of its fitted model; pass "
                "`env.params(model_params)`."
            )
        if data is None and self.start == "data":
            raise UserError(
                'start="data" needs latent vectors to start from; pass '
                "`env.params(model_params, data=env.encode(model_params, tokens))`."
            )
        entries = self.model.entries(model)
        near = jnp.std(entries, axis=0)
        near = jnp.where(near > FLAT, near, 1.0)
        spread = jnp.ones_like(near) if self.start == "normal" else near
        if data is None:
            data = jnp.zeros((1, entries.shape[1]), entries.dtype)
        move = 0.5 * near if step is None else jnp.broadcast_to(step, near.shape)
        return LatentParams(model, entries, spread, data, move.astype(jnp.float32))

    def encode(self, model: PyTree, tokens: Int[Array, "N L"]) -> Float[Array, "N Z"]:
        """Returns latent vectors of architectures, as ``params(data=...)`` takes them."""
        return jax.vmap(lambda one: self.model.encode(model, one))(tokens)

    def reset(
        self, key: Key[Array, ""], params: Any = None
    ) -> tuple[LatentState, Timestep]:
        """Returns the first state and time step of an episode."""
        params = default_params(self, params)
        latent = self._begin(key, params).astype(jnp.float32)
        actions = None
        if self.history:
            none = self._no_action()
            actions = jnp.broadcast_to(none, (self.history, *none.shape))
        state = LatentState(latent, actions, jnp.int32(0), jnp.asarray(False))
        return state, timestep(self._observe(state, params), self._mask())

    def queries(self, state: LatentState, params: LatentParams) -> Int[Array, "L"]:
        """Returns the architecture that the latent vector decodes into."""
        return self.model.decode(params.model, state.latent)

    def complete(self, state: LatentState) -> Bool[Array, ""]:
        """Returns True: every latent vector decodes into a valid architecture."""
        return jnp.asarray(True)

    def _begin(self, key: Key[Array, ""], params: LatentParams) -> Float[Array, "Z"]:
        codes, size = params.entries.shape
        if self.start == "normal":
            return jax.random.normal(key, (size,), dtype=jnp.float32)
        if self.start == "codebook":
            chosen = jax.random.randint(key, (size,), 0, codes, dtype=jnp.int32)
            return params.entries[chosen, jnp.arange(size, dtype=jnp.int32)]
        row = jax.random.randint(key, (), 0, params.data.shape[0], dtype=jnp.int32)
        return params.data[row]

    def _moved(
        self,
        state: LatentState,
        latent: Float[Array, "Z"],
        action: Array,
        counts: Bool[Array, ""],
        ends: Bool[Array, ""],
        params: LatentParams,
    ) -> tuple[LatentState, Timestep]:
        """Returns what follows: ``latent`` and ``action`` are taken where ``counts``.

        After the end nothing changes any more: the state is absorbing.
        """
        running = ~state.ended & (state.time < self.max_steps)
        counts = counts & running
        past = state.actions
        if past is not None:
            pushed = jnp.concatenate([action[None], past[:-1]])
            past = jnp.where(counts, pushed, past)
        state = LatentState(
            jnp.where(counts, latent, state.latent),
            past,
            state.time + running,
            state.ended | (ends & running),
        )
        return state, timestep(
            self._observe(state, params),
            self._mask(),
            jnp.zeros((), jnp.float32),
            state.ended,
            state.time >= self.max_steps,
        )

    def _observe(self, state: LatentState, params: LatentParams) -> LatentObs:
        latent = jnp.arcsinh(state.latent / params.spread)
        return LatentObs(jnp.clip(latent, -BOUND, BOUND), state.actions)

    def _mask(self) -> Bool[Array, "A"]:
        return jnp.ones(self.num_actions, bool)

    @property
    @abc.abstractmethod
    def num_actions(self) -> int:
        """Number of actions, ``A``."""


@dataclass(frozen=True)
class LatentEnv(Latent):
    """Latent-space episode: action = codebook entry x dimension, or stop.

    * action ``a < K Z`` sets dimension ``a % Z`` to ``entries[a // Z, a % Z]``; action
      ``K Z`` ends the episode and moves nothing. With 14 codes and 8 dimensions action 17
      sets dimension 1 to ``entries[2, 1]`` and 112 ends, as in the original.
    * observation: ``LatentObs``; :meth:`flatten` gives the latent vector ``[Z]`` and for
      each remembered action its code ``[K]`` and dimension ``[Z]`` one-hot, zeros where
      there was none.
    * reward: zero; ``ChangeEnv`` pays every step, ``ScoredEnv`` the last.
    * termination: by the terminal action only; the step limit truncates. An episode that
      stops at its last allowed step is terminated.
    * every action is always legal. One out of range moves nothing, is not remembered and
      uses up a step; the gymnasium face refuses it.
    """

    @property
    def id(self) -> str:
        """Versioned name."""
        return f"latent-v1:{self.model.space.id}"

    @property
    def num_actions(self) -> int:
        """``A = K Z + 1``."""
        return self.model.num_codes * self.model.latent_size + 1

    @property
    def flat_size(self) -> int:
        """``F = Z + k (K + Z)``."""
        codes, size = self.model.num_codes, self.model.latent_size
        return size + self.history * (codes + size)

    def step(
        self,
        key: Key[Array, ""],
        state: LatentState,
        action: Int[Array, ""],
        params: Any = None,
    ) -> tuple[LatentState, Timestep]:
        """Returns the state and time step after ``action``; ``key`` is not used."""
        params = default_params(self, params)
        size = self.model.latent_size
        stop = self.num_actions - 1
        writes = (action >= 0) & (action < stop)
        place = jnp.arange(size, dtype=jnp.int32) == action % size
        # A dense pick: a gather costs more than K Z comparisons on CPU.
        row = jnp.arange(self.model.num_codes, dtype=jnp.int32) == action // size
        value = jnp.sum(jnp.where(row[:, None], params.entries, 0.0), axis=0)
        latent = jnp.where(place, value, state.latent)
        chosen = action.astype(jnp.int32)
        return self._moved(state, latent, chosen, writes, action == stop, params)

    def flatten(self, obs: LatentObs) -> Float[Array, "F"]:
        """Returns the latent vector and the one-hot codes and dimensions of the history."""
        if obs.actions is None:
            return obs.latent
        codes, size = self.model.num_codes, self.model.latent_size
        known = obs.actions[:, None] != NONE
        code = (obs.actions[:, None] // size == jnp.arange(codes, dtype=jnp.int32)) & known
        place = (obs.actions[:, None] % size == jnp.arange(size, dtype=jnp.int32)) & known
        past = jnp.concatenate([code, place], axis=1).astype(jnp.float32)
        return jnp.concatenate([obs.latent, past.reshape(-1)])

    def _no_action(self) -> Int[Array, ""]:
        return jnp.int32(NONE)


@dataclass(frozen=True)
class ContinuousLatentEnv(Latent):
    """Latent-space episode: action = a bounded step of the whole vector.

    * action: a vector ``[Z]`` in [-1, 1] (clipped to it), times ``params.step``, added to
      the latent vector. There is no terminal action.
    * observation: ``LatentObs``; :meth:`flatten` gives the latent vector and the remembered
      actions, zeros where there was none.
    * reward: zero; ``ChangeEnv`` pays every step, ``ScoredEnv`` the last.
    * termination: never; the step limit truncates.
    """

    @property
    def id(self) -> str:
        """Versioned name."""
        return f"latent-continuous-v1:{self.model.space.id}"

    @property
    def action_size(self) -> int:
        """Components of an action, ``Z``."""
        return self.model.latent_size

    @property
    def num_actions(self) -> int:
        """Components of an action, ``Z``; the mask has one entry for each."""
        return self.action_size

    @property
    def flat_size(self) -> int:
        """``F = Z + k Z``."""
        return self.model.latent_size * (1 + self.history)

    def step(
        self,
        key: Key[Array, ""],
        state: LatentState,
        action: Float[Array, "Z"],
        params: Any = None,
    ) -> tuple[LatentState, Timestep]:
        """Returns the state and time step after ``action``; ``key`` is not used."""
        params = default_params(self, params)
        action = jnp.clip(action, -1.0, 1.0)
        latent = state.latent + action * params.step
        yes = jnp.asarray(True)
        return self._moved(state, latent, action, yes, ~yes, params)

    def flatten(self, obs: LatentObs) -> Float[Array, "F"]:
        """Returns the latent vector and the history."""
        if obs.actions is None:
            return obs.latent
        return jnp.concatenate([obs.latent, obs.actions.reshape(-1)])

    def _no_action(self) -> Float[Array, "Z"]:
        return jnp.zeros(self.model.latent_size, jnp.float32)
