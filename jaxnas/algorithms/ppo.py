"""Proximal policy optimisation (Schulman et al., 2017)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Key, PyTree

from jaxnas.algorithms import collapse
from jaxnas.algorithms import reward_scale as scales
from jaxnas.algorithms.actor_critic import architecture_batch
from jaxnas.algorithms.token_policy import PolicyState, TokenPolicy, sequence
from jaxnas.core.trees import one_at_a_time
from jaxnas.rl.ppo_step import check_minibatches, ppo_update


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


@dataclass(frozen=True)
class PPO(TokenPolicy):
    """PPO whose episode is one written architecture; minibatches are of architectures.

    Args:
        epochs: passes over the batch.
        minibatches: gradient steps a pass; divides ``batch``.
        normalise: whether advantages are standardised within each minibatch.
        clip_value: whether the value is kept near its old one as well.
    """

    epochs: int = 4
    minibatches: int = 1
    normalise: bool = True
    clip_value: bool = False
    id: str = "ppo-v1"
    preferred_width: int = 8

    def __post_init__(self) -> None:
        """Refuses minibatches that do not divide the batch."""
        super().__post_init__()
        check_minibatches(self.batch, self.epochs, self.minibatches)

    def default_hparams(self) -> PPOHparams:
        """Returns the preset."""
        return PPOHparams()

    def learn(
        self, key: Key[Array, ""], state: PolicyState
    ) -> tuple[PolicyState, dict[str, Float[Array, ""]]]:
        """Returns the state after ``epochs * minibatches`` gradient steps."""
        episodes, hparams = state.episodes, state.hparams
        scale = scales.update(
            state.scale, episodes.reward, episodes.valid, hparams.reward_decay
        )
        batch = architecture_batch(
            episodes, self.standardise, scale, hparams.gamma, hparams.gae_lambda
        )

        def train(*args: Any) -> tuple[PyTree, PyTree, dict[str, Float[Array, ""]]]:
            module = self.module
            apply = lambda params, tokens: sequence(module, params, tokens)
            return ppo_update(
                args[0],
                apply,
                *args[1:],
                epochs=self.epochs,
                minibatches=self.minibatches,
                normalise=self.normalise,
                clip_value=self.clip_value,
            )

        args = (key, state.params, state.adam, batch, hparams)
        params, adam, metrics = one_at_a_time(train)(*args)
        unique = collapse.unique_fraction(episodes.tokens)
        collapsed = collapse.collapsed(metrics["entropy"], unique)
        metrics = {**metrics, "unique": unique, "collapsed": collapsed}
        return state._replace(params=params, adam=adam, scale=scale), metrics
