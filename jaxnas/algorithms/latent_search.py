"""Reinforcement learning that moves through a learned latent space.

Every query is one of two kinds. The first ``labels`` are a random sample, beginning with
the architectures whose scores the latent model was trained with, which are thereby paid
for. A surrogate is fitted to them. From then on each update

1. walks: on-policy RL in the latent environment, paid by the change of what the surrogate
   predicts, which costs no query;
2. looks up: of all architectures that the policy visits, the most promising ones that have
   not been asked become the next proposal;
3. every ``refit`` updates, fits the surrogate to everything asked so far.

Reference: the environment and its reward follow the original (a supervised VQ-VAE
with an RL agent over it); refitting on what the policy found is that of model-based
optimisation, for example Angermueller et al., 2020 (DyNA-PPO).
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.algorithms import latent_lookups as lookups
from jaxnas.controllers.mlp import MLP
from jaxnas.core import tokens as tk
from jaxnas.core.algorithm import Played
from jaxnas.core.errors import UserError
from jaxnas.core.layout import branch, per_controller
from jaxnas.core.ranges import HPARAMS
from jaxnas.core.space import Counted, SearchSpace
from jaxnas.core.trees import masked_mean
from jaxnas.core.types import Evaluation, PolicyOutput, Proposal
from jaxnas.envs.change import ChangeEnv
from jaxnas.envs.latent import STARTS, ContinuousLatentEnv, LatentEnv, LatentParams
from jaxnas.latent import files
from jaxnas.rl.agents import evaluate
from jaxnas.rl.rollout import head_of
from jaxnas.rl.training import EnvHparams, EnvTraining, TrainState
from jaxnas.surrogates import ensemble
from jaxnas.surrogates.acquisition import Acquisition, AcquisitionParams
from jaxnas.surrogates.features import Encoder, make_encoder

METRICS = (
    "return", "episodes", "entropy", "loss", "value_loss", "grad_norm", "length",
    "acquisition", "surrogate_error", "extrapolates", "unique", "collapsed",
)  # fmt: skip
ELITE = 16
"""Best known architectures that episodes may start from."""


class LatentHparams(NamedTuple):
    """Traced settings of a latent search."""

    lr: float | Float[Array, ""] = 1e-3
    entropy: float | Float[Array, ""] = 0.1
    """Weight of the entropy bonus, per nat a step, against the acquisition."""
    temperature: float | Float[Array, ""] = 1.0
    gamma: float | Float[Array, ""] = 0.99
    gae_lambda: float | Float[Array, ""] = 0.95
    clip: float | Float[Array, ""] = 0.2
    value_weight: float | Float[Array, ""] = 0.5
    max_grad_norm: float | Float[Array, ""] = 0.5
    kappa: float | Float[Array, ""] = 1.0
    """Weight of the surrogate's epistemic spread in the acquisition."""
    RANGES = HPARAMS


class LatentState(NamedTuple):
    """Everything that a latent search remembers."""

    hparams: LatentHparams
    asked: Int[Array, ""]
    walks: Int[Array, ""]
    """Updates since the first fit."""
    known: lookups.Known
    surrogate: ensemble.EnsembleParams
    agent: TrainState
    lookup: lookups.Lookup
    rewards: Float[Array, "B"]
    answered: Bool[Array, "B"]
    path: Float[Array, "T Z"]
    """Latent vectors of one episode of the newest policy."""


