"""PPO that learns from everything queried, and proposes only what is new."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.algorithms import history as hs
from jaxnas.algorithms.token_policy import TokenWriter, init_params, per_token, sequence
from jaxnas.controllers import heads
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.layout import per_controller
from jaxnas.core.ranges import HPARAMS
from jaxnas.core.rng import wrap
from jaxnas.core.tokens import inverse_cdf
from jaxnas.core.trees import masked_mean
from jaxnas.core.types import Evaluation, Proposal
from jaxnas.rl import losses, optimise

OBJECTIVES = ("clip", "weigh", "imitate", "match")
"""How a replayed architecture teaches: see :class:`PPOReplay`."""
FASTEST = 0.03
"""Most that the logarithm of the entropy bonus changes at a step."""


class ReplayHparams(NamedTuple):
    """Traced settings of PPO with replay."""

    lr: float | Float[Array, ""] = 0.01
    entropy: float | Float[Array, ""] = 0.02
    """Weight of the entropy bonus, per nat a token, against rank scores; its first value
    where there is a target."""
    target: float | Float[Array, ""] = 0.0
    """Entropy in nats a token that the bonus is adapted to; 0 leaves the bonus alone."""
    temperature: float | Float[Array, ""] = 1.0
    clip: float | Float[Array, ""] = 0.2
    sharpness: float | Float[Array, ""] = 1.0
    """Factor on the rank scores."""
    priority: float | Float[Array, ""] = 0.5
    """A rank ``r``, from 1, is replayed in proportion to ``r ** -priority``."""
    max_grad_norm: float | Float[Array, ""] = 1.0
    RANGES = HPARAMS | {
        "target": "[0, inf)",
        "sharpness": "[0, inf)",
        "priority": "[0, inf)",
    }


class ReplayState(NamedTuple):
    """The policy, everything told, and the batch on its way."""

    hparams: ReplayHparams
    params: PyTree
    adam: PyTree
    bonus: Float[Array, ""]
    """Logarithm of the weight of the entropy bonus."""
    history: hs.History
    mask: Bool[Array, "B L V"]
    log_prob: Float[Array, "B L"]


@dataclass(frozen=True)
class PPOReplay(TokenWriter):
    """PPO whose minibatches are drawn from the whole history, better ranks more often.

    Of ``draws`` architectures that the policy writes the first new ones are proposed;
    uniform ones where all of them are known. Advantages are rank scores over the history
    (:func:`history.rank_scores`), without a critic. With importance ratios against the
    policy that wrote them, however long ago, the clipped surrogate (Schulman et al., 2017)
    bounds how much an architecture can teach in all.

    Args:
        space: where to search.
        batch: architectures a proposal.
        controller: name of a controller, or a module over ``TokenObs``.
        hidden: units of a controller given by name.
        draws: architectures written for a proposal; with ``batch`` repeats are proposed.
        capacity: queries remembered; the oldest are forgotten first.
        minibatch: architectures a gradient step, the last batch among them.
        steps: gradient steps after each batch.
        objective: ``clip``, the surrogate above; ``weigh``, likelihood weighted by the
            exponential of the advantage (Peng et al. 2019); ``imitate``, likelihood of the
            best ``elite`` (Abolafia et al. 2018); ``match``, squared error of log
            probabilities to advantages up to a constant (path consistency; Nachum et al.
            2017).
        elite: architectures that are imitated.
    """

    batch: int = 2
    draws: int = 32
    capacity: int = 512
    minibatch: int = 32
    steps: int = 8
    objective: str = "clip"
    elite: int = 10
    id: str = "ppo-replay-v1"
    preferred_width: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in OBJECTIVES:
            raise UserError(
                f"objective is {self.objective!r}, but must be in {OBJECTIVES}."
            )
        least = min(self.steps, self.elite, self.batch)
        if least < 1 or not self.batch <= min(self.draws, self.minibatch, self.capacity):
            raise UserError(
                "PPO with replay needs positive steps and elite, and draws, minibatch and "
                f"capacity of at least its batch of {self.batch}."
            )

    def default_hparams(self) -> ReplayHparams:
        """Returns the preset."""
        return ReplayHparams()

    def init(self, key: Key[Array, ""], hparams: ReplayHparams) -> ReplayState:
        """Returns fresh parameters and an empty history."""
        hparams = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), hparams)
        params = init_params(key, self.module, self.space)
        B, L, V = self.batch, self.space.length, self.space.vocab
        bonus = jnp.log(jnp.maximum(hparams.entropy, 1e-6))
        history = hs.empty(self.capacity, L, V)
        pending = (jnp.zeros((B, L, V), bool), jnp.zeros((B, L), jnp.float32))
        return ReplayState(hparams, params, optimise.init(params), bonus, history, *pending)

    def ask(self, key: Key[Array, ""], state: ReplayState) -> tuple[ReplayState, Proposal]:
        """Returns the first new architectures that the policy writes."""
        draw, spare = jax.random.split(key)
        wrote = self.write(draw, state.params, state.hparams.temperature, self.draws)
        tokens, mask, log_prob = wrote.tokens, wrote.mask, wrote.log_prob
        chosen, active = jnp.arange(self.batch), jnp.ones(self.batch, bool)
        if self.draws > self.batch:
            spare = self._uniform(spare)
            tokens, mask, log_prob = (
                jnp.concatenate(pair)
                for pair in zip((tokens, mask, log_prob), spare, strict=True)
            )
            new = hs.unseen(tokens, state.history.tokens, state.history.told)
            chosen = jnp.argsort(~new, stable=True)[: self.batch]
            active = new[chosen]
        state = state._replace(mask=mask[chosen], log_prob=log_prob[chosen])
        lanes = jnp.zeros(self.batch, jnp.int32)
        return state, Proposal(tokens[chosen], lanes, active)

    def _uniform(self, key: Key[Array, ""]) -> tuple[Array, Array, Array]:
        """Returns uniform architectures with masks and log-probabilities by token."""
        keys = jax.random.split(key, self.batch)
        tokens = jax.vmap(lambda key: tk.sample_uniform(key, self.space))(keys)
        places = jnp.arange(self.space.length, dtype=jnp.int32)
        legal = jax.vmap(jax.vmap(self.space.mask, (None, 0)), (0, None))(tokens, places)
        flat = jnp.zeros(legal.shape, jnp.float32)
        return tokens, legal, heads.log_prob(flat, legal, tokens)

    def tell(
        self,
        key: Key[Array, ""],
        state: ReplayState,
        proposal: Proposal,
        evaluation: Evaluation,
    ) -> ReplayState:
        """Returns the state with what was evaluated; failures teach nothing."""
        wrote = (state.mask, state.log_prob)
        history = hs.record(state.history, *wrote, proposal, evaluation)
        return state._replace(history=history)

    def learn(
        self, key: Key[Array, ""], state: ReplayState
    ) -> tuple[ReplayState, dict[str, Float[Array, ""]]]:
        """Returns the state after ``steps`` gradient steps.

        Metrics: the policy's ``entropy`` on what is replayed, nats a token, ``loss``, and
        ``bonus``, the weight of the entropy.
        """
        train = per_controller(self.train)
        lesson = (jax.random.key_data(key), state.history)
        given = (state.params, state.adam, state.bonus)
        params, adam, bonus, metrics = train(*given, lesson, state.hparams)
        return state._replace(params=params, adam=adam, bonus=bonus), metrics

    def train(
        self,
        params: PyTree,
        adam: PyTree,
        bonus: Float[Array, ""],
        lesson: tuple[Array, hs.History],
        hparams: ReplayHparams,
    ) -> tuple[PyTree, PyTree, Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Returns parameters, optimiser state, bonus and metrics after the steps."""
        key_data, history = lesson
        held = jnp.isfinite(history.reward)
        advantage = hparams.sharpness * hs.rank_scores(history.reward, held)
        weights = self._priorities(history.reward, held, hparams.priority)
        last = history.told - 1 - jnp.arange(self.batch, dtype=jnp.int32)
        last = jnp.maximum(last, 0) % self.capacity
        gradient = jax.value_and_grad(self.loss, has_aux=True)

        def step(carry: PyTree, key: Key[Array, ""]) -> tuple[PyTree, dict[str, Array]]:
            params, adam, bonus = carry
            uniforms = jax.random.uniform(key, (self.minibatch,), dtype=jnp.float32)
            rows = jax.vmap(inverse_cdf, (0, None))(uniforms, weights)
            if self.objective != "imitate":
                rows = rows.at[: self.batch].set(last)
            part = jax.tree.map(lambda leaf: leaf[rows], history[:3])
            given = (part, advantage[rows], held[rows], jnp.exp(bonus), hparams)
            (loss, entropy), grads = gradient(params, *given)
            rates = (hparams.lr, hparams.max_grad_norm)
            params, adam, _norm = optimise.step(params, adam, grads, *rates)
            moved = bonus + FASTEST * jnp.sign(hparams.target - entropy)
            bonus = jnp.where(hparams.target > 0, jnp.clip(moved, -7.0, 1.0), bonus)
            seen = {"loss": loss, "entropy": entropy, "bonus": jnp.exp(bonus)}
            return (params, adam, bonus), seen

        keys = jax.random.split(wrap(key_data), self.steps)
        carry, metrics = jax.lax.scan(step, (params, adam, bonus), keys)
        return *carry, jax.tree.map(lambda values: values[-1], metrics)

    def _priorities(
        self, reward: Float[Array, "C"], held: Bool[Array, "C"], priority: Any
    ) -> Float[Array, "C"]:
        """Returns how often each row is replayed; never one without a reward."""
        place = hs.ranks(jnp.where(held, reward, -jnp.inf))
        if self.objective == "imitate":
            return jnp.where(held & (place < self.elite), 1.0, 0.0)
        often = (place.astype(jnp.float32) + 1.0) ** -priority
        return jnp.where(held, often, 0.0)

    def loss(
        self,
        params: PyTree,
        part: tuple[Int[Array, "M L"], Bool[Array, "M L V"], Float[Array, "M L"]],
        advantage: Float[Array, "M"],
        held: Bool[Array, "M"],
        bonus: Float[Array, ""],
        hparams: ReplayHparams,
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Returns the objective's loss, and the policy's mean entropy in nats a token."""
        tokens, mask, old = part
        out = sequence(self.module, params, tokens)
        logits = heads.masked(out.logits, mask, hparams.temperature)
        drawn = heads.choice(logits, mask, tokens)
        valid = per_token(held, tokens)
        entropy = jnp.mean(drawn.entropy)
        if self.objective == "clip":
            each = per_token(advantage, tokens)
            policy = losses.ppo_clip(drawn.log_prob, old, each, hparams.clip, valid)
        elif self.objective == "match":
            gap = jnp.sum(drawn.log_prob, axis=1) - advantage
            gap = jnp.where(held, gap - masked_mean(gap, held), 0.0)
            policy = 0.5 * masked_mean(gap**2, held) / self.space.length
        else:
            weight = jnp.exp(jnp.minimum(advantage, 5.0)) * held
            weight = weight / jnp.maximum(masked_mean(weight, held), 1e-6)
            weight = held.astype(jnp.float32) if self.objective == "imitate" else weight
            each = per_token(weight, tokens)
            policy = losses.policy_gradient(drawn.log_prob, each, valid)
        return policy - bonus * entropy, entropy
