"""Training policies on environments: PPO, A2C, REINFORCE as pure ``init`` and ``update``.

One controller is ``init`` and ``update``; ``vmap`` either over keys and hyperparameters for
many, or let :func:`train_population` do so in blocks. Whether gradient steps are widened
or looped over is a matter of the layout (:mod:`jaxnas.core.layout`).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas import registry
from jaxnas.core import rng
from jaxnas.core.environment import Environment
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.jax_settings import check_settings
from jaxnas.core.layout import per_controller
from jaxnas.core.ranges import HPARAMS
from jaxnas.core.rng import step_key, stream
from jaxnas.core.trees import masked_mean
from jaxnas.core.types import PolicyOutput
from jaxnas.envs.base import default_params
from jaxnas.rl import optimise
from jaxnas.rl import rollout as ro
from jaxnas.rl.a2c_step import a2c_update
from jaxnas.rl.batch import PolicyBatch
from jaxnas.rl.ppo_step import check_minibatches, ppo_update
from jaxnas.rl.shuffle import shuffled_orders

Metrics = dict[str, Float[Array, "*t"]]
Fit = Callable[..., tuple[PyTree, PyTree, Metrics]]
METHODS = ("ppo", "a2c", "reinforce")


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
    RANGES = HPARAMS


class TrainState(NamedTuple):
    """Everything that a training run remembers."""

    hparams: EnvHparams
    params: PyTree
    adam: PyTree
    """Moments of the parameters laid end to end as one vector."""
    stream: ro.Stream


@dataclass(frozen=True)
class EnvTraining:
    """On-policy training of one controller.

    * ``ppo``: clipped surrogate, ``epochs`` passes in ``minibatches``.
    * ``a2c``: one step on the whole rollout.
    * ``reinforce``: one step on the whole rollout, with the Monte-Carlo return ``G_t`` of
      each step and the learned value as its baseline (Williams 1992; Sutton and Barto 2018,
      section 13.4). The value is bootstrapped from nowhere but where an episode was cut:
      at its step limit and at the end of the rollout, which hide the rest of the return.

    Where actions are continuous the logits are means and log-deviations of a Gaussian.

    Args:
        env: any environment with vector observations; it need not restart itself.
        module: a controller over vectors, ``initial_carry`` and ``__call__``, that gives
            ``head_of(env).num_logits`` logits; one with memory also offers ``sequence``
            and is trained on whole sequences.
        method: ``"ppo"``, ``"a2c"`` or ``"reinforce"``.
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
        check_settings(compiled=False)
        if self.method not in METHODS:
            raise UserError(
                f"Unknown method {self.method!r}; choose one of {list(METHODS)}."
            )
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
        begun = ro.open_stream(
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
        after, rollout = ro.collect(
            rollout_key, self.env, self.module, state.params, env_params, state.stream,
            hp.temperature, self.num_steps,
        )  # fmt: skip
        # lambda = 1 makes the advantage G_t - V(s_t), G_t cut only where the stream is.
        gae_lambda = 1.0 if self.method == "reinforce" else hp.gae_lambda
        estimates = ro.compute_gae(
            ro.head_of(self.env), self.module, state.params, rollout, after, hp.temperature,
            hp.gamma, gae_lambda,
        )  # fmt: skip
        batch = self._batch(rollout, state.stream, estimates)
        orders = shuffled_orders(shuffle_key, self._samples, self.epochs)
        params, adam, metrics = per_controller(self._fit)(
            orders, state.params, state.adam, batch, hp
        )
        ended = rollout.terminated | rollout.truncated
        metrics = {
            **metrics,
            "return": masked_mean(rollout.returns, ended, jnp.nan),
            "episodes": jnp.sum(ended, dtype=jnp.float32),
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
            return self.update(step_key(key, i), state, env_params)

        return jax.lax.scan(one, state, start + jnp.arange(num_updates, dtype=jnp.int32))

    def act(self, params: PyTree, obs: Float[Array, "n F"]) -> PolicyOutput:
        """Returns policy and value of first observations, memory empty."""
        module: Any = self.module
        begin = jnp.ones(obs.shape[0], bool)
        return ro.policy(module, params, module.initial_carry(obs.shape[0]), obs, begin)[1]

    @property
    def _samples(self) -> int:
        return self.num_envs * (1 if ro.is_recurrent(self.module) else self.num_steps)

    def _batch(
        self, rollout: ro.Rollout, before: ro.Stream, estimates: ro.Estimates
    ) -> PolicyBatch:
        """Returns samples ``[T E, ...]``, or with memory sequences ``[E, T, ...]``."""
        if ro.is_recurrent(self.module):
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
            obs=obs, mask=None if rollout.mask is None else order(rollout.mask),
            action=order(rollout.action), log_prob=order(estimates.log_prob),
            value=order(estimates.value), advantage=order(estimates.advantage),
            target=order(estimates.advantage + estimates.value), valid=None,
        )  # fmt: skip

    def _apply(self, params: PyTree, obs: PyTree) -> PolicyOutput:
        module: Any = self.module
        if ro.is_recurrent(self.module):
            return module.apply(params, *obs, method="sequence")
        rows = jax.tree.leaves(obs)[0].shape[0]
        return ro.policy(
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
        vector, unravel = ravel_pytree(params)
        apply = lambda vector, obs: self._apply(unravel(vector), obs)
        choice = ro.head_of(self.env).choice
        if self.method == "ppo":
            vector, adam, metrics = ppo_update(
                apply, vector, adam, orders, batch, hparams, minibatches=self.minibatches,
                normalise=self.normalise, clip_value=self.clip_value, choice=choice,
            )  # fmt: skip
        else:
            vector, adam, metrics = a2c_update(apply, vector, adam, batch, hparams, choice)
        return unravel(vector), adam, metrics


class Trained(NamedTuple):
    """``G`` settings times ``S`` seeds of trained controllers."""

    training: EnvTraining
    """Environment, controller and learning rule; ``training.act(params, obs)`` acts."""
    params: PyTree
    """Of the controllers, leaves ``[G, S, ...]``."""
    returns: Float[Array, "G S U"]
    """Mean undiscounted return of the episodes that ended in each update, NaN if none."""
    metrics: Metrics
    """All that :meth:`EnvTraining.update` measures, ``[G, S, U]`` each."""


def train(
    env: Environment,
    method: str = "ppo",
    *,
    seeds: int = 1,
    seed0: Any = 0,
    hparams: Mapping[str, Any] | EnvHparams | None = None,
    updates: int | None = None,
    total_steps: int | None = None,
    num_envs: int = 8,
    num_steps: int = 128,
    controller: nn.Module | None = None,
    env_params: PyTree = None,
    **options: Any,
) -> Trained:
    """Returns controllers trained on an environment, all in one compiled program.

    Pure: it may itself be under ``jit`` and ``vmap``, over ``hparams`` and ``seed0``. Seed
    ``s`` means the same first parameters and the same episodes in every setting.

    Args:
        env: any environment with vector observations ``[F]``.
        method: ``"ppo"``, ``"a2c"`` or ``"reinforce"``.
        seeds: controllers of each setting, ``S``.
        seed0: of the whole call.
        hparams: fields of :class:`EnvHparams` by name, numbers or ``[G]`` sequences of one
            length; the others keep their presets.
        updates: learning updates ``U``, each after ``num_envs * num_steps`` steps; 100 if
            neither this nor ``total_steps`` is given.
        total_steps: instead, environment steps of each controller, rounded up to updates.
        num_envs: copies of the environment that each controller acts in.
        num_steps: steps in each of them before an update.
        controller: a module as :class:`EnvTraining` takes it; an MLP of 2 x 64 if None.
        env_params: the task; the environment's own if None.
        **options: further fields of :class:`EnvTraining`, such as ``minibatches``.

    Raises:
        UserError: an unknown method or name, or sizes that do not fit.
    """
    if updates is not None and total_steps is not None:
        raise UserError("Give updates or total_steps, not both.")
    if total_steps is not None:
        updates = -(-total_steps // (num_envs * num_steps))
    updates = 100 if updates is None else updates
    if seeds < 1 or updates < 1:
        raise UserError(
            f"seeds is {seeds} and updates is {updates}; both must be positive."
        )
    known = [field.name for field in dataclasses.fields(EnvTraining)]
    for name in options:
        if name not in known:
            raise unknown_name("option of train:", name, known)
    module = controller or registry.make_controller(
        "mlp", num_actions=ro.head_of(env).num_logits
    )
    training = EnvTraining(env, module, method, num_envs, num_steps, **options)
    try:
        hash(training)
    except TypeError as error:
        raise UserError(
            f"{type(env).__name__} cannot be hashed, so that no compiled program can be "
            "found by it; make it a frozen dataclass without arrays."
        ) from error
    columns, settings = _columns(hparams)
    task = default_params(env, env_params)
    root = rng.root_key(seed0)
    keys = jax.vmap(lambda seed: rng.controller_key(root, seed))(jnp.arange(seeds))
    keys = jnp.tile(keys, settings)
    each = jax.tree.map(lambda x: jnp.repeat(x, seeds), columns)
    state, metrics = _train(training, keys, each, task, updates)
    split = lambda x: x.reshape(settings, seeds, *x.shape[1:])
    params, metrics = jax.tree.map(split, (state.params, metrics))
    return Trained(training, params, metrics["return"], metrics)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _train(
    training: EnvTraining, keys: Key[Array, "P"], hparams: EnvHparams, task: PyTree, n: int
) -> tuple[TrainState, Metrics]:
    """Returns :func:`train_population`, in blocks on a CPU and all at once elsewhere."""
    block = 16 if jax.default_backend() == "cpu" else keys.shape[0]
    return train_population(training, keys, hparams, task, n, block=block)


def _columns(hparams: Mapping[str, Any] | EnvHparams | None) -> tuple[EnvHparams, int]:
    """Returns hyperparameters with leaves ``[G]``, presets where not given, and ``G``."""
    given = hparams._asdict() if isinstance(hparams, EnvHparams) else dict(hparams or {})
    for name in given:
        if name not in EnvHparams._fields:
            raise unknown_name("hyperparameter:", name, EnvHparams._fields)
    columns = {
        name: jnp.atleast_1d(jnp.asarray(value, jnp.float32))
        for name, value in {**EnvHparams()._asdict(), **given}.items()
    }
    sizes = {name: column.shape[0] for name, column in columns.items() if column.size > 1}
    if len(set(sizes.values())) > 1:
        raise UserError(f"Hyperparameters differ in length: {sizes}; give each the same.")
    count = max(sizes.values(), default=1)
    full = {name: jnp.broadcast_to(column, (count,)) for name, column in columns.items()}
    return EnvHparams(**full), count


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

    ``hparams`` have leaves ``[P]``, or scalars that all share, as they do ``env_params``.
    ``block`` controllers are advanced together; one block is finished before the next
    begins, so that it stays in the processor's cache. A remainder is compiled again.
    """
    count = keys.shape[0]
    spread = lambda leaf: jnp.broadcast_to(jnp.asarray(leaf, jnp.float32), (count,))

    def one(item: tuple[Array, EnvHparams]) -> tuple[TrainState, Metrics]:
        key, hp = item
        state = training.init(stream(key, "init"), hp, env_params)
        return training.train(key, state, env_params, num_updates)

    items = (keys, jax.tree.map(spread, hparams))
    if count <= block:
        return jax.vmap(one)(items)
    return jax.lax.map(one, items, batch_size=block)
