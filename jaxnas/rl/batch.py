"""Experience to learn from, in the form that every learning step takes."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree


class PolicyBatch(NamedTuple):
    """Experience to learn from, samples on the first axis of every leaf.

    ``*n`` is ``[N]`` for single steps and ``[N, L]`` for whole sequences.
    """

    obs: PyTree
    mask: Bool[Array, "*n V"] | None
    """Legal actions; None where all are."""
    action: Array
    """``int[*n]``, or ``float[*n, D]`` where actions are continuous."""
    log_prob: Float[Array, "*n"]
    """Under the policy that acted, nats."""
    value: Float[Array, "*n"]
    """What the critic said then."""
    advantage: Float[Array, "*n"]
    target: Float[Array, "*n"]
    """What the critic should have said."""
    valid: Bool[Array, "*n"] | None
    """Samples that are not valid teach nothing; None where all are."""

    @property
    def teaches(self) -> Bool[Array, "*n"]:
        """Which samples are valid."""
        all_of_them = jnp.ones(self.log_prob.shape, bool)
        return all_of_them if self.valid is None else self.valid
