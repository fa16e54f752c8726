"""Training policies on environments: PPO and A2C as pure ``init`` and ``update``.

One controller is ``init`` and ``update``; ``vmap`` either over keys and hyperparameters for
many, or let :func:`train_population` do so in blocks. Sampling is then wide, while gradient
steps run one controller at a time, whose weights stay in the innermost cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree, UInt32

from jaxnas.algorithms.a2c import a2c_update
from jaxnas.algorithms.common import optimise
from jaxnas.algorithms.common.actor_critic import PolicyBatch
from jaxnas.algorithms.common.rollout import (
    Rollout,
    Stream,
    Worth,
    collect,
    is_recurrent,
    judge,
    open_stream,
    policy,
)
from jaxnas.algorithms.ppo import check_minibatches, ppo_loss
from jaxnas.core.errors import UserError
from jaxnas.core.protocols import Environment
from jaxnas.core.rng import step_key, stream
from jaxnas.core.trees import masked_mean, one_at_a_time
from jaxnas.core.types import PolicyOutput

Metrics = dict[str, Float[Array, "*t"]]
Fit = Callable[..., tuple[PyTree, PyTree, Metrics]]
ROUNDS_PER_BIT = 4
"""Rounds of :func:`shuffled_orders` for each bit of the number of samples."""


class EnvHparams(NamedTuple):
    """Traced settings of a training run."""

    lr: float | Float[Array, ""] = 2.5e-4
    entropy: float | Float[Array, ""] = 0.01
    """Weight of the entropy bonus, per nat a step."""
    temperature: float | Float[Array, ""] = 1.0
    gamma: float | Float[Array, ""] = 0.99
    gae_lambda: float | Float[Array, ""] = 0.95
    clip: float | Float[Array, ""] = 0.2
    """Of PPO's probability ratio."""
    value_weight: float | Float[Array, ""] = 0.5
    max_grad_norm: float | Float[Array, ""] = 0.5


class TrainState(NamedTuple):
    """Everything that a training run remembers."""

    hparams: EnvHparams
    params: PyTree
    adam: PyTree
    """Moments of the parameters laid end to end as one vector."""
    stream: Stream


