"""PPO that practises on a model of the reward between two queries."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.algorithms import history
from jaxnas.algorithms import model_based as mb
from jaxnas.algorithms.token_policy import TokenWriter, init_params, per_token, sequence
from jaxnas.controllers import heads
from jaxnas.controllers.unroll import Generated
from jaxnas.core import tokens as tk
from jaxnas.core.branching import branching
from jaxnas.core.errors import UserError
from jaxnas.core.ranges import COUNT, HPARAMS
from jaxnas.core.rng import wrap
from jaxnas.core.types import Evaluation, Proposal
from jaxnas.rl import losses, optimise
from jaxnas.surrogates import gaussian_process as gp


class DynaHparams(NamedTuple):
    """Traced settings of DyNA-PPO."""

    lr: float | Float[Array, ""] = 0.01
    entropy: float | Float[Array, ""] = 0.6
    """Weight of the entropy bonus, per nat a token, against rank scores."""
    temperature: float | Float[Array, ""] = 1.0
    clip: float | Float[Array, ""] = 0.2
    max_grad_norm: float | Float[Array, ""] = 1.0
    start: float | Float[Array, ""] = 5.0
    """Uniform architectures before the first fit."""
    optimism: float | Float[Array, ""] = 1.0
    """Factor on the posterior's standard deviation in the expected improvement."""
    RANGES = HPARAMS | {"start": COUNT, "optimism": "(0, inf)"}


class DynaState(NamedTuple):
    """The policy, the model with everything queried, and the next proposal."""

    hparams: DynaHparams
    params: PyTree
    adam: PyTree
    model: mb.ModelState
    tokens: Int[Array, "B L"]
    active: Bool[Array, "B"]


class Planned(NamedTuple):
    """What ``learn`` changes."""

    kernel: gp.Kernel
    fitted: Int[Array, ""]
    params: PyTree
    adam: PyTree
    tokens: Int[Array, "B L"]
    active: Bool[Array, "B"]
    entropy: Float[Array, ""]
    new: Float[Array, ""]


