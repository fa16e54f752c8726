"""REINFORCE over whole architectures (Williams, 1992; Zoph and Le, 2017)."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from jaxnas.algorithms import reward_scale as scales
from jaxnas.algorithms import token_policy as tp
from jaxnas.algorithms.token_policy import Episodes, PolicyState, TokenPolicy, per_token
from jaxnas.controllers import heads
from jaxnas.core.errors import UserError
from jaxnas.core.ranges import HPARAMS
from jaxnas.rl import losses, optimise

BASELINES = ("none", "moving-average", "leave-one-out")


class ReinforceHparams(NamedTuple):
    """Traced settings of REINFORCE."""

    lr: float | Float[Array, ""] = 0.01
    entropy: float | Float[Array, ""] = 0.08
    """Weight of the entropy bonus, per nat a token, against standardised rewards."""
    temperature: float | Float[Array, ""] = 1.0
    reward_decay: float | Float[Array, ""] = 0.95
    """Of the running moments: the moving-average baseline and the reward's scale."""
    max_grad_norm: float | Float[Array, ""] = 1.0
    RANGES = HPARAMS


@dataclass(frozen=True)
class Reinforce(TokenPolicy):
    """REINFORCE with an entropy bonus.

        loss = -mean_{b, t} (R_b - baseline_b) log pi(a_bt | a_b<t) - entropy mean H(pi)

    The mean is over tokens as well as architectures, so the gradient is ``1 / L`` of that
    of the expected reward.

    Args:
        baseline: ``none``; ``moving-average``, the running mean of earlier batches (the
            first batch uses its own mean); or ``leave-one-out``, the mean of the other
            lanes (Kool et al., 2019).
    """

    baseline: str = "moving-average"
    id: str = "reinforce-v1"
    preferred_width: int = 8
    replays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline not in BASELINES:
            raise UserError(f"baseline is {self.baseline!r}, but must be in {BASELINES}.")
        if self.baseline == "leave-one-out" and self.batch < 2:
            raise UserError("The baseline 'leave-one-out' needs a batch of at least 2.")

    def default_hparams(self) -> ReinforceHparams:
        """Returns the preset."""
        return ReinforceHparams()

    def lesson(
        self, key: Key[Array, ""], state: PolicyState, scale: scales.RewardScale
    ) -> tuple[Episodes, Float[Array, "B"]]:
        """Returns the batch and the advantage of each architecture."""
        reward, valid = state.episodes.reward, state.episodes.valid
        _, spread = scales.centre_and_spread(self.standardise, scale, reward, valid)
        advantage = advantages(self.baseline, state.scale, reward, valid) / spread
        return state.episodes, advantage

    def train(
        self,
        params: PyTree,
        adam: PyTree,
        lesson: tuple[Episodes, Float[Array, "B"]],
        hparams: ReinforceHparams,
    ) -> tuple[PyTree, PyTree, dict[str, Float[Array, ""]]]:
        """Returns parameters, optimiser state and metrics after one gradient step."""
        gradient = jax.value_and_grad(self.loss, has_aux=True)
        (loss, entropy), grads = gradient(params, *lesson, hparams)
        rates = (hparams.lr, hparams.max_grad_norm)
        params, adam, norm = optimise.step(params, adam, grads, *rates)
        return params, adam, {"loss": loss, "entropy": entropy, "grad_norm": norm}

    def loss(
        self,
        params: PyTree,
        episodes: Episodes,
        advantage: Float[Array, "B"],
        hparams: ReinforceHparams,
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Returns the loss and the policy's mean entropy in nats per token."""
        out = tp.sequence(self.module, params, episodes.tokens, episodes.aux)
        logits = heads.masked(out.logits, episodes.mask, hparams.temperature)
        drawn = heads.choice(logits, episodes.mask, episodes.tokens)
        teaches = per_token(episodes.valid, episodes.tokens)
        each = per_token(advantage, episodes.tokens)
        policy = losses.policy_gradient(drawn.log_prob, each, teaches)
        entropy = jnp.mean(drawn.entropy)
        return policy - hparams.entropy * entropy, entropy


def advantages(
    baseline: str,
    before: scales.RewardScale,
    reward: Float[Array, "B"],
    valid: Bool[Array, "B"],
) -> Float[Array, "B"]:
    """Returns ``R_b - baseline_b``, zero on lanes that are not valid.

    ``before`` are the moments of the *earlier* batches, so that the baseline does not
    depend on the actions it is subtracted for.
    """
    if baseline == "none":
        reference = jnp.zeros_like(reward)
    elif baseline == "moving-average":
        first, _ = scales.batch_moments(reward, valid)
        reference = jnp.where(before.batches > 0, before.mean, first)
    else:
        count = jnp.sum(valid, dtype=jnp.float32)
        total = jnp.sum(jnp.where(valid, reward, 0.0))
        others = (total - reward) / jnp.maximum(count - 1, 1)
        reference = jnp.where(count > 1, others, reward)
    return jnp.where(valid, reward - reference, 0.0)
