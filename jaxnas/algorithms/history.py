"""Everything that a search was told, and what of it teaches: ranks, and what is new."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnas.core.types import OK, Evaluation, Proposal


class History(NamedTuple):
    """A ring of the last ``C`` evaluations, with the policy that wrote them."""

    tokens: Int[Array, "C L"]
    mask: Bool[Array, "C L V"]
    log_prob: Float[Array, "C L"]
    """Of the policy that wrote them, nats."""
    reward: Float[Array, "C"]
    """-inf where the evaluation failed or the place is empty."""
    told: Int[Array, ""]
    """Rows so far; the oldest one's place is ``told % C``."""


def empty(capacity: int, length: int, vocab: int) -> History:
    """Returns a history without a row."""
    return History(
        jnp.zeros((capacity, length), jnp.int32),
        jnp.zeros((capacity, length, vocab), bool),
        jnp.zeros((capacity, length), jnp.float32),
        jnp.full(capacity, -jnp.inf, jnp.float32),
        jnp.int32(0),
    )


def record(
    history: History,
    mask: Bool[Array, "B L V"],
    log_prob: Float[Array, "B L"],
    proposal: Proposal,
    evaluation: Evaluation,
) -> History:
    """Returns the history with the active lanes of a proposal as its newest rows."""
    capacity = history.reward.shape[0]
    ok = (evaluation.status == OK) & jnp.isfinite(evaluation.reward)
    rank = jnp.cumsum(proposal.active, dtype=jnp.int32) - 1
    place = (history.told + rank) % capacity
    place = jnp.where(proposal.active, place, capacity)
    put = lambda rows, new: rows.at[place].set(new, mode="drop")
    return History(
        put(history.tokens, proposal.tokens),
        put(history.mask, mask),
        put(history.log_prob, log_prob),
        put(history.reward, jnp.where(ok, evaluation.reward, -jnp.inf)),
        history.told + jnp.sum(proposal.active, dtype=jnp.int32),
    )


def unseen(
    tokens: Int[Array, "K L"], known: Int[Array, "C L"], told: Int[Array, ""]
) -> Bool[Array, "K"]:
    """Returns which architectures are not among the first ``told`` known ones, each once.

    Of equal architectures the first counts.
    """
    filled = jnp.arange(known.shape[0], dtype=jnp.int32) < told
    seen = jnp.any(jnp.all(tokens[:, None] == known[None], axis=-1) & filled, axis=1)
    same = jnp.all(tokens[:, None] == tokens[None], axis=-1)
    repeated = jnp.any(jnp.tril(same, -1), axis=1)
    return ~seen & ~repeated


def ranks(values: Float[Array, "n"]) -> Int[Array, "n"]:
    """Returns 0 for the largest value, 1 for the next; equal ones in their order."""
    n = values.shape[0]
    places = jnp.arange(n, dtype=jnp.int32)
    return jnp.zeros(n, jnp.int32).at[jnp.argsort(-values)].set(places)


def rank_scores(values: Float[Array, "n"], held: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Returns ``log(m / (rank + 1/2)) - 1`` among the ``m`` values held, zero elsewhere.

    These are scores of an exponential distribution, of mean about 0 and standard deviation
    about 1 whatever the unit: the best few stand out, the worst half is nearly equal.
    """
    place = ranks(jnp.where(held, values, -jnp.inf)).astype(jnp.float32)
    many = jnp.maximum(jnp.sum(held), 1).astype(jnp.float32)
    return jnp.where(held, jnp.log(many / (place + 0.5)) - 1.0, 0.0)
