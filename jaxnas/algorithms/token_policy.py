"""Policies that write a whole architecture, score it once and learn from the reward."""

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas import registry
from jaxnas.algorithms import collapse
from jaxnas.algorithms import reward_scale as scales
from jaxnas.controllers import heads
from jaxnas.controllers.unroll import Generated, Replayable, generate
from jaxnas.core.algorithm import Played
from jaxnas.core.errors import UserError
from jaxnas.core.layout import per_controller
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import OK, Evaluation, PolicyOutput, Proposal, TokenObs
from jaxnas.rl import optimise


class Episodes(NamedTuple):
    """A batch of written architectures; rewards are filled in by ``tell``."""

    tokens: Int[Array, "B L"]
    mask: Bool[Array, "B L V"]
    log_prob: Float[Array, "B L"]
    """Of the policy that wrote them, nats."""
    value: Float[Array, "B L"]
    """Before each token, in units of the scaled reward."""
    aux: PyTree
    """What a ``Replayable`` controller stored; None where nothing is."""
    reward: Float[Array, "B"]
    valid: Bool[Array, "B"]
    """False where the evaluation failed or was skipped; its reward is zero and not read."""


class PolicyState(NamedTuple):
    """Everything a policy-gradient search remembers."""

    hparams: Any
    params: PyTree
    adam: PyTree
    scale: scales.RewardScale
    episodes: Episodes


@dataclass(frozen=True)
class TokenWriter(abc.ABC):
    """A controller that writes architectures token by token, and what can be done with it.

    States of subclasses have the fields ``params`` and ``hparams``; the latter has a
    ``temperature``.

    Args:
        space: where to search.
        batch: architectures written a proposal.
        controller: name of a controller, or a module over ``TokenObs``.
        hidden: units of a controller given by name.
    """

    space: SearchSpace
    batch: int = 8
    controller: str | nn.Module = "lstm"
    hidden: int = 64
    rounds: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1 or self.hidden < 1:
            raise UserError(
                f"batch is {self.batch} and hidden is {self.hidden}; both must be positive."
            )
        _ = self.module

    @property
    def module(self) -> nn.Module:
        """The controller, sized for the space."""
        if isinstance(self.controller, nn.Module):
            return self.controller
        sizes = {"num_actions": self.space.vocab, "length": self.space.length}
        return registry.make_controller(self.controller, hidden=self.hidden, **sizes)

    @property
    def policy_config(self) -> dict[str, Any]:
        """The controller with its sizes."""
        return {"controller": repr(self.module)}

    def policy(self, state: Any) -> PyTree:
        """Returns the controller's parameters."""
        return state.params

    def with_policy(self, state: Any, params: PyTree) -> Any:
        """Returns a state whose controller has other parameters."""
        return state._replace(params=params)

    def play(
        self,
        key: Key[Array, ""],
        params: PyTree,
        hparams: Any,
        known: Int[Array, "K L"],
        episodes: int,
        greedy: bool,
    ) -> Played:
        """Returns architectures that a policy writes, from nothing."""
        shape = (episodes, self.space.length)
        uniforms = jax.random.uniform(key, shape, dtype=jnp.float32)
        temperature = hparams.temperature
        tokens, legal, *_ = generate(
            self.module, params, uniforms, self.space.mask, temperature, greedy=greedy
        )
        logits = heads.masked(self.act(params, tokens).logits, legal, temperature)
        return Played(tokens, None, jnp.mean(heads.entropy(logits, legal), axis=1))

    def act(self, params: PyTree, obs: Int[Array, "n L"]) -> PolicyOutput:
        """Returns logits ``[n, L, V]``, unmasked, and values at each place of tokens."""
        return sequence(self.module, params, obs)

    def write(
        self, key: Key[Array, ""], params: PyTree, temperature: Any, count: int
    ) -> Generated:
        """Returns ``count`` architectures drawn from the policy, one PRNG call for all."""
        shape = (count, self.space.length)
        flat = jax.random.uniform(key, (math.prod(shape),), dtype=jnp.float32)
        uniforms = flat.reshape(shape)
        return generate(self.module, params, uniforms, self.space.mask, temperature)

    @abc.abstractmethod
    def default_hparams(self) -> Any:
        """Returns the preset."""


