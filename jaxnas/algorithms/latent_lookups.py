"""What a latent search knows, where its policy goes, and what it looks up next."""

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt32

from jaxnas.core import tokens as tk
from jaxnas.core.types import OK, Evaluation, Proposal
from jaxnas.rl.rollout import acted_on, head_of, open_stream
from jaxnas.rl.training import EnvTraining, TrainState
from jaxnas.surrogates.acquisition import Acquisition, AcquisitionParams


class Known(NamedTuple):
    """What was asked and answered, the newest ``capacity`` of them."""

    tokens: Int[Array, "C L"]
    reward: Float[Array, "C"]
    weight: Float[Array, "C"]
    """1 where there is an answer, else 0."""
    answers: Int[Array, ""]


class Lookup(NamedTuple):
    """The next proposal, once the surrogate is there."""

    tokens: Int[Array, "B L"]
    ready: Bool[Array, "B"]
    """False where the policy visited too few unknown architectures."""
    expected: Float[Array, "B"]
    """Rewards that the surrogate predicts."""


class Visits(NamedTuple):
    """Where a policy goes in fresh episodes."""

    tokens: Int[Array, "N L"]
    """Every architecture of every step."""
    path: Float[Array, "T Z"]
    """Latent vectors of the first episode."""
    length: Float[Array, ""]
    """Mean number of steps of an episode."""


def nothing_known(capacity: int, length: int) -> Known:
    """Returns room for ``capacity`` answers."""
    zeros = jnp.zeros(capacity, jnp.float32)
    return Known(jnp.zeros((capacity, length), jnp.int32), zeros, zeros, jnp.int32(0))


def remember(
    known: Known, proposal: Proposal, evaluation: Evaluation
) -> tuple[Known, Bool[Array, "B"]]:
    """Returns what is known with the answers added, and which lanes have one.

    Failed and skipped lanes are left out; where there is no room the oldest are forgotten.
    """
    valid = (evaluation.status == OK) & proposal.active & jnp.isfinite(evaluation.reward)
    capacity = known.weight.shape[0]
    place = (known.answers + jnp.cumsum(valid, dtype=jnp.int32) - 1) % capacity
    place = jnp.where(valid, place, capacity)
    reward = jnp.where(valid, evaluation.reward, 0.0)
    added = Known(
        known.tokens.at[place].set(proposal.tokens, mode="drop"),
        known.reward.at[place].set(reward, mode="drop"),
        known.weight.at[place].set(1.0, mode="drop"),
        known.answers + jnp.sum(valid, dtype=jnp.int32),
    )
    return added, valid


def visit(
    key: Key[Array, ""],
    training: EnvTraining,
    agent: TrainState,
    task: dict[str, PyTree],
    episodes: int,
    num_steps: int,
) -> Visits:
    """Returns where a policy goes in fresh episodes of a ``ChangeEnv``; ended ones stay."""
    env, change = acted_on(training.env, task), training.env
    head = head_of(change)
    begin_key, act_key = jax.random.split(key)
    opened = open_stream(begin_key, env, training.module, task, episodes)
    step = jax.vmap(env.step, in_axes=(0, 0, 0, None))

    def move(carry: PyTree, keys: Key[Array, "2"]) -> tuple[PyTree, PyTree]:
        state, obs, mask = carry
        shape = (episodes, *head.num_uniforms)
        uniform = jax.random.uniform(keys[0], shape, dtype=jnp.float32)
        out = training.act(agent.params, obs)
        action = head.sample(uniform, out.logits, mask, agent.hparams.temperature)
        after, seen = step(jax.random.split(keys[1], episodes), state, action, task)
        return (after, seen.obs, seen.mask), (after.latent, ~after.ended)

    begin = (opened.state, opened.obs, opened.mask)
    keys = jax.random.split(act_key, (num_steps, 2))
    _, (latents, running) = jax.lax.scan(move, begin, keys)
    latents = jnp.concatenate([opened.state.latent[None], latents])
    model = cast(Any, change).dynamics.model
    decode = functools.partial(model.decode, task["dynamics"].model)
    tokens = jax.vmap(decode)(latents.reshape(-1, latents.shape[-1]))
    length = jnp.mean(jnp.sum(running, axis=0, dtype=jnp.float32))
    return Visits(tokens, latents[:, 0], length)


def choose(
    acquisition: Acquisition,
    params: AcquisitionParams,
    tokens: Int[Array, "N L"],
    known: Known,
    batch: int,
) -> tuple[Lookup, dict[str, Float[Array, ""]]]:
    """Returns the unknown architectures of highest acquisition, and what was seen.

    Returns:
        The look-up, and the metrics ``acquisition`` (mean over the candidates),
        ``extrapolates`` and ``unique`` (shares of them).
    """
    predicted = acquisition.predict(params, tokens)
    score = acquisition.score(params, predicted)
    digest = jax.vmap(functools.partial(tk.digest, acquisition.space))
    here, there = digest(tokens), digest(known.tokens)
    asked = jnp.any(_equal(here, there) & (known.weight > 0), axis=1)
    again = jnp.any(jnp.tril(_equal(here, here), -1), axis=1)
    value, rows = jax.lax.top_k(jnp.where(asked | again, -jnp.inf, score), batch)
    lookup = Lookup(tokens[rows], jnp.isfinite(value), predicted.mean[rows, 0])
    return lookup, {
        "acquisition": jnp.mean(score),
        "extrapolates": jnp.mean(predicted.extrapolates, dtype=jnp.float32),
        "unique": jnp.mean(~again, dtype=jnp.float32),
    }


def _equal(a: UInt32[Array, "n 2"], b: UInt32[Array, "m 2"]) -> Bool[Array, "n m"]:
    return jnp.all(a[:, None] == b[None], axis=-1)