@dataclass(frozen=True)
class DynaPPO(TokenWriter):
    """PPO on the expected improvement under a Gaussian process, between two queries.

    Angermueller et al. 2020, "Model-based reinforcement learning for biological sequence
    design" (DyNA-PPO), with these differences: the model is the Gaussian process of
    ``model-based`` instead of an ensemble that is chosen by cross-validation, so that there
    is one from the first queries on; the policy is paid log expected improvement (what is
    known already is paid least); and of ``candidates`` architectures drawn from the policy
    the new one of the largest acquisition is queried. Advantages are rank scores within a
    rollout, without a critic (as in group-relative PPO; Shao et al. 2024).

    Args:
        space: where to search.
        batch: architectures a proposal: the best new candidates.
        controller: name of a controller, or a module over ``TokenObs``.
        hidden: units of a controller given by name.
        samples: architectures in a rollout on the model.
        rollouts: rollouts between two proposals.
        epochs: gradient steps on each rollout.
        candidates: architectures drawn for a proposal.
        capacity: queries remembered; the oldest are forgotten first.
        steps: of Adam at each fit of the model, from the last fit on.
    """

    batch: int = 1
    hidden: int = 32
    samples: int = 32
    rollouts: int = 2
    epochs: int = 4
    candidates: int = 256
    capacity: int = 512
    steps: int = 15
    id: str = "dyna-ppo-v1"
    preferred_width: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = (self.samples, self.rollouts, self.epochs, self.steps)
        if min(sizes) < 1 or self.candidates < self.batch:
            raise UserError(
                "DyNA-PPO needs positive samples, rollouts, epochs and steps, and at least "
                f"as many candidates as its batch of {self.batch}."
            )
        _ = self._model

    @property
    def _model(self) -> mb.ModelBased:
        return mb.ModelBased(self.space, self.batch, capacity=self.capacity, shortlist=1)

    def default_hparams(self) -> DynaHparams:
        """Returns the preset."""
        return DynaHparams()

    def init(self, key: Key[Array, ""], hparams: DynaHparams) -> DynaState:
        """Returns fresh parameters, a model that has seen nothing, and a first proposal."""
        params_key, model_key, first_key = jax.random.split(key, 3)
        hparams = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), hparams)
        params = init_params(params_key, self.module, self.space)
        facts: Any = (hparams.start, hparams.optimism)
        model = self._model.init(model_key, mb.ModelHparams(*facts))
        every = jnp.ones(self.batch, bool)
        first = self._uniform(first_key)
        return DynaState(hparams, params, optimise.init(params), model, first, every)

    def _uniform(self, key: Key[Array, ""]) -> Int[Array, "B L"]:
        keys = jax.random.split(key, self.batch)
        return jax.vmap(lambda key: tk.sample_uniform(key, self.space))(keys)

    def ask(self, key: Key[Array, ""], state: DynaState) -> tuple[DynaState, Proposal]:
        """Returns what the last ``learn`` chose."""
        lanes = jnp.zeros(self.batch, jnp.int32)
        return state, Proposal(state.tokens, lanes, state.active)

    def tell(
        self,
        key: Key[Array, ""],
        state: DynaState,
        proposal: Proposal,
        evaluation: Evaluation,
    ) -> DynaState:
        """Returns the state with what was evaluated; failures have no reward."""
        told = self._model.tell(key, state.model, proposal, evaluation)
        return state._replace(model=told)

    def learn(
        self, key: Key[Array, ""], state: DynaState
    ) -> tuple[DynaState, dict[str, Float[Array, ""]]]:
        """Returns the state after practice on the model, with the next proposal.

        Metrics: the policy's ``entropy``, nats a token, and which share of its candidates
        is ``new``.
        """
        planned: Planned = branching(self._planned)(jax.random.key_data(key), state)
        kernel, fitted, params, adam, tokens, active, entropy, new = planned
        model = state.model._replace(kernel=kernel, fitted=fitted)
        state = DynaState(state.hparams, params, adam, model, tokens, active)
        return state, {"entropy": entropy, "new": new}

    def _planned(self, key_data: Array, state: DynaState) -> Planned:
        key = wrap(key_data)

        def begin(state: DynaState) -> Planned:
            model, every = state.model, jnp.ones(self.batch, bool)
            fresh, no = self._uniform(key), jnp.float32(jnp.nan)
            kept = (model.kernel, model.fitted, state.params, state.adam)
            return Planned(*kept, fresh, every, no, no)

        def practise(state: DynaState) -> Planned:
            model, rest = state.model, state._replace(model=None)
            return self._model._bucketed(self._practised, model, rest, key)

        due = state.model.told >= state.hparams.start
        return jax.lax.cond(due, practise, begin, state)

    def _practised(
        self, model: mb.ModelState, state: DynaState, key: Key[Array, ""]
    ) -> Planned:
        """Returns the new policy and proposal, from as many rows as ``model`` has."""
        labels, held = mb._labels(model)
        rows = self._model._views(model.tokens)
        kernel, fitted = self._fitted(model, rows, labels, held)
        posterior = gp.condition(kernel, rows, labels, held)

        def acquisition(tokens: Int[Array, "n L"]) -> Float[Array, "n"]:
            mean, sd = gp.predict(kernel, posterior, self._model._views(tokens))
            best = mb._best(labels, held)
            return mb._improvement(mean, sd * state.hparams.optimism, best)

        def rollout(carry: PyTree, key: Key[Array, ""]) -> tuple[PyTree, Array]:
            wrote = self.write(key, carry[0], state.hparams.temperature, self.samples)
            value = acquisition(wrote.tokens)
            known = ~history.unseen(wrote.tokens, model.tokens, model.told)
            value = jnp.where(known, jnp.min(value), value)
            return self._epochs(carry, wrote, value, state.hparams)

        practice, draw, fresh = jax.random.split(key, 3)
        keys = jax.random.split(practice, self.rollouts)
        carry, entropy = jax.lax.scan(rollout, (state.params, state.adam), keys)
        drawn = self.write(draw, carry[0], state.hparams.temperature, self.candidates)
        order = jnp.argsort(-acquisition(drawn.tokens))
        tokens = jnp.concatenate([drawn.tokens[order], self._uniform(fresh)])
        new = history.unseen(tokens, model.tokens, model.told)
        first = jnp.argsort(~new, stable=True)[: self.batch]
        share = jnp.mean(new[: self.candidates], dtype=jnp.float32)
        lanes = (tokens[first], new[first])
        return Planned(kernel, fitted, *carry, *lanes, entropy[-1], share)

    def _fitted(
        self, model: mb.ModelState, rows: Any, labels: Array, held: Array
    ) -> tuple[gp.Kernel, Int[Array, ""]]:
        """Returns the kernel, fitted anew after every 2, then 5, 10 and 25 queries."""
        told = model.told
        gap = jnp.select([told <= 20, told <= 50, told <= 100], [2, 5, 10], 25)
        due = (told - model.fitted >= gap) | (model.fitted == 0)
        start = self._model._prior()
        again = lambda kernel: gp.fit(kernel, start, rows, labels, held, self.steps)
        kernel = jax.lax.cond(due, again, lambda kernel: kernel, model.kernel)
        return kernel, jnp.where(due, told, model.fitted)

    def _epochs(
        self,
        carry: PyTree,
        wrote: Generated,
        value: Float[Array, "n"],
        hparams: DynaHparams,
    ) -> tuple[PyTree, Float[Array, ""]]:
        """Returns parameters and optimiser after ``epochs`` steps, and the entropy."""
        every = jnp.ones(wrote.tokens.shape, bool)
        scores = history.rank_scores(value, every[:, 0])
        advantage = per_token(scores, wrote.tokens)

        def loss(params: PyTree) -> tuple[Array, Array]:
            out = sequence(self.module, params, wrote.tokens)
            logits = heads.masked(out.logits, wrote.mask, hparams.temperature)
            drawn = heads.choice(logits, wrote.mask, wrote.tokens)
            old, clip = wrote.log_prob, hparams.clip
            policy = losses.ppo_clip(drawn.log_prob, old, advantage, clip, every)
            entropy = jnp.mean(drawn.entropy)
            return policy - hparams.entropy * entropy, entropy

        def step(carry: PyTree, _: None) -> tuple[PyTree, Array]:
            grads, entropy = jax.grad(loss, has_aux=True)(carry[0])
            rates = (hparams.lr, hparams.max_grad_norm)
            params, adam, _norm = optimise.step(carry[0], carry[1], grads, *rates)
            return (params, adam), entropy

        carry, entropy = jax.lax.scan(step, carry, length=self.epochs)
        return carry, entropy[-1]