@dataclass(frozen=True)
class EnvTraining:
    """On-policy actor-critic training of one controller.

    Args:
        env: any environment with vector observations; it need not restart itself.
        module: a controller over vectors: ``initial_carry`` and ``__call__``; one with
            memory also offers ``sequence`` and is trained on whole sequences.
        method: ``"ppo"`` or ``"a2c"`` (one step on the whole rollout).
        num_envs: environments, ``E``.
        num_steps: steps in each before an update, ``T``.
        epochs: passes over a rollout; PPO only.
        minibatches: gradient steps a pass; divides ``T E`` samples, or ``E`` sequences.
        normalise: whether advantages are standardised within each minibatch; PPO only.
        clip_value: whether the value is kept near its old one; PPO only.

    Raises:
        UserError: an unknown method or sizes that do not fit.
    """

    env: Environment
    module: nn.Module
    method: str = "ppo"
    num_envs: int = 4
    num_steps: int = 128
    epochs: int = 4
    minibatches: int = 4
    normalise: bool = True
    clip_value: bool = False

    def __post_init__(self) -> None:
        if self.method not in ("ppo", "a2c"):
            raise UserError(f"Unknown method {self.method!r}; choose 'ppo' or 'a2c'.")
        if self.num_envs < 1 or self.num_steps < 1:
            raise UserError(
                f"num_envs is {self.num_envs} and num_steps is {self.num_steps}; both must "
                "be positive."
            )
        check_minibatches(self._samples, self.epochs, self.minibatches)

    def default_hparams(self) -> EnvHparams:
        """Returns settings that pass the probe ladder."""
        return EnvHparams()

    def init(
        self, key: Key[Array, ""], hparams: EnvHparams, env_params: PyTree
    ) -> TrainState:
        """Returns a fresh controller in fresh episodes."""
        begun = open_stream(
            stream(key, "envs"), self.env, self.module, env_params, self.num_envs
        )
        params: Any = self.module.init(
            stream(key, "params"), begun.carry, begun.obs, begun.reset
        )
        vector, _ = ravel_pytree(params)
        hparams = jax.tree.map(jnp.float32, hparams)
        return TrainState(hparams, params, optimise.init(vector), begun)

    def update(
        self, key: Key[Array, ""], state: TrainState, env_params: PyTree
    ) -> tuple[TrainState, Metrics]:
        """Returns the state after one rollout and the learning from it.

        Metrics: ``return`` and ``episodes`` (mean undiscounted return of the episodes that
        ended, NaN where none did, and their number), ``loss``, ``value_loss``, ``entropy``
        (nats a step) and ``grad_norm``, means over the gradient steps.
        """
        hp = state.hparams
        rollout_key, shuffle_key = jax.random.split(key)
        after, rollout = collect(
            rollout_key,
            self.env,
            self.module,
            state.params,
            env_params,
            state.stream,
            hp.temperature,
            self.num_steps,
        )
        worth = judge(
            self.module,
            state.params,
            rollout,
            after,
            hp.temperature,
            hp.gamma,
            hp.gae_lambda,
        )
        batch = self._batch(rollout, state.stream, worth)
        orders = shuffled_orders(shuffle_key, self._samples, self.epochs)
        params, adam, metrics = one_at_a_time(self._fit)(
            orders, state.params, state.adam, batch, hp
        )
        ended = rollout.terminated | rollout.truncated
        metrics = {
            **metrics,
            "return": masked_mean(rollout.returns, ended, jnp.nan),
            "episodes": jnp.sum(ended).astype(jnp.float32),
        }
        return TrainState(hp, params, adam, after), metrics

    def train(
        self,
        key: Key[Array, ""],
        state: TrainState,
        env_params: PyTree,
        num_updates: int,
        start: int | Int[Array, ""] = 0,
    ) -> tuple[TrainState, Metrics]:
        """Returns the state after ``num_updates`` updates, and metrics ``[num_updates]``.

        Update ``i`` uses key ``step_key(key, start + i)``, so a run may be cut anywhere.
        """

        def one(state: TrainState, i: Int[Array, ""]) -> tuple[TrainState, Metrics]:
            """Makes update ``i``."""
            return self.update(step_key(key, i), state, env_params)

        return jax.lax.scan(one, state, start + jnp.arange(num_updates))

    def act(self, params: PyTree, obs: Float[Array, "n F"]) -> PolicyOutput:
        """Returns policy and value of first observations, memory empty."""
        module: Any = self.module
        begin = jnp.ones(obs.shape[0], bool)
        return policy(module, params, module.initial_carry(obs.shape[0]), obs, begin)[1]

    @property
    def _samples(self) -> int:
        """Number of rows that are shuffled and cut into minibatches."""
        return self.num_envs * (1 if is_recurrent(self.module) else self.num_steps)

    def _batch(self, rollout: Rollout, before: Stream, worth: Worth) -> PolicyBatch:
        """Returns samples ``[T E, ...]``, or with memory sequences ``[E, T, ...]``."""
        if is_recurrent(self.module):
            order = lambda leaf: jnp.swapaxes(leaf, 0, 1)
            obs: PyTree = (
                jax.tree.map(order, rollout.obs),
                before.carry,
                order(rollout.reset),
            )
        else:
            order = lambda leaf: leaf.reshape(self._samples, *leaf.shape[2:])
            obs = jax.tree.map(order, rollout.obs)
        return PolicyBatch(
            obs=obs,
            mask=order(rollout.mask),
            action=order(rollout.action),
            log_prob=order(worth.log_prob),
            value=order(worth.value),
            advantage=order(worth.advantage),
            target=order(worth.advantage + worth.value),
            valid=jnp.ones_like(order(rollout.terminated)),
        )

    def _apply(self, params: PyTree, obs: PyTree) -> PolicyOutput:
        """Returns policy and value of a minibatch."""
        module: Any = self.module
        if is_recurrent(self.module):
            return module.apply(params, *obs, method="sequence")
        rows = jax.tree.leaves(obs)[0].shape[0]
        return policy(
            module, params, module.initial_carry(rows), obs, jnp.zeros(rows, bool)
        )[1]

    def _fit(
        self,
        orders: Int[Array, "epochs n"],
        params: PyTree,
        adam: PyTree,
        batch: PolicyBatch,
        hparams: EnvHparams,
    ) -> tuple[PyTree, PyTree, Metrics]:
        """Returns parameters, optimiser state and metrics after learning from one batch."""
        vector, unravel = ravel_pytree(params)
        apply = lambda vector, obs: self._apply(unravel(vector), obs)
        if self.method == "a2c":
            vector, adam, metrics = a2c_update(apply, vector, adam, batch, hparams)
        else:
            vector, adam, metrics = self._ppo(orders, apply, vector, adam, batch, hparams)
        return unravel(vector), adam, metrics

    def _ppo(
        self,
        orders: Int[Array, "epochs n"],
        apply: Callable[[PyTree, PyTree], PolicyOutput],
        vector: Float[Array, "D"],
        adam: PyTree,
        batch: PolicyBatch,
        hparams: EnvHparams,
    ) -> tuple[Float[Array, "D"], PyTree, Metrics]:
        """Returns the result of ``epochs x minibatches`` steps; one gather an epoch."""
        table, unpack = pack(batch._replace(valid=None))
        loss = jax.value_and_grad(ppo_loss, has_aux=True)

        def step(carry: PyTree, rows: Float[Array, "n D"]) -> tuple[PyTree, Metrics]:
            """Makes one gradient step on a minibatch."""
            part = unpack(rows)
            part = part._replace(valid=jnp.ones(part.action.shape, bool))
            vector, adam = carry
            (_, parts), grads = loss(
                vector,
                apply,
                part,
                hparams,
                normalise=self.normalise,
                clip_value=self.clip_value,
            )
            vector, adam, norm = optimise.step(
                vector,
                adam,
                grads,
                jnp.asarray(hparams.lr),
                jnp.asarray(hparams.max_grad_norm),
            )
            return (vector, adam), {**parts, "grad_norm": norm}

        def epoch(carry: PyTree, order: Int[Array, "n"]) -> tuple[PyTree, Metrics]:
            """Makes one pass in a new order."""
            rows = table if self.minibatches == 1 else table[order]
            parts = rows.reshape(self.minibatches, -1, table.shape[1])
            return jax.lax.scan(step, carry, parts)

        (vector, adam), metrics = jax.lax.scan(epoch, (vector, adam), orders)
        return vector, adam, jax.tree.map(jnp.mean, metrics)