@dataclass(frozen=True)
class TokenPolicy(TokenWriter):
    """What the on-policy searches share; each adds its ``lesson`` and ``train``.

    Args:
        space: where to search.
        batch: architectures written a proposal.
        controller: name of a controller, or a module over ``TokenObs``.
        hidden: units of a controller given by name.
        standardise: how rewards are scaled before they teach, so that a preset transfers
            between objectives of different units: ``running`` (moments of the whole search
            so far), ``batch`` (of this batch) or ``none``.
    """

    standardise: str = "running"

    replays: ClassVar[bool] = False
    """Whether ``learn`` starts with the parameters that wrote, so that a controller which
    can need not run its recurrence again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        scales.check(self.standardise)

    @abc.abstractmethod
    def lesson(
        self, key: Key[Array, ""], state: PolicyState, scale: scales.RewardScale
    ) -> PyTree:
        """Returns what the training step learns from: advantages, orders of minibatches."""

    @abc.abstractmethod
    def train(
        self, params: PyTree, adam: PyTree, lesson: PyTree, hparams: Any
    ) -> tuple[PyTree, PyTree, dict[str, Float[Array, ""]]]:
        """Returns parameters, optimiser state and metrics after the gradient steps."""

    def learn(
        self, key: Key[Array, ""], state: PolicyState
    ) -> tuple[PolicyState, dict[str, Float[Array, ""]]]:
        """Returns the state after learning from the last batch, and scalar metrics."""
        episodes, hparams = state.episodes, state.hparams
        reward, valid = episodes.reward, episodes.valid
        scale = scales.update(state.scale, reward, valid, hparams.reward_decay)
        lesson = self.lesson(key, state, scale)
        train = per_controller(self.train)
        params, adam, metrics = train(state.params, state.adam, lesson, hparams)
        unique = collapse.unique_fraction(episodes.tokens)
        collapsed = collapse.collapsed(metrics["entropy"], unique)
        metrics = {**metrics, "unique": unique, "collapsed": collapsed}
        return state._replace(params=params, adam=adam, scale=scale), metrics

    def init(self, key: Key[Array, ""], hparams: Any) -> PolicyState:
        """Returns fresh parameters and empty episodes."""
        params = init_params(key, self.module, self.space)
        hparams = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), hparams)
        shapes = jax.eval_shape(self._write, key, params, hparams.temperature)
        episodes = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return PolicyState(hparams, params, optimise.init(params), scales.init(), episodes)

    def _write(
        self, key: Key[Array, ""], params: PyTree, temperature: Float[Array, ""]
    ) -> Episodes:
        shape = (self.batch, self.space.length)
        flat = jax.random.uniform(key, (math.prod(shape),), dtype=jnp.float32)
        uniforms, zeros = flat.reshape(shape), jnp.zeros(self.batch, jnp.float32)
        keep = self.replays and isinstance(self.module, Replayable)
        drawn = generate(
            self.module, params, uniforms, self.space.mask, temperature, keep_aux=keep
        )
        return Episodes(*drawn, reward=zeros, valid=_none(self.batch))

    def ask(self, key: Key[Array, ""], state: PolicyState) -> tuple[PolicyState, Proposal]:
        """Returns ``batch`` architectures drawn from the policy, one PRNG call for all."""
        episodes = self._write(key, state.params, state.hparams.temperature)
        lanes = jnp.zeros(self.batch, jnp.int32)
        proposal = Proposal(episodes.tokens, lanes, jnp.ones(self.batch, bool))
        return state._replace(episodes=episodes), proposal

    def tell(
        self,
        key: Key[Array, ""],
        state: PolicyState,
        proposal: Proposal,
        evaluation: Evaluation,
    ) -> PolicyState:
        """Returns the state with the rewards; failed and skipped lanes are not valid."""
        valid = evaluation.status == OK
        valid = valid & proposal.active & jnp.isfinite(evaluation.reward)
        reward = jnp.where(valid, evaluation.reward, 0.0)
        return state._replace(episodes=state.episodes._replace(reward=reward, valid=valid))


def init_params(key: Key[Array, ""], module: Any, space: SearchSpace) -> PyTree:
    """Returns the first parameters of a token controller."""
    obs = TokenObs(jnp.zeros((1, space.length), jnp.int32), jnp.zeros(1, jnp.int32))
    return module.init(key, module.initial_carry(1), obs, _none(1))


def sequence(
    module: nn.Module, params: PyTree, tokens: Int[Array, "B L"], aux: PyTree = None
) -> PolicyOutput:
    """Returns logits ``[B, L, V]`` and values ``[B, L]``, teacher-forced."""
    if aux is None:
        out = module.apply(params, tokens, method="sequence")
    else:
        out = module.apply(params, tokens, aux, method="replay")
    return cast(PolicyOutput, out)


def per_token(lanes: Array, tokens: Int[Array, "B L"]) -> Array:
    """Returns a value of each lane repeated at each of its tokens, ``[B, L]``."""
    return jnp.broadcast_to(lanes[:, None], tokens.shape)


def _none(batch: int) -> Bool[Array, "B"]:
    return jnp.zeros(batch, bool)