@dataclass(frozen=True)
class LatentSearch:
    """What the latent searches share; each fixes its learning rule.

    Args:
        space: where to search; the latent model's own.
        latent: a file of ``jaxnas latent train``.
        batch: architectures a proposal.
        labels: queries before the first fit; a multiple of ``batch``, and at least as many
            as the latent model has seen scores of.
        refit: updates between two fits of the surrogate.
        passes: rollouts, each with its learning step, an update.
        num_envs: episodes side by side.
        num_steps: steps of each in a rollout.
        max_steps: of an episode, after which it is truncated.
        history: past actions that the policy sees.
        start: where episodes begin: ``data`` (the best architectures known so far),
            ``codebook`` or ``normal``.
        continuous: bounded steps of the whole vector instead of codebook entries.
        hidden: units of the policy's two layers.
        features: what the surrogate sees: ``graph``, ``one-hot`` or ``numeric``.
        members: networks of the surrogate.
        fit_steps: minibatch steps of each of them, a fit.
        capacity: newest answers that the surrogate is fitted to.

    Raises:
        UserError: no latent model, one of another space, or sizes that do not fit.
    """

    space: SearchSpace
    latent: str = ""
    batch: int = 8
    labels: int = 152
    refit: int = 8
    passes: int = 2
    num_envs: int = 8
    num_steps: int = 32
    max_steps: int = 16
    history: int = 2
    start: str = "data"
    continuous: bool = False
    hidden: int = 64
    features: str = "graph"
    members: int = 5
    fit_steps: int = 400
    capacity: int = 512
    rounds: int = 1
    checksum: str = ""
    preferred_width: int = 8

    method: ClassVar[str]

    def __post_init__(self) -> None:
        if not self.latent:
            raise UserError(
                "A latent search needs a latent model: train one with `jaxnas latent "
                "train --out latent.npz` and give it with `--latent latent.npz`."
            )
        object.__setattr__(self, "checksum", files.checksum_of(self.latent))
        if self.start not in STARTS:
            raise UserError(f"Unknown start {self.start!r}; choose one of {list(STARTS)}.")
        sizes = (self.batch, self.refit, self.passes, self.max_steps, self.hidden)
        if min(sizes) < 1:
            raise UserError(
                f"batch, refit, passes, max_steps and hidden must be positive, got {sizes}."
            )
        least = max(len(self.opening), ensemble.MIN_ROWS)
        if self.labels < least or self.labels % self.batch or self.labels > self.capacity:
            raise UserError(
                f"labels is {self.labels}; it must be a multiple of batch={self.batch} "
                f"from {least} (what the latent model has seen) to capacity="
                f"{self.capacity}."
            )
        _ = self.training, self.acquisition

    @property
    def stored(self) -> files.Stored:
        """The latent model, read once."""
        return files.load_encoder(self.latent, self.checksum, self.space)

    @property
    def opening(self) -> Int[np.ndarray, "n L"]:
        """The architectures whose scores the latent model has seen; the first queries."""
        seen = self.stored.facts.get("labelled", [])
        return np.asarray(seen, np.int32).reshape(-1, self.space.length)

    @property
    def env(self) -> ChangeEnv:
        """The latent environment, rewarded by the change of the acquisition."""
        model = self.stored.model
        kind = ContinuousLatentEnv if self.continuous else LatentEnv
        dynamics = kind(model, self.history, self.max_steps, self.start)
        return ChangeEnv(dynamics, self.acquisition)

    @property
    def acquisition(self) -> Acquisition:
        """The surrogate as the environment's oracle."""
        config = ensemble.Ensemble(self.members, steps=self.fit_steps)
        return Acquisition(_encoder(self.features, self.space), config)

    @property
    def training(self) -> EnvTraining:
        """The learning rule on the environment."""
        env = self.env
        module = MLP(head_of(env).num_logits, hidden=self.hidden)
        return EnvTraining(env, module, self.method, self.num_envs, self.num_steps)

    def default_hparams(self) -> LatentHparams:
        """Returns the preset."""
        return LatentHparams()

    def init(self, key: Key[Array, ""], hparams: LatentHparams) -> LatentState:
        """Returns a fresh policy that knows nothing."""
        hparams = LatentHparams(*(jnp.asarray(leaf, jnp.float32) for leaf in hparams))
        length, lanes = self.space.length, self.batch
        known = lookups.nothing_known(self.capacity, length)
        shapes = jax.eval_shape(self._fitted, key, known)
        surrogate = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        task = self._task(hparams, known, surrogate)
        agent = self.training.init(key, _rule(hparams), task)
        none, zeros = jnp.int32(0), jnp.zeros(lanes, jnp.float32)
        no = jnp.zeros(lanes, bool)
        lookup = lookups.Lookup(jnp.zeros((lanes, length), jnp.int32), no, zeros)
        size = self.env.dynamics.model.latent_size
        path = jnp.zeros((self.max_steps + 1, size), jnp.float32)
        last = (lookup, zeros, no, path)
        return LatentState(hparams, none, none, known, surrogate, agent, *last)

    def ask(self, key: Key[Array, ""], state: LatentState) -> tuple[LatentState, Proposal]:
        """Returns random architectures at first, then the best visited ones."""
        number = state.asked + jnp.arange(self.batch, dtype=jnp.int32)
        draw = tk.sample_uniform if _uniform(self.space) else tk.sample
        tokens = jax.vmap(lambda k: draw(k, self.space))(jax.random.split(key, self.batch))
        if len(self.opening):
            given = jnp.asarray(self.opening)
            row = jnp.minimum(number, len(given) - 1)
            tokens = jnp.where((number < len(given))[:, None], given[row], tokens)
        opens = state.asked < self.labels
        tokens = jnp.where(opens, tokens, state.lookup.tokens)
        active = opens | state.lookup.ready
        asked = state.asked + jnp.sum(active, dtype=jnp.int32)
        proposal = Proposal(tokens, jnp.zeros(self.batch, jnp.int32), active)
        return state._replace(asked=asked), proposal

    def tell(
        self,
        key: Key[Array, ""],
        state: LatentState,
        proposal: Proposal,
        evaluation: Evaluation,
    ) -> LatentState:
        """Returns the state that knows the valid answers, the newest ``capacity`` only."""
        known, valid = lookups.remember(state.known, proposal, evaluation)
        rewards = jnp.where(valid, evaluation.reward, 0.0)
        return state._replace(known=known, rewards=rewards, answered=valid)

    def learn(
        self, key: Key[Array, ""], state: LatentState
    ) -> tuple[LatentState, dict[str, Float[Array, ""]]]:
        """Returns the state after fitting where due, walking, and choosing the look-ups.

        Nothing is computed before anybody has its labels, nor is a surrogate fitted before
        anybody's is due, in whichever layout.
        """
        return per_controller(self._learn)(key, state)

    def artifacts(self, state: LatentState) -> dict[str, Array]:
        """Returns what a finished run keeps beside its queries: the newest walk."""
        return {"path": state.path}

    @property
    def policy_config(self) -> dict[str, Any]:
        """The latent model, what is observed, and the controller with its sizes."""
        seen = {"history": self.history, "start": self.start}
        module = repr(self.training.module)
        return {"latent": self.checksum, "controller": module, **seen}

    def policy(self, state: LatentState) -> PyTree:
        """Returns the controller's parameters."""
        return state.agent.params

    def with_policy(self, state: LatentState, params: PyTree) -> LatentState:
        """Returns a state whose controller has other parameters."""
        return state._replace(agent=state.agent._replace(params=params))

    def act(self, params: PyTree, obs: Float[Array, "n F"]) -> PolicyOutput:
        """Returns logits ``[n, A]`` and values of observations."""
        return self.training.act(params, obs)

    def play(
        self,
        key: Key[Array, ""],
        params: PyTree,
        hparams: LatentHparams,
        known: Int[Array, "K L"],
        episodes: int,
        greedy: bool,
    ) -> Played:
        """Returns walks of a policy, those of ``start="data"`` from known architectures."""
        dynamics: Any = self.env.dynamics
        model = self.stored.params
        task = dynamics.params(model, data=dynamics.encode(model, known))
        walking = dataclasses.replace(self.training, env=self.env.unpaid())
        walks = evaluate(
            key, walking, params, {"dynamics": task}, episodes=episodes,
            horizon=self.max_steps, greedy=greedy, temperature=hparams.temperature,
        )  # fmt: skip
        decode = jax.vmap(lambda state: dynamics.queries(state, task))
        return Played(decode(walks.state), decode(walks.begun), walks.entropy)

    def _learn(
        self, key: Key[Array, ""], state: LatentState
    ) -> tuple[LatentState, dict[str, Float[Array, ""]]]:
        """Learns for one controller; before the labels are there nothing happens."""
        nothing = {name: jnp.float32(jnp.nan) for name in METRICS}
        walks = (state.asked >= self.labels) & (state.known.answers >= ensemble.MIN_ROWS)
        return branch(walks, self._walk, lambda key, state: (state, nothing), key, state)

    def _walk(
        self, key: Key[Array, ""], state: LatentState
    ) -> tuple[LatentState, dict[str, Float[Array, ""]]]:
        """Fits where due, trains the policy, and chooses the next look-ups."""
        fit_key, train_key, visit_key = jax.random.split(key, 3)
        square = jnp.square(state.rewards - state.lookup.expected)
        error = jnp.sqrt(masked_mean(square, state.answered, jnp.nan))
        error = jnp.where(state.walks > 0, error, jnp.nan)
        fit = lambda key, known, before: self._fitted(key, known)
        same = lambda key, known, before: before
        due = state.walks % self.refit == 0
        surrogate = branch(due, fit, same, fit_key, state.known, state.surrogate)
        task = self._task(state.hparams, state.known, surrogate)
        agent, metrics = self.training.train(train_key, state.agent, task, self.passes)
        metrics = jax.tree.map(jnp.nanmean, metrics)
        size = (2 * self.num_envs, self.max_steps)
        visits = lookups.visit(visit_key, self.training, agent, task, *size)
        lookup, seen = lookups.choose(
            self.acquisition, task["oracle"], visits.tokens, state.known, self.batch
        )
        walks = state.walks + 1
        state = state._replace(
            walks=walks, surrogate=surrogate, agent=agent, lookup=lookup, path=visits.path
        )
        metrics |= {**seen, "length": visits.length, "surrogate_error": error}
        # Short walks from the best known cells repeat themselves by nature; what shows a
        # collapse is that none of them leads anywhere new.
        metrics["collapsed"] = ~jnp.any(lookup.ready)
        return state, {n: jnp.asarray(metrics[n], jnp.float32) for n in METRICS}

    def _fitted(self, key: Key[Array, ""], known: lookups.Known) -> ensemble.EnsembleParams:
        x = jax.vmap(self.acquisition.encoder)(known.tokens)
        config = self.acquisition.config
        return ensemble.fit(config, key, x, known.reward[:, None], known.weight)

    def _task(
        self,
        hparams: LatentHparams,
        known: lookups.Known,
        surrogate: ensemble.EnsembleParams,
    ) -> dict[str, PyTree]:
        stored = self.stored
        reward = jnp.where(known.weight > 0, known.reward, -jnp.inf)
        _, elite = jax.lax.top_k(reward, min(ELITE, self.capacity))
        env: Any = self.env.dynamics
        data = env.encode(stored.params, known.tokens[elite])
        dynamics: LatentParams = env.params(stored.params, data=data)
        there = jnp.where(known.weight > 0, known.reward, jnp.nan)
        median, best = map(jnp.nan_to_num, (jnp.nanmedian(there), jnp.nanmax(there)))
        kappa = jnp.asarray(hparams.kappa, jnp.float32)
        oracle = AcquisitionParams(surrogate, median, best, kappa)
        return {"dynamics": dynamics, "oracle": oracle}


