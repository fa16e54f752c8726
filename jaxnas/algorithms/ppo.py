"""Proximal policy optimisation (Schulman et al., 2017)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.algorithms.actor_critic import architecture_batch
from jaxnas.algorithms.reward_scale import RewardScale
from jaxnas.algorithms.token_policy import PolicyState, TokenPolicy, sequence
from jaxnas.core.ranges import HPARAMS
from jaxnas.rl.batch import PolicyBatch
from jaxnas.rl.ppo_step import check_minibatches, ppo_update
from jaxnas.rl.shuffle import shuffled_orders


class PPOHparams(NamedTuple):
    """Traced settings of PPO."""

    lr: float | Float[Array, ""] = 0.01
    entropy: float | Float[Array, ""] = 0.2
    """Weight of the entropy bonus, per nat a token."""
    temperature: float | Float[Array, ""] = 1.0
    gamma: float | Float[Array, ""] = 1.0
    gae_lambda: float | Float[Array, ""] = 0.95
    clip: float | Float[Array, ""] = 0.2
    value_weight: float | Float[Array, ""] = 0.5
    reward_decay: float | Float[Array, ""] = 0.95
    """Of the running moments that scale rewards."""
    max_grad_norm: float | Float[Array, ""] = 0.5
    RANGES = HPARAMS


@dataclass(frozen=True)
class PPO(TokenPolicy):
    """PPO whose episode is one written architecture; minibatches are of architectures.

    Args:
        epochs: passes over the batch.
        minibatches: gradient steps a pass; divides ``batch``.
        normalise: whether advantages are standardised within each minibatch.
        clip_value: whether the value loss is clipped as well.
    """

    epochs: int = 4
    minibatches: int = 1
    normalise: bool = True
    clip_value: bool = False
    id: str = "ppo-v1"
    preferred_width: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_minibatches(self.batch, self.epochs, self.minibatches)

    def default_hparams(self) -> PPOHparams:
        """Returns the preset."""
        return PPOHparams()

    def lesson(
        self, key: Key[Array, ""], state: PolicyState, scale: RewardScale
    ) -> tuple[Int[Array, "E B"], PolicyBatch]:
        """Returns an order of the architectures for each pass, and the last batch."""
        orders = shuffled_orders(key, self.batch, self.epochs)
        return orders, architecture_batch(state, self.standardise, scale)

    def train(
        self,
        params: PyTree,
        adam: PyTree,
        lesson: tuple[Int[Array, "E B"], PolicyBatch],
        hparams: PPOHparams,
    ) -> tuple[PyTree, PyTree, dict[str, Float[Array, ""]]]:
        """Returns what ``epochs * minibatches`` gradient steps do to the controller."""
        module = self.module
        apply = lambda params, tokens: sequence(module, params, tokens)
        how: Any = {"normalise": self.normalise, "clip_value": self.clip_value}
        given = (params, adam, *lesson, hparams)
        return ppo_update(apply, *given, minibatches=self.minibatches, **how)