def train_population(
    training: EnvTraining,
    keys: Key[Array, "P"],
    hparams: EnvHparams,
    env_params: PyTree,
    num_updates: int,
    *,
    block: int = 16,
) -> tuple[TrainState, Metrics]:
    """Returns ``P`` trained controllers and their metrics ``[P, num_updates]``.

    Args:
        training: what each does.
        keys: one a controller.
        hparams: leaves ``[P]``, or scalars that all share.
        env_params: shared by all.
        num_updates: updates of each.
        block: controllers advanced together; one block is finished before the next begins,
            so that it stays in the processor's cache. A remainder is compiled again.
    """
    count = keys.shape[0]
    spread = lambda leaf: jnp.broadcast_to(jnp.asarray(leaf, jnp.float32), (count,))

    def one(item: tuple[Array, EnvHparams]) -> tuple[TrainState, Metrics]:
        """Trains one controller from scratch."""
        key, hp = item
        state = training.init(stream(key, "init"), hp, env_params)
        return training.train(key, state, env_params, num_updates)

    items = (keys, jax.tree.map(spread, hparams))
    if count <= block:
        return jax.vmap(one)(items)
    return jax.lax.map(one, items, batch_size=block)


def shuffled_orders(
    key: Key[Array, ""], samples: int, epochs: int
) -> Int[Array, "epochs n"]:
    """Returns a pseudo-random order of the samples for each epoch.

    A swap-or-not shuffle: each round pairs ``i`` with ``k - i mod n`` for a random ``k``
    and swaps a pair where a hash of its larger member says so. Any number of rounds gives a
    permutation. On CPU it takes a fraction of the time of a sort.

    Reference: Hoang, Morris and Rogaway, 2012, with a multiplicative hash.
    """
    rounds = ROUNDS_PER_BIT * max(1, (samples - 1).bit_length())
    words = jax.random.bits(key, (rounds, epochs, 2), jnp.uint32)
    n = jnp.uint32(samples)

    def one_round(
        order: UInt32[Array, "epochs n"], word: UInt32[Array, "epochs 2"]
    ) -> tuple[UInt32[Array, "epochs n"], None]:
        """Swaps some pairs."""
        pivot, salt = word[:, :1] % n, word[:, 1:]
        partner = jnp.where(pivot >= order, pivot - order, pivot + n - order)
        h = (jnp.maximum(order, partner) ^ salt) * jnp.uint32(0x9E3779B1)
        h = (h ^ (h >> 15)) * jnp.uint32(0x85EBCA77)
        return jnp.where(h >> 31 == 1, partner, order), None

    start = jnp.broadcast_to(jnp.arange(samples, dtype=jnp.uint32), (epochs, samples))
    order, _ = jax.lax.scan(one_round, start, words)
    return order.astype(jnp.int32)


def pack(tree: Any) -> tuple[Float[Array, "n D"], Callable[[Float[Array, "m D"]], Any]]:
    """Returns leaves ``[n, ...]`` side by side as one table, and how to unpack its rows.

    One gather of the table then shuffles everything. Integers travel by their bits.
    """
    leaves, structure = jax.tree.flatten(tree)
    kinds = [(leaf.shape[1:], leaf.dtype) for leaf in leaves]

    def widen(leaf: Array) -> Float[Array, "n d"]:
        """Returns a leaf as float32 columns."""
        if leaf.dtype == jnp.int32:
            leaf = jax.lax.bitcast_convert_type(leaf, jnp.float32)
        return leaf.reshape(leaf.shape[0], -1).astype(jnp.float32)

    columns = [widen(leaf) for leaf in leaves]
    ends = [0]
    for column in columns:
        ends.append(ends[-1] + column.shape[1])

    def unpack(rows: Float[Array, "m D"]) -> Any:
        """Returns the tree whose leaves are ``[m, ...]``."""
        parts = []
        for (shape, dtype), begin, end in zip(kinds, ends, ends[1:], strict=False):
            part = rows[:, begin:end].reshape(rows.shape[0], *shape)
            if dtype == jnp.int32:
                parts.append(jax.lax.bitcast_convert_type(part, jnp.int32))
            else:
                parts.append(part.astype(dtype))
        return jax.tree.unflatten(structure, parts)

    return jnp.concatenate(columns, axis=1), unpack