def _rule(hparams: LatentHparams) -> EnvHparams:
    return EnvHparams(*(getattr(hparams, name) for name in EnvHparams._fields))


def _uniform(space: SearchSpace) -> bool:
    """Returns whether architectures can be drawn exactly uniformly."""
    size = tk.count(space)
    return isinstance(space, Counted) or (size is not None and size <= tk.ENUMERABLE)


@functools.lru_cache(maxsize=8)
def _encoder(kind: str, space: SearchSpace) -> Encoder:
    """Returns an encoder, made once: finding the operations of a space takes a while."""
    return make_encoder(kind, space)


@dataclass(frozen=True)
class LatentPPO(LatentSearch):
    """PPO in a learned latent space, with look-ups of what a surrogate scores highest."""

    id: str = "latent-ppo-v1"
    method: ClassVar[str] = "ppo"


@dataclass(frozen=True)
class LatentA2C(LatentSearch):
    """A2C in a learned latent space, with look-ups of what a surrogate scores highest."""

    id: str = "latent-a2c-v1"
    method: ClassVar[str] = "a2c"


@dataclass(frozen=True)
class LatentReinforce(LatentSearch):
    """REINFORCE in a latent space, with look-ups of what a surrogate scores highest."""

    id: str = "latent-reinforce-v1"
    method: ClassVar[str] = "reinforce"
