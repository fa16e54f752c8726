"""Advantage actor-critic, synchronous (Mnih et al., 2016)."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from jaxtyping import Array, Float, Key, PyTree

from jaxnas.algorithms.actor_critic import architecture_batch
from jaxnas.algorithms.reward_scale import RewardScale
from jaxnas.algorithms.token_policy import PolicyState, TokenPolicy, sequence
from jaxnas.core.ranges import HPARAMS
from jaxnas.rl.a2c_step import a2c_update
from jaxnas.rl.batch import PolicyBatch


class A2CHparams(NamedTuple):
    """Traced settings of A2C."""

    lr: float | Float[Array, ""] = 0.03
    entropy: float | Float[Array, ""] = 0.03
    """Weight of the entropy bonus, per nat a token."""
    temperature: float | Float[Array, ""] = 1.0
    gamma: float | Float[Array, ""] = 1.0
    gae_lambda: float | Float[Array, ""] = 0.95
    value_weight: float | Float[Array, ""] = 0.5
    reward_decay: float | Float[Array, ""] = 0.95
    """Of the running moments that scale rewards."""
    max_grad_norm: float | Float[Array, ""] = 0.5
    RANGES = HPARAMS


@dataclass(frozen=True)
class A2C(TokenPolicy):
    """A2C whose episode is one written architecture, each prefix with a learned value."""

    id: str = "a2c-v2"
    preferred_width: int = 8
    replays: ClassVar[bool] = True

    def default_hparams(self) -> A2CHparams:
        """Returns the preset."""
        return A2CHparams()

    def lesson(
        self, key: Key[Array, ""], state: PolicyState, scale: RewardScale
    ) -> PolicyBatch:
        """Returns the last batch with its advantages."""
        batch = architecture_batch(state, self.standardise, scale)
        return batch._replace(obs=(state.episodes.tokens, state.episodes.aux))

    def train(
        self, params: PyTree, adam: PyTree, lesson: PolicyBatch, hparams: A2CHparams
    ) -> tuple[PyTree, PyTree, dict[str, Float[Array, ""]]]:
        """Returns what :func:`a2c_update` does to the controller."""
        module = self.module
        apply = lambda params, obs: sequence(module, params, *obs)
        return a2c_update(apply, params, adam, lesson, hparams)
